//! The catalogue of planted bugs, and the search for each.
//!
//! Each names the conditions under which it is looked for: where a rule matters only to nodes that lose their power, say,
//! seeds without power cuts are spent for nothing. The conditions choose among the settings that everybody may choose,
//! and are printed, so that anyone can repeat the search. Whatever the command line fixes wins over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use dledger::simulation::Plant;

use crate::faults::Fault;
use crate::profile::{Fixed, Theme};
use crate::report;
use crate::sweep::{PANIC, each, run};

/// A planted bug.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Catalogued {
    pub(crate) plant: Plant,
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// The rows of the fault model (docs/simulation.md) that it stands for; none for a rule of Raft alone.
    pub(crate) rows: &'static [u8],
    /// The kind of faults under which it is looked for.
    theme: Theme,
    /// Exactly these faults instead, unless there are none.
    faults: &'static [Fault],
    nodes: Option<usize>,
    /// Checkers that are not asked.
    without: &'static [&'static str],
}

/// Every plant.
pub(crate) const ALL: &[Catalogued] = &[
    plant(Plant::OwnAppendEarly, "own-append-early", &[1]),
    plant(Plant::OwnVoteEarly, "own-vote-early", &[2]).under(&[Fault::Coup, Fault::Kill]),
    plant(Plant::VoteAnsweredEarly, "vote-answered-early", &[2]),
    plant(Plant::AppendAnsweredEarly, "append-answered-early", &[1]),
    plant(Plant::VoteNotPersisted, "vote-not-persisted", &[2]),
    plant(Plant::VoteNotSynced, "vote-not-synced", &[2]).under(&[Fault::PowerCut, Fault::Blackout]),
    plant(Plant::VoteTwice, "vote-twice", &[]).under(&[Fault::Coup, Fault::SlowLink]),
    plant(Plant::VoteWithoutLogCheck, "vote-without-log-check", &[]).under(&[Fault::Coup]),
    plant(Plant::DivergentTailCounted, "divergent-tail-counted", &[25]).under(&[Fault::Coup]),
    plant(Plant::CommitBeyondVerified, "commit-beyond-verified", &[]).under(&[Fault::Coup]),
    plant(Plant::StaleCompletion, "stale-completion", &[25]).under(&[
        Fault::Partition,
        Fault::Coup,
        Fault::SlowDisk,
        Fault::HungDisk,
    ]),
    plant(Plant::PrevNotChecked, "prev-not-checked", &[]).under(&[Fault::Coup]),
    plant(Plant::TermNotChecked, "term-not-checked", &[]).under(&[Fault::Coup, Fault::HungDisk]),
    plant(Plant::OldTermByCounting, "old-term-by-counting", &[]).under(&[Fault::Coup]).of(3),
    plant(Plant::DoneUnderIndex, "done-under-index", &[25]).under(&[Fault::Coup]),
    plant(Plant::UnknownToldFailed, "unknown-told-failed", &[6]).under(&[Fault::Coup, Fault::Partition]),
    plant(Plant::ReadBeforeOwnCommit, "read-before-own-commit", &[15]).under(&[Fault::Coup, Fault::Kill]),
    plant(Plant::ReadWithoutRound, "read-without-round", &[15, 16]).under(&[Fault::Coup, Fault::Pause]),
    plant(Plant::ReadRoundReused, "read-round-reused", &[15, 16]).under(&[Fault::Coup, Fault::SlowLink]).of(3),
    plant(Plant::ReadBeforeApplied, "read-before-applied", &[15]),
    plant(Plant::LeaseFromAnswer, "lease-from-answer", &[17])
        .themed(Theme::Lease)
        .under(&[Fault::SlowLink, Fault::Partition, Fault::Coup])
        .of(3),
    plant(Plant::LeaseBeforeOwnCommit, "lease-before-own-commit", &[15])
        .themed(Theme::Lease)
        .under(&[Fault::Coup, Fault::Kill]),
    plant(Plant::LeaseKeptInTransfer, "lease-kept-in-transfer", &[15])
        .themed(Theme::Lease)
        .under(&[Fault::Transfer, Fault::Partition, Fault::OneWay, Fault::Pause, Fault::SlowLink])
        .of(3),
    plant(Plant::LeaseNotTimed, "lease-not-timed", &[16]).themed(Theme::Lease).under(&[Fault::Coup, Fault::Pause]),
    plant(Plant::PromiseEndsWithConnection, "promise-ends-with-connection", &[15])
        .themed(Theme::Lease)
        .under(&[Fault::Coup, Fault::Partition]),
    plant(Plant::BoundFromAnswer, "bound-from-answer", &[]).under(&[Fault::SlowLink]),
    plant(Plant::NoPreVote, "no-pre-vote", &[]).under(&[Fault::Partition, Fault::OneWay]),
    plant(Plant::NotSticky, "not-sticky", &[]).under(&[Fault::OneWay]),
    plant(Plant::NoCheckQuorum, "no-check-quorum", &[]).under(&[Fault::Partition]),
    plant(Plant::NoStallHandOver, "no-stall-hand-over", &[22]).under(&[Fault::HungDisk]),
    plant(Plant::ForwardTwice, "forward-twice", &[18]),
    plant(Plant::ForwardDoneEarly, "forward-done-early", &[]),
    plant(Plant::MachineTime, "machine-time", &[26]),
    plant(Plant::RecordsBelieved, "records-believed", &[24]).under(&[Fault::Garbage]),
    plant(Plant::AppendNotSynced, "append-not-synced", &[1]).under(&[Fault::PowerCut, Fault::Blackout]),
    plant(Plant::FailedSyncRetried, "failed-sync-retried", &[5]).under(&[Fault::DiskError, Fault::PowerCut]),
    plant(Plant::SlotNamesUnsynced, "slot-names-unsynced", &[3]).under(&[Fault::Blackout]),
    plant(Plant::NoDirectorySync, "no-directory-sync", &[7]).under(&[Fault::PowerCut, Fault::RecoveryCut]),
    plant(Plant::FullAcknowledged, "full-acknowledged", &[8]).under(&[Fault::DiskFull, Fault::Kill]),
    plant(Plant::TornTailAccepted, "torn-tail-accepted", &[3]).under(&[Fault::PowerCut, Fault::Blackout]),
    plant(Plant::CorruptionIsEnd, "corruption-is-end", &[4]).under(&[Fault::Rot, Fault::Kill]),
    plant(Plant::HoleStands, "hole-stands", &[4]).under(&[Fault::Rot, Fault::Coup]),
    plant(Plant::PlaceNotChecked, "place-not-checked", &[10]).under(&[Fault::Misdirected, Fault::Kill]),
    plant(Plant::StaleVoteBelieved, "stale-vote-believed", &[10]).under(&[Fault::Misdirected, Fault::Coup]),
    plant(Plant::TruncatedResurrected, "truncated-resurrected", &[7]).under(&[Fault::PowerCut, Fault::RecoveryCut]),
    plant(Plant::RepeatDoneAgain, "repeat-done-again", &[18]).of_services(),
    plant(Plant::RepeatUnderOwnRevision, "repeat-under-own-revision", &[18]).themed(Theme::Kv),
    plant(Plant::SessionReopened, "session-reopened", &[18]).themed(Theme::Kv),
    plant(Plant::AnswersLetGoEarly, "answers-let-go-early", &[18]).of_services(),
    plant(Plant::AnswersLeftOut, "answers-left-out", &[18]).of_services(),
    plant(Plant::BindingsLeftOut, "bindings-left-out", &[11]).themed(Theme::Kv),
    plant(Plant::LeasesLeftOut, "leases-left-out", &[11, 26]).of_services(),
    plant(Plant::LeaseNotRenewed, "lease-not-renewed", &[26]).of_services(),
    plant(Plant::DeadLeaseTaken, "dead-lease-taken", &[26]).themed(Theme::Kv),
    plant(Plant::PutKeepsLease, "put-keeps-lease", &[26]).of_services(),
    plant(Plant::ExpirySkipsKeys, "expiry-skips-keys", &[26]).themed(Theme::Kv),
    plant(Plant::ExpiryBetweenEntries, "expiry-between-entries", &[11, 26]).themed(Theme::Kv),
    plant(Plant::ExpiryNotProposed, "expiry-not-proposed", &[26]).themed(Theme::Kv),
    plant(Plant::TxnHalfApplied, "txn-half-applied", &[11]).of_services(),
    plant(Plant::EndedKeyCountsAsAbsent, "ended-key-counts-as-absent", &[23]).of_services(),
    plant(Plant::WatchMissesExpiry, "watch-misses-expiry", &[20]).themed(Theme::Kv),
    plant(Plant::WatchRepeats, "watch-repeats", &[20]).themed(Theme::Kv),
    plant(Plant::WatchTakesFirstBranch, "watch-takes-first-branch", &[20]).themed(Theme::Kv),
    plant(Plant::WatchGapBehindSnapshot, "watch-gap-behind-snapshot", &[20]).themed(Theme::Kv),
    plant(Plant::RangeInOneTurn, "range-in-one-turn", &[27]).themed(Theme::Work),
    plant(Plant::PurgeToApplied, "purge-to-applied", &[12]).themed(Theme::Snapshots),
    plant(Plant::PurgeBeforeSnapshot, "purge-before-snapshot", &[12]).themed(Theme::Snapshots),
    plant(Plant::ResetBeforeSnapshot, "reset-before-snapshot", &[12]).themed(Theme::Snapshots),
    plant(Plant::SnapshotNotSynced, "snapshot-not-synced", &[12]).themed(Theme::Snapshots).under(&[Fault::PowerCut]),
    plant(Plant::MembershipForgotten, "membership-forgotten", &[12]).themed(Theme::Snapshots),
    plant(Plant::InstallToldDone, "install-told-done", &[25]).themed(Theme::Snapshots).under(&[Fault::Coup]).of(3),
    plant(Plant::SnapshotNamesCommitted, "snapshot-names-committed", &[11]).themed(Theme::Snapshots),
    plant(Plant::SnapshotUnverified, "snapshot-unverified", &[13]).themed(Theme::Snapshots),
    plant(Plant::ChunkBelieved, "chunk-believed", &[13, 24])
        .themed(Theme::Snapshots)
        .under(&[Fault::Garbage, Fault::Kill]),
    plant(Plant::JointSkipped, "joint-skipped", &[14]).themed(Theme::Members),
    plant(Plant::ChangeBeforeOwnCommit, "change-before-own-commit", &[14]).themed(Theme::Members),
    plant(Plant::ChangeUnderWayIgnored, "change-under-way-ignored", &[14]).themed(Theme::Members),
    plant(Plant::ChangeDoneEarly, "change-done-early", &[14]).themed(Theme::Members),
    plant(Plant::LearnerCounted, "learner-counted", &[14]).themed(Theme::Members),
    plant(Plant::RemovedLeaderCounts, "removed-leader-counts", &[14]).themed(Theme::Members),
    plant(Plant::RemovedStillCounted, "removed-still-counted", &[14]).themed(Theme::Members),
    plant(Plant::RemovedForgotten, "removed-forgotten", &[14, 19]).themed(Theme::Members),
    plant(Plant::MembershipNotPopped, "membership-not-popped", &[14]).themed(Theme::Members),
    plant(Plant::SnapshotNamesOldMembers, "snapshot-names-old-members", &[12, 14]).themed(Theme::Members),
    plant(Plant::PromotedFarBehind, "promoted-far-behind", &[14]).themed(Theme::Members),
    plant(Plant::HandOverUnchecked, "hand-over-unchecked", &[]).themed(Theme::Members),
    plant(Plant::TransferDoneEarly, "transfer-done-early", &[]).themed(Theme::Members),
    plant(Plant::LifeNotChecked, "life-not-checked", &[19]).themed(Theme::Members),
];

