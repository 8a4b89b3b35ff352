//! Changes of members, and clusters to make them in.

use std::time::Duration;

use dledger::raft::Change;
use dledger::types::{NodeId, Role};

use super::cluster::Cluster;
use super::inputs::MS;
use super::node::member;

/// The election timeout of the tests.
pub const T: Duration = Duration::from_millis(150);

pub fn learner(id: u64) -> Change {
    Change::AddLearner { member: member(id), promote: false }
}

pub fn add(id: u64) -> Change {
    Change::AddLearner { member: member(id), promote: true }
}

pub fn remove(id: u64) -> Change {
    Change::Remove { id: NodeId(id) }
}

pub fn promote(id: u64) -> Change {
    Change::Promote { id: NodeId(id) }
}

pub fn replace(old: u64, new: u64) -> Change {
    Change::Replace { old: NodeId(old), new: member(new) }
}

pub fn prefer(id: u64, priority: u8) -> Change {
    Change::Prioritise { id: NodeId(id), priority }
}

/// Node 1 leads `size` nodes, and every one of them has answered a heartbeat.
pub fn settled(size: u64) -> Cluster {
    let mut cluster = Cluster::led_by(1, size);
    cluster.run(MS * 60);
    cluster
}

/// The same with node 4 as a learner that has caught up.
pub fn with_learner(size: u64, id: u64) -> Cluster {
    let mut cluster = settled(size);
    cluster.join(id);
    cluster.change(1, &learner(id)).unwrap();
    cluster.run(MS * 200);
    assert!(cluster.members(1).ends_with(&format!("learners {id}")));
    cluster
}

pub fn cut_off(cluster: &mut Cluster, node: u64) {
    for other in 1..=9 {
        cluster.cuts.extend([(node, other), (other, node)]);
    }
}

pub fn role(cluster: &Cluster, id: u64) -> Role {
    cluster.nodes[&id].raft.role()
}

pub fn term(cluster: &Cluster, id: u64) -> u64 {
    cluster.nodes[&id].raft.term().0
}
