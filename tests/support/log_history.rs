//! A short history of one commitlog, what it must hold after any failure, and the check that it does.
//!
//! ```text
//!   Step ──► Model::run ──► LogWriter::write ──► Ok:  the batch becomes part of the model, for good
//!                                            └─► Err: the batch stays in flight: all, some or none of it may be there
//!   Model::check:  open ──► read everything back in every way ──► compare with the model
//! ```

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test that breaks here is broken itself")]

use bytes::Bytes;
use dledger::commitlog::{LogReader, LogState, LogWriter, Opened, WriteBatch, frame, split};
use dledger::env::memory::MemoryDisk;
use dledger::types::{EntryId, Index, Kind, LogTime, NodeId, Position, Term, TermRun, Vote};

use super::log_disk::{self, MAX_RECORD_BYTES};

/// Half of it is room for records: a short history has several segments, and is quick.
const SEGMENT_BYTES: u64 = 32 << 10;

/// One thing a node does with its log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Term and vote alone.
    Vote { term: u64 },
    /// Records of these payload lengths.
    Append { term: u64, payloads: &'static [usize] },
    /// A new term, and its first records in the same batch.
    VoteAndAppend { term: u64, payloads: &'static [usize] },
    /// A conflict: cuts what stands behind `after`, then writes.
    Truncate { after: u64, term: u64, payloads: &'static [usize] },
    /// Everything written so far is committed, and nothing is under way.
    Idle,
    /// Drops what whole segments hold up to an index; then `first` is the first one.
    Purge { upto: u64, first: u64 },
    /// A clean restart.
    Reopen,
}

/// A record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    id: EntryId,
    position: Position,
    kind: Kind,
    bytes: Bytes,
}

impl Written {
    fn end(&self) -> Position {
        self.position.plus(self.bytes.len() as u64)
    }
}

/// A batch whose outcome nobody knows.
#[derive(Clone, Debug, Default)]
struct InFlight {
    vote: Option<Vote>,
    /// Where the new records start in the log, counted from 0; `None` without records and truncation.
    from: Option<usize>,
    records: Vec<Written>,
}

/// What was acknowledged, and what is in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    vote: Vote,
    log: Vec<Written>,
    in_flight: InFlight,
    /// The records that were purged, and those that will be when a purge that nobody knows the outcome of was done.
    purged: usize,
    purging: Option<usize>,
    committed: u64,
    /// Makes the payloads of two attempts at the same index differ.
    attempts: u64,
}

/// Opens the log on a disk.
pub(crate) fn open(memory: &MemoryDisk) -> Result<Opened, String> {
    log_disk::open(memory, SEGMENT_BYTES)
}

impl Model {
    /// Runs the history until it ends or a call fails. True when it ended.
    pub(crate) fn run(&mut self, memory: &MemoryDisk, steps: &[Step]) -> bool {
        let Ok(mut opened) = open(memory) else { return false };
        for step in steps {
            if matches!(step, Step::Reopen) {
                drop(opened);
                match open(memory) {
                    Ok(again) => opened = again,
                    Err(_) => return false,
                }
            } else if self.step(&mut opened.writer, *step).is_err() {
                return false;
            }
        }
        true
    }

