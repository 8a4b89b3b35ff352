//! No-ops for what is due, and when there can be none.

use crate::types::{LogTime, Role};

use super::cluster::{Cluster, Sabotage};

/// A leader that hands over proposes nothing, whatever is due. It looked again at once, and so its event loop did not sleep
/// until the hand-over had ended.
#[test]
fn deadline_that_passes_during_a_transfer_keeps_nobody_awake() {
    let mut cluster = Cluster::new(Sabotage::Nothing);
    cluster.start().unwrap();
    cluster.write(1, &["a"]).unwrap();
    let leader = cluster.leader().unwrap();
    cluster.make_due(leader, LogTime(1));
    cluster.write(2, &["b"]).unwrap();
    let to = (leader + 1) % 3;
    cluster.isolated.insert(to);
    cluster.transfer(leader, 3, to);
    for _step in 0..20 {
        cluster.step().unwrap();
    }
    let replica = cluster.replica(leader);
    assert!(replica.raft().role() == Role::Leader && replica.raft().transfer_target().is_some(), "still under way");
    assert!(replica.next_deadline().is_some_and(|due| due > cluster.now()));
    let committed = replica.raft().committed();
    cluster.until(|cluster| cluster.replica(leader).raft().committed() > committed).unwrap();
}
