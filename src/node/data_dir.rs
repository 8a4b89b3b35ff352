//! Opens a data directory: lock, identity, and the log of a node that belongs to a cluster.

use std::path::Path;
use std::sync::Arc;

use crate::commitlog::layout::{group_dir, is_own_file, log_dir};
use crate::commitlog::{
    self, DirLock, Identity, LogOptions, Opened, WriteBatch, load_identity, lock_data_dir, renew_identity,
    store_identity,
};
use crate::config::{Config, Members};
use crate::env::Disk;
use crate::error::OpenError;
use crate::simulation::plants::Plants;
use crate::types::{ClusterId, GroupId, Incarnation, Index, NodeId, Vote};

use super::Environment;
use super::formation::{GENESIS, Genesis};

/// An open data directory. The lock is held as long as this lives.
pub(crate) struct DataDir {
    pub(crate) identity: Identity,
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
                members: members.clone(),
            };
            store_identity(disk, directory, &identity)?;
            identity
        }
    };
    Ok(DataDir { identity, _lock: lock })
}

/// The directory wins over the configuration, and a difference is an error.
fn check(config: &Config, identity: &Identity) -> Result<(), OpenError> {
    let refuse = |reason: String| Err(OpenError::Identity { path: config.data_dir.clone(), reason });
    if identity.node != config.id {
        return refuse(format!("it is that of node {}, not of node {}", identity.node, config.id));
    }
    let alone = |members: &Members| members.0.keys().all(|id| *id == config.id);
    let both_alone = alone(&identity.members) && alone(&config.cluster);
    if !both_alone && identity.cluster.is_some() && identity.members != config.cluster {
        return refuse(format!(
            "its cluster has the members `{}`, the configuration names `{}`",
            identity.members, config.cluster
        ));
    }
    Ok(())
}

/// The options of the one group's log.
fn options(environment: &Environment, config: &Config, cluster: ClusterId) -> LogOptions {
    LogOptions {
        cluster,
        group: GroupId::FIRST,
        segment_bytes: config.segment_bytes,
        max_record_bytes: config.max_record_bytes,
        durability: config.durability,
        wall_ms: environment.clock.wall_ms(),
        covered: Index::ZERO,
    }
}

/// Opens the log of a node that belongs to `cluster`. One that is alone in it does not start with a damaged log: nobody
/// could mend it.
pub(crate) fn open_log(environment: &Environment, config: &Config, cluster: ClusterId) -> Result<Opened, OpenError> {
    open_log_planted(environment, config, cluster, Plants::NONE)
}

/// The same with a rule broken.
pub(crate) fn open_log_planted(
    environment: &Environment,
    config: &Config,
    cluster: ClusterId,
    plants: Plants,
) -> Result<Opened, OpenError> {
    let directory = group_dir(&config.data_dir, GroupId::FIRST);
    let (disk, options) = (Arc::clone(&environment.disk), options(environment, config, cluster));
    let opened = match config.cluster.0.keys().all(|id| *id == config.id) {
        true => commitlog::open_alone(disk, &directory, options)?,
        false => commitlog::open_planted(disk, &directory, options, plants)?,
    };
    if opened.state.last.index < GENESIS.index {
        return Err(OpenError::LostSegment { path: directory, index: GENESIS.index });
    }
    Ok(opened)
}

/// Makes the cluster's first record and the first vote file durable, and only then the identity that names the
/// cluster: a crash in between leaves a node that has not formed and may start over.
pub(crate) fn adopt(
    environment: &Environment,
    config: &Config,
    data_dir: &mut DataDir,
    genesis: &Genesis,
) -> Result<Opened, OpenError> {
    let directory = group_dir(&config.data_dir, GroupId::FIRST);
    let io = |source| OpenError::Io { path: directory.clone(), source };
    clear(environment.disk.as_ref(), &directory).map_err(io)?;
    let cluster = genesis.membership.cluster;
    let options = options(environment, config, cluster);
    let mut opened = commitlog::open(Arc::clone(&environment.disk), &directory, options.clone())?;
    let vote = Vote { term: GENESIS.term, voted_for: NodeId::ZERO };
    let batch = WriteBatch {
        vote: Some(vote),
        records: vec![genesis.record.clone()],
        committed: GENESIS.index,
        ..WriteBatch::default()
    };
    opened
        .writer
        .write(&batch)
        .and_then(|()| opened.writer.flush())
        .and_then(|()| opened.writer.idle(GENESIS.index))
        .map_err(|fault| io(std::io::Error::other(fault.to_string())))?;
    drop(opened);
    // The members that formed, which an earlier attempt may have named otherwise.
    let members = Members(genesis.membership.members().map(|member| (member.id, member.address.clone())).collect());
    let identity = Identity { cluster: Some(cluster), members, ..data_dir.identity.clone() };
    store_identity(environment.disk.as_ref(), &config.data_dir, &identity)?;
    data_dir.identity = identity;
    commitlog::open(Arc::clone(&environment.disk), &directory, options)
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
