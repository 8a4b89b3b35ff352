//! The manifest: what a snapshot is of, and how to know that its data is whole.

use std::path::Path;

use bytes::Bytes;

use super::chunk::{END_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
use super::error::{SnapshotError, damaged};
use crate::fields::{Block, CRC_BYTES, Fields, PREFIX_BYTES, Prefix, prefix};
use crate::types::{ClusterId, EntryId, GroupId, LogBase};

const MAGIC: &[u8; 8] = b"DLEDGSNP";
/// The format version of snapshots that this release writes and the newest it reads.
pub(super) const VERSION: u32 = 1;
/// Where the membership's payload starts.
const FIXED_BYTES: usize = 124;
/// Bounds what is read before a checksum is known to hold; beyond any membership, which is a record.
pub(super) const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// What a snapshot is of, and what its data file must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The group it belongs to.
    pub group: GroupId,
    /// The log up to its last entry: a log can start behind it.
    pub base: LogBase,
    /// Bytes of the data file.
    pub data_bytes: u64,
    /// CRC-32 of the whole data file.
    pub data_crc: u32,
    /// Bytes of a full chunk, header included.
    pub chunk_bytes: u32,
    /// Chunks of the data file, the end among them.
    pub chunks: u64,
    /// Items in it.
    pub items: u64,
}

impl Manifest {
    /// The entry whose state this is.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.base.entry
    }

    /// Its bytes, as they stand in the file and are sent to a peer.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (index, payload) = &self.base.membership;
        let length = u32::try_from(FIXED_BYTES + payload.len()).unwrap_or(u32::MAX);
        let body = Block::with_capacity(FIXED_BYTES + payload.len())
            .u32(length)
            .u128(self.cluster.0)
            .u64(self.group.get())
            .entry_id(self.base.entry)
            .u64(self.base.position.get())
            .u64(self.base.time.get())
            .u64(self.data_bytes)
            .u32(self.data_crc)
            .u32(self.chunk_bytes)
            .u64(self.chunks)
            .u64(self.items)
            .u64(index.get())
            .u32(u32::try_from(payload.len()).unwrap_or(u32::MAX))
            .raw(payload)
            .done();
        let head = Block::with_prefix(MAGIC, VERSION).u32(crc32fast::hash(&body));
        head.raw(&body).done().into()
    }

    /// Reads the bytes of a manifest; `path` is what an error names.
    ///
    /// # Errors
    /// `Unsupported`, `Foreign` when it is not a manifest, `Damaged`.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self, SnapshotError> {
        judge(path, bytes, MAGIC)?;
        let length = Fields::at(bytes, PREFIX_BYTES + CRC_BYTES).and_then(|mut fields| fields.u32());
        let crc = Fields::at(bytes, PREFIX_BYTES).and_then(|mut fields| fields.u32());
        let covered = bytes.get(PREFIX_BYTES + CRC_BYTES..).unwrap_or_default();
        if length.map(|length| length as usize) != Some(bytes.len()) || crc != Some(crc32fast::hash(covered)) {
            return Err(damaged(path, 0, "it does not match its checksum"));
        }
        Self::read(bytes).ok_or_else(|| damaged(path, 0, "its fields cannot be"))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::at(bytes, PREFIX_BYTES + 2 * CRC_BYTES)?;
        let (cluster, group) = (ClusterId(fields.u128()?), GroupId(fields.u64()?));
        let (entry, position, time) = (fields.entry_id()?, fields.position()?, fields.time()?);
        let (data_bytes, data_crc, chunk_bytes) = (fields.u64()?, fields.u32()?, fields.u32()?);
        let (chunks, items) = (fields.u64()?, fields.u64()?);
        let (index, length) = (fields.index()?, fields.u32()? as usize);
        let membership = (index, Bytes::copy_from_slice(fields.bytes(length)?));
        let base = LogBase { entry, position, time, membership };
        let manifest = Self { cluster, group, base, data_bytes, data_crc, chunk_bytes, chunks, items };
        manifest.adds_up().then_some(manifest)
    }

    /// True when data of these chunks can have these bytes.
    fn adds_up(&self) -> bool {
        let full = self.chunks.saturating_sub(2).saturating_mul(u64::from(self.chunk_bytes));
        let frame = (PREFIX_BYTES + END_BYTES) as u64;
        let last = self.data_bytes.checked_sub(frame.saturating_add(full));
        (MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(&self.chunk_bytes)
            && match (self.chunks, last) {
                (1, Some(last)) => last == 0,
                (2.., Some(last)) => last > 0 && last <= u64::from(self.chunk_bytes),
                _ => false,
            }
    }

    /// Where a chunk stands in the data file, and how long it is; `None` behind the end.
    pub(super) fn place(&self, number: u64) -> Option<(u64, usize)> {
        let start = (PREFIX_BYTES as u64).checked_add(number.checked_mul(u64::from(self.chunk_bytes))?)?;
        let end_starts = self.data_bytes.checked_sub(END_BYTES as u64)?;
        let (from, to) = match (number + 1).cmp(&self.chunks) {
            std::cmp::Ordering::Less => (start, end_starts.min(start.checked_add(u64::from(self.chunk_bytes))?)),
            std::cmp::Ordering::Equal => (end_starts, self.data_bytes),
            std::cmp::Ordering::Greater => return None,
        };
        Some((from, usize::try_from(to.checked_sub(from)?).ok()?))
    }
}

/// Judges the prefix of a file of a snapshot.
pub(super) fn judge(path: &Path, bytes: &[u8], magic: &[u8; 8]) -> Result<(), SnapshotError> {
    match prefix(bytes, magic, VERSION) {
        Prefix::Ours => Ok(()),
        Prefix::Version(found) => Err(SnapshotError::Unsupported { path: path.to_owned(), found, supported: VERSION }),
        // It is where only this store writes: whatever it was, it is not that any more.
        Prefix::Foreign | Prefix::Damaged => Err(damaged(path, 0, "its first bytes are not those of such a file")),
    }
}
