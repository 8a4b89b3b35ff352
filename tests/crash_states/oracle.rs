//! What a log must show after a crash, given what its caller was told before it.
//!
//! ```text
//!   acknowledged ─────────────────► whole, byte for byte     ┐
//!   a batch in flight, by itself ─► a part from its start    ├─ and nothing else
//!   one that cuts ────────────────► all of the old log, or the cut and a part of the new records from their start
//!   a purge or a reset ──────────► the old log, or the whole new one
//!   its vote ─────────────────────► there before anything else of the batch is
//! ```

use dledger::commitlog::{Opened, WriteBatch};
use dledger::env::memory::{Fate, MemoryDisk};
use dledger::types::{EntryId, Index, Position, Term, TermRun, Vote};

use crate::history::{Expected, InFlight, Log, Written, open};

/// Recovers, compares, appends, and recovers again from a disk that lost what was not synced.
pub(crate) fn check(disk: &MemoryDisk, expected: &Expected) -> Result<(), String> {
    let mut opened = open(disk)?;
    let found = expected.match_found(&opened)?;
    let vote = opened.state.vote;
    // As long as the first record that was lost, and of its term: a record that stands whole behind it on the disk
    // would follow this one.
    let (payload, term) = expected.first_lost(&found);
    let more = Written::behind(&found, term, payload, 3);
    let batch = WriteBatch { records: vec![more.bytes.clone()], ..WriteBatch::default() };
    opened.writer.write(&batch).map_err(|fault| format!("the recovered log takes no append: {fault}"))?;
    drop(opened);
    disk.power_cut(|_| Fate::Lost);
    let settled = Expected { vote, log: found.with(found.records.len(), &[more]), ..Expected::default() };
    let again = open(disk).map_err(|error| format!("after recovery and one append: {error}"))?;
    settled.match_found(&again).map(drop).map_err(|error| format!("after recovery and one append: {error}"))
}

impl Expected {
    /// The log that was found, when it is one of those that may be found.
    fn match_found(&self, opened: &Opened) -> Result<Log, String> {
        let found = read_all(opened)?;
        let base = (opened.state.base, opened.state.base_position);
        let vote = opened.state.vote;
        let new_vote = match &self.in_flight {
            Some(InFlight::Batch { vote, .. }) => *vote,
            Some(InFlight::Begin(_)) | None => None,
        };
        if vote != self.vote && Some(vote) != new_vote {
            return Err(format!("lost vote: {} instead of {}{}", show(vote), show(self.vote), or_vote(new_vote)));
        }
        let log = self.candidates().into_iter().find(|log| {
            (log.base == base && log.records.len() == found.len())
                && log.records.iter().zip(&found).all(|(record, found)| record.bytes == *found)
        });
        let Some(log) = log else { return Err(self.mismatch(base, &found)) };
        if new_vote.is_some_and(|new| new != vote) && log != self.log {
            return Err("the log has a part of a batch whose vote is not there".to_owned());
        }
        check_state(opened, &log)?;
        Ok(log)
    }

    /// Every log that may be found.
    fn candidates(&self) -> Vec<Log> {
        let mut candidates = vec![self.log.clone()];
        match &self.in_flight {
            Some(InFlight::Batch { keep, records, .. }) => {
                candidates.extend((0..=records.len()).map(|part| self.log.with(*keep, &records[..part])));
            }
            Some(InFlight::Begin(log)) => candidates.push(log.clone()),
            None => {}
        }
        candidates
    }

    /// Names what is wrong with a log that is none of the candidates.
    fn mismatch(&self, base: (EntryId, Position), found: &[bytes::Bytes]) -> String {
        if self.candidates().iter().all(|log| log.base != base) {
            return format!("the log begins behind {base:?}, not behind {:?}", self.log.base);
        }
        let records = &self.log.records;
        let (keep, flying) = match &self.in_flight {
            Some(InFlight::Batch { keep, records, .. }) => (*keep, records.len()),
            Some(InFlight::Begin(_)) | None => (records.len(), 0),
        };
        let good = records.iter().zip(found).take_while(|(record, found)| record.bytes == **found).count();
        let what = if good < keep && found.len() <= good {
            "lost records"
        } else if good < keep {
            "an acknowledged record holds other bytes"
        } else {
            "cut or invented records are there"
        };
        format!(
            "{what}: {} records were found, the first {good} as acknowledged; {} were acknowledged, \
             the batch in flight keeps {keep} and adds {flying}",
            found.len(),
            records.len()
        )
    }

    /// Payload length and term of the first record that is not among `found`; or of some record.
    fn first_lost(&self, found: &Log) -> (usize, u64) {
        let lost = match &self.in_flight {
            Some(InFlight::Batch { keep, records, .. }) => {
                found.records.len().checked_sub(*keep).and_then(|lost| records.get(lost))
            }
            Some(InFlight::Begin(_)) | None => None,
        };
        let terms = self.candidates().into_iter().flat_map(|log| {
            log.records.into_iter().map(|record| record.id).chain([log.base.0]).map(|id| id.term.get())
        });
        let last_term = terms.max().unwrap_or(0).max(1);
        let payload = |record: &Written| record.bytes.len() - dledger::commitlog::HEADER_BYTES;
        lost.map_or((600, last_term), |record| (payload(record), record.id.term.get()))
    }
}

/// The bytes of every record, read in a row and one by one.
fn read_all(opened: &Opened) -> Result<Vec<bytes::Bytes>, String> {
    let reader = &opened.reader;
    let mut found = Vec::new();
    let first = reader.first().get();
    for index in first..=reader.last().get() {
        let record = reader.read(Index(index)).map_err(|error| format!("read {index}: {error}"))?;
        found.push(record.bytes().clone());
    }
    let mut row = Vec::new();
    let mut next = 0;
    while next < found.len() {
        let pieces =
            reader.read_from(Index(next as u64 + first), 1 << 20).map_err(|error| format!("read on: {error}"))?;
        for piece in pieces {
            for record in dledger::commitlog::split(&piece, 1 << 20) {
                row.push(record.map_err(|error| format!("split: {error}"))?.bytes().clone());
            }
        }
        if row.len() == next {
            break;
        }
        next = row.len();
    }
    if row == found { Ok(found) } else { Err("reading in a row and one by one show different logs".to_owned()) }
}

/// What the log says of itself.
fn check_state(opened: &Opened, log: &Log) -> Result<(), String> {
    let mut runs: Vec<TermRun> = Vec::new();
    for record in &log.records {
        if runs.last().is_none_or(|run| run.term != record.id.term) {
            runs.push(TermRun { first: record.id.index, term: record.id.term });
        }
    }
    let state = &opened.state;
    let last = log.last();
    let found = (state.last, state.end, &state.runs);
    let right = (last.0, last.1, &runs);
    if found == right { Ok(()) } else { Err(format!("the log says of itself {found:?} instead of {right:?}")) }
}

fn show(vote: Vote) -> String {
    let Vote { term: Term(term), voted_for } = vote;
    format!("term {term} for {voted_for}")
}

fn or_vote(vote: Option<Vote>) -> String {
    vote.map_or(String::new(), |vote| format!(" or {}", show(vote)))
}
