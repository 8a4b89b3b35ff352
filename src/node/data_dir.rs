//! Opens a data directory: lock, identity, and the state and log of a node that belongs to a cluster.
//!
//! ```text
//!   newest good snapshot S ─► machine        the log has S          goes on behind it; also when S is damaged there
//!                                            begins behind S        another snapshot must be fetched; alone: refused
//!                                            lacks S                starts over behind S
//! ```
//! A machine that keeps its state on disk says how far that is. When no snapshot reaches further, that takes the place of S.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::commitlog::layout::{
    GENESIS_FILE, NEW_GENESIS_FILE, RESTORE_FILE, STATE_DIR, group_dir, is_own_file, log_dir,
};
use crate::commitlog::{
    self, DirLock, Identity, LogFault, LogOptions, LogState, Opened, Peers, Record, WriteBatch, load_identity,
    lock_data_dir, renew_identity, store_identity,
};
use crate::config::{Config, Members};
use crate::env::{Disk, OpenMode};
use crate::error::OpenError;
use crate::failure;
use crate::raft::Membership;
use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plants;
use crate::snapshot::{
    BackupError, CHUNK_BYTES, Newest, Snapshot, SnapshotError, SnapshotOptions, SnapshotStore, remove_all,
};
use crate::state_machine::StateMachine;
use crate::types::{ClusterId, Epoch, GroupId, Incarnation, Index, LogBase, NodeId, Vote};

use super::Environment;
use super::formation::{Formation, Genesis, MAX_GENESIS_BYTES};
use super::recover::follow;
use super::restore::{self, Origin};
use super::snapshot_worker::Kept;

/// An open data directory. The lock is held as long as this lives.
pub(crate) struct DataDir {
    pub(crate) identity: Identity,
    /// The backup that a node begins with which does not belong to a cluster yet.
    pub(crate) origin: Option<Origin>,
    _lock: DirLock,
}

/// Locks the directory and reads, or writes for the first time, who this node is. `members` are those of the
/// configuration with this node's own address filled in.
pub(crate) fn open(environment: &Environment, config: &Config, members: &Members) -> Result<DataDir, OpenError> {
    let (disk, directory) = (environment.disk.as_ref(), &config.data_dir);
    let lock = lock_data_dir(disk, directory)?;
    let identity = match load_identity(disk, directory)? {
        Some(identity) => {
            check(config, &identity)?;
            renew_identity(disk, directory)?;
            identity
        }
        None => {
            let identity = Identity {
                node: config.id,
                incarnation: Incarnation(environment.entropy.next_u64() | 1),
                cluster: None,
                epoch: Epoch::NONE,
                joined: false,
                members: members.clone(),
            };
            store_identity(disk, directory, &identity)?;
            identity
        }
    };
    let origin = match identity.cluster {
        // What was left to do when the node stopped in between.
        Some(_formed) => restore::forget_origin(disk, directory).map(|()| None)?,
        None => restore::origin(disk, directory)?,
    };
    if origin.is_some() {
        if !config.join.0.is_empty() {
            let reason = "a backup was restored into it, to form a new cluster; a node that joins takes an empty one";
            return Err(OpenError::Identity { path: directory.clone(), reason: reason.to_owned() });
        }
        check_members(config, &identity)?;
    }
    Ok(DataDir { identity, origin, _lock: lock })
}

/// The directory wins over the configuration, and a difference is an error.
fn check(config: &Config, identity: &Identity) -> Result<(), OpenError> {
    let refuse = |reason: String| Err(OpenError::Identity { path: config.data_dir.clone(), reason });
    if identity.node != config.id {
        return refuse(format!("it is that of node {}, not of node {}", identity.node, config.id));
    }
    if identity.cluster.is_some() {
        check_members(config, identity)?;
    }
    Ok(())
}

