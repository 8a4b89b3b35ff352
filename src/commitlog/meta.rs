//! The vote file: the term and the vote that Raft must not forget.
//!
//! ```text
//!   block 0, 1   one generation, twice      generation g stands in pair g % 2;
//!   block 2, 3   the next one, twice        each write is one generation and one sync
//! ```
//! A torn write damages at most the pair it writes, whose generation was then never acknowledged; the older pair
//! counts only when both copies of the newer are bad. Opening never overwrites: it writes what it read to a new
//! file and renames it, because after a failed sync the page cache may show what the disk does not hold, and any
//! of the two pairs may then be the only durable one.
//!
//! Deliberately absent: what a vote means.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::{NEW_VOTE_FILE, VOTE_FILE};
use super::segment::{BLOCK, BLOCK_BYTES};
use crate::env::{Disk, File, OpenMode};
use crate::error::OpenError;
use crate::failure::{self, Blame};
use crate::fields::{Block, CRC_BYTES, Fields, PREFIX_BYTES, Prefix, prefix};
use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::{Plant, Plants};
use crate::types::{ClusterId, GroupId, NodeId, Term, Vote};

const MAGIC: &[u8; 8] = b"DLEDGVOT";
const VERSION: u32 = 1;
const SLOTS: u64 = 4;
const COPIES: u64 = 2;
/// Where the checksummed part of a slot starts.
const COVERED_FROM: usize = PREFIX_BYTES + CRC_BYTES;
/// Bytes of a slot.
const SLOT_BYTES: usize = 68;

/// Whose vote it is: a file copied from another directory is told by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) cluster: ClusterId,
    pub(super) group: GroupId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct VoteSlot {
    owner: Owner,
    generation: u64,
    vote: Vote,
}

impl VoteSlot {
    fn encode(&self) -> Vec<u8> {
        let covered = Block::default()
            .u128(self.owner.cluster.0)
            .u64(self.owner.group.get())
            .u64(self.generation)
            .u64(self.vote.term.get())
            .u64(self.vote.voted_for.get())
            .done();
        Block::with_prefix(MAGIC, VERSION).u32(crc32fast::hash(&covered)).raw(&covered).padded(BLOCK_BYTES).done()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let crc = Fields::at(bytes, PREFIX_BYTES)?.u32()?;
        let covered = bytes.get(COVERED_FROM..SLOT_BYTES)?;
        if crc32fast::hash(covered) != crc {
            return None;
        }
        let mut fields = Fields::new(covered);
        let owner = Owner { cluster: ClusterId(fields.u128()?), group: GroupId(fields.u64()?) };
        let generation = fields.u64()?;
        let vote = Vote { term: Term(fields.u64()?), voted_for: NodeId(fields.u64()?) };
        Some(Self { owner, generation, vote })
    }

    fn check_owner(&self, group_dir: &Path, owner: Owner) -> Result<(), OpenError> {
        if self.owner == owner {
            return Ok(());
        }
        let reason = format!(
            "its vote file is of cluster {}, group {}, not of cluster {}, group {}",
            self.owner.cluster, self.owner.group, owner.cluster, owner.group
        );
        Err(OpenError::Identity { path: group_dir.to_owned(), reason })
    }

    fn write_to(&self, file: &dyn File) -> io::Result<()> {
        let block = self.encode();
        file.write_all_at(&[IoSlice::new(&block), IoSlice::new(&block)], (self.generation % COPIES) * COPIES * BLOCK)
    }
}

/// The vote file, open for writing.
pub(super) struct VoteFile {
    file: Arc<dyn File>,
    newest: VoteSlot,
}

impl VoteFile {
    /// Makes the file anew with `vote` as its only content, durable when this returns.
    pub(super) fn create(disk: &dyn Disk, group_dir: &Path, owner: Owner, vote: Vote) -> Result<Self, OpenError> {
        Self::replace(disk, group_dir, VoteSlot { owner, generation: 1, vote })
    }

    /// Reads the file and makes it anew with the same vote, so that what was read is durable. `None` when there is
    /// no such file.
    pub(super) fn open(
        disk: &dyn Disk,
        group_dir: &Path,
        owner: Owner,
        plants: Plants,
    ) -> Result<Option<Self>, OpenError> {
        let Some(newest) = read(disk, group_dir, plants)? else { return Ok(None) };
        reach(Mark::R21);
        newest.check_owner(group_dir, owner)?;
        let generation = newest.generation.saturating_add(1);
        Self::replace(disk, group_dir, VoteSlot { generation, ..newest }).map(Some)
    }

    fn replace(disk: &dyn Disk, group_dir: &Path, newest: VoteSlot) -> Result<Self, OpenError> {
        let unfinished = group_dir.join(NEW_VOTE_FILE);
        let needed = SLOTS * BLOCK;
        failure::remove_if_there(disk, &unfinished)?;
        let file = disk.open(&unfinished, OpenMode::Create).blame_room(&unfinished, needed)?;
        let blank = vec![0; BLOCK_BYTES * 2];
        file.write_all_at(&[IoSlice::new(&blank), IoSlice::new(&blank)], 0).blame_room(&unfinished, needed)?;
        newest.write_to(&*file).blame_room(&unfinished, needed)?;
        file.sync().blame_room(&unfinished, needed)?;
        disk.rename(&unfinished, &group_dir.join(VOTE_FILE)).blame_room(&unfinished, needed)?;
        disk.sync_dir(group_dir).blame(group_dir)?;
        Ok(Self { file, newest })
    }

