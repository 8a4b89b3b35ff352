//! The core itself: its state, its inputs, and who handles what.
//!
//! Every input is one *turn*: take the time, do the work, settle (order replication, tell commit news, report the
//! role), and in debug builds check the invariants. The caller takes [`Raft::ready`] after each.

use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::{Plant, Plants};
use crate::types::{EntryId, Index, Monotonic, NodeId, ReadyNumber, Role, RoleChange, Term, TermRun, Vote};

use super::append::{AppendStep, Appended};
use super::config::{RaftConfig, Restored};
use super::damage::Damage;
use super::leadership::{ElectionTimer, Given, State};
use super::membership::Memberships;
use super::message::{AppendOutcome, Body, Message};
use super::outbox::{Outbox, Sender};
use super::preference::Preference;
use super::random::Random;
use super::read_index::Questions;
use super::read_lease::{Promise, ReadBy};
use super::ready::Ready;
use super::stall::Stall;
use super::terms::Terms;
use super::transfer::Transfer;
use super::writes::Writes;

/// One node's consensus core. See the module documentation.
#[derive(Debug)]
pub struct Raft {
    pub(super) config: RaftConfig,
    pub(super) now: Monotonic,
    pub(super) random: Random,
    /// Term and vote as this node lives by them, and as far as its disk has them.
    pub(super) vote: Vote,
    pub(super) durable_vote: Vote,
    pub(super) terms: Terms,
    pub(super) durable: Index,
    pub(super) writes: Writes,
    pub(super) committed: Index,
    pub(super) applied: Index,
    pub(super) memberships: Memberships,
    pub(super) leader: Option<NodeId>,
    pub(super) state: State,
    /// The last index that appends of this term's leader have verified to match its log; zero in a new term.
    pub(super) verified: Index,
    /// What the leader was last told to be durable and verified.
    pub(super) answered: Index,
    pub(super) timer: ElectionTimer,
    pub(super) promise: Promise,
    pub(super) stall: Stall,
    pub(super) damage: Damage,
    /// Since when its disk has had no room for what clients write.
    pub(super) full_since: Option<Monotonic>,
    pub(super) questions: Questions,
    pub(super) outbox: Outbox,
    /// A hand-over that is prepared or under way.
    pub(super) transfer: Option<Transfer>,
    pub(super) preference: Preference,
    pub(super) plants: Plants,
    told: RoleChange,
}

/// This node does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader {
    /// Who does, where known.
    pub leader: Option<NodeId>,
}

impl Raft {
    /// A core that goes on where its disk says it was. A lone voter campaigns at once; others wait for a leader
    /// first.
    #[must_use]
    pub fn new(config: RaftConfig, restored: Restored, now: Monotonic) -> Self {
        let terms = Terms::new(restored.base, &restored.runs, restored.last.index).without(&restored.unknown);
        let last = terms.last();
        let mut random = Random::new(config.seed);
        let questions = Questions::new(random.number());
        let timer =
            ElectionTimer { deadline: now, heard_leader: None, fast_until: Monotonic::default(), fast_again: now };
        let told = RoleChange { term: Term::ZERO, role: Role::Learner, leader: None };
        let mut raft = Self {
            now,
            random,
            vote: restored.vote,
            durable_vote: restored.vote,
            terms,
            durable: last.index,
            writes: Writes::default(),
            committed: restored.committed.max(restored.applied).clamp(restored.base.index, last.index),
            applied: restored.applied.clamp(restored.base.index, last.index),
            memberships: Memberships::new(restored.memberships),
            leader: None,
            state: State::Follower,
            verified: Index::ZERO,
            answered: Index::ZERO,
            timer,
            promise: Promise::of_earlier_life(now),
            stall: Stall::default(),
            damage: Damage::new(restored.base.index, restored.applied, restored.in_doubt),
            full_since: None,
            questions,
            outbox: Outbox::default(),
            transfer: None,
            preference: Preference::default(),
            plants: Plants::NONE,
            told,
            config,
        };
        raft.turn(now, |raft| {
            // Entries of a term that this node does not remember entering: the vote file was synced later than
            // the log. The term had a leader already, so not to have voted in it promises nothing.
            if last.term > raft.vote.term {
                raft.set_vote(Vote { term: last.term, voted_for: NodeId::ZERO });
            }
            raft.reset_election_timer();
            raft.on_holes(restored.hole);
            if raft.memberships.quorum().is_alone(raft.config.id) {
                // A promise of before binds it too: to a leader that has since left, and may not know.
                raft.timer.deadline = raft.bound_until().unwrap_or(now);
                raft.tick_election();
            }
        });
        raft
    }

