//! A damaged log: what this node may still say and do.
//!
//! ```text
//!   index     1 ... 41 │ 42  43 │ 44 ... 90        a hole at 42 and 43
//!                      │  ?   ? │
//!   votes              by its last entry, 90: that one was acknowledged and is known
//!   durable, applied   41 at most, and it never stands for election
//!   appends            taken and stored; a conflict at or below 42 cuts the hole away
//! ```
//! A hole takes nothing back that this node has promised: it refuses its vote to whoever lacks what it has
//! acknowledged. It promises nothing new, though: what cannot be read cannot be handed on, so it does not count as a
//! copy, and a node that cannot hand on its log is no leader. One that leads already may mend itself from its
//! followers; when that takes too long and another could lead, it hands over.
//!
//! Where nobody recognises a damaged entry, its term is not known. Then it neither matches nor conflicts with what a
//! leader has there: cutting it on suspicion could lose what was acknowledged. It is cut when the leader's records show
//! by their terms or sizes that it cannot be the same.
//!
//! *Doubt* is another matter: entries may be missing behind the last one, and nobody knows which. Such a node asks the
//! first leader that it hears for its committed index, a fresh answer to a fresh question, and trusts itself again once
//! it has that much, and whatever the leader took it to have, verified and durable. Until then its vote is *in doubt*:
//! it counts only in an election in which every voter takes part. Then the most advanced log of all wins, and what it
//! lacks is nowhere.

use crate::simulation::marks::{Mark, reach};
use crate::types::{EntryId, Index, Monotonic, ReadyNumber, Term, TermRun};

use super::core::Raft;
use super::leadership::State;
use super::membership::Membership;
use super::message::Body;

/// What is wrong with this node's log.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// The first entry that cannot be read back.
    hole: Option<Index>,
    /// Since when there has been a hole.
    since: Monotonic,
    /// How far entries were offered to be applied.
    offered: Index,
    /// The log starts behind what the state machine holds, at this index: nothing above it is of use here.
    detached: Option<Index>,
    doubt: Option<Doubt>,
}

/// Until when this node doubts its log.
#[derive(Debug, Default)]
struct Doubt {
    /// The question to the leader that is open, and when it was asked.
    asked: Option<(u64, Monotonic)>,
    /// The leader's committed index, by its answer.
    committed: Option<Index>,
    /// The last index that this leader took this node to have.
    believed: Index,
}

impl Damage {
    pub(super) fn new(base: Index, applied: Index, in_doubt: bool) -> Self {
        let detached = (applied < base).then_some(base);
        let doubt = in_doubt.then(Doubt::default);
        Self { hole: None, since: Monotonic::default(), offered: applied.max(base), detached, doubt }
    }

    /// The state machine holds everything up to `index`, and no hole at or below it matters any more. There may be others
    /// behind, of which the caller has not told: until it does, the log up to `last` counts as one.
    pub(super) fn installed(&mut self, index: Index, last: Index) {
        self.detached = None;
        let behind = (index < last).then(|| index.next());
        self.hole = self.hole.and_then(|hole| if hole > index { Some(hole) } else { behind });
        self.offered = self.offered.max(index);
    }

    /// The whole log is discarded, and any hole with it.
    pub(super) fn start_over(&mut self) {
        self.hole = None;
    }

    /// The log begins behind `base` now: a hole before that is gone.
    pub(super) fn compact(&mut self, base: Index) {
        self.hole = self.hole.filter(|hole| *hole > base);
    }

    pub(super) const fn is_detached(&self) -> bool {
        self.detached.is_some()
    }

    pub(super) const fn hole(&self) -> Option<Index> {
        self.hole
    }

    pub(super) const fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    pub(super) const fn offered(&self) -> Index {
        self.offered
    }

    /// The last index before the first hole; for a log that the state machine has no connection to, its base.
    pub(super) fn limit(&self) -> Index {
        let hole = self.hole.map_or(Index(u64::MAX), Index::prev);
        self.detached.map_or(hole, |base| base.min(hole))
    }

    /// Everything above `after` is cut.
    pub(super) fn truncate(&mut self, after: Index) {
        if self.hole.is_some_and(|hole| hole > after) {
            reach(Mark::HoleCut);
            self.hole = None;
        }
    }

    /// This node may be about to lose entries that it acknowledged.
    pub(super) fn begin_doubt(&mut self) {
        self.doubt.get_or_insert_default();
    }

    /// This node was elected by rules that hold in spite of its doubt.
    pub(super) fn end_doubt(&mut self) {
        self.doubt = None;
    }

    /// Another leader, or none: what the one before said of itself counts no more.
    pub(super) fn forget_leader(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            *doubt = Doubt::default();
        }
    }

    /// The leader takes this node to have `index`.
    pub(super) fn believed(&mut self, index: Index) {
        if let Some(doubt) = &mut self.doubt {
            doubt.believed = doubt.believed.max(index);
        }
    }

    /// The answer to a question about the committed index; true when it was asked here.
    pub(super) fn answered(&mut self, name: u64, committed: Option<Index>) -> bool {
        let Some(doubt) = &mut self.doubt else { return false };
        if doubt.asked.is_none_or(|(asked, _since)| asked != name) {
            return false;
        }
        doubt.asked = None;
        doubt.committed = committed;
        true
    }
}

impl Raft {
    /// Damage was found or mended: `first` is the first entry that cannot be read back now. The caller keeps the other
    /// holes to itself; one that a truncation cuts away is gone without being told.
    pub fn holes(&mut self, now: Monotonic, first: Option<Index>) {
        self.turn(now, |raft| raft.on_holes(first));
    }

