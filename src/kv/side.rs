//! What the state has beside its keys, as records: leases, which keys live with them, sessions, the answers kept for them.
//!
//! A record is an item of a snapshot, and the same bytes stand in a backend on disk under the record's name.
//!
//! ```text
//!   lease     02 01 │ lease (8) │ time to live in milliseconds (8) │ deadline (8)
//!   bound     03 01 │ key: length (8), bytes │ lease (8)
//!   session   04 01 │ session (8) │ time to live (8) │ deadline (8) │ first unanswered number (8)
//!   answer    05 01 │ session (8) │ number (8) │ revision (8) │ answer: length (8), bytes
//! ```
//! The bytes are pinned by tests/fixtures/kv.

use bytes::Bytes;

use crate::codec::{self, DecodeError};
use crate::types::{Index, LeaseId, LogTime, SessionId};

use super::command::Raw;

const LEASE: u8 = 2;
const BOUND: u8 = 3;
const SESSION: u8 = 4;
const ANSWER: u8 = 5;
const VERSION: u8 = 1;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A lease.
    Lease { lease: LeaseId, ttl_ms: u64, deadline: LogTime },
    /// A key that lives with a lease.
    Bound { key: Bytes, lease: LeaseId },
    /// A session.
    Session { session: SessionId, ttl_ms: u64, deadline: LogTime, first_unanswered: u64 },
    /// An answer that a session may still ask for.
    Answer { session: SessionId, number: u64, revision: Index, answer: Bytes },
}

/// Which record. Names are ordered as the records are in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SideName {
    Lease(LeaseId),
    Bound(Bytes),
    Session(SessionId),
    Answer(SessionId, u64),
}

impl SideName {
    /// Its bytes, in the same order.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (tag, id): (u8, &[u8]) = match self {
            Self::Lease(lease) => (LEASE, &lease.get().to_be_bytes()),
            Self::Bound(key) => (BOUND, key),
            Self::Session(session) => (SESSION, &session.get().to_be_bytes()),
            Self::Answer(session, number) => (ANSWER, &[session.get().to_be_bytes(), number.to_be_bytes()].concat()),
        };
        [&[tag], id].concat()
    }
}

impl Side {
    /// Which one it is.
    pub(super) fn name(&self) -> SideName {
        match self {
            Self::Lease { lease, .. } => SideName::Lease(*lease),
            Self::Bound { key, .. } => SideName::Bound(key.clone()),
            Self::Session { session, .. } => SideName::Session(*session),
            Self::Answer { session, number, .. } => SideName::Answer(*session, *number),
        }
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut write = |tag: u8| out.extend([tag, VERSION]);
        let encoded = match self {
            Self::Lease { lease, ttl_ms, deadline } => {
                write(LEASE);
                codec::encode_into("lease", &(lease, ttl_ms, deadline), &mut out)
            }
            Self::Bound { key, lease } => {
                write(BOUND);
                codec::encode_into("leased key", &(Raw(key), lease), &mut out)
            }
            Self::Session { session, ttl_ms, deadline, first_unanswered } => {
                write(SESSION);
                codec::encode_into("session", &(session, ttl_ms, deadline, first_unanswered), &mut out)
            }
            Self::Answer { session, number, revision, answer } => {
                write(ANSWER);
                codec::encode_into("kept answer", &(session, number, revision, Raw(answer)), &mut out)
            }
        };
        debug_assert!(encoded.is_ok(), "a record always encodes");
        out
    }

    /// Whether these bytes are a record, of whatever version, and not a key.
    pub(super) fn is_one(item: &[u8]) -> bool {
        matches!(item, [LEASE..=ANSWER, ..])
    }

    /// Reads a record.
    ///
    /// # Errors
    /// `Unsupported` for another tag or version, `Malformed` or `Trailing` for anything that is not a record.
    pub(super) fn decode(item: &[u8]) -> Result<Self, DecodeError> {
        match item {
            [LEASE, VERSION, body @ ..] => {
                let (lease, ttl_ms, deadline) = codec::decode("lease", body)?;
                Ok(Self::Lease { lease, ttl_ms, deadline })
            }
            [BOUND, VERSION, body @ ..] => {
                let (Raw(key), lease) = codec::decode_borrowed("leased key", body)?;
                Ok(Self::Bound { key: Bytes::copy_from_slice(key), lease })
            }
            [SESSION, VERSION, body @ ..] => {
                let (session, ttl_ms, deadline, first_unanswered) = codec::decode("session", body)?;
                Ok(Self::Session { session, ttl_ms, deadline, first_unanswered })
            }
            [ANSWER, VERSION, body @ ..] => {
                let (session, number, revision, Raw(answer)) = codec::decode_borrowed("kept answer", body)?;
                Ok(Self::Answer { session, number, revision, answer: Bytes::copy_from_slice(answer) })
            }
            [tag, version, ..] => Err(DecodeError::Unsupported { what: "item", tag: *tag, version: *version }),
            [] | [_] => Err(DecodeError::Malformed { what: "item", reason: "too short".to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> Vec<Side> {
        vec![
            Side::Lease { lease: LeaseId(7), ttl_ms: 10_000, deadline: LogTime(12_000) },
            Side::Bound { key: "k".into(), lease: LeaseId(7) },
            Side::Session { session: SessionId(8), ttl_ms: 60_000, deadline: LogTime(70_000), first_unanswered: 3 },
            Side::Answer { session: SessionId(8), number: 4, revision: Index(9), answer: "a".into() },
        ]
    }

    #[test]
    fn side_record_bytes_are_pinned() {
        let golden = include_str!("../../tests/fixtures/kv/sides-v1.txt");
        let lines: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
        let hex = |side: &Side| side.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(lines, every().iter().map(hex).collect::<Vec<_>>());
        for side in every() {
            assert_eq!(Side::decode(&side.encode()).unwrap(), side);
            assert!(Side::is_one(&side.encode()));
        }
    }

    #[test]
    fn side_record_cut_short_or_continued_is_refused() {
        for side in every() {
            let whole = side.encode();
            for end in 0..whole.len() {
                Side::decode(&whole[..end]).unwrap_err();
            }
            Side::decode(&[&whole, &b"x"[..]].concat()).unwrap_err();
        }
        assert!(!Side::is_one(&[1, 1]) && !Side::is_one(&[6, 1]));
        assert!(matches!(Side::decode(&[LEASE, 2]), Err(DecodeError::Unsupported { .. })));
    }

    #[test]
    fn side_names_are_ordered_as_their_bytes() {
        let names = [
            SideName::Lease(LeaseId(2)),
            SideName::Lease(LeaseId(256)),
            SideName::Bound("a".into()),
            SideName::Bound("ab".into()),
            SideName::Session(SessionId(1)),
            SideName::Answer(SessionId(1), 2),
            SideName::Answer(SessionId(1), 256),
            SideName::Answer(SessionId(2), 1),
        ];
        assert!(names.is_sorted() && names.iter().map(SideName::bytes).is_sorted());
    }
}
