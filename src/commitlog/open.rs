//! Opening a log: find out (survey, tail), decide (the table in `recovery`), then change the directory.
//!
//! Nothing is written before everything that can be refused was refused, except that a lost power supply may stop
//! the changes anywhere: each leaves a directory that opens again to the same log.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::create;
use super::failure::{self, Blame, is_full};
use super::hole::Hole;
use super::known::Known;
use super::layout::{self, NEW_SEGMENT_FILE, RESERVE_FILE};
use super::live::LiveSegment;
use super::mend;
use super::meta::{Owner, VoteFile};
use super::poison::Poison;
use super::prepare::{self, FIRST_CHUNK_BYTES};
use super::reader::{LogReader, Part, Shared, View};
use super::recovery::{RecoveryReport, Rule};
use super::restart::{self, Restarted};
use super::roll::{MAX_SEGMENT_BYTES, fresh};
use super::room;
use super::segment::header::SegmentHeader;
use super::segment::slots::Slot;
use super::space::{Space, SpaceCell};
use super::survey::{self, Closed, Scanned, Segment, Survey};
use super::tail::{self, Behind};
use super::walk::Limit;
use super::writer::{Active, LogWriter};
use crate::config::Durability;
use crate::env::{Disk, OpenMode};
use crate::error::OpenError;
use crate::simulation::plants::Plants;
use crate::types::{ClusterId, EntryId, GroupId, Index, LogTime, Position, TermRun, Vote};

/// How a log is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The cluster: a log of another one is refused.
    pub cluster: ClusterId,
    /// The group: a log of another one is refused.
    pub group: GroupId,
    /// Largest size of a segment file in bytes, unless one batch needs more.
    pub segment_bytes: u64,
    /// Largest record in bytes. What is in the log already is read whatever its size.
    pub max_record_bytes: u32,
    /// Whether a write is synced before it returns.
    pub durability: Durability,
    /// The machine's clock, for segment headers.
    pub wall_ms: u64,
}

/// What the log holds: all of it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Term and vote.
    pub vote: Vote,
    /// The entry before the first record.
    pub base: EntryId,
    /// Where the first record starts.
    pub base_position: Position,
    /// The terms of the records, from `base.index + 1` on. A hole whose terms are unknown goes on with the term before
    /// it, which may be wrong.
    pub runs: Vec<TermRun>,
    /// The last entry; `base` when the log is empty.
    pub last: EntryId,
    /// Where the next record will start.
    pub end: Position,
    /// The payloads of the membership records, and before them the one in force at the base, if any. One that a hole
    /// hides is missing until it is mended.
    pub memberships: Vec<(Index, Bytes)>,
    /// Log time of the last entry.
    pub last_time: LogTime,
    /// An index known to have been committed; the truth may be further.
    pub committed_hint: Index,
    /// The records that are known to be unreadable, in index order. Sealed segments are not read at opening: what is bad
    /// in them shows when it is read or scrubbed.
    pub holes: Vec<Hole>,
    /// Why acknowledged entries may have stood behind `last`; `None` when `last` is known. Until
    /// [`LogWriter::trust_last`] each opening says so again: such a node cannot vouch for what it has acknowledged.
    pub last_in_doubt: Option<String>,
}

/// An open log.
pub struct Opened {
    /// The one writer.
    pub writer: LogWriter,
    /// A reader; clone it at will.
    pub reader: LogReader,
    /// What the log holds.
    pub state: LogState,
    /// What opening found and did.
    pub report: RecoveryReport,
}

/// Opens the log in a group's directory, or makes an empty one when there is no directory. Blocks. The caller holds
/// the lock of the data directory.
///
/// # Errors
/// As the table in [`super::recovery`] says; `DiskFull` and `Io`.
pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<Opened, OpenError> {
    open_planted(disk, dir, options, Plants::NONE)
}

/// The same with a rule broken.
pub(crate) fn open_planted(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: LogOptions,
    plants: Plants,
) -> Result<Opened, OpenError> {
    open_as(disk, dir, options, plants, false)
}

