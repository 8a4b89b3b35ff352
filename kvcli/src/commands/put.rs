//! `put KEY VALUE`, perhaps on a condition, perhaps with a lease.

use bytes::Bytes;
use dledger::kv::{Txn, TxnOp};
use dledger::types::{Index, LeaseId};

use crate::args::{PutArgs, Raw};
use crate::escape::visible;
use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::run::{Session, Source};

/// The value that means "read it from stdin".
pub(crate) const STDIN: &[u8] = b"-";

/// Sets the key.
pub(crate) async fn run(session: &Session, args: PutArgs) -> Result<Outcome, Failure> {
    let (Raw(key), Raw(value)) = (args.key, args.value);
    let value = if value.as_ref() == STDIN { from_stdin(session).await? } else { value };
    let lease = args.lease.map_or(LeaseId::ZERO, |lease| LeaseId(lease.get()));
    let revision = match (args.if_absent, args.if_revision) {
        (false, None) if lease.is_zero() => session.store.put(key, value).await?,
        (false, None) => session.store.put_leased(key, value, lease).await?,
        (_, None) => {
            let txn = leased(Txn::put_if_absent(key.clone(), value), lease);
            let refused = || format!("key `{}` is there already; nothing was written", visible(&key));
            conditional(session, txn, refused).await?
        }
        (_, Some(revision)) => {
            let txn = leased(Txn::put_if_revision(key.clone(), value, Index(revision)), lease);
            let refused =
                || format!("key `{}` was not last written at revision {revision}; nothing was written", visible(&key));
            conditional(session, txn, refused).await?
        }
    };
    session.printer.print(Answer::Put(revision))?;
    Ok(Outcome::Done)
}

/// Does a transaction whose else branch is empty; the answer is its revision.
///
/// # Errors
/// `refused` says what a false condition means.
pub(crate) async fn conditional(session: &Session, txn: Txn, refused: impl FnOnce() -> String) -> Result<u64, Failure> {
    let done = session.store.transact(txn).await?;
    if done.succeeded { Ok(done.revision.get()) } else { Err(Failure::new(Kind::No, refused())) }
}

/// The same transaction, with its puts bound to a lease.
fn leased(mut txn: Txn, bound: LeaseId) -> Txn {
    for op in &mut txn.then {
        if let TxnOp::Put { lease, .. } = op {
            *lease = bound;
        }
    }
    txn
}

/// Everything that stdin still has.
pub(crate) async fn from_stdin(session: &Session) -> Result<Bytes, Failure> {
    refuse_in_shell(session)?;
    let bytes = session.input.rest().await.map_err(|error| Failure::input("stdin", &error))?;
    Ok(bytes.into())
}

/// In the shell stdin is the prompt itself.
pub(crate) fn refuse_in_shell(session: &Session) -> Result<(), Failure> {
    match session.source {
        Source::Shell => Err(Failure::usage("`-` has no input in the shell; pipe it into `kvcli` instead")),
        Source::Arguments | Source::Script => Ok(()),
    }
}
