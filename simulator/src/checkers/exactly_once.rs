//! A write with a number is done once, however often it is sent, and its answer is kept until the session has it (kv.md,
//! exactly once). That it is done once is what the histories of lists and counters show; here is what sessions are told.

use dledger::error::Rejection;
use dledger::kv::answer::Answer;
use dledger::types::SessionId;

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "exactly_once",
    claim: "the answer to a numbered write is kept until its session has it, and a dead session stays dead (kv.md)",
};

/// A write with this number, if it has one, was answered by `answer`, which is no first answer.
pub(crate) fn kept(number: Option<(SessionId, u64)>, answer: &Answer) -> Verdict {
    let Some((session, number)) = number else { return Ok(()) };
    holds(!matches!(answer, Answer::Rejected(Rejection::Forgotten(_))), || {
        format!("the answer to write {number} of session {session} was let go while its session waited for it")
    })?;
    Err(format!("write {number} of session {session} was answered {answer:?}, as if it had no number"))
}
