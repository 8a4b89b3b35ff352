//! Majority arithmetic, pure: who must agree, and what they agree on.
//!
//! A group is ruled by one set of voters, or during a change of members by two at once (paper, section 6): then
//! each set must have its own majority. An empty second set asks for nothing.

use crate::types::NodeId;

/// The sets of voters that rule a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    incoming: Vec<NodeId>,
    outgoing: Vec<NodeId>,
}

/// How a ballot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A majority of each set said yes.
    Won,
    /// A majority is out of reach in some set.
    Lost,
    /// Neither yet.
    Open,
}

/// How many of `voters` make a majority; 1 for none, which nobody can reach.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

impl Quorum {
    /// A quorum over these sets; `outgoing` is empty except during a change of members.
    #[must_use]
    pub const fn new(incoming: Vec<NodeId>, outgoing: Vec<NodeId>) -> Self {
        Self { incoming, outgoing }
    }

    /// Whether the node votes.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.incoming.contains(&node) || self.outgoing.contains(&node)
    }

    /// The same voters, and one more among those that stay.
    #[must_use]
    pub fn with(&self, node: NodeId) -> Self {
        let mut with = self.clone();
        with.incoming.push(node);
        with
    }

    /// Whether this node alone is a quorum.
    #[must_use]
    pub fn is_alone(&self, node: NodeId) -> bool {
        self.incoming == [node] && (self.outgoing.is_empty() || self.outgoing == [node])
    }

    /// The largest value that a majority of each set has reached, where `reached` names a voter's value. Zero when
    /// there are no voters.
    #[must_use]
    pub fn agreed(&self, reached: impl Fn(NodeId) -> u64) -> u64 {
        let incoming = agreed_in(&self.incoming, &reached).unwrap_or(0);
        agreed_in(&self.outgoing, &reached).map_or(incoming, |outgoing| incoming.min(outgoing))
    }

    /// How a ballot stands that needs every voter of each set; nobody wins one without voters.
    #[must_use]
    pub fn unanimity(&self, said: impl Fn(NodeId) -> Option<bool>) -> Tally {
        if self.incoming.is_empty() {
            return Tally::Lost;
        }
        unanimity_of(self.incoming.iter().chain(&self.outgoing), said)
    }

    /// How the ballot stands when `said` names each voter's answer, `None` for none yet.
    #[must_use]
    pub fn tally(&self, said: impl Fn(NodeId) -> Option<bool>) -> Tally {
        let incoming = tally_in(&self.incoming, &said);
        if self.outgoing.is_empty() {
            return incoming;
        }
        match (incoming, tally_in(&self.outgoing, &said)) {
            (Tally::Won, Tally::Won) => Tally::Won,
            (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
            (Tally::Open | Tally::Won, Tally::Open | Tally::Won) => Tally::Open,
        }
    }
}

/// How a ballot stands that only all voters together can win.
fn unanimity_of<'a>(voters: impl Iterator<Item = &'a NodeId>, said: impl Fn(NodeId) -> Option<bool>) -> Tally {
    let mut tally = Tally::Won;
    for voter in voters {
        match said(*voter) {
            Some(true) => {}
            Some(false) => return Tally::Lost,
            None => tally = Tally::Open,
        }
    }
    tally
}

/// The largest value that a majority of one set has reached; `None` for the empty set.
fn agreed_in(set: &[NodeId], reached: &impl Fn(NodeId) -> u64) -> Option<u64> {
    let mut values: Vec<u64> = set.iter().map(|node| reached(*node)).collect();
    values.sort_unstable_by(|one, other| other.cmp(one));
    values.get(majority(set.len()) - 1).copied()
}

