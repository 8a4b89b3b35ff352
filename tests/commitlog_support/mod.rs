//! What the commitlog's tests share: a log on a disk in memory, and records made by the dozen.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dledger::commitlog::Rule;
use dledger::commitlog::inspect::inspect;
use dledger::commitlog::{LogOptions, LogReader, LogWriter, Opened, WriteBatch, frame, layout, open, split};
use dledger::config::Durability;
use dledger::env::memory::{Fate, MemoryDisk};
use dledger::error::OpenError;
use dledger::types::{ClusterId, EntryId, GroupId, Index, Kind, LogTime, NodeId, Position, Term, Vote};

pub(crate) const DATA_DIR: &str = "/data";

pub(crate) fn group() -> PathBuf {
    layout::group_dir(Path::new(DATA_DIR), GroupId::FIRST)
}

pub(crate) fn options() -> LogOptions {
    LogOptions {
        cluster: ClusterId(0xc1),
        group: GroupId::FIRST,
        segment_bytes: 128 << 10,
        max_record_bytes: 1 << 20,
        durability: Durability::Sync,
        wall_ms: 1_700_000_000_000,
        covered: Index::ZERO,
    }
}

/// The payload of an index: different for each, and of a length that walks over sector ends.
pub(crate) fn payload(index: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (index as usize * 31 + at * 7 + 1) as u8).collect()
}

/// Makes records and remembers where the log stands.
#[derive(Clone, Copy)]
pub(crate) struct Maker {
    pub(crate) last: EntryId,
    pub(crate) end: Position,
}

impl Maker {
    pub(crate) fn new() -> Self {
        Self { last: EntryId::ZERO, end: Position::ZERO }
    }

    pub(crate) fn after(last: EntryId, end: Position) -> Self {
        Self { last, end }
    }

    pub(crate) fn of_kind(&mut self, term: u64, kind: Kind, payload: &[u8]) -> Bytes {
        let id = EntryId::new(self.last.index.next(), Term(term));
        let mut out = Vec::new();
        frame(&mut out, id, self.end, LogTime(1000 + id.index.get()), kind, 7, payload);
        self.last = id;
        self.end = self.end.plus(out.len() as u64);
        out.into()
    }

    pub(crate) fn record(&mut self, term: u64, bytes: usize) -> Bytes {
        let payload = payload(self.last.index.get() + 1, bytes);
        self.of_kind(term, Kind::Data, &payload)
    }

    pub(crate) fn batch(&mut self, term: u64, count: usize, bytes: usize) -> WriteBatch {
        let records = (0..count).map(|_| self.record(term, bytes)).collect();
        WriteBatch { records, ..WriteBatch::default() }
    }
}

pub(crate) fn try_open(
    memory: &MemoryDisk,
    options: impl std::borrow::Borrow<LogOptions>,
) -> Result<Opened, OpenError> {
    open(memory.handle(), &group(), options.borrow().clone())
}

pub(crate) fn open_log(memory: &MemoryDisk) -> Opened {
    try_open(memory, options()).unwrap()
}

/// Runs jobs as long as there are any.
pub(crate) fn prepare_all(writer: &mut LogWriter) {
    while let Some(job) = writer.prepare_job() {
        writer.prepared(job.run()).unwrap();
    }
}

/// All records of a log, concatenated.
pub(crate) fn all_bytes(reader: &LogReader) -> Vec<u8> {
    let mut all = Vec::new();
    let mut next = reader.first();
    while next <= reader.last() {
        let record = reader.read(next).unwrap();
        all.extend_from_slice(record.bytes());
        next = next.next();
    }
    all
}

/// One record out of the bytes of a log that starts with index 1.
pub(crate) fn record_of(bytes: &[u8], index: Index) -> Bytes {
    let bytes = bytes.to_vec().into();
    let mut records = split(&bytes, u32::MAX).map(|record| record.unwrap());
    records.find(|record| record.header().id.index == index).unwrap().bytes().clone()
}

/// The segment files of the log, in order of their names.
pub(crate) fn segments(memory: &MemoryDisk) -> Vec<PathBuf> {
    let dir = layout::log_dir(&group());
    let names = memory.handle().list(&dir).unwrap();
    names.into_iter().filter(|name| name.ends_with(".seg")).map(|name| dir.join(name)).collect()
}

pub(crate) fn read_file(memory: &MemoryDisk, path: &Path) -> Vec<u8> {
    let file = memory.handle().open(path, dledger::env::OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn write_file(memory: &MemoryDisk, path: &Path, bytes: &[u8]) {
    let disk = memory.handle();
    drop(disk.remove(path));
    let file = disk.open(path, dledger::env::OpenMode::Create).unwrap();
    file.write_all_at(&[std::io::IoSlice::new(bytes)], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(path.parent().unwrap()).unwrap();
}

/// A log of `batches` synced batches of two records, with the slot at the end when `idle`.
pub(crate) fn written(batches: usize, idle: bool) -> (MemoryDisk, Maker, Vec<u8>) {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    let vote = Some(Vote { term: Term(1), voted_for: NodeId(1) });
    opened.writer.write(&WriteBatch { vote, ..WriteBatch::default() }).unwrap();
    for _ in 0..batches {
        opened.writer.write(&maker.batch(1, 2, 200)).unwrap();
    }
    if idle {
        opened.writer.idle(Index(1)).unwrap();
    }
    let bytes = all_bytes(&opened.reader);
    (memory, maker, bytes)
}

pub(crate) fn refusal(memory: &MemoryDisk) -> OpenError {
    memory.kill_process();
    match try_open(memory, options()) {
        Ok(opened) => panic!("opened: {:?} {:?}", opened.state, opened.report),
        Err(error) => error,
    }
}

/// Opens twice, with a power cut between, and finds the same bytes.
pub(crate) fn opens_with(memory: &MemoryDisk, expected: &[u8], rule: Rule) {
    memory.kill_process();
    let opened = open_log(memory);
    assert!(opened.report.rules.contains(&rule), "{rule} is not in {:?}", opened.report);
    assert!(all_bytes(&opened.reader) == expected);
    memory.power_cut(|_| Fate::Lost);
    assert!(all_bytes(&open_log(memory).reader) == expected);
}

/// Where the records of a segment without members start.
pub(crate) const RECORDS: u64 = 4 * 4096;
pub(crate) const FOOTER: usize = 3 * 4096;

/// A log of at least three segments, and the first index of each.
pub(crate) fn many_segments() -> (MemoryDisk, Vec<Index>) {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    while segments(&memory).len() < 4 {
        opened.writer.write(&maker.batch(1 + maker.last.index.get() / 100, 10, 3000)).unwrap();
    }
    opened.writer.idle(Index(1)).unwrap();
    memory.kill_process();
    let infos = inspect(&*memory.handle(), &group()).unwrap().segments();
    (memory, infos.iter().map(|info| info.first).collect())
}

/// A log of which the first two segments were purged, the first indexes of those that are left, and its records.
pub(crate) fn purged() -> (MemoryDisk, Vec<Index>, Vec<u8>) {
    let (memory, mut firsts) = many_segments();
    let mut opened = open_log(&memory);
    opened.writer.purge(firsts[2]).unwrap();
    opened.writer.idle(Index(1)).unwrap();
    let bytes = all_bytes(&opened.reader);
    memory.kill_process();
    firsts.drain(..2);
    (memory, firsts, bytes)
}

/// Continues a log that is open.
pub(crate) fn maker_of(opened: &Opened) -> Maker {
    Maker::after(opened.state.last, opened.state.end)
}
