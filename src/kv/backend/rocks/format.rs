//! What stands in RocksDB: keys, values, and what they are of. One column family holds it all, so that what is flushed of it
//! is always the state after some commit.
//!
//! ```text
//!   00 'b'        ► version (1) │ index, term, position, time, index and bytes of the membership
//!   00 'l'        ► the range that is leaving, how many of its keys have gone, who asked; absent while none is
//!   00 's' name … ► a record beside the keys (kv/side.rs)
//!   01 key …      ► create revision (8) │ mod revision (8) │ version (8) │ value …        little-endian
//! ```
//! Deliberately absent: golden files. The directory belongs to the build that wrote it: one that it cannot read is refused
//! by its version, and made again from snapshot and log once it is removed.

use bytes::Bytes;

use crate::codec;
use crate::types::{EntryId, Index, LogBase, LogTime, Position, SessionId, Term};

use super::super::super::range::KeyRange;
use super::super::{BackendError, Leaving, Stored};

/// Where the base stands.
pub(super) const BASE: &[u8] = b"\0b";
/// Where the range stands that is leaving.
pub(super) const LEAVING: &[u8] = b"\0l";
/// What the name of a record beside the keys begins with, and what lies behind all of them.
pub(super) const SIDE: &[u8] = b"\0s";
pub(super) const BEHIND_SIDES: &[u8] = b"\0t";
/// What a key of the store begins with, and what lies behind all of them.
const KEY: u8 = 1;
const BEHIND_KEYS: u8 = 2;
/// The version of all of this.
const VERSION: u8 = 2;
const NUMBERS_BYTES: usize = 24;

/// Why what is there is not what this build writes.
pub(super) enum Unreadable {
    /// Another build's.
    Unsupported(u8),
    /// Nobody's.
    Malformed(String),
}

/// A key of the store as RocksDB has it.
pub(super) fn key(key: &[u8]) -> Vec<u8> {
    [&[KEY], key].concat()
}

/// A key as the store has it.
pub(super) fn plain(key: &[u8]) -> Result<&[u8], BackendError> {
    match key {
        [KEY, key @ ..] => Ok(key),
        _ => Err(BackendError("RocksDB holds a key that nobody put there".to_owned())),
    }
}

/// Where a record beside the keys stands.
pub(super) fn side(name: &[u8]) -> Vec<u8> {
    [SIDE, name].concat()
}

/// The first key of a range, and the first behind it.
pub(super) fn bounds(range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    (key(&range.from), range.to.as_ref().map_or_else(|| vec![BEHIND_KEYS], |to| key(to)))
}

/// What is held for a key, as bytes.
pub(super) fn encode(stored: &Stored) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(NUMBERS_BYTES + stored.value.len());
    for number in [stored.create_revision.get(), stored.mod_revision.get(), stored.version] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend_from_slice(&stored.value);
    bytes
}

/// And back.
pub(super) fn decode(bytes: &[u8]) -> Result<Stored, BackendError> {
    let number = |at: usize| bytes.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    match (number(0), number(8), number(16), bytes.get(NUMBERS_BYTES..)) {
        (Some(create), Some(modified), Some(version), Some(value)) => {
            Ok(Stored { value: value.into(), create_revision: Index(create), mod_revision: Index(modified), version })
        }
        _ => Err(BackendError("RocksDB holds a value that nobody put there".to_owned())),
    }
}

type Fields = ((u64, u64), (u64, u64), (u64, Vec<u8>));

/// A base as bytes.
pub(super) fn encode_base(base: &LogBase) -> Result<Vec<u8>, BackendError> {
    let (index, membership) = &base.membership;
    let fields: Fields = (
        (base.entry.index.get(), base.entry.term.get()),
        (base.position.get(), base.time.get()),
        (index.get(), membership.to_vec()),
    );
    let mut bytes = vec![VERSION];
    codec::encode_into("base of the state", &fields, &mut bytes).map_err(|error| BackendError(error.to_string()))?;
    Ok(bytes)
}

/// And back.
pub(super) fn decode_base(bytes: &[u8]) -> Result<LogBase, Unreadable> {
    let body = match bytes {
        [VERSION, body @ ..] => body,
        [version, ..] => return Err(Unreadable::Unsupported(*version)),
        [] => return Err(Unreadable::Malformed("its base is empty".to_owned())),
    };
    let ((index, term), (position, time), (membership_index, membership)): Fields =
        codec::decode("base of the state", body).map_err(|error| Unreadable::Malformed(error.to_string()))?;
    Ok(LogBase {
        entry: EntryId::new(Index(index), Term(term)),
        position: Position(position),
        time: LogTime(time),
        membership: (Index(membership_index), Bytes::from(membership)),
    })
}

type LeavingFields = (Vec<u8>, Option<Vec<u8>>, u64, Option<(SessionId, u64)>);

/// A range that is leaving, as bytes.
pub(super) fn encode_leaving(leaving: &Leaving) -> Result<Vec<u8>, BackendError> {
    let KeyRange { from, to } = &leaving.range;
    let fields: LeavingFields = (from.to_vec(), to.as_ref().map(|to| to.to_vec()), leaving.count, leaving.asked);
    let mut bytes = Vec::new();
    codec::encode_into("leaving range", &fields, &mut bytes).map_err(|error| BackendError(error.to_string()))?;
    Ok(bytes)
}

/// And back.
pub(super) fn decode_leaving(bytes: &[u8]) -> Result<Leaving, Unreadable> {
    let (from, to, count, asked): LeavingFields =
        codec::decode("leaving range", bytes).map_err(|error| Unreadable::Malformed(error.to_string()))?;
    Ok(Leaving { range: KeyRange { from: from.into(), to: to.map(Bytes::from) }, count, asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rocks_base_and_range_read_back_as_they_were() {
        let membership = (Index(2), Bytes::from_static(b"members"));
        let base =
            LogBase { entry: EntryId::new(Index(9), Term(3)), position: Position(77), time: LogTime(5), membership };
        let bytes = encode_base(&base).unwrap();
        assert_eq!(decode_base(&bytes).ok(), Some(base));
        for end in 1..bytes.len() {
            assert!(matches!(decode_base(&bytes[..end]), Err(Unreadable::Malformed(_))), "cut at {end}");
        }
        assert!(matches!(decode_base(&[1]), Err(Unreadable::Unsupported(1))));
        for to in [None, Some(Bytes::new()), Some(Bytes::from_static(b"z"))] {
            let range = KeyRange { from: Bytes::from_static(b"a"), to };
            for asked in [None, Some((SessionId(3), 4))] {
                let leaving = Leaving { range: range.clone(), count: 7, asked };
                assert_eq!(decode_leaving(&encode_leaving(&leaving).unwrap()).ok(), Some(leaving));
            }
        }
    }

    #[test]
    fn rocks_value_cut_short_is_an_error() {
        let stored = Stored { value: (*b"v").into(), create_revision: Index(1), mod_revision: Index(2), version: 3 };
        let bytes = encode(&stored);
        assert_eq!(decode(&bytes).unwrap(), stored);
        decode(&bytes[..NUMBERS_BYTES - 1]).unwrap_err();
        plain(b"\0b").unwrap_err();
    }
}
