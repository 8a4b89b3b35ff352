//! What an entry of the KV says: `[tag: u8][version: u8][body]`.
//!
//! ```text
//!   put            01 01 │ key: length (8), bytes │ value: length (8), bytes
//!   delete         02 01 │ key: length (8), bytes
//!   delete range   03 01 │ from: length (8), bytes │ 00, or 01 and to: length (8), bytes
//!   put leased     04 01 │ key │ value │ lease (8)
//!   transaction    05 01 │ comparisons │ operations if they hold │ operations if not           command/txn.rs
//!   grant lease    06 01 │ time to live in milliseconds (8)
//!   keep alive     07 01 │ count (8), leases (8 each)
//!   revoke lease   08 01 │ lease (8)
//!   open session   09 01 │ time to live in milliseconds (8)
//!   close session  0a 01 │ session (8)
//!   numbered       0b 01 │ session (8) │ number (8) │ first unanswered number (8) │ a command, not numbered itself
//! ```
//! The bytes are pinned by tests/fixtures/kv: an old log must read the same for ever. A tag or version that this
//! build does not know stops apply; skipping it would let replicas part. A command points into the entry and copies
//! nothing but transactions: an entry's bytes are a slice of the log, which what is kept must not hold in memory.

mod txn;

use std::fmt;

use bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{self, DecodeError};
use crate::types::{LeaseId, SessionId};

use super::txn::Txn;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;
const PUT_LEASED: u8 = 4;
const TXN: u8 = 5;
const GRANT_LEASE: u8 = 6;
const KEEP_ALIVE: u8 = 7;
const REVOKE_LEASE: u8 = 8;
const OPEN_SESSION: u8 = 9;
const CLOSE_SESSION: u8 = 10;
const NUMBERED: u8 = 11;
/// The only version of each command so far.
const VERSION: u8 = 1;
/// Bytes of the largest of the common commands beside keys and value: tag, version, two lengths and a lease.
const FRAMING_BYTES: usize = 2 + 8 + 8 + 8;
/// Bytes of what makes a command a numbered one: tag, version and three numbers.
const NUMBER_BYTES: usize = 2 + 8 + 8 + 8;

/// One change to the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Set a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// The lease it lives with; zero for none, also when it had one.
        lease: LeaseId,
    },
    /// Delete a key; no error when there is none.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Delete every key from `from` on and below `to`.
    DeleteRange {
        /// The first key that may go.
        from: &'a [u8],
        /// The first key that stays; `None` deletes to the end.
        to: Option<&'a [u8]>,
    },
    /// Compare, and do one thing or another.
    Txn(Txn),
    /// Make a lease, whose id is this entry's index.
    GrantLease {
        /// How long it lives without being kept alive, in milliseconds of log time.
        ttl_ms: u64,
    },
    /// Let leases live their time to live from now on.
    KeepAlive {
        /// The leases.
        leases: Vec<LeaseId>,
    },
    /// End a lease, and with it its keys.
    RevokeLease {
        /// The lease.
        lease: LeaseId,
    },
    /// Open a session, whose id is this entry's index.
    OpenSession {
        /// How long it lives without a numbered command, in milliseconds of log time.
        ttl_ms: u64,
    },
    /// Forget a session.
    CloseSession {
        /// The session.
        session: SessionId,
    },
    /// A command that is done once, however often it stands in the log.
    Numbered {
        /// Whose number it is.
        session: SessionId,
        /// The number, from 1; each belongs to one command of the session.
        number: u64,
        /// The lowest number whose answer the session still waits for: what is kept of those below is let go.
        first_unanswered: u64,
        /// The command, encoded.
        command: &'a [u8],
    },
}

impl<'a> Command<'a> {
    /// A put without a lease.
    #[must_use]
    pub const fn put(key: &'a [u8], value: &'a [u8]) -> Self {
        Self::Put { key, value, lease: LeaseId::ZERO }
    }

