//! Looking at a log from outside: read-only, without its lock, of a stopped node or a copy.
//!
//! What opening would refuse is shown here instead: [`Inspection::verify`] goes on behind damage as far as records
//! can be told apart. Nothing is written, not even an index. A record above the newest slot that cannot be read is a
//! torn write and no damage, as in opening. Deliberately absent: mending anything.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::base::{self, Start};
use super::format::Record;
use super::layout;
use super::resync::Search;
use super::scan::Scanner;
use super::segment::slots::Slot;
use super::survey::{self, Segment};
use super::tail;
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::env::Disk;
use crate::error::OpenError;
use crate::types::{EntryId, Index, Position, Vote};

/// What a segment file is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// Full or cut, with a footer.
    Sealed,
    /// Not the last, and without a readable footer: a crash came between.
    Unsealed,
    /// The last: it takes records.
    Active,
    /// A higher generation wins over all of it: opening removes it.
    Superseded,
}

/// A segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file.
    pub path: PathBuf,
    /// Its generation.
    pub generation: u64,
    /// Index of its first record.
    pub first: Index,
    /// Where its first record starts in the whole log.
    pub first_position: Position,
    /// The last index that counts, as the next segment says; `None` for the last, which must be read to know.
    pub last: Option<Index>,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// The machine's clock when it was made, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// What it is to the log.
    pub state: SegmentState,
}

/// A place where bytes are not what they must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Byte offset in it.
    pub offset: u64,
    /// The index of the record that is damaged or missing.
    pub index: Index,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {} (index {}): {}", self.path.display(), self.offset, self.index, self.reason)
    }
}

/// What [`Inspection::verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The first good record's index; 0 when there is none.
    pub first: Index,
    /// The last good record's index; 0 when there is none.
    pub last: Index,
    /// Number of good records.
    pub records: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Of those bytes in the order of the log, however they are split into segments: equal on all replicas over the
    /// same range. 24 hexadecimal digits. It guards against accidents, not against forgery.
    pub digest: String,
    /// What is damaged or missing.
    pub damage: Vec<Damage>,
}

/// A log as it stands on the disk.
pub struct Inspection {
    log_dir: PathBuf,
    live: Vec<Segment>,
    superseded: Vec<Segment>,
    vote: Option<Vote>,
    /// Where the log begins.
    start: Start,
    /// Why nobody knows where that is.
    bad_start: Option<String>,
}

/// Reads the headers of the log in a group's directory.
///
/// # Errors
/// `Foreign`, `Unsupported` and `Corrupt` for a segment whose header cannot be used; `LostVote`; `Io`, also when
/// there is no such directory.
pub fn inspect(disk: &dyn Disk, group_dir: &Path) -> Result<Inspection, OpenError> {
    let log_dir = layout::log_dir(group_dir);
    let (start, bad_start) = match base::load(disk, group_dir, None) {
        Ok(start) => (start.unwrap_or_default(), None),
        Err(OpenError::Corrupt { reason, .. }) => (Start::default(), Some(reason)),
        Err(error) => return Err(error),
    };
    let survey = survey::survey(disk, &log_dir, &start, crate::simulation::plants::Plants::NONE)?;
    let vote = super::meta::read_vote(disk, group_dir)?;
    Ok(Inspection { log_dir, live: survey.segments, superseded: survey.superseded, vote, start, bad_start })
}

