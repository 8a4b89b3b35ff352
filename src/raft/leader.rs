//! The leader's side: taking office, replication, commit, and giving the office up (paper, 5.3 and 5.4; thesis 6.2).

use std::collections::BTreeMap;

use thiserror::Error;

use crate::types::{EntryId, Index, Monotonic, NodeId, Role};

use super::core::Raft;
use super::message::{AppendOutcome, Body};
use super::progress::Progress;
use super::ready::{LogAppend, Replicate};

/// The node does not lead; certainly nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this node does not lead")]
pub struct NotLeader {
    /// Who does, where known.
    pub leader: Option<NodeId>,
}

impl Raft {
    /// Appends `count` entries; the answer is the first. The caller frames them and
    /// drains `ready`, whose `append` names them.
    ///
    /// # Errors
    /// When this node does not lead.
    pub fn propose(&mut self, now: Monotonic, count: u64) -> Result<EntryId, NotLeader> {
        if self.role != Role::Leader {
            return Err(NotLeader { leader: self.leader });
        }
        Ok(self.append_own(now, count, false))
    }

    fn append_own(&mut self, now: Monotonic, count: u64, no_op: bool) -> EntryId {
        let after = self.terms.last();
        self.terms.extend(self.vote.term, count);
        let last = self.terms.last().index;
        self.out.append = Some(LogAppend { after, last, truncate: false, no_op });
        self.note_unpersisted(now, None, last);
        for follower in self.followers.values_mut() {
            follower.stirred = true;
        }
        self.check();
        EntryId::new(after.index.next(), self.vote.term)
    }

    /// Takes office with a no-op: only an entry of its own term lets a leader commit those before (paper, 5.4.2 and
    /// section 8).
    pub(super) fn become_leader(&mut self, now: Monotonic) {
        self.role = Role::Leader;
        self.leader = Some(self.config.id);
        self.election.votes.clear();
        let last = self.terms.last().index;
        self.followers = self.peers().into_iter().map(|id| (id, Progress::new(last, now))).collect();
        self.quorum_due = now.after(self.config.election_timeout);
        self.append_own(now, 1, true);
        self.show_leadership(now);
    }

    pub(super) fn tick_leader(&mut self, now: Monotonic) {
        if now >= self.quorum_due {
            self.quorum_due = now.after(self.config.election_timeout);
            if !self.has_quorum(now) {
                tracing::warn!(node = %self.config.id, term = %self.vote.term, "stepping down: no quorum answers");
                return self.step_down(now);
            }
            if let Some(successor) = self.successor_for_stalled_disk(now) {
                tracing::warn!(node = %self.config.id, %successor, "stepping down: this node's disk stalls");
                self.send(successor, Body::HandOver);
                self.election.disk_stalls();
                return self.step_down(now);
            }
            self.probe_the_silent(now);
        }
        if now >= self.heartbeat_due {
            self.show_leadership(now);
        }
    }

    fn show_leadership(&mut self, now: Monotonic) {
        self.heartbeat_due = now.after(self.config.heartbeat);
        self.send_heartbeats(self.reads.round());
    }

    pub(super) fn send_heartbeats(&mut self, round: u64) {
        let commit = self.committed;
        for id in self.peers() {
            if let Some(follower) = self.followers.get_mut(&id) {
                follower.told = commit;
            }
            self.send(id, Body::Heartbeat { commit, round });
        }
    }

    /// Tells the committed index to followers whom no append has told: call at the end of a turn, so that it rides
    /// on an append when one leaves anyway.
    pub fn announce_commit(&mut self) {
        let commit = self.committed;
        let behind: Vec<NodeId> =
            self.followers.iter().filter(|(_id, follower)| follower.told < commit).map(|(id, _)| *id).collect();
        for id in behind {
            if let Some(follower) = self.followers.get_mut(&id) {
                follower.told = commit;
            }
            self.send(id, Body::Heartbeat { commit, round: 0 });
        }
    }

    fn step_down(&mut self, now: Monotonic) {
        self.become_follower(now, self.vote.term, None);
    }

    /// Check-quorum (thesis, 6.2): a leader that a quorum has not answered for an election timeout may have been
    /// replaced.
    fn has_quorum(&self, now: Monotonic) -> bool {
        let timeout = self.config.election_timeout;
        let answers = |id| {
            id == self.config.id || self.followers.get(&id).is_some_and(|follower| now.since(follower.heard) <= timeout)
        };
        self.memberships.voters().agree(answers)
    }