    /// A number for a write that the caller orders by itself, a mend: it goes to the disk behind every Ready that was
    /// taken, and `persisted` may be told of it.
    pub const fn reserve_number(&mut self) -> ReadyNumber {
        self.outbox.reserve()
    }

    /// The terms of the entries `first ..= last` as runs; `None` when one of them is not known.
    #[must_use]
    pub fn runs(&self, first: Index, last: Index) -> Option<Vec<TermRun>> {
        self.terms.over(first, last)
    }

    /// The last of the entries `first ..= last` up to which this log has them, of the terms that `runs` say or of terms
    /// that it does not know itself; `None` when it differs from the first on.
    #[must_use]
    pub fn matches_until(&self, first: Index, runs: &[TermRun], last: Index) -> Option<Index> {
        let until = self.terms.first_new(first.prev(), runs, last).map_or(last, Index::prev);
        (until >= first).then_some(until)
    }

    /// The last index up to `most` whose entry has exactly this term.
    #[must_use]
    pub fn last_of_term(&self, most: Index, term: Term) -> Option<Index> {
        let found = self.terms.last_at_most(most, term);
        (found.term == term).then_some(found.index)
    }

    /// Entries that were damaged are mended, and their headers tell what nobody knew before: their terms, which `runs`
    /// say up to `last`, and the memberships among them. False, and nothing changes, when that contradicts the log.
    pub fn identified(
        &mut self,
        now: Monotonic,
        (runs, last): (&[TermRun], Index),
        memberships: Vec<(Index, Membership)>,
    ) -> bool {
        self.turn(now, |raft| {
            let fits = raft.terms.learn(runs, last);
            if fits {
                raft.memberships.restore(memberships);
            }
            fits
        })
    }

    pub(super) fn on_holes(&mut self, first: Option<Index>) {
        let first = first.filter(|first| *first > self.terms.base().index);
        if let Some(first) = first.filter(|first| *first > self.terms.last().index) {
            tracing::error!(%first, last = %self.terms.last(), "a hole behind the log; ignored");
            return;
        }
        if self.damage.hole.is_none() {
            self.damage.since = self.now;
        }
        self.damage.hole = first;
        if first.is_some() && matches!(self.state, State::PreCandidate(_) | State::Candidate(_)) {
            self.state = State::Follower;
        }
        self.commit_by_counting();
        self.offer();
        self.answer_what_became_durable();
    }

    /// The last index on this disk that can be read back with all before it: what this node vouches for.
    pub(super) fn sound(&self) -> Index {
        self.durable.min(self.damage.limit())
    }

    /// Offers what is committed to be applied, up to the first hole.
    pub(super) fn offer(&mut self) {
        let upto = self.committed.min(self.damage.limit());
        if upto > self.damage.offered {
            self.damage.offered = upto;
            self.outbox.committed(upto);
        }
    }

    /// Whether this log holds the entry that the leader says stands before its records. One that is damaged beyond
    /// recognition is taken for it where that is certain (it is committed), or where this leader's appends led there.
    pub(super) fn agrees(&self, prev: EntryId) -> bool {
        let led_there = prev.index <= self.committed.max(self.verified) && !self.terms.is_refuted(prev.index);
        self.terms.holds(prev) || (led_there && self.terms.is_unknown(prev.index))
    }

    /// A node that cannot tell its last entry cannot compare it with a candidate's.
    pub(super) fn knows_last(&self) -> bool {
        !self.terms.is_unknown(self.terms.last().index)
    }

    /// A leader that cannot mend itself within an election timeout hands over, when another can lead.
    pub(super) fn check_hole(&mut self) {
        let Some(hole) = self.damage.hole else { return };
        if self.now.since(self.damage.since) < self.config.election_timeout {
            return;
        }
        if let Some(target) = self.successor(|_peer| true) {
            tracing::warn!(node = %self.config.id, to = %target, %hole, "this log has a hole, handing over");
            reach(Mark::HoleHandedOver);
            self.hand_over(target);
        }
    }

    /// Asks the leader how far the log is committed, when this node needs to know.
    pub(super) fn ask_in_doubt(&mut self) {
        let patience = self.config.election_timeout * 2;
        let (Some(doubt), Some(leader)) = (&mut self.damage.doubt, self.leader) else { return };
        let waits = doubt.asked.is_some_and(|(_name, since)| self.now.since(since) < patience);
        if leader == self.config.id || doubt.committed.is_some() || waits {
            return;
        }
        let token = self.random.number();
        doubt.asked = Some((token, self.now));
        self.send(leader, Body::ReadIndex { token, by_lease: false });
    }

    /// Ends the doubt once this node has again whatever it may have had.
    pub(super) fn settle_doubt(&mut self) {
        let Some(Doubt { committed: Some(committed), believed, .. }) = self.damage.doubt else { return };
        if self.durable_and_verified() >= committed.max(believed) {
            reach(Mark::DoubtEnded);
            tracing::info!(node = %self.config.id, upto = %committed.max(believed), "caught up, votes as before");
            self.damage.end_doubt();
        }
    }

    /// How a granted vote is told: in doubt it counts only when every voter grants.
    pub(super) fn grant(&self, pre_vote: Option<Term>) -> Body {
        match (self.damage.in_doubt(), pre_vote) {
            (false, Some(next)) => Body::PreVoteAnswer { next, granted: true },
            (false, None) => Body::VoteAnswer { granted: true },
            (true, Some(next)) => Body::PreVoteInDoubt { next },
            (true, None) => {
                reach(Mark::VoteInDoubt);
                Body::VoteInDoubt
            }
        }
    }
}
