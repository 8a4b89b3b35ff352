//! `kvcli`: shell, one-shot client and node runner for dledger, in one binary.
//!
//! ```text
//!   args ──► run ──┬─► commands/*  ──► store ──► a cluster
//!   (one           ├─► serve, demo ──► nodes in this process
//!   definition)    └─► shell, script: lines ──► args again
//!                        answers ──► output ──► stdout      failures ──► report ──► stderr
//! ```
//! Answers go to stdout and everything else to stderr; the exit codes are in `exit.rs`. It uses the public API of
//! the library only. Deliberately absent: commands of later releases, which are unknown rather than stubs.
//!
//! It is a library crate with one public function, [`main`], so that `fuzz/` reaches its parsers too: the feature
//! `fuzzing` shows them, and nothing else uses it.

mod args;
mod commands;
mod demo;
mod escape;
mod exit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod input;
mod logging;
mod node;
mod output;
mod report;
mod rows;
mod run;
mod script;
mod serve;
mod settings;
mod shell;
mod signals;
mod store;

use std::process::ExitCode;

use args::{Format, Stop};
use exit::Failure;
use output::Printer;

/// Runs the program: reads the command line of this process and does what it says. The answer is its exit code.
#[must_use]
pub fn main() -> ExitCode {
    install_panic_hook();
    let words: Vec<_> = std::env::args_os().collect();
    let wants_json =
        words.windows(2).any(|pair| matches!(pair, [flag, value] if flag == "--output" && value == "json"))
            || words.iter().any(|word| word == "--output=json");
    let format = if wants_json { Format::Json } else { Format::Plain };
    match args::parse(words) {
        Ok(cli) => ExitCode::from(run::start(cli)),
        Err(Stop::Text(text)) => {
            let printer = Printer::stdout(format);
            ExitCode::from(code_of(printer.write(text.as_bytes()).and_then(|()| printer.flush()), format))
        }
        Err(Stop::Wrong(failure)) => ExitCode::from(code_of(Err(failure), format)),
    }
}

fn code_of(done: Result<(), Failure>, format: Format) -> u8 {
    match done {
        Ok(()) => 0,
        Err(failure) => {
            report::failure(&failure, format, None);
            failure.code()
        }
    }
}

/// A panic anywhere is a bug of ours: exit 5 at once, since a node that lost a thread must not go on as if well.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        shell::terminal::restore();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let failure = Failure::new(exit::Kind::Bug, format!("a bug in kvcli, please report it: {message} ({place})"));
        report::failure(&failure, Format::Plain, None);
        std::process::exit(failure.code().into());
    }));
}
