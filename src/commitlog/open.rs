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

use super::base::Start;
use super::begin;
use super::chain::{self, Chain, Closed, Scanned};
use super::hole::{self, Hole};
use super::known::Known;
use super::layout::{self, RESERVE_FILE};
use super::live::LiveSegment;
use super::mend;
use super::meta::{Owner, VoteFile};
use super::poison::Poison;
use super::prepare;
use super::reader::{LogReader, Part, Shared, View};
use super::recovery::{RecoveryReport, Rule};
use super::restart::{self, Restarted};
use super::roll::MAX_SEGMENT_BYTES;
use super::room;
use super::segment::footer::Summary;
use super::space::{Space, SpaceCell};
use super::survey::{self, Segment, Survey};
use super::tail::{self, Behind};
use super::walk::Limit;
use super::writer::{Active, LogWriter};
use crate::config::Durability;
use crate::env::{Disk, OpenMode};
use crate::error::OpenError;
use crate::failure::{self, Blame, is_full};
use crate::simulation::plants::Plants;
use crate::types::{ClusterId, EntryId, GroupId, Index, LogBase, LogTime, Position, TermRun, Vote};

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
    /// What the caller does not need the log for: a verified snapshot holds all entries up to this index. A segment or
    /// a record that is missing at or below it is no loss. Zero when there is no snapshot.
    pub covered: Index,
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
    /// in them shows when it is read or scrubbed. Those that a snapshot covers block nothing ([`Hole::is_covered`]).
    pub holes: Vec<Hole>,
    /// Why acknowledged entries may have stood behind `last`; `None` when `last` is known. Until
    /// [`LogWriter::trust_last`] each opening says so again: such a node cannot vouch for what it has acknowledged.
    pub last_in_doubt: Option<String>,
}

impl LogState {
    /// Whether the log has an entry, as its base or as one that its terms name: what the owner of a snapshot asks about
    /// the snapshot's last entry. If not, the log cannot go on from the snapshot, and [`LogWriter::reset`] makes it.
    ///
    /// An entry in a hole of unknown terms counts as there when its term lies between those known around the hole: what
    /// stands behind it may have been acknowledged, and only a log that goes on still has that. It is another entry only
    /// when the leader behind it was elected before the snapshot's entry was committed. Nothing comes of that: the snapshot
    /// takes the entry's place, what stands behind it differs from the leader's and is cut, and a candidate with no more
    /// than that loses to the majority that committed later. A reset notes that it may have lost something.
    #[must_use]
    pub fn has(&self, entry: EntryId) -> bool {
        hole::holds((&self.runs, &self.holes), (self.base, self.last), entry)
    }
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
    open_as(disk, dir, options, Plants::NONE, Beforehand { begun: false, peers_by: &|_membership| Peers::Voters })
}

/// As [`open`], for a node without peers: a log that somebody would have to mend, or whose last entry is in doubt, is
/// refused, and nothing is changed.
///
/// # Errors
/// `Unmendable`, and those of [`open`].
pub fn open_alone(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<Opened, OpenError> {
    open_as(disk, dir, options, Plants::NONE, Beforehand { begun: false, peers_by: &|_membership| Peers::Nobody })
}

/// Who else has the log: that decides what is done with damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Nobody could mend it.
    Nobody,
    /// Somebody may have what cannot be read, but nobody else votes: in an election nothing would speak against a doubt.
    Learners,
    /// Others vote.
    Voters,
}

/// Says who a node's peers are, by the latest membership that can be read and the index of its entry.
pub type PeersBy<'a> = dyn Fn(Option<&(Index, Bytes)>) -> Peers + 'a;

/// As [`open`], for a node that belongs to a cluster: its log was made before, so that one that is not there is lost
/// (R30). That of a node without peers is opened as by [`open_alone`], and where nobody else votes a doubt is refused.
///
/// # Errors
/// Those of [`open`] and [`open_alone`].
pub fn open_begun(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: LogOptions,
    peers_by: &PeersBy,
) -> Result<Opened, OpenError> {
    open_as(disk, dir, options, Plants::NONE, Beforehand { begun: true, peers_by })
}

/// The same with a rule broken.
pub(crate) fn open_begun_planted(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: LogOptions,
    peers_by: &PeersBy,
    plants: Plants,
) -> Result<Opened, OpenError> {
    open_as(disk, dir, options, plants, Beforehand { begun: true, peers_by })
}

/// What the caller knows of the log before it is opened.
#[derive(Clone, Copy)]
struct Beforehand<'a> {
    /// It was made before.
    begun: bool,
    /// Who its node's peers are, by the latest membership that can be read.
    peers_by: &'a PeersBy<'a>,
}