/// As [`open`], for a node without peers: a log that somebody would have to mend, or whose last entry is in doubt, is
/// refused, and nothing is changed.
///
/// # Errors
/// `Unmendable`, and those of [`open`].
pub fn open_alone(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<Opened, OpenError> {
    open_as(disk, dir, options, Plants::NONE, true)
}

/// What a node without peers does with damage: nobody could mend it.
fn refuse(log_dir: &Path, holes: &[Hole], doubt: Option<&String>) -> Result<(), OpenError> {
    match (holes.first(), doubt) {
        (Some(hole), _) => Err(hole.refusal()),
        (None, Some(reason)) => {
            let (path, reason) = (log_dir.to_owned(), reason.clone());
            Err(OpenError::Unmendable { path, offset: 0, index: Index::ZERO, reason })
        }
        (None, None) => Ok(()),
    }
}

fn open_as(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: LogOptions,
    plants: Plants,
    alone: bool,
) -> Result<Opened, OpenError> {
    let options = LogOptions { segment_bytes: options.segment_bytes.min(MAX_SEGMENT_BYTES), ..options };
    let owner = Owner { cluster: options.cluster, group: options.group };
    let log_dir = layout::log_dir(dir);
    let mut report = RecoveryReport::default();
    let mut survey = match disk.list(&log_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Survey::default(),
        Err(source) => return Err(OpenError::Io { path: log_dir, source }),
        Ok(_) => survey::survey(&*disk, &log_dir, plants)?,
    };
    for segment in survey.segments.iter_mut().filter(|segment| segment.bad_header.is_some()) {
        segment.header.wall_ms = options.wall_ms;
    }
    for segment in survey.segments.iter().chain(&survey.superseded) {
        survey::check_owner(dir, &segment.header, owner)?;
    }
    let vote = super::meta::read_own_vote(&*disk, dir, owner)?;
    let opening = Opening { disk, dir: dir.to_owned(), log_dir, options, owner, plants };
    if survey.segments.is_empty() {
        if vote.is_some() {
            // R20
            return Err(OpenError::LostSegment { path: opening.log_dir, index: Index(1) });
        }
        return opening.make_new(&survey, report);
    }
    let Survey { segments, superseded, unfinished, indexes } = survey;
    let (closed, last) = survey::chain(&opening.log_dir, segments, &mut report)?;
    let tail = tail::read(&last, plants)?;
    let made_just_now = tail.doubt.is_none()
        && last.header.generation == 1
        && tail.summary.count == 0
        && matches!(tail.behind, Behind::Blank);
    if vote.is_none() && !made_just_now {
        // R19
        return Err(OpenError::LostVote { path: dir.join(layout::VOTE_FILE) });
    }
    let doubt = super::doubt::load(&*opening.disk, dir)?;
    let noted = doubt.is_some();
    let mut doubt = doubt.or(tail.doubt.clone());
    let scanned = closed.iter().filter_map(|part| part.scanned.as_ref());
    let holes: Vec<Hole> = scanned.flat_map(|scanned| &scanned.holes).chain(&tail.holes).cloned().collect();
    if alone {
        refuse(&opening.log_dir, &holes, doubt.as_ref())?;
    } else {
        // R25; what a node without peers has lost, nobody has.
        let lost = super::unsynced::lost(&*opening.disk, dir)?;
        if lost.is_some() {
            report.note(Rule::PowerLost);
        }
        doubt = doubt.or(lost);
    }
    // R22
    failure::create_dir_durably(&*opening.disk, &opening.log_dir)?;
    opening.disk.sync_dir(&opening.log_dir).blame(&opening.log_dir)?;
    let kept: Vec<_> = closed.iter().map(|part| &part.segment).chain([&last]).map(|part| part.header.name()).collect();
    mend::complete(&*opening.disk, &opening.log_dir, &mut report)?;
    let orphans = indexes.into_iter().filter(|name| !kept.contains(name)).map(|name| name.index_file());
    opening.remove(unfinished.into_iter().chain(orphans).collect(), Rule::Leftovers, &mut report)?;
    let beaten = superseded.iter().map(|segment| segment.header.name().segment_file()).collect();
    opening.remove(beaten, Rule::Superseded, &mut report)?;
    let vote = opening.renew_vote()?;
    if let Some(reason) = doubt.as_ref().filter(|_reason| !noted) {
        super::doubt::store(&*opening.disk, dir, reason)?;
    }
    opening.write_headers(closed.iter().map(|part| &part.segment).chain([&last]), &mut report)?;
    let restarted = restart::restart(&opening.disk, &opening.log_dir, &opening.options, last, tail, &mut report)?;
    opening.finish(closed, restarted, vote, (holes, doubt), report)
}

/// What all steps of opening need.
struct Opening {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log_dir: PathBuf,
    options: LogOptions,
    owner: Owner,
    plants: Plants,
}

impl Opening {
    /// R1: the first segment, then the vote file: a vote without a segment means a lost file.
    fn make_new(self, survey: &Survey, mut report: RecoveryReport) -> Result<Opened, OpenError> {
        report.note(Rule::NewLog);
        failure::create_dir_durably(&*self.disk, &self.log_dir)?;
        self.remove(survey.unfinished.clone(), Rule::Leftovers, &mut report)?;
        let header = SegmentHeader {
            cluster: self.options.cluster,
            group: self.options.group,
            generation: 1,
            first_position: Position::ZERO,
            previous: EntryId::ZERO,
            previous_time: LogTime::ZERO,
            wall_ms: self.options.wall_ms,
            membership: (Index::ZERO, Bytes::new()),
        };
        let unfinished = self.log_dir.join(NEW_SEGMENT_FILE);
        let length =
            FIRST_CHUNK_BYTES.min(self.options.segment_bytes).max(create::bytes_needed(header.records_offset(), 0));
        let file = prepare::make_blank(&*self.disk, &unfinished, length).blame_room(&unfinished, length)?;
        let slot = Slot::empty(&header, 0, Index::ZERO);
        let slot = create::finish(&*self.disk, &self.log_dir, &unfinished, &file, &header, slot, self.plants)
            .blame_room(&unfinished, length)?;
        let vote = VoteFile::create(&*self.disk, &self.dir, self.owner, Vote::default())?;
        let paths = create::paths(&self.log_dir, header.name());
        let segment = Arc::new(LiveSegment::known(paths, header, file, length, Vec::new()));
        let active = fresh(segment, (EntryId::ZERO, LogTime::ZERO, Position::ZERO), slot, length);
        self.finish(Vec::new(), Restarted { before: None, active }, vote, (Vec::new(), None), report)
    }

    /// R5
    fn write_headers<'a>(
        &self,
        segments: impl Iterator<Item = &'a Segment>,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        for segment in segments.filter(|segment| segment.bad_header.is_some()) {
            report.note(Rule::Header);
            let path = &segment.paths.segment;
            let file = self.disk.open(path, OpenMode::Write).blame(path)?;
            file.write_all_at(&[IoSlice::new(&segment.header.encode())], 0).blame(path)?;
            file.sync().blame(path)?;
        }
        Ok(())
    }

    fn remove(&self, names: Vec<String>, rule: Rule, report: &mut RecoveryReport) -> Result<(), OpenError> {
        for name in names {
            failure::remove_if_there(&*self.disk, &self.log_dir.join(&name))?;
            report.removed.push(name);
            report.note(rule);
        }
        Ok(())
    }

    /// R21; or the last step of R1, when a crash left it out.
    fn renew_vote(&self) -> Result<VoteFile, OpenError> {
        match VoteFile::open(&*self.disk, &self.dir, self.owner, self.plants)? {
            Some(vote) => Ok(vote),
            None => VoteFile::create(&*self.disk, &self.dir, self.owner, Vote::default()),
        }
    }

    /// Joins everything to an open log.
    fn finish(
        self,
        closed: Vec<Closed>,
        restarted: Restarted,
        vote: VoteFile,
        (holes, doubt): (Vec<Hole>, Option<String>),
        report: RecoveryReport,
    ) -> Result<Opened, OpenError> {
        let Restarted { before, active } = restarted;
        super::unsynced::begin(&*self.disk, &self.dir, self.options.durability)?;
        let reserve = self.make_reserve()?;
        let state =
            LogState { holes, last_in_doubt: doubt, ..state_of(&closed, before.as_ref(), &active, vote.vote()) };
        let mut parts: Vec<Part> = closed.into_iter().map(closed_part).collect();
        let before: Option<Part> = before.map(|(part, _summary)| part);
        let unindexed = before.iter().map(|part| part.segment.clone()).collect();
        parts.extend(before);
        parts.push(Part::whole(active.segment.clone()));
        let shared = Arc::new(Shared {
            disk: self.disk.clone(),
            view: ArcSwap::from_pointee(View { base: state.base, base_position: state.base_position, parts }),
            space: SpaceCell::new(if reserve > 0 { Space::Open } else { Space::Reserve }),
            disk_bytes: AtomicU64::new(0),
            known: Known::new(state.holes.clone()),
            plants: self.plants,
        });
        let generation = active.segment.header.generation;
        let writer = LogWriter {
            disk: self.disk,
            log_dir: self.log_dir,
            options: self.options,
            plants: self.plants,
            shared: shared.clone(),
            vote,
            active,
            memberships: state.memberships.clone(),
            generation,
            committed: state.committed_hint,
            poison: Poison::default(),
            reserve_bytes: reserve,
            spare_bytes: 0,
            unindexed,
            job: None,
            dirty: false,
        };
        writer.count_bytes();
        Ok(Opened { writer, reader: LogReader { shared }, state, report })
    }

    /// A log opens without a reserve too: it only has less to live on when the disk is full.
    fn make_reserve(&self) -> Result<u64, OpenError> {
        let (path, bytes) = (self.log_dir.join(RESERVE_FILE), room::reserve_bytes(self.options.segment_bytes));
        match prepare::make_blank(&*self.disk, &path, bytes) {
            Ok(_) => Ok(bytes),
            Err(error) if is_full(&error) => Ok(0),
            Err(source) => Err(OpenError::Io { path, source }),
        }
    }
}

