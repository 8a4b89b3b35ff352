//! ReadIndex: linearizable reads without writing the log (thesis, section 6.4).
//!
//! ```text
//!   question ─┬─ no entry of this term committed yet ──► early ──committed──┐
//!             └────────────────────────────────────────────────────────────►│
//!                       waiting (index = committed) ──round sent──► asked ──quorum answered──► done
//! ```
//! A round of heartbeats confirms that this node still led when the round was *sent*; so it serves only questions
//! that came before. While one round is on its way the next questions gather for the one after it: under load one
//! round serves them all.

use std::collections::BTreeMap;

use crate::types::{Index, Monotonic, NodeId, Role};

use super::core::Raft;
use super::message::Body;
use super::ready::ReadState;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Own(u64),
    Peer(NodeId, u64),
}

/// Questions of this node and, on a leader, of its followers.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadIndex {
    /// The newest round sent.
    round: u64,
    /// Leader: questions before an entry of this term was committed.
    early: Vec<Asker>,
    /// Leader: questions for the next round, each with the index committed when it came.
    waiting: Vec<(Asker, Index)>,
    /// Leader: questions of the round on its way.
    asked: Vec<(Asker, Index)>,
    /// Follower: questions put to the leader, and when to give them up.
    put: BTreeMap<u64, Monotonic>,
}

impl ReadIndex {
    /// The round that heartbeats carry; 1 at least, so that each is answered.
    pub(super) fn round(&self) -> u64 {
        self.round.max(1)
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.put.values().min().copied()
    }
}

impl Raft {
    /// Asks at which index a read that arrived just now is linearizable. The answer, or that there is none, comes
    /// in a Ready's `reads` under `token`.
    pub fn read_index(&mut self, now: Monotonic, token: u64) {
        match (self.role, self.leader) {
            (Role::Leader, _) => self.lead_question(now, Asker::Own(token)),
            (Role::Follower | Role::Learner, Some(leader)) => {
                self.reads.put.insert(token, now.after(self.config.election_timeout));
                self.send(leader, Body::ReadIndex { token });
            }
            _ => self.out.reads.push(ReadState { token, index: None }),
        }
    }

    pub(super) fn step_read_index(&mut self, now: Monotonic, from: NodeId, token: u64) {
        if self.role == Role::Leader {
            self.lead_question(now, Asker::Peer(from, token));
        } else {
            self.send(from, Body::ReadIndexAnswer { token, index: None });
        }
    }

    /// The leader answered; believed only from the leader of this term.
    pub(super) fn step_read_index_answer(&mut self, from: NodeId, token: u64, index: Option<Index>) {
        if self.leader == Some(from) && self.reads.put.remove(&token).is_some() {
            self.out.reads.push(ReadState { token, index });
        }
    }

    fn lead_question(&mut self, now: Monotonic, asker: Asker) {
        if self.terms.term(self.committed) != Some(self.vote.term) {
            return self.reads.early.push(asker);
        }
        self.reads.waiting.push((asker, self.committed));
        if self.reads.asked.is_empty() {
            self.start_round(now);
        }
    }

    /// An entry of this term is committed: what waited for it may go.
    pub(super) fn release_early_reads(&mut self, now: Monotonic) {
        if self.reads.early.is_empty() {
            return;
        }
        let committed = self.committed;
        let early = std::mem::take(&mut self.reads.early);
        self.reads.waiting.extend(early.into_iter().map(|asker| (asker, committed)));
        if self.reads.asked.is_empty() {
            self.start_round(now);
        }
    }

    fn start_round(&mut self, now: Monotonic) {
        if self.reads.waiting.is_empty() {
            return;
        }
        self.reads.asked = std::mem::take(&mut self.reads.waiting);
        self.reads.round = self.reads.round() + 1;
        self.send_heartbeats(self.reads.round);
        self.finish_round(now);
    }

    pub(super) fn step_heartbeat_answer(&mut self, now: Monotonic, from: NodeId, round: u64) {
        let Some(follower) = self.followers.get_mut(&from) else { return };
        follower.heard = now;
        follower.round = follower.round.max(round);
        self.finish_round(now);
    }

    fn finish_round(&mut self, now: Monotonic) {
        let round = self.reads.round;
        let confirms =
            |id| id == self.config.id || self.followers.get(&id).is_some_and(|follower| follower.round >= round);
        if self.reads.asked.is_empty() || !self.memberships.voters().agree(confirms) {
            return;
        }
        for (asker, index) in std::mem::take(&mut self.reads.asked) {
            self.answer_question(asker, Some(index));
        }
        self.start_round(now);
    }

    fn answer_question(&mut self, asker: Asker, index: Option<Index>) {
        match asker {
            Asker::Own(token) => self.out.reads.push(ReadState { token, index }),
            Asker::Peer(peer, token) => self.send(peer, Body::ReadIndexAnswer { token, index }),
        }
    }

    /// Role, term or leader changes: nobody can answer what was asked of the old one.
    pub(super) fn abandon_reads(&mut self) {
        let reads = std::mem::take(&mut self.reads);
        // Rounds go on counting, so that an answer to an old one cannot confirm a new one.
        self.reads.round = reads.round;
        let led = reads.waiting.into_iter().chain(reads.asked).map(|(asker, _index)| asker);
        for asker in reads.early.into_iter().chain(led) {
            self.answer_question(asker, None);
        }
        for token in reads.put.into_keys() {
            self.out.reads.push(ReadState { token, index: None });
        }
    }

    /// Gives up questions that the leader did not answer in time.
    pub(super) fn expire_questions(&mut self, now: Monotonic) {
        let late: Vec<u64> = self.reads.put.iter().filter(|(_, due)| **due <= now).map(|(token, _)| *token).collect();
        for token in late {
            self.reads.put.remove(&token);
            self.out.reads.push(ReadState { token, index: None });
        }
    }
}
