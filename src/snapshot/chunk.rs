//! The chunk: the unit that is written, verified and sent.
//!
//! ```text
//!   0        4        8        16       24       32     33    36         40
//!   │ CRC    │ length │ number │ index  │ term   │ kind │ 0 0 │ CRC body │ body …
//! ```
//! A chunk says which one of which snapshot it is, so that one from elsewhere is not taken for it. All chunks of items
//! are full but the last; the end is a chunk of its own, so that a file cut between two chunks is not taken for whole.

use crate::fields::{Block, CRC_BYTES, Fields};
use crate::types::EntryId;

/// Bytes of a chunk before its body.
pub const CHUNK_HEADER_BYTES: usize = 40;
/// The shortest full chunk: room for a body that is not all header.
pub const MIN_CHUNK_BYTES: u32 = 64;
/// The longest full chunk: bounds what is read before a checksum is known to hold, and what a broken transfer repeats.
pub const MAX_CHUNK_BYTES: u32 = 1 << 20;
/// Bytes of the end: its body counts the items.
pub(super) const END_BYTES: usize = CHUNK_HEADER_BYTES + 8;

const ITEMS: u8 = 1;
const END: u8 = 2;

/// What a chunk carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// A piece of the items, one behind the other.
    Items(&'a [u8]),
    /// Nothing follows; so many items came.
    End(u64),
}

/// A chunk that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub(super) number: u64,
    pub(super) snapshot: EntryId,
    pub(super) body: Body<'a>,
}

/// Fills in the header of a chunk of items whose body stands behind room for the header.
pub(super) fn seal(chunk: &mut [u8], number: u64, snapshot: EntryId) {
    seal_as(chunk, number, snapshot, ITEMS);
}

/// The end of a snapshot.
pub(super) fn end(number: u64, snapshot: EntryId, items: u64) -> Vec<u8> {
    let mut chunk = vec![0; CHUNK_HEADER_BYTES];
    chunk.extend_from_slice(&items.to_le_bytes());
    seal_as(&mut chunk, number, snapshot, END);
    chunk
}

fn seal_as(chunk: &mut [u8], number: u64, snapshot: EntryId, kind: u8) {
    let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
    let Some((header, body)) = chunk.split_first_chunk_mut::<CHUNK_HEADER_BYTES>() else { return };
    let fields = Block::with_capacity(CHUNK_HEADER_BYTES)
        .u32(length)
        .u64(number)
        .entry_id(snapshot)
        .raw(&[kind, 0, 0, 0])
        .u32(crc32fast::hash(body))
        .done();
    let crc = crc32fast::hash(&fields).to_le_bytes();
    for (to, from) in header.iter_mut().zip(crc.iter().chain(&fields)) {
        *to = *from;
    }
}

/// The same chunk under checksums that fit it: what a simulation does to one that it must not believe.
pub(super) fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = bytes.to_vec();
    if let Ok(Chunk { number, snapshot, body }) = read(bytes) {
        seal_as(&mut chunk, number, snapshot, if matches!(body, Body::Items(_)) { ITEMS } else { END });
    }
    chunk
}

/// The length that a chunk's header claims; `None` when it is not a header that verifies.
pub(super) fn length(header: &[u8]) -> Option<u32> {
    let mut fields = Fields::new(header.get(..CHUNK_HEADER_BYTES)?);
    let (crc, length) = (fields.u32()?, fields.u32()?);
    (crc32fast::hash(header.get(CRC_BYTES..CHUNK_HEADER_BYTES)?) == crc).then_some(length)
}

/// Verifies a whole chunk.
pub(super) fn verify(bytes: &[u8]) -> Result<Chunk<'_>, &'static str> {
    let claimed = length(bytes).ok_or("the header of a chunk does not match its checksum")?;
    if claimed as usize != bytes.len() {
        return Err("a chunk is longer or shorter than it says");
    }
    let chunk = read(bytes)?;
    let crc = Fields::at(bytes, CHUNK_HEADER_BYTES - CRC_BYTES).and_then(|mut fields| fields.u32());
    if bytes.get(CHUNK_HEADER_BYTES..).map(crc32fast::hash) != crc {
        return Err("a chunk does not match its checksum");
    }
    Ok(chunk)
}

/// What a chunk says, its checksums unseen.
pub(super) fn read(bytes: &[u8]) -> Result<Chunk<'_>, &'static str> {
    const SHORT: &str = "a chunk is cut short";
    let mut fields = Fields::at(bytes, 2 * CRC_BYTES).ok_or(SHORT)?;
    let (number, snapshot) = fields.u64().zip(fields.entry_id()).ok_or(SHORT)?;
    let kind = fields.bytes(CRC_BYTES).ok_or(SHORT)?;
    let body = bytes.get(CHUNK_HEADER_BYTES..).ok_or(SHORT)?;
    let body = match *kind {
        [ITEMS, 0, 0, 0] if !body.is_empty() => Body::Items(body),
        [END, 0, 0, 0] if bytes.len() == END_BYTES => Body::End(Fields::new(body).u64().ok_or(SHORT)?),
        _ => return Err("a chunk is of a kind that this release does not know"),
    };
    Ok(Chunk { number, snapshot, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Index, Term};

    const ID: EntryId = EntryId::new(Index(9), Term(2));

    fn items(body: &[u8]) -> Vec<u8> {
        let mut chunk = vec![0; CHUNK_HEADER_BYTES];
        chunk.extend_from_slice(body);
        seal(&mut chunk, 3, ID);
        chunk
    }

    #[test]
    fn chunk_sealed_reads_back_as_it_was() {
        let chunk = items(b"body");
        assert_eq!(verify(&chunk), Ok(Chunk { number: 3, snapshot: ID, body: Body::Items(b"body") }));
        assert_eq!(length(&chunk), Some(44));
        assert_eq!(verify(&end(4, ID, 77)), Ok(Chunk { number: 4, snapshot: ID, body: Body::End(77) }));
    }

    #[test]
    fn chunk_with_any_bit_flipped_or_cut_anywhere_is_refused() {
        for chunk in [items(b"body"), end(4, ID, 77)] {
            for bit in 0..chunk.len() * 8 {
                let mut flipped = chunk.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                verify(&flipped).unwrap_err();
            }
            for end in 0..chunk.len() {
                verify(&chunk[..end]).unwrap_err();
            }
            verify(&[&chunk[..], &[0]].concat()).unwrap_err();
        }
    }

    #[test]
    fn chunk_of_a_later_kind_or_without_items_is_refused() {
        let mut later = items(b"body");
        seal_as(&mut later, 3, ID, 3);
        verify(&later).unwrap_err();
        verify(&items(b"")).unwrap_err();
        let mut longer = items(b"more than a count");
        seal_as(&mut longer, 3, ID, END);
        verify(&longer).unwrap_err();
    }
}
