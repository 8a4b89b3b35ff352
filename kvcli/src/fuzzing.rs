//! What the fuzz targets reach and nobody else: the parsers, without a terminal, a file or a cluster. Behind the
//! feature `fuzzing`, hidden from the documentation, free to change at any time. Deliberately absent: what the
//! targets assert.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use bytes::Bytes;
use dledger::config::Config;

use crate::args::{self, Command, Format, Stop};
use crate::settings::{self, Resolved};
use crate::shell::assist::before_cursor;
use crate::shell::complete::{Grammar, Wanted};
use crate::{escape, shell};

/// A word of a line: what it means, and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it means.
    pub bytes: Vec<u8>,
    /// Offset of its first byte in the line.
    pub start: usize,
    /// The line ends inside it.
    pub touches_end: bool,
}

/// Splits a line of the shell.
///
/// # Errors
/// What is wrong, and the words so far.
pub fn split(line: &[u8]) -> Result<Vec<Word>, (String, Vec<Word>)> {
    let shown = |words: Vec<shell::words::Word>| {
        words.into_iter().map(|word| Word { bytes: word.bytes, start: word.start, touches_end: word.touches_end })
    };
    match shell::words::split(line) {
        Ok(words) => Ok(shown(words).collect()),
        Err(wrong) => Err((wrong.reason, shown(wrong.so_far).collect())),
    }
}

/// How a word is typed to mean `bytes`.
#[must_use]
pub fn quoted(bytes: &[u8]) -> String {
    escape::quoted(bytes)
}

/// Bytes as a terminal gets them.
#[must_use]
pub fn visible(bytes: &[u8]) -> String {
    escape::visible(bytes)
}

/// What a command line asks for, as far as a target checks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `put KEY VALUE`.
    Put(Bytes, Bytes),
    /// `get KEY`.
    Get(Bytes),
    /// Any other command, or none.
    Other,
    /// Help or version.
    Text(String),
}

/// Parses the words of a line as the shell does.
///
/// # Errors
/// What is wrong, in one line.
pub fn parse(words: Vec<Vec<u8>>) -> Result<Asked, String> {
    let program = OsString::from("kvcli");
    match args::parse(std::iter::once(program).chain(words.into_iter().map(OsString::from_vec))) {
        Ok(cli) => Ok(match cli.command {
            Some(Command::Put(put)) => Asked::Put(put.key.0, put.value.0),
            Some(Command::Get { key }) => Asked::Get(key.0),
            Some(_) | None => Asked::Other,
        }),
        Err(Stop::Text(text)) => Ok(Asked::Text(text)),
        Err(Stop::Wrong(failure)) => Err(failure.message),
    }
}

/// What the line editor asks while a line is typed.
pub struct Completion(Grammar);

impl Default for Completion {
    fn default() -> Self {
        Self::new()
    }
}

impl Completion {
    /// Reads the definition of the command line.
    #[must_use]
    pub fn new() -> Self {
        Self(Grammar::new())
    }

    /// Where the word at the end of `typed` starts, the names that may stand there, and the hint behind it.
    #[must_use]
    pub fn at_end(&self, typed: &str) -> (usize, Vec<String>, Option<String>) {
        let (before, current) = before_cursor(typed, typed.len());
        let names = match self.0.wanted(&before, &current) {
            Wanted::Names(names) => names,
            Wanted::Keys | Wanted::Nothing => Vec::new(),
        };
        (current.start, names, self.0.usage(&before, &current))
    }
}

/// What the text of a configuration file makes of the settings, without flags and environment, and the text that
/// `--print-config` shows of it.
///
/// # Errors
/// What is wrong with it.
pub fn settings_of(text: &str) -> Result<(Config, String), String> {
    let resolved = settings::of_text(Path::new("fuzz.toml"), text).map_err(|failure| failure.message)?;
    let printed = settings::print(&resolved, Format::Plain);
    let Resolved { config, .. } = resolved;
    Ok((config, printed))
}