    /// The vote that is durable.
    pub(super) fn vote(&self) -> Vote {
        self.newest.vote
    }

    /// Writes a vote, durable when this returns. After an error nobody knows which vote the disk holds.
    pub(super) fn write(&mut self, vote: Vote, plants: Plants) -> io::Result<()> {
        let next = VoteSlot { generation: self.newest.generation.saturating_add(1), vote, ..self.newest };
        next.write_to(&*self.file)?;
        if !plants.has(Plant::VoteNotSynced) {
            self.file.sync()?;
        }
        self.newest = next;
        Ok(())
    }
}

/// The newest vote in a group's vote file, without changing anything; `None` when there is no file.
pub(super) fn read_vote(disk: &dyn Disk, group_dir: &Path) -> Result<Option<Vote>, OpenError> {
    Ok(read(disk, group_dir, Plants::NONE)?.map(|slot| slot.vote))
}

/// The same, refused when it is of another cluster or group.
pub(super) fn read_own_vote(disk: &dyn Disk, group_dir: &Path, owner: Owner) -> Result<Option<Vote>, OpenError> {
    let Some(newest) = read(disk, group_dir, Plants::NONE)? else { return Ok(None) };
    newest.check_owner(group_dir, owner)?;
    Ok(Some(newest.vote))
}

/// The cluster and group that a group's vote file names; `None` when nothing of it can be read.
pub(super) fn read_owner(disk: &dyn Disk, group_dir: &Path) -> Option<Owner> {
    read(disk, group_dir, Plants::NONE).ok().flatten().map(|slot| slot.owner)
}

/// The file and the offset of a copy that cannot be read, when there is one. In the pair that looks older too: it may be
/// the newer one, with both its copies gone. The file may be written meanwhile: it is read twice.
pub(super) fn bad_copy(disk: &dyn Disk, group_dir: &Path) -> Option<(PathBuf, u64)> {
    let path = group_dir.join(VOTE_FILE);
    let look = || {
        let newest = match read(disk, group_dir, Plants::NONE) {
            Ok(newest) => newest?,
            Err(OpenError::LostVote { path }) => return Some((path, 0)),
            Err(_) => return None,
        };
        let file = disk.open(&path, OpenMode::Read).ok()?;
        let bad = (0..SLOTS).find(|slot| {
            let mut block = [0; SLOT_BYTES];
            if file.read_exact_at(&mut block, slot * BLOCK).is_err() {
                return true;
            }
            let ours = prefix(&block, MAGIC, VERSION) == Prefix::Ours;
            match VoteSlot::decode(&block).filter(|_copy| ours) {
                Some(copy) => slot / COPIES == newest.generation % COPIES && copy != newest,
                // The pair that no vote has gone to since the file was made.
                None => slot / COPIES == newest.generation % COPIES || block != [0; SLOT_BYTES],
            }
        })?;
        Some((path.clone(), bad * BLOCK))
    };
    look().and_then(|_first_look| look())
}

fn read(disk: &dyn Disk, group_dir: &Path, plants: Plants) -> Result<Option<VoteSlot>, OpenError> {
    let path: PathBuf = group_dir.join(VOTE_FILE);
    let file = match disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let mut copies: Vec<(u64, VoteSlot)> = Vec::new();
    for slot in 0..SLOTS {
        let mut block = [0; SLOT_BYTES];
        // R13: a copy whose sector cannot be read is a bad copy; the others still count.
        if file.read_exact_at(&mut block, slot * BLOCK).is_err() {
            continue;
        }
        match prefix(&block, MAGIC, VERSION) {
            Prefix::Ours => {}
            Prefix::Version(found) => return Err(OpenError::Unsupported { path, found, supported: VERSION }),
            Prefix::Foreign | Prefix::Damaged => continue,
        }
        let pair = slot / COPIES;
        let believed = plants.has(Plant::StaleVoteBelieved) && copies.last().is_some_and(|(before, _)| *before == pair);
        copies.extend(VoteSlot::decode(&block).filter(|_copy| !believed).map(|copy| (pair, copy)));
    }
    // A copy that reads well may be one of an earlier write, when its drive lost the last one.
    let newest = copies.iter().map(|(_pair, copy)| *copy).max_by_key(|copy| copy.generation);
    // R14: no copy at all is readable.
    let newest = newest.ok_or(OpenError::LostVote { path })?;
    let twin = |(pair, copy): &(u64, VoteSlot)| *pair == newest.generation % COPIES && *copy != newest;
    if copies.iter().any(twin) {
        reach(Mark::VoteOutlived);
    }
    Ok(Some(newest))
}
