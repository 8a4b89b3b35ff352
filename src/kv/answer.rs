//! What the machine answers to a command, as bytes: they travel from leader to follower, and are kept for sessions, in
//! snapshots too.
//!
//! ```text
//!   done              nothing at all
//!   deleted           01 01 │ how many keys (8)
//!   transaction       02 01 │ which branch (1) │ what became of its operations
//!   kept alive        03 01 │ of each lease: 00, or 01 and its time to live in milliseconds (8)
//!   rejected          04 01 │ why
//!   the first answer  05 01 │ revision (8) │ an answer, not itself a first one
//!   not kept          06 01
//! ```
//! The bytes are pinned by tests/fixtures/kv.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::error::Rejection;
use crate::types::{Index, LeaseId, SessionId};

use super::KeyValue;
use super::command::Raw;
use super::txn::OpResult;

const DELETED: u8 = 1;
const TXN: u8 = 2;
const KEPT_ALIVE: u8 = 3;
const REJECTED: u8 = 4;
const FIRST: u8 = 5;
const NOT_KEPT: u8 = 6;
const VERSION: u8 = 1;
/// Bytes ahead of the answer within a first answer.
const FIRST_BYTES: usize = 2 + 8;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It is done, and there is nothing to say.
    Done,
    /// So many keys were deleted.
    Deleted(u64),
    /// A transaction.
    Txn {
        /// Whether what was compared held.
        succeeded: bool,
        /// What became of each operation of the branch.
        results: Vec<OpResult>,
    },
    /// Of each lease, its time to live in milliseconds; `None` when it has ended.
    KeptAlive(Vec<Option<u64>>),
    /// It changed nothing.
    Rejected(Rejection),
    /// What was answered when the numbered command was done, at this revision.
    First {
        /// The entry that did it.
        revision: Index,
        /// The answer.
        answer: Box<Answer>,
    },
    /// The command was done, but its answer was too large to be kept.
    NotKept,
}

/// The order of the variants is part of the format.
#[derive(Serialize, Deserialize)]
enum WireResult<'a> {
    Put,
    Deleted(bool),
    #[serde(borrow)]
    Value(Option<WireItem<'a>>),
    Sum(i64),
}

#[derive(Serialize, Deserialize)]
struct WireItem<'a> {
    #[serde(borrow)]
    key: Raw<'a>,
    #[serde(borrow)]
    value: Raw<'a>,
    create_revision: Index,
    mod_revision: Index,
    version: u64,
    lease: LeaseId,
}

