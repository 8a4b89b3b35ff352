//! What holds of a core at every step, and between two steps.
//!
//! `base <= applied <= committed <= last` and `durable <= last`; a leader follows itself; only a leader knows
//! followers; what is verified is in the log. Debug builds check after every input.

use crate::types::{Index, Role};

use super::core::Raft;

impl Raft {
    /// Panics in debug builds when the core is not sound: a bug of ours.
    pub(super) fn check(&self) {
        #[cfg(debug_assertions)]
        if let Some(broken) = self.broken() {
            debug_assert!(false, "node {}: {broken}: {self:?}", self.config.id);
        }
    }

    /// The first invariant that does not hold.
    #[must_use]
    pub fn broken(&self) -> Option<&'static str> {
        let last = self.terms.last().index;
        let rules = [
            (self.terms.is_sound(), "runs of terms are ordered and cover the log"),
            (self.terms.base().index <= self.applied, "base <= applied"),
            (self.applied <= self.committed, "applied <= committed"),
            (self.committed <= last, "committed <= last"),
            (self.durable <= last, "durable <= last"),
            (self.verified <= last, "verified <= last"),
            (self.unpersisted.iter().all(|write| write.last <= last), "writes under way are in the log"),
            ((self.role == Role::Leader) == (self.leader == Some(self.config.id)), "a leader follows itself"),
            (self.role == Role::Leader || self.followers.is_empty(), "only a leader knows followers"),
            (self.followers.values().all(|follower| follower.matched < follower.next), "matched < next"),
            (self.terms.last().term <= self.vote.term, "no entry is of a later term"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
    }

    /// The first rule broken between `self` and its later state.
    #[must_use]
    pub fn broken_since(&self, later: &Self) -> Option<&'static str> {
        let same_term = self.vote.term == later.vote.term;
        let voted = !self.vote.voted_for.is_zero();
        let leads_on = self.role == Role::Leader && later.role == Role::Leader && same_term;
        let kept = |index: Index| self.terms.term(index) == later.terms.term(index);
        let rules = [
            (later.vote.term >= self.vote.term, "terms never fall"),
            (!same_term || !voted || later.vote.voted_for == self.vote.voted_for, "one vote a term"),
            (later.committed >= self.committed, "committed never falls"),
            (later.applied >= self.applied, "applied never falls"),
            (kept(self.committed), "committed entries stay"),
            (!leads_on || kept(self.terms.last().index), "a leader only appends"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
    }
}
