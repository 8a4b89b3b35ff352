//! Faults: which strikes next, whom, and for how long.

use dledger::Durability;

use super::rot::Damage;
use super::{Event, World};
use crate::clock::RIGHT;
use crate::faults::Fault;
use crate::profile::Profile;
use crate::random::Random;

/// A fault that lasts, to be undone.
#[derive(Clone, Debug)]
pub(super) enum Lasting {
    /// These directions are cut.
    Cut(Vec<(usize, usize)>),
    /// These directions are slow.
    Slow(Vec<(usize, usize)>),
    /// This node's disk is slow.
    SlowDisk(usize),
    /// This node's disk is full.
    FullDisk(usize),
    /// This node's monotonic clock goes wrong.
    Clock(usize),
    /// All of them are over.
    Everything,
}

/// Draws the faults.
#[derive(Debug)]
pub(super) struct Nemesis {
    pub(super) random: Random,
    /// Faults that struck.
    pub(super) struck: u64,
    /// Leaders that are to be cut off as soon as they take office.
    pub(super) coups: u64,
    /// Whom the last coup cut off.
    pub(super) deposed: Vec<(usize, usize)>,
    ended: bool,
}

impl Nemesis {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, "nemesis"), struck: 0, coups: 0, deposed: Vec::new(), ended: false }
    }

    /// At which disk call of a recovery the power fails again; 0 for never.
    pub(super) fn cut_in_recovery(&mut self, profile: &Profile, now: u64) -> u64 {
        let strikes = profile.has(Fault::RecoveryCut) && now > 0 && now < profile.faults_end();
        if strikes && self.random.chance(500) { self.random.within(1..40) } else { 0 }
    }
}

impl World {
    /// The next fault strikes, if it is not too late.
    pub(super) fn fault(&mut self) {
        if self.now >= self.profile.faults_end() {
            if !self.nemesis.ended {
                self.nemesis.ended = true;
                self.heal(Lasting::Everything);
            }
            return;
        }
        let wait = self.nemesis.random.around(self.profile.fault_every).max(1_000);
        let left = self.profile.faults_end() - self.now;
        self.schedule(wait.min(left), Event::Fault);
        let kinds: Vec<Fault> = self.profile.faults.iter().copied().filter(|kind| !kind.is_of_members()).collect();
        let Some(fault) = self.nemesis.random.pick(&kinds) else { return };
        let node = self.victim();
        self.nemesis.struck += 1;
        self.trace.event(self.now, node + 1, "FAULT", &[], || fault.to_string());
        match fault {
            Fault::Kill => self.kill_for_a_while(node),
            Fault::PowerCut | Fault::RecoveryCut => self.power_off_for_a_while(node),
            Fault::Blackout => self.blackout(),
            Fault::Pause => self.pause(node),
            Fault::Partition if self.orphan_leader() => {}
            Fault::Partition => self.partition(),
            Fault::OneWay => self.one_way(node),
            Fault::Coup => self.coup(),
            Fault::Reset => self.reset(node),
            Fault::SlowLink => self.slow_link(node),
            Fault::Garbage => self.garbage(node),
            Fault::SlowDisk => self.slow_disk(node),
            Fault::HungDisk => self.hung_disk(node),
            Fault::DiskError => self.disk_error(node),
            Fault::DiskFull => self.disk_full(node),
            Fault::Rot => self.damage(node, Damage::Rot),
            Fault::Misdirected => self.damage(node, Damage::Misdirected),
            Fault::ClockRate => self.clock_rate(node),
            Fault::WallJump => self.wall_jump(node),
            // The first strike single frames: see `network`. The last are the operator's.
            Fault::Loss | Fault::Duplicate | Fault::Reorder | Fault::Churn | Fault::Transfer | Fault::Wipe => {}
        }
    }

    /// How long faults may still last.
    fn left(&self) -> u64 {
        self.profile.faults_end().saturating_sub(self.now)
    }

    /// Often the leader: that is where it hurts.
    fn victim(&mut self) -> usize {
        let leader = self.nodes.iter().position(super::node::Node::leads);
        match leader {
            Some(leader) if self.nemesis.random.chance(400) => leader,
            _ => self.nemesis.random.place(self.nodes.len()),
        }
    }