fn closed_part(closed: Closed) -> Part {
    let Closed { segment: Segment { paths, header, file, length, .. }, summary, limit, scanned } = closed;
    let live = match scanned {
        Some(Scanned { ends, holes }) => {
            LiveSegment::known(paths, header, file, length, ends).with_terms(&summary.runs, &holes)
        }
        None => {
            let end = Limit { last: summary.last, offset: survey::end_offset(&header, summary.end) };
            LiveSegment::sealed(paths, header, file, length, end).with_terms(&summary.runs, &[])
        }
    };
    Part { segment: Arc::new(live), limit: limit.index }
}

/// What the segments together hold.
fn state_of(
    closed: &[Closed],
    before: Option<&(Part, super::segment::footer::Summary)>,
    active: &Active,
    vote: Vote,
) -> LogState {
    let headers = closed.iter().map(|part| &part.segment.header);
    let headers = headers.chain(before.map(|(part, _)| &part.segment.header)).chain([&active.segment.header]);
    let first = headers.clone().next().unwrap_or(&active.segment.header);
    let in_force = Some(first.membership.clone()).filter(|(index, _)| !index.is_zero());
    let mut state = LogState {
        vote,
        base: first.previous,
        base_position: first.first_position,
        runs: Vec::new(),
        last: active.summary.last,
        end: active.summary.end,
        memberships: in_force.into_iter().collect(),
        last_time: active.summary.last_time,
        committed_hint: active.slot.committed.min(active.summary.last.index),
        holes: Vec::new(),
        last_in_doubt: None,
    };
    let closed = closed.iter().map(|part| (&part.summary, part.limit.index));
    let before = before.map(|(_, summary)| (summary, summary.last.index));
    for (summary, limit) in closed.chain(before).chain([(&active.summary, active.summary.last.index)]) {
        for run in summary.runs.iter().filter(|run| run.first <= limit) {
            if state.runs.last().is_none_or(|last| last.term != run.term) {
                state.runs.push(*run);
            }
        }
        // A segment made behind a hole knows the last entry's time only once that entry can be read again.
        if summary.last.index == limit {
            state.last_time = state.last_time.max(summary.last_time);
        }
        state.memberships.extend(summary.memberships.iter().filter(|(index, _)| *index <= limit).cloned());
    }
    state
}
