//! What an entry of the KV says: `[tag: u8][version: u8][body]`.
//!
//! The bytes are pinned by tests/fixtures/kv: an old log must read the same for ever. A tag or version that this
//! build does not know stops apply; skipping it would let replicas part.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;
/// The only version of each command so far.
const VERSION: u8 = 1;

/// One change to the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Set a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Delete a key; no error when there is none.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Delete every key from `from` on and below `to`.
    DeleteRange {
        /// The first key that may go.
        from: Bytes,
        /// The first key that stays; `None` deletes to the end.
        to: Option<Bytes>,
    },
}

#[derive(Serialize, Deserialize)]
struct PutBody {
    key: Bytes,
    value: Bytes,
}

#[derive(Serialize, Deserialize)]
struct RangeBody {
    from: Bytes,
    to: Option<Bytes>,
}

impl Command {
    /// The entry's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes;
        let encoded = match self {
            Self::Put { key, value } => {
                bytes = Vec::with_capacity(key.len() + value.len() + 18);
                bytes.extend([PUT, VERSION]);
                codec::encode_into("put", &PutBody { key: key.clone(), value: value.clone() }, &mut bytes)
            }
            Self::Delete { key } => {
                bytes = vec![DELETE, VERSION];
                codec::encode_into("delete", key, &mut bytes)
            }
            Self::DeleteRange { from, to } => {
                bytes = vec![DELETE_RANGE, VERSION];
                codec::encode_into("delete range", &RangeBody { from: from.clone(), to: to.clone() }, &mut bytes)
            }
        };
        debug_assert!(encoded.is_ok(), "a command always encodes");
        bytes.into()
    }

    /// Reads an entry's payload. Key and value are copied out of it, so that they do not keep the log's memory.
    ///
    /// # Errors
    /// `Unsupported` for another tag or version, `Malformed` or `Trailing` for anything that is not a command.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [PUT, VERSION, body @ ..] => {
                codec::decode("put", body).map(|PutBody { key, value }| Self::Put { key, value })
            }
            [DELETE, VERSION, body @ ..] => codec::decode("delete", body).map(|key| Self::Delete { key }),
            [DELETE_RANGE, VERSION, body @ ..] => {
                codec::decode("delete range", body).map(|RangeBody { from, to }| Self::DeleteRange { from, to })
            }
            [tag, version, ..] => Err(DecodeError::Unsupported { what: "command", tag: *tag, version: *version }),
            _ => Err(DecodeError::Malformed { what: "command", reason: "too short".to_owned() }),
        }
    }

    /// The deletion of all keys that start with `prefix`.
    #[must_use]
    pub fn delete_prefix(prefix: Bytes) -> Self {
        let to = after_prefix(&prefix).map(Bytes::from);
        Self::DeleteRange { from: prefix, to }
    }
}

/// The first key behind all that start with `prefix`; `None` when there can be none behind them.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn command_bytes_are_pinned() {
        let golden = include_str!("../../tests/fixtures/kv/commands-v1.txt");
        let commands = [
            Command::Put { key: key("k"), value: key("value") },
            Command::Put { key: key("k"), value: key("") },
            Command::Delete { key: key("k") },
            Command::delete_prefix(key("ab")),
            Command::delete_prefix(key("")),
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
    }

    #[test]
    fn after_prefix_carries_over_full_bytes() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    proptest! {
        #[test]
        fn command_decode_of_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(command) = Command::decode(&bytes) {
                prop_assert_eq!(&command.encode()[..], &bytes[..]);
            }
        }
    }
}
