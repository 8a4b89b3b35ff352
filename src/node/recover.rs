//! Goes on with one survivor of a cluster that has lost its majority for good: offline, and only when told to.
//!
//! ```text
//!   examine, on every survivor ──► ID=TERM:INDEX of each          changes nothing
//!   recover, on the best of them ─► term above all it knows        ┐ one write to the log: before it the node is of the
//!                                   membership: itself, next epoch ┘ old cluster, after it of the recovered one
//!                                 ─► identity: that epoch, itself as its only member
//! ```
//! **What is given up.** A write that was acknowledged and stands only on lost disks is gone. A write that ended *unknown*
//! may have happened: whatever stands in the survivor's log counts as committed from now on. The best survivor (highest
//! term of the last entry, then highest index: who would win an election) has every acknowledged write that any of them
//! has.
//!
//! **What keeps the old ones away.** Nobody asked the majority, so it may be alive, or come back, and elect a leader of its
//! own. The *epoch* tells the two apart: it stands in the membership, so in the log, in every snapshot and in what nodes say
//! when they connect, and nodes of two epochs refuse each other. A recovery draws a random number into it: two survivors
//! that were both recovered are of two epochs as well. That does not keep clients from the old ones: stop them.
//!
//! Invariants:
//! - A crash at any point leaves the old node or the recovered one. The identity follows the log: at the next start
//!   (`follow`), or when the recovery is run again.
//! - Exactly one of the survivors that all know of each other takes itself for the best: of equal ones the lowest number.
//!
//! Deliberately absent: asking other nodes. Whether a disk is lost for good is known to people only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::commitlog::layout::group_dir;
use crate::commitlog::{
    self, Identity, LogFault, LogOptions, Opened, WriteBatch, frame, load_identity, store_identity,
};
use crate::config::{Config, Members};
use crate::env::Disk;
use crate::error::OpenError;
use crate::raft::Membership;
use crate::types::{EntryId, Epoch, GroupId, Kind, NodeId, Vote};

use super::Environment;

mod examine;
mod survivor;

pub use examine::{Examined, examine};
pub use survivor::Survivor;

use examine::Place;

/// What is to be recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverOptions {
    /// The directory of the survivor that is to go on.
    pub data_dir: PathBuf,
    /// What [`examine`] said of every other survivor. Members that are not among them count as lost for good.
    pub others: Vec<Survivor>,
}

/// A survivor that goes on alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Which.
    pub node: NodeId,
    /// Where it is reached.
    pub address: String,
    /// The epoch that it has begun.
    pub epoch: Epoch,
    /// Its last entry; everything up to there counts as committed.
    pub last: EntryId,
    /// It was recovered before: nothing was changed, but what a crash had left out.
    pub already: bool,
}

/// Why nothing was recovered; nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The survivors that were named do not fit the directory.
    #[error("{0}")]
    Usage(String),
    /// The directory belongs to no cluster.
    #[error("{} has never belonged to a cluster: there is nothing in it to recover", path.display())]
    NotFormed {
        /// The directory.
        path: PathBuf,
    },
    /// A cluster of one has no majority beside itself.
    #[error("node {node} is the only voter of its cluster: no majority is lost, start it")]
    Alone {
        /// The node.
        node: NodeId,
    },
    /// The log does not name its node.
    #[error("node {node} is not a member of the cluster by its own log: recover another survivor")]
    NotAMember {
        /// The node.
        node: NodeId,
    },
    /// Something is missing before the end of the log, or the end is not known.
    #[error(
        "the log of node {node} is not whole: {reason}; recover another survivor, or, when there is none, see what `kvcli log repair --data-dir DIR` can keep"
    )]
    Damaged {
        /// The node.
        node: NodeId,
        /// What is wrong.
        reason: String,
    },
    /// The survivors are a majority.
    #[error("{survivors} survivors are a majority of the voters: nothing is lost, start them")]
    NotLost {
        /// How many, this one included.
        survivors: usize,
    },
    /// Another survivor has more.
    #[error("node {} is the better survivor ({better}, this is {own}): recover that one, since acknowledged writes may stand only there", better.id)]
    NotBest {
        /// This one.
        own: Survivor,
        /// The best.
        better: Survivor,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
}

/// Makes the stopped node of a directory a cluster of itself, in a new epoch, when it is the best survivor. Durable when
/// this returns; running it again changes nothing. Blocks as long as reading the whole log and the newest snapshot takes.
///
/// # Errors
/// See [`RecoverError`]. After `Directory` with `Io` or `DiskFull` the directory is the old one or the recovered one: run it
/// again to know.
pub fn recover(environment: &Environment, options: &RecoverOptions) -> Result<Recovered, RecoverError> {
    let disk = environment.disk.as_ref();
    let place = Place::locked(environment, &options.data_dir)?;
    let found = place.examine()?;
    let members = found.members.as_ref();
    if let Some(members) = members.filter(|members| members.epoch != Epoch::FIRST && found.is_alone()) {
        follow(disk, &options.data_dir, members)?;
        return Ok(done(&found, members, found.last, true));
    }
    judge(&found, &options.others)?;
    // The identity of a node whose log was cut back may be of a later epoch: that one has been used.
    let latest = members.map(|members| Membership { epoch: found.epoch, ..members.clone() });
    let next = latest.and_then(|latest| latest.recovered_by(found.node, environment.entropy.next_u64()));
    let next = next.ok_or(RecoverError::NotAMember { node: found.node })?;
    let last = begin(environment, &place, &found, &next)?;
    follow(disk, &options.data_dir, &next)?;
    Ok(done(&found, &next, last, false))
}