impl Inspection {
    /// Term and vote; `None` when there is no vote file.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.vote
    }

    /// The entry before the first record: entries up to it were dropped. Zero when none were.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.start.base.entry
    }

    /// The segment files in order of index, those that were superseded last. Files that a purge has dropped and could not
    /// remove are left out.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let live = self.live.iter().enumerate().map(|(place, segment)| {
            let next = self.live.get(place + 1);
            let state = match (next, &segment.footer) {
                (None, _) => SegmentState::Active,
                (Some(_), Some(_)) => SegmentState::Sealed,
                (Some(_), None) => SegmentState::Unsealed,
            };
            info(segment, next.map(|next| next.header.previous.index), state)
        });
        live.chain(self.superseded.iter().map(|segment| info(segment, None, SegmentState::Superseded))).collect()
    }

    /// The records of indexes `from` to `to`, both included, and what is damaged between them, in order; those that were
    /// dropped from the front are no damage. The whole
    /// segment that holds `from` is read, from its start. Blocks on the disk.
    pub fn records(&self, from: Index, to: Index) -> impl Iterator<Item = Result<Record, Damage>> {
        let place = self.live.partition_point(|segment| segment.header.first() <= from).saturating_sub(1);
        let next_index = self.live.get(place).map_or(self.start.base.first(), |segment| segment.header.first());
        Records { inspection: self, place, scanner: None, next_index, from, to, gap_told: false }
    }

    /// Reads the records of indexes `from` to `to`, both included, verifies all checksums and sums them up.
    #[must_use]
    pub fn verify(&self, from: Index, to: Index) -> Verified {
        let mut verified = Verified {
            first: Index::ZERO,
            last: Index::ZERO,
            records: 0,
            bytes: 0,
            digest: String::new(),
            damage: [self.missing_ends(from, to), self.bad_headers(from, to)].concat(),
        };
        let mut digest = Digest::default();
        for record in self.records(from, to) {
            match record {
                Ok(record) => {
                    let index = record.header().id.index;
                    if verified.first.is_zero() {
                        verified.first = index;
                    }
                    verified.last = index;
                    verified.records += 1;
                    verified.bytes += record.bytes().len() as u64;
                    digest.update(record.bytes());
                }
                Err(damage) => verified.damage.push(damage),
            }
        }
        verified.digest = digest.finish();
        verified
    }

    /// Headers that were made again from what stands around them.
    fn bad_headers(&self, from: Index, to: Index) -> Vec<Damage> {
        let behind = self.live.iter().skip(1).map(|next| next.header.first()).chain([Index(u64::MAX)]);
        let within = self.live.iter().zip(behind).filter(|(one, next)| one.header.first() <= to && *next > from);
        let bad = within.filter_map(|(one, _next)| Some((one, one.bad_header.as_ref()?)));
        bad.map(|(segment, reason)| Damage {
            path: segment.paths.segment.clone(),
            offset: 0,
            index: segment.header.first(),
            reason: reason.clone(),
        })
        .collect()
    }

    /// What is missing before the first and behind the last file.
    fn missing_ends(&self, from: Index, to: Index) -> Vec<Damage> {
        let lost = |index: Index, reason: &str| Damage {
            path: self.log_dir.clone(),
            offset: 0,
            index,
            reason: reason.to_owned(),
        };
        let begins = self.start.base.first();
        let first = self.live.first().map_or(begins, |segment| segment.header.first());
        let bad_start = self
            .bad_start
            .as_ref()
            .map(|reason| Damage { path: self.log_dir.with_file_name(layout::BASE_FILE), ..lost(begins, reason) });
        let missing = bad_start.is_none() && if self.live.is_empty() { !self.start.resetting } else { first > begins };
        let before = missing && from < first.max(begins.next());
        let sealed = self.live.last().and_then(|segment| segment.footer.as_ref()).map(|footer| footer.last.index);
        let before = before.then(|| lost(begins, "the segment that holds it is lost"));
        let behind = sealed
            .filter(|last| *last < to)
            .map(|last| lost(last.next(), "the last segment is sealed: the one behind it is lost"));
        bad_start.into_iter().chain(before).chain(behind).collect()
    }
}

fn info(segment: &Segment, last: Option<Index>, state: SegmentState) -> SegmentInfo {
    SegmentInfo {
        path: segment.paths.segment.clone(),
        generation: segment.header.generation,
        first: segment.header.first(),
        first_position: segment.header.first_position,
        last,
        file_bytes: segment.length,
        wall_ms: segment.header.wall_ms,
        state,
    }
}

struct Records<'a> {
    inspection: &'a Inspection,
    place: usize,
    scanner: Option<Scanner<'a>>,
    /// The index that should come next.
    next_index: Index,
    from: Index,
    to: Index,
    /// The segment in hand was left at damage: the gap up to the next one is told already.
    gap_told: bool,
}

