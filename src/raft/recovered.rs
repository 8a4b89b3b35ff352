//! The membership with which one survivor goes on when a majority is gone for good.
//!
//! Not a change: no majority of before agrees to it, so that nothing in the log tells it from a mistake. What tells it is
//! the *epoch*: nodes of another one are refused before they can say anything, and the majority of before, should it come
//! back, goes on in an epoch of its own. A leader never writes such a membership ([`Membership::may_follow`]); the tool
//! does, on a stopped node, when a person has asked for it (`node::recover`).

use crate::types::NodeId;

use super::membership::Membership;

impl Membership {
    /// This cluster in its next epoch: `survivor` alone votes, and the numbers of all others are never given again. `draw`
    /// is random. `None` when `survivor` is no member.
    #[must_use]
    pub fn recovered_by(&self, survivor: NodeId, draw: u64) -> Option<Self> {
        let alone = self.member(survivor)?.clone();
        let mut removed = self.removed.clone();
        self.members().filter(|member| member.id != survivor).for_each(|member| removed.add(member.id));
        let epoch = self.epoch.after(draw);
        Some(Self { epoch, removed, read_lease: self.read_lease, ..Self::new(self.cluster, vec![alone]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Member;
    use crate::types::{ClusterId, Epoch, Incarnation};

    fn member(id: u64) -> Member {
        Member { id: NodeId(id), incarnation: Incarnation(id), address: format!("h:{id}") }
    }

    fn members(ids: &[u64]) -> Vec<Member> {
        ids.iter().copied().map(member).collect()
    }

    #[test]
    fn recovered_membership_has_one_voter_in_a_new_epoch_and_gives_no_number_again() {
        let joint = Membership {
            outgoing: members(&[1, 5]),
            learners: members(&[3]),
            ..Membership::new(ClusterId(1), members(&[1, 2]))
        };
        for survivor in [1, 2, 3, 5] {
            let alone = joint.recovered_by(NodeId(survivor), 77).unwrap();
            assert_eq!((&alone.voters, alone.epoch), (&members(&[survivor]), Epoch { number: 2, draw: 77 }));
            assert!(!alone.is_joint() && alone.learners.is_empty());
            for other in [1, 2, 3, 5] {
                assert_eq!(alone.removed.contains(NodeId(other)), other != survivor);
            }
            assert_eq!(Membership::decode(&alone.encode()).unwrap(), alone);
            assert!(alone.removed.covers(&joint.removed));
        }
        assert_eq!(joint.recovered_by(NodeId(4), 77), None);
    }

    #[test]
    fn recovered_membership_is_never_a_leaders_next_one() {
        let one = Membership::new(ClusterId(1), members(&[1]));
        let again = one.recovered_by(NodeId(1), 3).unwrap();
        assert!(!again.may_follow(&one), "though no voter changes");
        assert!(again.may_follow(&again));
    }
}
