//! What a stopped node's directory holds, for the comparison of survivors. Changes nothing.

use std::path::{Path, PathBuf};

use crate::commitlog::inspect::inspect;
use crate::commitlog::layout::{IDENTITY_FILE, LOCK_FILE};
use crate::commitlog::repair::{self, Examined as Log};
use crate::commitlog::{DirLock, Identity, load_identity, lock_data_dir};
use crate::env::Disk;
use crate::error::OpenError;
use crate::failure::Blame;
use crate::raft::Membership;
use crate::snapshot::{CHUNK_BYTES, SnapshotError, SnapshotOptions, newest_of};
use crate::types::{ClusterId, EntryId, Epoch, GroupId, Index, LogBase, NodeId, Vote};

use super::{Environment, RecoverError, Survivor, group_of};

/// What a survivor has.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Which life of it.
    pub epoch: Epoch,
    /// The members by its log; `None` when damage hides them.
    pub members: Option<Membership>,
    /// The last entry that it has, in its log or in its newest snapshot.
    pub last: EntryId,
    /// Term and vote.
    pub vote: Vote,
    /// An index that it knows to be committed; the truth may be further.
    pub committed: Index,
    /// The base of its newest good snapshot.
    pub snapshot: Option<LogBase>,
    /// What is missing before its last entry, or why that is not known. Such a survivor is not gone on with.
    pub damage: Option<String>,
    /// Why acknowledged entries may be missing behind its last entry, although what it has is sound.
    pub power_lost: Option<String>,
}

impl Examined {
    /// What to tell the recovery of another survivor.
    #[must_use]
    pub const fn survivor(&self) -> Survivor {
        Survivor { id: self.node, last: self.last }
    }

    /// Whether the node is the only voter of its cluster.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.members.as_ref().is_some_and(|members| members.quorum().is_alone(self.node))
    }
}

/// Reads the directory of a stopped node: all of its log and its newest snapshot. Changes nothing. Blocks.
///
/// # Errors
/// `NotFormed`; `Directory` when it is somebody's, in use, or cannot be read.
pub fn examine(environment: &Environment, data_dir: &Path) -> Result<Examined, RecoverError> {
    let names = environment.disk.list(data_dir).blame(data_dir)?;
    // A copy without a lock file is nobody's, and stays without one.
    let place = match names.iter().any(|name| name == LOCK_FILE) {
        true => Place::locked(environment, data_dir)?,
        false => Place::of(environment, data_dir, None)?,
    };
    place.examine()
}

/// The directory of a node that belongs to a cluster.
pub(super) struct Place<'a> {
    environment: &'a Environment,
    pub(super) data_dir: PathBuf,
    pub(super) group: PathBuf,
    identity: Identity,
    cluster: ClusterId,
    _lock: Option<DirLock>,
}

impl<'a> Place<'a> {
    /// Takes the directory, so that no node runs in it. One that is nobody's is not made ours by that.
    pub(super) fn locked(environment: &'a Environment, data_dir: &Path) -> Result<Self, RecoverError> {
        let disk = environment.disk.as_ref();
        let names = disk.list(data_dir).blame(data_dir)?;
        let lock = match names.iter().any(|name| name == IDENTITY_FILE) {
            true => Some(lock_data_dir(disk, data_dir)?),
            false => None,
        };
        Self::of(environment, data_dir, lock)
    }

    fn of(environment: &'a Environment, data_dir: &Path, lock: Option<DirLock>) -> Result<Self, RecoverError> {
        let disk = environment.disk.as_ref();
        let Some(identity) = load_identity(disk, data_dir)? else { return Err(nobodys(disk, data_dir)?) };
        let Some(cluster) = identity.cluster else {
            return Err(RecoverError::NotFormed { path: data_dir.to_owned() });
        };
        let group = group_of(data_dir);
        Ok(Self { environment, data_dir: data_dir.to_owned(), group, identity, cluster, _lock: lock })
    }

