//! Where the log begins: the base, and the file that says it once the front of the log was dropped.
//!
//! ```text
//!   purge   ─► the file names the first segment that stays ─► the segments before it are removed
//!   reset   ─► the file names a segment to be made, begun  ─► it is made ─► the file, done ─► the others are removed
//!   opening ─► segments of a lower generation than the file names are gone, whether or not they still stand there
//! ```
//! A log without that file begins with index 1. So a front that was dropped and a front that was lost are told apart by
//! the log itself, whoever opens it, and removals may reach the disk in any order. The file also stands in for the last
//! dropped segment, which would have vouched for the header of the first one that stays. It holds two copies, because
//! no peer knows where this log begins. Deliberately absent: who may drop what.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::layout::{BASE_FILE, NEW_BASE_FILE};
use super::meta::Owner;
use super::segment::BLOCK_BYTES;
use super::segment::header::{MAX_MEMBERSHIP_BYTES, SegmentHeader};
use crate::env::{Disk, OpenMode};
use crate::error::OpenError;
use crate::failure::Blame;
use crate::fields::{Block, Fields, PREFIX_BYTES, Prefix, checksum_holds, prefix};
use crate::types::{ClusterId, GroupId, Index, LogBase};

const MAGIC: &[u8; 8] = b"DLEDGBAS";
const VERSION: u32 = 1;
/// Where the fixed fields end and the membership starts.
const FIXED_BYTES: usize = PREFIX_BYTES + 16 + 8 + 8 + 1 + 16 + 8 + 8 + 8 + 4;
/// Bounds what is read before a checksum is known to hold.
const MAX_COPY_BYTES: usize = MAX_MEMBERSHIP_BYTES + BLOCK_BYTES;
/// How often it stands in the file.
const COPIES: u64 = 2;

/// Where the log begins, as the header of a segment that nothing stands before says it.
pub(super) fn base_of(first: &SegmentHeader) -> LogBase {
    LogBase {
        entry: first.previous,
        position: first.first_position,
        time: first.previous_time,
        membership: first.membership.clone(),
    }
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// The lowest generation that counts; 0 without a file.
    pub(super) generation: u64,
    /// A reset was begun: the segment of that generation may not be there yet, and nothing in it is acknowledged.
    pub(super) resetting: bool,
    pub(super) base: LogBase,
}

impl Start {
    /// The header of the segment that a log without entries begins with.
    pub(super) fn first_header(&self, owner: Owner, wall_ms: u64) -> SegmentHeader {
        let LogBase { entry, position, time, membership } = self.base.clone();
        SegmentHeader {
            cluster: owner.cluster,
            group: owner.group,
            generation: self.generation.max(1),
            first_position: position,
            previous: entry,
            previous_time: time,
            wall_ms,
            membership,
        }
    }
}

/// Reads the file; `None` when there is none, and so nothing was ever dropped.
///
/// # Errors
/// `Corrupt` when no copy is good, `Unsupported`, `Identity` when it is of another log, and `Io`.
pub(super) fn load(disk: &dyn Disk, group_dir: &Path, owner: Option<Owner>) -> Result<Option<Start>, OpenError> {
    let Some(copies) = read_copies(disk, group_dir)? else { return Ok(None) };
    let (mut good, mut refused) = (None, None);
    for copy in copies {
        match copy {
            Ok(copy) => _ = good.get_or_insert(copy),
            // R4: another copy that reads well changes nothing about that.
            Err(later @ OpenError::Unsupported { .. }) => return Err(later),
            Err(error) => _ = refused.get_or_insert(error),
        }
    }
    let Some((found, start)) = good else { return Err(refused.unwrap_or_else(|| damaged(group_dir))) };
    match owner.filter(|owner| *owner != found) {
        None => Ok(Some(start)),
        // R6
        Some(owner) => {
            let reason = format!(
                "its base file is of cluster {}, group {}, not of cluster {}, group {}",
                found.cluster, found.group, owner.cluster, owner.group
            );
            Err(OpenError::Identity { path: group_dir.to_owned(), reason })
        }
    }
}

