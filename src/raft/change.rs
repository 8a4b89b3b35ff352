//! How one membership comes from another: pure, and the only place that writes new ones.
//!
//! A change of *voters* is a joint membership, in which the voters of before are outgoing, and then the one that
//! [`Membership::settled`] makes of it (paper, section 6). Everything else moves no majority and is one step.
//!
//! A change of voters that is under way cannot be taken back. So whatever could make it hang is refused before it
//! begins, here or in `members.rs`: a majority that does not answer, a learner that is still far behind.

use thiserror::Error;

use crate::types::NodeId;

use super::membership::{MAX_MEMBERS, Member, Membership, Priority, Promotion};

/// A change of who belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A new member, that receives the log and does not vote.
    AddLearner {
        /// Who it is. Its number must never have been a member's.
        member: Member,
        /// The leader makes it a voter by itself once it has caught up.
        promote: bool,
    },
    /// A learner becomes a voter.
    Promote {
        /// Which.
        id: NodeId,
    },
    /// A member leaves, voter or learner, the leader too.
    Remove {
        /// Which.
        id: NodeId,
    },
    /// A new learner that takes a voter's place, in one change, once it has caught up.
    Replace {
        /// The voter that leaves then, running or not.
        old: NodeId,
        /// Who comes.
        new: Member,
    },
    /// How gladly a member is seen as the leader: see [`Priority`].
    Prioritise {
        /// Which.
        id: NodeId,
        /// Above all others for the preferred leader; 0 for no preference.
        priority: u8,
    },
}

/// Why the members stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeRefused {
    /// Only the leader changes members.
    #[error("this node does not lead; ask {}", leader.map_or("the leader once there is one".to_owned(), |id| format!("node {id}")))]
    NotLeader {
        /// Who does, where known.
        leader: Option<NodeId>,
    },
    /// One change at a time.
    #[error("another change of members is under way; try again when it is done")]
    UnderWay,
    /// The leader gives its office away.
    #[error("the leader is handing over to node {to}; ask that one")]
    HandingOver {
        /// To whom.
        to: NodeId,
    },
    /// A leader that has committed nothing in its term may not know of a change that was made before.
    #[error("the leader has just taken office and has committed nothing yet; try again in a moment")]
    TooEarly,
    /// No such member.
    #[error("node {id} is not a member of this cluster")]
    Unknown {
        /// Who is meant.
        id: NodeId,
    },
    /// The member is not of the kind that the change is about.
    #[error("node {id} does not vote; remove it, and add the other one")]
    NotAVoter {
        /// Who is meant.
        id: NodeId,
    },
    /// It votes already.
    #[error("node {id} votes already")]
    Votes {
        /// Who is meant.
        id: NodeId,
    },
    /// 0 stands for no node.
    #[error("0 is not the number of a node; choose one that was never used in this cluster")]
    NoNode,
    /// A member has this number.
    #[error("node {id} is a member already; choose a number that was never used in this cluster")]
    IdInUse {
        /// The number.
        id: NodeId,
    },
    /// A member had this number once.
    #[error("a node {id} was removed from this cluster, and numbers are never used again; choose another one")]
    IdUsedBefore {
        /// The number.
        id: NodeId,
    },
    /// A member is reached under this address.
    #[error("node {id} has this address already")]
    AddressInUse {
        /// Whose it is.
        id: NodeId,
    },
    /// Somebody else is to take the voter's place.
    #[error("node {by} is already about to replace node {id}; remove node {by} first to replace it otherwise")]
    BeingReplaced {
        /// The voter.
        id: NodeId,
        /// Who replaces it.
        by: NodeId,
    },
    /// A cluster has a voter.
    #[error("node {id} is the last voter; a cluster needs one")]
    LastVoter {
        /// Which.
        id: NodeId,
    },
    /// The list is full.
    #[error("a cluster has at most {MAX_MEMBERS} members")]
    TooMany,
    /// A voter that lags far behind would stand in the way of every write.
    #[error("node {id} has not caught up with the leader; wait until it has, or let it be promoted by itself")]
    Behind {
        /// The learner.
        id: NodeId,
    },
    /// The change could not be completed, nor could it be taken back.
    #[error(
        "too few of the voters after the change answer the leader; start them, or remove those that are dead first"
    )]
    NoQuorum,
}

