//! `cas KEY EXPECTED NEW` and `incr KEY [N]`: the transactions with a name.

use dledger::kv::{OpResult, Txn};

use crate::args::Raw;
use crate::escape::visible;
use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::run::Session;

use super::put::conditional;

/// Sets the key if it has the value that is expected.
pub(crate) async fn run(session: &Session, key: Raw, expected: Raw, new: Raw) -> Result<Outcome, Failure> {
    let shown = visible(&key.0);
    let txn = Txn::compare_and_set(key.0, expected.0, new.0);
    let refused = || format!("key `{shown}` has another value, or is absent; nothing was written");
    let revision = conditional(session, txn, refused).await?;
    session.printer.print(Answer::Put(revision))?;
    Ok(Outcome::Done)
}

/// Adds to the number that the key holds.
pub(crate) async fn increment(session: &Session, key: Raw, by: i64) -> Result<Outcome, Failure> {
    let done = session.store.transact(Txn::add(key.0, by)).await?;
    let [OpResult::Sum(value)] = done.results[..] else {
        return Err(Failure::new(Kind::Unknown, "the number was added to, but the sum was not told; read the key"));
    };
    session.printer.print(Answer::Sum { value, revision: done.revision.get() })?;
    Ok(Outcome::Done)
}