    /// Breaks a rule, for a simulation.
    pub(crate) fn plant(&mut self, plants: Plants) {
        self.plants = plants;
        self.memberships.plant(plants);
    }

    /// Time has passed. Call it whenever [`Raft::next_deadline`] has; calling it more often is harmless.
    pub fn tick(&mut self, now: Monotonic) {
        self.turn(now, |raft| {
            raft.give_up_lost_questions();
            raft.tick_transfer();
            if raft.role() == Role::Leader {
                raft.tick_leader();
            } else {
                raft.tick_election();
            }
        });
    }

    /// When `tick` is due next; `None` when time alone changes nothing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let own = match &self.state {
            State::Leader(office) => Some(office.heartbeat_at),
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => {
                self.may_stand().then_some(self.timer.deadline)
            }
        };
        let transfer = self.transfer.map(Transfer::deadline);
        own.into_iter().chain(self.questions.next_loss()).chain(transfer).min()
    }

    /// A message came in; any but an append. Duplicates, delays and reordering are harmless.
    pub fn step(&mut self, now: Monotonic, message: Message) {
        self.turn(now, |raft| raft.on_message(&message));
    }

    /// An append came in whose records are verified and described by `appended`. Records from `new_from` on are new
    /// to this log and stand in the next Ready's append; those before are already there.
    pub fn step_append(&mut self, now: Monotonic, from: NodeId, term: Term, appended: Appended) -> AppendStep {
        self.turn(now, |raft| raft.on_append(from, term, appended))
    }

    /// Appends `count` records to the log and returns the identity of the first. How many bytes they hold is the
    /// caller's to bound, before it calls.
    ///
    /// # Errors
    /// [`NotLeader`] when this node does not lead; nothing has happened then.
    pub fn propose(&mut self, now: Monotonic, count: u64) -> Result<EntryId, NotLeader> {
        self.turn(now, |raft| raft.on_propose(count))
    }

    /// Asks at which index a read that arrived before `now` is linearizable. The answer stands in some later
    /// `Ready.reads` under `token`; always exactly one, but perhaps `None`.
    pub fn read_index(&mut self, now: Monotonic, token: u64, by: ReadBy) {
        self.turn(now, |raft| raft.read(token, by));
    }

    /// The vote and append of Ready `number`, and of every one before it, are durable.
    pub fn persisted(&mut self, now: Monotonic, number: ReadyNumber) {
        self.turn(now, |raft| raft.on_persisted(number));
    }

    /// What became of a `Replicate` order: records up to `last` are on their way.
    pub fn sent(&mut self, now: Monotonic, to: NodeId, last: Index, bytes: u64) {
        self.turn(now, |raft| {
            let (now, last) = (raft.now, last.min(raft.terms.last().index));
            if let State::Leader(office) = &mut raft.state
                && let Some(peer) = office.peers.get_mut(&to)
            {
                peer.sent(last, bytes, now);
            }
        });
    }

    /// The state machine has applied everything up to `index`, which a Ready has offered.
    pub fn applied(&mut self, index: Index) {
        self.turn(self.now, |raft| {
            if index > raft.committed {
                tracing::error!(%index, committed = %raft.committed, "applied what is not committed; ignored");
                return;
            }
            raft.applied = raft.applied.max(index);
        });
    }

    /// The control connection to `peer` stands. Call it for a new bulk connection as well: what was under way on the
    /// one before is lost, and a leader probes at once instead of finding out by its heartbeats.
    pub fn peer_connected(&mut self, now: Monotonic, peer: NodeId) {
        self.turn(now, |raft| raft.on_connected(peer));
    }

    /// The control connection to `peer` is closed.
    pub fn peer_disconnected(&mut self, now: Monotonic, peer: NodeId) {
        self.turn(now, |raft| raft.on_disconnected(peer));
    }

    /// Whether [`Raft::ready`] has anything.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// What the inputs since the last call want done; `None` when that is nothing.
    pub fn ready(&mut self) -> Option<Ready> {
        self.outbox.take(&mut self.writes, self.now)
    }

    pub(super) fn turn<T>(&mut self, now: Monotonic, input: impl FnOnce(&mut Self) -> T) -> T {
        self.now = self.now.max(now);
        #[cfg(debug_assertions)]
        let before = super::invariants::Snapshot::of(self);
        let result = input(self);
        self.settle();
        #[cfg(debug_assertions)]
        {
            let verdict = super::invariants::check(self).and_then(|()| super::invariants::check_delta(&before, self));
            debug_assert_eq!(verdict, Ok(()), "node {}", self.config.id);
        }
        result
    }

    fn settle(&mut self) {
        self.settle_doubt();
        self.settle_membership();
        self.settle_transfer();
        self.serve_reads();
        self.order_replication();
        let role = self.role_now();
        if role != self.told {
            self.told = role;
            self.outbox.role(role);
        }
    }

    pub(super) fn role_now(&self) -> RoleChange {
        RoleChange { term: self.vote.term, role: self.role(), leader: self.leader }
    }

    /// Checks receiver, sender and term before anything else (raft.md, rule 4).
    fn on_message(&mut self, message: &Message) {
        let &Message { from, to, term, ref body } = message;
        if to != self.config.id || self.is_stranger(from) {
            tracing::debug!(%from, %to, "message of a node that was removed, or for another node; ignored");
            return;
        }
        match *body {
            // Neither asks for an election to be held or lost: no term is taken over from a pre-vote.
            Body::PreVote { next, last } => return self.on_pre_vote(from, next, last),
            Body::Vote { handed_over: false, .. } if term > self.vote.term && self.is_sticky() => {
                reach(Mark::VoteRefusedSticky);
                return self.send(from, Body::VoteAnswer { granted: false });
            }
            Body::Vote { .. }
            | Body::PreVoteAnswer { .. }
            | Body::VoteAnswer { .. }
            | Body::Append { .. }
            | Body::AppendAnswer { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatAnswer { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexAnswer { .. }
            | Body::HandOver
            | Body::PreVoteInDoubt { .. }
            | Body::VoteInDoubt => {}
        }
        if term > self.vote.term {
            self.become_follower(term, None);
        }
        // A voter of a lower term may grant a pre-vote: it would raise its term for the vote itself.
        if let Body::PreVoteAnswer { next, granted } = *body {
            self.on_pre_vote_answer(from, next, Given::of(granted));
        } else if let Body::PreVoteInDoubt { next } = *body {
            self.on_pre_vote_answer(from, next, Given::InDoubt);
        } else if term < self.vote.term && !self.plants.has(Plant::TermNotChecked) {
            reach(Mark::LowerTerm);
            self.answer_lower_term(from, body);
        } else {
            self.dispatch(from, body);
        }
    }

    fn dispatch(&mut self, from: NodeId, body: &Body) {
        match *body {
            Body::Vote { last, handed_over } => self.on_vote(from, last, handed_over),
            Body::VoteAnswer { granted } => self.on_vote_answer(from, Given::of(granted)),
            Body::VoteInDoubt => self.on_vote_answer(from, Given::InDoubt),
            Body::AppendAnswer { outcome } => self.on_append_answer(from, outcome),
            Body::Heartbeat { commit, round } => self.on_heartbeat(from, commit, round),
            Body::HeartbeatAnswer { round, durable, verified, written, full } => {
                self.on_heartbeat_answer(from, round, (durable, verified, written), full);
            }
            Body::ReadIndex { token, by_lease } => self.on_read_index(from, token, by_lease),
            Body::ReadIndexAnswer { token, index } => self.on_read_index_answer(from, token, index),
            Body::HandOver => self.on_hand_over(from),
            Body::Append { .. } => tracing::error!(%from, "an append must come through step_append; ignored"),
            Body::PreVote { .. } | Body::PreVoteAnswer { .. } | Body::PreVoteInDoubt { .. } => {}
        }
    }

    /// Someone lives in an earlier term: the answer carries this node's own, so that he learns of it. Answers of
    /// an earlier term need none: nobody waits for them.
    fn answer_lower_term(&mut self, from: NodeId, body: &Body) {
        let (durable, verified, written) = (Index::ZERO, Index::ZERO, Index::ZERO);
        let nothing = Body::HeartbeatAnswer { round: 0, durable, verified, written, full: false };
        match *body {
            Body::Vote { .. } => self.send_in_term(from, Body::VoteAnswer { granted: false }),
            Body::Append { prev, .. } => self.send_rejection(from, prev),
            Body::Heartbeat { .. } | Body::HandOver => self.send(from, nothing),
            Body::ReadIndex { token, .. } => self.send(from, Body::ReadIndexAnswer { token, index: None }),
            Body::PreVote { .. }
            | Body::PreVoteAnswer { .. }
            | Body::VoteAnswer { .. }
            | Body::AppendAnswer { .. }
            | Body::HeartbeatAnswer { .. }
            | Body::ReadIndexAnswer { .. }
            | Body::PreVoteInDoubt { .. }
            | Body::VoteInDoubt => {}
        }
    }

    pub(super) fn send_rejection(&mut self, to: NodeId, prev: EntryId) {
        let hint = self.terms.last_at_most(prev.index, prev.term);
        // What is committed here stands in every later leader's log.
        let hint = self
            .terms
            .id_at(self.committed.min(prev.index))
            .map_or(hint, |known| if known.index > hint.index { known } else { hint });
        self.send_in_term(to, Body::AppendAnswer { outcome: AppendOutcome::Rejected { prev, hint } });
    }

    fn on_persisted(&mut self, number: ReadyNumber) {
        if number > self.outbox.last_number() {
            tracing::error!(number = number.0, "persisted names a Ready that was never given; ignored");
            return;
        }
        let done = self.writes.persisted(number);
        if !done.any {
            return;
        }
        self.stall.disk_moved(self.now, self.config.election_timeout);
        self.durable_vote = done.vote.unwrap_or(self.durable_vote);
        self.durable = self.durable.max(done.last.unwrap_or(Index::ZERO));
        self.count_own_vote();
        self.commit_by_counting();
        self.answer_what_became_durable();
    }

    /// Takes a term or gives a vote, and orders it to be synced.
    pub(super) fn set_vote(&mut self, vote: Vote) {
        self.vote = vote;
        self.outbox.vote(vote, &mut self.writes, self.now);
    }

    pub(super) fn set_committed(&mut self, index: Index) {
        if index > self.committed {
            self.committed = index;
            self.offer();
        }
    }

    /// Cuts everything above `after`, which nothing committed stands above.
    pub(super) fn truncate(&mut self, after: Index) {
        self.terms.truncate(after);
        if !self.plants.has(Plant::StaleCompletion) {
            self.writes.truncate(after);
        }
        self.durable = self.durable.min(after);
        if !self.plants.has(Plant::MembershipNotPopped) && self.memberships.truncate(after) {
            reach(Mark::MembershipCut);
        }
        self.damage.truncate(after);
    }

    /// One more run of entries of this term at the end of the log.
    pub(super) fn extend_own(&mut self, last: Index) {
        let run = TermRun { first: self.terms.last().index.next(), term: self.vote.term };
        self.terms.extend(&[run], last);
    }

    pub(super) fn send(&mut self, to: NodeId, body: Body) {
        let sender = Sender { from: self.config.id, term: self.vote.term };
        self.outbox.send(sender.message(to, body));
    }

    /// Once everything before, and the term itself, is durable.
    pub(super) fn send_when_durable(&mut self, to: NodeId, body: Body) {
        let sender = Sender { from: self.config.id, term: self.vote.term };
        self.outbox.send_when_durable(sender.message(to, body));
    }

    /// At once when this term is durable here, else once it is.
    pub(super) fn send_in_term(&mut self, to: NodeId, body: Body) {
        if self.durable_vote.term == self.vote.term {
            self.send(to, body);
        } else {
            self.send_when_durable(to, body);
        }
    }

    /// Nobody to listen to: this node itself, or one that was removed, as is known for certain. The latter speaks on as
    /// the leader that it still is: it hands over when it has committed its own removal (thesis, 4.2.2).
    ///
    /// A node that this log has never heard of is none: it may have been added since, and while this node lags behind
    /// its vote may be the one that is missing (thesis, 4.1). Who may connect at all is the caller's to see to.
    pub(super) fn is_stranger(&self, node: NodeId) -> bool {
        let removed = || self.leader != Some(node) && self.memberships.has_removed(node, self.committed);
        node == self.config.id || node.is_zero() || removed()
    }

    /// Whether this node takes part in elections as a candidate. It does until its removal is committed, although its
    /// own vote counts no more by then: it may be the only one that has what all the others need (thesis, 4.2.2).
    pub(super) fn may_stand(&self) -> bool {
        self.is_voter() || self.memberships.votes_since(self.config.id, self.committed)
    }

    pub(super) fn is_voter(&self) -> bool {
        self.memberships.quorum().is_voter(self.config.id)
    }
}
