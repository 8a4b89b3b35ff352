//! What a log must show after a crash, given what its caller was told before it.
//!
//! ```text
//!   acknowledged ─────────────────► whole, byte for byte     ┐
//!   a batch in flight, by itself ─► a part from its start    ├─ and nothing else
//!   one that cuts ────────────────► all of the old log, or the cut and a part of the new records from their start
//!   its vote ─────────────────────► there before anything else of the batch is
//! ```

use dledger::commitlog::{Opened, WriteBatch};
use dledger::env::memory::{Fate, MemoryDisk};
use dledger::types::{EntryId, Index, Position, Term, TermRun, Vote};

use crate::history::{Expected, Written, open};

/// Recovers, compares, appends, and recovers again from a disk that lost what was not synced.
pub(crate) fn check(disk: &MemoryDisk, expected: &Expected) -> Result<(), String> {
    let mut opened = open(disk)?;
    let found = expected.match_found(&opened)?;
    let vote = opened.state.vote;
    // As long as the first record that was lost, and of its term: a record that stands whole behind it on the disk
    // would follow this one.
    let (payload, term) = expected.first_lost(found.len());
    let more = Written::behind(&found, term, payload, 3);
    let batch = WriteBatch { records: vec![more.bytes.clone()], ..WriteBatch::default() };
    opened.writer.write(&batch).map_err(|fault| format!("the recovered log takes no append: {fault}"))?;
    drop(opened);
    disk.power_cut(|_| Fate::Lost);
    let settled = Expected { vote, log: [found, vec![more]].concat(), ..Expected::default() };
    let again = open(disk).map_err(|error| format!("after recovery and one append: {error}"))?;
    settled.match_found(&again).map(drop).map_err(|error| format!("after recovery and one append: {error}"))
}

impl Expected {
    /// The log that was found, when it is one of those that may be found.
    fn match_found(&self, opened: &Opened) -> Result<Vec<Written>, String> {
        let found = read_all(opened)?;
        let vote = opened.state.vote;
        let new_vote = self.in_flight.as_ref().and_then(|batch| batch.vote);
        if vote != self.vote && Some(vote) != new_vote {
            return Err(format!("lost vote: {} instead of {}{}", show(vote), show(self.vote), or_vote(new_vote)));
        }
        let log = self.candidates().into_iter().find(|log| {
            log.len() == found.len() && log.iter().zip(&found).all(|(record, found)| record.bytes == *found)
        });
        let Some(log) = log else { return Err(self.mismatch(&found)) };
        if new_vote.is_some_and(|new| new != vote) && log != self.log {
            return Err("the log has a part of a batch whose vote is not there".to_owned());
        }
        check_state(opened, &log)?;
        Ok(log)
    }

    /// Every log that may be found.
    fn candidates(&self) -> Vec<Vec<Written>> {
        let mut candidates = vec![self.log.clone()];
        if let Some(batch) = &self.in_flight {
            let kept = &self.log[..batch.keep];
            candidates.extend((0..=batch.records.len()).map(|part| [kept, &batch.records[..part]].concat()));
        }
        candidates
    }

    /// Names what is wrong with a log that is none of the candidates.
    fn mismatch(&self, found: &[bytes::Bytes]) -> String {
        let keep = self.in_flight.as_ref().map_or(self.log.len(), |batch| batch.keep);
        let good = self.log.iter().zip(found).take_while(|(record, found)| record.bytes == **found).count();
        let what = if good < keep && found.len() <= good {
            "lost records"
        } else if good < keep {
            "an acknowledged record holds other bytes"
        } else {
            "cut or invented records are there"
        };
        let flying = self.in_flight.as_ref().map_or(0, |batch| batch.records.len());
        format!(
            "{what}: {} records were found, the first {good} as acknowledged; {} were acknowledged, \
             the batch in flight keeps {keep} and adds {flying}",
            found.len(),
            self.log.len()
        )
    }

    /// Payload length and term of the first record that is not among `found`; or of some record.
    fn first_lost(&self, found: usize) -> (usize, u64) {
        let lost = self.in_flight.as_ref().and_then(|batch| batch.records.get(found.checked_sub(batch.keep)?));
        let last_term = self.candidates().iter().flatten().map(|record| record.id.term.get()).max().unwrap_or(1);
        let payload = |record: &Written| record.bytes.len() - dledger::commitlog::HEADER_BYTES;
        lost.map_or((600, last_term), |record| (payload(record), record.id.term.get()))
    }
}

/// The bytes of every record, read in a row and one by one.
fn read_all(opened: &Opened) -> Result<Vec<bytes::Bytes>, String> {
    let reader = &opened.reader;
    let mut found = Vec::new();
    for index in 1..=reader.last().get() {
        let record = reader.read(Index(index)).map_err(|error| format!("read {index}: {error}"))?;
        found.push(record.bytes().clone());
    }
    let mut row = Vec::new();
    let mut next = 0;
    while next < found.len() {
        let pieces = reader.read_from(Index(next as u64 + 1), 1 << 20).map_err(|error| format!("read on: {error}"))?;
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
fn check_state(opened: &Opened, log: &[Written]) -> Result<(), String> {
    let mut runs: Vec<TermRun> = Vec::new();
    for record in log {
        if runs.last().is_none_or(|run| run.term != record.id.term) {
            runs.push(TermRun { first: record.id.index, term: record.id.term });
        }
    }
    let state = &opened.state;
    let last = log.last().map_or((EntryId::ZERO, Position::ZERO), |record| (record.id, record.end()));
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
