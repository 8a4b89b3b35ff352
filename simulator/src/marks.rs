//! What a run must have met: the simulator's own list, beside the marks inside the product (`dledger::simulation`).

use std::collections::BTreeMap;

use dledger::simulation::Mark;

use crate::profile::{Fixed, Theme};

/// Things that the simulator does or sees. A sweep in which one never happened has shown nothing about it.
pub(crate) const MET: &[&str] = &[
    "fault: process killed",
    "fault: killed in the middle of a write",
    "fault: power cut",
    "fault: power cut in the middle of a write",
    "fault: blackout",
    "fault: power cut in recovery",
    "fault: process paused",
    "fault: partition",
    "fault: one-way cut",
    "fault: leader cut off in a coup",
    "fault: connections reset",
    "fault: links into a node slow",
    "fault: frame lost",
    "fault: frame twice",
    "fault: frame overtook another",
    "fault: slow link",
    "fault: frame garbled",
    "fault: slow disk",
    "fault: hung disk",
    "fault: write failed",
    "fault: sync failed",
    "fault: disk full",
    "fault: record rotted",
    "fault: block rotted",
    "fault: both slots rotted",
    "fault: write of a record lost",
    "fault: record written over another",
    "fault: replaced record back",
    "fault: write of a block lost",
    "fault: block written over another",
    "fault: writes of both slots lost",
    "fault: snapshot rotted",
    "fault: interrupted in the middle of snapshot work",
    "fault: interrupted in the middle of a purge",
    "fault: install interrupted",
    "fault: away for long",
    "fault: clock rate",
    "fault: wall clock jumped",
    "seen: sector lost",
    "seen: sector kept",
    "seen: sector garbled",
    "seen: name lost",
    "seen: connection closed over garbage",
    "seen: node stopped by its disk",
    "seen: damage found by the scrub",
    "seen: block written again by the scrub",
    "seen: leader killed",
    "seen: leader paused",
    "seen: write acknowledged",
    "seen: write unknown",
    "seen: write refused",
    "seen: read answered",
    "fault: leader cut off while all others restart",
    "seen: lease read at once",
    "seen: bounded read at once",
    "seen: stale read",
    "seen: read refused",
    "seen: range deleted",
    "seen: several entries in one write",
    "seen: forwarded write acknowledged",
    "seen: snapshot asked for",
    "seen: snapshot not given to who asked",
    "fault: change of members interrupted",
    "fault: disk wiped",
    "seen: wiped disk refused",
    "seen: stranger refused",
    "seen: machine added",
    "seen: learner added",
    "seen: learner promoted by hand",
    "seen: member removed",
    "seen: replacement taken up",
    "seen: member preferred",
    "seen: change of members unknown",
    "seen: change refused: not the leader",
    "seen: change refused: under way",
    "seen: change refused: unknown member",
    "seen: change refused: number used before",
    "seen: change refused: number in use",
    "seen: change refused: behind",
    "seen: change refused: too few answer",
    "seen: leadership handed over",
    "seen: transfer ended with another leader",
    "seen: transfer given up",
    "seen: transfer refused",
    "seen: transfer refused: unfit",
    "seen: transfer refused: under way",
    "seen: session opened",
    "seen: session dead",
    "seen: numbered write sent again",
    "seen: repeat told the first answer",
    "seen: compare-and-set answered",
    "seen: item appended",
    "seen: append refused, somebody was quicker",
    "seen: counted",
    "seen: count unknown",
    "seen: set read",
    "seen: lease granted",
    "seen: lease kept alive",
    "seen: lease revoked",
    "seen: lease ended under its holder",
    "seen: keys went with their lease",
    "seen: lease with more keys than an entry ends",
    "seen: lock taken",
    "seen: lock held by another",
    "seen: resource written under a lock",
    "seen: write of a former holder fenced off",
    "seen: watch moved to another node",
    "seen: watch told several changes of one revision",
    "seen: watch refused, changes are gone",
];

/// What happens only where disks rot or misdirect writes, some of it in logs that part: too seldom for a sweep of everything.
const OF_ROT: &[&str] = &[
    Mark::RepairAbsent.name(),
    Mark::RepairDamaged.name(),
    Mark::RepairOthers.name(),
    Mark::RepairUnproven.name(),
    Mark::HoleHandedOver.name(),
    Mark::HoleCut.name(),
    Mark::Refuted.name(),
    Mark::R5.name(),
    Mark::Misplaced.name(),
    Mark::VoteOutlived.name(),
    "fault: write of a record lost",
    "fault: record written over another",
    "fault: replaced record back",
    "fault: write of a block lost",
    "fault: block written over another",
    "fault: writes of both slots lost",
];

/// What happens only where something strikes a snapshot while it is being fetched: too seldom for a sweep of everything.
const OF_SNAPSHOTS: &[&str] = &[Mark::SnapshotDamaged.name(), Mark::SnapshotChunkBad.name()];

