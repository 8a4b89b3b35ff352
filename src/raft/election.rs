//! Elections: pre-vote, vote, stickiness, hand-over (paper, 5.2 and 5.4.1; thesis, 9.6).
//!
//! ```text
//!                     silence, or the leader's connection closed
//!   Follower ──────────────────────────────► PreCandidate ──majority would──► Candidate ──majority did──► Leader
//!      ▲                                          │  ▲                           │
//!      └──────── a leader is heard, or a higher term ────────────────────────────┘
//! ```
//! A pre-candidate keeps its term and its leader: a node that was cut off and comes back raises nobody's term.
//! Stickiness: who has heard of its leader within the shortest election timeout, over a connection that still
//! stands, votes for no other, so that a node that merely cannot hear the leader does not depose it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{EntryId, Index, Monotonic, NodeId, Role, Term, Vote};

use super::core::Raft;
use super::message::Body;

/// Longest wait between the close of the leader's connection and the pre-vote it starts.
const CLOSED_JITTER: Duration = Duration::from_millis(20);
/// How often such a pre-vote is tried again: peers may hear of the close a little later.
const CLOSED_RETRY: Duration = Duration::from_millis(20);
/// How often it is tried before the usual timeout applies again.
const CLOSED_TRIES: u32 = 8;
/// Growth of the pause after stepping down for a stalled disk ends at 2 to this power election timeouts.
const MAX_STALL_SHIFT: u32 = 6;

/// What a node knows of elections.
#[derive(Clone, Debug)]
pub(super) struct Election {
    /// When to ask for votes.
    pub(super) deadline: Monotonic,
    /// When the leader was last heard; `None` when its connection closed or there is none.
    pub(super) heard: Option<Monotonic>,
    /// Answers of this round, by voter.
    pub(super) votes: BTreeMap<NodeId, bool>,
    /// This campaign was asked for by the leader.
    handed_over: bool,
    /// Pre-votes that the close of the leader's connection still allows.
    closed_tries: u32,
    /// This node stepped down because its disk stalled: no campaign before a write completes.
    stalled: bool,
    stalls: u32,
    /// No campaign before this.
    not_before: Option<Monotonic>,
    random: u64,
}

impl Election {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            deadline: Monotonic::default(),
            heard: None,
            votes: BTreeMap::new(),
            handed_over: false,
            closed_tries: 0,
            stalled: false,
            stalls: 0,
            not_before: None,
            random: seed,
        }
    }

    /// The next random number (SplitMix64; Steele, Lea and Flood 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A random part of `most`.
    fn jitter(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.random() % micros)
    }

    /// A write completed. After a stall the pause before the next campaign starts now, longer each time.
    pub(super) fn disk_works(&mut self, now: Monotonic, timeout: Duration) {
        if self.stalled {
            self.stalled = false;
            self.not_before = Some(now.after(timeout * (1 << self.stalls.min(MAX_STALL_SHIFT))));
        }
    }

    /// The disk stalled while leading.
    pub(super) fn disk_stalls(&mut self) {
        self.stalled = true;
        self.stalls += 1;
    }
}

impl Raft {
    pub(super) fn restart_election_timer(&mut self, now: Monotonic) {
        let timeout = self.config.election_timeout;
        self.election.deadline = now.after(timeout + self.election.jitter(timeout));
    }

    /// The leader was heard: it is still there.
    pub(super) fn hear_leader(&mut self, now: Monotonic) {
        self.election.heard = Some(now);
        self.election.closed_tries = CLOSED_TRIES;
        self.restart_election_timer(now);
    }

    /// The leader's connection closed: a killed process closes its connections at once, so do not wait for silence.
    pub(super) fn lose_leader(&mut self, now: Monotonic) {
        if self.election.heard.take().is_some() && self.election.closed_tries > 0 {
            let soon = now.after(self.election.jitter(CLOSED_JITTER));
            self.election.deadline = self.election.deadline.min(soon);
        }
    }

    pub(super) fn tick_election(&mut self, now: Monotonic) {
        if now < self.election.deadline {
            return;
        }
        self.restart_election_timer(now);
        if !self.may_campaign(now) {
            return;
        }
        if self.election.heard.is_none() && self.leader.is_some() && self.election.closed_tries > 0 {
            self.election.closed_tries -= 1;
            let soon = now.after(CLOSED_RETRY + self.election.jitter(CLOSED_RETRY));
            self.election.deadline = self.election.deadline.min(soon);
        }
        self.pre_campaign(now);
    }

