//! What the snapshot worker does, without the thread: one piece of work at a time, which may take long; purges between two
//! writes; who asks for a snapshot; and what interrupts a node that fetches one.
//!
//! ```text
//!   end of a turn ─► work taken ─► (time passes: a kill or a power cut strikes its disk calls) ─► done, process hears
//!   disk idle ─────► purge, at once or late ─► next write
//! ```
//! Work of an earlier life is void: it ends with the process.

use std::collections::BTreeMap;

use dledger::commitlog::layout::group_dir;
use dledger::env::OpenMode;
use dledger::error::SnapshotRequestError;
use dledger::simulation::SnapshotTask;
use dledger::snapshot::snapshot_dir;
use dledger::types::{EntryId, GroupId, Index, Monotonic};

use super::rot::Places;
use super::{Event, World};
use crate::checkers::{converges, same_state, snapshots_cover};
use crate::faults::Fault;
use crate::random::Random;

/// How long work takes, on average, in microseconds: a whole snapshot, now and then one that is large; a piece of one.
const WHOLE: u64 = 3_000;
const LARGE: u64 = 120_000;
const PIECE: u64 = 150;
/// And how long at most, on a slow disk too.
const LONGEST: u64 = 500_000;
/// In how many of a thousand moments at which a purge could be done it is put off: it is to be met by kills and power cuts.
const LATE_PURGES: u64 = 800;
/// How often somebody asks for a snapshot, on average.
const ASK_EVERY: u64 = 700_000;
/// How long an answer may take when there are no faults any more.
const ANSWERED_AFTER: u64 = 1_000_000;
/// How long a node is away when it is away for long, at least and at most.
const LONG: (u64, u64) = (1_000_000, 3_000_000);
/// Installs that are interrupted in a run, at most.
const INTERRUPTIONS: u64 = 8;

/// Who waits for a snapshot, and what else there is to draw about them.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) random: Random,
    /// By ticket: the node, what it had applied, and when it was asked.
    pub(super) waiting: BTreeMap<u64, (usize, Index, u64)>,
    next_ticket: u64,
    interruptions: u64,
    /// Until when a node, or some, are away for long: one outage at a time.
    away_until: u64,
}

impl Asked {
    pub(super) fn new(seed: u64) -> Self {
        let random = Random::new(seed, "asked");
        Self { random, waiting: BTreeMap::new(), next_ticket: 0, interruptions: 0, away_until: 0 }
    }
}

impl World {
    /// Begins the next piece of work, when none is under way.
    pub(super) fn start_snapshot_work(&mut self, node: usize) {
        let now = self.now;
        let Some(it) = self.nodes.get_mut(node) else { return };
        let Some(process) = &mut it.process else { return };
        if it.snapshot_work.is_some() {
            return;
        }
        let Some(work) = process.take_snapshot_work() else { return };
        let task = work.task();
        it.snapshot_work = Some(work);
        let mean = match task {
            SnapshotTask::Take(_) | SnapshotTask::Load(_) if self.asked.random.chance(100) => LARGE,
            SnapshotTask::Take(_) | SnapshotTask::Load(_) => WHOLE,
            SnapshotTask::Serve(_) | SnapshotTask::Begin(_) | SnapshotTask::Chunk | SnapshotTask::Free => PIECE,
        };
        let took = ((1 + self.asked.random.around(mean)) * it.disk_slow).min(LONGEST);
        let wait = took.max(it.disk_hung_until.saturating_sub(now));
        let (life, captured) = (it.life, it.captured);
        self.trace.event(now, node + 1, "snapshot", &[wait], || format!("{task:?} begins"));
        self.schedule(wait, Event::Snapshot { node, life });
        if let (SnapshotTask::Take(id), Some((of, state))) = (task, captured) {
            let verdict = self.same_state.holds_at(id, state, &format!("after {of}, to be written down"));
            self.judge(same_state::PROPERTY, verdict);
        }
    }

