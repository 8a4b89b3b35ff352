//! Processes start, are killed, and lose their power.

use dledger::OpenError;
use dledger::env::memory::{Fate, Pending};
use dledger::kv::machine::KvMachine;
use dledger::simulation::{Plants, Process, Seams, form};
use dledger::types::{Index, Monotonic};

use super::rot::Places;
use super::{Event, World};
use crate::checkers::disk_keeps::Losses;
use crate::checkers::node_invariants::NodeInvariants;
use crate::checkers::{disk_keeps, log_matching};
use crate::faults::Fault;
use crate::machine::Watched;

impl World {
    /// Forms the cluster.
    pub(super) fn form(&mut self) {
        for node in &self.nodes {
            node.pace.show(0, &node.machine);
        }
        let nodes: Vec<_> = self.nodes.iter().map(|node| (node.environment(), node.config.clone())).collect();
        if let Err(error) = form(&nodes) {
            self.judge(disk_keeps::PROPERTY, Err(format!("the cluster does not form: {error}")));
        }
        drop(nodes);
        for node in &self.nodes {
            node.disk.kill_process();
        }
    }

    pub(super) fn plants(&self) -> Plants {
        self.plant.map_or(Plants::NONE, Plants::one)
    }

    /// A machine starts its process; during recovery the power may fail again.
    pub(super) fn start(&mut self, node: usize) {
        let (now, plants) = (self.now, self.plants());
        let cut = self.nemesis.cut_in_recovery(&self.profile, now);
        let Some(it) = self.nodes.get_mut(node) else { return };
        if it.is_up() || it.retired || it.waits_to_join {
            return;
        }
        it.pace.show(now, &it.machine);
        if it.wiped && self.start_forming(node) {
            return;
        }
        let Some(it) = self.nodes.get_mut(node) else { return };
        it.disk.cut_power_at(cut);
        let mut machine = KvMachine::new();
        machine.plant(plants);
        let (machine, watch) = Watched::new(machine);
        let chunk_bytes = self.profile.snapshots.and_then(|snapshots| snapshots.chunk_bytes);
        let seams = Seams { plants, window: self.profile.window, chunk_bytes };
        let joined = self.join_first(node);
        let Some(it) = self.nodes.get_mut(node) else { return };
        let started = joined.and_then(|()| Process::start(&it.environment(), &it.config, machine, seams));
        if it.disk.is_off() {
            drop(started);
            self.marks.met("fault: power cut in recovery");
            self.lose_power(node);
            let wait = self.nemesis.random.within(1_000..100_000);
            return self.schedule(wait, Event::Start { node });
        }
        it.disk.cut_power_at(0);
        match started {
            Ok(process) => {
                it.watch = Some(watch);
                self.started(node, process);
            }
            // A full disk, or one whose planned error strikes now: the operator starts the node again.
            Err(error @ OpenError::DiskFull { .. }) => self.start_again(node, &error),
            Err(error @ OpenError::Io { .. }) if it.disk_fails => self.start_again(node, &error),
            Err(error) => {
                let what = format!("node {} does not open again: {error}", it.id);
                self.judge(disk_keeps::PROPERTY, Err(what));
            }
        }
    }

    pub(super) fn start_again(&mut self, node: usize, error: &OpenError) {
        self.trace.event(self.now, node + 1, "not opened", &[], || error.to_string());
        let Some(it) = self.nodes.get_mut(node) else { return };
        it.disk_fails = false;
        it.disk.kill_process();
        self.schedule(100_000, Event::Start { node });
    }

    fn started(&mut self, node: usize, process: Process<Watched>) {
        let now = self.now;
        let (raft, log) = (process.raft(), process.log());
        let kept = match self.truth.disks.get(node) {
            Some(disk) => disk_keeps::recovered((raft, log), process.snapshots(), disk, &self.truth, self.losses(node)),
            None => Ok(()),
        };
        self.judge(disk_keeps::PROPERTY, kept);
        let first = Some(Index(1)).filter(|first| *first == log.first() && raft.last().index >= *first);
        let first = first.map(|first| log.read(first).map_err(|error| error.to_string()));
        let noted =
            match first.transpose().and_then(|record| record.map_or(Ok(()), |record| self.truth.note(&record, None))) {
                // It may be what has rotted.
                Err(_) if self.losses(node) == Losses::Recognition => Ok(()),
                noted => noted,
            };
        self.judge(log_matching::PROPERTY, noted);
        self.truth.recovered(node, raft, process.snapshots());
        let numbers = [raft.last().index.get(), raft.vote().term.get()];
        self.trace.event(now, node + 1, "started", &numbers, || {
            let (base, snapshots) = (raft.base(), process.snapshots());
            let rules = &process.recovery().rules;
            format!("base {base}, last {}, {:?}, snapshots {snapshots:?}, rules {rules:?}", raft.last(), raft.vote())
        });
        self.forget_hint(node);
        let around_records = matches!(self.rotting.places, Places::Block | Places::Slots);
        let loses_writes = self.profile.has(Fault::Misdirected) && around_records && self.rotting.node == node;
        let Some(it) = self.nodes.get_mut(node) else { return };
        it.disk_before = loses_writes.then(|| it.disk.fork());
        it.invariants = Some(NodeInvariants::new(process.raft()));
        it.process = Some(process);
        // A core that starts alone or knows commits may have something to say already.
        self.input(node, |_process, _now: Monotonic| {});
        self.prepare_ahead(node);
        self.next_scrub(node);
    }