    fn may_campaign(&self, now: Monotonic) -> bool {
        self.memberships.voters().contains(self.config.id)
            && !self.election.stalled
            && self.election.not_before.is_none_or(|then| then <= now)
    }

    fn pre_campaign(&mut self, now: Monotonic) {
        self.role = Role::PreCandidate;
        self.election.handed_over = false;
        self.election.votes.clear();
        self.election.votes.insert(self.config.id, true);
        let (next, last) = (self.vote.term.next(), self.terms.last());
        for voter in self.other_voters() {
            self.send(voter, Body::PreVote { next, last });
        }
        self.finish_pre_vote(now);
    }

    fn finish_pre_vote(&mut self, now: Monotonic) {
        if self.role == Role::PreCandidate && self.has_majority() {
            self.campaign(now);
        }
    }

    /// Asks for votes of the next term. The request may leave before the own vote is durable; the own vote counts
    /// only once it is (raft.md, rule 2).
    fn campaign(&mut self, now: Monotonic) {
        self.abandon_reads();
        self.role = Role::Candidate;
        self.leader = None;
        self.election.heard = None;
        self.verified = Index::ZERO;
        self.election.votes.clear();
        self.set_vote(now, Vote { term: self.vote.term.next(), voted_for: self.config.id });
        self.restart_election_timer(now);
        let (last, handed_over) = (self.terms.last(), self.election.handed_over);
        for voter in self.other_voters() {
            self.send(voter, Body::Vote { last, handed_over });
        }
    }

    /// The disk reported: the own vote counts once it is durable.
    pub(super) fn count_own_vote(&mut self, now: Monotonic) {
        if self.durable_vote == self.vote {
            self.election.votes.insert(self.config.id, true);
            self.finish_vote(now);
        }
    }

    fn finish_vote(&mut self, now: Monotonic) {
        if self.role == Role::Candidate && self.has_majority() {
            self.become_leader(now);
        }
    }

    fn has_majority(&self) -> bool {
        self.memberships.voters().agree(|voter| self.election.votes.get(&voter) == Some(&true))
    }

    fn other_voters(&self) -> Vec<NodeId> {
        self.memberships.voters().all().filter(|voter| *voter != self.config.id).collect()
    }

    /// True when this node leads with a quorum, or hears from a leader that does.
    fn is_led(&self, now: Monotonic) -> bool {
        let timeout = self.config.election_timeout;
        self.role == Role::Leader || self.election.heard.is_some_and(|heard| now.since(heard) < timeout)
    }

    pub(super) fn step_pre_vote(&mut self, now: Monotonic, from: NodeId, next: Term, last: EntryId) {
        let granted = next > self.vote.term && last >= self.terms.last() && !self.is_led(now);
        self.send(from, Body::PreVoteAnswer { next, granted });
    }

    pub(super) fn step_pre_vote_answer(&mut self, now: Monotonic, from: NodeId, term: Term, next: Term, granted: bool) {
        if !granted && term > self.vote.term {
            return self.become_follower(now, term, None);
        }
        if self.role == Role::PreCandidate && next == self.vote.term.next() {
            self.election.votes.insert(from, granted);
            self.finish_pre_vote(now);
        }
    }

    pub(super) fn step_vote(&mut self, now: Monotonic, from: NodeId, term: Term, last: EntryId, handed_over: bool) {
        if term > self.vote.term {
            if self.is_led(now) && !handed_over {
                return;
            }
            self.become_follower(now, term, None);
        }
        let free = self.vote.voted_for.is_zero() || self.vote.voted_for == from;
        let granted = term == self.vote.term && free && self.leader.is_none() && last >= self.terms.last();
        if granted {
            if self.vote.voted_for.is_zero() {
                self.set_vote(now, Vote { term, voted_for: from });
            }
            self.restart_election_timer(now);
            self.send_after_durable(from, Body::VoteAnswer { granted });
        } else {
            self.send(from, Body::VoteAnswer { granted });
        }
    }

    pub(super) fn step_vote_answer(&mut self, now: Monotonic, from: NodeId, granted: bool) {
        if self.role == Role::Candidate {
            self.election.votes.insert(from, granted);
            self.finish_vote(now);
        }
    }

    /// The leader gives its office to this node.
    pub(super) fn step_hand_over(&mut self, now: Monotonic, from: NodeId) {
        let follows = self.role == Role::Follower && self.leader == Some(from);
        if follows && self.memberships.voters().contains(self.config.id) && !self.election.stalled {
            self.election.handed_over = true;
            self.campaign(now);
        }
    }
}
