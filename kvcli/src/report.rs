//! What goes to stderr: errors and remarks, one line each.
//!
//! stdout belongs to answers alone. A stderr that cannot be written is ignored: there is nobody left to tell.

use std::io::{self, IsTerminal, Write};

use serde_json::json;

use crate::args::Format;
use crate::escape::visible;
use crate::exit::{Failure, Kind};

/// `NO_COLOR` (no-color.org): set and not empty means no colour.
pub(crate) fn color_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The line of a script that a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: u64,
}

/// Says why a command failed.
pub(crate) fn failure(failure: &Failure, format: Format, place: Option<Place>) {
    if failure.kind == Kind::Closed {
        return;
    }
    let message = match place {
        Some(place) => format!("line {}: {} (exit {})", place.line, failure.message, failure.code()),
        None => failure.message.clone(),
    };
    let line = match format {
        Format::Json => json!({ "error": { "kind": failure.kind.name(), "message": message } }).to_string(),
        Format::Plain | Format::Table => format!("{} {}", label("error:"), visible(message.as_bytes())),
    };
    write_line(&line);
}

/// Says that a line of a script answered "no", where the answer itself is on stdout.
pub(crate) fn answered_no(format: Format, place: Place) {
    no(format, &format!("line {}: the answer is no (exit 1)", place.line));
}

/// Says that a program which a line of a script ran did not end well. Its own words are its own.
pub(crate) fn ended_with(code: u8, format: Format, place: Place) {
    if code != 0 {
        no(format, &format!("line {}: the program ended with status {code} (exit {code})", place.line));
    }
}

fn no(format: Format, message: &str) {
    let line = match format {
        Format::Json => json!({ "error": { "kind": "no", "message": message } }).to_string(),
        Format::Plain | Format::Table => format!("{} {message}", label("error:")),
    };
    write_line(&line);
}

/// A remark that is no error.
pub(crate) fn remark(message: &str) {
    write_line(&visible(message.as_bytes()));
}

fn label(text: &str) -> String {
    if color_allowed() && io::stderr().is_terminal() { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
}

fn write_line(line: &str) {
    let mut stderr = io::stderr().lock();
    let _nobody_left_to_tell = writeln!(stderr, "{line}").and_then(|()| stderr.flush());
}
