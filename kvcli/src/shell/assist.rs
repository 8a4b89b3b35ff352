//! What the line editor asks while a line is typed: completions, hints, colours. The thinking is in `complete.rs`;
//! this joins it to the editor and to the live store.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::{Context, Helper, Validator};
use tokio::runtime::Handle;

use super::complete::{Grammar, Wanted};
use super::words::{Word, split};
use crate::escape::{quoted, visible};
use crate::run::Session;
use crate::store::{Consistency, Scan, Store};

/// Most live keys that are offered.
const MAX_KEYS: u64 = 100;
/// Most bytes of keys that are fetched for it.
const MAX_KEY_BYTES: u64 = 64 << 10;
/// How long a person waits for them.
const KEYS_WITHIN: Duration = Duration::from_millis(500);

/// The editor's helper.
#[derive(Helper, Validator)]
pub(super) struct Assist {
    grammar: Grammar,
    store: Store,
    runtime: Handle,
    history: HistoryHinter,
}

impl Assist {
    pub(super) fn new(session: &Session, runtime: Handle) -> Self {
        Self { grammar: Grammar::new(), store: session.store.clone(), runtime, history: HistoryHinter::new() }
    }

    /// Keys that begin with `prefix`. Stale ones will do: they are suggestions.
    fn keys(&self, prefix: &[u8]) -> Vec<Bytes> {
        let scan = Scan {
            prefix: Bytes::copy_from_slice(prefix),
            limit: Some(MAX_KEYS),
            max_bytes: MAX_KEY_BYTES,
            keys_only: true,
            ..Scan::default()
        };
        let asked = self
            .runtime
            .block_on(async { tokio::time::timeout(KEYS_WITHIN, self.store.scan(scan, Consistency::Stale)).await });
        match asked {
            Ok(Ok(page)) => page.items.into_iter().map(|pair| pair.key).collect(),
            // Completion is no place for errors; the command will tell.
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

/// The words before the cursor, and the one at the cursor.
pub(crate) fn before_cursor(line: &str, pos: usize) -> (Vec<Word>, Word) {
    let typed = line.get(..pos).unwrap_or(line);
    let mut words = match split(typed.as_bytes()) {
        Ok(words) => words,
        Err(wrong) => wrong.so_far,
    };
    let current = match words.last() {
        Some(last) if last.touches_end => words.pop(),
        Some(_) | None => None,
    };
    let empty = Word { bytes: Vec::new(), start: typed.len(), quoted: false, touches_end: true };
    (words, current.unwrap_or(empty))
}

impl Completer for Assist {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (before, current) = before_cursor(line, pos);
        let candidates = match self.grammar.wanted(&before, &current) {
            Wanted::Names(names) => names
                .into_iter()
                .filter(|name| name.as_bytes().starts_with(&current.bytes))
                .map(|name| Pair { replacement: format!("{name} "), display: name })
                .collect(),
            Wanted::Keys => self
                .keys(&current.bytes)
                .iter()
                .map(|key| Pair { display: visible(key), replacement: quoted(key) })
                .collect(),
            Wanted::Nothing => Vec::new(),
        };
        Ok((current.start, candidates))
    }
}

impl Hinter for Assist {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<String> {
        if pos < line.len() || line.is_empty() {
            return None;
        }
        let (before, current) = before_cursor(line, pos);
        self.grammar.usage(&before, &current).or_else(|| self.history.hint(line, pos, context))
    }
}

impl Highlighter for Assist {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}
