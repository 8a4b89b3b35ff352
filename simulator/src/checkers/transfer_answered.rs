//! A transfer of leadership that is called done is done: the node leads (thesis, 3.10).

use dledger::types::{NodeId, Term};

use super::election_safety::ElectionSafety;
use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "transfer_answered",
    claim: "a transfer is called done once the node has taken office, not before (thesis, 3.10)",
};

/// A transfer to `to`, asked of the leader of `term`, is called done.
pub(crate) fn done(to: NodeId, term: Term, elections: &ElectionSafety) -> Verdict {
    holds(elections.has_led_since(to, term), || {
        format!("leadership of term {term} is said to have been handed to node {to}, which has led no later one")
    })
}
