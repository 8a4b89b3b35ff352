//! Read-only maps of files: the only unsafe code of the crate.
//!
//! ```text
//!   file   |  published bytes, never written again  |  being written  |  zeros  |
//!   map    |<------------------------------ len ------------------------------->|   raw pointers only
//!   slice            |<- asked for ->|                                             the only `&[u8]` ever made
//! ```
//! # Why this is sound
//! A `&[u8]` promises that its bytes do not change and can be read as long as it lives.
//! - **Bytes do not change.** No reference to the whole map is ever made: it is held as a raw pointer, and a `&[u8]`
//!   covers exactly a range that a caller asked for. The caller of [`Map::slice`] promises that nobody writes to that
//!   range any more; the commitlog asks only for bytes below its published end, and published bytes are not
//!   overwritten but for one exception: a record that fails its checksum may be mended. Such bytes are not handed
//!   out (one that was, before it rotted, was changed by the rot, and mending brings the same bytes back), and a lock keeps readers from looking at them while they change (`commitlog/live.rs`, `gate`).
//! - **Bytes can be read.** The map was not longer than the file when it was made, and this crate has no way to
//!   shorten a file: [`super::File`] has no such method. Unlinked files keep their bytes while they are mapped.
//! - **Other processes** are kept away by the data directory's lock and modes. One that ignores both can break any
//!   program that maps files; that limit is accepted and documented.
//!
//! Bytes that fail to load from a broken disk are a signal, not an error, when read through a map. That is why ranges
//! are first verified with [`super::File::read_exact_at`], and why writes never go through a map.

#![expect(unsafe_code, reason = "references into a file map cannot be made without; the argument stands above")]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};

use super::Map;

/// Maps the first `len` bytes of `file` for reading, shared with later writes to it.
///
/// # Errors
/// `UnexpectedEof` when the file is shorter; those of `mmap`.
pub(super) fn map(file: &File, len: u64) -> io::Result<Arc<dyn Map>> {
    if file.metadata()?.len() < len {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    if len == 0 {
        return Ok(Arc::new(FileMap { raw: None, len }));
    }
    let raw = MmapOptions::new().len(len).map_raw_read_only(file)?;
    Ok(Arc::new(FileMap { raw: Some(Arc::new(raw)), len }))
}

/// A mapped file: `raw` covers exactly `len` bytes, and is absent when there are none.
struct FileMap {
    raw: Option<Arc<MmapRaw>>,
    len: usize,
}

impl Map for FileMap {
    fn slice(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let eof = || io::Error::from(ErrorKind::UnexpectedEof);
        let offset = usize::try_from(offset).map_err(|_| eof())?;
        let end = offset.checked_add(len).ok_or_else(eof)?;
        if end > self.len {
            return Err(eof());
        }
        match &self.raw {
            Some(raw) if len > 0 => Ok(Bytes::from_owner(Window { raw: Arc::clone(raw), offset, len })),
            Some(_) | None => Ok(Bytes::new()),
        }
    }
}

/// A range of a map that keeps the map alive. Invariant: `offset + len <= raw.len()`, checked where it is made.
struct Window {
    raw: Arc<MmapRaw>,
    offset: usize,
    len: usize,
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `offset + len <= raw.len()`, so the pointer and the range stay inside one mapping, which is
        // page-aligned, readable, at most `isize::MAX` long, and lives as long as `self.raw`, hence as long as the
        // returned reference. The bytes are initialised (a file's bytes always are) and are not written while the
        // reference lives: see "Why this is sound" in the module's documentation.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(self.offset), self.len) }
    }
}
