//! Short histories of one log, and what their caller was told when the power failed.
//!
//! A history stops at the first failed call. What was acknowledged until then must be on the disk; the batch that
//! failed is in flight: the caller knows nothing about it.

use std::path::Path;

use bytes::Bytes;
use dledger::commitlog::inspect::{SegmentState, inspect};
use dledger::commitlog::{LogWriter, Opened, WriteBatch, frame};
use dledger::env::memory::MemoryDisk;
use dledger::types::{EntryId, Index, Kind, LogBase, LogTime, NodeId, Position, Term, Vote};

use super::log_disk;

/// The smallest that holds one block of records: header, two slots and footer take four blocks, and what is kept free
/// for the footer's body two more. A batch that crosses 4096 bytes of records starts a segment.
const SEGMENT_BYTES: u64 = 28 << 10;

/// One call of the log's owner.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Term and vote alone.
    Vote { term: u64 },
    /// Records of these payload lengths.
    Append { term: u64, payloads: &'static [usize] },
    /// Both in one batch: no record may be there without the vote.
    VoteAndAppend { term: u64, payloads: &'static [usize] },
    /// A conflict: cuts what stands behind `after`, then writes.
    Truncate { after: u64, term: u64, payloads: &'static [usize] },
    /// A conflict that brings a new term.
    VoteAndTruncate { term: u64, after: u64, payloads: &'static [usize] },
    /// Everything is committed and nothing is under way: a slot is written.
    Idle,
    /// A clean restart.
    Reopen,
    /// Drops what segments hold up to an index.
    Purge { upto: u64 },
    /// Starts over behind an entry, so many bytes further on than the log ends.
    Reset { index: u64, term: u64, gap: u64 },
}

/// A named history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [Step],
}

/// Batches inside one sector, over sector ends, and of records with sectors of their own.
pub(crate) const APPEND: History = History {
    name: "append",
    steps: &[
        Step::Append { term: 1, payloads: &[40] },
        Step::Append { term: 1, payloads: &[10, 0, 700] },
        Step::Idle,
        Step::Append { term: 1, payloads: &[900, 900] },
        Step::Append { term: 2, payloads: &[5] },
    ],
};

/// As many batches as it takes until one carries a slot with it: sectors of records and of the slot are pending at once.
pub(crate) const SLOT: History = History { name: "slot", steps: &[Step::Append { term: 1, payloads: &[20] }; 33] };

/// Votes alone, with records, and twice in a row: both pairs of copies are written.
pub(crate) const VOTE: History = History {
    name: "vote",
    steps: &[
        Step::Vote { term: 1 },
        Step::Vote { term: 2 },
        Step::VoteAndAppend { term: 3, payloads: &[100, 600] },
        Step::Vote { term: 4 },
        Step::VoteAndAppend { term: 5, payloads: &[20] },
    ],
};

/// Batches that start segments, with a slot behind the records and without, and one too large for the usual size.
pub(crate) const ROTATE: History = History {
    name: "rotate",
    steps: &[
        Step::Append { term: 1, payloads: &[1_200, 1_200] },
        Step::Append { term: 1, payloads: &[700, 900] },
        Step::Idle,
        Step::Append { term: 2, payloads: &[2_600] },
        Step::Append { term: 2, payloads: &[4_500] },
        Step::Append { term: 2, payloads: &[30] },
    ],
};

/// Cuts of one record, of a whole segment, over several segments, down to nothing, and without new records.
pub(crate) const TRUNCATE: History = History {
    name: "truncate",
    steps: &[
        Step::Append { term: 1, payloads: &[300, 300, 700] },
        Step::Truncate { after: 2, term: 2, payloads: &[700, 200] },
        Step::Append { term: 2, payloads: &[2_700] },
        Step::Append { term: 2, payloads: &[1_000] },
        Step::Truncate { after: 2, term: 3, payloads: &[] },
        Step::Append { term: 3, payloads: &[800] },
        Step::Truncate { after: 0, term: 4, payloads: &[50] },
    ],
};

/// Everything at once: a conflict with a vote, right behind a rotation, and restarts between.
pub(crate) const MIX: History = History {
    name: "mix",
    steps: &[
        Step::VoteAndAppend { term: 1, payloads: &[2_000, 40] },
        Step::Append { term: 1, payloads: &[2_100] },
        Step::VoteAndTruncate { term: 2, after: 2, payloads: &[1_200, 1_200] },
        Step::Idle,
        Step::Reopen,
        Step::Append { term: 2, payloads: &[1_500, 100] },
        Step::Reopen,
        Step::Truncate { after: 3, term: 3, payloads: &[60] },
        Step::Vote { term: 4 },
    ],
};

/// Several segments at once, nothing, all but the segment in use, and what stands behind conflicts and restarts.
pub(crate) const PURGE: History = History {
    name: "purge",
    steps: &[
        Step::VoteAndAppend { term: 1, payloads: &[2_000, 1_200] },
        Step::Append { term: 1, payloads: &[3_000] },
        Step::Append { term: 1, payloads: &[3_100, 20] },
        Step::Purge { upto: 4 },
        Step::Append { term: 1, payloads: &[2_000] },
        Step::Purge { upto: 4 },
        Step::Truncate { after: 5, term: 2, payloads: &[900] },
        Step::Purge { upto: 5 },
        Step::Reopen,
        Step::Truncate { after: 5, term: 3, payloads: &[40] },
        Step::Append { term: 3, payloads: &[3_900] },
        Step::Purge { upto: 90 },
    ],
};

/// Behind the end, inside the log, at once again, with a purge behind it, and a restart.
pub(crate) const RESET: History = History {
    name: "reset",
    steps: &[
        Step::VoteAndAppend { term: 1, payloads: &[2_000, 1_200] },
        Step::Append { term: 1, payloads: &[1_500] },
        Step::Reset { index: 40, term: 2, gap: 9_000 },
        Step::Append { term: 2, payloads: &[700, 60] },
        Step::VoteAndAppend { term: 3, payloads: &[3_900] },
        Step::Reset { index: 41, term: 4, gap: 0 },
        Step::Reset { index: 50, term: 4, gap: 300 },
        Step::Append { term: 4, payloads: &[2_000] },
        Step::Append { term: 4, payloads: &[2_600] },
        Step::Purge { upto: 51 },
        Step::Reopen,
        Step::Append { term: 4, payloads: &[30] },
    ],
};

/// One of each, and little else: for what recovers again and again.
pub(crate) const FRONT: History = History {
    name: "front",
    steps: &[
        Step::VoteAndAppend { term: 1, payloads: &[3_000] },
        Step::Append { term: 1, payloads: &[2_000] },
        Step::Purge { upto: 1 },
        Step::Reset { index: 9, term: 2, gap: 100 },
    ],
};

/// A record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) id: EntryId,
    pub(crate) position: Position,
    pub(crate) bytes: Bytes,
}

impl Written {
    /// Frames a record to stand behind `log`. No byte of a payload is zero: it never looks like unwritten space.
    pub(crate) fn behind(log: &Log, term: u64, payload: usize, seed: u64) -> Self {
        let (last, position) = log.last();
        let (index, id) = (last.index.next(), EntryId::new(last.index.next(), Term(term)));
        let payload: Vec<u8> = (0..payload as u64).map(|at| ((at * 7 + seed * 31) % 255) as u8 + 1).collect();
        let mut bytes = Vec::new();
        frame(&mut bytes, id, position, LogTime(index.get()), Kind::Data, 0, &payload);
        Self { id, position, bytes: bytes.into() }
    }

    pub(crate) fn end(&self) -> Position {
        self.position.plus(self.bytes.len() as u64)
    }
}

/// What a log holds: records, behind a base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) base: (EntryId, Position),
    pub(crate) records: Vec<Written>,
}

