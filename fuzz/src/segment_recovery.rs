//! Opening a log whose segments are not as they were left.
//!
//! ```text
//!   0 │ file (1) │ kind (1) │ offset (2) │ bytes (up to 4)              one damage
//!     kind: 0 other bytes   1 the end is missing   2 a sector of zeros   3 a sector of another place   4 no file
//!           5 more zeros behind the end
//!   1 │ repeated: file (1) │ offset (2) │ length (1) │ bytes …          anything, then every checksum is made right
//!   2 │ file (1) │ bytes of a whole segment …                           the same for a file of these bytes
//! ```
//! Claims, after one damage: opening refuses, or the log holds every record as it was, but for those of the segment that
//! was hit: reading such a one is an error, it lies in a hole, and a good copy of it mends that. With both slots of the last
//! segment gone the log may end earlier, and says that it doubts its end. Nobody can build a CRC-32
//! into four bytes that stand together, so this has no exceptions. Claims in every case: what is refused leaves the
//! directory as it was; what is opened can be read, takes copies for its holes and a record, and opens again to the same;
//! looking at it from outside never fails in another way than by saying so.

use std::path::PathBuf;

use bytes::{Buf, Bytes};
use dledger::commitlog::{Hole, Opened, WriteBatch, inspect};
use dledger::env::memory::{MemoryDisk, SECTOR_BYTES};
use dledger::error::ReadError;
use dledger::types::{Index, Kind, Term};

use crate::sample_log::{self, Sample, sample};
use crate::{Seed, forge, golden};

/// Bytes that CRC-32 finds changed in any way.
const BURST_BYTES: usize = 4;
/// Edits of one input.
const MAX_EDITS: usize = 16;
/// Records that are read of a log that may claim to have any number.
const MAX_READS: u64 = 64;
/// Above these a forged log has no room to go on, or too many records for this test.
const SANE: u64 = 1 << 40;

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let sample = sample();
    let disk = sample.disk.fork();
    let hit = match data.try_get_u8().unwrap_or(0) % 3 {
        0 => Some(damage(sample, &disk, data)),
        1 => {
            edit(sample, &disk, data);
            None
        }
        _ => {
            let place = usize::from(data.try_get_u8().unwrap_or(0)) % sample.segments.len();
            let mut bytes = data.to_vec();
            forge::segment(&mut bytes);
            sample_log::write_file(&disk, &sample.segments[place].0, &bytes);
            None
        }
    };
    look_from_outside(&disk);
    let before = disk.counts();
    let mut opened = match sample_log::open(&disk) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(disk.counts(), before, "refused, and changed all the same: {error}");
            return;
        }
    };
    match &hit {
        Some(hit) => {
            check_nothing_lost(sample, &opened, hit);
            mend(sample, &mut opened);
            assert_eq!(opened.reader.holes(), []);
            let whole = opened.reader.read_from(Index(1), u64::MAX).expect("every record is mended").concat();
            assert!(sample.records.concat().starts_with(&whole), "mended with other bytes");
        }
        None => {
            check_order(&opened);
            mend(sample, &mut opened);
            check_order(&opened);
        }
    }
    check_goes_on(&disk, opened, hit.is_some());
}

/// What one damage may have destroyed.
struct Hit {
    /// Indexes that may no longer be readable.
    indexes: std::ops::Range<u64>,
    last_segment: bool,
}

