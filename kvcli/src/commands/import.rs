//! `import FILE|-`: puts every line, in order, so that of two lines with one key the last wins.
//!
//! The client's importer keeps many lines under way, keeps their order and goes on by itself when the leader
//! changes. Whatever ends the import, the number of lines that are certainly stored is printed: all of them counted
//! from the first, so a later run can go on behind them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::ProgressBar;
use tokio::io::BufReader;

use crate::args::RowFormat;
use crate::exit::{Failure, Kind, Outcome};
use crate::input::{Lines, next_line};
use crate::output::Answer;
use crate::rows;
use crate::run::Session;
use crate::store::{Importer, Stopped};

use super::progress::{Cleared, bar};
use super::put::{STDIN, refuse_in_shell};

/// Bytes read from the file at once.
const READ_BYTES: usize = 1 << 18;

/// Imports the file.
pub(crate) async fn run(session: &Session, file: &Path, format: RowFormat) -> Result<Outcome, Failure> {
    if file.as_os_str().as_encoded_bytes() == STDIN {
        refuse_in_shell(session)?;
        let mut stdin = session.input.lock().await;
        return import(session, &mut stdin, format, None).await;
    }
    let wrong = |error: std::io::Error| Failure::input(file.display(), &error);
    let opened = tokio::fs::File::open(file).await.map_err(wrong)?;
    let about = opened.metadata().await.map_err(wrong)?;
    let total = about.is_file().then_some(about.len());
    let mut lines: Lines = Box::new(BufReader::with_capacity(READ_BYTES, opened));
    import(session, &mut lines, format, total).await
}

async fn import(
    session: &Session,
    lines: &mut Lines,
    format: RowFormat,
    total: Option<u64>,
) -> Result<Outcome, Failure> {
    // The importer is patient, for elections; a cluster that does not answer at all is a wrong address.
    session.store.nodes().await?;
    let template = match total {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
        None => "{spinner} {bytes} {bytes_per_sec} {msg}",
    };
    let bar = Cleared(bar(total, template));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let importer = session.store.importer({
        let (acknowledged, bar) = (Arc::clone(&acknowledged), bar.0.clone());
        move |lines| {
            acknowledged.store(lines, Ordering::Relaxed);
            bar.set_message(format!("{lines} lines acknowledged"));
        }
    });
    // A command that Ctrl-C drops tells what is certain too.
    let mut told = TellOnDrop { acknowledged, armed: true };
    let done = feed(importer, lines, format, &bar.0).await;
    told.armed = false;
    drop(bar);
    match done {
        Ok(lines) => {
            session.printer.print(Answer::Acknowledged(lines))?;
            Ok(Outcome::Done)
        }
        Err(Stopped { acknowledged, cause }) => {
            session.printer.print(Answer::Acknowledged(acknowledged))?;
            Err(ended(cause, acknowledged))
        }
    }
}

/// Hands every line to the importer. A line that is no row ends the import behind the lines before it.
async fn feed(mut importer: Importer, lines: &mut Lines, format: RowFormat, bar: &ProgressBar) -> Result<u64, Stopped> {
    let mut place: u64 = 0;
    let wrong = loop {
        place += 1;
        let line = match next_line(lines).await {
            Ok(Some(line)) => line,
            Ok(None) => break None,
            Err(error) => break Some(Failure::input(format!("line {place} of the input"), &error)),
        };
        bar.inc(line.len() as u64 + 1);
        match rows::parse(line, format) {
            Ok((key, value)) => importer.push(key, value).await?,
            Err(reason) => break Some(Failure::usage(format!("line {place} of the input: {reason}"))),
        }
    };
    let acknowledged = importer.finish().await?;
    match wrong {
        Some(cause) => Err(Stopped { acknowledged, cause }),
        None => Ok(acknowledged),
    }
}

/// Adds to a failure which lines are certain and which are not.
fn ended(cause: Failure, acknowledged: u64) -> Failure {
    let rest = match cause.kind {
        Kind::Usage => "nothing behind them is stored",
        Kind::NotFound
        | Kind::No
        | Kind::Corrupt
        | Kind::Config
        | Kind::Unavailable
        | Kind::Unknown
        | Kind::Refused
        | Kind::Closed
        | Kind::Bug => "some behind them may be",
    };
    let next = acknowledged + 1;
    let message = format!(
        "{}; the first {acknowledged} lines are certainly stored, {rest}: go on from line {next}",
        cause.message
    );
    Failure { message, ..cause }
}

/// Says on stderr how far an import is certain that was dropped half-way.
struct TellOnDrop {
    acknowledged: Arc<AtomicU64>,
    armed: bool,
}

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        if self.armed {
            let lines = self.acknowledged.load(Ordering::Relaxed);
            crate::report::remark(&format!("the first {lines} lines are certainly stored, some behind them may be"));
        }
    }
}
