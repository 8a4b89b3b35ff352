//! The checkers: one property a file, each with the claim it stands for. They know what nodes say and what is true,
//! and nothing of faults or plants.
//!
//! | file | property | source |
//! |---|---|---|
//! | `election_safety` | one leader a term | paper, figure 3 |
//! | `elected` | a quorum voted for each leader | paper, 5.2 and 6 |
//! | `leader_append_only` | a leader never cuts or changes its own log | paper, figure 3 |
//! | `log_matching` | one index and term: one record, and one log before it | paper, figure 3 |
//! | `leader_completeness` | what is committed stands in every later leader's log | paper, figure 3 |
//! | `state_machine_safety` | all apply the same entry at an index, with the same answer | paper, figure 3 |
//! | `same_state` | a state that is written down, restored or installed is that of its index | faults.md, row 11 |
//! | `snapshots_cover` | what a log has dropped is in a durable snapshot; snapshot <= applied | storage.md |
//! | `durable_quorum` | committed means on a quorum's disks | raft.md, rules 2, 3 and 6 |
//! | `sent_after_sync` | no vote and no append is answered before its sync | paper, figure 2 |
//! | `one_vote` | one vote a term, also over restarts | paper, 5.2 |
//! | `node_invariants` | pointer chain; term, vote, commit and applied never go back | raft::invariants |
//! | `disk_keeps` | what was synced is found again, and nothing but what was written | storage.md |
//! | `acknowledged` | done means committed, applied here, and never lost; refused means never | architecture.md |
//! | `applied_once` | no write is applied twice | kv.md |
//! | `log_time` | log time goes on and neither jumps nor stands | storage.md |
//! | `linearizable` | reads and writes of a key have one order | Herlihy and Wing, 1990 |
//! | `bounded` | a stale read with a bound is no older | kv::Consistency |
//! | `stable_leader` | a leader with a healthy majority stays | thesis, 9.6 |
//! | `majority_serves` | a healthy majority has a leader and commits | thesis, 3.9 |
//! | `stalled_leader` | a leader whose disk hangs hands over to one whose disk does not | raft.md, stalled disk |
//! | `check_quorum` | a leader without its quorum steps down | thesis, 6.2 |
//! | `bounded_turns` | no turn applies for as long as an election takes | kv.md |
//! | `membership_steps` | members change through joint ones, one change at a time; numbers are never used again | paper, 6 |
//! | `follows_membership` | a node follows the latest membership of its log | paper, 6 |
//! | `change_answered` | a change called done is committed to its end; one refused never happens | node/members.rs |
//! | `transfer_answered` | a transfer called done is done | thesis, 3.10 |
//! | `converges` | after the faults all serve, and all hold the same | paper, 5.3 |

pub(crate) mod acknowledged;
pub(crate) mod applied_once;
pub(crate) mod bounded;
pub(crate) mod bounded_turns;
pub(crate) mod change_answered;
pub(crate) mod check_quorum;
pub(crate) mod converges;
pub(crate) mod disk_keeps;
pub(crate) mod durable_quorum;
pub(crate) mod elected;
pub(crate) mod election_safety;
pub(crate) mod follows_membership;
pub(crate) mod leader_append_only;
pub(crate) mod leader_completeness;
pub(crate) mod linearizable;
pub(crate) mod log_matching;
pub(crate) mod log_time;
pub(crate) mod majority_serves;
pub(crate) mod membership_steps;
pub(crate) mod node_invariants;
pub(crate) mod one_vote;
pub(crate) mod same_state;
pub(crate) mod sent_after_sync;
pub(crate) mod snapshots_cover;
pub(crate) mod stable_leader;
pub(crate) mod stalled_leader;
pub(crate) mod state_machine_safety;
pub(crate) mod transfer_answered;

/// What a check finds: nothing, or a sentence that says what does not hold.
pub(crate) type Verdict = Result<(), String>;

/// A property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Property {
    /// The file's name.
    pub(crate) name: &'static str,
    /// What must hold.
    pub(crate) claim: &'static str,
}

/// A property that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) property: Property,
    /// Microseconds into the run.
    pub(crate) at: u64,
    pub(crate) what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { property, at, what } = self;
        write!(f, "{} at {}.{:03} ms: {what}\n  must hold: {}", property.name, at / 1000, at % 1000, property.claim)
    }
}

/// Fails with a sentence unless the condition holds.
pub(crate) fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { Err(otherwise()) }
}
