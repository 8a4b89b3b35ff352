//! The leader's side of replication: what to send to whom, and what is committed.
//!
//! Records go to every follower at the same time as to the leader's own disk; the own append counts towards the
//! quorum once it is durable, like any other (raft.md, rule 2). Orders leave in the turn in which there is
//! something to send and room in the follower's window. When `committed` moves and no append leaves for a follower
//! in that turn, a heartbeat brings it the news at once.
//!
//! Only entries of this term are committed by counting (rule 6; paper, 5.4.2, figure 8): an entry of an earlier
//! term on a majority may still be overwritten by a leader that lacks it. The no-op of this office carries them.

use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::types::{EntryId, Index, Monotonic, NodeId};

use super::core::{NotLeader, Raft};
use super::leadership::State;
use super::message::{AppendOutcome, Body};
use super::progress::Mode;
use super::ready::{LogAppend, Replicate};

impl Raft {
    pub(super) fn on_propose(&mut self, count: u64) -> Result<EntryId, NotLeader> {
        if !matches!(self.state, State::Leader(_)) {
            return Err(NotLeader { leader: self.leader });
        }
        if self.transfer.is_some() {
            return Err(NotLeader { leader: None });
        }
        let after = self.terms.last();
        let first = EntryId::new(after.index.next(), self.vote.term);
        if count > 0 {
            let last = after.index.plus(count);
            self.extend_own(last);
            let append = LogAppend { after, last, truncate: false, invented: None };
            self.outbox.append(append, &mut self.writes, self.now);
        }
        Ok(first)
    }

    pub(super) fn on_append_answer(&mut self, from: NodeId, outcome: AppendOutcome) {
        let last = self.terms.last().index;
        let State::Leader(office) = &mut self.state else { return };
        let Some(peer) = office.peers.get_mut(&from) else { return };
        peer.heard = self.now;
        match outcome {
            // No follower can have verified more than this leader has.
            AppendOutcome::Accepted { durable, verified } => {
                peer.accept(durable.min(last), verified.min(last), office.round, self.now);
            }
            AppendOutcome::Rejected { prev, hint } if hint.index > prev.index && self.terms.holds(hint) => {
                peer.skip_to(prev.index, hint.index);
            }
            AppendOutcome::Rejected { prev, hint } => {
                let place = self.terms.last_at_most(hint.index, hint.term);
                peer.reject(prev.index, place.index, self.terms.base().index, self.now);
            }
        }
        self.commit_by_counting();
    }

    pub(super) fn on_heartbeat_answer(
        &mut self,
        from: NodeId,
        round: u64,
        (durable, verified, written): (Index, Index, Index),
        full: bool,
    ) {
        let last = self.terms.last().index;
        let State::Leader(office) = &mut self.state else { return };
        let Some(peer) = office.peers.get_mut(&from) else { return };
        peer.heard = self.now;
        peer.full = full;
        peer.holed = written > durable;
        peer.round = peer.round.max(round.min(office.round));
        office.lease.heard(self.now);
        let verified = verified.min(last);
        peer.accept(durable.min(last), verified, office.round, self.now);
        peer.release(written.min(last));
        let (retry, patience) = (self.config.heartbeat, self.config.election_timeout);
        peer.look_for_loss((round, verified), retry, patience, self.now);
        self.commit_by_counting();
    }

    /// Commits what a quorum has on disk, as far as it reaches into this term.
    pub(super) fn commit_by_counting(&mut self) {
        let (me, own) = (self.config.id, self.sound());
        let State::Leader(office) = &mut self.state else { return };
        let early = self.plants.has(Plant::OwnAppendEarly);
        let own = if early { self.terms.last().index } else { own };
        let matched = |node: NodeId| office.peers.get(&node).map_or(Index::ZERO, |peer| peer.matched);
        let quorum = match self.plants.has(Plant::RemovedLeaderCounts) && !self.memberships.quorum().is_voter(me) {
            true => &self.memberships.quorum().with(me),
            false => self.memberships.quorum(),
        };
        let agreed = Index(quorum.agreed(|node| if node == me { own } else { matched(node) }.get()));
        let of_this_term = agreed >= office.first_own || self.plants.has(Plant::OldTermByCounting);
        if agreed > self.committed && of_this_term {
            if agreed > own {
                reach(Mark::CommittedBeforeOwn);
            }
            if self.committed < office.first_own {
                office.reads.term_committed(agreed);
            }
            self.set_committed(agreed);
        }
    }

