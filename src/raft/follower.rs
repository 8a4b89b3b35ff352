//! The follower's side of replication (paper, 5.3).
//!
//! Two indexes are kept apart (raft.md, rule 3): `durable`, what is on this disk, and `verified`, how far this
//! term's leader has shown, by a matching `prev`, that its log is the same. A log may well have a durable end that
//! no leader ever had; so a follower answers with the lesser of the two and commits no further than `verified`.

use crate::types::{EntryId, Index, Monotonic, NodeId, Role, Term, TermRun};

use super::core::Raft;
use super::membership::Membership;
use super::message::{AppendOutcome, Body};
use super::ready::LogAppend;

/// An append, as the caller derived it from verified record headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The entry before the first record.
    pub prev: EntryId,
    /// The leader's committed index.
    pub commit: Index,
    /// Terms of the records: cover `prev.index + 1 ..= last`, the first run starts at `prev.index + 1`.
    pub runs: Vec<TermRun>,
    /// Index of the last record; `prev.index` without records.
    pub last: Index,
    /// Memberships among the records, with their indexes, oldest first.
    pub memberships: Vec<(Index, Membership)>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendStep {
    /// It came from nobody this node follows: nothing of it may be used.
    Ignored,
    /// This log does not hold `prev`; the leader is told where to look.
    Rejected,
    /// Records up to here were taken.
    Accepted {
        /// The first record that is new to this log: it and those behind it stand in the next Ready's `append`.
        new_from: Option<Index>,
    },
}

impl Raft {
    /// An append arrived. Drain `ready` after each.
    pub fn step_append(&mut self, now: Monotonic, from: NodeId, term: Term, appended: Appended) -> AppendStep {
        if !self.is_peer(from) {
            return AppendStep::Ignored;
        }
        if term < self.vote.term {
            self.reject(from, appended.prev);
            return AppendStep::Ignored;
        }
        if !self.follow(now, from, term) {
            return AppendStep::Ignored;
        }
        let step = self.take_append(now, from, &appended);
        if let AppendStep::Accepted { .. } = step {
            self.verified = self.verified.max(appended.last);
            self.learn_commit(appended.commit);
            if step == (AppendStep::Accepted { new_from: None }) {
                self.answer_append();
            }
        }
        self.check();
        step
    }

    /// Follows `from`, who says it leads `term`; false when it cannot be.
    fn follow(&mut self, now: Monotonic, from: NodeId, term: Term) -> bool {
        if term == self.vote.term && self.role == Role::Leader {
            tracing::error!(node = %self.config.id, %from, %term, "two leaders in one term");
            return false;
        }
        if term > self.vote.term || self.role != Role::Follower || self.leader != Some(from) {
            if term == self.vote.term && self.leader != Some(from) {
                self.verified = Index::ZERO;
            }
            self.become_follower(now, term, Some(from));
        }
        self.hear_leader(now);
        true
    }

    fn take_append(&mut self, now: Monotonic, from: NodeId, appended: &Appended) -> AppendStep {
        if !self.terms.holds(appended.prev) {
            self.reject(from, appended.prev);
            return AppendStep::Rejected;
        }
        let Some(first) = self.first_new(appended) else {
            return AppendStep::Accepted { new_from: None };
        };
        let truncate = first <= self.terms.last().index;
        if truncate && first <= self.committed {
            tracing::error!(node = %self.config.id, %from, index = %first, "an append contradicts a committed entry");
            return AppendStep::Ignored;
        }
        if truncate {
            self.truncate_after(first.prev());
        }
        let after = self.terms.last();
        self.extend(appended, first);
        self.out.append = Some(LogAppend { after, last: appended.last, truncate, no_op: false });
        self.note_unpersisted(now, None, appended.last);
        AppendStep::Accepted { new_from: Some(first) }
    }

    /// The first record that this log does not hold.
    fn first_new(&self, appended: &Appended) -> Option<Index> {
        let last = self.terms.last().index;
        for (place, run) in appended.runs.iter().enumerate() {
            let end = appended.runs.get(place + 1).map_or(appended.last, |next| next.first.prev());
            let mut index = run.first;
            while index <= end {
                if index > last || self.terms.term(index) != Some(run.term) {
                    return Some(index);
                }
                index = index.next();
            }
        }
        None
    }

    /// Cuts the log above `index`. What of it is still on its way to the disk is no longer what will stand there
    /// (raft.md, rule 1): its completion says nothing beyond `index`.
    fn truncate_after(&mut self, index: Index) {
        self.terms.truncate_after(index);
        self.memberships.truncate_after(index);
        self.durable = self.durable.min(index);
        self.verified = self.verified.min(index);
        for write in &mut self.unpersisted {
            write.last = write.last.min(index);
        }
    }

    fn extend(&mut self, appended: &Appended, first: Index) {
        for (place, run) in appended.runs.iter().enumerate() {
            let end = appended.runs.get(place + 1).map_or(appended.last, |next| next.first.prev());
            if end >= first {
                self.terms.extend(run.term, end.next().get() - run.first.max(first).get());
            }
        }
        for (index, membership) in &appended.memberships {
            if *index >= first {
                self.memberships.push(*index, membership.clone());
            }
        }
    }

    /// Where this log parts from the leader's: the last entry, at or before `prev`, of a term not later than
    /// `prev`'s, so that one round skips a whole term (paper, end of 5.3).
    fn reject(&mut self, from: NodeId, prev: EntryId) {
        let hint = self.terms.last_at_most(prev.term, prev.index);
        let outcome = AppendOutcome::Rejected { prev, hint };
        self.send_after_durable(from, Body::AppendAnswer { outcome });
    }

    /// Tells the leader how far this log is durable and the same as its own.
    pub(super) fn answer_append(&mut self) {
        if let Some(leader) = self.leader
            && !self.verified.is_zero()
        {
            let outcome = AppendOutcome::Accepted { durable: self.durable.min(self.verified) };
            self.send_after_durable(leader, Body::AppendAnswer { outcome });
        }
    }

    fn learn_commit(&mut self, commit: Index) {
        let known = commit.min(self.verified);
        if known > self.committed {
            self.committed = known;
            self.out.committed = Some(known);
        }
    }

    /// A heartbeat: answered at once, whatever the disk does.
    pub(super) fn step_heartbeat(&mut self, now: Monotonic, from: NodeId, term: Term, commit: Index, round: u64) {
        if term < self.vote.term {
            return self.send(from, Body::HeartbeatAnswer { round: 0 });
        }
        if self.follow(now, from, term) {
            self.learn_commit(commit);
            if round > 0 {
                self.send(from, Body::HeartbeatAnswer { round });
            }
        }
    }
}
