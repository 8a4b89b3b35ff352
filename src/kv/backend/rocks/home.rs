//! The directory of a node's state, and the databases in it.
//!
//! ```text
//!   state/  1/    in use ────────────────► removed when nobody reads it any more
//!           2/    loaded from a snapshot, durable, base written last ─► in use
//! ```
//! A database is whole when it has a base; one without was being loaded, or had nothing flushed, when the process ended, and
//! is removed. Of several whole ones the furthest is used. So a swap needs no rename: at every moment a crash leaves the old
//! one, the new one, or both, and each is the state after some entry.
//!
//! All here is made again from snapshot and log when it is gone: a damaged database is put aside when it cannot be opened, and
//! removed once there is another.
//!
//! Deliberately absent: RocksDB's own log. The commitlog is the log.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, ErrorKind, FlushOptions, LogLevel, Options, ReadOptions,
};
use rocksdb::{WriteBatch, WriteOptions};

use crate::env::Disk;

use super::super::{BackendError, Held};
use super::format::{self, Unreadable};
use super::kill::{flushed_site, site};

/// Memory for blocks of files that are read.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Files held open: a node has other uses for descriptors.
const MAX_OPEN_FILES: i32 = 512;
/// Ten bits a key: one in a hundred gets of an absent key reads a block in vain.
const BLOOM_BITS: f64 = 10.0;
/// RocksDB's own log of its doings, for whoever looks for the cause of a fault.
const INFO_LOG_BYTES: usize = 1 << 20;
const INFO_LOGS: usize = 2;
/// What a database keeps of space for its list of files; the default of 4 MiB is more than most states.
const MANIFEST_BYTES: usize = 64 << 10;
/// How often background work gets its share of a rate, and how often merges go before flushes; RocksDB's own defaults.
const RATE_PERIOD_US: i64 = 100_000;
const RATE_FAIRNESS: i32 = 10;
/// The file that a database has once it was created.
const CURRENT: &str = "CURRENT";

/// What tests make smaller, to see sooner what a large state shows.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    /// Memory for keys before they are flushed to a file. Two of them may be in use.
    pub(crate) write_buffer_bytes: usize,
    /// Bytes a second that flushes and merges may write; 0: no limit.
    pub(crate) background_rate: i64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { write_buffer_bytes: 32 << 20, background_rate: 0 }
    }
}

impl Tuning {
    fn options(&self) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
        blocks.set_bloom_filter(BLOOM_BITS, false);
        blocks.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_max_open_files(MAX_OPEN_FILES);
        options.set_log_level(LogLevel::Warn);
        options.set_max_log_file_size(INFO_LOG_BYTES);
        options.set_keep_log_file_num(INFO_LOGS);
        options.set_manifest_preallocation_size(MANIFEST_BYTES);
        options.set_skip_stats_update_on_db_open(true);
        options.set_write_buffer_size(self.write_buffer_bytes);
        if self.background_rate > 0 {
            options.set_ratelimiter(self.background_rate, RATE_PERIOD_US, RATE_FAIRNESS);
        }
        options
    }
}

/// An open database. Closed when the last who reads it lets go.
pub(super) struct Db {
    // Fields are dropped in this order: closed first.
    pub(super) inner: DB,
    remains: Remains,
}

/// What is left of a database when it is closed.
struct Remains {
    path: PathBuf,
    doomed: AtomicBool,
}

impl Drop for Remains {
    fn drop(&mut self) {
        if *self.doomed.get_mut() {
            remove(&self.path);
        }
    }
}

/// Removes a database that nobody has open. One that stays is removed at the next start.
fn remove(path: &Path) {
    site("remove a database");
    if let Err(error) = DB::destroy(&Options::default(), path) {
        tracing::warn!(path = %path.display(), %error, "a state that is not used any more could not be removed");
    }
}

impl Db {
    /// Remove it once it is closed.
    pub(super) fn doom(&self) {
        self.remains.doomed.store(true, Ordering::Relaxed);
    }

    /// It is to stay.
    pub(super) fn spare(&self) {
        self.remains.doomed.store(false, Ordering::Relaxed);
    }

    /// Writes a batch, whole or not at all. May wait until files are flushed or merged. Not durable.
    pub(super) fn write(&self, batch: WriteBatch) -> Result<(), BackendError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        site("before a write");
        self.inner.write_opt(batch, &options).map_err(|error| self.cannot("write", &error))?;
        flushed_site("after a write", || drop(self.inner.flush()));
        Ok(())
    }

    /// Makes all that was written durable. Blocks.
    pub(super) fn flush(&self) -> Result<(), BackendError> {
        site("before a flush");
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.inner.flush_opt(&options).map_err(|error| self.cannot("flush", &error))?;
        site("after a flush");
        Ok(())
    }

    /// The base, the range that is leaving, and the records beside the keys.
    #[expect(clippy::type_complexity, reason = "three things that are read together")]
    fn read_all_but_keys(&self) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>, Vec<Vec<u8>>), rocksdb::Error> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(format::SIDE);
        options.set_iterate_upper_bound(format::BEHIND_SIDES);
        let mut items = self.inner.raw_iterator_opt(options);
        items.seek_to_first();
        let mut sides = Vec::new();
        while let Some(record) = items.value() {
            sides.push(record.to_vec());
            items.next();
        }
        items.status()?;
        Ok((self.inner.get(format::BASE)?, self.inner.get(format::LEAVING)?, sides))
    }

    /// An error of RocksDB, for a person.
    pub(super) fn cannot(&self, what: &str, error: &rocksdb::Error) -> BackendError {
        failed(&self.remains.path, what, error)
    }
}