    /// Orders what every follower is to be sent now: records or a probe where there is room, else commit news.
    pub(super) fn order_replication(&mut self) {
        let (commit, term) = (self.committed, self.vote.term);
        let (base, last) = (self.terms.base().index, self.terms.last().index);
        let State::Leader(office) = &mut self.state else { return };
        let mut news = Vec::new();
        for (to, peer) in &mut office.peers {
            let due = match peer.mode {
                Mode::Probe(sent) => sent.is_none().then_some((0, false, peer.next.prev())),
                Mode::Stream if peer.next > last => None,
                Mode::Stream => peer
                    .room(self.config.max_inflight_bytes, self.config.max_inflight_messages)
                    .map(|(bytes, empty)| (bytes, empty, last)),
            };
            let after = self.terms.id_at(peer.next.prev());
            if let (Some((max_bytes, at_least_one, last)), Some(after), false, false) =
                (due, after, peer.ordered, peer.held)
            {
                peer.ordered = true;
                peer.commit_sent = commit;
                let to = *to;
                self.outbox.replicate(Replicate { to, after, last, commit, base, max_bytes, at_least_one });
            } else if peer.commit_sent < commit && peer.mode == Mode::Stream {
                peer.commit_sent = commit;
                news.push(*to);
            }
        }
        let round = office.round;
        let sender = super::outbox::Sender { from: self.config.id, term };
        for to in news {
            self.outbox.send(sender.message(to, Body::Heartbeat { commit, round }));
        }
    }

    pub(super) fn tick_leader(&mut self) {
        let State::Leader(office) = &mut self.state else { return };
        if self.now < office.heartbeat_at {
            return;
        }
        office.heartbeat_at = self.now.after(self.config.heartbeat);
        let (last, patience) = (self.terms.last().index, self.config.election_timeout);
        for peer in office.peers.values_mut() {
            peer.held = false;
            peer.look_at_lag(last, patience, self.now);
        }
        self.check_stall();
        self.check_hole();
        self.check_room();
        self.check_quorum();
        self.check_promotions();
        self.check_preference();
        self.send_heartbeats();
    }

    /// A leader that no quorum answers gives up its office, so that its clients look elsewhere. Silence counts only
    /// when heartbeats were sent into it: a process that was itself asleep has not listened.
    fn check_quorum(&mut self) {
        let beats = self.config.election_timeout.as_micros().div_ceil(self.config.heartbeat.as_micros().max(1));
        let State::Leader(office) = &mut self.state else { return };
        let (me, now) = (self.config.id, self.now);
        let heard = |node: NodeId| office.peers.get(&node).map_or(0, |peer| peer.heard.as_micros());
        let quorum = self.memberships.quorum();
        let heard =
            Monotonic::from_micros(quorum.agreed(|node| if node == me { now.as_micros() } else { heard(node) }));
        if heard > office.quorum_heard {
            office.quorum_heard = heard;
            office.unanswered = 0;
        }
        let silent = now.since(office.quorum_heard) >= self.config.election_timeout;
        if silent && u128::from(office.unanswered) >= beats && !self.plants.has(Plant::NoCheckQuorum) {
            reach(Mark::CheckQuorum);
            tracing::warn!(node = %me, term = %self.vote.term, "no quorum answers, giving up the office");
            return self.become_follower(self.vote.term, None);
        }
        office.unanswered = office.unanswered.saturating_add(1);
    }

    /// A heartbeat round: shows that this node leads, tells what is committed, serves the reads that wait.
    pub(super) fn send_heartbeats(&mut self) {
        let commit = self.committed;
        let State::Leader(office) = &mut self.state else { return };
        office.round = office.round.saturating_add(1);
        let round = office.round;
        office.reads.round_sent(round);
        office.lease.sent(round, self.now);
        let sender = super::outbox::Sender { from: self.config.id, term: self.vote.term };
        for (to, peer) in &mut office.peers {
            peer.commit_sent = commit;
            self.outbox.send(sender.message(*to, Body::Heartbeat { commit, round }));
        }
    }
}