fn done(found: &Examined, members: &Membership, last: EntryId, already: bool) -> Recovered {
    let address = members.member(found.node).map(|member| member.address.clone()).unwrap_or_default();
    Recovered { node: found.node, address, epoch: members.epoch, last, already }
}

/// Whether this is the survivor to go on with.
fn judge(found: &Examined, others: &[Survivor]) -> Result<(), RecoverError> {
    let node = found.node;
    if found.is_alone() {
        return Err(RecoverError::Alone { node });
    }
    if let Some(reason) = &found.damage {
        return Err(RecoverError::Damaged { node, reason: reason.clone() });
    }
    let Some(members) = found.members.as_ref().filter(|members| members.member(node).is_some()) else {
        return Err(RecoverError::NotAMember { node });
    };
    let mut ids: Vec<NodeId> = others.iter().map(|other| other.id).chain([node]).collect();
    ids.sort_unstable();
    if let Some(twin) = ids.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
        return Err(RecoverError::Usage(format!(
            "node {twin} is named twice, or is the one to recover; name each other survivor once"
        )));
    }
    if let Some(stranger) = ids.iter().find(|id| members.member(**id).is_none()) {
        return Err(RecoverError::Usage(format!(
            "node {stranger} is not a member of the cluster by the log of node {node}; name only members"
        )));
    }
    if members.quorum().agreed(|id| u64::from(ids.binary_search(&id).is_ok())) == 1 {
        return Err(RecoverError::NotLost { survivors: ids.len() });
    }
    let own = found.survivor();
    if let Some(better) = others.iter().copied().filter(|other| other.is_better_than(own)).max_by_key(Survivor::rank) {
        return Err(RecoverError::NotBest { own, better });
    }
    Ok(())
}

/// Puts the membership behind the last entry, durably: from then on this is the recovered cluster.
fn begin(
    environment: &Environment,
    place: &Place,
    found: &Examined,
    next: &Membership,
) -> Result<EntryId, RecoverError> {
    let mut opened = open(environment, place, found)?;
    let state = &opened.state;
    if state.last != found.last {
        let reason = format!("its log ends with {}, a moment ago it was {}", state.last, found.last);
        return Err(RecoverError::Damaged { node: found.node, reason });
    }
    let term = state.vote.term.max(state.last.term).next();
    let id = EntryId::new(state.last.index.next(), term);
    let mut record = Vec::new();
    frame(&mut record, id, state.end, state.last_time, Kind::Membership, 0, &next.encode());
    let vote = Some(Vote { term, voted_for: found.node });
    let batch = WriteBatch { vote, records: vec![record.into()], committed: id.index, ..WriteBatch::default() };
    let writer = &mut opened.writer;
    let written = writer.write(&batch).and_then(|()| writer.flush()).and_then(|()| writer.close(id.index));
    written.map_err(|fault| fault_of(&place.group, &fault))?;
    Ok(id)
}

/// Opens the log behind what the newest snapshot holds, as the node does when it starts.
fn open(environment: &Environment, place: &Place, found: &Examined) -> Result<Opened, RecoverError> {
    let knobs = Config::single(&place.data_dir);
    let covered = found.snapshot.as_ref().map(|base| base.entry.index).unwrap_or_default();
    let open = || {
        let options = LogOptions {
            cluster: found.cluster,
            group: GroupId::FIRST,
            segment_bytes: knobs.segment_bytes,
            max_record_bytes: knobs.max_record_bytes,
            durability: knobs.durability,
            wall_ms: environment.clock.wall_ms(),
            covered,
        };
        commitlog::open_alone(Arc::clone(&environment.disk), &place.group, options)
    };
    let mut opened = open()?;
    let Some(base) = found.snapshot.as_ref().filter(|base| !opened.state.has(base.entry)) else { return Ok(opened) };
    opened.writer.reset(base.clone()).map_err(|fault| fault_of(&place.group, &fault))?;
    drop(opened);
    Ok(open()?)
}

fn fault_of(group: &Path, fault: &LogFault) -> OpenError {
    let path = group.to_owned();
    match fault {
        LogFault::Full { needed } => OpenError::DiskFull { path, needed: *needed },
        LogFault::Poisoned { .. } => OpenError::Io { path, source: std::io::Error::other(fault.to_string()) },
    }
}

/// Has the identity of a node say what its log says, when the log is of a later epoch: the rest of a recovery that came no
/// further.
pub(crate) fn follow(disk: &dyn Disk, data_dir: &Path, members: &Membership) -> Result<(), OpenError> {
    if members.epoch == Epoch::FIRST {
        return Ok(());
    }
    match load_identity(disk, data_dir)? {
        Some(identity) if identity.epoch.number < members.epoch.number => {
            let named = members.members().map(|member| (member.id, member.address.clone())).collect();
            store_identity(disk, data_dir, &Identity { epoch: members.epoch, members: Members(named), ..identity })
        }
        Some(_) | None => Ok(()),
    }
}

/// The directory of a data directory's one group.
fn group_of(data_dir: &Path) -> PathBuf {
    group_dir(data_dir, GroupId::FIRST)
}