/// The order of the variants is part of the format.
#[derive(Serialize, Deserialize)]
enum WireRejection<'a> {
    NoLease(LeaseId),
    #[serde(borrow)]
    NotANumber(Raw<'a>),
    #[serde(borrow)]
    Overflow(Raw<'a>),
    NoSession(SessionId),
    Forgotten(u64),
    TooManyUnanswered(u64),
    TooMuchRead(u64),
    #[serde(borrow)]
    Malformed(Raw<'a>),
}

impl Answer {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        let encoded = match self {
            Self::Done => Ok(()),
            Self::Deleted(count) => tagged(DELETED, "deleted", count, &mut bytes),
            Self::Txn { succeeded, results } => {
                let results: Vec<WireResult<'_>> = results.iter().map(result_out).collect();
                tagged(TXN, "transaction answer", &(succeeded, results), &mut bytes)
            }
            Self::KeptAlive(leases) => tagged(KEPT_ALIVE, "kept alive", leases, &mut bytes),
            Self::Rejected(rejection) => tagged(REJECTED, "rejection", &rejection_out(rejection), &mut bytes),
            Self::First { revision, answer } => return first(*revision, &answer.encode()),
            Self::NotKept => tagged(NOT_KEPT, "not kept", &(), &mut bytes),
        };
        debug_assert!(encoded.is_ok(), "an answer always encodes");
        bytes.into()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// `Unsupported` for another tag or version, `Malformed` or `Trailing` for anything that is not an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [] => Ok(Self::Done),
            [DELETED, VERSION, body @ ..] => codec::decode("deleted", body).map(Self::Deleted),
            [TXN, VERSION, body @ ..] => {
                let (succeeded, results): (bool, Vec<WireResult<'_>>) =
                    codec::decode_borrowed("transaction answer", body)?;
                Ok(Self::Txn { succeeded, results: results.into_iter().map(result_in).collect() })
            }
            [KEPT_ALIVE, VERSION, body @ ..] => codec::decode("kept alive", body).map(Self::KeptAlive),
            [REJECTED, VERSION, body @ ..] => {
                codec::decode_borrowed("rejection", body).map(|wire| Self::Rejected(rejection_in(wire)))
            }
            [FIRST, VERSION, ..] => decode_first(bytes),
            [NOT_KEPT, VERSION, body @ ..] => codec::decode("not kept", body).map(|()| Self::NotKept),
            [tag, version, ..] => Err(DecodeError::Unsupported { what: "answer", tag: *tag, version: *version }),
            [_] => Err(DecodeError::Malformed { what: "answer", reason: "too short".to_owned() }),
        }
    }
}

/// The answer to a numbered command: what it was when it was done, and where.
#[must_use]
pub(super) fn first(revision: Index, answer: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(FIRST_BYTES + answer.len());
    bytes.extend([FIRST, VERSION]);
    bytes.extend(revision.get().to_le_bytes());
    bytes.extend_from_slice(answer);
    bytes.into()
}

fn decode_first(bytes: &[u8]) -> Result<Answer, DecodeError> {
    let malformed = |reason: &str| DecodeError::Malformed { what: "first answer", reason: reason.to_owned() };
    let (head, answer) = bytes.split_at_checked(FIRST_BYTES).ok_or_else(|| malformed("too short"))?;
    if answer.first() == Some(&FIRST) {
        return Err(malformed("the answer in it is a first one too"));
    }
    let revision = codec::decode("revision", head.get(2..).unwrap_or_default())?;
    Ok(Answer::First { revision, answer: Box::new(Answer::decode(answer)?) })
}

fn tagged<T: Serialize>(tag: u8, what: &'static str, value: &T, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    out.extend([tag, VERSION]);
    codec::encode_into(what, value, out)
}

fn result_out(result: &OpResult) -> WireResult<'_> {
    match result {
        OpResult::Put => WireResult::Put,
        OpResult::Deleted(there) => WireResult::Deleted(*there),
        OpResult::Value(item) => WireResult::Value(item.as_ref().map(|item| WireItem {
            key: Raw(&item.key),
            value: Raw(&item.value),
            create_revision: item.create_revision,
            mod_revision: item.mod_revision,
            version: item.version,
            lease: item.lease,
        })),
        OpResult::Sum(sum) => WireResult::Sum(*sum),
    }
}

fn result_in(wire: WireResult<'_>) -> OpResult {
    match wire {
        WireResult::Put => OpResult::Put,
        WireResult::Deleted(there) => OpResult::Deleted(there),
        WireResult::Value(item) => OpResult::Value(item.map(|item| KeyValue {
            key: Bytes::copy_from_slice(item.key.0),
            value: Bytes::copy_from_slice(item.value.0),
            create_revision: item.create_revision,
            mod_revision: item.mod_revision,
            version: item.version,
            lease: item.lease,
        })),
        WireResult::Sum(sum) => OpResult::Sum(sum),
    }
}

fn rejection_out(rejection: &Rejection) -> WireRejection<'_> {
    match rejection {
        Rejection::NoLease(lease) => WireRejection::NoLease(*lease),
        Rejection::NotANumber(key) => WireRejection::NotANumber(Raw(key)),
        Rejection::Overflow(key) => WireRejection::Overflow(Raw(key)),
        Rejection::NoSession(session) => WireRejection::NoSession(*session),
        Rejection::Forgotten(number) => WireRejection::Forgotten(*number),
        Rejection::TooManyUnanswered(count) => WireRejection::TooManyUnanswered(*count),
        Rejection::TooMuchRead(bytes) => WireRejection::TooMuchRead(*bytes),
        Rejection::Malformed(reason) => WireRejection::Malformed(Raw(reason.as_bytes())),
    }
}

