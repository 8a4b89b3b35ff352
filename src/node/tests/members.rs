//! Members come and go while real nodes run: threads, sockets on loopback, disks in memory.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::recorder::Recorder;
use super::restore::{self, BACKUP};
use crate::config::Config;
use crate::env::memory::MemoryDisk;
use crate::env::os::{OsClock, OsEntropy};
use crate::error::{OpenError, WriteError};
use crate::node::recover::{RecoverOptions, recover};
use crate::node::{
    Environment, Hooks, MemberChange, MembersError, NodeHandle, NodeStatus, Proposal, RESTORE_GAP, RestoreOptions,
    Standing, TransferError,
};
use crate::raft::{ChangeRefused, Membership};
use crate::types::{Index, NodeId, Role};

/// Far longer than anything takes, even on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    disk: MemoryDisk,
    config: Config,
    recorder: Recorder,
    handle: Option<NodeHandle>,
}

/// Nodes on loopback.
#[derive(Default)]
struct Nodes {
    nodes: BTreeMap<u64, Node>,
    knobs: Option<fn(&mut Config)>,
    /// Those that take writes, for who writes in the background.
    running: Arc<Mutex<Vec<NodeHandle>>>,
}

/// Addresses on ports that nobody listens on, below those that the system gives to whoever connects: a node that is
/// started again finds its own still free.
fn free_addresses(count: usize) -> Vec<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let port = || 12_000 + (std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
    let addresses = std::iter::repeat_with(|| format!("127.0.0.1:{}", port()));
    addresses.filter(|address| TcpListener::bind(address).is_ok()).take(count).collect()
}

fn environment(disk: &MemoryDisk) -> Environment {
    Environment { disk: disk.handle(), clock: Arc::new(OsClock::new()), entropy: Arc::new(OsEntropy::new()) }
}

fn proposal(payload: &str) -> Vec<Proposal> {
    vec![Proposal { channel: 0, payload: Bytes::copy_from_slice(payload.as_bytes()), reserve: false }]
}

impl Nodes {
    /// A cluster of these nodes.
    async fn of(ids: &[u64], knobs: Option<fn(&mut Config)>) -> Self {
        let mut nodes = Self { knobs, ..Self::default() };
        let members: Vec<String> =
            ids.iter().zip(free_addresses(ids.len())).map(|(id, address)| format!("{id}={address}")).collect();
        for id in ids {
            nodes.add(Config::member(*id, &members.join(","), "/data").unwrap());
            nodes.start(*id).await;
        }
        nodes
    }

    fn add(&mut self, mut config: Config) {
        (config.segment_bytes, config.snapshot_bytes) = (64 << 10, 0);
        (config.heartbeat, config.election_timeout) = (Duration::from_millis(50), Duration::from_millis(300));
        if config.listen.ends_with(":0") {
            config.listen = free_addresses(1).remove(0);
        }
        self.knobs.iter().for_each(|change| change(&mut config));
        let node = Node { disk: MemoryDisk::new(), config, recorder: Recorder::default(), handle: None };
        self.nodes.insert(node.config.id.get(), node);
    }

    async fn start(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.recorder = Recorder::default();
        let begun = Instant::now();
        let handle = loop {
            let (config, machine) = (node.config.clone(), node.recorder.clone());
            match NodeHandle::start(environment(&node.disk), config, machine, Hooks::none()).await {
                Ok(handle) => break handle,
                // A node that has stopped gives its port back in a moment.
                Err(OpenError::Listen { .. }) if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("node {id} does not start: {error}"),
            }
        };
        self.running.lock().unwrap().push(handle.clone());
        node.handle = Some(handle);
    }

    /// Starts a node that joins by the addresses of all that run; the answer is its own.
    async fn start_joining(&mut self, id: u64) -> String {
        let addresses: Vec<String> = self.statuses().values().map(|status| status.address.clone()).collect();
        self.add(Config::joining(id, &addresses.join(","), "/data").unwrap());
        self.start(id).await;
        self.nodes[&id].config.listen.clone()
    }

