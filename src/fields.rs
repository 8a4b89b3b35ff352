//! Fields of fixed width, little-endian, read from and written to blocks.
//!
//! Reading never panics: a block that ends early answers `None`. Deliberately absent: anything that knows what the
//! fields mean.

use crate::types::{EntryId, Index, LogTime, Position, Term};

/// Magic, version and their checksum: the first bytes of every file of a data directory, in every version.
pub(crate) const PREFIX_BYTES: usize = 16;

/// Bytes of a checksum.
pub(crate) const CRC_BYTES: usize = 4;

/// A cursor over bytes that were read from a file.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Starts at the first of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Starts `at` bytes into `bytes`; `None` when they end before.
    pub(crate) fn at(bytes: &'a [u8], at: usize) -> Option<Self> {
        bytes.get(at..).map(Self)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn index(&mut self) -> Option<Index> {
        self.u64().map(Index)
    }

    pub(crate) fn position(&mut self) -> Option<Position> {
        self.u64().map(Position)
    }

    pub(crate) fn time(&mut self) -> Option<LogTime> {
        self.u64().map(LogTime)
    }

    /// Index, then term.
    pub(crate) fn entry_id(&mut self) -> Option<EntryId> {
        let index = self.index()?;
        Some(EntryId::new(index, Term(self.u64()?)))
    }
}

/// Bytes on their way to a file.
#[derive(Default)]
pub(crate) struct Block(Vec<u8>);

impl Block {
    /// An empty block with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// A block that starts with magic, version and their checksum.
    pub(crate) fn with_prefix(magic: &[u8; 8], version: u32) -> Self {
        Self::default().raw(magic).u32(version).sealed_from(0)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.raw(&[value])
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u128(self, value: u128) -> Self {
        self.raw(&value.to_le_bytes())
    }

    /// Index, then term.
    pub(crate) fn entry_id(self, id: EntryId) -> Self {
        self.u64(id.index.get()).u64(id.term.get())
    }

    /// Appends the checksum of everything from `start` on.
    pub(crate) fn sealed_from(self, start: usize) -> Self {
        let crc = crc32fast::hash(self.0.get(start..).unwrap_or_default());
        self.u32(crc)
    }

    /// Fills with zeros up to `size`.
    pub(crate) fn padded(mut self, size: usize) -> Self {
        if self.0.len() < size {
            self.0.resize(size, 0);
        }
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Magic and version of this release.
    Ours,
    /// Intact, of another version.
    Version(u32),
    /// Another file altogether.
    Foreign,
    /// The right magic or version under a wrong checksum.
    Damaged,
}

/// Reads the prefix. A file shorter than it, or with another magic, is foreign; one whose checksum is wrong but
/// whose magic or version is right was ours before something damaged it.
pub(crate) fn prefix(bytes: &[u8], magic: &[u8; 8], version: u32) -> Prefix {
    let mut fields = Fields::new(bytes);
    let (Some(found_magic), Some(found_version), Some(crc)) = (fields.bytes(8), fields.u32(), fields.u32()) else {
        return Prefix::Foreign;
    };
    let intact = bytes.get(..PREFIX_BYTES - CRC_BYTES).is_some_and(|covered| crc32fast::hash(covered) == crc);
    match (found_magic == magic, intact) {
        (true, true) if found_version == version => Prefix::Ours,
        (true, true) => Prefix::Version(found_version),
        (true, false) => Prefix::Damaged,
        (false, true) => Prefix::Foreign,
        (false, false) if found_version == version => Prefix::Damaged,
        (false, false) => Prefix::Foreign,
    }
}

/// Reads a checksum behind `covered` bytes that start at `start`, and says whether it is theirs.
pub(crate) fn checksum_holds(bytes: &[u8], start: usize, end: usize) -> bool {
    let covered = bytes.get(start..end);
    let stored = Fields::at(bytes, end).and_then(|mut fields| fields.u32());
    covered.zip(stored).is_some_and(|(covered, stored)| crc32fast::hash(covered) == stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_tells_ours_from_other_versions_foreign_and_damaged() {
        let ours = Block::with_prefix(b"DLEDGXYZ", 1).done();
        assert_eq!(ours.len(), PREFIX_BYTES);
        assert_eq!(prefix(&ours, b"DLEDGXYZ", 1), Prefix::Ours);
        assert_eq!(prefix(&ours, b"DLEDGXYZ", 2), Prefix::Version(1));
        assert_eq!(prefix(&ours, b"DLEDGABC", 1), Prefix::Foreign);
        assert_eq!(prefix(&ours[..15], b"DLEDGXYZ", 1), Prefix::Foreign);
        for bit in 0..PREFIX_BYTES * 8 {
            let mut flipped = ours.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(prefix(&flipped, b"DLEDGXYZ", 1), Prefix::Damaged, "bit {bit}");
        }
    }

    #[test]
    fn fields_past_the_end_are_none() {
        assert_eq!(Fields::new(&[1, 2, 3]).u32(), None);
        assert!(Fields::at(&[1], 2).is_none());
        assert!(!checksum_holds(&[0; 8], 0, 6));
    }
}
