//! Who owns a data directory: the lock file and the identity file.
//!
//! The identity is written once when the directory is made and once more when the node forms a cluster or joins one; from
//! then on the directory wins over the configuration (the caller compares). Each write makes a new file, syncs it, renames it and syncs
//! the directory: there is always one whole identity. It stands there twice, on two blocks: no peer could tell a node who
//! it is. Deliberately absent: drawing incarnations and cluster ids.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::layout::{
    GROUPS_DIR, IDENTITY_FILE, LOCK_FILE, NEW_IDENTITY_FILE, NEW_RESTORE_FILE, RESTORE_FILE, group_dir,
};
use super::segment::BLOCK_BYTES;
use crate::config::Members;
use crate::env::{Disk, OpenMode};
use crate::error::OpenError;
use crate::failure::{self, Blame};
use crate::fields::{Block, Fields, PREFIX_BYTES, Prefix, checksum_holds, prefix};
use crate::types::{ClusterId, GroupId, Incarnation, Index, NodeId};

const MAGIC: &[u8; 8] = b"DLEDG-ID";
/// The format version of the data directory that this release writes and the newest it reads.
pub const DATA_VERSION: u32 = 1;
/// Where the fixed fields end and the members' text starts.
const FIXED_BYTES: usize = PREFIX_BYTES + 8 + 8 + 1 + 16 + 4;
/// Whether the node belongs to a cluster, and how it came to.
const NO_CLUSTER: u8 = 0;
const FORMED: u8 = 1;
const JOINED: u8 = 2;
/// Bounds what is read before a checksum is known to hold.
const MAX_COPY_BYTES: usize = 1 << 20;
/// How often it stands in the file.
const COPIES: u64 = 2;
/// Not ours, but every file system's own.
const LOST_AND_FOUND: &str = "lost+found";

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// This life of the directory: drawn at random when it was made.
    pub incarnation: Incarnation,
    /// The cluster; `None` until the node belongs to one.
    pub cluster: Option<ClusterId>,
    /// It joined a cluster that others had formed: its log began empty, and may still be.
    pub joined: bool,
    /// The members as configured when the directory was made; once the node belongs to a cluster, those of that moment.
    pub members: Members,
}

/// A data directory that no other process, and nobody else in this one, can open until this is dropped.
pub struct DirLock {
    _held: Box<dyn Send + Sync>,
    path: PathBuf,
}

impl DirLock {
    /// The data directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes a data directory for this process, making it when it is absent. Blocks on the disk, never on another
/// holder. A directory that holds other things and no identity, or an identity file of something else, is refused
/// before anything is written to it.
///
/// # Errors
/// `Locked` when someone has it, `Foreign` when it is not a data directory, `Identity` when it has a log but no
/// identity, `DiskFull` and `Io`.
pub fn lock_data_dir(disk: &dyn Disk, data_dir: &Path) -> Result<DirLock, OpenError> {
    failure::create_dir_durably(disk, data_dir)?;
    refuse_foreign(disk, data_dir)?;
    take(disk, data_dir)
}

/// Takes a data directory that is empty, or holds what a restore left that did not come to its end. Makes it when it is
/// absent. Blocks on the disk.
///
/// # Errors
/// `NotEmpty`, before anything is written to it; `Locked`, `DiskFull` and `Io`.
pub fn lock_empty_data_dir(disk: &dyn Disk, data_dir: &Path) -> Result<DirLock, OpenError> {
    refuse_used(disk, data_dir)?;
    failure::create_dir_durably(disk, data_dir)?;
    let lock = take(disk, data_dir)?;
    // Somebody else may have had it until now.
    refuse_used(disk, data_dir)?;
    Ok(lock)
}

fn refuse_used(disk: &dyn Disk, data_dir: &Path) -> Result<(), OpenError> {
    let names = names_in(disk, data_dir)?;
    let unfinished = is_unfinished_restore(disk, data_dir)?;
    let expected = |name: &str| {
        [LOCK_FILE, NEW_IDENTITY_FILE, LOST_AND_FOUND].contains(&name) || (name == GROUPS_DIR && unfinished)
    };
    match names.into_iter().find(|name| !expected(name)) {
        Some(found) => Err(OpenError::NotEmpty { path: data_dir.to_owned(), found }),
        None => Ok(()),
    }
}

/// True when there is nothing below `groups` but what a restore makes there before it writes the identity.
fn is_unfinished_restore(disk: &dyn Disk, data_dir: &Path) -> Result<bool, OpenError> {
    let directory = group_dir(data_dir, GroupId::FIRST);
    let only = GroupId::FIRST.to_string();
    let groups = names_in(disk, &data_dir.join(GROUPS_DIR))?;
    let files = if groups.contains(&only) { names_in(disk, &directory)? } else { Vec::new() };
    let restored = |name: &String| [RESTORE_FILE, NEW_RESTORE_FILE].contains(&name.as_str());
    Ok(groups.iter().all(|group| *group == only) && files.iter().all(restored))
}

fn names_in(disk: &dyn Disk, directory: &Path) -> Result<Vec<String>, OpenError> {
    match disk.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.blame(directory),
    }
}

