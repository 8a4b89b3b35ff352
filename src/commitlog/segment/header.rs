//! The header of a segment: who wrote it, which generation it is, and what came before its first record.

use bytes::Bytes;
use thiserror::Error;

use super::{BLOCK, BLOCK_BYTES, MAGIC, VERSION, block_aligned};
use crate::commitlog::layout::SegmentName;
use crate::fields::{Block, CRC_BYTES, Fields, PREFIX_BYTES, Prefix, checksum_holds, prefix};
use crate::types::{ClusterId, EntryId, GroupId, Index, LogTime, Position};

/// Bytes of the header before the membership.
const FIXED_BYTES: usize = 116;
/// Where the checksummed part starts: behind prefix and checksum.
const COVERED_FROM: usize = PREFIX_BYTES + CRC_BYTES;
/// The largest membership a header carries.
pub(in crate::commitlog) const MAX_MEMBERSHIP_BYTES: usize = 1 << 20;
/// The largest header: bounds what is read before a checksum is known to hold.
pub(in crate::commitlog) const MAX_HEADER_BYTES: usize = FIXED_BYTES + MAX_MEMBERSHIP_BYTES;
/// Blocks between the header and the first record: two slots and the footer.
const BLOCKS_BEHIND_HEADER: u64 = 3;

/// What a segment's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commitlog) struct SegmentHeader {
    pub(in crate::commitlog) cluster: ClusterId,
    pub(in crate::commitlog) group: GroupId,
    /// Grows by one with each segment this directory ever gets: the higher one wins.
    pub(in crate::commitlog) generation: u64,
    /// Where the first record starts in the whole log.
    pub(in crate::commitlog) first_position: Position,
    /// The entry before the first record; its index plus one is the segment's first index.
    pub(in crate::commitlog) previous: EntryId,
    /// Log time of that entry.
    pub(in crate::commitlog) previous_time: LogTime,
    /// The machine's clock when the segment was made, for retention by age.
    pub(in crate::commitlog) wall_ms: u64,
    /// The membership in force at `previous` and the entry that set it; index 0 when there is none.
    pub(in crate::commitlog) membership: (Index, Bytes),
}

/// Why a block is not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::commitlog) enum HeaderError {
    #[error("it is not a segment")]
    Foreign,
    #[error("it has version {0}")]
    Version(u32),
    #[error("its header does not match its checksum")]
    Damaged,
    /// The header goes on: this many bytes must be read.
    #[error("its header has {0} bytes")]
    Longer(usize),
}

impl SegmentHeader {
    /// Index of the first record.
    pub(in crate::commitlog) fn first(&self) -> Index {
        self.previous.index.next()
    }

    pub(in crate::commitlog) fn name(&self) -> SegmentName {
        SegmentName { first: self.first(), generation: self.generation }
    }

    fn length(&self) -> usize {
        FIXED_BYTES + self.membership.1.len()
    }

    /// Offset of slot 0 or 1.
    pub(in crate::commitlog) fn slot_offset(&self, slot: u64) -> u64 {
        block_aligned(self.length() as u64) + (slot % 2) * BLOCK
    }

    /// Offset of the footer's block.
    pub(in crate::commitlog) fn footer_offset(&self) -> u64 {
        self.slot_offset(0) + 2 * BLOCK
    }

    /// Offset of the first record.
    pub(in crate::commitlog) fn records_offset(&self) -> u64 {
        self.slot_offset(0) + BLOCKS_BEHIND_HEADER * BLOCK
    }

    /// The offset at which the record of a position stands; `None` below the segment's first.
    pub(in crate::commitlog) fn offset_of(&self, position: Position) -> Option<u64> {
        let into = position.get().checked_sub(self.first_position.get())?;
        self.records_offset().checked_add(into)
    }

    /// The position of the record at an offset.
    pub(in crate::commitlog) fn position_of(&self, offset: u64) -> Position {
        self.first_position.plus(offset.saturating_sub(self.records_offset()))
    }

    /// The header, filled up to whole blocks.
    pub(in crate::commitlog) fn encode(&self) -> Vec<u8> {
        let (membership_index, membership) = &self.membership;
        let covered = Block::with_capacity(self.length())
            .u32(u32::try_from(self.length()).unwrap_or(u32::MAX))
            .u128(self.cluster.0)
            .u64(self.group.get())
            .u64(self.generation)
            .u64(self.first().get())
            .u64(self.first_position.get())
            .entry_id(self.previous)
            .u64(self.previous_time.get())
            .u64(self.wall_ms)
            .u64(membership_index.get())
            .u32(u32::try_from(membership.len()).unwrap_or(u32::MAX))
            .raw(membership)
            .done();
        let blocks = block_aligned(self.length() as u64);
        Block::with_prefix(MAGIC, VERSION)
            .u32(crc32fast::hash(&covered))
            .raw(&covered)
            .padded(usize::try_from(blocks).unwrap_or(BLOCK_BYTES))
            .done()
    }