/// The file and the offset of a copy in it that cannot be read.
pub(super) fn bad_copy(disk: &dyn Disk, group_dir: &Path) -> Option<(PathBuf, u64)> {
    let path = group_dir.join(BASE_FILE);
    let Ok(Some(copies)) = read_copies(disk, group_dir) else { return Some((path, 0)) };
    let bad = copies.iter().position(Result::is_err)? as u64;
    let length = disk.open(&path, OpenMode::Read).and_then(|file| file.len()).unwrap_or(0);
    Some((path, bad * (length / COPIES)))
}

/// Whose each copy is, and what it says.
type Copies = Vec<Result<(Owner, Start), OpenError>>;

fn read_copies(disk: &dyn Disk, group_dir: &Path) -> Result<Option<Copies>, OpenError> {
    let path = group_dir.join(BASE_FILE);
    let file = match disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let copy_bytes = file.len().blame(&path)? / COPIES;
    let read = |copy: u64| {
        let mut bytes = vec![0; usize::try_from(copy_bytes).unwrap_or(usize::MAX).min(MAX_COPY_BYTES)];
        // R17: a copy whose sector cannot be read is a bad copy.
        file.read_exact_at(&mut bytes, copy * copy_bytes).map_err(|_unreadable| damaged(group_dir))?;
        match prefix(&bytes, MAGIC, VERSION) {
            Prefix::Version(found) => Err(OpenError::Unsupported { path: path.clone(), found, supported: VERSION }),
            Prefix::Foreign | Prefix::Damaged => Err(damaged(group_dir)),
            Prefix::Ours => decode(&bytes).ok_or_else(|| damaged(group_dir)),
        }
    };
    Ok(Some((0..COPIES).map(read).collect()))
}

fn damaged(group_dir: &Path) -> OpenError {
    let reason = "no copy of where the log begins can be read".to_owned();
    OpenError::Corrupt { path: group_dir.join(BASE_FILE), offset: 0, index: Index::ZERO, reason }
}

/// Bytes that the file takes.
pub(super) fn file_bytes(start: &Start) -> u64 {
    let copy = (FIXED_BYTES + start.base.membership.1.len() + 4).next_multiple_of(BLOCK_BYTES);
    copy as u64 * COPIES
}

/// Writes the file anew, durable when this returns. A crash leaves the old one or the new one. An error that says that
/// the disk is full came before the file took its name.
pub(super) fn store(disk: &dyn Disk, group_dir: &Path, owner: Owner, start: &Start) -> io::Result<()> {
    let unfinished = group_dir.join(NEW_BASE_FILE);
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copy = encode(owner, start);
    copy.resize(copy.len().next_multiple_of(BLOCK_BYTES), 0);
    let file = disk.open(&unfinished, OpenMode::Create)?;
    file.write_all_at(&[IoSlice::new(&copy), IoSlice::new(&copy)], 0)?;
    file.sync()?;
    disk.rename(&unfinished, &group_dir.join(BASE_FILE))?;
    // From here on the file may be found: whatever fails now is no mere lack of room.
    disk.sync_dir(group_dir).map_err(|error| io::Error::other(error.to_string()))
}

fn encode(owner: Owner, start: &Start) -> Vec<u8> {
    let (membership_index, membership) = &start.base.membership;
    Block::with_prefix(MAGIC, VERSION)
        .u128(owner.cluster.0)
        .u64(owner.group.get())
        .u64(start.generation)
        .u8(u8::from(start.resetting))
        .entry_id(start.base.entry)
        .u64(start.base.position.get())
        .u64(start.base.time.get())
        .u64(membership_index.get())
        .u32(u32::try_from(membership.len()).unwrap_or(u32::MAX))
        .raw(membership)
        .sealed_from(PREFIX_BYTES)
        .done()
}

