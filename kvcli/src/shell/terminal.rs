//! The terminal's settings, kept so that whoever ends the process in the middle of a prompt can put them back.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The line editor asks the terminal to mark what is pasted; this ends it.
const NO_BRACKETED_PASTE: &[u8] = b"\x1b[?2004l";

static SAVED: OnceLock<Termios> = OnceLock::new();

/// Remembers the settings of stdin, once.
pub(crate) fn save() {
    if let Ok(settings) = tcgetattr(io::stdin()) {
        SAVED.get_or_init(|| settings);
    }
}

/// Puts them back; does nothing when none are remembered.
pub(crate) fn restore() {
    if let Some(settings) = SAVED.get() {
        let _no_terminal_any_more = tcsetattr(io::stdin(), OptionalActions::Now, settings);
        if io::stderr().is_terminal() {
            let _no_terminal_any_more = io::stderr().write_all(NO_BRACKETED_PASTE);
        }
    }
}

/// Puts the settings back when dropped.
pub(crate) struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}