fn damage(sample: &Sample, disk: &MemoryDisk, mut data: &[u8]) -> Hit {
    let mut byte = || data.try_get_u8().unwrap_or(0);
    let (place, kind) = (usize::from(byte()) % sample.segments.len(), byte());
    let offset = usize::from(data.try_get_u16_le().unwrap_or(0));
    let (path, last) = &sample.segments[place];
    let mut bytes = sample_log::read_file(disk, path);
    let offset = offset % bytes.len();
    let sector = offset / SECTOR_BYTES * SECTOR_BYTES;
    let end = (sector + SECTOR_BYTES).min(bytes.len());
    match kind % 6 {
        0 => {
            let burst = data.len().min(BURST_BYTES).min(bytes.len() - offset);
            bytes[offset..offset + burst].copy_from_slice(&data[..burst]);
        }
        1 => bytes.truncate(offset),
        2 => bytes[sector..end].fill(0),
        3 => {
            let from = usize::from(data.try_get_u8().unwrap_or(0)) * SECTOR_BYTES % (bytes.len() - SECTOR_BYTES);
            bytes.copy_within(from..from + (end - sector), sector);
        }
        4 => {}
        _ => bytes.resize(bytes.len() + offset, 0),
    }
    if kind % 6 == 4 {
        disk.handle().remove(path).expect("the file is there");
    } else {
        sample_log::write_file(disk, path, &bytes);
    }
    let first = place.checked_sub(1).map_or(1, |before| sample.segments[before].1.get() + 1);
    Hit { indexes: first..last.get() + 1, last_segment: place + 1 == sample.segments.len() }
}

/// Writes good copies of what the log cannot read.
fn mend(sample: &Sample, opened: &mut Opened) {
    let record = |index: u64| index.checked_sub(1).and_then(|place| sample.records.get(usize::try_from(place).ok()?));
    let indexes = |hole: &Hole| (hole.first.get()..=hole.last.get()).take(sample.records.len());
    let copies = |hole: &Hole| Bytes::from(indexes(hole).filter_map(record).flatten().copied().collect::<Vec<u8>>());
    let mend = opened.reader.holes().iter().map(copies).collect();
    let written = opened.writer.write(&WriteBatch { mend, ..WriteBatch::default() });
    assert!(written.is_ok(), "{written:?}");
}

fn edit(sample: &Sample, disk: &MemoryDisk, mut data: &[u8]) {
    let paths: Vec<&PathBuf> = sample.segments.iter().map(|(path, _last)| path).collect();
    let mut files: Vec<Vec<u8>> = paths.iter().map(|path| sample_log::read_file(disk, path)).collect();
    for _ in 0..MAX_EDITS {
        let Ok(place) = data.try_get_u8() else { break };
        let file = &mut files[usize::from(place) % paths.len()];
        let offset = usize::from(data.try_get_u16_le().unwrap_or(0)) % file.len();
        let length = usize::from(data.try_get_u8().unwrap_or(0)).min(data.len()).min(file.len() - offset);
        file[offset..offset + length].copy_from_slice(&data[..length]);
        data.advance(length);
    }
    for (path, mut bytes) in paths.into_iter().zip(files) {
        forge::segment(&mut bytes);
        sample_log::write_file(disk, path, &bytes);
    }
}

/// What `kvcli log` does.
fn look_from_outside(disk: &MemoryDisk) {
    match inspect::inspect(&*disk.handle(), &sample_log::group_dir()) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(inspection) => {
            assert!(inspection.segments().len() <= sample().segments.len());
            let verified = inspection.verify(Index(1), Index(MAX_READS));
            assert!(verified.records <= MAX_READS);
            let found: u64 = inspection.records(Index(1), Index(MAX_READS)).flatten().map(|_record| 1).sum();
            assert_eq!(found, verified.records);
        }
    }
}

fn check_nothing_lost(sample: &Sample, opened: &Opened, hit: &Hit) {
    let state = &opened.state;
    let last = state.last.index;
    if state.last_in_doubt.is_some() && last < sample.last.index {
        assert!(hit.last_segment && hit.indexes.contains(&last.next().get()), "{last} is last; {:?}", opened.report);
    } else {
        assert_eq!((state.last, state.end), (sample.last, sample.end), "{:?}", opened.report);
    }
    assert_eq!(state.vote, sample.vote);
    assert!(state.committed_hint <= last);
    assert_eq!((opened.reader.first(), opened.reader.last()), (Index(1), last));
    let records = &sample.records[..last.get() as usize];
    for (index, record) in (1..).zip(records) {
        match opened.reader.read(Index(index)) {
            Ok(read) => assert_eq!(read.bytes(), record, "another record at {index}"),
            Err(ReadError::Damaged { .. }) if hit.indexes.contains(&index) => {
                assert!(opened.reader.hole_at(Index(index)).is_some(), "{index} is in no hole");
            }
            Err(error) => panic!("record {index} is lost: {error}; {:?}", opened.report),
        }
    }
}