    pub(super) fn examine(&self) -> Result<Examined, RecoverError> {
        let disk = self.environment.disk.as_ref();
        let lost_vote = || OpenError::LostVote { path: self.group.join(crate::commitlog::layout::VOTE_FILE) };
        let vote = inspect(disk, &self.group)?.vote().ok_or_else(lost_vote)?;
        let log = repair::examine(disk, &self.group)?;
        let snapshot = self.snapshot()?;
        let covered = snapshot.as_ref().map(|base| base.entry).unwrap_or_default();
        // Of a log that lacks the snapshot's entry nothing counts (see `commitlog::reset`).
        let behind = covered == EntryId::ZERO || log.has(covered);
        let last = if behind { log.last } else { covered };
        let named = match &snapshot {
            Some(base) if !behind || base.membership.0 > log.membership.0 => &base.membership,
            Some(_) | None => &log.membership,
        };
        let members = Membership::decode(&named.1).ok().filter(|members| members.cluster == self.cluster);
        let missing = members.is_none().then(|| "nothing in it names the members".to_owned());
        let epoch = members.as_ref().map_or(self.identity.epoch, |members| members.epoch.or_later(self.identity.epoch));
        Ok(Examined {
            node: self.identity.node,
            cluster: self.cluster,
            epoch,
            members,
            last,
            vote,
            committed: log.committed.max(covered.index),
            damage: damage(&log, covered).or(missing),
            power_lost: log.power_lost,
            snapshot,
        })
    }

    fn snapshot(&self) -> Result<Option<LogBase>, OpenError> {
        let whose = SnapshotOptions { cluster: self.cluster, group: GroupId::FIRST, chunk_bytes: CHUNK_BYTES };
        let newest = newest_of(self.environment.disk.clone(), &self.group, whose);
        newest.map(|newest| newest.good.map(|good| good.manifest().base.clone())).map_err(|error| match error {
            SnapshotError::Unsupported { path, found, supported } => OpenError::Unsupported { path, found, supported },
            SnapshotError::Io { path, source } => OpenError::Io { path, source },
            SnapshotError::Damaged { .. }
            | SnapshotError::Foreign { .. }
            | SnapshotError::Exists { .. }
            | SnapshotError::TooLarge { .. }
            | SnapshotError::Refused { .. }
            | SnapshotError::DiskFull { .. }
            | SnapshotError::Capture(_)
            | SnapshotError::Restore(_) => OpenError::Foreign { path: self.group.clone(), reason: error.to_string() },
        })
    }
}

/// Why a directory without an identity is not that of a node.
fn nobodys(disk: &dyn Disk, data_dir: &Path) -> Result<RecoverError, OpenError> {
    let names = disk.list(data_dir).blame(data_dir)?;
    let path = data_dir.to_owned();
    Ok(match names.into_iter().find(|name| name != LOCK_FILE) {
        Some(name) => OpenError::Foreign { path, reason: format!("it holds `{name}` and no identity") }.into(),
        None => RecoverError::NotFormed { path },
    })
}

/// What stands in the way of going on with a log whose newest snapshot is `covered`.
fn damage(log: &Log, covered: EntryId) -> Option<String> {
    if log.base.index > covered.index {
        return Some(format!("it begins behind {}, and no snapshot that reaches there can be used", log.base));
    }
    let hole = log.holes.iter().find(|hole| !hole.is_covered(covered.index));
    let hole = hole.map(|hole| {
        format!(
            "{} cannot be read at offset {} (index {}): {}",
            hole.path.display(),
            hole.offset,
            hole.first,
            hole.reason
        )
    });
    let lost = log.lost.filter(|index| *index > covered.index);
    let lost = lost.map(|index| format!("the segment that holds index {index} is lost"));
    let doubt = log.last_in_doubt.as_ref().map(|reason| format!("its last entry is in doubt: {reason}"));
    hole.or(lost).or(doubt)
}