/// What happens only where members change under faults: too seldom for a sweep of everything.
const OF_MEMBERS: &[&str] = &[
    Mark::ChangeBegun.name(),
    Mark::ChangeCarriedOn.name(),
    Mark::LearnerPromoted.name(),
    Mark::VoterReplaced.name(),
    Mark::RemovedHandedOver.name(),
    Mark::PreferredHandedOver.name(),
    Mark::MembershipCut.name(),
    "fault: change of members interrupted",
    "fault: disk wiped",
    "seen: wiped disk refused",
    "seen: stranger refused",
    "seen: machine added",
    "seen: learner added",
    "seen: learner promoted by hand",
    "seen: member removed",
    "seen: replacement taken up",
    "seen: member preferred",
    "seen: change of members unknown",
    "seen: change refused: not the leader",
    "seen: change refused: under way",
    "seen: change refused: unknown member",
    "seen: change refused: number used before",
    "seen: change refused: number in use",
    "seen: change refused: behind",
    "seen: change refused: too few answer",
    "seen: leadership handed over",
    "seen: transfer ended with another leader",
    "seen: transfer given up",
    "seen: transfer refused",
    "seen: transfer refused: unfit",
    "seen: transfer refused: under way",
];

/// What happens only where there are leases for reads: in a sweep of everything they are in few runs.
const OF_LEASES: &[&str] = &[
    Mark::LeaseRead.name(),
    Mark::PromiseKept.name(),
    "fault: leader cut off while all others restart",
    "seen: lease read at once",
];
/// What comes of sessions, leases and locks: most of it in every sweep, and all of it where there is nothing else.
const OF_KV: &[&str] = &[
    "seen: session opened",
    "seen: session dead",
    "seen: numbered write sent again",
    "seen: repeat told the first answer",
    "seen: compare-and-set answered",
    "seen: item appended",
    "seen: append refused, somebody was quicker",
    "seen: counted",
    "seen: count unknown",
    "seen: set read",
    "seen: lease granted",
    "seen: lease kept alive",
    "seen: lease revoked",
    "seen: lease ended under its holder",
    "seen: keys went with their lease",
    "seen: lease with more keys than an entry ends",
    "seen: lock taken",
    "seen: lock held by another",
    "seen: resource written under a lock",
    "seen: write of a former holder fenced off",
    "seen: watch moved to another node",
    "seen: watch told several changes of one revision",
    "seen: watch refused, changes are gone",
];

/// What about one seed in two hundred reaches: a sweep of a few hundred may miss it and be none the worse.
const RARE: &[&str] = &[Mark::HoleHandedOver.name()];
/// Seeds of a sweep that is to reach those too.
const MANY_SEEDS: u64 = 1_000;

/// How often each thing happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(BTreeMap<&'static str, u64>);

impl Marks {
    /// It happened.
    pub(crate) fn met(&mut self, name: &'static str) {
        debug_assert!(MET.contains(&name), "`{name}` is not on the list");
        *self.0.entry(name).or_default() += 1;
    }

    /// Adds what the product counted on this thread.
    pub(crate) fn add_product(&mut self, reached: BTreeMap<Mark, u64>) {
        for (mark, count) in reached {
            *self.0.entry(mark.name()).or_default() += count;
        }
    }

    /// Adds another run's.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// What a sweep under these settings must have met and has not: of everything all but what comes with rot alone, of
    /// rot that, of snapshots what strikes them on their way; a sweep of other kinds, or of chosen faults, shows what it can.
    pub(crate) fn missed(&self, fixed: &Fixed, seeds: u64) -> Vec<&'static str> {
        let must = |name: &str| match fixed.theme {
            _ if fixed.faults.is_some() => false,
            _ if seeds < MANY_SEEDS && RARE.contains(&name) => false,
            Theme::Swarm => ![OF_ROT, OF_SNAPSHOTS, OF_MEMBERS, OF_LEASES].iter().any(|rare| rare.contains(&name)),
            Theme::Snapshots => OF_SNAPSHOTS.contains(&name),
            Theme::Rot => OF_ROT.contains(&name),
            Theme::Members => OF_MEMBERS.contains(&name),
            Theme::Lease => OF_LEASES.contains(&name),
            Theme::Kv => OF_KV.contains(&name),
            Theme::Calm | Theme::Crash | Theme::Network | Theme::Disk | Theme::Time | Theme::Work | Theme::Skew => {
                false
            }
        };
        self.all().into_iter().filter(|(name, count)| *count == 0 && must(name)).map(|(name, _count)| name).collect()
    }

    /// Everything on the lists, with its count.
    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        let names = MET.iter().copied().chain(Mark::ALL.iter().map(|mark| mark.name()));
        names.map(|name| (name, self.0.get(name).copied().unwrap_or_default())).collect()
    }
}