fn take(disk: &dyn Disk, data_dir: &Path) -> Result<DirLock, OpenError> {
    let held = match disk.lock(&data_dir.join(LOCK_FILE)) {
        Ok(held) => held,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(OpenError::Locked { path: data_dir.to_owned() });
        }
        Err(error) => return Err(error).blame_room(data_dir, 0),
    };
    // R22 for the identity: one whose rename was never synced reads well and may be gone after a power cut.
    disk.sync_dir(data_dir).blame(data_dir)?;
    Ok(DirLock { _held: held, path: data_dir.to_owned() })
}

fn refuse_foreign(disk: &dyn Disk, data_dir: &Path) -> Result<(), OpenError> {
    let names = disk.list(data_dir).blame(data_dir)?;
    if names.iter().any(|name| name == IDENTITY_FILE) {
        // Anybody's file may have that name. What else is wrong with it is told under the lock.
        return match load_identity(disk, data_dir) {
            Err(foreign @ OpenError::Foreign { .. }) => Err(foreign),
            Ok(_) | Err(_) => Ok(()),
        };
    }
    let path = data_dir.to_owned();
    let ours = [LOCK_FILE, NEW_IDENTITY_FILE, GROUPS_DIR, LOST_AND_FOUND];
    if let Some(name) = names.iter().find(|name| !ours.contains(&name.as_str())) {
        return Err(OpenError::Foreign { path, reason: format!("it holds `{name}` and no identity") });
    }
    if names.iter().any(|name| name == GROUPS_DIR) {
        if is_unfinished_restore(disk, data_dir)? {
            let reason = "a restore into it did not come to its end; run `kvcli restore` again".to_owned();
            return Err(OpenError::Identity { path, reason });
        }
        let reason = "it holds a log and no identity file; restore that file".to_owned();
        return Err(OpenError::Identity { path, reason });
    }
    Ok(())
}

/// Reads the identity; `None` when the directory has none yet.
///
/// # Errors
/// `Foreign`, `Unsupported`, `Corrupt` and `Io`, when no copy is good.
pub fn load_identity(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Identity>, OpenError> {
    let path = data_dir.join(IDENTITY_FILE);
    let Some(copies) = read_copies(disk, &path)? else { return Ok(None) };
    let (mut good, mut refused) = (None, None);
    for copy in copies {
        match copy {
            Ok(identity) => _ = good.get_or_insert(identity),
            // It was written so, and not by this release: another copy that reads well changes nothing about that.
            Err(newer @ OpenError::Unsupported { .. }) => return Err(newer),
            Err(error) => _ = refused.get_or_insert(error),
        }
    }
    good.map(Some).ok_or_else(|| refused.unwrap_or_else(|| damaged(path)))
}

/// Makes the file anew when one of its copies is bad. A disk without room for that is left as it is.
///
/// # Errors
/// `Io`, and those of [`load_identity`].
pub fn renew_identity(disk: &dyn Disk, data_dir: &Path) -> Result<(), OpenError> {
    let copies = read_copies(disk, &data_dir.join(IDENTITY_FILE))?.unwrap_or_default();
    let Some(error) = copies.iter().find_map(|copy| copy.as_ref().err()) else { return Ok(()) };
    let Some(identity) = load_identity(disk, data_dir)? else { return Ok(()) };
    tracing::error!(%error, "a copy of the identity is damaged, writing it again");
    match store_identity(disk, data_dir, &identity) {
        Err(OpenError::DiskFull { .. }) => Ok(()),
        stored => stored,
    }
}

/// What each copy in the file says.
type Copies = Vec<Result<Identity, OpenError>>;

fn read_copies(disk: &dyn Disk, path: &Path) -> Result<Option<Copies>, OpenError> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path: path.to_owned(), source }),
    };
    let copy_bytes = file.len().blame(path)? / COPIES;
    let read = |copy: u64| {
        let mut bytes = vec![0; usize::try_from(copy_bytes).unwrap_or(usize::MAX).min(MAX_COPY_BYTES)];
        file.read_exact_at(&mut bytes, copy * copy_bytes).blame(path)?;
        judge(path, &bytes)
    };
    Ok(Some((0..COPIES).map(read).collect()))
}