/// A directory that was formed or restored for some members is for no others. Who only wants to join names none.
fn check_members(config: &Config, identity: &Identity) -> Result<(), OpenError> {
    if !config.join.0.is_empty() {
        return Ok(());
    }
    let alone = |members: &Members| members.0.keys().all(|id| *id == config.id);
    let both_alone = alone(&identity.members) && alone(&config.cluster);
    if !both_alone && identity.members != config.cluster {
        let reason =
            format!("its cluster has the members `{}`, the configuration names `{}`", identity.members, config.cluster);
        return Err(OpenError::Identity { path: config.data_dir.clone(), reason });
    }
    Ok(())
}

/// The options of the one group's log.
fn options(environment: &Environment, config: &Config, cluster: ClusterId, covered: Index) -> LogOptions {
    LogOptions {
        cluster,
        group: GroupId::FIRST,
        segment_bytes: config.segment_bytes,
        max_record_bytes: config.max_record_bytes,
        durability: config.durability,
        wall_ms: environment.clock.wall_ms(),
        covered,
    }
}

/// What opening found, fit together.
pub(crate) struct Recovered {
    /// The log. It goes on behind `base`, unless it begins later than that.
    pub(crate) opened: Opened,
    /// The snapshots.
    pub(crate) store: SnapshotStore,
    /// What the machine holds: everything up to there.
    pub(crate) base: LogBase,
    /// What the store has.
    pub(crate) kept: Kept,
    /// The record that formed the cluster, for a member that has not heard of it.
    pub(crate) genesis: Option<Bytes>,
}

/// Restores the newest good snapshot of a node that belongs to a cluster into its empty machine, and opens its log. A
/// node that is alone does not start with damage: nobody could mend it. `plants` names the rule that a simulation breaks.
///
/// # Errors
/// See [`OpenError`].
pub(crate) fn recover<M: StateMachine>(
    environment: &Environment,
    config: &Config,
    identity: &Identity,
    machine: &mut M,
    plants: Plants,
) -> Result<Recovered, OpenError> {
    recover_in_chunks(environment, config, identity, machine, (plants, CHUNK_BYTES))
}

/// The same, with snapshots in chunks of so many bytes.
pub(crate) fn recover_in_chunks<M: StateMachine>(
    environment: &Environment,
    config: &Config,
    identity: &Identity,
    machine: &mut M,
    (plants, chunk_bytes): (Plants, u32),
) -> Result<Recovered, OpenError> {
    let directory = group_dir(&config.data_dir, GroupId::FIRST);
    let Some(cluster) = identity.cluster else {
        let reason = "it does not belong to a cluster".to_owned();
        return Err(OpenError::Identity { path: config.data_dir.clone(), reason });
    };
    let whose = SnapshotOptions { cluster, group: GroupId::FIRST, chunk_bytes };
    let mut store = SnapshotStore::open(Arc::clone(&environment.disk), &directory, whose)?;
    store.plant(plants);
    let own = open_state(environment.disk.as_ref(), &directory, machine)?;
    let base = restore(&mut store, machine, own).map_err(|error| refused(&directory, error))?;
    let kept = Kept::of(&store).map_err(|error| refused(&directory, error))?;
    let peers = |latest: Option<&(Index, Bytes)>| peers(identity, latest.into_iter().chain([&base.membership]));
    let open = || {
        let options = options(environment, config, cluster, base.entry.index);
        commitlog::open_begun_planted(Arc::clone(&environment.disk), &directory, options, &peers, plants)
    };
    let mut opened = open()?;
    let begins = opened.state.base;
    if begins.index > base.entry.index {
        if peers(opened.state.memberships.last()) == Peers::Nobody {
            let reason = format!("the log begins behind {begins}, and no snapshot that reaches there can be used");
            return Err(OpenError::Unmendable { path: directory, offset: 0, index: begins.index, reason });
        }
        reach(Mark::Detached);
        tracing::error!(node = %config.id, log = %begins, snapshot = %base.entry, "no snapshot reaches the log any more");
    } else if !opened.state.has(base.entry) {
        refuse_of_before_recovery(&opened.state, &base, &directory)?;
        tracing::info!(node = %config.id, state = %base.entry, "the log starts over behind the state");
        opened.writer.reset(base.clone()).map_err(|fault| fault_of(&directory, &fault))?;
        drop(opened);
        opened = open()?;
    }
    let latest = opened.state.memberships.last().and_then(|(_index, payload)| Membership::decode(payload).ok());
    if let Some(members) = latest {
        follow(environment.disk.as_ref(), &config.data_dir, &members)?;
    }
    // A base that nobody knows the members of is that of a log whose first record names them. That record was there
    // before the node belonged to its cluster, unless it joined: then it is whoever leads that brings it.
    let nameless = !identity.joined && opened.state.memberships.is_empty() && base.membership.0.is_zero();
    if opened.state.last == opened.state.base && nameless {
        return Err(OpenError::LostSegment { path: directory, index: opened.state.base.index.next() });
    }
    let genesis = load_genesis(environment.disk.as_ref(), &directory)
        .or_else(|| opened.reader.read(Index(1)).ok().map(|record| record.bytes().clone()));
    Ok(Recovered { opened, store, base, kept, genesis })
}