fn failed(path: &Path, what: &str, error: &rocksdb::Error) -> BackendError {
    let todo = if error.kind() == ErrorKind::Corruption {
        "stop the node, remove that directory and start it again: the state is made anew from snapshot and log"
    } else {
        "see to the disk and start the node again; if that does not help, remove that directory before: the state is made \
         anew from snapshot and log"
    };
    BackendError(format!("RocksDB cannot {what} {}: {error}; {todo}", path.display()))
}

/// The directory of a node's state.
pub(super) struct Home {
    disk: Arc<dyn Disk>,
    directory: OnceLock<PathBuf>,
    next: AtomicU64,
    tuning: Tuning,
}

/// What was found under a name.
enum Found {
    Whole(Box<(Db, Held)>),
    /// Removed.
    Unfinished,
    Damaged(String),
}

impl Home {
    pub(super) fn new(disk: Arc<dyn Disk>, tuning: Tuning) -> Self {
        Self { disk, directory: OnceLock::new(), next: AtomicU64::new(1), tuning }
    }

    /// Takes up the furthest whole database of the directory, and removes the others.
    pub(super) fn open(&self, directory: &Path) -> Result<Option<(Db, Held)>, BackendError> {
        let directory = self.directory.get_or_init(|| directory.to_owned());
        let names = self.list(directory)?;
        let mut generations: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        generations.sort_unstable();
        let (mut best, mut damaged): (Option<Box<(Db, Held)>>, _) = (None, Vec::new());
        for generation in generations {
            self.next.fetch_max(generation.saturating_add(1), Ordering::Relaxed);
            let path = directory.join(generation.to_string());
            match self.look(&path)? {
                Found::Whole(found) => {
                    let reaches = |found: &(Db, Held)| found.1.base.entry.index;
                    let further = best.as_ref().is_none_or(|best| reaches(best) <= reaches(&found));
                    let other = if further { best.replace(found) } else { Some(found) };
                    if let Some(other) = other {
                        other.0.doom();
                    }
                }
                Found::Unfinished => {}
                Found::Damaged(reason) => {
                    tracing::error!(path = %path.display(), reason, "a state is damaged; another is made of snapshot and log");
                    damaged.push(path);
                }
            }
        }
        if best.is_some() {
            damaged.iter().for_each(|path| remove(path));
        }
        Ok(best.map(|best| *best))
    }

    fn look(&self, path: &Path) -> Result<Found, BackendError> {
        if !self.list(path)?.iter().any(|name| name == CURRENT) {
            // Not even created whole.
            tracing::info!(path = %path.display(), "a state that was never whole, or has lost its first file, is removed");
            remove(path);
            return Ok(Found::Unfinished);
        }
        let db = match DB::open(&self.tuning.options(), path) {
            Ok(inner) => Db { inner, remains: Remains { path: path.to_owned(), doomed: AtomicBool::new(false) } },
            Err(error) if error.kind() == ErrorKind::Corruption => return Ok(Found::Damaged(error.to_string())),
            Err(error) => return Err(failed(path, "open", &error)),
        };
        let (base, leaving, sides) = match db.read_all_but_keys() {
            Ok((Some(base), leaving, sides)) => (base, leaving, sides),
            Ok((None, ..)) => {
                db.doom();
                return Ok(Found::Unfinished);
            }
            Err(error) if error.kind() == ErrorKind::Corruption => return Ok(Found::Damaged(error.to_string())),
            Err(error) => return Err(db.cannot("read", &error)),
        };
        let leaving = leaving.map(|range| format::decode_leaving(&range)).transpose();
        match (format::decode_base(&base), leaving) {
            (Ok(base), Ok(leaving)) => Ok(Found::Whole(Box::new((db, Held { base, leaving, sides })))),
            (Err(Unreadable::Unsupported(version)), _) | (_, Err(Unreadable::Unsupported(version))) => {
                Err(BackendError(format!(
                    "{} has format version {version}, which this release does not read; use the release that wrote it, or \
                     remove that directory: the state is made anew from snapshot and log",
                    path.display()
                )))
            }
            (Err(Unreadable::Malformed(reason)), _) | (_, Err(Unreadable::Malformed(reason))) => {
                Ok(Found::Damaged(reason))
            }
        }
    }

    /// A new, empty database.
    pub(super) fn create(&self) -> Result<Db, BackendError> {
        let Some(directory) = self.directory.get() else {
            return Err(BackendError("the state has not been opened yet".to_owned()));
        };
        let path = directory.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let made = self.disk.create_dir_all(&path).and_then(|()| self.disk.sync_dir(directory));
        made.map_err(|error| BackendError(format!("cannot make {}: {error}", path.display())))?;
        site("before a database is created");
        let mut options = self.tuning.options();
        options.create_if_missing(true);
        let inner = DB::open(&options, &path).map_err(|error| failed(&path, "create", &error))?;
        site("after a database is created");
        Ok(Db { inner, remains: Remains { path, doomed: AtomicBool::new(false) } })
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, BackendError> {
        self.disk.list(directory).map_err(|error| BackendError(format!("cannot list {}: {error}", directory.display())))
    }
}
