//! A leader whose disk hangs while a quorum of others has everything durable gives its office to one of them (raft.md,
//! stalled-disk step-down): it could not survive its own restart as a leader should.

use dledger::types::NodeId;

use super::{Property, Verdict};

pub(crate) const PROPERTY: Property = Property {
    name: "stalled_leader",
    claim: "a leader whose disk hangs hands over while the disks of a quorum of others work (raft.md)",
};

/// How long it may take, in microseconds: two election timeouts, a heartbeat, and a slow round.
pub(crate) const GIVES_WAY_AFTER: u64 = 700_000;

/// `node` still leads, though its write has hung for so many microseconds.
pub(crate) fn keeps(node: NodeId, hung: u64) -> Verdict {
    Err(format!("node {node} still leads, and its disk has not completed a write of records for {} ms", hung / 1000))
}
