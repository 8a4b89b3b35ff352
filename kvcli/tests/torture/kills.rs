//! Processes killed with SIGKILL, again and again, while clients write: one at a time, and all at once.

use crate::load::Load;
use crate::support::Cluster;

/// Kills of one node; every other one hits the leader.
const KILLS: usize = 8;
/// Kills of all nodes at once.
const KILLS_OF_ALL: usize = 5;
/// Clients at work.
const CLIENTS: u64 = 8;
/// Writes that must be acknowledged between two events.
const PROGRESS: u64 = 150;
/// A snapshot and a purge every few dozen writes: kills hit them, and a node that was away finds its log purged.
const SNAPSHOTS: &str = "
segment_bytes = 65536
snapshot_entries = 60
snapshot_bytes = 0
snapshots_kept = 2
log_tail_bytes = 0
";

fn endpoints(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints().split(',').map(str::to_owned).collect()
}

#[test]
fn kills_of_one_node_after_the_other_under_load_leave_a_linearizable_history() {
    kill_one_after_the_other(Cluster::start(3));
}

#[test]
fn kills_of_one_node_after_the_other_amid_snapshots_leave_a_linearizable_history() {
    kill_one_after_the_other(Cluster::configured(3, SNAPSHOTS));
}

fn kill_one_after_the_other(mut cluster: Cluster) {
    let load = Load::start(&endpoints(&cluster), CLIENTS);
    let mut slowest = std::time::Duration::ZERO;
    for kill in 0..KILLS {
        load.goes_on(PROGRESS);
        let victim = if kill % 2 == 0 { cluster.leader() } else { kill / 2 % 3 };
        cluster.nodes[victim].take().unwrap().kill();
        slowest = slowest.max(load.goes_on(PROGRESS));
        cluster.restart(victim);
    }
    println!("after a kill a write was acknowledged within {} ms", slowest.as_millis());
    let outcome = load.finish();
    assert!(outcome.acknowledged >= 2 * PROGRESS * KILLS as u64, "{outcome:?}");
    cluster.stop_all();
    cluster.assert_same_logs();
}

#[test]
fn kills_of_all_nodes_at_once_under_load_leave_a_linearizable_history() {
    kill_all_at_once(Cluster::start(3));
}

#[test]
fn kills_of_all_nodes_at_once_amid_snapshots_leave_a_linearizable_history() {
    kill_all_at_once(Cluster::configured(3, SNAPSHOTS));
}

fn kill_all_at_once(mut cluster: Cluster) {
    let load = Load::start(&endpoints(&cluster), CLIENTS);
    for _kill in 0..KILLS_OF_ALL {
        load.goes_on(PROGRESS);
        cluster.kill_all();
        (0..3).for_each(|place| cluster.restart(place));
    }
    load.goes_on(PROGRESS);
    let outcome = load.finish();
    // Eight clients that each wait for an answer when the kill comes: some of those outcomes are unknown.
    assert!(outcome.unknown > 0, "the kills came when nothing was under way: {outcome:?}");
    cluster.stop_all();
    cluster.assert_same_logs();
}
