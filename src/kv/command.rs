//! What an entry of the KV says: `[tag: u8][version: u8][body]`.
//!
//! ```text
//!   put           01 01 │ key: length (8), bytes │ value: length (8), bytes
//!   delete        02 01 │ key: length (8), bytes
//!   delete range  03 01 │ from: length (8), bytes │ 00, or 01 and to: length (8), bytes
//! ```
//! The bytes are pinned by tests/fixtures/kv: an old log must read the same for ever. A tag or version that this
//! build does not know stops apply; skipping it would let replicas part. A command points into the entry and copies
//! nothing: an entry's bytes are a slice of the log, which what is kept must not hold in memory.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{self, DecodeError};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;
/// The only version of each command so far.
const VERSION: u8 = 1;
/// Bytes of the largest command beside keys and value: tag, version, two lengths and a flag.
const FRAMING_BYTES: usize = 2 + 8 + 8 + 1;

/// One change to the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Set a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
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
}

impl<'a> Command<'a> {
    /// The entry's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (head, carried) = match self {
            Self::Put { key, value } => ([PUT, VERSION], key.len() + value.len()),
            Self::Delete { key } => ([DELETE, VERSION], key.len()),
            Self::DeleteRange { from, to } => ([DELETE_RANGE, VERSION], from.len() + to.map_or(0, <[u8]>::len)),
        };
        let mut bytes = Vec::with_capacity(FRAMING_BYTES + carried);
        bytes.extend(head);
        let encoded = match *self {
            Self::Put { key, value } => codec::encode_into("put", &(Raw(key), Raw(value)), &mut bytes),
            Self::Delete { key } => codec::encode_into("delete", &Raw(key), &mut bytes),
            Self::DeleteRange { from, to } => codec::encode_into("delete range", &(Raw(from), to.map(Raw)), &mut bytes),
        };
        debug_assert!(encoded.is_ok(), "a command always encodes");
        bytes.into()
    }

    /// Reads an entry's payload.
    ///
    /// # Errors
    /// `Unsupported` for another tag or version, `Malformed` or `Trailing` for anything that is not a command.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match bytes {
            [PUT, VERSION, body @ ..] => {
                codec::decode_borrowed("put", body).map(|(Raw(key), Raw(value))| Self::Put { key, value })
            }
            [DELETE, VERSION, body @ ..] => codec::decode_borrowed("delete", body).map(|Raw(key)| Self::Delete { key }),
            [DELETE_RANGE, VERSION, body @ ..] => codec::decode_borrowed("delete range", body)
                .map(|(Raw(from), to): (_, Option<Raw<'a>>)| Self::DeleteRange { from, to: to.map(|Raw(to)| to) }),
            [tag, version, ..] => Err(DecodeError::Unsupported { what: "command", tag: *tag, version: *version }),
            [] | [_] => Err(DecodeError::Malformed { what: "command", reason: "too short".to_owned() }),
        }
    }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn command_bytes_are_pinned() {
        let golden = include_str!("../../tests/fixtures/kv/commands-v1.txt");
        let commands = [
            Command::Put { key: b"k", value: b"value" },
            Command::Put { key: b"k", value: b"" },
            Command::Delete { key: b"k" },
            Command::DeleteRange { from: b"ab", to: Some(b"ac") },
            Command::DeleteRange { from: b"", to: None },
        ];
        let lines: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), commands.len());
        for (line, command) in lines.iter().zip(commands) {
            let bytes = command.encode();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(&hex, line, "{command:?}");
            assert_eq!(Command::decode(&bytes).unwrap(), command);
        }
    }

    #[test]
    fn command_of_a_later_version_is_unsupported_and_never_guessed() {
        assert!(matches!(Command::decode(&[PUT, 2]), Err(DecodeError::Unsupported { tag: PUT, version: 2, .. })));
        assert!(matches!(Command::decode(&[99, 1]), Err(DecodeError::Unsupported { tag: 99, .. })));
        assert!(matches!(Command::decode(&[PUT]), Err(DecodeError::Malformed { .. })));
        assert!(matches!(Command::decode(&[]), Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn command_cut_short_or_continued_is_refused() {
        let whole = Command::Put { key: b"key", value: b"value" }.encode();
        for end in 2..whole.len() {
            let cut = Command::decode(&whole[..end]);
            assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{end}: {cut:?}");
        }
        let longer = [&whole, &b"x"[..]].concat();
        assert!(matches!(Command::decode(&longer), Err(DecodeError::Trailing { extra: 1, .. })));
    }

    #[test]
    fn command_that_claims_a_huge_length_is_refused() {
        let mut bytes = vec![PUT, VERSION];
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend(b"key");
        assert!(matches!(Command::decode(&bytes), Err(DecodeError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn command_decode_of_any_bytes_never_panics(
            head in proptest::option::of((1u8..5, 1u8..3)),
            rest in proptest::collection::vec(prop_oneof![0u8..10, any::<u8>()], 0..64),
        ) {
            let bytes = [head.map_or(Vec::new(), |(tag, version)| vec![tag, version]), rest].concat();
            if let Ok(command) = Command::decode(&bytes) {
                prop_assert_eq!(&command.encode()[..], &bytes[..]);
            }
        }

        #[test]
        fn command_decode_after_encode_returns_it(
            one in proptest::collection::vec(any::<u8>(), 0..40),
            two in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        ) {
            let value = two.as_deref().unwrap_or_default();
            let (put, delete) = (Command::Put { key: &one, value }, Command::Delete { key: &one });
            for command in [put, delete, Command::DeleteRange { from: &one, to: two.as_deref() }] {
                let bytes = command.encode();
                prop_assert_eq!(Command::decode(&bytes).unwrap(), command);
            }
        }
    }
}