    async fn stop(&mut self, id: u64) {
        let handle = self.nodes.get_mut(&id).unwrap().handle.take().unwrap();
        self.running.lock().unwrap().retain(|running| running.address() != handle.address());
        handle.shutdown().await;
        self.nodes[&id].disk.kill_process();
    }

    fn handle(&self, id: u64) -> &NodeHandle {
        self.nodes[&id].handle.as_ref().unwrap()
    }

    fn status(&self, id: u64) -> NodeStatus {
        self.handle(id).status()
    }

    fn statuses(&self) -> BTreeMap<u64, NodeStatus> {
        let running = self.nodes.iter().filter_map(|(id, node)| Some((*id, node.handle.as_ref()?.status())));
        running.collect()
    }

    /// Waits until `done`; what is waited for stands in the message when it does not come.
    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            let statuses: Vec<NodeStatus> = self.statuses().into_values().collect();
            assert!(begun.elapsed() < PATIENCE, "not {what}: {statuses:#?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn leader_now(&self) -> Option<u64> {
        let leads = |(id, status): (u64, NodeStatus)| (status.role == Role::Leader).then_some((status.term, id));
        self.statuses().into_iter().filter_map(leads).max().map(|(_term, id)| id)
    }

    async fn leader(&self) -> u64 {
        self.until("a leader", |nodes| nodes.leader_now().is_some()).await;
        self.leader_now().unwrap()
    }

    /// Asks whoever leads; once more when leadership has moved meanwhile.
    async fn try_change(&self, change: MemberChange) -> Result<Membership, MembersError> {
        loop {
            let leader = self.leader().await;
            match self.handle(leader).change_members(change.clone(), PATIENCE).await {
                Err(MembersError::Refused(ChangeRefused::NotLeader { .. } | ChangeRefused::HandingOver { .. })) => {}
                outcome => return outcome,
            }
        }
    }

    async fn change(&self, change: MemberChange) -> Membership {
        self.try_change(change).await.unwrap()
    }

    /// Waits until every member that runs says that these vote, and nobody else belongs to the cluster.
    async fn voters(&self, ids: &[u64]) {
        let all = |status: &NodeStatus| {
            let members: Vec<u64> = status.members.iter().map(|member| member.id.get()).collect();
            members == ids && status.members.iter().all(|member| member.standing == Standing::Voter)
        };
        self.until(&format!("voters {ids:?}"), |nodes| {
            ids.iter().filter(|id| nodes.nodes[id].handle.is_some()).all(|id| all(&nodes.status(*id)))
        })
        .await;
    }

    /// Writes on whoever leads, until it is acknowledged.
    async fn write(&self, payload: &str) {
        loop {
            let leader = self.leader().await;
            match self.handle(leader).propose(proposal(payload), PATIENCE).await {
                Ok(_) => return,
                Err(WriteError::Unavailable(_) | WriteError::Stopped(_) | WriteError::Unknown(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn applied(&self, id: u64) -> Vec<(Index, Bytes)> {
        self.nodes[&id].recorder.what_it_applied()
    }

    /// Waits until these have applied the same, the payload among it.
    async fn equal(&self, ids: &[u64], payload: &str) {
        let has = |nodes: &Self, id: u64| nodes.applied(id).iter().any(|(_, applied)| applied == payload);
        self.until(&format!("`{payload}` on {ids:?}"), |nodes| ids.iter().all(|id| has(nodes, *id))).await;
        self.until("equal", |nodes| ids.iter().all(|id| nodes.applied(*id) == nodes.applied(ids[0]))).await;
    }

    /// Writes in the background, on all nodes in turn, until it is told to stop; the answer is what was acknowledged.
    fn load(&self) -> (Arc<AtomicBool>, JoinHandle<Vec<String>>) {
        let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.running));
        let told = Arc::clone(&stop);
        let writing = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0_usize.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let handle = {
                    let running = running.lock().unwrap();
                    running[number % running.len()].clone()
                };
                let payload = format!("load {number}");
                if handle.propose(proposal(&payload), Duration::from_secs(2)).await.is_ok() {
                    acknowledged.push(payload);
                }
            }
            acknowledged
        });
        (stop, writing)
    }
}

