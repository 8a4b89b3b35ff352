//! Changing who belongs to the cluster (paper, section 6; thesis, 4.1 to 4.4): what the leader does, and when.
//!
//! ```text
//!   change ──refused, or──► entry: joint ──committed──► entry: the new voters alone ──committed──► done
//!                             │ (a majority of each)      │ (a majority of the new)      │
//!                             │                           │                              └─ a leader that is none of
//!                             └── a new leader goes on from here: its own log says so ──┘    them hands over and leaves
//! ```
//! Every node follows the latest membership in its log from the moment it is appended, so the entry itself is the
//! only thing that a change consists of, and whoever leads next carries it on.
//!
//! One change at a time: the next one waits until the entry of the last is committed *and* this leader has committed
//! something in its own term. Changes of one voter in a single step are unsafe without the latter (the bug of 2015:
//! two leaders that know nothing of each other's change could each commit with a majority that has no voter in common
//! with the other's). Joint changes keep their majorities in touch by themselves; the wait costs a round trip after an
//! election, and leaves nothing to be proved again should a change ever be made in a single step.
//!
//! A leader that is to be removed goes on, without counting itself, until the entry that ends the change is committed:
//! before, the voters of old are needed, and it may be the only one that has what both need (thesis, 4.2.2).

use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::types::{EntryId, Index, Monotonic, NodeId};

use super::change::{Change, ChangeRefused};
use super::core::Raft;
use super::leadership::State;
use super::membership::Membership;
use super::outbox::invented_after;
use super::quorum::Tally;
use super::ready::Invented;

impl Raft {
    /// Begins a change of members and returns the identity of its first entry, which stands in the next Ready's append
    /// as [`Invented`]. The change is done when a later membership that is not joint is committed; when it is one step,
    /// that is this entry itself. Should this leader lose its office before, the change may come to nothing or may be
    /// carried on by the next one: the log tells.
    ///
    /// # Errors
    /// [`ChangeRefused`]; nothing has happened then.
    pub fn change_membership(&mut self, now: Monotonic, change: &Change) -> Result<EntryId, ChangeRefused> {
        self.turn(now, |raft| raft.on_change(change))
    }

    fn on_change(&mut self, change: &Change) -> Result<EntryId, ChangeRefused> {
        let latest = self.may_change()?;
        let mut next = latest.after(change)?;
        if self.plants.has(Plant::RemovedForgotten) {
            next.removed = super::removed::RemovedIds::new();
        }
        if let Change::Promote { id } = *change
            && !self.is_fit(id)
        {
            return Err(ChangeRefused::Behind { id });
        }
        if !self.is_within_reach(&next) {
            return Err(ChangeRefused::NoQuorum);
        }
        Ok(self.append_membership(next))
    }

    /// The membership that a change would start from, if one may start now.
    fn may_change(&self) -> Result<&Membership, ChangeRefused> {
        let not_leader = || ChangeRefused::NotLeader { leader: self.leader };
        let State::Leader(office) = &self.state else { return Err(not_leader()) };
        if let Some(to) = self.transfer_target() {
            return Err(ChangeRefused::HandingOver { to });
        }
        if self.committed < office.first_own && !self.plants.has(Plant::ChangeBeforeOwnCommit) {
            return Err(ChangeRefused::TooEarly);
        }
        let latest = self.memberships.latest().filter(|latest| !latest.is_joint());
        let done = self.is_membership_committed() || self.plants.has(Plant::ChangeUnderWayIgnored);
        latest.filter(|_latest| done).ok_or(ChangeRefused::UnderWay)
    }

    fn is_membership_committed(&self) -> bool {
        self.memberships.latest_index().is_some_and(|index| index <= self.committed)
    }

    /// Whether the member answers this leader and has caught up with it.
    fn is_fit(&self, id: NodeId) -> bool {
        let State::Leader(office) = &self.state else { return false };
        let fit = office.peers.get(&id).is_some_and(|peer| peer.is_fit(self.config.election_timeout, self.now));
        fit || self.plants.has(Plant::PromotedFarBehind)
    }

    /// A change of voters can be completed only by majorities that answer. Once begun it cannot be taken back, so a
    /// change that would hang is not begun: with a dead node among three, removing a living one would stop the cluster.
    fn is_within_reach(&self, next: &Membership) -> bool {
        let State::Leader(office) = &self.state else { return false };
        let answers = |node: NodeId| {
            let peer = office.peers.get(&node);
            node == self.config.id || peer.is_some_and(|peer| peer.answers(self.config.election_timeout, self.now))
        };
        !next.is_joint() || next.quorum().tally(|node| Some(answers(node))) == Tally::Won
    }

    /// Appends a membership and follows it from now on.
    fn append_membership(&mut self, membership: Membership) -> EntryId {
        let append = invented_after(self.terms.last(), Invented::Membership(membership.clone()));
        let index = append.last;
        tracing::info!(node = %self.config.id, term = %self.vote.term, %index, joint = membership.is_joint(), "members change");
        if membership.is_joint() {
            reach(Mark::ChangeBegun);
        }
        self.extend_own(index);
        self.memberships.adopt(std::iter::once((index, membership)));
        self.outbox.append(append, &mut self.writes, self.now);
        let (now, me) = (self.now, self.config.id);
        if let State::Leader(office) = &mut self.state {
            office.meet(self.memberships.ids(), me, index, now);
        }
        // The set of those who must agree may have become smaller.
        self.commit_by_counting();
        EntryId::new(index, self.vote.term)
    }

    /// Carries a change on: ends one whose joint entry is committed, and leaves office once this node's own removal is.
    pub(super) fn settle_membership(&mut self) {
        let State::Leader(office) = &self.state else { return };
        let settled = self.committed >= office.first_own && self.is_membership_committed();
        let Some(latest) = self.memberships.latest().filter(|_latest| settled) else { return };
        if latest.is_joint() {
            if self.transfer.is_none() {
                let next = latest.settled();
                if self.memberships.latest_index().is_some_and(|index| index < office.first_own) {
                    reach(Mark::ChangeCarriedOn);
                }
                self.append_membership(next);
            }
        } else if !self.is_voter() {
            self.leave();
        }
    }

    /// Makes voters of learners that are to become voters and have caught up, one at a time.
    pub(super) fn check_promotions(&mut self) {
        let Ok(latest) = self.may_change() else { return };
        let next = latest.promotions.iter().map(|promotion| promotion.learner).find_map(|learner| {
            let next = latest.after(&Change::Promote { id: learner }).ok()?;
            (self.is_fit(learner) && self.is_within_reach(&next)).then_some(next)
        });
        if let Some(next) = next {
            reach(Mark::LearnerPromoted);
            if next.outgoing.iter().any(|voter| !next.is_incoming(voter.id)) {
                reach(Mark::VoterReplaced);
            }
            self.append_membership(next);
        }
    }

    /// How far the change of members that this node's log tells of last has come.
    #[must_use]
    pub fn change_under_way(&self) -> Option<Index> {
        let joint = self.memberships.latest().is_some_and(Membership::is_joint);
        self.memberships.latest_index().filter(|_index| joint || !self.is_membership_committed())
    }
}
