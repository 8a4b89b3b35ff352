//! What a seed switches on: the size of the cluster, its faults, its load. Swarm testing (Groce et al., 2012): a run
//! with a few random faults finds what a run with all of them drowns.

mod snapshots;
mod workloads;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::ValueEnum;
use dledger::Durability;

use crate::clock::RIGHT;
use crate::faults::Fault;
use crate::random::Random;

pub(crate) use snapshots::Snapshots;
pub(crate) use workloads::{Workload, Workloads};

/// Which faults a run may draw from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Theme {
    /// A random part of all faults.
    #[default]
    Swarm,
    /// None.
    Calm,
    /// Processes and machines that die.
    Crash,
    /// The network alone.
    Network,
    /// Disks alone.
    Disk,
    /// Clocks and pauses.
    Time,
    /// None, but ranges of thousands of keys to delete.
    Work,
    /// Disks that rot, or lose and misdirect writes, under logs that part.
    Rot,
    /// Snapshots in every run, small logs, and machines and links that are gone for long or fail while one is fetched.
    Snapshots,
    /// Members that come and go, and leaders that hand over, in every run, under machines and links that fail.
    Members,
    /// Leases for reads, under machines, links and leaders that fail and clocks that go as wrong as they may.
    Lease,
    /// The same with clocks beyond that: reads must be stale.
    Skew,
    /// Lists, sets, locks and leases in every run, under machines, links and clocks that fail.
    Kv,
}

impl Theme {
    const fn faults(self) -> &'static [Fault] {
        match self {
            Self::Swarm => Fault::ALL,
            Self::Calm | Self::Work => &[],
            Self::Crash => &[Fault::Kill, Fault::PowerCut, Fault::Blackout, Fault::RecoveryCut],
            Self::Network => &[
                Fault::Partition,
                Fault::OneWay,
                Fault::Coup,
                Fault::Reset,
                Fault::Loss,
                Fault::Duplicate,
                Fault::Reorder,
                Fault::SlowLink,
                Fault::Garbage,
            ],
            Self::Disk => &[
                Fault::PowerCut,
                Fault::SlowDisk,
                Fault::HungDisk,
                Fault::DiskError,
                Fault::DiskFull,
                Fault::Rot,
                Fault::Misdirected,
            ],
            Self::Rot => &[Fault::Rot, Fault::Misdirected, Fault::Coup, Fault::Kill, Fault::PowerCut, Fault::Partition],
            Self::Snapshots => snapshots::FAULTS,
            Self::Members => &[
                Fault::Kill,
                Fault::PowerCut,
                Fault::Blackout,
                Fault::Pause,
                Fault::Partition,
                Fault::OneWay,
                Fault::Coup,
                Fault::Reset,
                Fault::Loss,
                Fault::SlowLink,
                Fault::SlowDisk,
                Fault::HungDisk,
                Fault::Churn,
                Fault::Transfer,
                Fault::Wipe,
            ],
            Self::Time => &[Fault::Pause, Fault::ClockRate, Fault::WallJump],
            Self::Lease => &[
                Fault::Kill,
                Fault::PowerCut,
                Fault::Blackout,
                Fault::Pause,
                Fault::Partition,
                Fault::OneWay,
                Fault::Coup,
                Fault::Reset,
                Fault::Duplicate,
                Fault::Reorder,
                Fault::SlowLink,
                Fault::SlowDisk,
                Fault::HungDisk,
                Fault::DiskFull,
                Fault::ClockRate,
                Fault::WallJump,
                Fault::Churn,
                Fault::Transfer,
            ],
            Self::Skew => &[Fault::Partition, Fault::Coup, Fault::ClockRate],
            Self::Kv => workloads::FAULTS,
        }
    }
}

impl Theme {
    /// The faults that nemesis draws; those of members have a draw of their own.
    fn drawn_one_by_one(self) -> Vec<Fault> {
        self.faults().iter().copied().filter(|fault| !fault.is_of_members()).collect()
    }
}

