//! The seam's types over a disk in memory: each carries the generation of the process that opened it.

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use super::Shared;
use super::tree::NodeKey;
use crate::env::{Disk, File, Map, OpenMode};

/// A disk as one process sees it.
pub(super) struct Handle {
    shared: Arc<Shared>,
    generation: u64,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let generation = shared.state().generation();
        Self { shared, generation }
    }
}

impl Disk for Handle {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.shared.state().change(self.generation, |state| state.tree.create_dir_all(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.shared.state();
        state.check(self.generation)?;
        state.tree.list(directory)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.shared.state();
        let key = match mode {
            OpenMode::Create => state.change(self.generation, |state| state.tree.create_file(path))?,
            OpenMode::Read | OpenMode::Write => {
                state.check(self.generation)?;
                state.tree.find_file(path)?
            }
        };
        state.tree.opened(key);
        drop(state);
        let open = OpenFile { shared: Arc::clone(&self.shared), generation: self.generation, key };
        Ok(Arc::new(MemoryFile { open: Arc::new(open), writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.state().change(self.generation, |state| state.tree.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.state().change(self.generation, |state| state.tree.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.state().change(self.generation, |state| state.tree.remove_dir(path))
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.shared.state().change(self.generation, |state| state.sync_dir(directory))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let name = self.shared.state().change(self.generation, |state| state.lock(path))?;
        Ok(Box::new(Lock { shared: Arc::clone(&self.shared), generation: self.generation, name }))
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let state = self.shared.state();
        state.check(self.generation)?;
        state.tree.list(directory)?;
        Ok(state.free_bytes())
    }

    fn boot_id(&self) -> Option<String> {
        Some(self.shared.state().power_cuts().to_string())
    }
}

/// A lock that is held until this is dropped.
struct Lock {
    shared: Arc<Shared>,
    generation: u64,
    name: Vec<String>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.shared.state().unlock(self.generation, &self.name);
    }
}

/// An open file; the file keeps its bytes as long as this lives, whatever becomes of its name.
struct OpenFile {
    shared: Arc<Shared>,
    generation: u64,
    key: NodeKey,
}

impl OpenFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.shared.state();
        state.check(self.generation)?;
        Ok(state.tree.content(self.key)?.len())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.shared.state();
        state.check(self.generation)?;
        state.tree.content(self.key)?.read(buffer, offset)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.shared.state().closed(self.generation, self.key);
    }
}

struct MemoryFile {
    open: Arc<OpenFile>,
    writable: bool,
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        self.open.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.open.read(buffer, offset)
    }

    fn write_all_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= i64::MAX.unsigned_abs());
        if end.is_none() && !bytes.is_empty() {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let key = self.open.key;
        self.open.shared.state().change(self.open.generation, |state| state.write(key, &bytes, offset))
    }

    fn sync(&self) -> io::Result<()> {
        let key = self.open.key;
        self.open.shared.state().change(self.open.generation, |state| state.sync(key))
    }

    fn map(&self, len: u64) -> io::Result<Arc<dyn Map>> {
        if self.open.len()? < len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(Arc::new(MemoryMap { open: Arc::clone(&self.open), len }))
    }
}

/// A view of a file; slices are copies of what the file holds when they are asked for.
struct MemoryMap {
    open: Arc<OpenFile>,
    len: u64,
}

impl Map for MemoryMap {
    fn slice(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len);
        if end.is_none() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len];
        let read = self.open.read(&mut bytes, offset);
        if read.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::IO.raw_os_error())) {
            self.open.shared.state().counts.map_faults += 1;
        }
        read?;
        Ok(bytes.into())
    }
}