impl Membership {
    /// What the change makes of this membership: joint when voters change.
    ///
    /// # Errors
    /// [`ChangeRefused`] when it makes none, for a reason that lies in the membership itself.
    pub fn after(&self, change: &Change) -> Result<Self, ChangeRefused> {
        if self.is_joint() {
            return Err(ChangeRefused::UnderWay);
        }
        let mut next = self.clone();
        match change {
            Change::AddLearner { member, promote } => {
                next.admit(member)?;
                let promotion = Promotion { learner: member.id, replaces: None };
                next.promotions.extend(promote.then_some(promotion));
            }
            Change::Replace { old, new } => {
                next.admit(new)?;
                self.check_replaceable(*old)?;
                next.promotions.push(Promotion { learner: new.id, replaces: Some(*old) });
            }
            Change::Promote { id } => next.promote(*id)?,
            Change::Remove { id } => next.remove(*id)?,
            Change::Prioritise { id, priority } => {
                self.known(*id)?;
                next.priorities.retain(|known| known.id != *id);
                next.priorities.extend((*priority > 0).then_some(Priority { id: *id, priority: *priority }));
            }
        }
        Ok(next)
    }

    /// The membership that ends a joint one: the voters alone, and who is in no list any more is removed.
    #[must_use]
    pub fn settled(&self) -> Self {
        let mut next = self.clone();
        for member in std::mem::take(&mut next.outgoing) {
            if !next.is_incoming(member.id) {
                next.forget(member.id);
            }
        }
        next
    }

    /// Whether a leader may write this membership behind `before`: either no majority moves, or a joint change begins,
    /// or it ends. Any majority of the one then shares a voter with any majority of the other. No leader begins an epoch:
    /// what [`Membership::recovered_by`] gives may follow nothing.
    #[must_use]
    pub fn may_follow(&self, before: &Self) -> bool {
        let voters = |members: &[Member]| {
            let mut ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
            ids.sort_unstable();
            ids
        };
        let (mine, theirs) = (voters(&self.voters), voters(&before.voters));
        let steps = match (before.is_joint(), self.is_joint()) {
            (false, true) => voters(&self.outgoing) == theirs,
            (false, false) | (true, false) => mine == theirs,
            (true, true) => false,
        };
        let same = (self.cluster, self.epoch, self.read_lease) == (before.cluster, before.epoch, before.read_lease);
        steps && same && self.removed.covers(&before.removed)
    }

    fn known(&self, id: NodeId) -> Result<&Member, ChangeRefused> {
        self.member(id).ok_or(ChangeRefused::Unknown { id })
    }

    fn admit(&mut self, member: &Member) -> Result<(), ChangeRefused> {
        let id = member.id;
        if id.is_zero() {
            return Err(ChangeRefused::NoNode);
        }
        if self.member(id).is_some() {
            return Err(ChangeRefused::IdInUse { id });
        }
        if self.removed.contains(id) {
            return Err(ChangeRefused::IdUsedBefore { id });
        }
        if let Some(other) = self.members().find(|other| other.address == member.address) {
            return Err(ChangeRefused::AddressInUse { id: other.id });
        }
        if self.members().count() >= MAX_MEMBERS {
            return Err(ChangeRefused::TooMany);
        }
        self.learners.push(member.clone());
        Ok(())
    }

    fn check_replaceable(&self, old: NodeId) -> Result<(), ChangeRefused> {
        self.known(old)?;
        if !self.is_incoming(old) {
            return Err(ChangeRefused::NotAVoter { id: old });
        }
        match self.promotions.iter().find(|promotion| promotion.replaces == Some(old)) {
            Some(promotion) => Err(ChangeRefused::BeingReplaced { id: old, by: promotion.learner }),
            None => Ok(()),
        }
    }

    fn promote(&mut self, id: NodeId) -> Result<(), ChangeRefused> {
        let member = self.known(id)?.clone();
        if self.is_incoming(id) {
            return Err(ChangeRefused::Votes { id });
        }
        let replaces = self.promotions.iter().find(|promotion| promotion.learner == id).and_then(|wish| wish.replaces);
        self.outgoing = self.voters.clone();
        self.voters.retain(|voter| replaces != Some(voter.id));
        self.voters.push(member);
        self.learners.retain(|learner| learner.id != id);
        self.promotions.retain(|promotion| promotion.learner != id);
        Ok(())
    }