/// Refuses the damage that none of the peers could mend.
pub(super) fn refuse(
    log_dir: &Path,
    peers: Peers,
    holes: &[Hole],
    covered: Index,
    doubt: Option<&String>,
) -> Result<(), OpenError> {
    let hole = holes.iter().find(|hole| !hole.is_covered(covered)).filter(|_hole| peers == Peers::Nobody);
    match (hole, doubt.filter(|_doubt| peers != Peers::Voters)) {
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
    Beforehand { begun, peers_by }: Beforehand<'_>,
) -> Result<Opened, OpenError> {
    let options = LogOptions { segment_bytes: options.segment_bytes.min(MAX_SEGMENT_BYTES), ..options };
    let owner = Owner { cluster: options.cluster, group: options.group };
    let log_dir = layout::log_dir(dir);
    let mut report = RecoveryReport::default();
    let front = begin::front(&*disk, dir, &options)?;
    let mut survey = match disk.list(&log_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Survey::default(),
        Err(source) => return Err(OpenError::Io { path: log_dir, source }),
        Ok(_) => survey::survey(&*disk, &log_dir, &front.start, plants)?,
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
        if begun && vote.is_none() && front.start.generation == 0 {
            // R30
            return Err(OpenError::LostSegment { path: opening.log_dir, index: front.start.base.first() });
        }
        let peers = peers_by(latest_membership(&front.start, &[], None));
        return opening.make_first(survey, front, vote, peers, report);
    }
    let Survey { segments, superseded, mut dropped, unfinished, indexes } = survey;
    let Chain { start, closed, last, dropped: not_needed } =
        chain::chain(&opening.log_dir, segments, front, &mut report)?;
    dropped.extend(not_needed);
    let tail = tail::read(&last, plants)?;
    let made_just_now = tail.doubt.is_none()
        && last.header.generation == 1
        && tail.summary.count == 0
        && matches!(tail.behind, Behind::Blank);
    if vote.is_none() && (begun || !made_just_now) {
        // R19, R30
        return Err(OpenError::LostVote { path: dir.join(layout::VOTE_FILE) });
    }
    let doubt = super::doubt::load(&*opening.disk, dir)?;
    let noted = doubt.is_some();
    let mut doubt = doubt.or(tail.doubt.clone());
    let scanned = closed.iter().filter_map(|part| part.scanned.as_ref());
    let holes: Vec<Hole> = scanned.flat_map(|scanned| &scanned.holes).chain(&tail.holes).cloned().collect();
    let peers = peers_by(latest_membership(&start, &closed, Some(&tail.summary)));
    refuse(&opening.log_dir, peers, &holes, opening.options.covered, doubt.as_ref())?;
    if peers == Peers::Voters {
        // R25; what the only voter has lost, no other vote could bring back.
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
    let start = opening.renew_start(start, dropped, &mut report)?;
    let beaten = superseded.iter().map(|segment| segment.header.name().segment_file()).collect();
    opening.remove(beaten, Rule::Superseded, &mut report)?;
    let vote = opening.renew_vote()?;
    if let Some(reason) = doubt.as_ref().filter(|_reason| !noted) {
        super::doubt::store(&*opening.disk, dir, reason)?;
    }
    opening.write_headers(closed.iter().map(|part| &part.segment).chain([&last]), &mut report)?;
    let restarted = restart::restart(&opening.disk, &opening.log_dir, &opening.options, last, tail, &mut report)?;
    opening.finish(start, closed, restarted, vote, (holes, doubt), report)
}

/// What all steps of opening need.
pub(super) struct Opening {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) log_dir: PathBuf,
    pub(super) options: LogOptions,
    pub(super) owner: Owner,
    pub(super) plants: Plants,
}

impl Opening {
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

    pub(super) fn remove(&self, names: Vec<String>, rule: Rule, report: &mut RecoveryReport) -> Result<(), OpenError> {
        for name in names {
            failure::remove_if_there(&*self.disk, &self.log_dir.join(&name))?;
            report.removed.push(name);
            report.note(rule);
        }
        Ok(())
    }

    /// R21; or the last step of R1, when a crash left it out.
    pub(super) fn renew_vote(&self) -> Result<VoteFile, OpenError> {
        match VoteFile::open(&*self.disk, &self.dir, self.owner, self.plants)? {
            Some(vote) => Ok(vote),
            None => VoteFile::create(&*self.disk, &self.dir, self.owner, Vote::default()),
        }
    }

    /// Joins everything to an open log.
    pub(super) fn finish(
        self,
        start: Start,
        closed: Vec<Closed>,
        restarted: Restarted,
        vote: VoteFile,
        (holes, doubt): (Vec<Hole>, Option<String>),
        report: RecoveryReport,
    ) -> Result<Opened, OpenError> {
        let Restarted { before, active } = restarted;
        super::unsynced::begin(&*self.disk, &self.dir, self.options.durability)?;
        let reserve = self.make_reserve()?;
        let state = LogState {
            holes,
            last_in_doubt: doubt,
            ..state_of(&start.base, &closed, before.as_ref(), &active, vote.vote())
        };
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
            start,
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

/// The latest membership that can be read, and the index of its entry.
fn latest_membership<'a>(
    start: &'a Start,
    closed: &'a [Closed],
    tail: Option<&'a Summary>,
) -> Option<&'a (Index, Bytes)> {
    let of_base = Some(&start.base.membership).filter(|(index, _)| !index.is_zero());
    let of_closed = closed
        .iter()
        .rev()
        .find_map(|part| part.summary.memberships.iter().rev().find(|(index, _)| *index <= part.limit.index));
    tail.and_then(|tail| tail.memberships.last()).or(of_closed).or(of_base)
}

/// What the segments together hold.
fn state_of(
    base: &LogBase,
    closed: &[Closed],
    before: Option<&(Part, Summary)>,
    active: &Active,
    vote: Vote,
) -> LogState {
    let in_force = Some(base.membership.clone()).filter(|(index, _)| !index.is_zero());
    let mut state = LogState {
        vote,
        base: base.entry,
        base_position: base.position,
        runs: Vec::new(),
        last: active.summary.last,
        end: active.summary.end,
        memberships: in_force.into_iter().collect(),
        last_time: active.summary.last_time.max(base.time),
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
