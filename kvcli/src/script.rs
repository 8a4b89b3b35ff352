//! Commands from stdin, one a line. Stops at the first that does not end with code 0 and says its line and code.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::args::{self, Stop};
use crate::exit::{Failure, Kind, Outcome};
use crate::report::{self, Place};
use crate::run::{Session, Source, execute};
use crate::shell::words::{Word, split};

/// Runs the script; the answer is the exit code: that of the first command that failed, else 0.
pub(crate) async fn run(session: &Session) -> u8 {
    let session = Session { source: Source::Script, ..session.clone() };
    let format = session.printer.format();
    let mut first_failure = 0;
    let mut place = Place { line: 0 };
    loop {
        let line = match session.input.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) => return first_failure,
            Err(error) => {
                let failure = Failure::input("stdin", &error);
                report::failure(&failure, format, None);
                return failure.code();
            }
        };
        place.line += 1;
        let ended = execute_line(&session, &line).await;
        let ended = ended.and_then(|outcome| session.printer.flush().map(|()| outcome));
        let code = match ended {
            Ok(Outcome::Quit) => return first_failure,
            Ok(Outcome::No) => {
                report::answered_no(format, place);
                Outcome::No.code()
            }
            Ok(Outcome::Status(code)) => {
                report::ended_with(code, format, place);
                code
            }
            Ok(outcome @ (Outcome::Done | Outcome::Ended(_))) => outcome.code(),
            Err(failure) if failure.kind == Kind::Closed => return first_failure,
            Err(failure) => {
                report::failure(&failure, format, Some(place));
                failure.code()
            }
        };
        if first_failure == 0 {
            first_failure = code;
        }
        if code != 0 && !session.options.keep_going {
            return code;
        }
    }
}

/// Runs one line of a script or of the shell.
pub(crate) async fn execute_line(session: &Session, line: &[u8]) -> Result<Outcome, Failure> {
    let words = split(line).map_err(|wrong| Failure::usage(wrong.reason))?;
    if words.is_empty() {
        return Ok(Outcome::Done);
    }
    let cli = match args::parse(command_line(words)) {
        Ok(cli) => cli,
        Err(Stop::Wrong(failure)) => return Err(failure),
        Err(Stop::Text(text)) => {
            session.printer.write(text.as_bytes())?;
            return Ok(Outcome::Done);
        }
    };
    let Some(command) = cli.command else {
        return Err(Failure::usage("a flag alone does nothing here; put it before or behind a command"));
    };
    execute(&session.with(&cli.globals)?, command).await
}

fn command_line(words: Vec<Word>) -> impl Iterator<Item = OsString> {
    std::iter::once(OsString::from("kvcli")).chain(words.into_iter().map(|word| OsString::from_vec(word.bytes)))
}