fn decode(bytes: &[u8]) -> Option<(Owner, Start)> {
    let membership_bytes = Fields::at(bytes, FIXED_BYTES - 4)?.u32()? as usize;
    if !checksum_holds(bytes, PREFIX_BYTES, FIXED_BYTES.checked_add(membership_bytes)?) {
        return None;
    }
    let mut fields = Fields::at(bytes, PREFIX_BYTES)?;
    let owner = Owner { cluster: ClusterId(fields.u128()?), group: GroupId(fields.u64()?) };
    let (generation, resetting) = (fields.u64()?, fields.u8()? == 1);
    let (entry, position, time) = (fields.entry_id()?, fields.position()?, fields.time()?);
    let membership_index = fields.index()?;
    let membership_bytes = fields.u32()? as usize;
    let membership = (membership_index, Bytes::copy_from_slice(fields.bytes(membership_bytes)?));
    let base = LogBase { entry, position, time, membership };
    (generation > 0).then_some((owner, Start { generation, resetting, base }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::memory::{Fate, MemoryDisk};
    use crate::types::{EntryId, LogTime, Position, Term};

    const OWNER: Owner = Owner { cluster: ClusterId(0xc1), group: GroupId::FIRST };

    fn dir() -> &'static Path {
        Path::new("/group")
    }

    fn start(membership_bytes: usize) -> Start {
        let base = LogBase {
            entry: EntryId::new(Index(40), Term(3)),
            position: Position(9_000),
            time: LogTime(77),
            membership: (Index(12), Bytes::from(vec![5; membership_bytes])),
        };
        Start { generation: 6, resetting: true, base }
    }

    fn disk() -> MemoryDisk {
        let memory = MemoryDisk::new();
        memory.handle().create_dir_all(dir()).unwrap();
        memory.handle().sync_dir(Path::new("/")).unwrap();
        memory
    }

    #[test]
    fn base_file_after_store_reads_back_over_a_power_cut() {
        for membership_bytes in [0, 10, BLOCK_BYTES, 3 * BLOCK_BYTES] {
            let (memory, start) = (disk(), start(membership_bytes));
            assert_eq!(load(&*memory.handle(), dir(), Some(OWNER)).unwrap(), None);
            store(&*memory.handle(), dir(), OWNER, &start).unwrap();
            memory.power_cut(|_| Fate::Lost);
            assert_eq!(load(&*memory.handle(), dir(), Some(OWNER)).unwrap(), Some(start.clone()));
            let length = memory.handle().open(&dir().join(BASE_FILE), OpenMode::Read).unwrap().len().unwrap();
            assert_eq!(length, file_bytes(&start));
            assert_eq!(bad_copy(&*memory.handle(), dir()), None);
        }
    }

    #[test]
    fn base_file_with_any_flipped_byte_reads_from_its_other_copy() {
        let (memory, start) = (disk(), start(10));
        store(&*memory.handle(), dir(), OWNER, &start).unwrap();
        let copy = BLOCK_BYTES as u64;
        let meaning = (FIXED_BYTES + 10 + 4) as u64;
        for at in 0..meaning {
            for (first, second) in [(at, None), (copy + at, None), (at, Some(copy + at))] {
                let fork = memory.fork();
                let path = dir().join(BASE_FILE);
                fork.flip_byte(&path, first).unwrap();
                second.into_iter().for_each(|second| fork.flip_byte(&path, second).unwrap());
                let found = load(&*fork.handle(), dir(), Some(OWNER));
                match second {
                    None => assert_eq!(found.unwrap(), Some(start.clone()), "byte {first}"),
                    Some(_) => assert!(matches!(found, Err(OpenError::Corrupt { .. })), "byte {first}: {found:?}"),
                }
                assert_eq!(bad_copy(&*fork.handle(), dir()), Some((path, first / copy * copy)), "byte {first}");
            }
        }
    }

    #[test]
    fn base_file_of_another_log_or_a_later_version_is_refused_as_such() {
        let memory = disk();
        store(&*memory.handle(), dir(), OWNER, &start(0)).unwrap();
        let other = Owner { group: GroupId(9), ..OWNER };
        assert!(matches!(load(&*memory.handle(), dir(), Some(other)), Err(OpenError::Identity { .. })));
        let file = memory.handle().open(&dir().join(BASE_FILE), OpenMode::Write).unwrap();
        let later = Block::with_prefix(MAGIC, VERSION + 1).done();
        file.write_all_at(&[IoSlice::new(&later)], BLOCK_BYTES as u64).unwrap();
        assert!(matches!(load(&*memory.handle(), dir(), Some(OWNER)), Err(OpenError::Unsupported { found: 2, .. })));
    }
}