    pub(super) fn kill_for_a_while(&mut self, node: usize) {
        self.kill(node);
        let wait = self.nemesis.random.around(150_000).max(2_000);
        let wait = self.long_outage(wait);
        self.schedule(wait, Event::Start { node });
    }

    pub(super) fn power_off_for_a_while(&mut self, node: usize) {
        // What is lost with the power on most machines at once was not promised to be kept.
        let asynchronous = self.profile.durability != Durability::Sync;
        let node = if asynchronous { self.rotting.node } else { node };
        self.power_cut(node);
        let wait = self.nemesis.random.around(300_000).max(5_000);
        let wait = self.long_outage(wait);
        self.schedule(wait, Event::Start { node });
    }

    fn blackout(&mut self) {
        self.marks.met("fault: blackout");
        for node in 0..self.nodes.len() {
            self.power_off_for_a_while(node);
        }
    }

    fn pause(&mut self, node: usize) {
        let stand = self.nemesis.random.around(300_000).clamp(10_000, 1_500_000).min(self.left());
        let Some(it) = self.nodes.get_mut(node).filter(|it| it.process.is_some()) else { return };
        it.still_until = it.still_until.max(self.now + stand);
        it.paused_until = it.still_until;
        self.marks.met("fault: process paused");
        if it.leads() {
            self.marks.met("seen: leader paused");
        }
    }

    pub(super) fn partition(&mut self) {
        let count = self.nodes.len();
        let size = 1 + self.nemesis.random.place(count.div_ceil(2));
        let mut aside: Vec<usize> = (0..count).collect();
        while aside.len() > size {
            let place = self.nemesis.random.place(aside.len());
            aside.remove(place);
        }
        let outside = |node: &usize| !aside.contains(node);
        let across: Vec<(usize, usize)> = aside
            .iter()
            .flat_map(|one| (0..count).filter(outside).flat_map(move |two| [(*one, two), (two, *one)]))
            .collect();
        self.marks.met("fault: partition");
        self.cut(across);
    }

    fn one_way(&mut self, node: usize) {
        let peer = (node + 1 + self.nemesis.random.place(self.nodes.len() - 1)) % self.nodes.len();
        let direction = if self.nemesis.random.chance(500) { (node, peer) } else { (peer, node) };
        self.marks.met("fault: one-way cut");
        self.cut(vec![direction]);
    }

    /// Cuts directions for a while; the transport gives up on some of their connections.
    pub(super) fn cut(&mut self, directions: Vec<(usize, usize)>) {
        let wait = self.nemesis.random.around(500_000).max(20_000);
        let wait = self.long_outage(wait);
        self.network.cut.extend(&directions);
        self.network.note_sound(self.now);
        for (one, two) in &directions {
            for channel in dledger::transport::Channel::ALL {
                if self.nemesis.random.chance(300) {
                    self.break_connection(*one, *two, channel, false);
                }
            }
        }
        self.schedule(wait, Event::Heal(Lasting::Cut(directions)));
    }

    pub(super) fn reset(&mut self, node: usize) {
        let peer = (node + 1 + self.nemesis.random.place(self.nodes.len() - 1)) % self.nodes.len();
        self.marks.met("fault: connections reset");
        self.disconnect(node, peer);
    }

    fn slow_link(&mut self, node: usize) {
        let peer = (node + 1 + self.nemesis.random.place(self.nodes.len() - 1)) % self.nodes.len();
        self.marks.met("fault: slow link");
        let most = self.nemesis.random.pick(&[25_000, 25_000, 100_000]).unwrap_or(25_000);
        let directions = if self.nemesis.random.chance(600) {
            vec![(node, peer), (peer, node)]
        } else {
            self.marks.met("fault: links into a node slow");
            (0..self.nodes.len()).filter(|other| *other != node).map(|other| (other, node)).collect()
        };
        self.network.slow.extend(directions.iter().map(|direction| (*direction, most)));
        self.network.note_sound(self.now);
        let wait = self.nemesis.random.around(800_000);
        self.schedule(wait, Event::Heal(Lasting::Slow(directions)));
    }

    fn garbage(&mut self, node: usize) {
        let peer = (node + 1 + self.nemesis.random.place(self.nodes.len() - 1)) % self.nodes.len();
        self.network.garble.insert((node, peer), self.nemesis.random.within(1..4));
    }