    fn remove(&mut self, id: NodeId) -> Result<(), ChangeRefused> {
        self.known(id)?;
        if !self.is_incoming(id) {
            self.learners.retain(|learner| learner.id != id);
            self.forget(id);
            return Ok(());
        }
        if self.voters.len() == 1 {
            return Err(ChangeRefused::LastVoter { id });
        }
        self.outgoing = self.voters.clone();
        self.voters.retain(|voter| voter.id != id);
        Ok(())
    }

    /// The node is no member any more.
    fn forget(&mut self, id: NodeId) {
        self.removed.add(id);
        self.priorities.retain(|priority| priority.id != id);
        self.promotions.retain(|promotion| promotion.learner != id);
        for promotion in &mut self.promotions {
            // Who was to take its place becomes a voter all the same.
            promotion.replaces = promotion.replaces.filter(|replaced| *replaced != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterId, Incarnation};

    fn member(id: u64) -> Member {
        Member { id: NodeId(id), incarnation: Incarnation(id), address: format!("h:{id}") }
    }

    fn cluster(voters: u64) -> Membership {
        Membership::new(ClusterId(1), (1..=voters).map(member).collect())
    }

    fn ids(members: &[Member]) -> Vec<u64> {
        members.iter().map(|member| member.id.0).collect()
    }

    /// Applies changes of voters whole.
    fn changed(membership: &Membership, change: &Change) -> Membership {
        let next = membership.after(change).unwrap();
        assert!(next.may_follow(membership));
        let settled = if next.is_joint() { next.settled() } else { next.clone() };
        assert!(settled.may_follow(&next));
        assert_eq!(Membership::decode(&settled.encode()).unwrap(), settled);
        assert_eq!(Membership::decode(&next.encode()).unwrap(), next);
        settled
    }

    fn learner(id: u64) -> Change {
        Change::AddLearner { member: member(id), promote: true }
    }

    #[test]
    fn change_of_voters_is_joint_and_settles_on_the_new_ones() {
        let with = changed(&cluster(3), &learner(4));
        let joint = with.after(&Change::Promote { id: NodeId(4) }).unwrap();
        assert_eq!((ids(&joint.voters), ids(&joint.outgoing)), (vec![1, 2, 3, 4], vec![1, 2, 3]));
        assert!(joint.learners.is_empty() && joint.promotions.is_empty());
        assert_eq!(joint.after(&Change::Remove { id: NodeId(1) }), Err(ChangeRefused::UnderWay));
        let four = joint.settled();
        assert_eq!((ids(&four.voters), four.is_joint()), (vec![1, 2, 3, 4], false));
        let three = changed(&four, &Change::Remove { id: NodeId(1) });
        assert_eq!(ids(&three.voters), [2, 3, 4]);
        assert!(three.removed.contains(NodeId(1)));
    }

    #[test]
    fn change_of_learners_is_one_step_and_a_learner_that_left_is_remembered() {
        let next = cluster(3).after(&Change::AddLearner { member: member(4), promote: false }).unwrap();
        assert!(!next.is_joint() && next.promotions.is_empty());
        let without = changed(&next, &Change::Remove { id: NodeId(4) });
        assert_eq!(without.after(&learner(4)), Err(ChangeRefused::IdUsedBefore { id: NodeId(4) }));
    }

    #[test]
    fn change_that_replaces_swaps_both_in_one_joint_step() {
        let replace = Change::Replace { old: NodeId(3), new: member(4) };
        let waiting = changed(&cluster(3), &replace);
        assert_eq!(ids(&waiting.voters), [1, 2, 3], "nothing is given up before the new one has caught up");
        let refused = waiting.after(&Change::Replace { old: NodeId(3), new: member(5) });
        assert_eq!(refused, Err(ChangeRefused::BeingReplaced { id: NodeId(3), by: NodeId(4) }));
        let joint = waiting.after(&Change::Promote { id: NodeId(4) }).unwrap();
        assert_eq!((ids(&joint.voters), ids(&joint.outgoing)), (vec![1, 2, 4], vec![1, 2, 3]));
        assert!(joint.settled().removed.contains(NodeId(3)));
        let alone = changed(&cluster(1), &Change::Replace { old: NodeId(1), new: member(2) });
        assert_eq!(ids(&changed(&alone, &Change::Promote { id: NodeId(2) }).voters), [2]);
    }

    #[test]
    fn change_that_removes_whom_another_replaces_leaves_a_plain_promotion() {
        let waiting = changed(&cluster(3), &Change::Replace { old: NodeId(3), new: member(4) });
        let without = changed(&waiting, &Change::Remove { id: NodeId(3) });
        assert_eq!(without.promotions, [Promotion { learner: NodeId(4), replaces: None }]);
        assert_eq!(ids(&changed(&without, &Change::Promote { id: NodeId(4) }).voters), [1, 2, 4]);
    }

    #[test]
    fn change_that_cannot_be_is_refused_with_its_reason() {
        let three = changed(&changed(&cluster(3), &learner(4)), &Change::Remove { id: NodeId(2) });
        let id = NodeId;
        let same_address = Member { address: "h:1".to_owned(), ..member(9) };
        let other_life = Member { incarnation: Incarnation(77), address: "h:9".to_owned(), ..member(2) };
        let cases = [
            (learner(0), ChangeRefused::NoNode),
            (learner(1), ChangeRefused::IdInUse { id: id(1) }),
            (learner(2), ChangeRefused::IdUsedBefore { id: id(2) }),
            (Change::AddLearner { member: other_life, promote: false }, ChangeRefused::IdUsedBefore { id: id(2) }),
            (Change::AddLearner { member: same_address, promote: true }, ChangeRefused::AddressInUse { id: id(1) }),
            (Change::Replace { old: id(7), new: member(5) }, ChangeRefused::Unknown { id: id(7) }),
            (Change::Replace { old: id(4), new: member(5) }, ChangeRefused::NotAVoter { id: id(4) }),
            (Change::Promote { id: id(7) }, ChangeRefused::Unknown { id: id(7) }),
            (Change::Promote { id: id(1) }, ChangeRefused::Votes { id: id(1) }),
            (Change::Remove { id: id(2) }, ChangeRefused::Unknown { id: id(2) }),
            (Change::Prioritise { id: id(2), priority: 1 }, ChangeRefused::Unknown { id: id(2) }),
        ];
        for (change, refused) in cases {
            assert_eq!(three.after(&change), Err(refused), "{change:?}");
        }
        assert_eq!(cluster(1).after(&Change::Remove { id: id(1) }), Err(ChangeRefused::LastVoter { id: id(1) }));
        let crowd = cluster(MAX_MEMBERS as u64);
        assert_eq!(crowd.after(&learner(1000)), Err(ChangeRefused::TooMany));
    }

    #[test]
    fn change_of_priority_is_one_step_and_zero_takes_it_back() {
        let preferred = changed(&cluster(3), &Change::Prioritise { id: NodeId(2), priority: 9 });
        assert_eq!((preferred.priority(NodeId(2)), preferred.is_joint()), (9, false));
        assert_eq!(changed(&preferred, &Change::Prioritise { id: NodeId(2), priority: 0 }), cluster(3));
        let without = changed(&preferred, &Change::Remove { id: NodeId(2) });
        assert!(without.priorities.is_empty());
    }

    #[test]
    fn change_in_one_step_of_who_votes_may_not_follow() {
        let (three, two) = (cluster(3), cluster(2));
        assert!(!two.may_follow(&three));
        let joint = three.after(&Change::Remove { id: NodeId(3) }).unwrap();
        assert!(!joint.may_follow(&two) && !joint.may_follow(&joint) && !three.may_follow(&joint));
        let forgetful = Membership { removed: super::super::removed::RemovedIds::new(), ..joint.settled() };
        assert!(!forgetful.may_follow(&joint.settled()));
        let hasty = Membership { read_lease: std::time::Duration::from_secs(1), ..three.clone() };
        assert!(!hasty.may_follow(&three), "what a node has promised it must know after a restart");
    }
}
