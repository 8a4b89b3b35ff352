//! Random schedules over bare cores: lost, doubled, delayed and reordered messages, slow disks, crashes that lose
//! what is not durable. The harness checks the properties of the paper's figure 3 at every step; afterwards the
//! faults stop and the cluster must serve again. A failing seed is named in the message and repeats.

mod raft_support;

use std::time::Duration;

use dledger::types::NodeId;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use raft_support::Cluster;

const SEEDS: u64 = 60;
const STEPS: u64 = 3_000;

struct Luck(TestRng);

impl Luck {
    fn new(seed: u64) -> Self {
        let mut bytes = [7u8; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}

/// How rough a seed is; some seeds leave a fault out altogether, so that rare ones get their turn.
struct Weather {
    loss: u64,
    double: u64,
    delay: u64,
    crash: u64,
    slow_disk: u64,
}

fn storm(seed: u64) -> (Cluster, u64) {
    let mut luck = Luck::new(seed);
    let size = [3, 5][usize::try_from(seed % 2).unwrap()];
    let mut cluster = Cluster::new(size, seed);
    let weather = Weather {
        loss: [u64::MAX, 20, 5][luck.below(3) as usize],
        double: [u64::MAX, 20][luck.below(2) as usize],
        delay: [1, 3, 10][luck.below(3) as usize],
        crash: [u64::MAX, 300, 60][luck.below(3) as usize],
        slow_disk: [1, 4, 30][luck.below(3) as usize],
    };
    let mut proposed = 0;
    for _ in 0..STEPS {
        cluster.now = cluster.now.after(Duration::from_micros(500 + luck.below(1_500)));
        let id = NodeId(1 + luck.below(size));
        cluster.tick(id);
        if luck.one_in(weather.slow_disk) {
            cluster.write_one(NodeId(1 + luck.below(size)));
        }
        if luck.one_in(6) && cluster.propose(id, 1 + luck.below(3)).is_some() {
            proposed += 1;
        }
        if luck.one_in(40) {
            cluster.input(id, |raft, now| raft.read_index(now, seed));
        }
        if luck.one_in(weather.crash) {
            cluster.crash(id);
        }
        if luck.one_in(50) {
            let peer = NodeId(1 + luck.below(size));
            cluster.input(id, |raft, now| raft.peer_disconnected(now, peer));
            cluster.input(id, |raft, _now| raft.appends_lost(peer));
        }
        let waiting = cluster.network.len() as u64;
        for _ in 0..1 + luck.below(1 + waiting.div_ceil(weather.delay)) {
            if cluster.network.is_empty() {
                break;
            }
            let place = luck.below(cluster.network.len() as u64) as usize;
            let packet = cluster.network.remove(place);
            if luck.one_in(weather.double) {
                cluster.network.push(packet.clone());
            }
            if !luck.one_in(weather.loss) {
                cluster.deliver(packet);
            }
        }
    }
    (cluster, proposed)
}

#[test]
fn raft_random_storms_keep_figure_3_and_calm_restores_service() {
    let mut proposed_in_all = 0;
    for seed in 0..SEEDS {
        let (mut cluster, proposed) = storm(seed);
        proposed_in_all += proposed;
        cluster.run(2_000, |_message| true);
        let leader = cluster.leader().unwrap_or_else(|| panic!("seed {seed}: no leader after the storm"));
        let first = cluster.propose(leader, 1).unwrap_or_else(|| panic!("seed {seed}: the leader takes nothing"));
        cluster.run(500, |_message| true);
        for (id, node) in &cluster.nodes {
            assert!(node.raft.committed() >= first.index, "seed {seed}: node {id} did not catch up");
        }
    }
    assert!(proposed_in_all > SEEDS * 20, "too little happened: {proposed_in_all} proposals");
}
