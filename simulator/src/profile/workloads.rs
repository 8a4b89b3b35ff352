//! What services do in a run.

use super::{Profile, Theme};
use crate::faults::Fault;
use crate::random::Random;

/// What strikes those who use the store.
pub(super) const FAULTS: &[Fault] = &[
    Fault::Kill,
    Fault::PowerCut,
    Fault::Blackout,
    Fault::Pause,
    Fault::Partition,
    Fault::OneWay,
    Fault::Coup,
    Fault::Reset,
    Fault::Loss,
    Fault::Duplicate,
    Fault::SlowLink,
    Fault::HungDisk,
    Fault::ClockRate,
    Fault::WallJump,
];

/// What a worker does (`world/workloads`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Registers,
    Lists,
    Sets,
    Counters,
    Leases,
    Locks,
}

impl Workload {
    const ALL: &'static [Self] = &[Self::Registers, Self::Lists, Self::Sets, Self::Counters, Self::Leases, Self::Locks];
}

/// What a run has beside the clients of single keys.
#[derive(Clone, Debug)]
pub(crate) struct Workloads {
    /// One worker each.
    pub(crate) workers: Vec<Workload>,
    /// Sessions that the workers share; without any their writes have no numbers.
    pub(crate) sessions: usize,
    pub(crate) session_ttl_ms: u64,
}

impl Workloads {
    /// The choice of a seed: some of the kinds, and two or three workers of each.
    fn drawn(random: &mut Random) -> Self {
        let share = random.within(300..900);
        let mut kinds: Vec<Workload> = Workload::ALL.iter().copied().filter(|_kind| random.chance(share)).collect();
        if kinds.is_empty() {
            kinds.extend(random.pick(Workload::ALL));
        }
        let each = |kind: &Workload| vec![*kind; usize::try_from(random.within(2..4)).unwrap_or(2)];
        let workers = kinds.iter().flat_map(each).collect();
        Self {
            workers,
            sessions: random.pick(&[0, 1, 2, 2, 4]).unwrap_or(2),
            session_ttl_ms: random.pick(&[60_000, 60_000, 1_000, 300]).unwrap_or(60_000),
        }
    }
}

impl Profile {
    /// Some of the runs have workers, from choices of their own: the others are as they were before there were any.
    pub(super) fn draw_workloads(&mut self, random: &mut Random, theme: Theme) {
        let share = match theme {
            Theme::Kv => 1000,
            Theme::Swarm | Theme::Time => 400,
            Theme::Snapshots | Theme::Calm | Theme::Crash | Theme::Network | Theme::Disk => 300,
            Theme::Members => 150,
            Theme::Work | Theme::Rot | Theme::Lease | Theme::Skew => 0,
        };
        if !random.chance(share) || self.huge_ranges && theme != Theme::Kv {
            return;
        }
        self.huge_ranges = false;
        self.workloads = Some(Workloads::drawn(random));
        if theme == Theme::Kv {
            // The clients of single keys are company, not the point.
            self.clients = 2;
        }
    }
}
