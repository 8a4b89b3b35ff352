//! What cores say to each other.
//!
//! A message carries no payload: an append names the entry before its records, and the records themselves, the
//! same bytes as on disk, travel beside it. Every message carries sender and term, and both are checked on every
//! message (raft.md, rule 4).

use serde::{Deserialize, Serialize};

use crate::types::{EntryId, Index, NodeId, Term};

/// A message from one core to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; for a pre-vote the sender's *present* term, which a pre-vote does not raise.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Could I win term `next`? (thesis, section 9.6)
    PreVote {
        /// The term the sender would campaign in.
        next: Term,
        /// The sender's last durable entry.
        last: EntryId,
    },
    /// The answer to a pre-vote.
    PreVoteAnswer {
        /// The term asked about.
        next: Term,
        /// Whether this node would vote for the sender.
        granted: bool,
    },
    /// Vote for me in the message's term (paper, 5.2).
    Vote {
        /// The sender's last durable entry.
        last: EntryId,
        /// A leader asked for this election (hand-over): stickiness does not refuse it.
        handed_over: bool,
    },
    /// The answer to a vote request.
    VoteAnswer {
        /// Whether the sender of the answer voted for the receiver in the message's term.
        granted: bool,
    },
    /// Records follow `prev` (paper, 5.3); the records travel beside the message and may be none.
    Append {
        /// The entry before the first record.
        prev: EntryId,
        /// The leader's committed index.
        commit: Index,
        /// The index before the first that the leader still has: whoever lacks the entry there cannot be sent what
        /// comes before it, and needs a snapshot.
        base: Index,
    },
    /// How far this follower's log is durable and matches the leader's, or where it parts from it.
    AppendAnswer {
        /// What became of the append.
        outcome: AppendOutcome,
    },
    /// I lead this term. Sent and answered without waiting for any disk.
    Heartbeat {
        /// The leader's committed index.
        commit: Index,
        /// The ReadIndex round this heartbeat confirms; grows with each round.
        round: u64,
    },
    /// The answer to a heartbeat. It repeats where this follower stands, so that a lost append, or a lost answer to
    /// one, is found out with the next heartbeat.
    HeartbeatAnswer {
        /// The round that is answered.
        round: u64,
        /// As in [`AppendOutcome::Accepted`]; zero while the answer's term is not durable here.
        durable: Index,
        /// As in [`AppendOutcome::Accepted`].
        verified: Index,
        /// The last verified index on this disk, behind any hole: what need not be held back for it any more.
        written: Index,
        /// This follower's disk has no room for what clients write.
        full: bool,
    },
    /// A follower asks at which index a read that arrived just now is linearizable (thesis, section 6.4).
    ReadIndex {
        /// The sender's name for the question.
        token: u64,
        /// The leader's lease may answer for it, if it has one; else it takes a round.
        by_lease: bool,
    },
    /// The answer to `ReadIndex`.
    ReadIndexAnswer {
        /// The question's name.
        token: u64,
        /// The index that must be applied before reading; `None` when this node does not lead.
        index: Option<Index>,
    },
    /// The leader gives its office to the receiver, which campaigns at once (thesis, section 3.10).
    HandOver,
    /// A granted pre-vote of a node that may have lost what it acknowledged: counts only when every voter grants.
    PreVoteInDoubt {
        /// The term asked about.
        next: Term,
    },
    /// A granted vote of such a node.
    VoteInDoubt,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// Everything up to `durable` is on this disk and verified to match this leader's log: the lesser of the two
    /// (raft.md, rule 3).
    Accepted {
        /// The last index that is both. Counts towards commitment.
        durable: Index,
        /// The last index that this leader's appends have verified to match, on disk or not. Steers the flow only.
        verified: Index,
    },
    /// The log does not hold `prev`.
    Rejected {
        /// The `prev` that was asked for.
        prev: EntryId,
        /// Where to look next: the last entry of this log at or before `prev.index` whose term is at most
        /// `prev.term`. All entries between carry later terms and cannot match, so one round skips them all. For a
        /// log that starts behind `prev`, the entry before its first.
        hint: EntryId,
    },
}