    /// Whom to give the office to, when this disk has not finished a write for two election timeouts and a quorum
    /// of the others has. When all disks stall nobody does better.
    fn successor_for_stalled_disk(&self, now: Monotonic) -> Option<NodeId> {
        let oldest = self.unpersisted.iter().find(|write| !write.last.is_zero())?;
        if now.since(oldest.since) <= self.config.election_timeout * 2 {
            return None;
        }
        let has = |id: NodeId| self.followers.get(&id).is_some_and(|follower| follower.matched >= oldest.last);
        if !self.memberships.voters().agree(has) {
            return None;
        }
        let voters = self.followers.iter().filter(|(id, _)| self.memberships.voters().contains(**id));
        voters.max_by_key(|(_, follower)| follower.matched).map(|(id, _)| *id)
    }

    /// Appends may have been lost with their connection: look again where a follower stands that has answered none
    /// for a while.
    fn probe_the_silent(&mut self, now: Monotonic) {
        let timeout = self.config.election_timeout;
        for follower in self.followers.values_mut() {
            if follower.is_waiting() && now.since(follower.answered) > timeout {
                follower.look_again();
            }
        }
    }

    /// What was on its way to `peer` is lost: its bulk connection closed or was opened anew.
    pub fn appends_lost(&mut self, peer: NodeId) {
        if let Some(follower) = self.followers.get_mut(&peer) {
            follower.look_again();
        }
    }

    /// Orders what each follower has room for; at most one order a follower, until `sent` says what became of it.
    pub(super) fn order_replication(&mut self) {
        let last = self.terms.last().index;
        let commit = self.committed;
        let (bytes, messages) = (self.config.max_inflight_bytes, self.config.max_inflight_messages);
        for (id, follower) in &mut self.followers {
            if !std::mem::take(&mut follower.stirred) {
                continue;
            }
            let Some(max_bytes) = follower.room(bytes, messages) else { continue };
            if follower.next > last && !follower.is_probing() {
                continue;
            }
            let Some(after) = self.terms.entry(follower.next.prev()) else {
                tracing::error!(peer = %id, next = %follower.next, "a follower needs entries below the log's base");
                continue;
            };
            follower.told = commit;
            self.out.replicate.push(Replicate { to: *id, after, last, commit, max_bytes });
        }
    }

    /// An order to replicate became an append up to `last` with `bytes` of records.
    pub fn sent(&mut self, now: Monotonic, to: NodeId, last: Index, bytes: u64) {
        if let Some(follower) = self.followers.get_mut(&to) {
            follower.sent(last, bytes, now);
        }
    }

    pub(super) fn step_append_answer(&mut self, now: Monotonic, from: NodeId, outcome: AppendOutcome) {
        let own_last = self.terms.last().index;
        let Some(follower) = self.followers.get_mut(&from) else { return };
        follower.heard = now;
        match outcome {
            AppendOutcome::Accepted { durable } if durable <= own_last => {
                follower.accepted(durable, now);
                self.advance_commit(now);
            }
            AppendOutcome::Accepted { durable } => {
                tracing::error!(peer = %from, %durable, last = %own_last, "a follower claims more than there is");
            }
            AppendOutcome::Rejected { prev, hint } => {
                if follower.believes_rejection(prev.index) {
                    let next = self.terms.last_at_most(hint.term, hint.index).index.next();
                    follower.probe(next.min(prev.index));
                }
            }
        }
    }

    /// Counts replicas. Only an entry of the present term is committed by counting, and with it all before it
    /// (paper, 5.4.2, figure 8); this node's own copy counts once it is durable (raft.md, rule 2).
    pub(super) fn advance_commit(&mut self, now: Monotonic) {
        let reached = self.memberships.voters().reached(|id| {
            if id == self.config.id {
                return self.durable;
            }
            self.followers.get(&id).map_or(Index::ZERO, |follower| follower.matched)
        });
        if reached > self.committed && self.terms.term(reached) == Some(self.vote.term) {
            self.committed = reached;
            self.out.committed = Some(reached);
            self.release_early_reads(now);
        }
    }

    /// Followers that this leader knows of, for a status.
    #[must_use]
    pub fn followers(&self) -> BTreeMap<NodeId, Index> {
        self.followers.iter().map(|(id, follower)| (*id, follower.matched)).collect()
    }
}
