//! At most one leader can be elected in a given term (paper, figure 3, "election safety").

use std::collections::BTreeMap;

use dledger::types::{NodeId, Term};

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property =
    Property { name: "election_safety", claim: "at most one node leads in a term (paper, figure 3)" };

/// Who led which term.
#[derive(Debug, Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
}

impl ElectionSafety {
    /// `node` leads in `term`.
    pub(crate) fn leads(&mut self, node: NodeId, term: Term) -> Verdict {
        let first = *self.leaders.entry(term).or_insert(node);
        holds(first == node, || format!("nodes {first} and {node} both lead in term {term}"))
    }

    /// Whether `node` has taken office in a later term than `term`.
    pub(crate) fn has_led_since(&self, node: NodeId, term: Term) -> bool {
        self.leaders.iter().any(|(of, leader)| *of > term && *leader == node)
    }

    /// How many terms had a leader.
    pub(crate) fn elections(&self) -> usize {
        self.leaders.len()
    }
}