fn judge(path: &Path, bytes: &[u8]) -> Result<Identity, OpenError> {
    let path = path.to_owned();
    match prefix(bytes, MAGIC, DATA_VERSION) {
        Prefix::Ours => {}
        Prefix::Version(found) => return Err(OpenError::Unsupported { path, found, supported: DATA_VERSION }),
        Prefix::Foreign => return Err(OpenError::Foreign { path, reason: "it is not an identity file".to_owned() }),
        Prefix::Damaged => return Err(damaged(path)),
    }
    decode(bytes).ok_or_else(|| damaged(path))
}

fn damaged(path: PathBuf) -> OpenError {
    OpenError::Corrupt { path, offset: 0, index: Index::ZERO, reason: "it does not match its checksum".to_owned() }
}

/// Writes the identity, durable when this returns. A crash leaves the old one or the new one.
///
/// # Errors
/// `DiskFull` and `Io`.
pub fn store_identity(disk: &dyn Disk, data_dir: &Path, identity: &Identity) -> Result<(), OpenError> {
    let unfinished = data_dir.join(NEW_IDENTITY_FILE);
    let mut bytes = encode(identity);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    let bytes = bytes.repeat(COPIES as usize);
    let needed = bytes.len() as u64;
    failure::remove_if_there(disk, &unfinished)?;
    let file = disk.open(&unfinished, OpenMode::Create).blame_room(&unfinished, needed)?;
    file.write_all_at(&[IoSlice::new(&bytes)], 0).blame_room(&unfinished, needed)?;
    file.sync().blame_room(&unfinished, needed)?;
    disk.rename(&unfinished, &data_dir.join(IDENTITY_FILE)).blame_room(&unfinished, needed)?;
    disk.sync_dir(data_dir).blame(data_dir)
}

fn encode(identity: &Identity) -> Vec<u8> {
    let members = identity.members.to_string();
    Block::with_prefix(MAGIC, DATA_VERSION)
        .u64(identity.node.get())
        .u64(identity.incarnation.get())
        .u8(match identity.cluster {
            None => NO_CLUSTER,
            Some(_) if identity.joined => JOINED,
            Some(_) => FORMED,
        })
        .u128(identity.cluster.map_or(0, |cluster| cluster.0))
        .u32(u32::try_from(members.len()).unwrap_or(u32::MAX))
        .raw(members.as_bytes())
        .sealed_from(PREFIX_BYTES)
        .done()
}

fn decode(bytes: &[u8]) -> Option<Identity> {
    let members_bytes = Fields::at(bytes, FIXED_BYTES - 4)?.u32()? as usize;
    let bytes = bytes.get(..FIXED_BYTES.checked_add(members_bytes)?.checked_add(4)?)?;
    if !checksum_holds(bytes, PREFIX_BYTES, FIXED_BYTES + members_bytes) {
        return None;
    }
    let mut fields = Fields::at(bytes, PREFIX_BYTES)?;
    let (node, incarnation) = (NodeId(fields.u64()?), Incarnation(fields.u64()?));
    let (belongs, cluster) = (fields.u8()?, ClusterId(fields.u128()?));
    let (cluster, joined) = match belongs {
        NO_CLUSTER => (None, false),
        FORMED => (Some(cluster), false),
        JOINED => (Some(cluster), true),
        _ => return None,
    };
    let members_bytes = fields.u32()? as usize;
    let members = std::str::from_utf8(fields.bytes(members_bytes)?).ok()?.parse().ok()?;
    Some(Identity { node, incarnation, cluster, joined, members })
}