/// A log that went on in a later epoch without the end of the state has lost that for good: to start it over behind the state
/// would undo the recovery.
fn refuse_of_before_recovery(log: &LogState, base: &LogBase, directory: &Path) -> Result<(), OpenError> {
    let epoch = |payload: &Bytes| Membership::decode(payload).map_or(0, |members| members.epoch.number);
    let (_index, of_state) = &base.membership;
    if log.memberships.last().is_none_or(|(_index, of_log)| epoch(of_log) <= epoch(of_state)) {
        return Ok(());
    }
    let reason = format!(
        "it holds {}, which the log did not have when the cluster was recovered from it; remove that directory: the state is \
         made anew from snapshot and log",
        base.entry
    );
    Err(OpenError::State { path: directory.join(STATE_DIR), reason })
}

/// Who else has a node's log: by the latest of these memberships, else by what it was when it came to its cluster.
fn peers<'a>(identity: &Identity, memberships: impl Iterator<Item = &'a (Index, Bytes)>) -> Peers {
    let latest = memberships.max_by_key(|(index, _)| *index).filter(|(index, _)| !index.is_zero());
    match latest.map(|(_, payload)| Membership::decode(payload)) {
        Some(Ok(membership)) if membership.members().all(|member| member.id == identity.node) => Peers::Nobody,
        Some(Ok(membership)) if membership.quorum().is_alone(identity.node) => Peers::Learners,
        // What cannot be decoded is refused elsewhere, with the reason.
        Some(Ok(_) | Err(_)) => Peers::Voters,
        None if !identity.joined && identity.members.0.keys().all(|id| *id == identity.node) => Peers::Nobody,
        None => Peers::Voters,
    }
}

/// The record that formed the cluster. One that cannot be read is of no use here; any other member has it too.
fn load_genesis(disk: &dyn Disk, directory: &Path) -> Option<Bytes> {
    let file = disk.open(&directory.join(GENESIS_FILE), OpenMode::Read).ok()?;
    let length = usize::try_from(file.len().ok()?).ok().filter(|length| *length <= MAX_GENESIS_BYTES as usize)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let record = Bytes::from(bytes);
    Record::decode(&record, MAX_GENESIS_BYTES).is_ok().then_some(record)
}

/// Opens the state that the machine itself keeps on disk; the answer is what it is of.
fn open_state<M: StateMachine>(disk: &dyn Disk, directory: &Path, machine: &mut M) -> Result<LogBase, OpenError> {
    if !machine.on_disk() {
        return Ok(LogBase::default());
    }
    let path = directory.join(STATE_DIR);
    failure::create_dir_durably(disk, &path)?;
    machine.open(&path).map_err(|error| OpenError::State { path, reason: error.to_string() })
}