fn names(status: &NodeStatus, id: u64) -> bool {
    status.members.iter().any(|member| member.id.get() == id)
}

fn votes(status: &NodeStatus, id: u64) -> bool {
    status.members.iter().any(|member| member.id.get() == id && member.standing == Standing::Voter)
}

fn add(id: u64, address: String) -> MemberChange {
    MemberChange::Add { id: NodeId(id), address, promote: true }
}

fn replace(old: u64, new: u64, address: String) -> MemberChange {
    MemberChange::Replace { old: NodeId(old), new: NodeId(new), address }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_three_become_five_and_then_three_others_and_nothing_acknowledged_is_lost() {
    let mut nodes = Nodes::of(&[1, 2, 3], None).await;
    nodes.write("first").await;
    let (stop, writing) = nodes.load();
    for id in [4, 5] {
        let address = nodes.start_joining(id).await;
        nodes.change(add(id, address)).await;
        nodes.until("a voter", |nodes| votes(&nodes.status(id), id)).await;
    }
    nodes.voters(&[1, 2, 3, 4, 5]).await;
    let address = nodes.start_joining(6).await;
    nodes.change(replace(3, 6, address)).await;
    nodes.voters(&[1, 2, 4, 5, 6]).await;
    for (gone, left) in [(1, &[2, 4, 5, 6][..]), (2, &[4, 5, 6])] {
        nodes.change(MemberChange::Remove { id: NodeId(gone) }).await;
        nodes.voters(left).await;
    }
    for gone in [1, 2, 3] {
        nodes.stop(gone).await;
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writing.await.unwrap();
    assert!(acknowledged.len() > 20, "only {} writes were acknowledged", acknowledged.len());
    for id in [4, 5, 6] {
        nodes.stop(id).await;
    }
    // Each with the flags it was first started with.
    for id in [4, 5, 6] {
        nodes.start(id).await;
    }
    nodes.write("last").await;
    nodes.equal(&[4, 5, 6], "last").await;
    let applied = nodes.applied(6);
    let is_lost = |payload: &&String| !applied.iter().any(|(_, applied)| applied == payload.as_str());
    let lost: Vec<&String> = acknowledged.iter().filter(is_lost).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// Snapshots often, and as little log as there can be.
const SNAPSHOTS: fn(&mut Config) = |config| {
    (config.snapshot_entries, config.snapshots_kept, config.log_tail_bytes) = (20, 1, 0);
    config.segment_bytes = 64 << 10;
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_joins_behind_a_purged_log_gets_a_snapshot_and_the_records_behind_it() {
    let mut nodes = Nodes::of(&[1], Some(SNAPSHOTS)).await;
    let filler = "x".repeat(3000);
    for number in 0..100 {
        nodes.write(&format!("{number} {filler}")).await;
    }
    nodes.until("purged", |nodes| nodes.status(1).first > Index(1)).await;
    for id in [2, 3] {
        let address = nodes.start_joining(id).await;
        nodes.change(add(id, address)).await;
    }
    nodes.voters(&[1, 2, 3]).await;
    nodes.write("after").await;
    nodes.equal(&[1, 2, 3], "after").await;
    for id in [2, 3] {
        assert!(nodes.status(id).snapshot_bytes_received > 0, "{:?}", nodes.status(id));
    }
    // The single node that has grown stops being needed.
    nodes.change(MemberChange::Remove { id: NodeId(1) }).await;
    nodes.stop(1).await;
    nodes.write("without the first").await;
    nodes.equal(&[2, 3], "without the first").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_joins_a_restored_cluster_gets_the_state_of_the_backup() {
    let mut nodes = Nodes::default();
    let cluster = format!("1={}", free_addresses(1)[0]);
    nodes.add(Config::member(1, &cluster, "/data").unwrap());
    let disk = nodes.nodes[&1].disk.clone();
    restore::write_backup(&disk);
    let options = RestoreOptions {
        backup: BACKUP.into(),
        data_dir: Path::new("/data").into(),
        id: NodeId(1),
        cluster: cluster.parse().unwrap(),
    };
    crate::node::restore(&environment(&disk), &options).unwrap();
    nodes.start(1).await;
    nodes.write("new").await;
    let address = nodes.start_joining(2).await;
    nodes.change(add(2, address)).await;
    nodes.voters(&[1, 2]).await;
    nodes.equal(&[1, 2], "new").await;
    assert!(nodes.status(2).first > Index(RESTORE_GAP));
    nodes.stop(2).await;
    nodes.start(2).await;
    nodes.write("newer").await;
    nodes.equal(&[1, 2], "newer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_whose_disk_was_wiped_is_refused_and_replaced_in_one_command() {
    let mut nodes = Nodes::of(&[1, 2, 3], None).await;
    nodes.write("before").await;
    nodes.voters(&[1, 2, 3]).await;
    let cluster = nodes.status(2).cluster;
    // The lowest, which would mint the cluster of nodes that are all empty.
    nodes.stop(1).await;
    nodes.nodes.get_mut(&1).unwrap().disk = MemoryDisk::new();
    nodes.start(1).await;
    let says_so = |status: NodeStatus| status.error.is_some_and(|error| error.contains("incarnation"));
    nodes.until("told why", |nodes| says_so(nodes.status(1))).await;
    nodes.write("without it").await;
    assert_eq!((nodes.status(1).cluster, nodes.applied(1)), (None, Vec::new()));
    let address = nodes.start_joining(4).await;
    nodes.change(replace(1, 4, address)).await;
    nodes.voters(&[2, 3, 4]).await;
    nodes.equal(&[2, 3, 4], "without it").await;
    assert_eq!((nodes.status(1).cluster, nodes.status(4).cluster), (None, cluster));
    let is_removed = |status: NodeStatus| status.error.is_some_and(|error| error.contains("was removed"));
    nodes.until("told that it was replaced", |nodes| is_removed(nodes.status(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_was_removed_is_told_so_and_does_no_harm_when_started_again() {
    let mut nodes = Nodes::of(&[1, 2, 3], None).await;
    nodes.write("before").await;
    for leads in [false, true] {
        let leader = nodes.leader().await;
        let members = nodes.status(leader).members;
        let gone = members.iter().map(|member| member.id.get()).find(|id| (*id == leader) == leads).unwrap();
        nodes.change(MemberChange::Remove { id: NodeId(gone) }).await;
        let is_removed = |status: NodeStatus| status.error.is_some_and(|error| error.contains("was removed"));
        nodes.until("told", |nodes| is_removed(nodes.status(gone))).await;
        nodes.write("goes on").await;
        nodes.stop(gone).await;
        nodes.start(gone).await;
        nodes.until("told once more", |nodes| is_removed(nodes.status(gone))).await;
        let term = nodes.status(nodes.leader().await).term;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(nodes.status(nodes.leader().await).term, term, "it does not disturb the others");
        nodes.stop(gone).await;
    }
}

/// A node that was away while all others were replaced knows nobody who is left, and they have to reach it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_was_away_while_all_others_were_replaced_is_found_by_those_who_came() {
    for (first, away, came) in [([1, 2, 3], 1, [4, 5]), ([5, 6, 7], 7, [1, 2])] {
        let mut nodes = Nodes::of(&first, None).await;
        nodes.write("before").await;
        nodes.voters(&first).await;
        nodes.stop(away).await;
        for (old, new) in first.into_iter().filter(|id| *id != away).zip(came) {
            let address = nodes.start_joining(new).await;
            nodes.change(replace(old, new, address)).await;
            nodes.until("replaced", |nodes| votes(&nodes.status(new), new) && !names(&nodes.status(new), old)).await;
            nodes.stop(old).await;
        }
        nodes.write("while it was away").await;
        nodes.start(away).await;
        nodes.equal(&[away, came[0], came[1]], "while it was away").await;
        // It is needed, and votes.
        nodes.stop(came[0]).await;
        nodes.write("with its vote").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_cannot_be_added_is_refused_with_the_reason() {
    let mut nodes = Nodes::of(&[1], None).await;
    let other = Nodes::of(&[2], None).await;
    nodes.write("before").await;
    other.write("before").await;
    let refused = async |nodes: &Nodes, change| nodes.try_change(change).await.unwrap_err().to_string();
    let foreign = other.status(2).address;
    assert!(refused(&nodes, add(2, foreign)).await.contains("belongs to cluster"));
    let nowhere = free_addresses(1)[0].clone();
    assert!(refused(&nodes, add(4, nowhere)).await.contains("start node 4 there with `--join` first"));
    let address = nodes.start_joining(5).await;
    assert!(refused(&nodes, add(4, address.clone())).await.contains("is node 5, not node 4"));
    nodes
        .until("waiting", |nodes| nodes.status(5).error.is_some_and(|error| error.contains("have the leader add it")))
        .await;
    nodes.change(add(5, address)).await;
    nodes.voters(&[1, 5]).await;
    nodes.until("served", |nodes| nodes.status(5).error.is_none()).await;
}

/// A recovered cluster took in a node that the one before had added behind the survivor's last entry, with its directory
/// of then: the change was acknowledged, and the two epochs never said a word to each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_of_an_epoch_that_was_left_behind_is_added_only_with_an_empty_directory() {
    let mut nodes = Nodes::of(&[1, 2, 3], None).await;
    nodes.write("before").await;
    nodes.stop(3).await;
    let address = nodes.start_joining(4).await;
    nodes.change(add(4, address.clone())).await;
    nodes.until("joined", |nodes| nodes.status(4).cluster.is_some()).await;
    for id in [1, 2, 4] {
        nodes.stop(id).await;
    }
    let survivor = nodes.nodes.get_mut(&3).unwrap();
    let options = RecoverOptions { data_dir: "/data".into(), others: Vec::new() };
    recover(&environment(&survivor.disk), &options).unwrap();
    survivor.config.cluster = format!("3={}", survivor.config.listen).parse().unwrap();
    nodes.start(3).await;
    nodes.start(4).await;
    let refused = nodes.try_change(add(4, address.clone())).await.unwrap_err().to_string();
    assert!(refused.contains("of epoch 1 of this cluster, which is in epoch 2"), "{refused}");
    nodes.stop(4).await;
    let survivor = nodes.status(3).address;
    let node = nodes.nodes.get_mut(&4).unwrap();
    (node.disk, node.config.join) = (MemoryDisk::new(), survivor.parse().unwrap());
    nodes.start(4).await;
    nodes.change(add(4, address)).await;
    nodes.voters(&[3, 4]).await;
    assert_eq!(nodes.status(4).epoch, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_is_shut_down_hands_over_before_it_stops() {
    let mut nodes = Nodes::of(&[1, 2, 3], None).await;
    nodes.write("before").await;
    nodes.voters(&[1, 2, 3]).await;
    for _round in 0..3 {
        let leader = nodes.leader().await;
        let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
        nodes.until("followed", |nodes| others.iter().all(|id| nodes.status(*id).leader == Some(NodeId(leader)))).await;
        nodes.stop(leader).await;
        assert!(nodes.leader_now().is_some(), "somebody leads by the time it has stopped");
        nodes.start(leader).await;
        nodes.write("after").await;
        nodes.equal(&[1, 2, 3], "after").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_is_preferred_takes_over_and_does_so_again_when_it_comes_back() {
    let mut nodes = Nodes::of(&[1, 2, 3], None).await;
    nodes.write("before").await;
    let first = nodes.leader().await;
    let preferred = [1, 2, 3].into_iter().find(|id| *id != first).unwrap();
    let third = 6 - first - preferred;
    let refused = nodes.handle(preferred).transfer_leadership(NodeId(third)).await;
    assert!(matches!(refused, Err(TransferError::Refused(_))), "{refused:?}");
    nodes.change(MemberChange::Prioritise { id: NodeId(preferred), priority: 1 }).await;
    nodes.until("taken over", |nodes| nodes.leader_now() == Some(preferred)).await;
    nodes.stop(preferred).await;
    nodes.write("without it").await;
    nodes.start(preferred).await;
    nodes.until("taken over again", |nodes| nodes.leader_now() == Some(preferred)).await;
}