    /// What is left of a process that is gone.
    pub(super) fn gone(&mut self, node: usize, machine_lives: bool) {
        self.lose_callers(node);
        if let Some(it) = self.nodes.get_mut(node) {
            it.forget();
        }
        self.hang_up(node, machine_lives);
    }

    /// The disk is interrupted: perhaps in the middle of the write under way, perhaps right after it.
    fn interrupt_write(&mut self, node: usize) -> bool {
        let fate = self.nemesis.random.within(0..3);
        let calls = self.nemesis.random.within(1..7);
        let Some(it) = self.nodes.get_mut(node) else { return false };
        let (Some(process), Some(write)) = (&mut it.process, &it.write) else { return false };
        if fate == 0 {
            return false;
        }
        it.disk.cut_power_at(calls);
        if process.perform(write).is_ok() {
            self.truth.written(node, write.batch());
        }
        true
    }

    /// Kills a process.
    pub(super) fn kill(&mut self, node: usize) {
        if self.nodes.get(node).is_none_or(|it| it.process.is_none()) {
            return self.gone_while_forming(node);
        }
        self.marks.met("fault: process killed");
        if self.nodes.get(node).is_some_and(super::node::Node::leads) {
            self.marks.met("seen: leader killed");
        }
        if self.interrupt_disk(node) {
            self.marks.met("fault: killed in the middle of a write");
        }
        self.trace.event(self.now, node + 1, "killed", &[], String::new);
        // What the process would tidy up when it ends in good order stays.
        if let Some(it) = self.nodes.get(node) {
            it.disk.kill_process();
            it.disk.cut_power_at(0);
        }
        self.gone(node, true);
    }

    fn gone_while_forming(&mut self, node: usize) {
        if !self.is_forming(node) {
            return;
        }
        self.gone(node, true);
        if let Some(it) = self.nodes.get(node) {
            it.disk.kill_process();
        }
    }

    /// A machine loses its power.
    pub(super) fn power_cut(&mut self, node: usize) {
        self.marks.met("fault: power cut");
        if self.interrupt_disk(node) {
            self.marks.met("fault: power cut in the middle of a write");
        }
        self.trace.event(self.now, node + 1, "power cut", &[], String::new);
        self.lose_power(node);
        self.gone(node, false);
    }

    /// Whatever the process does with its disk is interrupted: the write, or what it does about snapshots. True when that
    /// was the write.
    fn interrupt_disk(&mut self, node: usize) -> bool {
        if self.profile.snapshots.is_some() && self.asked.random.chance(500) {
            return !self.interrupt_snapshots(node) && self.interrupt_write(node);
        }
        let written = self.interrupt_write(node);
        if self.nodes.get(node).is_some_and(|it| !it.disk.is_off()) {
            self.interrupt_snapshots(node);
        }
        written
    }

    /// What is not synced meets its fate.
    fn lose_power(&mut self, node: usize) {
        let random = &mut self.nemesis.random;
        let (lost, garbled) = (random.within(0..1001), random.within(0..400));
        let mut seen = [0_u64; 4];
        let Some(it) = self.nodes.get_mut(node) else { return };
        it.disk.power_cut(|pending| {
            let name = !matches!(pending, Pending::Sector { .. } | Pending::Length { .. });
            let fate = if random.chance(lost) {
                if random.chance(garbled) { Fate::Garbled } else { Fate::Lost }
            } else {
                Fate::Kept
            };
            let kind = match (name, fate) {
                (true, Fate::Lost | Fate::Garbled) => 3,
                (false, Fate::Lost) => 0,
                (_, Fate::Kept) => 1,
                (false, Fate::Garbled) => 2,
            };
            if let Some(count) = seen.get_mut(kind) {
                *count += 1;
            }
            fate
        });
        let names = ["seen: sector lost", "seen: sector kept", "seen: sector garbled", "seen: name lost"];
        for (name, count) in names.into_iter().zip(seen) {
            if count > 0 {
                self.marks.met(name);
            }
        }
        // The machine's clock starts anew.
        let reading = random.within(1..1 << 40);
        it.pace = crate::clock::Pace::starting_at(reading);
        it.pace.go_at(self.now, crate::clock::RIGHT);
    }

    /// Everybody who does not run starts, when the faults are over.
    pub(super) fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes.get(node).is_some_and(|it| !it.is_up()) {
                let wait = self.nemesis.random.within(1_000..50_000);
                self.schedule(wait, Event::Start { node });
            }
        }
    }
}