/// Puts the newest good snapshot into the machine, unless what that has of its `own` reaches as far; the answer is where
/// the log goes on behind it.
fn restore<M: StateMachine>(
    store: &mut SnapshotStore,
    machine: &mut M,
    own: LogBase,
) -> Result<LogBase, SnapshotError> {
    loop {
        let Newest { good: Some(snapshot), .. } = store.newest()? else { return Ok(own) };
        if snapshot.manifest().id().index <= own.entry.index {
            return Ok(own);
        }
        match restored(&snapshot, machine) {
            Ok(()) => return Ok(snapshot.manifest().base.clone()),
            // It verified a moment ago: what is bad now will be found bad again, and the one before it is tried.
            Err(error @ SnapshotError::Damaged { .. }) => {
                tracing::error!(%error, "a snapshot went bad while it was read")
            }
            Err(error) => return Err(error),
        }
    }
}

fn restored<M: StateMachine>(snapshot: &Snapshot, machine: &mut M) -> Result<(), SnapshotError> {
    let mut state = machine.restore();
    snapshot.restore(&mut state)?;
    let _empty = machine.install(state, snapshot.manifest().id());
    Ok(())
}

fn refused(directory: &Path, error: SnapshotError) -> OpenError {
    match error {
        SnapshotError::Unsupported { path, found, supported } => OpenError::Unsupported { path, found, supported },
        SnapshotError::DiskFull { path, needed } => OpenError::DiskFull { path, needed },
        SnapshotError::Io { path, source } => OpenError::Io { path, source },
        SnapshotError::Damaged { .. }
        | SnapshotError::Foreign { .. }
        | SnapshotError::Exists { .. }
        | SnapshotError::TooLarge { .. }
        | SnapshotError::Refused { .. }
        | SnapshotError::Capture(_)
        | SnapshotError::Restore(_) => OpenError::Foreign { path: directory.to_owned(), reason: error.to_string() },
    }
}

fn fault_of(directory: &Path, fault: &LogFault) -> OpenError {
    let path = directory.to_owned();
    match fault {
        LogFault::Full { needed } => OpenError::DiskFull { path, needed: *needed },
        LogFault::Poisoned { .. } => OpenError::Io { path, source: std::io::Error::other(fault.to_string()) },
    }
}

/// How a node with this directory, which does not belong to a cluster, forms one of `members`.
pub(crate) fn formation(data_dir: &DataDir, config: &Config, members: Members) -> Formation {
    let Identity { node, incarnation, .. } = data_dir.identity;
    let formation = Formation::new(node, incarnation, members).promising(config.read_lease);
    match &data_dir.origin {
        Some(origin) => formation.restored(origin.base.clone(), origin.id),
        None => formation,
    }
}

