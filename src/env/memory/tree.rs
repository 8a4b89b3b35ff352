//! Directories and their names, live and durable.
//!
//! Files and directories are nodes with a number; a name points at a number. A directory keeps the changes that were
//! made to its names since its last sync, in order, so that a power cut can keep any of them and lose the others.
//! Nodes that no name, pending change or open file points at are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::content::Content;
use super::{Fate, Pending};

/// Number of a file or directory; never used again on the same disk.
pub(super) type NodeKey = u64;

/// The root directory, which always exists.
const ROOT: NodeKey = 0;

/// All files and directories of a disk.
#[derive(Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeKey, Node>,
    next: NodeKey,
    /// A file may have lost its last name: when it is closed, there is something to drop.
    nameless: bool,
}

#[derive(Clone)]
enum Node {
    Directory(Directory),
    File { content: Content, open: u64 },
}

#[derive(Clone, Default)]
struct Directory {
    live: BTreeMap<String, NodeKey>,
    durable: BTreeMap<String, NodeKey>,
    pending: Vec<NameChange>,
}

/// A change of a directory's names.
#[derive(Clone)]
enum NameChange {
    Added { name: String, node: NodeKey },
    Removed { name: String },
    Renamed { from: String, to: String, node: NodeKey },
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]), next: ROOT + 1, nameless: false }
    }
}

