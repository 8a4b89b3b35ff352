//! The follower's side of replication (paper, 5.3).
//!
//! An append says: after `prev` stand these entries. When this log holds `prev`, everything up to the append's last
//! entry is *verified* to match the leader's log, whether it was there already or is new. Entries that differ are
//! cut first; entries that merely are not in this append stay.
//!
//! The answer carries `min(durable, verified)` (raft.md, rule 3): a tail that is on this disk but was written under
//! another leader is not verified and must not be counted. `committed` moves to `min(leader's, verified)` for the
//! same reason. Answers leave when they are true: at once for what is durable, otherwise from
//! [`super::core::Raft::persisted`]; and never before this node's term is durable.
//!
//! A leader whose entries differ from a *committed* entry breaks the protocol (or this disk does). Then nothing is
//! cut and nothing answered: losing service is better than losing what was acknowledged.

use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::types::{EntryId, Index, NodeId, Term, TermRun};

use super::core::Raft;
use super::membership::Membership;
use super::message::{AppendOutcome, Body};
use super::ready::{Lack, LogAppend};

/// An append, as the caller derived it from the message and from the verified headers of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The entry before the first record.
    pub prev: EntryId,
    /// The leader's committed index.
    pub commit: Index,
    /// The index before the first that the leader has.
    pub base: Index,
    /// Runs of terms over `prev.index + 1 ..= last`; the first starts there. Empty for a probe.
    pub runs: Vec<TermRun>,
    /// Index of the last record; `prev.index` for a probe.
    pub last: Index,
    /// Memberships among the records, ascending.
    pub memberships: Vec<(Index, Membership)>,
    /// An entry whose term this log does not know, when the places of the records show that the leader has others there.
    pub refutes: Option<Index>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendStep {
    /// It was not from this term's leader, or broke the protocol; nothing changed in the log.
    Ignored,
    /// This log does not hold `prev`; the leader is told.
    Rejected,
    /// It fits.
    Accepted {
        /// The first record that is new to this log and stands, with all after it, in the next Ready's append;
        /// `None` when there is none.
        new_from: Option<Index>,
    },
}

impl Appended {
    /// The entry at one of the indexes from `prev.index` on.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        let run = self.runs.iter().rev().find(|run| run.first <= index && index <= self.last);
        let term = run.map(|run| run.term).or((index == self.prev.index).then_some(self.prev.term))?;
        Some(EntryId::new(index, term))
    }

    /// Whether runs and memberships are those of contiguous records of a leader in `term`.
    fn is_well_formed(&self, term: Term) -> bool {
        let first = self.prev.index.next();
        let starts = match self.runs.first() {
            None => self.last == self.prev.index,
            Some(run) => run.first == first && run.term >= self.prev.term && self.last >= first,
        };
        let ascend = self.runs.windows(2).all(|pair| match pair {
            [one, next] => one.first < next.first && one.term < next.term,
            _ => false,
        });
        let end = self.runs.last().is_none_or(|run| run.first <= self.last && run.term <= term);
        let held = |index: Index| index >= first && index <= self.last;
        let members = self.memberships.windows(2).all(|pair| match pair {
            [(one, _), (next, _)] => one < next,
            _ => false,
        });
        starts && ascend && end && members && self.memberships.iter().all(|(index, _)| held(*index))
    }
}

impl Raft {
    pub(super) fn on_append(&mut self, from: NodeId, term: Term, appended: Appended) -> AppendStep {
        if self.is_stranger(from) {
            tracing::debug!(%from, "append of a node that was removed; ignored");
            return AppendStep::Ignored;
        }
        if term < self.vote.term {
            self.send_rejection(from, appended.prev);
            return AppendStep::Ignored;
        }
        if !appended.is_well_formed(term) {
            tracing::error!(%from, ?appended, "malformed append; ignored");
            return AppendStep::Ignored;
        }
        if term > self.vote.term {
            self.become_follower(term, Some(from));
        }
        if !self.hear_leader(from) {
            return AppendStep::Ignored;
        }
        self.refute(&appended);
        let prev = appended.prev;
        let blind = self.plants.has(Plant::PrevNotChecked) && prev.index <= self.terms.last().index;
        if prev.index > self.committed && !self.agrees(prev) && !blind {
            reach(Mark::AppendRejected);
            self.damage.believed(prev.index);
            self.send_rejection(from, prev);
            if prev.index <= appended.base {
                reach(Mark::Lacks);
                self.outbox.lacks(Lack { leader: from, base: appended.base });
            }
            return AppendStep::Rejected;
        }
        // A probe before the start of this log, which a snapshot has set: the answer says where it starts.
        if prev.index < self.terms.base().index && appended.last == prev.index {
            self.send_rejection(from, prev);
            return AppendStep::Rejected;
        }
        // Below the base the terms are forgotten; what is there is committed, and the base itself is known.
        let base = self.terms.base();
        let differs = match appended.id_at(base.index) {
            _ if blind => false,
            Some(known) if prev.index < base.index => known != base,
            Some(_) | None => prev.index >= base.index && !self.agrees(prev),
        };
        let new_from = self.terms.first_new(prev.index, &appended.runs, appended.last);
        let cuts = new_from.is_some_and(|first| first <= self.committed.max(self.verified));
        if differs || cuts {
            tracing::error!(
                %from, %term, %prev, ?new_from, committed = %self.committed, verified = %self.verified,
                "an append contradicts what is committed or what its leader sent before; ignored"
            );
            return AppendStep::Ignored;
        }
        self.take_over(appended, new_from);
        AppendStep::Accepted { new_from }
    }

