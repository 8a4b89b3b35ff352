//! A leader that could go on, but not serve its clients, gives its office to one who can.
//!
//! ```text
//!   cannot read its log (damage.rs) ──┐
//!   no room for writes (here) ────────┴─ an election timeout long ─► successor: fit, heard lately, electable ─► HandOver
//! ```
//! A hand-over costs an election that may fail, so it waits: what is wrong may pass. And it needs somebody who would
//! win: this node votes for one with its whole log; others elect one with all that is committed, when they are a quorum
//! without it. Where there is nobody the leader stays. A disk that hangs is another matter (`stall.rs`): then those who
//! follow have gone on without it.

use crate::simulation::marks::{Mark, reach};
use crate::types::{Index, Monotonic, NodeId};

use super::core::Raft;
use super::leadership::State;
use super::message::Body;
use super::progress::Progress;

impl Raft {
    /// Whether this node has room for what clients write: on its disk, and in a state machine that has not stopped. Tell it
    /// whenever that changes.
    pub fn room(&mut self, now: Monotonic, has_room: bool) {
        match (has_room, self.full_since) {
            (true, Some(_)) => self.full_since = None,
            (false, None) => self.full_since = Some(now),
            (true, None) | (false, Some(_)) => {}
        }
    }

    /// A leader that refuses its clients' writes for want of room hands over to a voter that has some.
    pub(super) fn check_room(&mut self) {
        let Some(since) = self.full_since else { return };
        if self.now.since(since) < self.config.election_timeout {
            return;
        }
        if let Some(target) = self.successor(|peer| !peer.full) {
            tracing::warn!(node = %self.config.id, to = %target, "this node has no room for writes, handing over");
            reach(Mark::FullHandedOver);
            self.hand_over(target);
        }
    }

    /// The most advanced fit voter that was heard within an election timeout and would be elected now. Whoever has not
    /// answered a heartbeat of this office has not said yet whether it is fit.
    pub(super) fn successor(&self, fit: impl Fn(&Progress) -> bool) -> Option<NodeId> {
        let State::Leader(office) = &self.state else { return None };
        let patience = self.config.election_timeout;
        let fresh = |node: NodeId| office.peers.get(&node).filter(|peer| peer.answers(patience, self.now));
        let quorum = self.memberships.quorum();
        let voters = self.memberships.staying();
        // The first of the most advanced, so that the choice does not depend on anything else.
        let candidates =
            voters.filter_map(|node| fresh(node).filter(|peer| fit(peer)).map(|peer| (peer.matched, node)));
        let (matched, target): (Index, NodeId) = candidates.max_by_key(|(matched, _node)| *matched)?;
        let others = quorum.tally(|node| Some(fresh(node).is_some())) == super::quorum::Tally::Won;
        (matched >= self.terms.last().index || (others && matched >= self.committed)).then_some(target)
    }

    /// Gives the office away at once. Where that comes to nothing an election by time follows.
    pub(super) fn hand_over(&mut self, target: NodeId) {
        self.send(target, Body::HandOver);
        self.become_follower(self.vote.term, None);
    }
}
