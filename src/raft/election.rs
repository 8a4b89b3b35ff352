//! Elections: pre-vote, vote, taking and losing office (paper, 5.2 and 5.4.1; thesis, 9.6).
//!
//! ```text
//!                 timeout, or the              majority would          majority's votes,
//!                 leader's connection closed   vote for this node      own vote durable
//!      Follower ────────────► PreCandidate ────────────► Candidate ────────────► Leader
//!         ▲                        │                         │                     │
//!         └────────────────────────┴─── higher term, leader heard, refused ────────┘
//! ```
//!
//! Whoever heard a leader less than an election timeout ago is *sticky*: it refuses pre-votes and votes without
//! taking over their term, so a node that comes back from a partition disturbs nobody. A closed connection to the
//! leader ends stickiness on this node alone: when the leader is dead the others lost theirs too, and a new one is
//! elected in milliseconds; when only this connection broke, the others refuse, and the question is asked again at
//! short intervals until the leader is heard or the normal timeout has passed. A promise (`read_lease.rs`) outlives the
//! connection: then the pre-vote comes when it is over.
//!
//! A `Vote` request may leave before this node's own vote is durable, but the own vote counts only from then on
//! (raft.md, rule 2): else a crash could make one node vote twice in a term. Nor does a majority of *others* suffice
//! before: a leader that crashed and forgot its term would stand for the same term again, win it with the votes it
//! was given before, and write other entries under indexes and terms that some follower already holds.

use std::time::Duration;

use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::types::{EntryId, Index, Monotonic, NodeId, Role, Term, Vote};

use super::core::Raft;
use super::leadership::{Ballot, Given, Leadership, State};
use super::message::Body;
use super::outbox::invented_after;
use super::quorum::Tally;
use super::ready::Invented;

/// Most time between the close of the leader's connection and the pre-vote it causes: others get to see it too,
/// and rarely two ask at once.
pub(super) const CLOSE_JITTER: Duration = Duration::from_millis(20);
/// Least time between pre-votes after a close; up to `CLOSE_JITTER` is added.
pub(super) const CLOSE_RETRY: Duration = Duration::from_millis(20);

impl Raft {
    pub(super) fn reset_election_timer(&mut self) {
        let timeout = self.config.election_timeout;
        self.timer.deadline = self.now.after(timeout + self.random.up_to(timeout));
    }

    /// Sets the time of the next attempt, should the one at hand come to nothing.
    fn schedule_retry(&mut self, shortest: Duration, jitter: Duration) {
        self.reset_election_timer();
        if self.now < self.timer.fast_until {
            let soon = self.now.after(shortest + self.random.up_to(jitter));
            self.timer.deadline = self.timer.deadline.min(soon);
        }
    }

    /// Refuses to take part in an election that nobody handed over to: a leader was heard lately, or promised patience.
    pub(super) fn is_sticky(&self) -> bool {
        if self.bound_until().is_some() {
            return true;
        }
        let fresh = |heard| self.now.since(heard) < self.config.election_timeout;
        if self.plants.has(Plant::NotSticky) {
            return false;
        }
        self.role() == Role::Leader || (self.leader.is_some() && self.timer.heard_leader.is_some_and(fresh))
    }

    /// A node whose disk hangs could neither keep its own vote nor serve: standing would only raise terms.
    ///
    /// Nor could one whose log has a hole hand it on.
    pub(super) fn may_campaign(&self) -> bool {
        let hangs = |since| self.now.since(since) >= self.config.election_timeout;
        let moves = !self.writes.oldest().is_some_and(hangs);
        let readable = self.damage.hole().is_none() && !self.damage.is_detached();
        let whole = (readable && self.knows_last()) || self.plants.has(Plant::HoleStands);
        self.may_stand()
            && moves
            && whole
            && self.stall.allows_campaign(self.now)
            && self.vote.term.next() > self.vote.term
    }

    pub(super) fn tick_election(&mut self) {
        if !self.may_stand() || self.now < self.timer.deadline {
            return;
        }
        if let Some(until) = self.bound_until() {
            reach(Mark::PromiseKept);
            let hurry = self.now < self.timer.fast_until;
            let jitter = if hurry { CLOSE_JITTER } else { self.config.election_timeout };
            self.timer.deadline = until.after(self.random.up_to(jitter));
            return;
        }
        self.schedule_retry(CLOSE_RETRY, CLOSE_JITTER);
        if self.may_campaign() {
            self.pre_campaign();
        }
    }

    /// Asks who would vote for this node in the next term. Changes neither term nor leader.
    pub(super) fn pre_campaign(&mut self) {
        if self.plants.has(Plant::NoPreVote) {
            return self.campaign(false);
        }
        let mut ballot = Ballot::new(self.vote.term.next());
        ballot.record(self.config.id, self.own_vote());
        let ask = Body::PreVote { next: ballot.term, last: self.last_durable() };
        self.state = State::PreCandidate(ballot);
        self.ask_voters(&ask);
        self.decide();
    }

