//! `log ls|cat|verify|repair`: looks into the log of a stopped node, or of a copy, without changing a byte
//! (`repair --cut` excepted).
//!
//! Damage does not end `cat` and `verify`: they go on as far as records can be told apart, and end with code 1.

pub(crate) mod repair;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dledger::commitlog::Record;
use dledger::commitlog::inspect::{Damage, Inspection, SegmentInfo, SegmentState, inspect};
use dledger::commitlog::layout::group_dir;
use dledger::env::os::OsDisk;
use dledger::error::OpenError;
use dledger::types::{GroupId, Index, Kind as RecordKind};
use tokio::sync::mpsc;

use crate::args::{LogArgs, LogCommand};
use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::run::Session;

/// Records that `cat` prints at once.
const PAGE_RECORDS: usize = 500;
/// Pages read ahead of the one that is printed.
const PAGES_AHEAD: usize = 2;

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub(crate) file: String,
    pub(crate) first: u64,
    /// The last index that counts; `None` for the segment that takes records.
    pub(crate) last: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) state: &'static str,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) position: u64,
    pub(crate) time_ms: u64,
    pub(crate) kind: &'static str,
    pub(crate) channel: u16,
    pub(crate) payload: Bytes,
}

/// A checked range. Two replicas with equal rows hold the same bytes in that range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: String,
}

/// Runs the command. Reading happens on a thread that may block.
pub(crate) async fn run(session: &Session, action: LogCommand) -> Result<Outcome, Failure> {
    match action {
        LogCommand::Ls(args) => {
            let segments = blocking(move || open(&args.data_dir).map(|log| within(&log, &args))).await??;
            session.printer.print(Answer::Segments(&segments))?;
            Ok(Outcome::Done)
        }
        LogCommand::Cat(args) => cat(session, args).await,
        LogCommand::Verify(args) => {
            let read = move || open(&args.data_dir).map(|log| log.verify(from(&args), to(&args)));
            let found = blocking(read).await??;
            let row = Verified {
                first: found.first.get(),
                last: found.last.get(),
                records: found.records,
                bytes: found.bytes,
                digest: found.digest,
            };
            session.printer.print(Answer::Verified(&row))?;
            ended(found.damage)
        }
        LogCommand::Repair(args) => repair::run(session, args).await,
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Kind::Bug, format!("reading the log died: {error}")))
}

/// Opens the log of a data directory for reading.
fn open(data_dir: &Path) -> Result<Inspection, Failure> {
    Ok(inspect(&OsDisk::new(), &log_of(data_dir)?)?)
}

/// The directory of the group's log, when there is one.
fn log_of(data_dir: &Path) -> Result<PathBuf, Failure> {
    let group = group_dir(data_dir, GroupId::FIRST);
    if data_dir.is_dir() && !group.is_dir() {
        let foreign = OpenError::Foreign { path: data_dir.to_owned(), reason: "it holds no log".to_owned() };
        return Err(Failure::new(Kind::Corrupt, foreign.to_string()));
    }
    Ok(group)
}

fn from(args: &LogArgs) -> Index {
    Index(args.from.unwrap_or(1))
}

fn to(args: &LogArgs) -> Index {
    Index(args.to.unwrap_or(u64::MAX))
}

/// The segments that may hold records of the range.
fn within(log: &Inspection, args: &LogArgs) -> Vec<SegmentRow> {
    let segments = log.segments().into_iter();
    let overlapping =
        segments.filter(|segment| segment.first <= to(args) && segment.last.is_none_or(|last| last >= from(args)));
    overlapping.map(|segment| segment_row(&segment)).collect()
}

fn segment_row(segment: &SegmentInfo) -> SegmentRow {
    let name = segment.path.file_name().unwrap_or(segment.path.as_os_str());
    SegmentRow {
        file: name.to_string_lossy().into_owned(),
        first: segment.first.get(),
        last: segment.last.map(Index::get),
        bytes: segment.file_bytes,
        state: match segment.state {
            SegmentState::Sealed => "sealed",
            SegmentState::Unsealed => "unsealed",
            SegmentState::Active => "active",
            SegmentState::Superseded => "superseded",
        },
    }
}

async fn cat(session: &Session, args: LogArgs) -> Result<Outcome, Failure> {
    let (pages, mut arriving) = mpsc::channel(PAGES_AHEAD);
    let reading = tokio::task::spawn_blocking(move || read_pages(&args, &pages));
    let mut first = true;
    while let Some(records) = arriving.recv().await {
        session.printer.print(Answer::Records { records: &records, first })?;
        first = false;
    }
    let damage = reading.await.map_err(|error| Failure::new(Kind::Bug, format!("reading the log died: {error}")))?;
    ended(damage?)
}

/// Sends the records in pages, until there are no more or nobody takes them; the answer is what is damaged.
fn read_pages(args: &LogArgs, pages: &mpsc::Sender<Vec<RecordRow>>) -> Result<Vec<Damage>, Failure> {
    let log = open(&args.data_dir)?;
    let mut damage = Vec::new();
    let mut page = Vec::new();
    for record in log.records(from(args), to(args)) {
        match record {
            Ok(record) => page.push(record_row(&record)),
            Err(found) => damage.push(found),
        }
        if page.len() == PAGE_RECORDS && pages.blocking_send(std::mem::take(&mut page)).is_err() {
            return Ok(damage);
        }
    }
    if !page.is_empty() {
        // Nobody takes it when the command was dropped.
        let _dropped = pages.blocking_send(page);
    }
    Ok(damage)
}

fn record_row(record: &Record) -> RecordRow {
    let header = record.header();
    RecordRow {
        index: header.id.index.get(),
        term: header.id.term.get(),
        position: header.position.get(),
        time_ms: header.time.get(),
        kind: match header.kind {
            RecordKind::Data => "data",
            RecordKind::NoOp => "noop",
            RecordKind::Membership => "membership",
        },
        channel: header.channel,
        payload: record.payload(),
    }
}

/// Damage is a "no" that names its first place.
fn ended(damage: Vec<Damage>) -> Result<Outcome, Failure> {
    let others = damage.len().saturating_sub(1);
    match damage.into_iter().next() {
        None => Ok(Outcome::Done),
        Some(first) if others == 0 => Err(Failure::new(Kind::Corrupt, format!("corrupt: {first}"))),
        Some(first) => Err(Failure::new(Kind::Corrupt, format!("corrupt: {first}; and {others} more places"))),
    }
}