/// Of a forged log only this can be said: a record is the one that was asked for, and they follow one another.
fn check_order(opened: &Opened) {
    let (first, last) = (opened.reader.first(), opened.reader.last());
    assert_eq!((first, last), (opened.state.base.index.next(), opened.state.last.index));
    let mut index = first;
    for _ in 0..MAX_READS {
        if index > last || index.next() == index {
            break;
        }
        if let Ok(record) = opened.reader.read(index) {
            assert_eq!(record.header().id.index, index);
            let position = record.header().position;
            if let Ok(same) = opened.reader.read_at(position) {
                assert_eq!(same.header().position, position);
            }
        }
        if let Ok(pieces) = opened.reader.read_from(index, 2000) {
            assert!(!pieces.concat().is_empty());
        }
        index = index.next();
    }
    assert!(opened.reader.read(last.next()).is_err() || last.next() == last);
}

fn readable(opened: &Opened) -> Vec<Option<Bytes>> {
    let first = opened.reader.first();
    let indexes = (0..MAX_READS).map(|count| first.plus(count)).take_while(|index| *index <= opened.reader.last());
    indexes.map(|index| opened.reader.read(index).ok().map(|record| record.bytes().clone())).collect()
}

/// Takes a record, and opens to the same with it.
fn check_goes_on(disk: &MemoryDisk, mut opened: Opened, damaged: bool) {
    let (last, end) = (opened.state.last, opened.state.end);
    if !damaged && (last.index.get() > SANE || end.get() > SANE || last.term.get() > SANE) {
        return;
    }
    let vote = opened.state.vote;
    let mut expected = readable(&opened);
    let record = sample_log::record(last, end, last.term.max(Term(1)), Kind::Data);
    let batch = WriteBatch { records: vec![record.clone()], ..WriteBatch::default() };
    let written = opened.writer.write(&batch);
    assert!(written.is_ok(), "{written:?}");
    sample_log::prepare(&mut opened.writer);
    assert_eq!(opened.reader.last(), last.index.next());
    drop(opened);
    disk.kill_process();
    let again =
        sample_log::open(disk).unwrap_or_else(|error| panic!("what was opened and written does not open: {error}"));
    assert_eq!((again.state.last.index, again.state.vote), (last.index.next(), vote));
    if (expected.len() as u64) < MAX_READS {
        expected.push(Some(record));
    }
    assert!(readable(&again) == expected, "other records after opening again");
}

/// A damage of each kind in each part of each segment; edits of each field; the golden segments.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let places = [0_u16, 20, 4096 + 8, 8192 + 16, 12288 + 8, 16384 + 4, 16384 + 60, 17000, 18000, 20000];
    let mut seeds = Vec::new();
    for file in 0..sample().segments.len() as u8 {
        for kind in 0..6 {
            for at in places {
                let [low, high] = at.to_le_bytes();
                seeds.push((format!("damage-{file}-{kind}-{at}"), vec![0, file, kind, low, high, 1, 2, 3, 4]));
            }
        }
        for at in places {
            let [low, high] = at.to_le_bytes();
            seeds.push((format!("edit-{file}-{at}"), vec![1, file, low, high, 8, 9, 0, 0, 0, 0, 0, 0, 0]));
        }
    }
    for (name, text) in golden::directory("format/v1/groups/1/log") {
        if name.ends_with(".seg.hex") {
            seeds.push((name, [&[2, 4][..], &golden::dump(&text)[..20 << 10]].concat()));
        }
    }
    seeds
}
