//! `del KEY` and `del --prefix P`.

use crate::args::Raw;
use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::run::Session;

/// Deletes, and prints how many keys there were. None is a "no" for one key and no matter for a prefix.
pub(crate) async fn run(session: &Session, key: Option<Raw>, prefix: Option<Raw>) -> Result<Outcome, Failure> {
    let (deleted, none) = match (key, prefix) {
        (Some(key), None) => (session.store.delete(key.0).await?, Outcome::No),
        (None, Some(prefix)) => (session.store.delete_prefix(prefix.0).await?, Outcome::Done),
        (None, None) | (Some(_), Some(_)) => return Err(Failure::usage("give either a key or --prefix")),
    };
    session.printer.print(Answer::Deleted(deleted))?;
    Ok(if deleted.count == 0 { none } else { Outcome::Done })
}