const fn plant(plant: Plant, name: &'static str, rows: &'static [u8]) -> Catalogued {
    Catalogued { plant, name, rows, theme: Theme::Swarm, faults: &[], nodes: None, without: &[] }
}

impl Catalogued {
    /// Looked for under exactly these faults.
    const fn under(self, faults: &'static [Fault]) -> Self {
        Self { faults, ..self }
    }

    /// Looked for under this kind of faults.
    const fn themed(self, theme: Theme) -> Self {
        Self { theme, ..self }
    }

    /// Looked for by what services see of it alone: who compares with the second reading of the commands, which tells every
    /// wrong answer at once, is not asked.
    const fn of_services(self) -> Self {
        Self { theme: Theme::Kv, without: &["same_state", "converges", "watch_order", "one_view"], ..self }
    }

    /// Looked for in clusters of so many nodes.
    const fn of(self, nodes: usize) -> Self {
        Self { nodes: Some(nodes), ..self }
    }

    /// The settings of the search: those of the command line, and where it fixed none, the plant's own.
    pub(crate) fn conditions(&self, fixed: &Fixed) -> Fixed {
        let mut conditions = fixed.clone();
        conditions.nodes = fixed.nodes.or(self.nodes);
        if fixed.theme == Theme::Swarm && fixed.faults.is_none() {
            conditions.theme = self.theme;
            conditions.without = self.without.iter().map(|name| (*name).to_owned()).collect();
            conditions.faults = (!self.faults.is_empty()).then(|| self.faults.iter().copied().collect::<BTreeSet<_>>());
        }
        conditions
    }
}

