//! A small valid log on a disk in memory: what the storage targets damage.
//!
//! ```text
//!   1 2 3 │ 4 5 6 │ 7 8 (9) │ 9 10 │ 11      indexes, by segment; 1 is a membership, (9) is cut away
//!   └─────── term 1 ────────┘ └─ term 2 ┘    all but the last are sealed and have an index file
//! ```
//! It is made once, by the product itself; every input works on a copy. All of it is durable and committed.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use dledger::commitlog::{self, LogOptions, LogWriter, Opened, WriteBatch, frame, layout};
use dledger::config::Durability;
use dledger::env::OpenMode;
use dledger::env::memory::MemoryDisk;
use dledger::error::OpenError;
use dledger::types::{ClusterId, EntryId, GroupId, Index, Kind, LogTime, NodeId, Position, Term, Vote};

const DATA_DIR: &str = "/data";
/// The blocks before the records take 16 KiB: four of them are left for records.
const SEGMENT_BYTES: u64 = 20 << 10;
const MAX_RECORD_BYTES: u32 = 64 << 10;
const PAYLOAD_BYTES: usize = 600;
/// The last index of each segment.
const LASTS: [u64; 5] = [3, 6, 8, 10, 11];

/// The log, and what it holds.
pub struct Sample {
    /// The disk; fork it before changing anything.
    pub disk: MemoryDisk,
    /// Record 1 is the first.
    pub records: Vec<Bytes>,
    /// The last entry.
    pub last: EntryId,
    /// Where the next record goes.
    pub end: Position,
    /// Term and vote.
    pub vote: Vote,
    /// The segment files, each with the last index that is read from it.
    pub segments: Vec<(PathBuf, Index)>,
    /// The index file of the first segment.
    pub index_file: PathBuf,
}

/// The directory of the group.
#[must_use]
pub fn group_dir() -> PathBuf {
    layout::group_dir(Path::new(DATA_DIR), GroupId::FIRST)
}

/// The log's directory.
#[must_use]
pub fn log_dir() -> PathBuf {
    layout::log_dir(&group_dir())
}

/// The vote file.
#[must_use]
pub fn vote_file() -> PathBuf {
    group_dir().join(layout::VOTE_FILE)
}

/// The cluster that the log belongs to.
pub const CLUSTER: ClusterId = ClusterId(0xc1);

/// Opens the log on a disk.
///
/// # Errors
/// Those of the commitlog.
pub fn open(disk: &MemoryDisk) -> Result<Opened, OpenError> {
    let options = LogOptions {
        cluster: CLUSTER,
        group: GroupId::FIRST,
        segment_bytes: SEGMENT_BYTES,
        max_record_bytes: MAX_RECORD_BYTES,
        durability: Durability::Sync,
        wall_ms: 1_700_000_000_000,
        covered: Index::ZERO,
    };
    commitlog::open(disk.handle(), &group_dir(), options)
}

/// Runs what the log wants to have prepared beside its writing, and asserts that it works.
pub fn prepare(writer: &mut LogWriter) {
    while let Some(job) = writer.prepare_job() {
        writer.prepared(job.run()).expect("a disk in memory takes what is prepared");
    }
}

/// The record that follows entry `after`, which ends at `end`.
#[must_use]
pub fn record(after: EntryId, end: Position, term: Term, kind: Kind) -> Bytes {
    let id = EntryId::new(after.index.next(), term);
    let payload: Vec<u8> =
        (0..PAYLOAD_BYTES as u64).map(|at| ((at * 7 + id.index.get() * 31) % 255) as u8 + 1).collect();
    let mut bytes = Vec::new();
    frame(&mut bytes, id, end, LogTime(1000 + id.index.get()), kind, 0, &payload);
    bytes.into()
}

/// All of a file.
#[must_use]
pub fn read_file(disk: &MemoryDisk, path: &Path) -> Vec<u8> {
    let file = disk.handle().open(path, OpenMode::Read).expect("the file is there");
    let mut bytes = vec![0; file.len().expect("it has a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("it can be read");
    bytes
}

/// Puts a file of these bytes there.
pub fn write_file(disk: &MemoryDisk, path: &Path, bytes: &[u8]) {
    let handle = disk.handle();
    drop(handle.remove(path));
    let file = handle.open(path, OpenMode::Create).expect("the directory takes a file");
    file.write_all_at(&[IoSlice::new(bytes)], 0).expect("the file takes bytes");
    file.sync().expect("the disk syncs");
}

/// The log.
#[must_use]
pub fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(make)
}

fn make() -> Sample {
    let disk = MemoryDisk::new();
    let groups = Path::new(DATA_DIR).join(layout::GROUPS_DIR);
    disk.handle().create_dir_all(&groups).expect("an empty disk takes directories");
    let Opened { mut writer, .. } = open(&disk).expect("an empty directory becomes a log");
    let mut maker = Maker { records: Vec::new(), last: EntryId::ZERO, end: Position::ZERO };
    let vote = |term: u64| Some(Vote { term: Term(term), voted_for: NodeId(term) });
    let batches = [
        (vote(1), None, maker.records(Term(1), 3)),
        (None, None, maker.records(Term(1), 3)),
        (None, None, maker.records(Term(1), 3)),
        (vote(2), Some(maker.cut(8)), maker.records(Term(2), 2)),
        (None, None, maker.records(Term(2), 1)),
    ];
    for (vote, truncate_after, records) in batches {
        let batch = WriteBatch { vote, truncate_after, records, ..WriteBatch::default() };
        writer.write(&batch).expect("a disk in memory takes a batch");
        prepare(&mut writer);
    }
    writer.idle(maker.last.index).expect("a disk in memory takes a slot");
    let vote = writer.vote();
    drop(writer);
    disk.kill_process();
    let names = disk.handle().list(&log_dir()).expect("the directory can be listed");
    let of_kind =
        |end: &str| names.iter().filter(|name| name.ends_with(end)).map(|name| log_dir().join(name)).collect();
    let (segments, indexes): (Vec<PathBuf>, Vec<PathBuf>) = (of_kind(".seg"), of_kind(".idx"));
    assert!(segments.len() == LASTS.len() && !indexes.is_empty(), "the sample is not as described: {names:?}");
    let Maker { records, last, end } = maker;
    let segments = segments.into_iter().zip(LASTS.map(Index)).collect();
    Sample { disk, records, last, end, vote, segments, index_file: indexes[0].clone() }
}

struct Maker {
    records: Vec<Bytes>,
    last: EntryId,
    end: Position,
}

impl Maker {
    fn records(&mut self, term: Term, count: usize) -> Vec<Bytes> {
        (0..count).map(|_| self.record(term)).collect()
    }

    fn record(&mut self, term: Term) -> Bytes {
        let kind = if self.last.index.is_zero() { Kind::Membership } else { Kind::Data };
        let record = record(self.last, self.end, term, kind);
        self.last = EntryId::new(self.last.index.next(), term);
        self.end = self.end.plus(record.len() as u64);
        self.records.push(record.clone());
        record
    }

    /// Forgets what stands behind `index`, an entry of term 1.
    fn cut(&mut self, index: usize) -> EntryId {
        for record in self.records.drain(index..) {
            self.end = Position(self.end.get() - record.len() as u64);
        }
        self.last = EntryId::new(Index(index as u64), Term(1));
        self.last
    }
}
