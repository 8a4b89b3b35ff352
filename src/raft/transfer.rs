//! Giving the office to a chosen node (thesis, 3.10), because a caller asks, because that node is preferred
//! (`preference.rs`), or because this leader was removed (`members.rs`).
//!
//! ```text
//!   transfer ──► no new proposals ──► the target has the whole log ──► HandOver ──► it leads: done
//!                     │                                                    │
//!                     └──────────────── an election timeout ───────────────┴──► given up: proposals again
//! ```
//! This leader goes on with its heartbeats and reads until a later term takes its office: should the target fail, or
//! the message be lost, it only has to take proposals again. A leader that *cannot* serve any more does not wait for
//! that; `hand_over.rs` gives its office away at once.
//!
//! A transfer costs no safety: the target stands for election like anybody, only at once and past stickiness, and past the
//! promises of a read lease, which this leader ends before it says so.

use thiserror::Error;

use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::types::{Monotonic, NodeId};

use super::core::Raft;
use super::leadership::State;
use super::message::Body;

/// Why leadership stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferRefused {
    /// Only the leader has something to give.
    #[error("this node does not lead; ask {}", leader.map_or("the leader once there is one".to_owned(), |id| format!("node {id}")))]
    NotLeader {
        /// Who does, where known.
        leader: Option<NodeId>,
    },
    /// One at a time.
    #[error("the leader is already handing over to node {to}")]
    UnderWay {
        /// To whom.
        to: NodeId,
    },
    /// It leads already.
    #[error("node {to} leads already")]
    LeadsAlready {
        /// Who is meant.
        to: NodeId,
    },
    /// Only a voter leads, and none that is about to leave.
    #[error("node {to} is not a voter of this cluster")]
    NotAVoter {
        /// Who is meant.
        to: NodeId,
    },
    /// Writes would stand still for nothing.
    #[error("node {to} does not answer, cannot read its log or has no room; it could not lead now")]
    Unfit {
        /// Who is meant.
        to: NodeId,
    },
}

/// How a transfer that was asked for ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEnd {
    /// The target leads.
    Done,
    /// Another node leads, in a later term.
    OtherLeads(NodeId),
    /// It took too long. Either this node leads as before, or nobody is known to lead; the target may still win.
    GivenUp,
}

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    to: NodeId,
    deadline: Monotonic,
    /// The target was told to stand for election.
    told: bool,
    purpose: Purpose,
}

/// Why the office is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A caller waits for the end.
    Asked,
    /// The target is preferred.
    Preferred,
    /// This leader is no member any more: it leaves whatever becomes of it.
    Removed,
}

impl Transfer {
    pub(super) const fn deadline(self) -> Monotonic {
        self.deadline
    }
}

impl Raft {
    /// Gives the office to `to`. How it ended stands in a later Ready's `transfer`, once, within three election timeouts.
    /// Until then nothing is proposed here.
    ///
    /// # Errors
    /// [`TransferRefused`]; nothing has happened then.
    pub fn transfer_leadership(&mut self, now: Monotonic, to: NodeId) -> Result<(), TransferRefused> {
        self.turn(now, |raft| raft.on_transfer(to))
    }

    fn on_transfer(&mut self, to: NodeId) -> Result<(), TransferRefused> {
        let State::Leader(office) = &self.state else {
            return Err(TransferRefused::NotLeader { leader: self.leader });
        };
        if let Some(transfer) = self.transfer {
            return Err(TransferRefused::UnderWay { to: transfer.to });
        }
        if to == self.config.id {
            return Err(TransferRefused::LeadsAlready { to });
        }
        if !self.memberships.staying().any(|voter| voter == to) {
            return Err(TransferRefused::NotAVoter { to });
        }
        let able = office
            .peers
            .get(&to)
            .is_some_and(|peer| peer.answers(self.config.election_timeout, self.now) && !peer.full && !peer.holed);
        if !able {
            return Err(TransferRefused::Unfit { to });
        }
        self.begin_transfer(to, Purpose::Asked);
        Ok(())
    }