impl<'a> Records<'a> {
    /// One step: `None` when there is nothing to tell about it.
    fn step(&mut self, segment: &'a Segment) -> Option<Result<Record, Damage>> {
        if self.scanner.is_none() {
            let missing = segment.header.first() > self.next_index && !std::mem::take(&mut self.gap_told);
            let gap = missing.then(|| self.damage(segment, 0, "the records before this segment are lost"));
            self.next_index = segment.header.first();
            self.scanner = Some(Scanner::new(&*segment.file, &segment.header, self.limit(segment)));
            if gap.is_some() {
                return gap.map(Err);
            }
        }
        let scanner = self.scanner.as_mut()?;
        let offset = scanner.offset();
        let index = self.next_index;
        let (outcome, advanced) = match scanner.next() {
            Ok(Some(found)) => {
                let wanted = index >= self.from;
                let bytes = wanted.then(|| Bytes::copy_from_slice(found.bytes));
                let record = bytes.and_then(|bytes| Record::decode(&bytes, MAX_RECORD_BYTES_LIMIT).ok());
                self.next_index = index.next();
                return record.map(Ok);
            }
            Ok(None) => (self.cut_short(segment, offset), false),
            Err(error) => (Some(error.to_string()), scanner.offset() > offset),
        };
        if !advanced && outcome.is_some() && self.go_on_behind(segment, offset) {
            let reason = outcome.filter(|_reason| index >= self.from)?;
            return Some(Err(Damage { path: segment.paths.segment.clone(), offset, index, reason }));
        }
        if advanced {
            self.next_index = index.next();
        } else {
            self.scanner = None;
            self.place += 1;
            self.gap_told = outcome.is_some();
        }
        let reason = outcome.filter(|_reason| index >= self.from || !advanced)?;
        let torn = self.place_is_last(segment) && offset >= durable_offset(segment);
        (!torn).then(|| Err(Damage { path: segment.paths.segment.clone(), offset, index, reason }))
    }

    /// Looks for the next record behind a header that cannot be read, where one must stand.
    fn go_on_behind(&mut self, segment: &Segment, from: u64) -> bool {
        let limit =
            if self.place_is_last(segment) { durable_offset(segment).min(segment.length) } else { self.limit(segment) };
        let Some(scanner) = self.scanner.as_mut().filter(|_scanner| from < limit) else { return false };
        let after = scanner.after();
        let (file, file_bytes) = (&*segment.file, segment.length);
        let search = Search { file, segment: &segment.header, after, from, limit, file_bytes, last: None };
        let Ok(Some((next, header))) = search.run() else { return false };
        scanner.jump(next, (EntryId::new(header.id.index.prev(), after.term), header.position));
        self.next_index = header.id.index;
        true
    }

    fn damage(&self, segment: &Segment, offset: u64, reason: &str) -> Damage {
        Damage { path: segment.paths.segment.clone(), offset, index: self.next_index, reason: reason.to_owned() }
    }

    fn cut_short(&self, segment: &Segment, offset: u64) -> Option<String> {
        let short = self.place_is_last(segment) && offset < durable_offset(segment);
        short.then(|| "the file ends before the records that were synced do".to_owned())
    }

    fn place_is_last(&self, segment: &Segment) -> bool {
        self.inspection.live.last().is_some_and(|last| last.header.generation == segment.header.generation)
    }

    /// The offset at which the records that count end.
    fn limit(&self, segment: &Segment) -> u64 {
        let next = self.inspection.live.get(self.place + 1);
        let end = next.map(|next| next.header.first_position).or(segment.footer.as_ref().map(|footer| footer.end));
        end.and_then(|end| segment.header.offset_of(end)).map_or(segment.length, |end| end.min(segment.length))
    }
}

/// The offset below which a bad record of the last segment is damage.
fn durable_offset(segment: &Segment) -> u64 {
    let slot: Option<Slot> = tail::newest_slot(segment);
    let end = segment.footer.as_ref().map(|footer| footer.end).or(slot.map(|slot| slot.durable_end));
    end.and_then(|end| segment.header.offset_of(end)).unwrap_or(u64::MAX)
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next_index <= self.to {
            let segment = self.inspection.live.get(self.place)?;
            if let Some(told) = self.step(segment) {
                return Some(told);
            }
        }
        None
    }
}

/// CRC-32 and 64-bit FNV-1a of the same bytes.
struct Digest {
    crc: crc32fast::Hasher,
    fnv: u64,
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

impl Default for Digest {
    fn default() -> Self {
        Self { crc: crc32fast::Hasher::new(), fnv: FNV_OFFSET }
    }
}

impl Digest {
    fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.fnv = bytes.iter().fold(self.fnv, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
    }

    fn finish(self) -> String {
        format!("{:08x}{:016x}", self.crc.finalize(), self.fnv)
    }
}