fn rejection_in(wire: WireRejection<'_>) -> Rejection {
    match wire {
        WireRejection::NoLease(lease) => Rejection::NoLease(lease),
        WireRejection::NotANumber(Raw(key)) => Rejection::NotANumber(Bytes::copy_from_slice(key)),
        WireRejection::Overflow(Raw(key)) => Rejection::Overflow(Bytes::copy_from_slice(key)),
        WireRejection::NoSession(session) => Rejection::NoSession(session),
        WireRejection::Forgotten(number) => Rejection::Forgotten(number),
        WireRejection::TooManyUnanswered(count) => Rejection::TooManyUnanswered(count),
        WireRejection::TooMuchRead(bytes) => Rejection::TooMuchRead(bytes),
        WireRejection::Malformed(Raw(reason)) => Rejection::Malformed(String::from_utf8_lossy(reason).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every() -> Vec<Answer> {
        let item = KeyValue {
            key: "k".into(),
            value: "v".into(),
            create_revision: Index(5),
            mod_revision: Index(7),
            version: 2,
            lease: LeaseId(3),
        };
        let results = vec![
            OpResult::Put,
            OpResult::Deleted(true),
            OpResult::Value(Some(item)),
            OpResult::Value(None),
            OpResult::Sum(-1),
        ];
        vec![
            Answer::Done,
            Answer::Deleted(3),
            Answer::Txn { succeeded: true, results },
            Answer::KeptAlive(vec![Some(10_000), None]),
            Answer::Rejected(Rejection::NoLease(LeaseId(3))),
            Answer::Rejected(Rejection::NotANumber("k".into())),
            Answer::Rejected(Rejection::Overflow("k".into())),
            Answer::Rejected(Rejection::NoSession(SessionId(4))),
            Answer::Rejected(Rejection::Forgotten(5)),
            Answer::Rejected(Rejection::TooManyUnanswered(6)),
            Answer::Rejected(Rejection::TooMuchRead(7)),
            Answer::Rejected(Rejection::Malformed("m".to_owned())),
            Answer::First { revision: Index(9), answer: Box::new(Answer::Deleted(1)) },
            Answer::NotKept,
        ]
    }

    #[test]
    fn answer_bytes_are_pinned() {
        let golden = include_str!("../../tests/fixtures/kv/answers-v1.txt");
        let lines: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
        let hex = |answer: &Answer| answer.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(lines, every().iter().map(hex).collect::<Vec<_>>());
        for answer in every() {
            assert_eq!(Answer::decode(&answer.encode()).unwrap(), answer);
        }
    }

    #[test]
    fn answer_cut_short_continued_or_of_a_later_version_is_refused() {
        for answer in every().into_iter().filter(|answer| !matches!(answer, Answer::Done | Answer::First { .. })) {
            let whole = answer.encode();
            for end in 1..whole.len() {
                Answer::decode(&whole[..end]).unwrap_err();
            }
            Answer::decode(&[&whole, &b"x"[..]].concat()).unwrap_err();
        }
        assert!(matches!(Answer::decode(&[DELETED, 2]), Err(DecodeError::Unsupported { .. })));
        let once = first(Index(1), &[]);
        assert!(Answer::decode(&first(Index(1), &once)).unwrap_err().to_string().contains("first one too"));
    }

    proptest! {
        #[test]
        fn answer_decode_of_any_bytes_never_panics(
            head in (1u8..7, 1u8..3),
            rest in proptest::collection::vec(prop_oneof![0u8..10, any::<u8>()], 0..64),
        ) {
            let bytes = [vec![head.0, head.1], rest].concat();
            if let Ok(answer) = Answer::decode(&bytes) {
                prop_assert_eq!(Answer::decode(&answer.encode()).unwrap(), answer);
            }
        }
    }
}