    /// Entries that nobody recognises turn out not to be the leader's. Some of the first of them may be, and may have
    /// been acknowledged: once they are cut, this node's own word is in doubt until they are back.
    fn refute(&mut self, appended: &Appended) {
        let by_terms = self.terms.refuted_by(&appended.runs, appended.last);
        for one in appended.refutes.into_iter().chain(by_terms) {
            if let Some(first) = self.terms.refute(one, self.committed) {
                reach(Mark::Refuted);
                tracing::warn!(node = %self.config.id, %first, "damaged entries are not those of the leader");
                self.verified = self.verified.min(first.prev());
                self.damage.begin_doubt();
            }
        }
    }

    fn take_over(&mut self, appended: Appended, new_from: Option<Index>) {
        if let Some(first) = new_from {
            let truncate = first <= self.terms.last().index;
            if truncate {
                reach(Mark::AppendTruncated);
                self.truncate(first.prev());
            }
            // Where this log does not know the term of the entry before, the leader does.
            let after = appended.id_at(first.prev()).unwrap_or_else(|| self.terms.last());
            let append = LogAppend { after, last: appended.last, truncate, invented: None };
            self.terms.extend(&appended.runs, appended.last);
            self.memberships.adopt(appended.memberships.into_iter().filter(|(index, _)| *index >= first));
            self.outbox.append(append, &mut self.writes, self.now);
        }
        self.verified = self.verified.max(appended.last.min(self.terms.last().index));
        self.set_committed(appended.commit.min(self.may_be_committed()));
        // New records are answered once durable; an answer now would say nothing new.
        if new_from.is_none() || self.plants.has(Plant::AppendAnsweredEarly) {
            self.answer_append();
        }
    }

    /// Nothing above it may be held for committed here, whatever the leader's commit: it may be another entry.
    fn may_be_committed(&self) -> Index {
        if self.plants.has(Plant::CommitBeyondVerified) { self.terms.last().index } else { self.verified }
    }

    /// What is both on this disk, before any hole, and verified to match the leader's log.
    pub(super) fn durable_and_verified(&self) -> Index {
        if self.plants.has(Plant::AppendAnsweredEarly) {
            return self.verified;
        }
        if self.plants.has(Plant::DivergentTailCounted) {
            return self.sound();
        }
        self.sound().min(self.verified)
    }

    fn answer_append(&mut self) {
        let Some(leader) = self.leader else { return };
        let durable = self.durable_and_verified();
        self.answered = durable;
        let outcome = AppendOutcome::Accepted { durable, verified: self.verified };
        self.send_in_term(leader, Body::AppendAnswer { outcome });
    }

    /// The disk has moved: tells the leader, if it does not know.
    pub(super) fn answer_what_became_durable(&mut self) {
        if self.leader.is_some_and(|leader| leader != self.config.id) && self.durable_and_verified() > self.answered {
            self.answer_append();
        }
    }

    pub(super) fn on_heartbeat(&mut self, from: NodeId, commit: Index, round: u64) {
        if !self.hear_leader(from) {
            return;
        }
        self.promise();
        self.set_committed(commit.min(self.may_be_committed()));
        let in_term = self.durable_vote.term == self.vote.term;
        let durable = if in_term { self.durable_and_verified() } else { Index::ZERO };
        let written = if in_term { self.durable.min(self.verified) } else { Index::ZERO };
        let (verified, full) = (self.verified, self.full_since.is_some());
        self.send(from, Body::HeartbeatAnswer { round, durable, verified, written, full });
    }
}