impl Log {
    /// The last entry and where it ends.
    pub(crate) fn last(&self) -> (EntryId, Position) {
        self.records.last().map_or(self.base, |record| (record.id, record.end()))
    }

    /// The same without what stands behind the first `keep` records, and with others there.
    pub(crate) fn with(&self, keep: usize, records: &[Written]) -> Self {
        Self { base: self.base, records: [&self.records[..keep], records].concat() }
    }

    /// Its end, without everything up to an index that it holds.
    fn behind(&self, index: Index) -> Self {
        let count = (index.get() - self.base.0.index.get()) as usize;
        Self { base: self.with(count, &[]).last(), records: self.records[count..].to_vec() }
    }
}

/// A call whose outcome nobody knows.
#[derive(Clone, Debug)]
pub(crate) enum InFlight {
    /// A batch.
    Batch {
        vote: Option<Vote>,
        /// How many records it leaves of those before it.
        keep: usize,
        records: Vec<Written>,
    },
    /// One that makes the log begin elsewhere: then it is this one, and nothing in between.
    Begin(Log),
}

/// What was acknowledged, and what was in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) vote: Vote,
    pub(crate) log: Log,
    pub(crate) in_flight: Option<InFlight>,
    /// How many calls were begun: with `in_flight`, it names this expectation among those of one history.
    pub(crate) batches: u64,
}