fn tally_in(set: &[NodeId], said: &impl Fn(NodeId) -> Option<bool>) -> Tally {
    let yes = set.iter().filter(|node| said(**node) == Some(true)).count();
    let no = set.iter().filter(|node| said(**node) == Some(false)).count();
    if yes >= majority(set.len()) {
        Tally::Won
    } else if set.len() - no < majority(set.len()) {
        Tally::Lost
    } else {
        Tally::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every subset of voters 1 to 5.
    fn subsets() -> Vec<Vec<NodeId>> {
        (0u64..32).map(|bits| (1..=5).filter(|node| bits & (1 << (node - 1)) != 0).map(NodeId).collect()).collect()
    }

    /// The definition, literally: a quorum is any set of nodes with more than half of each non-empty set.
    fn is_quorum(nodes: &[NodeId], incoming: &[NodeId], outgoing: &[NodeId]) -> bool {
        let more_than_half = |set: &[NodeId]| set.iter().filter(|node| nodes.contains(node)).count() * 2 > set.len();
        more_than_half(incoming) && (outgoing.is_empty() || more_than_half(outgoing))
    }

    #[test]
    fn quorum_tally_of_every_answer_of_up_to_five_voters_agrees_with_the_definition() {
        for incoming in subsets() {
            for outgoing in subsets() {
                let quorum = Quorum::new(incoming.clone(), outgoing.clone());
                for said in 0u32..243 {
                    let answer = |node: NodeId| match (said / 3u32.pow(u32::try_from(node.0 - 1).unwrap())) % 3 {
                        0 => None,
                        digit => Some(digit == 1),
                    };
                    let of = |wanted: &[Option<bool>]| -> Vec<NodeId> {
                        (1..=5).map(NodeId).filter(|node| wanted.contains(&answer(*node))).collect()
                    };
                    let won = is_quorum(&of(&[Some(true)]), &incoming, &outgoing);
                    let open = is_quorum(&of(&[Some(true), None]), &incoming, &outgoing);
                    let expected = match (won, open) {
                        (true, _) => Tally::Won,
                        (false, true) => Tally::Open,
                        (false, false) => Tally::Lost,
                    };
                    assert_eq!(quorum.tally(answer), expected, "{quorum:?} {said}");
                }
            }
        }
    }

    #[test]
    fn quorum_agreed_value_of_up_to_five_voters_agrees_with_the_definition() {
        for incoming in subsets() {
            for outgoing in subsets() {
                let quorum = Quorum::new(incoming.clone(), outgoing.clone());
                for drawn in 0u64..243 {
                    let reached = |node: NodeId| (drawn / 3u64.pow(u32::try_from(node.0 - 1).unwrap())) % 3;
                    let expected = (1..=2)
                        .rev()
                        .find(|value| {
                            let there: Vec<NodeId> = (1..=5).map(NodeId).filter(|n| reached(*n) >= *value).collect();
                            is_quorum(&there, &incoming, &outgoing)
                        })
                        .unwrap_or(0);
                    assert_eq!(quorum.agreed(reached), expected, "{quorum:?} {drawn}");
                }
            }
        }
    }

    #[test]
    fn quorum_any_two_of_one_configuration_or_of_it_and_its_joint_change_share_a_voter() {
        for incoming in subsets().into_iter().filter(|set| !set.is_empty()) {
            for outgoing in subsets() {
                let joint: Vec<_> =
                    subsets().into_iter().filter(|nodes| is_quorum(nodes, &incoming, &outgoing)).collect();
                let old = subsets().into_iter().filter(|nodes| is_quorum(nodes, &incoming, &[]));
                for one in old {
                    assert!(joint.iter().all(|other| other.iter().any(|node| one.contains(node))));
                }
            }
        }
    }

    #[test]
    fn quorum_of_nobody_is_never_reached() {
        let nobody = Quorum::default();
        assert_eq!(nobody.tally(|_| Some(true)), Tally::Lost);
        assert_eq!(nobody.agreed(|_| 9), 0);
        assert!(Quorum::new(vec![NodeId(1)], Vec::new()).is_alone(NodeId(1)));
    }
}