/// Makes the state and base of a restored node durable, then the cluster's first record and the first vote file, and only
/// then the identity that names the cluster: a crash in between leaves a node that has not formed and may start over.
pub(crate) fn adopt(
    environment: &Environment,
    config: &Config,
    data_dir: &mut DataDir,
    genesis: &Genesis,
) -> Result<(), OpenError> {
    let directory = group_dir(&config.data_dir, GroupId::FIRST);
    let disk = environment.disk.as_ref();
    let io = |source| OpenError::Io { path: directory.clone(), source };
    clear(disk, &directory).map_err(io)?;
    remove_all(disk, &directory).map_err(|error| refused(&directory, error))?;
    let cluster = genesis.membership.cluster;
    let open = |covered| {
        let options = options(environment, config, cluster, covered);
        commitlog::open(Arc::clone(&environment.disk), &directory, options)
    };
    let write = |opened: &mut Opened, batch: WriteBatch| {
        let written = opened.writer.write(&batch).and_then(|()| opened.writer.flush());
        written.map_err(|fault| fault_of(&directory, &fault))
    };
    let vote = Some(Vote { term: genesis.id.term, voted_for: NodeId::ZERO });
    let mut opened = open(Index::ZERO)?;
    if let Some(origin) = &data_dir.origin {
        begin_with(environment, &directory, cluster, origin)?;
        write(&mut opened, WriteBatch { vote, ..WriteBatch::default() })?;
        opened.writer.reset(origin.base.clone()).map_err(|fault| fault_of(&directory, &fault))?;
        drop(opened);
        opened = open(origin.base.entry.index)?;
    }
    let (records, committed) = (vec![genesis.record.clone()], genesis.id.index);
    write(&mut opened, WriteBatch { vote, records, committed, ..WriteBatch::default() })?;
    opened.writer.idle(committed).map_err(|fault| fault_of(&directory, &fault))?;
    drop(opened);
    let (unfinished, path) = (directory.join(NEW_GENESIS_FILE), directory.join(GENESIS_FILE));
    failure::replace_file(environment.disk.as_ref(), &unfinished, &path, &genesis.record)?;
    // The members that formed, which an earlier attempt may have named otherwise.
    let members = Members(genesis.membership.members().map(|member| (member.id, member.address.clone())).collect());
    let identity =
        Identity { cluster: Some(cluster), epoch: genesis.membership.epoch, members, ..data_dir.identity.clone() };
    store_identity(disk, &config.data_dir, &identity)?;
    data_dir.identity = identity;
    data_dir.origin = None;
    restore::forget_origin(disk, &config.data_dir)
}

/// Makes the empty log and vote file of a node durable that becomes a member of a cluster that exists, and only then the
/// identity that names the cluster: a crash in between leaves a node that belongs to none, whose incarnation is the same.
/// The caller has seen that the members admit this very life. `members` are those that are known.
pub(crate) fn join(
    environment: &Environment,
    config: &Config,
    data_dir: &mut DataDir,
    (cluster, epoch): (ClusterId, Epoch),
    members: Members,
) -> Result<(), OpenError> {
    let directory = group_dir(&config.data_dir, GroupId::FIRST);
    let disk = environment.disk.as_ref();
    clear(disk, &directory).map_err(|source| OpenError::Io { path: directory.clone(), source })?;
    remove_all(disk, &directory).map_err(|error| refused(&directory, error))?;
    let options = options(environment, config, cluster, Index::ZERO);
    drop(commitlog::open(Arc::clone(&environment.disk), &directory, options)?);
    let identity = Identity { cluster: Some(cluster), epoch, joined: true, members, ..data_dir.identity.clone() };
    store_identity(disk, &config.data_dir, &identity)?;
    data_dir.identity = identity;
    Ok(())
}

/// Writes the state that a restored node begins with as its first snapshot.
fn begin_with(
    environment: &Environment,
    directory: &Path,
    cluster: ClusterId,
    origin: &Origin,
) -> Result<(), OpenError> {
    let whose = SnapshotOptions { cluster, group: GroupId::FIRST, chunk_bytes: CHUNK_BYTES };
    let mut store = SnapshotStore::open(Arc::clone(&environment.disk), directory, whose)?;
    let unusable = |error| {
        let path = directory.join(RESTORE_FILE);
        restore::unusable(&path, BackupError::of(&path, error))
    };
    let mut writer = store.begin(origin.base.clone()).map_err(|error| refused(directory, error))?;
    for item in origin.snapshot.items() {
        writer.item(&item.map_err(unusable)?).map_err(|error| refused(directory, error))?;
    }
    writer.finish().map(drop).map_err(|error| refused(directory, error))
}

/// Removes what an interrupted formation left. The identity says that this node never belonged to a cluster, so
/// nothing in there was ever promised to anybody.
fn clear(disk: &dyn Disk, directory: &Path) -> std::io::Result<()> {
    for folder in [log_dir(directory), directory.to_path_buf()] {
        let found = match disk.list(&folder) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for name in found.iter().filter(|name| is_own_file(name)) {
            disk.remove(&folder.join(name))?;
        }
        disk.sync_dir(&folder)?;
    }
    Ok(())
}