impl Tree {
    /// Makes a directory and its missing parents.
    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.directory(at)?.live.get(&name) {
                Some(next) => *next,
                None => self.add(at, name, Node::Directory(Directory::default()))?,
            };
        }
        self.directory(at).map(drop)
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let key = self.find(&names(path)?)?;
        Ok(self.directory(key)?.live.keys().cloned().collect())
    }

    /// The file of a name.
    pub(super) fn find_file(&self, path: &Path) -> io::Result<NodeKey> {
        let key = self.find(&names(path)?)?;
        self.content(key)?;
        Ok(key)
    }

    /// Makes a file; `AlreadyExists` when something has the name.
    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<NodeKey> {
        let (parent, name) = self.parent(path)?;
        if self.directory(parent)?.live.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.add(parent, name, Node::File { content: Content::default(), open: 0 })
    }

    /// Gives a file another name, in place of whatever has that name.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find_file(from)?;
        let (from_parent, from) = self.parent(from)?;
        let (to_parent, to) = self.parent(to)?;
        match self.directory(to_parent)?.live.get(&to) {
            Some(taken) if *taken == node => return Ok(()),
            Some(taken) => self.content(*taken).map(drop)?,
            None => {}
        }
        if from_parent == to_parent {
            self.directory_mut(to_parent)?.change(NameChange::Renamed { from, to, node });
        } else {
            self.directory_mut(to_parent)?.change(NameChange::Added { name: to, node });
            self.directory_mut(from_parent)?.change(NameChange::Removed { name: from });
        }
        self.sweep();
        Ok(())
    }

    /// Takes a file's name away.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        let (parent, name) = self.parent(path)?;
        self.directory_mut(parent)?.change(NameChange::Removed { name });
        self.sweep();
        Ok(())
    }

    /// Takes the name of an empty directory away.
    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let key = self.find(&names(path)?)?;
        if !self.directory(key)?.live.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.directory_mut(parent)?.change(NameChange::Removed { name });
        self.sweep();
        Ok(())
    }

    /// Checks that there is such a directory and, when `durably`, makes its names durable.
    pub(super) fn sync_dir(&mut self, path: &Path, durably: bool) -> io::Result<()> {
        let key = self.find(&names(path)?)?;
        let directory = self.directory_mut(key)?;
        if durably && !directory.pending.is_empty() {
            for change in std::mem::take(&mut directory.pending) {
                change.apply(&mut directory.durable);
            }
            self.sweep();
        }
        Ok(())
    }

    /// A file's bytes.
    pub(super) fn content(&self, key: NodeKey) -> io::Result<&Content> {
        match self.nodes.get(&key) {
            Some(Node::File { content, .. }) => Ok(content),
            Some(Node::Directory(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// A file's bytes, to change.
    pub(super) fn content_mut(&mut self, key: NodeKey) -> io::Result<&mut Content> {
        match self.nodes.get_mut(&key) {
            Some(Node::File { content, .. }) => Ok(content),
            Some(Node::Directory(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Notes that a file was opened: it keeps its bytes until as many closed it, names or not.
    pub(super) fn opened(&mut self, key: NodeKey) {
        if let Some(Node::File { open, .. }) = self.nodes.get_mut(&key) {
            *open += 1;
        }
    }

    /// Notes that a file was closed.
    pub(super) fn closed(&mut self, key: NodeKey) {
        if let Some(Node::File { open, .. }) = self.nodes.get_mut(&key) {
            *open = open.saturating_sub(1);
            if *open == 0 && self.nameless {
                self.sweep();
            }
        }
    }

    /// Forgets who has files open: their process is gone.
    pub(super) fn all_closed(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File { open, .. } = node {
                *open = 0;
            }
        }
        self.sweep();
    }

    /// Bytes that files occupy: those that still have a name, and those removed but still open.
    pub(super) fn allocated(&self) -> u64 {
        let mut named = BTreeSet::new();
        for node in self.nodes.values() {
            if let Node::Directory(directory) = node {
                named.extend(directory.live.values().copied());
            }
        }
        let bytes = self.nodes.iter().map(|(key, node)| match node {
            Node::File { content, open } if *open > 0 || named.contains(key) => content.allocated(),
            Node::File { .. } | Node::Directory(_) => 0,
        });
        bytes.fold(0, u64::saturating_add)
    }

    /// A power cut: names from the root down, then the bytes of the files that are still there, meet their fate.
    pub(super) fn settle(&mut self, fate: &mut impl FnMut(&Pending<'_>) -> Fate) {
        let mut files = Vec::new();
        let mut directories = vec![(ROOT, PathBuf::from("/"))];
        let mut seen = BTreeSet::new();
        while let Some((key, path)) = directories.pop() {
            let Some(Node::Directory(directory)) = self.nodes.get_mut(&key) else { continue };
            directory.settle(&path, fate);
            // Pushed backwards, so that they are popped in the order of their names.
            for (name, child) in directory.live.clone().into_iter().rev() {
                if seen.insert(child) {
                    match self.nodes.get(&child) {
                        Some(Node::Directory(_)) => directories.push((child, path.join(name))),
                        Some(Node::File { .. }) | None => files.push((path.join(name), child)),
                    }
                }
            }
        }
        files.sort_unstable();
        for (path, key) in files {
            if let Ok(content) = self.content_mut(key) {
                content.settle(&path, fate);
            }
        }
    }

    fn add(&mut self, parent: NodeKey, name: String, node: Node) -> io::Result<NodeKey> {
        let key = self.next;
        self.directory_mut(parent)?.change(NameChange::Added { name, node: key });
        self.next += 1;
        self.nodes.insert(key, node);
        Ok(key)
    }

    fn find(&self, names: &[String]) -> io::Result<NodeKey> {
        names.iter().try_fold(ROOT, |at, name| {
            self.directory(at)?.live.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
        })
    }

    fn parent(&self, path: &Path) -> io::Result<(NodeKey, String)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(ErrorKind::IsADirectory)?;
        Ok((self.find(&names)?, name))
    }

    fn directory(&self, key: NodeKey) -> io::Result<&Directory> {
        match self.nodes.get(&key) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File { .. }) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn directory_mut(&mut self, key: NodeKey) -> io::Result<&mut Directory> {
        match self.nodes.get_mut(&key) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File { .. }) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Drops the nodes that nothing leads to.
    fn sweep(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut queue = vec![ROOT];
        while let Some(key) = queue.pop() {
            let Some(Node::Directory(directory)) = self.nodes.get(&key) else { continue };
            let names = directory.live.values().chain(directory.durable.values()).copied();
            let pending = directory.pending.iter().filter_map(NameChange::node);
            queue.extend(names.chain(pending).filter(|child| reached.insert(*child)));
        }
        self.nodes.retain(|key, node| reached.contains(key) || matches!(node, Node::File { open, .. } if *open > 0));
        self.nameless = self.nodes.len() > reached.len();
    }
}

impl Directory {
    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.live);
        self.pending.push(change);
    }

    fn settle(&mut self, path: &Path, fate: &mut impl FnMut(&Pending<'_>) -> Fate) {
        for change in std::mem::take(&mut self.pending) {
            let kept = match &change {
                NameChange::Added { name, .. } => fate(&Pending::Added { path: &path.join(name) }),
                NameChange::Removed { name } => fate(&Pending::Removed { path: &path.join(name) }),
                NameChange::Renamed { from, to, .. } => {
                    fate(&Pending::Renamed { from: &path.join(from), to: &path.join(to) })
                }
            };
            if kept == Fate::Kept {
                change.apply(&mut self.durable);
            }
        }
        self.live.clone_from(&self.durable);
    }
}

impl NameChange {
    /// Makes the change. Those before it may have been lost: then there may be nothing to take away.
    fn apply(self, names: &mut BTreeMap<String, NodeKey>) {
        match self {
            Self::Added { name, node } => {
                names.insert(name, node);
            }
            Self::Removed { name } => {
                names.remove(&name);
            }
            Self::Renamed { from, to, node } => {
                if names.get(&from) == Some(&node) {
                    names.remove(&from);
                }
                names.insert(to, node);
            }
        }
    }

    fn node(&self) -> Option<NodeKey> {
        match self {
            Self::Added { node, .. } | Self::Renamed { node, .. } => Some(*node),
            Self::Removed { .. } => None,
        }
    }
}

/// The names that lead to a path from the root. `..` and names that are not UTF-8 are `InvalidInput`.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(ErrorKind::InvalidInput)?.to_owned()),
            Component::ParentDir | Component::Prefix(_) => return Err(ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}