    /// Runs one step, and the preparation of space that it made due.
    pub(crate) fn step(&mut self, writer: &mut LogWriter, step: Step) -> Result<(), String> {
        match step {
            Step::Vote { term } => self.write(writer, Some(term), None, term, &[])?,
            Step::Append { term, payloads } => self.write(writer, None, None, term, payloads)?,
            Step::VoteAndAppend { term, payloads } => self.write(writer, Some(term), None, term, payloads)?,
            Step::Truncate { after, term, payloads } => self.write(writer, None, Some(after), term, payloads)?,
            Step::Idle => {
                self.committed = self.log.len() as u64;
                writer.idle(Index(self.committed)).map_err(|fault| fault.to_string())?;
            }
            Step::Purge { upto, first } => {
                self.purging = Some(first as usize - 1);
                writer.purge(Index(upto)).map_err(|fault| fault.to_string())?;
                self.purged = self.purging.take().unwrap_or(self.purged);
            }
            Step::Reopen => return Err("a writer cannot reopen itself".to_owned()),
        }
        while let Some(job) = writer.prepare_job() {
            writer.prepared(job.run()).map_err(|fault| fault.to_string())?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        writer: &mut LogWriter,
        vote: Option<u64>,
        truncate_after: Option<u64>,
        term: u64,
        payloads: &[usize],
    ) -> Result<(), String> {
        self.attempts += 1;
        let keep = truncate_after.map_or(self.log.len(), |after| after as usize);
        let kept = &self.log[..keep];
        let cut = truncate_after.map(|_| kept.last().map_or(EntryId::ZERO, |record| record.id));
        let records = self.frame(keep, term, payloads);
        let vote = vote.map(|term| Vote { term: Term(term), voted_for: NodeId(term % 3 + 1) });
        let batch = WriteBatch {
            vote,
            truncate_after: cut,
            records: records.iter().map(|record| record.bytes.clone()).collect(),
            committed: Index(self.committed),
            ..WriteBatch::default()
        };
        let from = (cut.is_some() || !records.is_empty()).then_some(keep);
        self.in_flight = InFlight { vote, from, records };
        writer.write(&batch).map_err(|fault| fault.to_string())?;
        let done = std::mem::take(&mut self.in_flight);
        self.vote = done.vote.unwrap_or(self.vote);
        self.log.truncate(keep);
        self.log.extend(done.records);
        Ok(())
    }

    /// Frames records to stand behind the first `keep` of the log. The very first record is a membership.
    fn frame(&self, keep: usize, term: u64, payloads: &[usize]) -> Vec<Written> {
        let mut position = keep.checked_sub(1).map_or(Position::ZERO, |last| self.log[last].end());
        let mut records = Vec::new();
        for (number, len) in payloads.iter().enumerate() {
            let id = EntryId::new(Index((keep + number + 1) as u64), Term(term));
            let kind = if id.index == Index(1) { Kind::Membership } else { Kind::Data };
            // No zeros: a payload must not look like space that was never written.
            let seed = self.attempts * 31 + number as u64;
            let payload: Vec<u8> = (0..*len as u64).map(|at| ((at * 7 + seed) % 255) as u8 + 1).collect();
            let mut bytes = Vec::new();
            frame(&mut bytes, id, position, LogTime(id.index.get()), kind, 0, &payload);
            let record = Written { id, position, kind, bytes: bytes.into() };
            position = record.end();
            records.push(record);
        }
        records
    }

    /// Opens the log and compares everything in it with what was written. What is there from then on is settled: it
    /// must survive whatever comes, even if nobody was told that it was written.
    pub(crate) fn check(&mut self, memory: &MemoryDisk) -> Result<Opened, String> {
        let opened = open(memory)?;
        self.check_vote(opened.state.vote)?;
        let found = self.check_log(opened.state.last)?;
        let purged = opened.state.base.index.get() as usize;
        if purged != self.purged && Some(purged) != self.purging {
            return Err(format!("{purged} records were dropped, not {} or {:?}", self.purged, self.purging));
        }
        check_state(&opened.state, &found, purged)?;
        if opened.state.committed_hint.get() > self.committed {
            return Err(format!("commit {} was never told, only {}", opened.state.committed_hint, self.committed));
        }
        check_reader(&opened.reader, &found, purged)?;
        (self.purged, self.purging) = (purged, None);
        self.vote = opened.state.vote;
        self.log = found;
        self.in_flight = InFlight::default();
        Ok(opened)
    }

    fn check_vote(&self, found: Vote) -> Result<(), String> {
        if found == self.vote || Some(found) == self.in_flight.vote {
            return Ok(());
        }
        Err(format!("lost vote: {found:?} instead of {:?} or {:?}", self.vote, self.in_flight.vote))
    }

    /// The one log that may end in `last`: what was acknowledged with a part of what was in flight, or, when that was
    /// to cut the log, a part of what it was to cut.
    fn check_log(&self, last: EntryId) -> Result<Vec<Written>, String> {
        let from = self.in_flight.from.unwrap_or(self.log.len());
        let length = last.index.get() as usize;
        if length < from {
            return Err(format!("lost records: the log ends at {last}, {from} records were acknowledged"));
        }
        let old = &self.log[from..];
        let new = &self.in_flight.records;
        for candidate in [old, new.as_slice()] {
            let log = [&self.log[..from], &candidate[..candidate.len().min(length - from)]].concat();
            if log.len() == length && log.last().map_or(EntryId::ZERO, |record| record.id) == last {
                return Ok(log);
            }
        }
        Err(format!("the log ends at {last}, which was never written behind {from} records"))
    }
}

/// What the log says of itself against the records that it must hold.
fn check_state(state: &LogState, log: &[Written], purged: usize) -> Result<(), String> {
    let mut runs: Vec<TermRun> = Vec::new();
    for record in &log[purged..] {
        if runs.last().is_none_or(|run| run.term != record.id.term) {
            runs.push(TermRun { first: record.id.index, term: record.id.term });
        }
    }
    let memberships = log.iter().filter(|record| record.kind == Kind::Membership).map(|record| record.id.index);
    let end = log.last().map_or(Position::ZERO, Written::end);
    let base = log[..purged].last().map_or((EntryId::ZERO, Position::ZERO), |record| (record.id, record.end()));
    same("base", &(state.base, state.base_position), &base)?;
    same("term runs", &state.runs, &runs)?;
    same("end", &state.end, &end)?;
    let found: Vec<Index> = state.memberships.iter().map(|(index, _bytes)| *index).collect();
    same("memberships", &found, &memberships.collect::<Vec<_>>())
}

/// Reads everything, by index, by position and in a row.
fn check_reader(reader: &LogReader, log: &[Written], purged: usize) -> Result<(), String> {
    same("first", &reader.first(), &Index(purged as u64 + 1))?;
    same("last", &reader.last(), &Index(log.len() as u64))?;
    for record in &log[purged..] {
        let index = record.id.index;
        let read = reader.read(index).map_err(|error| format!("read {index}: {error}"))?;
        same_bytes(Some(record), read.bytes())?;
        let read = reader.read_at(record.position).map_err(|error| format!("read at {}: {error}", record.position))?;
        same_bytes(Some(record), read.bytes())?;
        same("end of a record", &reader.end_of(index), &Some(record.end()))?;
    }
    let mut next = purged;
    while next < log.len() {
        let pieces = reader.read_from(Index(next as u64 + 1), 100_000).map_err(|error| format!("read on: {error}"))?;
        for piece in &pieces {
            for read in split(piece, MAX_RECORD_BYTES) {
                let read = read.map_err(|error| format!("split: {error}"))?;
                same_bytes(log.get(next), read.bytes())?;
                next += 1;
            }
        }
    }
    if reader.read(Index(purged as u64)).is_ok() {
        return Err(format!("record {purged} was dropped, and is there"));
    }
    if reader.read(Index(log.len() as u64 + 1)).is_ok() {
        return Err(format!("a record behind the last of {}", log.len()));
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

fn same_bytes(record: Option<&Written>, found: &Bytes) -> Result<(), String> {
    match record {
        Some(record) if record.bytes == *found => Ok(()),
        Some(record) => Err(format!("entry {} does not hold what was written", record.id)),
        None => Err("more records than there are".to_owned()),
    }
}