    /// The entry's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(FRAMING_BYTES + self.carried_bytes());
        self.encode_into(&mut bytes);
        bytes.into()
    }

    /// The payload of this command under a number, written in one go.
    #[must_use]
    pub(crate) fn encode_numbered(&self, session: SessionId, number: u64, first_unanswered: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(NUMBER_BYTES + FRAMING_BYTES + self.carried_bytes());
        Command::Numbered { session, number, first_unanswered, command: &[] }.encode_into(&mut bytes);
        self.encode_into(&mut bytes);
        bytes.into()
    }

    fn carried_bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::DeleteRange { from, to } => from.len() + to.map_or(0, <[u8]>::len),
            Self::KeepAlive { leases } => size_of_val(leases.as_slice()),
            Self::Numbered { command, .. } => command.len(),
            Self::Txn(_)
            | Self::GrantLease { .. }
            | Self::RevokeLease { .. }
            | Self::OpenSession { .. }
            | Self::CloseSession { .. } => 0,
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Put { lease, .. } if lease.is_zero() => PUT,
            Self::Put { .. } => PUT_LEASED,
            Self::Delete { .. } => DELETE,
            Self::DeleteRange { .. } => DELETE_RANGE,
            Self::Txn(_) => TXN,
            Self::GrantLease { .. } => GRANT_LEASE,
            Self::KeepAlive { .. } => KEEP_ALIVE,
            Self::RevokeLease { .. } => REVOKE_LEASE,
            Self::OpenSession { .. } => OPEN_SESSION,
            Self::CloseSession { .. } => CLOSE_SESSION,
            Self::Numbered { .. } => NUMBERED,
        }
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend([self.tag(), VERSION]);
        let encoded = match self {
            Self::Put { key, value, lease } if lease.is_zero() => {
                codec::encode_into("put", &(Raw(key), Raw(value)), bytes)
            }
            Self::Put { key, value, lease } => codec::encode_into("leased put", &(Raw(key), Raw(value), lease), bytes),
            Self::Delete { key } => codec::encode_into("delete", &Raw(key), bytes),
            Self::DeleteRange { from, to } => codec::encode_into("delete range", &(Raw(from), to.map(Raw)), bytes),
            Self::Txn(txn) => txn::encode_into(txn, bytes),
            Self::GrantLease { ttl_ms } => codec::encode_into("lease", ttl_ms, bytes),
            Self::KeepAlive { leases } => codec::encode_into("keep alive", leases, bytes),
            Self::RevokeLease { lease } => codec::encode_into("revoke", lease, bytes),
            Self::OpenSession { ttl_ms } => codec::encode_into("session", ttl_ms, bytes),
            Self::CloseSession { session } => codec::encode_into("end of a session", session, bytes),
            Self::Numbered { session, number, first_unanswered, command } => {
                let numbers = codec::encode_into("number", &(session, number, first_unanswered), bytes);
                bytes.extend_from_slice(command);
                numbers
            }
        };
        debug_assert!(encoded.is_ok(), "a command always encodes");
    }

    /// Reads an entry's payload.
    ///
    /// # Errors
    /// `Unsupported` for another tag or version, `Malformed` or `Trailing` for anything that is not a command.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match bytes {
            [PUT, VERSION, body @ ..] => {
                codec::decode_borrowed("put", body).map(|(Raw(key), Raw(value))| Self::put(key, value))
            }
            [PUT_LEASED, VERSION, body @ ..] => decode_leased(body),
            [DELETE, VERSION, body @ ..] => codec::decode_borrowed("delete", body).map(|Raw(key)| Self::Delete { key }),
            [DELETE_RANGE, VERSION, body @ ..] => codec::decode_borrowed("delete range", body)
                .map(|(Raw(from), to): (_, Option<Raw<'a>>)| Self::DeleteRange { from, to: to.map(|Raw(to)| to) }),
            [TXN, VERSION, body @ ..] => txn::decode(body).map(Self::Txn),
            [GRANT_LEASE, VERSION, body @ ..] => codec::decode("lease", body).map(|ttl_ms| Self::GrantLease { ttl_ms }),
            [KEEP_ALIVE, VERSION, body @ ..] => {
                codec::decode("keep alive", body).map(|leases| Self::KeepAlive { leases })
            }
            [REVOKE_LEASE, VERSION, body @ ..] => {
                codec::decode("revoke", body).map(|lease| Self::RevokeLease { lease })
            }
            [OPEN_SESSION, VERSION, body @ ..] => {
                codec::decode("session", body).map(|ttl_ms| Self::OpenSession { ttl_ms })
            }
            [CLOSE_SESSION, VERSION, body @ ..] => {
                codec::decode("end of a session", body).map(|session| Self::CloseSession { session })
            }
            [NUMBERED, VERSION, ..] => decode_numbered(bytes),
            [tag, version, ..] => Err(DecodeError::Unsupported { what: "command", tag: *tag, version: *version }),
            [] | [_] => Err(DecodeError::Malformed { what: "command", reason: "too short".to_owned() }),
        }
    }
}

fn malformed(what: &'static str, reason: &str) -> DecodeError {
    DecodeError::Malformed { what, reason: reason.to_owned() }
}

/// A put under no lease has another tag: a command has one form.
fn decode_leased(body: &[u8]) -> Result<Command<'_>, DecodeError> {
    let (Raw(key), Raw(value), lease): (_, _, LeaseId) = codec::decode_borrowed("leased put", body)?;
    if lease.is_zero() {
        return Err(malformed("leased put", "its lease is zero"));
    }
    Ok(Command::Put { key, value, lease })
}

fn decode_numbered(bytes: &[u8]) -> Result<Command<'_>, DecodeError> {
    let Some((head, command)) = bytes.split_at_checked(NUMBER_BYTES) else {
        return Err(malformed("numbered command", "too short"));
    };
    if command.first() == Some(&NUMBERED) {
        return Err(malformed("numbered command", "the command in it is numbered too"));
    }
    let numbers = head.get(2..).unwrap_or_default();
    let (session, number, first_unanswered) = codec::decode("number", numbers)?;
    Ok(Command::Numbered { session, number, first_unanswered, command })
}

/// Bytes as they stand: a length and the bytes, written and read in one piece.
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InPlace;
        impl<'de> Visitor<'de> for InPlace {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Raw<'de>, E> {
                Ok(Raw(bytes))
            }
        }
        deserializer.deserialize_bytes(InPlace)
    }
}

#[cfg(test)]
mod tests;