    /// This node is about to stop: when it leads and a fit voter answers, that one takes over first, so that nobody has to
    /// wait for an election. It is under way as long as there is a [`Raft::transfer_target`].
    pub fn step_aside(&mut self, now: Monotonic) {
        self.turn(now, |raft| {
            if raft.transfer.is_none()
                && let Some(to) = raft.successor(|peer| !peer.full && !peer.holed)
            {
                raft.begin_transfer(to, Purpose::Preferred);
            }
        });
    }

    pub(super) fn begin_transfer(&mut self, to: NodeId, purpose: Purpose) {
        tracing::info!(node = %self.config.id, %to, ?purpose, "handing over");
        let deadline = self.now.after(self.config.election_timeout);
        self.transfer = Some(Transfer { to, deadline, told: false, purpose });
    }

    /// To whom the office is being given.
    #[must_use]
    pub fn transfer_target(&self) -> Option<NodeId> {
        self.transfer.map(|transfer| transfer.to)
    }

    /// This leader's own removal is committed: the best of the others takes over at once.
    pub(super) fn leave(&mut self) {
        if self.transfer.is_some_and(|transfer| transfer.purpose == Purpose::Removed) {
            return;
        }
        // A transfer that a caller asked for goes on; it ends the same way.
        if let Some(transfer) = &mut self.transfer {
            if transfer.purpose == Purpose::Preferred {
                transfer.purpose = Purpose::Removed;
            }
            return;
        }
        match self.successor(|peer| !peer.full && !peer.holed).or_else(|| self.successor(|_peer| true)) {
            Some(to) => self.begin_transfer(to, Purpose::Removed),
            None => {
                tracing::warn!(node = %self.config.id, "removed, and nobody is known to be able to take over");
                self.become_follower(self.vote.term, None);
            }
        }
    }

    /// Tells the target once it has the whole log.
    pub(super) fn settle_transfer(&mut self) {
        let (State::Leader(office), Some(transfer)) = (&self.state, self.transfer) else { return };
        let last = self.terms.last().index;
        let has_all = office.peers.get(&transfer.to).is_some_and(|peer| peer.matched >= last);
        // A leader that was removed hears nothing afterwards: what it proposed it sees committed before.
        let leaves_early = transfer.purpose == Purpose::Removed && self.committed < last;
        let unchecked = self.plants.has(Plant::HandOverUnchecked);
        if transfer.told || !(has_all || unchecked) || leaves_early {
            return;
        }
        if transfer.purpose == Purpose::Removed {
            reach(Mark::RemovedHandedOver);
            self.transfer = None;
            return self.hand_over(transfer.to);
        }
        self.transfer = Some(Transfer { told: true, ..transfer });
        self.end_read_lease();
        self.send(transfer.to, Body::HandOver);
        if self.plants.has(Plant::TransferDoneEarly) {
            self.end_transfer(TransferEnd::Done);
        }
    }

    /// Gives a transfer up that takes too long.
    pub(super) fn tick_transfer(&mut self) {
        let Some(transfer) = self.transfer.filter(|transfer| self.now >= transfer.deadline) else { return };
        tracing::warn!(node = %self.config.id, to = %transfer.to, "the hand-over took too long; given up");
        self.end_transfer(TransferEnd::GivenUp);
        if matches!(self.state, State::Leader(_)) && transfer.purpose == Purpose::Removed {
            self.become_follower(self.vote.term, None);
        }
    }

    /// The office is gone; who has it is not known yet.
    pub(super) fn transfer_left_office(&mut self) {
        let later = self.now.after(self.config.election_timeout * 2);
        if let Some(transfer) = &mut self.transfer {
            transfer.deadline = transfer.deadline.max(later);
        }
    }

    /// `leader` leads this term.
    pub(super) fn transfer_led_to(&mut self, leader: NodeId) {
        let Some(transfer) = self.transfer else { return };
        let end = if leader == transfer.to { TransferEnd::Done } else { TransferEnd::OtherLeads(leader) };
        self.end_transfer(end);
    }

    fn end_transfer(&mut self, end: TransferEnd) {
        if self.transfer.take().is_some_and(|transfer| transfer.purpose == Purpose::Asked) {
            self.outbox.transfer(end, &mut self.writes, self.now);
        }
    }
}