    fn slow_disk(&mut self, node: usize) {
        let factor = self.nemesis.random.within(5..60);
        let wait = self.nemesis.random.around(800_000);
        if let Some(it) = self.nodes.get_mut(node) {
            it.disk_slow = factor;
            it.healthy_since = None;
            self.marks.met("fault: slow disk");
            self.schedule(wait, Event::Heal(Lasting::SlowDisk(node)));
        }
    }

    fn hung_disk(&mut self, node: usize) {
        let wait = self.nemesis.random.around(700_000).min(3_000_000).min(self.left());
        if let Some(it) = self.nodes.get_mut(node) {
            it.disk_hung_until = it.disk_hung_until.max(self.now + wait);
            it.healthy_since = None;
            self.marks.met("fault: hung disk");
        }
    }

    fn disk_error(&mut self, node: usize) {
        let call = self.nemesis.random.within(1..6);
        let sync = self.nemesis.random.chance(500);
        let Some(it) = self.nodes.get_mut(node).filter(|it| it.process.is_some()) else { return };
        if sync {
            it.disk.fail_sync(call);
            self.marks.met("fault: sync failed");
        } else {
            it.disk.fail_write(call);
            self.marks.met("fault: write failed");
        }
        it.disk_fails = true;
        it.healthy_since = None;
        let life = it.life;
        // Whoever goes on over a sync that failed has little time to write what it lost again.
        if sync && self.profile.has(Fault::PowerCut) && self.nemesis.random.chance(500) {
            let wait = self.nemesis.random.within(1_000..30_000);
            self.schedule(wait, Event::CutPower { node, life });
        }
    }

    fn disk_full(&mut self, node: usize) {
        let wait = self.nemesis.random.around(600_000);
        let room = self.nemesis.random.within(0..200_000);
        let Some(it) = self.nodes.get_mut(node) else { return };
        it.disk.set_free(room);
        it.disk_full = true;
        it.healthy_since = None;
        self.schedule(wait, Event::Heal(Lasting::FullDisk(node)));
    }

    fn clock_rate(&mut self, node: usize) {
        let rate = self.nemesis.random.pick(self.profile.clock_rates()).unwrap_or(RIGHT);
        let wait = self.nemesis.random.around(1_000_000);
        let now = self.now;
        if let Some(it) = self.nodes.get_mut(node) {
            it.pace.go_at(now, rate);
            it.healthy_since = None;
            self.marks.met("fault: clock rate");
            self.schedule(wait, Event::Heal(Lasting::Clock(node)));
        }
    }

    fn wall_jump(&mut self, node: usize) {
        let hours = self.nemesis.random.pick(&[-24_i64, -1, 1, 24]).unwrap_or(1);
        if let Some(it) = self.nodes.get_mut(node) {
            it.pace.jump(hours * 3_600_000);
            self.marks.met("fault: wall clock jumped");
        }
    }

    /// A lasting fault is over.
    pub(super) fn heal(&mut self, lasting: Lasting) {
        let now = self.now;
        match lasting {
            Lasting::Cut(directions) => self.network.cut.retain(|direction| !directions.contains(direction)),
            Lasting::Slow(directions) => self.network.slow.retain(|direction, _most| !directions.contains(direction)),
            Lasting::SlowDisk(node) => self.with(node, |it| it.disk_slow = 1),
            Lasting::FullDisk(node) => self.with(node, |it| {
                it.disk.set_capacity(None);
                it.disk_full = false;
            }),
            Lasting::Clock(node) => self.with(node, |it| it.pace.go_at(now, RIGHT)),
            Lasting::Everything => {
                self.trace.event(now, 0, "HEAL", &[], String::new);
                self.network.cut.clear();
                self.network.slow.clear();
                self.nemesis.coups = 0;
                self.network.garble.clear();
                for node in 0..self.nodes.len() {
                    self.with(node, |it| {
                        it.disk_slow = 1;
                        it.disk_hung_until = it.disk_hung_until.min(now);
                        it.disk_full = false;
                        it.disk.set_capacity(None);
                        it.disk_fails = false;
                        it.disk.fail_sync(0);
                        it.disk.fail_write(0);
                        it.pace.go_at(now, RIGHT);
                    });
                }
                self.start_all();
            }
        }
        self.network.note_sound(now);
    }

    fn with(&mut self, node: usize, change: impl FnOnce(&mut super::node::Node)) {
        if let Some(it) = self.nodes.get_mut(node) {
            change(it);
        }
    }
}