/// What the command line fixed for all seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fixed {
    pub(crate) nodes: Option<usize>,
    pub(crate) theme: Theme,
    pub(crate) faults: Option<BTreeSet<Fault>>,
    pub(crate) ticks: u64,
    /// Names of checkers that are not asked.
    pub(crate) without: BTreeSet<String>,
}

/// One run's settings.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) nodes: usize,
    pub(crate) theme: Theme,
    pub(crate) faults: BTreeSet<Fault>,
    /// Length of the run in milliseconds of simulated time.
    pub(crate) ticks: u64,
    /// Mean time between two faults, in microseconds.
    pub(crate) fault_every: u64,
    pub(crate) clients: usize,
    /// Mean time between a client's answer and its next question, in microseconds.
    pub(crate) think: u64,
    pub(crate) keys: u64,
    /// One write in a thousand carries a value of many kilobytes.
    pub(crate) large_per_mille: u64,
    /// Ranges with thousands of keys are filled and deleted.
    pub(crate) huge_ranges: bool,
    /// Most bytes of records under way to one follower, when it is not what production takes.
    pub(crate) window: Option<u64>,
    pub(crate) segment_bytes: u64,
    pub(crate) durability: Durability,
    /// Frames that are lost, come twice, or overtake others, per mille, when the run has that fault.
    pub(crate) flaky_per_mille: u64,
    /// Snapshots, when the run has any.
    pub(crate) snapshots: Option<Snapshots>,
    /// One node in a thousand has other snapshots than the rest.
    pub(crate) differing_per_mille: u64,
    /// Mean time between two wishes of the operator, in microseconds.
    pub(crate) churn_every: u64,
    /// What members promise their leader; zero: nothing.
    pub(crate) read_lease: Duration,
    /// What services do with the store, when the run has any.
    pub(crate) workloads: Option<Workloads>,
    /// Names of checkers that are not asked.
    pub(crate) without: BTreeSet<String>,
}

impl Profile {
    /// The settings of a seed.
    pub(crate) fn of(seed: u64, fixed: &Fixed) -> Self {
        let mut random = Random::new(seed, "profile");
        let nodes = [3, 3, 3, 5, 5, 7];
        let drawn = random.pick(&nodes).unwrap_or(3);
        let share = random.within(100..700);
        let mut faults: BTreeSet<Fault> = BTreeSet::new();
        for fault in Fault::ALL.iter().filter(|fault| **fault != Fault::Misdirected && !fault.is_of_members()) {
            if random.chance(share) && fixed.theme.faults().contains(fault) {
                faults.insert(*fault);
            }
        }
        if fixed.theme == Theme::Rot {
            // Coups part the logs.
            faults.extend([Fault::Rot, Fault::Coup]);
        }
        if faults.is_empty()
            && let Some(one) = random.pick(&fixed.theme.drawn_one_by_one())
            && !random.chance(50)
        {
            faults.insert(one);
        }
        let durability = match random.chance(100) {
            true => Durability::Async { flush_every: Duration::from_millis(random.within(5..200)) },
            false => Durability::Sync,
        };
        let mut profile = Self {
            nodes: fixed.nodes.unwrap_or(drawn),
            theme: fixed.theme,
            faults: fixed.faults.clone().unwrap_or(faults),
            ticks: fixed.ticks,
            fault_every: random.within(250_000..900_000),
            clients: usize::try_from(random.within(3..8)).unwrap_or(3),
            think: random.within(2_000..20_000),
            keys: random.within(4..24),
            large_per_mille: random.pick(&[0, 0, 5, 60]).unwrap_or(0),
            huge_ranges: random.chance(60) || fixed.theme == Theme::Work,
            window: None,
            segment_bytes: random.pick(&[64 << 10, 128 << 10, 1 << 20, 8 << 20]).unwrap_or(64 << 10),
            durability,
            flaky_per_mille: random.pick(&[3, 10, 40]).unwrap_or(10),
            snapshots: None,
            differing_per_mille: 0,
            churn_every: 0,
            read_lease: Duration::ZERO,
            workloads: None,
            without: fixed.without.clone(),
        };
        let window = random.pick(&[None, None, None, Some(16 << 10), Some(64)]).unwrap_or(None);
        // Thousands of keys, one in each round trip, would be all that the run does.
        profile.window = window.filter(|_bytes| !profile.huge_ranges);
        // Drawn last, so that the seeds without it stayed as they were when it came.
        let share = if fixed.theme == Theme::Rot { 667 } else { share };
        if random.chance(share) && fixed.theme.faults().contains(&Fault::Misdirected) && fixed.faults.is_none() {
            profile.faults.insert(Fault::Misdirected);
            // By itself in half of them: of blocks a run loses one.
            if fixed.theme == Theme::Rot && random.chance(500) {
                profile.faults.remove(&Fault::Rot);
            }
        }
        if matches!(profile.durability, Durability::Async { .. }) {
            // What may be lost with the power of more than one machine is documented, not checked.
            for fault in [Fault::Blackout, Fault::RecoveryCut, Fault::DiskError, Fault::Rot, Fault::Misdirected] {
                profile.faults.remove(&fault);
            }
        }
        profile.draw_snapshots(&mut Random::new(seed, "snapshots"), fixed.theme);
        profile.draw_churn(&mut Random::new(seed, "members"), fixed);
        profile.draw_lease(&mut Random::new(seed, "lease"), fixed);
        profile.draw_workloads(&mut Random::new(seed, "workloads"), fixed.theme);
        if profile.has(Fault::Churn) || profile.has(Fault::Wipe) || profile.workloads.is_some() {
            // Who starts from nothing would catch up one entry a round trip, and no sooner than new ones come.
            profile.window = profile.window.filter(|bytes| *bytes > 64);
        }
        profile
    }