    /// The work returns.
    pub(super) fn snapshot_work_done(&mut self, node: usize) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        let (Some(process), Some(work)) = (&mut it.process, it.snapshot_work.take()) else { return };
        let task = work.task();
        let outcome = process.perform_snapshot_work(work);
        let kept = outcome.kept().map(<[EntryId]>::to_vec);
        self.trace.event(self.now, node + 1, "snapshot", &[], || format!("{task:?} done, {kept:?}"));
        if let Some(kept) = kept {
            self.truth.snapshots_kept(node, &kept);
        }
        self.input(node, |process, now| process.snapshot_work_done(now, outcome));
        self.start_snapshot_work(node);
        if matches!(task, SnapshotTask::Begin(_) | SnapshotTask::Chunk | SnapshotTask::Load(_)) {
            self.interrupt_install(node);
        }
    }

    /// Drops the front of the log, mostly late; false when the disk stopped the node over it.
    pub(super) fn purge(&mut self, node: usize) -> bool {
        if self.asked.random.chance(LATE_PURGES) {
            return true;
        }
        let Some(it) = self.nodes.get_mut(node) else { return false };
        let clock = it.clock(self.now);
        let Some(process) = &mut it.process else { return false };
        let before = process.log().first();
        match process.purge(clock) {
            Ok(purged) => {
                let first = process.log().first();
                if purged && first > before {
                    self.trace.event(self.now, node + 1, "purged", &[first.get()], || format!("begins at {first}"));
                    self.truth.purged(node, first);
                    let begins = self.truth.disks.get(node).map(|disk| disk.base);
                    self.check_begins(node, begins);
                    self.input(node, |_process, _now: Monotonic| {});
                }
                true
            }
            Err(fault) => {
                self.stopped_by_disk(node, &fault.to_string());
                false
            }
        }
    }

    /// The log of a node begins, or is about to begin, behind an entry.
    pub(super) fn check_begins(&mut self, node: usize, base: Option<EntryId>) {
        let (Some(it), Some(disk), Some(base)) = (self.nodes.get(node), self.truth.disks.get(node), base) else {
            return;
        };
        let verdict = snapshots_cover::begins(it.id, base, disk, &self.truth);
        self.judge(snapshots_cover::PROPERTY, verdict);
    }

    /// The process is about to go, perhaps in the middle of a purge or of work on snapshots. True when it was.
    pub(super) fn interrupt_snapshots(&mut self, node: usize) -> bool {
        if self.profile.snapshots.is_none() {
            return false;
        }
        let random = &mut self.asked.random;
        let (purges, works) = (random.chance(700), random.chance(700));
        let (early, late) = (random.within(1..8), random.within(1..16));
        let Some(it) = self.nodes.get_mut(node) else { return false };
        let clock = it.clock(self.now);
        let Some(process) = &mut it.process else { return false };
        if purges && it.write.is_none() {
            it.disk.cut_power_at(early);
            if process.purge(clock).is_ok_and(|purged| purged) {
                self.truth.purged(node, process.log().first());
            }
            if it.disk.is_off() {
                self.marks.met("fault: interrupted in the middle of a purge");
                return true;
            }
        }
        if let Some(work) = it.snapshot_work.take().filter(|_work| works) {
            it.disk.cut_power_at(late);
            let outcome = process.perform_snapshot_work(work);
            if let Some(kept) = outcome.kept() {
                self.truth.snapshots_kept(node, kept);
            }
            if it.disk.is_off() {
                self.marks.met("fault: interrupted in the middle of snapshot work");
                return true;
            }
        }
        it.disk.cut_power_at(0);
        false
    }

    /// A node fetches a snapshot: now and then it goes down, or who gives it does, or their connections, or the leader.
    fn interrupt_install(&mut self, node: usize) {
        let ended = self.now >= self.profile.faults_end() || self.asked.interruptions >= INTERRUPTIONS;
        let kinds =
            [Fault::Kill, Fault::PowerCut, Fault::Reset, Fault::Coup, Fault::Partition, Fault::Garbage, Fault::Rot];
        let kinds: Vec<Fault> = kinds.into_iter().filter(|kind| self.profile.has(*kind)).collect();
        if ended || !self.asked.random.chance(60) {
            return;
        }
        let Some(kind) = self.asked.random.pick(&kinds) else { return };
        self.asked.interruptions += 1;
        self.marks.met("fault: install interrupted");
        let leader = self.nodes.iter().position(super::node::Node::leads).unwrap_or(node);
        let victim = if self.asked.random.chance(500) { node } else { leader };
        self.trace.event(self.now, victim + 1, "FAULT", &[], || format!("{kind}, while node {} fetches", node + 1));
        match kind {
            Fault::PowerCut => self.power_off_for_a_while(victim),
            Fault::Reset => self.reset(victim),
            Fault::Coup => self.coup(),
            Fault::Partition => self.partition(),
            Fault::Garbage => drop(self.network.garble.insert((leader, node), 2)),
            Fault::Rot => self.rot_given(leader),
            Fault::Kill
            | Fault::Blackout
            | Fault::RecoveryCut
            | Fault::Pause
            | Fault::OneWay
            | Fault::Loss
            | Fault::Duplicate
            | Fault::Reorder
            | Fault::SlowLink
            | Fault::SlowDisk
            | Fault::HungDisk
            | Fault::DiskError
            | Fault::DiskFull
            | Fault::Misdirected
            | Fault::ClockRate
            | Fault::WallJump
            | Fault::Churn
            | Fault::Transfer
            | Fault::Wipe => self.kill_for_a_while(victim),
        }
    }

    /// What a node gives to another rots under its hands, if that is where this run's disks rot.
    fn rot_given(&mut self, giver: usize) {
        if self.rotting.places != Places::Snapshots {
            return;
        }
        if !std::mem::replace(&mut self.rotting.done, true) {
            self.rotting.node = giver;
        }
        if self.rotting.node == giver {
            self.rot_snapshot(giver, false);
        }
    }

    /// How long an outage lasts that would last `wait`: now and then long enough that the logs of others have moved on.
    pub(super) fn long_outage(&mut self, wait: u64) -> u64 {
        let may = self.profile.snapshots.is_some() && self.asked.away_until <= self.now;
        if !may || !self.asked.random.chance(300) {
            return wait;
        }
        let wait = self.asked.random.within(LONG.0..LONG.1);
        self.asked.away_until = self.now + wait;
        self.marks.met("fault: away for long");
        wait
    }

    /// Somebody asks some node for a snapshot of all that it has applied.
    pub(super) fn ask_for_snapshot(&mut self) {
        let wait = self.asked.random.around(ASK_EVERY).max(1_000);
        self.schedule(wait, Event::AskSnapshot);
        let node = self.asked.random.place(self.nodes.len());
        let Some(it) = self.nodes.get(node) else { return };
        let Some(applied) = it.process.as_ref().map(|process| process.applied().index) else { return };
        self.asked.next_ticket += 1;
        // Clients count theirs from 1.
        let ticket = u64::MAX - self.asked.next_ticket;
        self.asked.waiting.insert(ticket, (node, applied, self.now));
        self.trace.event(self.now, node + 1, "asked", &[ticket], || format!("for a snapshot of {applied} or later"));
        self.input(node, |process, _now| process.snapshot(ticket));
    }

    /// It is answered.
    pub(super) fn snapshot_answered(&mut self, node: usize, ticket: u64, told: Result<EntryId, SnapshotRequestError>) {
        let Some((_node, applied, at)) = self.asked.waiting.remove(&ticket) else { return };
        self.trace.event(self.now, node + 1, "answers", &[ticket], || format!("a snapshot: {told:?}"));
        let (Some(it), Some(disk)) = (self.nodes.get(node), self.truth.disks.get(node)) else { return };
        let after_faults = at > self.profile.faults_end() + converges::SERVES_AFTER && self.is_member(node);
        match told {
            Ok(id) => {
                self.marks.met("seen: snapshot asked for");
                let verdict = snapshots_cover::answered(id, applied, disk, &self.truth);
                self.judge(snapshots_cover::PROPERTY, verdict);
            }
            Err(error) => {
                self.marks.met("seen: snapshot not given to who asked");
                let id = it.id;
                if after_faults {
                    self.judge(converges::PROPERTY, converges::not_served(id, &error.to_string()));
                }
            }
        }
    }

    /// The run is over: nobody still waits who asked in time.
    pub(super) fn check_asked(&mut self) {
        let late =
            |(node, _applied, at): &&(usize, Index, u64)| *at + ANSWERED_AFTER < self.now && self.is_member(*node);
        let Some((node, applied, _at)) = self.asked.waiting.values().find(late).copied() else { return };
        let id = self.nodes.get(node).map(|it| it.id).unwrap_or_default();
        let what = format!("a snapshot of {applied} or later was asked for and not taken");
        self.judge(converges::PROPERTY, converges::not_served(id, &what));
    }

    /// A byte of a snapshot changes, or a sector of it cannot be read any more; often the process starts from that.
    pub(super) fn rot_snapshot(&mut self, node: usize, restarts: bool) {
        self.rotting.done = true;
        let Some(it) = self.nodes.get(node) else { return };
        let Some(process) = &it.process else { return };
        let ids: Vec<EntryId> = process.snapshots().to_vec();
        let newest = self.asked.random.chance(700);
        let place = if newest { 0 } else { self.asked.random.place(ids.len()) };
        let Some(id) = ids.get(place) else { return };
        let file = if restarts && self.asked.random.chance(250) { "manifest" } else { "data" };
        let directory = snapshot_dir(&group_dir(&it.config.data_dir, GroupId::FIRST));
        let path = directory.join(format!("{:020}-{}", id.index.get(), id.term.get())).join(file);
        let opened = it.disk.handle().open(&path, OpenMode::Read);
        let Some(length) = opened.and_then(|file| file.len()).ok().filter(|length| *length > 0) else { return };
        // One that is given while it rots is struck where it is read next, and not in what was given already.
        let from = if restarts { 0 } else { length * 3 / 4 };
        let at = self.asked.random.within(from..length);
        self.spoil(node, &path, at, true);
        self.marks.met("fault: snapshot rotted");
        if restarts {
            self.restart_over_rot(node);
        }
    }
}