    /// Stands for the next term.
    fn campaign(&mut self, handed_over: bool) {
        let term = self.vote.term.next();
        self.enter_term(Vote { term, voted_for: self.config.id });
        self.state = State::Candidate(Ballot::new(term));
        self.change_leader(None);
        let half = self.config.election_timeout / 2;
        self.schedule_retry(half, half);
        self.ask_voters(&Body::Vote { last: self.last_durable(), handed_over });
        if self.plants.has(Plant::OwnVoteEarly) {
            self.count_own_vote();
        }
    }

    /// What this node's vote for itself counts.
    const fn own_vote(&self) -> Given {
        if self.damage.in_doubt() { Given::InDoubt } else { Given::Granted }
    }

    /// The last entry on this disk: what a candidate may stake its claim on.
    fn last_durable(&self) -> EntryId {
        self.terms.id_at(self.sound()).unwrap_or(self.terms.base())
    }

    fn ask_voters(&mut self, ask: &Body) {
        let ids = self.memberships.ids().iter().copied();
        let quorum = self.memberships.quorum();
        let voters: Vec<NodeId> = ids.filter(|node| *node != self.config.id && quorum.is_voter(*node)).collect();
        for voter in voters {
            self.send(voter, ask.clone());
        }
    }

    /// Whether a candidate with this last entry may hold all that is committed (paper, 5.4.1).
    fn is_up_to_date(&self, last: EntryId) -> bool {
        (self.knows_last() && last >= self.terms.last()) || self.plants.has(Plant::VoteWithoutLogCheck)
    }

    /// Any node that has the log from its first membership on gives its vote when asked, whomever its own log takes for
    /// voters: it may lag behind the change that made it one, or that made the candidate one, and be the one that is
    /// missing (thesis, 4.1). The candidate counts only the voters that *it* knows.
    fn may_vote(&self) -> bool {
        self.memberships.latest().is_some()
    }

    pub(super) fn on_pre_vote(&mut self, from: NodeId, next: Term, last: EntryId) {
        let known = self.may_vote();
        let granted = known && next > self.vote.term && self.is_up_to_date(last) && !self.is_sticky();
        if known && !granted {
            let mark = if self.is_sticky() { Mark::PreVoteRefusedSticky } else { Mark::PreVoteRefusedBehind };
            reach(mark);
        }
        let answer = if granted { self.grant(Some(next)) } else { Body::PreVoteAnswer { next, granted } };
        self.send(from, answer);
    }

    pub(super) fn on_pre_vote_answer(&mut self, from: NodeId, next: Term, given: Given) {
        if let State::PreCandidate(ballot) = &mut self.state
            && ballot.term == next
        {
            ballot.replace(from, given);
            self.decide();
        }
    }

    pub(super) fn on_vote(&mut self, from: NodeId, last: EntryId, handed_over: bool) {
        let known = self.may_vote();
        let unchecked = handed_over && self.plants.has(Plant::HandOverUnchecked);
        let free = (self.vote.voted_for.is_zero() && self.leader.is_none()) || self.plants.has(Plant::VoteTwice);
        let current = self.is_up_to_date(last) || unchecked;
        // It may have heard of this term otherwise, and left the leader to whom it gave its promise.
        let bound = !handed_over && self.bound_until().is_some();
        let granted = known && current && ((free && !bound) || self.vote.voted_for == from);
        if !granted {
            reach(match (free, bound) {
                (true, true) => Mark::PromiseKept,
                (true, false) => Mark::VoteRefusedBehind,
                (false, _) => Mark::VoteRefusedGiven,
            });
            return self.send_in_term(from, Body::VoteAnswer { granted });
        }
        if free {
            self.set_vote(Vote { voted_for: from, ..self.vote });
            self.state = State::Follower;
            self.reset_election_timer();
        }
        if self.plants.has(Plant::VoteAnsweredEarly) {
            return self.send(from, self.grant(None));
        }
        self.send_when_durable(from, self.grant(None));
    }

    pub(super) fn on_vote_answer(&mut self, from: NodeId, given: Given) {
        if let State::Candidate(ballot) = &mut self.state {
            ballot.record(from, given);
            self.decide();
        }
    }

    /// The own vote is a vote like any other: it counts once it cannot be forgotten.
    pub(super) fn count_own_vote(&mut self) {
        let given = self.own_vote();
        if let State::Candidate(ballot) = &mut self.state
            && (self.durable_vote == self.vote || self.plants.has(Plant::OwnVoteEarly))
        {
            ballot.record(self.config.id, given);
            self.decide();
        }
    }

    fn is_own_vote_durable(&self) -> bool {
        let own = Vote { term: self.vote.term, voted_for: self.config.id };
        self.durable_vote == own || self.plants.has(Plant::OwnVoteEarly)
    }

