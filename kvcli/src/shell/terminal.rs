//! The terminal's settings, kept so that whoever ends the process in the middle of a prompt can put them back.

use std::sync::OnceLock;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

static SAVED: OnceLock<Termios> = OnceLock::new();

/// Remembers the settings of stdin, once.
pub(crate) fn save() {
    if let Ok(settings) = tcgetattr(std::io::stdin()) {
        SAVED.get_or_init(|| settings);
    }
}

/// Puts them back; does nothing when none are remembered.
pub(crate) fn restore() {
    if let Some(settings) = SAVED.get() {
        let _no_terminal_any_more = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
    }
}

/// Puts the settings back when dropped.
pub(crate) struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}
