//! The leader's process is stopped past an election and wakes up again: reads that were sent to it meanwhile are part of
//! the history, so a single old value fails it. Once by rounds, and once by the lease that the leader had when it was stopped.

use std::time::Duration;

use rustix::process::Signal;

use crate::load::Load;
use crate::support::{Cluster, SOON};

/// Leaders paused, one after the other.
const PAUSES: usize = 4;
/// Clients at work.
const CLIENTS: u64 = 6;
/// Writes acknowledged by the next leader before the paused one wakes: every shared key was written anew by then.
const WRITTEN_MEANWHILE: u64 = 200;
/// Reads sent to the paused leader over each kind of connection.
const READS: u64 = 24;

#[test]
fn pauses_of_the_leader_past_an_election_show_nobody_an_old_value() {
    let cluster = Cluster::start(3);
    let load = Load::start(&endpoints(&cluster), CLIENTS);
    pause_leaders(&cluster, load);
}

#[test]
fn pauses_of_a_leader_past_its_lease_show_nobody_an_old_value() {
    let cluster = Cluster::configured(3, "read_lease = \"300ms\"\n");
    let load = Load::reading_by_lease(&endpoints(&cluster), CLIENTS);
    pause_leaders(&cluster, load);
}

fn endpoints(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints().split(',').map(str::to_owned).collect()
}

/// Stops one leader after the other until it was replaced, and has reads in its socket when it wakes.
fn pause_leaders(cluster: &Cluster, load: Load) {
    let endpoints = endpoints(cluster);
    let mut answered = 0;
    for _pause in 0..PAUSES {
        load.goes_on(WRITTEN_MEANWHILE);
        let leader = cluster.leader();
        let address = [endpoints[leader].clone()];
        // Connected before the pause, and sure that this node leads; its reads wait in the paused node's socket.
        let before = load.client(&address, SOON);
        load.answered(load.read_at_once(&before, 1));
        // Connects when the node wakes.
        let after = load.client(&address, SOON);
        let paused = cluster.nodes[leader].as_ref().unwrap();
        paused.signal(Signal::STOP);
        let replaced = load.goes_on(WRITTEN_MEANWHILE);
        println!("a paused leader was replaced after {} ms", replaced.as_millis());
        let mut reads = load.read_at_once(&before, READS);
        reads.extend(load.read_at_once(&after, READS));
        std::thread::sleep(Duration::from_millis(50));
        paused.signal(Signal::CONT);
        answered += load.answered(reads);
        load.goes_on(WRITTEN_MEANWHILE);
    }
    assert_eq!(answered as u64, 2 * READS * PAUSES as u64, "every read was answered in the end");
    load.finish();
}