    /// A third of the runs have an operator, from choices of their own: the others are as they were before there was one.
    fn draw_churn(&mut self, random: &mut Random, fixed: &Fixed) {
        self.churn_every = random.within(150_000..700_000);
        let share = match fixed.theme {
            Theme::Members => 1000,
            Theme::Swarm => 350,
            Theme::Snapshots => 250,
            Theme::Lease => 400,
            Theme::Calm
            | Theme::Crash
            | Theme::Network
            | Theme::Disk
            | Theme::Time
            | Theme::Work
            | Theme::Rot
            | Theme::Kv
            | Theme::Skew => 0,
        };
        let wiped = random.chance(600);
        if fixed.theme == Theme::Members || self.has_operator() {
            (self.durability, self.huge_ranges) = (Durability::Sync, false);
        }
        // Who has a good copy of what rots is reckoned by the nodes at the start; so is who may lose its power.
        let reckoned = self.damages() || self.durability != Durability::Sync;
        if !random.chance(share) || fixed.faults.is_some() || reckoned || self.huge_ranges {
            return;
        }
        self.faults.extend([Fault::Churn, Fault::Transfer]);
        if wiped {
            self.faults.insert(Fault::Wipe);
        }
    }

    /// Leases in every run that is about them, with clocks to match, and in some of the others whose clocks go right.
    fn draw_lease(&mut self, random: &mut Random, fixed: &Fixed) {
        let share = match fixed.theme {
            Theme::Lease | Theme::Skew => 1000,
            Theme::Swarm | Theme::Members | Theme::Snapshots if fixed.faults.is_none() => 200,
            Theme::Swarm
            | Theme::Members
            | Theme::Snapshots
            | Theme::Calm
            | Theme::Crash
            | Theme::Network
            | Theme::Disk
            | Theme::Time
            | Theme::Work
            | Theme::Rot
            | Theme::Kv => 0,
        };
        if fixed.faults.is_none() && share == 1000 {
            self.faults.insert(Fault::ClockRate);
        }
        let wrong = self.has(Fault::ClockRate) && share < 1000;
        let millis = random.pick(&[150, 300, 400]).unwrap_or(150);
        if random.chance(share) && !wrong && !self.huge_ranges {
            self.read_lease = Duration::from_millis(millis);
        }
        if fixed.theme == Theme::Skew {
            // Whoever is cut off with a lease that lasts too long must be asked for what others have written meanwhile.
            (self.keys, self.clients, self.think, self.fault_every) = (2, 12, 2_000, 350_000);
            (self.huge_ranges, self.window, self.large_per_mille) = (false, None, 0);
            self.faults.extend(if fixed.faults.is_none() { Theme::Skew.faults() } else { &[] });
            self.read_lease = Duration::from_millis(300);
        }
    }

