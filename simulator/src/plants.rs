//! The catalogue of planted bugs, and the search for each.

use std::collections::BTreeMap;
use std::sync::Mutex;

use dledger::simulation::Plant;

use crate::profile::Fixed;
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
}

/// Every plant.
pub(crate) const ALL: &[Catalogued] = &[
    plant(Plant::OwnAppendEarly, "own-append-early", &[1, 2]),
    plant(Plant::OwnVoteEarly, "own-vote-early", &[2]),
    plant(Plant::VoteAnsweredEarly, "vote-answered-early", &[2]),
    plant(Plant::AppendAnsweredEarly, "append-answered-early", &[1]),
    plant(Plant::VoteNotPersisted, "vote-not-persisted", &[2]),
    plant(Plant::VoteNotSynced, "vote-not-synced", &[2]),
    plant(Plant::VoteTwice, "vote-twice", &[]),
    plant(Plant::VoteWithoutLogCheck, "vote-without-log-check", &[]),
    plant(Plant::DivergentTailCounted, "divergent-tail-counted", &[25]),
    plant(Plant::CommitBeyondVerified, "commit-beyond-verified", &[]),
    plant(Plant::StaleCompletion, "stale-completion", &[25]),
    plant(Plant::PrevNotChecked, "prev-not-checked", &[]),
    plant(Plant::TermNotChecked, "term-not-checked", &[]),
    plant(Plant::OldTermByCounting, "old-term-by-counting", &[]),
    plant(Plant::DoneUnderIndex, "done-under-index", &[25]),
    plant(Plant::UnknownToldFailed, "unknown-told-failed", &[6]),
    plant(Plant::ReadBeforeOwnCommit, "read-before-own-commit", &[15]),
    plant(Plant::ReadWithoutRound, "read-without-round", &[15, 16]),
    plant(Plant::ReadRoundReused, "read-round-reused", &[15]),
    plant(Plant::ReadBeforeApplied, "read-before-applied", &[15]),
    plant(Plant::NoPreVote, "no-pre-vote", &[]),
    plant(Plant::NotSticky, "not-sticky", &[]),
    plant(Plant::NoCheckQuorum, "no-check-quorum", &[22]),
    plant(Plant::NoStallHandOver, "no-stall-hand-over", &[22]),
    plant(Plant::ForwardTwice, "forward-twice", &[18]),
    plant(Plant::ForwardDoneEarly, "forward-done-early", &[]),
    plant(Plant::MachineTime, "machine-time", &[26]),
    plant(Plant::RecordsBelieved, "records-believed", &[24]),
    plant(Plant::AppendNotSynced, "append-not-synced", &[1]),
    plant(Plant::FailedSyncRetried, "failed-sync-retried", &[5]),
    plant(Plant::SlotNamesUnsynced, "slot-names-unsynced", &[3]),
    plant(Plant::NoDirectorySync, "no-directory-sync", &[7]),
    plant(Plant::FullAcknowledged, "full-acknowledged", &[8]),
    plant(Plant::RangeInOneTurn, "range-in-one-turn", &[27]),
];

const fn plant(plant: Plant, name: &'static str, rows: &'static [u8]) -> Catalogued {
    Catalogued { plant, name, rows }
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
            report::say(&format!("{:<36} found by {:<44} median {median} seeds", plant.name, names.join(", ")));
            true
        }
        None => {
            report::complain(&format!("{} was not found in {MOST_SEEDS} seeds", plant.name));
            false
        }
    }
}

/// Breaks every rule, one after the other; false when one was not noticed.
pub(crate) fn find_all(fixed: &Fixed, from: u64, jobs: usize) -> bool {
    let found = ALL.iter().filter(|plant| find_one(**plant, fixed, from, jobs)).count();
    let rows: std::collections::BTreeSet<u8> = ALL.iter().flat_map(|plant| plant.rows.iter().copied()).collect();
    report::say(&format!("{found} of {} planted bugs found, over {} rows of the fault model", ALL.len(), rows.len()));
    found == ALL.len()
}
