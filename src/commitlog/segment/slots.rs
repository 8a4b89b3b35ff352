//! Progress slots: how far a segment is known to be synced.
//!
//! Invariant: a slot names only an end that was synced *before* the slot was written. So below the newest readable
//! slot's end a bad record is corruption, and only at or above it may it be a torn write. The two slots are written
//! in turn: a torn write of one leaves the other, which is older and just as true.

use super::header::{SegmentHeader, sealed_block};
use crate::fields::Block;
use crate::types::{EntryId, Index, Position};

/// Bytes of a slot before its checksum.
const COVERED_BYTES: usize = 48;

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commitlog) struct Slot {
    /// Grows by one with each write; the higher one is the newer.
    pub(in crate::commitlog) sequence: u64,
    /// Everything below is synced.
    pub(in crate::commitlog) durable_end: Position,
    /// The last entry below `durable_end`.
    pub(in crate::commitlog) last: EntryId,
    /// An index known to be committed. A hint: it may lag by any amount.
    pub(in crate::commitlog) committed: Index,
}

impl Slot {
    /// The slot of a segment without records.
    pub(in crate::commitlog) fn empty(header: &SegmentHeader, sequence: u64, committed: Index) -> Self {
        Self { sequence, durable_end: header.first_position, last: header.previous, committed }
    }

    /// The slot as it stands at the start of its block; the rest of the block stays as it is.
    pub(in crate::commitlog) fn encode(&self, generation: u64) -> Vec<u8> {
        Block::with_capacity(COVERED_BYTES + 4)
            .u64(generation)
            .u64(self.sequence)
            .u64(self.durable_end.get())
            .entry_id(self.last)
            .u64(self.committed.get())
            .sealed_from(0)
            .done()
    }

    /// Reads a slot; `None` for one that is torn, rotten, never written or of another segment.
    pub(in crate::commitlog) fn decode(bytes: &[u8], generation: u64) -> Option<Self> {
        let mut fields = sealed_block(bytes, COVERED_BYTES)?;
        let of_this_segment = fields.u64()? == generation;
        let slot = Self {
            sequence: fields.u64()?,
            durable_end: fields.position()?,
            last: fields.entry_id()?,
            committed: fields.index()?,
        };
        of_this_segment.then_some(slot)
    }

    /// The newer of two slots as read; `None` when neither can be read.
    pub(in crate::commitlog) fn newest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        a.into_iter().chain(b).max_by_key(|slot| slot.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    const SLOT: Slot = Slot {
        sequence: 5,
        durable_end: Position(4096),
        last: EntryId { term: Term(3), index: Index(9) },
        committed: Index(8),
    };

    #[test]
    fn slot_after_encode_reads_back_only_for_its_segment() {
        let bytes = SLOT.encode(7);
        assert_eq!(Slot::decode(&bytes, 7), Some(SLOT));
        assert_eq!(Slot::decode(&bytes, 8), None);
        assert_eq!(Slot::decode(&[0; 512], 0), None);
    }

    #[test]
    fn slot_with_any_flipped_bit_is_unreadable() {
        let bytes = SLOT.encode(7);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Slot::decode(&flipped, 7), None, "bit {bit}");
        }
    }

    #[test]
    fn slot_newest_is_the_one_with_the_higher_sequence() {
        let older = Slot { sequence: 4, ..SLOT };
        assert_eq!(Slot::newest(Some(older), Some(SLOT)), Some(SLOT));
        assert_eq!(Slot::newest(Some(SLOT), None), Some(SLOT));
        assert_eq!(Slot::newest(None, None), None);
    }
}
