//! Majorities, as pure functions of the voters.

use std::collections::BTreeSet;

use crate::types::{Index, NodeId};

/// How many of `voters` members are a majority (paper, 5.2).
#[must_use]
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Voters, and the outgoing voters while a joint membership is in force (paper, section 6): an agreement needs a
/// majority of each set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters {
    /// The voters; the incoming ones while two sets are joined.
    pub incoming: BTreeSet<NodeId>,
    /// The outgoing voters; empty unless two sets are joined.
    pub outgoing: BTreeSet<NodeId>,
}

impl Voters {
    /// True when those for whom `agrees` holds are a majority of each set. No voters agree on nothing.
    pub fn agree(&self, mut agrees: impl FnMut(NodeId) -> bool) -> bool {
        let mut carries = |set: &BTreeSet<NodeId>| set.iter().filter(|id| agrees(**id)).count() >= majority(set.len());
        !self.incoming.is_empty() && carries(&self.incoming) && (self.outgoing.is_empty() || carries(&self.outgoing))
    }

    /// The highest index that a majority of each set has reached.
    pub fn reached(&self, mut index_of: impl FnMut(NodeId) -> Index) -> Index {
        let mut reached = |set: &BTreeSet<NodeId>| {
            let mut indexes: Vec<Index> = set.iter().map(|id| index_of(*id)).collect();
            indexes.sort_unstable_by(|left, right| right.cmp(left));
            indexes.get(majority(indexes.len()) - 1).copied().unwrap_or_default()
        };
        let incoming = reached(&self.incoming);
        if self.outgoing.is_empty() { incoming } else { incoming.min(reached(&self.outgoing)) }
    }

    /// Every voter of either set, once, in order of id.
    pub fn all(&self) -> impl Iterator<Item = NodeId> {
        self.incoming.union(&self.outgoing).copied()
    }

    /// True for a voter of either set.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.incoming.contains(&id) || self.outgoing.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: u32) -> BTreeSet<NodeId> {
        (0..5).filter(|bit| bits & (1 << bit) != 0).map(|bit| NodeId(bit + 1)).collect()
    }

    /// Every pair of voter sets of up to five nodes, the outgoing one possibly empty.
    fn every_membership() -> impl Iterator<Item = Voters> {
        (1..32).flat_map(|incoming| {
            (0..32).map(move |outgoing| Voters { incoming: set(incoming), outgoing: set(outgoing) })
        })
    }

    #[test]
    fn quorum_any_two_agreements_share_a_voter_for_every_membership_of_five() {
        for voters in every_membership() {
            let agreeing: Vec<u32> = (0..32).filter(|yes| voters.agree(|id| set(*yes).contains(&id))).collect();
            for one in &agreeing {
                for two in &agreeing {
                    assert!(voters.all().any(|id| set(one & two).contains(&id)), "{voters:?} {one:b} {two:b}");
                }
            }
        }
    }

    #[test]
    fn quorum_agreement_of_a_joint_membership_is_one_of_each_set() {
        for voters in every_membership().filter(|voters| !voters.outgoing.is_empty()) {
            for yes in 0..32 {
                let alone = |incoming: &BTreeSet<NodeId>| {
                    let single = Voters { incoming: incoming.clone(), outgoing: BTreeSet::new() };
                    single.agree(|id| set(yes).contains(&id))
                };
                let both = alone(&voters.incoming) && alone(&voters.outgoing);
                assert_eq!(voters.agree(|id| set(yes).contains(&id)), both);
            }
        }
    }

    #[test]
    fn quorum_reached_is_the_highest_index_that_an_agreement_has() {
        for voters in every_membership() {
            for seed in 0..25u64 {
                let index_of = |id: NodeId| Index((id.get() * 7 + seed * seed) % 6);
                let highest = (0..6).rev().find(|index| voters.agree(|id| index_of(id) >= Index(*index)));
                assert_eq!(voters.reached(index_of), Index(highest.unwrap_or(0)), "{voters:?} {seed}");
            }
        }
    }
}