    /// Reads a header from the first bytes of a file.
    pub(in crate::commitlog) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        match prefix(bytes, MAGIC, VERSION) {
            Prefix::Ours => {}
            Prefix::Version(found) => return Err(HeaderError::Version(found)),
            Prefix::Foreign => return Err(HeaderError::Foreign),
            Prefix::Damaged => return Err(HeaderError::Damaged),
        }
        let length = Fields::at(bytes, COVERED_FROM).and_then(|mut fields| fields.u32()).unwrap_or(0) as usize;
        if !(FIXED_BYTES..=MAX_HEADER_BYTES).contains(&length) {
            return Err(HeaderError::Damaged);
        }
        let Some(covered) = bytes.get(COVERED_FROM..length) else {
            return Err(HeaderError::Longer(length));
        };
        let stored = Fields::at(bytes, PREFIX_BYTES).and_then(|mut fields| fields.u32());
        if stored != Some(crc32fast::hash(covered)) {
            return Err(HeaderError::Damaged);
        }
        Self::read_fields(covered).ok_or(HeaderError::Damaged)
    }

    fn read_fields(covered: &[u8]) -> Option<Self> {
        let mut fields = Fields::at(covered, CRC_BYTES)?;
        let cluster = ClusterId(fields.u128()?);
        let group = GroupId(fields.u64()?);
        let generation = fields.u64()?;
        let first = fields.index()?;
        let first_position = fields.position()?;
        let previous = fields.entry_id()?;
        let previous_time = fields.time()?;
        let wall_ms = fields.u64()?;
        let membership_index = fields.index()?;
        let membership_length = fields.u32()? as usize;
        let membership = (membership_index, Bytes::copy_from_slice(fields.bytes(membership_length)?));
        let header = Self { cluster, group, generation, first_position, previous, previous_time, wall_ms, membership };
        (header.first() == first && generation > 0).then_some(header)
    }
}

/// Reads one checksummed block of the file: used by slots and footer alike.
pub(super) fn sealed_block(bytes: &[u8], covered_bytes: usize) -> Option<Fields<'_>> {
    checksum_holds(bytes, 0, covered_bytes).then(|| Fields::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    fn header(membership_bytes: usize) -> SegmentHeader {
        SegmentHeader {
            cluster: ClusterId(9),
            group: GroupId(1),
            generation: 3,
            first_position: Position(1000),
            previous: EntryId::new(Index(41), Term(2)),
            previous_time: LogTime(77),
            wall_ms: 88,
            membership: (Index(1), Bytes::from(vec![7; membership_bytes])),
        }
    }

    #[test]
    fn header_after_encode_reads_back_and_keeps_the_records_behind_it() {
        for membership_bytes in [0, 10, BLOCK_BYTES, 3 * BLOCK_BYTES] {
            let header = header(membership_bytes);
            let bytes = header.encode();
            assert_eq!(bytes.len() as u64, header.slot_offset(0));
            assert_eq!(SegmentHeader::decode(&bytes), Ok(header.clone()));
            assert_eq!(header.records_offset(), header.slot_offset(0) + 3 * BLOCK);
            assert_eq!(
                header.offset_of(header.position_of(header.records_offset() + 5)),
                Some(header.records_offset() + 5)
            );
        }
    }

    #[test]
    fn header_of_several_blocks_asks_for_the_rest() {
        let header = header(BLOCK_BYTES);
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes[..BLOCK_BYTES]), Err(HeaderError::Longer(header.length())));
    }

    #[test]
    fn header_with_any_flipped_bit_is_damaged() {
        let header = header(10);
        let bytes = header.encode();
        for bit in 0..header.length() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = SegmentHeader::decode(&flipped);
            assert!(matches!(read, Err(HeaderError::Damaged | HeaderError::Longer(_))), "bit {bit}: {read:?}");
        }
    }

    #[test]
    fn header_of_a_later_version_is_unsupported_and_not_damaged() {
        let mut bytes = header(0).encode();
        bytes[..PREFIX_BYTES].copy_from_slice(&Block::with_prefix(MAGIC, VERSION + 1).done());
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Version(VERSION + 1)));
        assert_eq!(SegmentHeader::decode(b"#!/bin/sh\necho hello"), Err(HeaderError::Foreign));
    }
}