    fn decide(&mut self) {
        let quorum = self.memberships.quorum();
        match &self.state {
            State::PreCandidate(ballot) => match ballot.tally(quorum) {
                Tally::Won => self.campaign(false),
                Tally::Lost => self.state = State::Follower,
                Tally::Open => {}
            },
            State::Candidate(ballot) => match ballot.tally(quorum) {
                Tally::Won if self.is_own_vote_durable() => self.become_leader(),
                Tally::Won => reach(Mark::WonBeforeOwnVote),
                Tally::Lost => self.state = State::Follower,
                Tally::Open => {}
            },
            State::Follower | State::Leader(_) => {}
        }
    }

    /// Takes office: a no-op of this term at once (paper, 8), and a heartbeat so that nobody else tries.
    fn become_leader(&mut self) {
        // Whoever wins has all that may be committed, whatever it doubted before.
        self.damage.end_doubt();
        let last = self.terms.last();
        let append = invented_after(last, Invented::NoOp);
        let mut office = Leadership::new(append.last, self.now);
        office.meet(self.memberships.ids(), self.config.id, append.last, self.now);
        office.heartbeat_at = self.now.after(self.config.heartbeat);
        self.preference.take_office(self.now, self.config.election_timeout);
        self.extend_own(append.last);
        self.outbox.append(append, &mut self.writes, self.now);
        self.state = State::Leader(office);
        self.change_leader(Some(self.config.id));
        self.send_heartbeats();
    }

    /// Follows: `term` is this node's term or a higher one, `leader` who is known to lead it.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        let before = std::mem::replace(&mut self.state, State::Follower);
        if term > self.vote.term {
            self.enter_term(Vote { term, voted_for: NodeId::ZERO });
        }
        self.change_leader(leader);
        let left_office = matches!(before, State::Leader(_));
        if let State::Leader(office) = before {
            self.give_up_reads(office.reads, self.vote.term);
            self.transfer_left_office();
        }
        if left_office || leader.is_some() {
            self.reset_election_timer();
        }
    }

    fn enter_term(&mut self, vote: Vote) {
        self.set_vote(vote);
        self.terms.forget_refuted();
        self.verified = Index::ZERO;
        self.answered = Index::ZERO;
        self.timer.heard_leader = None;
    }

    fn change_leader(&mut self, leader: Option<NodeId>) {
        if self.leader != leader {
            self.give_up_all_questions();
            self.leader = leader;
            self.damage.forget_leader();
        }
        if let Some(leader) = leader {
            self.transfer_led_to(leader);
        }
    }

    /// A message that only the leader of this term sends. False when this term has another: a broken peer.
    pub(super) fn hear_leader(&mut self, from: NodeId) -> bool {
        if self.leader.is_some_and(|leader| leader != from) {
            tracing::error!(%from, leader = ?self.leader, term = %self.vote.term, "two leaders in one term; ignored");
            return false;
        }
        if self.leader.is_none() || self.role() != Role::Follower {
            self.become_follower(self.vote.term, Some(from));
        }
        self.timer.heard_leader = Some(self.now);
        self.timer.fast_until = Monotonic::default();
        self.reset_election_timer();
        self.ask_in_doubt();
        true
    }

    pub(super) fn on_hand_over(&mut self, from: NodeId) {
        if self.leader == Some(from) && self.may_campaign() {
            self.campaign(true);
        }
    }

    pub(super) fn on_connected(&mut self, peer: NodeId) {
        let (commit, last) = (self.committed, self.last_durable());
        let office = match &mut self.state {
            State::Leader(office) => office,
            // The question could not reach it before.
            State::PreCandidate(ballot) if self.memberships.quorum().is_voter(peer) => {
                let ask = Body::PreVote { next: ballot.term, last };
                return self.send(peer, ask);
            }
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => return,
        };
        let round = office.round;
        let Some(progress) = office.peers.get_mut(&peer) else { return };
        progress.probe();
        progress.commit_sent = commit;
        self.send(peer, Body::Heartbeat { commit, round });
    }

    pub(super) fn on_disconnected(&mut self, peer: NodeId) {
        if self.leader != Some(peer) {
            return;
        }
        self.timer.heard_leader = None;
        self.promise_outlives_connection();
        self.give_up_all_questions();
        if self.now < self.timer.fast_again {
            return;
        }
        reach(Mark::EarlyPreVote);
        let timeout = self.config.election_timeout;
        self.timer.fast_again = self.now.after(timeout);
        let free = self.bound_until().unwrap_or(self.now);
        self.timer.fast_until = free.after(timeout * 2);
        let soon = free.after(self.random.up_to(CLOSE_JITTER));
        self.timer.deadline = self.timer.deadline.min(soon);
    }
}