    /// The rates of clocks that go wrong. What lease reads allow for is a ninth off true time.
    pub(crate) fn clock_rates(&self) -> &'static [u64] {
        match self.theme {
            Theme::Lease => &[RIGHT * 8 / 9 + 1, RIGHT * 19 / 20, RIGHT * 21 / 20, RIGHT * 10 / 9],
            // Slow enough that its lease outlasts the promises of others, and not so slow that they replace it at once.
            Theme::Skew => &[RIGHT * 2 / 3, RIGHT * 4 / 3],
            Theme::Swarm
            | Theme::Members
            | Theme::Snapshots
            | Theme::Calm
            | Theme::Crash
            | Theme::Network
            | Theme::Disk
            | Theme::Time
            | Theme::Work
            | Theme::Rot
            | Theme::Kv => &[RIGHT / 2, RIGHT * 9 / 10, RIGHT * 11 / 10, RIGHT * 2],
        }
    }

    /// Whether every other client reads only: one that writes waits for a node that is cut off, and asks it nothing more.
    pub(crate) fn has_readers(&self) -> bool {
        matches!(self.theme, Theme::Lease | Theme::Skew)
    }

    /// Whether clocks go wrong from the start on, and not only when a fault strikes them.
    pub(crate) fn starts_with_wrong_clocks(&self) -> bool {
        matches!(self.theme, Theme::Lease | Theme::Skew) && self.has(Fault::ClockRate)
    }

    /// The longest time that may pass while any clock of the run counts so many microseconds.
    pub(crate) fn longest(&self, micros: u64) -> u64 {
        let slowest = if self.has(Fault::ClockRate) { self.clock_rates().iter().copied().min() } else { None };
        let slowest = slowest.unwrap_or(RIGHT).min(RIGHT);
        u64::try_from(u128::from(micros) * u128::from(RIGHT) / u128::from(slowest))
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// Whether somebody asks for other members or another leader.
    pub(crate) fn has_operator(&self) -> bool {
        Fault::OF_MEMBERS.iter().any(|fault| self.has(*fault))
    }

    /// Whether the run has this fault.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether disks show other bytes than were written to them.
    pub(crate) fn damages(&self) -> bool {
        self.has(Fault::Rot) || self.has(Fault::Misdirected)
    }

    /// When the faults stop, in microseconds: the last quarter is for the cluster to heal.
    pub(crate) fn faults_end(&self) -> u64 {
        self.ticks * 1000 * 3 / 4
    }

    /// When the run ends, in microseconds.
    pub(crate) fn end(&self) -> u64 {
        self.ticks * 1000
    }

    /// One line for a person.
    pub(crate) fn summary(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        format!(
            "{} nodes, {} clients, segments of {} KiB, {}{}{}{}{}{:?}, faults: {}",
            self.nodes,
            self.clients,
            self.segment_bytes >> 10,
            self.window.map_or_else(String::new, |bytes| format!("windows of {bytes} bytes, ")),
            if self.huge_ranges { "huge ranges, " } else { "" },
            self.snapshots.map_or_else(String::new, |it| format!("{it:?}, ")),
            if self.read_lease.is_zero() { String::new() } else { format!("a read lease of {:?}, ", self.read_lease) },
            self.workloads.as_ref().map_or_else(String::new, |it| format!("{it:?}, ")),
            self.durability,
            if faults.is_empty() { "none".to_owned() } else { faults.join(" ") }
        )
    }
}
