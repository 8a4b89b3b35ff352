//! A transfer of leadership that is called done is done: the node leads (thesis, 3.10).

use dledger::types::NodeId;

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "transfer_answered",
    claim: "a transfer is called done once the node has taken office, not before (thesis, 3.10)",
};

/// A transfer to `to`, asked for at `asked` microseconds, is called done; `office` is when `to` last took office.
pub(crate) fn done(to: NodeId, asked: u64, office: Option<u64>) -> Verdict {
    holds(office.is_some_and(|since| since >= asked), || {
        format!("leadership is said to have been handed to node {to}, which has not taken office since")
    })
}
