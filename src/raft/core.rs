//! The core's state, its inputs, and the Ready that comes out.
//!
//! Inputs are `tick`, `step`, `step_append`, `propose`, `read_index`, `persisted`, `sent`, `applied` and the two of
//! a peer's control connection. After *each* input the caller drains `ready`, so that a Ready holds one append at
//! most. What to do on each input is decided in the neighbours: election.rs, follower.rs, leader.rs, read_index.rs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::types::{EntryId, Index, Monotonic, NodeId, ReadyNumber, Role, RoleChange, Term, Vote};

use super::config::{RaftConfig, Restored};
use super::election::Election;
use super::membership::{Membership, MembershipStack};
use super::message::{Body, Message};
use super::progress::Progress;
use super::read_index::ReadIndex;
use super::ready::Ready;
use super::terms::Terms;

/// A Ready whose vote or entries are on their way to the disk.
#[derive(Clone, Debug)]
pub(super) struct Unpersisted {
    pub(super) number: ReadyNumber,
    pub(super) vote: Option<Vote>,
    /// The last of its entries that nothing has truncated since; zero when it had none.
    pub(super) last: Index,
    pub(super) since: Monotonic,
}

/// The consensus core of one node (paper, figure 2). Single-threaded and deterministic: the same inputs give the
/// same outputs.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(super) config: RaftConfig,
    pub(super) vote: Vote,
    /// The newest vote that is on disk.
    pub(super) durable_vote: Vote,
    pub(super) terms: Terms,
    pub(super) durable: Index,
    pub(super) committed: Index,
    pub(super) applied: Index,
    pub(super) memberships: MembershipStack,
    pub(super) unpersisted: VecDeque<Unpersisted>,

    pub(super) role: Role,
    pub(super) leader: Option<NodeId>,
    pub(super) election: Election,
    /// The last index that this term's leader's appends have verified to match its log (raft.md, rule 3).
    pub(super) verified: Index,
    /// Followers, while this node leads.
    pub(super) followers: BTreeMap<NodeId, Progress>,
    /// When a leader next shows itself, and next looks whether a quorum still answers.
    pub(super) heartbeat_due: Monotonic,
    pub(super) quorum_due: Monotonic,
    pub(super) reads: ReadIndex,
    pub(super) connected: BTreeSet<NodeId>,

    pub(super) out: Ready,
    pub(super) last_ready: ReadyNumber,
    shown: RoleChange,
}

impl Raft {
    /// A core that goes on from what was on disk, as a follower.
    #[must_use]
    pub fn new(config: RaftConfig, restored: Restored, now: Monotonic) -> Self {
        let Restored { vote, base, runs, last, committed, memberships } = restored;
        let mut core = Self {
            election: Election::new(config.seed),
            vote,
            durable_vote: vote,
            terms: Terms::new(base, runs, last.index),
            durable: last.index,
            committed: committed.min(last.index),
            applied: base.index,
            memberships: MembershipStack::new(memberships),
            unpersisted: VecDeque::new(),
            role: Role::Follower,
            leader: None,
            verified: Index::ZERO,
            followers: BTreeMap::new(),
            heartbeat_due: now,
            quorum_due: now,
            reads: ReadIndex::default(),
            connected: BTreeSet::new(),
            out: Ready::default(),
            last_ready: ReadyNumber::default(),
            shown: RoleChange { term: vote.term, role: Role::Follower, leader: None },
            config,
        };
        core.restart_election_timer(now);
        if core.memberships.voters().all().eq([core.config.id]) {
            core.election.deadline = now;
        }
        core
    }

    /// Time has passed. Call when [`Raft::next_deadline`] has come; more often does no harm.
    pub fn tick(&mut self, now: Monotonic) {
        match self.role {
            Role::Leader => self.tick_leader(now),
            Role::Follower | Role::Candidate | Role::PreCandidate => self.tick_election(now),
            Role::Learner => {}
        }
        self.expire_questions(now);
        self.check();
    }