/// How many seeds a plant may hide from.
const MOST_SEEDS: u64 = 400;
/// Seeds whose number is taken for the median.
const SAMPLES: usize = 3;

impl Catalogued {
    /// The plant of a name.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        ALL.iter().copied().find(|plant| plant.name == name).ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|plant| plant.name).collect();
            format!("there is no plant `{name}`; there are {}", names.join(", "))
        })
    }
}

/// Breaks one rule and says which checker noticed; false when none did.
pub(crate) fn find_one(plant: Catalogued, fixed: &Fixed, from: u64, jobs: usize) -> bool {
    let fixed = &plant.conditions(fixed);
    let mut needed: Vec<u64> = Vec::new();
    let mut fired: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut start = from;
    while needed.len() < SAMPLES && start < from + MOST_SEEDS {
        let found: Mutex<Option<(u64, &'static str)>> = Mutex::new(None);
        each(start..from + MOST_SEEDS, jobs, |seed| {
            let outcome = run(seed, fixed, Some(plant.plant), false);
            let Some(violation) = outcome.violation.filter(|violation| violation.property != PANIC) else {
                return true;
            };
            if let Ok(mut found) = found.lock()
                && found.is_none_or(|(first, _property)| seed < first)
            {
                *found = Some((seed, violation.property.name));
            }
            false
        });
        let Ok(Some((seed, property))) = found.into_inner() else { break };
        needed.push(seed + 1 - start);
        *fired.entry(property).or_default() += 1;
        start = seed + 1;
    }
    needed.sort_unstable();
    let names: Vec<String> = fired.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    match needed.get(needed.len() / 2) {
        Some(median) => {
            let (names, conditions) = (names.join(", "), report::conditions(fixed));
            let line = format!("{:<24} found by {names:<44} median {median:>2} seeds {conditions}", plant.name);
            report::say(line.trim_end());
            true
        }
        None => {
            let conditions = report::conditions(fixed);
            report::complain(&format!("{} was not found in {MOST_SEEDS} seeds {conditions}", plant.name));
            false
        }
    }
}

/// Breaks every rule, one after the other; false when one was not noticed.
pub(crate) fn find_all(fixed: &Fixed, from: u64, jobs: usize) -> bool {
    let found = ALL.iter().filter(|plant| find_one(**plant, fixed, from, jobs)).count();
    let rows: BTreeSet<u8> = ALL.iter().flat_map(|plant| plant.rows.iter().copied()).collect();
    report::say(&format!("{found} of {} planted bugs found, over {} rows of the fault model", ALL.len(), rows.len()));
    found == ALL.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/simulation.md");

    /// The rows of the table in the document, each with the plants that it names.
    fn documented() -> BTreeMap<u8, BTreeSet<&'static str>> {
        let row = |line: &'static str| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let number = cells.next()?.parse().ok()?;
            let plants = cells.nth(1)?.trim_end_matches(" |").split(", ").map(|name| name.trim_matches('`'));
            Some((number, plants.collect()))
        };
        DOCUMENT.lines().filter_map(row).collect()
    }

    #[test]
    fn plants_stand_for_the_rows_that_the_document_names() {
        let mut catalogued: BTreeMap<u8, BTreeSet<&str>> = BTreeMap::new();
        for plant in ALL {
            for row in plant.rows {
                catalogued.entry(*row).or_default().insert(plant.name);
            }
        }
        assert_eq!(catalogued, documented());
    }

    #[test]
    fn plants_have_names_of_their_own_and_the_command_line_wins_over_their_conditions() {
        let names: BTreeSet<&str> = ALL.iter().map(|plant| plant.name).collect();
        assert_eq!(names.len(), ALL.len());
        let fixed = Fixed { nodes: Some(7), theme: Theme::Disk, ..Fixed::default() };
        for plant in ALL {
            let conditions = plant.conditions(&fixed);
            assert_eq!((conditions.nodes, conditions.theme, conditions.faults), (Some(7), Theme::Disk, None));
        }
    }
}
