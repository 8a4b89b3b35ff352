//! `watch KEY|--prefix P`: every change as it happens, until `--count` of them, Ctrl-C or a closed pipe.
//!
//! All changes of a revision are written in one piece, and handed on at once. A watch is patient: while no node can be asked
//! it waits, and goes on where it was. `--timeout` bounds only the first question, whether anybody is there at all.

use std::time::Duration;

use dledger::kv::{Changes, WatchError, WatchOptions};
use dledger::types::Index;

use crate::args::{Raw, WatchArgs};
use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::report;
use crate::run::{Session, Source, no_signals};
use crate::signals::INTERRUPT;
use crate::store::Watcher;

/// Pause before the nodes are asked again of which none could be reached.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Prints what changes.
pub(crate) async fn run(session: &Session, args: WatchArgs) -> Result<Outcome, Failure> {
    let options = match (args.key, args.prefix) {
        (Some(Raw(key)), None) => WatchOptions::key(key),
        (None, Some(Raw(prefix))) => WatchOptions::prefix(prefix),
        (None, None) | (Some(_), Some(_)) => return Err(Failure::usage("give either a key or --prefix")),
    };
    let mut watch = session.store.watch(WatchOptions { from: args.from_revision.map(Index), ..options });
    // The watch is patient, for elections; a cluster that does not answer at all is a wrong address.
    session.store.nodes().await?;
    let left = args.count.map_or(u64::MAX, |count| count.get());
    if session.source == Source::Script {
        // Ctrl-C ends the script, as it does in front of any other of its commands.
        return print_all(session, &mut watch, left).await;
    }
    let mut interrupts = session.signals.take(&INTERRUPT).map_err(|error| no_signals(&error))?;
    tokio::select! {
        ended = print_all(session, &mut watch, left) => ended,
        _ = interrupts.next() => Ok(Outcome::Done),
    }
}

async fn print_all(session: &Session, watch: &mut Watcher, mut left: u64) -> Result<Outcome, Failure> {
    let mut first = true;
    while left > 0 {
        let Changes { revision, mut events } = patiently(watch).await?;
        events.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left = left.saturating_sub(events.len() as u64);
        session.printer.print(Answer::Events { revision: revision.get(), events: &events, first })?;
        session.printer.flush()?;
        first = false;
    }
    Ok(Outcome::Done)
}

/// The next changes, however long no node can be asked for them; that is said once.
async fn patiently(watch: &mut Watcher) -> Result<Changes, Failure> {
    let mut said = false;
    loop {
        match watch.next().await {
            Err(WatchError::Unavailable(reason)) => {
                if !std::mem::replace(&mut said, true) {
                    report::remark(&format!("the watch waits, and will go on where it was: {reason}"));
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            other => return other.map_err(|error| failure(&error)),
        }
    }
}

fn failure(error: &WatchError) -> Failure {
    match error {
        WatchError::Compacted { oldest } => {
            let next = "read the keys anew, and watch from the revision behind what was read";
            Failure::new(Kind::No, format!("the changes before revision {oldest} are gone; {next}"))
        }
        WatchError::Refused(_) => Failure::new(Kind::Refused, error.to_string()),
        WatchError::Unavailable(_) | WatchError::Stopped(_) | _ => Failure::new(Kind::Unavailable, error.to_string()),
    }
}