    /// When [`Raft::tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let own = match self.role {
            Role::Leader => Some(self.heartbeat_due.min(self.quorum_due)),
            Role::Follower | Role::Candidate | Role::PreCandidate => Some(self.election.deadline),
            Role::Learner => None,
        };
        own.into_iter().chain(self.reads.next_deadline()).min()
    }

    /// A message other than an append arrived. Messages of nodes outside the membership are not heard.
    pub fn step(&mut self, now: Monotonic, message: Message) {
        let Message { from, to, term, body } = message;
        if to != self.config.id || !self.is_peer(from) {
            tracing::debug!(node = %self.config.id, %from, %to, "message of a node outside the membership");
            return;
        }
        match body {
            Body::PreVote { next, last } => self.step_pre_vote(now, from, next, last),
            Body::PreVoteAnswer { next, granted } => self.step_pre_vote_answer(now, from, term, next, granted),
            Body::Vote { last, handed_over } => self.step_vote(now, from, term, last, handed_over),
            Body::Append { .. } => debug_assert!(false, "an append comes through step_append"),
            Body::Heartbeat { commit, round } => self.step_heartbeat(now, from, term, commit, round),
            body @ (Body::VoteAnswer { .. }
            | Body::AppendAnswer { .. }
            | Body::HeartbeatAnswer { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexAnswer { .. }
            | Body::HandOver) => self.step_in_term(now, from, term, body),
        }
        self.check();
    }

    /// Messages that only mean something in the term they were sent in.
    fn step_in_term(&mut self, now: Monotonic, from: NodeId, term: Term, body: Body) {
        if term > self.vote.term {
            self.become_follower(now, term, None);
        }
        if term < self.vote.term {
            if let Body::ReadIndex { token } = body {
                self.send(from, Body::ReadIndexAnswer { token, index: None });
            }
            return;
        }
        match body {
            Body::VoteAnswer { granted } => self.step_vote_answer(now, from, granted),
            Body::AppendAnswer { outcome } => self.step_append_answer(now, from, outcome),
            Body::HeartbeatAnswer { round } => self.step_heartbeat_answer(now, from, round),
            Body::ReadIndex { token } => self.step_read_index(now, from, token),
            Body::ReadIndexAnswer { token, index } => self.step_read_index_answer(from, token, index),
            Body::HandOver => self.step_hand_over(now, from),
            Body::PreVote { .. }
            | Body::PreVoteAnswer { .. }
            | Body::Vote { .. }
            | Body::Append { .. }
            | Body::Heartbeat { .. } => {}
        }
    }

    /// The disk has done Ready `number` and all before it.
    pub fn persisted(&mut self, now: Monotonic, number: ReadyNumber) {
        let before = self.durable;
        while let Some(done) = self.unpersisted.front().filter(|done| done.number <= number).cloned() {
            self.unpersisted.pop_front();
            self.durable = self.durable.max(done.last);
            self.durable_vote = done.vote.unwrap_or(self.durable_vote);
        }
        self.election.disk_works(now, self.config.election_timeout);
        match self.role {
            Role::Candidate => self.count_own_vote(now),
            Role::Leader => self.advance_commit(now),
            Role::Follower | Role::PreCandidate | Role::Learner if self.durable > before => self.answer_append(),
            Role::Follower | Role::PreCandidate | Role::Learner => {}
        }
        self.check();
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: Index) {
        self.applied = self.applied.max(index);
        self.check();
    }

    /// The control connection to a peer is ready.
    pub fn peer_connected(&mut self, _now: Monotonic, peer: NodeId) {
        self.connected.insert(peer);
    }

    /// The control connection to a peer closed.
    pub fn peer_disconnected(&mut self, now: Monotonic, peer: NodeId) {
        self.connected.remove(&peer);
        if self.leader == Some(peer) && self.role == Role::Follower {
            self.lose_leader(now);
        }
        self.check();
    }

    /// What the inputs since the last call made the core want; `None` when nothing.
    pub fn ready(&mut self) -> Option<Ready> {
        self.order_replication();
        let change = RoleChange { term: self.vote.term, role: self.role, leader: self.leader };
        if change != self.shown {
            self.shown = change;
            self.out.role = Some(change);
        }
        if self.out == Ready::default() {
            return None;
        }
        let mut ready = std::mem::take(&mut self.out);
        self.last_ready = ReadyNumber(self.last_ready.0 + 1);
        ready.number = self.last_ready;
        Some(ready)
    }

    /// Notes that the Ready under way carries something for the disk.
    pub(super) fn note_unpersisted(&mut self, now: Monotonic, vote: Option<Vote>, last: Index) {
        let number = ReadyNumber(self.last_ready.0 + 1);
        match self.unpersisted.back_mut().filter(|newest| newest.number == number) {
            Some(newest) => {
                newest.vote = vote.or(newest.vote);
                newest.last = newest.last.max(last);
            }
            None => self.unpersisted.push_back(Unpersisted { number, vote, last, since: now }),
        }
    }

    /// Takes a new term or vote; it is on its way to the disk.
    pub(super) fn set_vote(&mut self, now: Monotonic, vote: Vote) {
        self.vote = vote;
        self.out.vote = Some(vote);
        self.note_unpersisted(now, Some(vote), Index::ZERO);
    }

    /// Follows `leader`, or nobody yet, in `term`.
    pub(super) fn become_follower(&mut self, now: Monotonic, term: Term, leader: Option<NodeId>) {
        if term > self.vote.term {
            self.set_vote(now, Vote { term, voted_for: NodeId::ZERO });
            self.verified = Index::ZERO;
        }
        if self.leader != leader || self.role == Role::Leader {
            self.abandon_reads();
        }
        if self.role == Role::Leader {
            self.verified = Index::ZERO;
        }
        self.role = Role::Follower;
        self.leader = leader;
        if leader.is_none() {
            self.election.heard = None;
        }
        self.election.votes.clear();
        self.followers.clear();
        self.restart_election_timer(now);
    }

    pub(super) fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { from: self.config.id, to, term: self.vote.term, body };
        self.out.messages.push(message);
    }

    /// A promise: it leaves once this Ready, and so the term and vote it rests on, is durable.
    pub(super) fn send_after_durable(&mut self, to: NodeId, body: Body) {
        if self.durable_vote == self.vote {
            return self.send(to, body);
        }
        let message = Message { from: self.config.id, to, term: self.vote.term, body };
        self.out.after_durable.push(message);
    }

    pub(super) fn is_peer(&self, id: NodeId) -> bool {
        id != self.config.id && self.membership().member(id).is_some()
    }

    /// Voters and learners other than this node.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        let others: BTreeSet<NodeId> = self.membership().members().map(|member| member.id).collect();
        others.into_iter().filter(|id| *id != self.config.id).collect()
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.vote.term
    }

    /// The leader of this term, where known; this node when it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Last entry of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.terms.last()
    }

    /// True when the log has this very entry.
    #[must_use]
    pub fn holds(&self, id: EntryId) -> bool {
        self.terms.holds(id)
    }

    /// The committed index.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// The last index on this node's disk, with everything before it.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// The membership in force.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.memberships.current()
    }
}