/// Opens the log on a disk.
pub(crate) fn open(memory: &MemoryDisk) -> Result<Opened, String> {
    log_disk::open(memory, SEGMENT_BYTES)
}

/// Runs a history on a disk until it ends or a call fails. What the caller knows then, and why it ended early.
pub(crate) fn run(memory: &MemoryDisk, history: History) -> (Expected, Result<(), String>) {
    let mut expected = Expected::default();
    let ended = run_steps(memory, history, &mut expected);
    (expected, ended)
}

fn run_steps(memory: &MemoryDisk, history: History, expected: &mut Expected) -> Result<(), String> {
    let mut opened = open(memory)?;
    for step in history.steps {
        match *step {
            Step::Vote { term } => expected.write(&mut opened.writer, Some(term), None, term, &[])?,
            Step::Append { term, payloads } => expected.write(&mut opened.writer, None, None, term, payloads)?,
            Step::VoteAndAppend { term, payloads } => {
                expected.write(&mut opened.writer, Some(term), None, term, payloads)?;
            }
            Step::Truncate { after, term, payloads } => {
                expected.write(&mut opened.writer, None, Some(after), term, payloads)?;
            }
            Step::VoteAndTruncate { term, after, payloads } => {
                expected.write(&mut opened.writer, Some(term), Some(after), term, payloads)?;
            }
            Step::Idle => {
                let committed = expected.log.last().0.index;
                opened.writer.idle(committed).map_err(|fault| fault.to_string())?;
            }
            Step::Reopen => {
                drop(opened);
                opened = open(memory)?;
            }
            Step::Purge { upto } => {
                let stays = first_that_stays(memory, Index(upto))?;
                let log = expected.log.behind(stays.prev());
                expected.begin(log, || opened.writer.purge(Index(upto)).map_err(|fault| fault.to_string()))?;
            }
            Step::Reset { index, term, gap } => {
                let entry = EntryId::new(Index(index), Term(term));
                let position = expected.log.last().1.plus(gap);
                let base = LogBase { entry, position, time: LogTime(index), ..LogBase::default() };
                let log = Log { base: (entry, position), records: Vec::new() };
                expected.begin(log, || opened.writer.reset(base).map_err(|fault| fault.to_string()))?;
            }
        }
        while let Some(job) = opened.writer.prepare_job() {
            opened.writer.prepared(job.run()).map_err(|fault| fault.to_string())?;
        }
    }
    Ok(())
}

/// The first index of the last segment that starts no further than behind `upto`: where a purge leads to.
fn first_that_stays(memory: &MemoryDisk, upto: Index) -> Result<Index, String> {
    let found = inspect(&*memory.handle(), Path::new(log_disk::DIR)).map_err(|error| error.to_string())?;
    let live = found.segments().into_iter().filter(|segment| segment.state != SegmentState::Superseded);
    let starts = live.map(|segment| segment.first).filter(|first| *first <= upto.next());
    starts.max().or(Some(found.base().index.next())).ok_or_else(|| "no segment".to_owned())
}

impl Expected {
    fn begin(&mut self, log: Log, call: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        self.batches += 1;
        self.in_flight = Some(InFlight::Begin(log.clone()));
        call()?;
        self.in_flight = None;
        self.log = log;
        Ok(())
    }

    fn write(
        &mut self,
        writer: &mut LogWriter,
        vote: Option<u64>,
        cut: Option<u64>,
        term: u64,
        payloads: &[usize],
    ) -> Result<(), String> {
        self.batches += 1;
        let keep = cut.map_or(self.log.records.len(), |after| (after - self.log.base.0.index.get()) as usize);
        let mut log = self.log.with(keep, &[]);
        let kept = log.last().0;
        for (number, payload) in payloads.iter().enumerate() {
            log.records.push(Written::behind(&log, term, *payload, self.batches * 5 + number as u64));
        }
        let records = log.records[keep..].to_vec();
        let vote = vote.map(|term| Vote { term: Term(term), voted_for: NodeId(term % 3 + 1) });
        let batch = WriteBatch {
            vote,
            truncate_after: cut.map(|_| kept),
            records: records.iter().map(|record| record.bytes.clone()).collect(),
            ..WriteBatch::default()
        };
        self.in_flight = Some(InFlight::Batch { vote, keep, records });
        writer.write(&batch).map_err(|fault| fault.to_string())?;
        self.in_flight = None;
        self.vote = vote.unwrap_or(self.vote);
        self.log = log;
        Ok(())
    }
}
