//! A cluster of replicas without threads: the production replica and commitlog, with disks in memory, messages in a
//! queue and time in the test's hand.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::commitlog::layout::{group_dir, log_dir};
use crate::commitlog::{HEADER_BYTES, Identity, LogWriter, Opened, RecordHeader};
use crate::config::Config;
use crate::env::memory::MemoryDisk;
use crate::env::{Clock, Entropy, OpenMode};
use crate::error::ReadError;
use crate::node::data_dir::Recovered;
use crate::node::data_dir::{self, DataDir};
use crate::node::effects::{Answer, DiskTask, Outbound, Proposal, Ticket};
use crate::node::formation::{Formation, Genesis};
use crate::node::replica::Replica;
use crate::node::snapshot_worker::{SnapshotOrder, SnapshotWorker};
use crate::node::{Environment, replica_options};
use crate::simulation::plants::Plants;
use crate::transport::{Channel, FormationMessage, PeerBody, RepairRefusal, RepairRequest};
use crate::types::{GroupId, Index, LogTime, Monotonic, NodeId, Role};

use super::recorder::Recorder;

/// Number of nodes.
pub(super) const NODES: u64 = 3;

/// The test's clock and luck.
#[derive(Debug, Default)]
pub(super) struct Hand {
    micros: AtomicU64,
    draws: AtomicU64,
}

impl Clock for Hand {
    fn monotonic(&self) -> Monotonic {
        Monotonic::from_micros(self.micros.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

impl Entropy for Hand {
    fn next_u64(&self) -> u64 {
        self.draws.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }
}

/// A machine with this disk, whose clock and luck are in the test's hand.
pub(super) fn machine(disk: &MemoryDisk, hand: &Arc<Hand>) -> Environment {
    Environment {
        disk: disk.handle(),
        clock: Arc::clone(hand) as Arc<dyn Clock>,
        entropy: Arc::clone(hand) as Arc<dyn Entropy>,
    }
}

/// A node whose process runs.
struct Running {
    replica: Replica<Recorder>,
    writer: LogWriter,
    tasks: VecDeque<DiskTask>,
    purge: Option<Index>,
    worker: SnapshotWorker,
    orders: VecDeque<SnapshotOrder<Recorder>>,
    recorder: Recorder,
    _data_dir: DataDir,
}

struct Node {
    disk: MemoryDisk,
    running: Option<Running>,
}

/// How the harness is made to break a rule, to show that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// None.
    Nothing,
    /// `sync` answers without syncing.
    SyncDoesNothing,
    /// A write is reported as done before it is.
    AnswerBeforeSync,
}

/// The cluster.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    /// What every node's configuration says beside the members.
    pub(super) knobs: fn(&mut Config),
    /// Chunks of snapshots that may still arrive; each that does not is lost with its connection.
    pub(super) chunks: u64,
    hand: Arc<Hand>,
    sabotage: Sabotage,
    network: VecDeque<(NodeId, Outbound)>,
    /// Nothing reaches these nodes, and nothing leaves them.
    pub(super) isolated: BTreeSet<usize>,
    pub(super) answers: Vec<(Ticket, Answer)>,
}

/// A disk failed under a call: the power is about to go.
#[derive(Debug)]
pub(super) struct PowerFails;

impl Cluster {
    pub(super) fn new(sabotage: Sabotage) -> Self {
        let node = |_id| {
            let disk = MemoryDisk::new();
            disk.drop_syncs(sabotage == Sabotage::SyncDoesNothing);
            Node { disk, running: None }
        };
        Self {
            nodes: (1..=NODES).map(node).collect(),
            knobs: |config| config.snapshot_entries = 0,
            chunks: u64::MAX,
            hand: Arc::default(),
            sabotage,
            network: VecDeque::new(),
            isolated: BTreeSet::new(),
            answers: Vec::new(),
        }
    }

    pub(super) fn disk(&self, node: usize) -> &MemoryDisk {
        &self.nodes[node].disk
    }

    fn id(node: usize) -> NodeId {
        NodeId(node as u64 + 1)
    }

    fn config(&self, node: usize) -> Config {
        let mut config = Config::member(node as u64 + 1, "1=n:1,2=n:2,3=n:3", "/data").unwrap();
        config.segment_bytes = 64 << 10;
        (self.knobs)(&mut config);
        config
    }

    fn environment(&self, node: usize) -> Environment {
        machine(&self.nodes[node].disk, &self.hand)
    }

    pub(super) fn now(&self) -> Monotonic {
        self.hand.monotonic()
    }

    /// Starts all nodes: forms the cluster where that is not done yet.
    pub(super) fn start(&mut self) -> Result<(), PowerFails> {
        let members = self.config(0).cluster;
        let mut directories = Vec::new();
        for node in 0..self.nodes.len() {
            let opened = data_dir::open(&self.environment(node), &self.config(node), &members);
            directories.push(opened.map_err(|_error| PowerFails)?);
        }
        let formation =
            |node: usize| Formation::new(Self::id(node), directories[node].identity.incarnation, members.clone());
        let mut genesis: Option<Genesis> = None;
        let mut recovered: Vec<Option<(Recovered, Recorder)>> = Vec::new();
        for (node, directory) in directories.iter().enumerate() {
            if directory.identity.cluster.is_none() {
                recovered.push(None);
                continue;
            }
            let found = self.recover(node, &directory.identity)?;
            let record = found.0.genesis.clone().unwrap();
            genesis = Some(formation(node).form(record).unwrap());
            recovered.push(Some(found));
        }
        let genesis = genesis.unwrap_or_else(|| {
            let mut first = formation(0);
            for (node, directory) in directories.iter().enumerate().skip(1) {
                let incarnation = directory.identity.incarnation;
                first.hello(Self::id(node), incarnation, &members.to_string(), None, Duration::ZERO).unwrap();
            }
            first.mint(u128::from(self.hand.next_u64()), LogTime(self.hand.wall_ms())).unwrap()
        });
        for (node, (mut directory, found)) in directories.into_iter().zip(recovered).enumerate() {
            let (environment, config) = (self.environment(node), self.config(node));
            let found = match found {
                Some(found) => found,
                None => {
                    data_dir::adopt(&environment, &config, &mut directory, &genesis).map_err(|_error| PowerFails)?;
                    self.recover(node, &directory.identity)?
                }
            };
            self.run_node(node, directory, found);
        }
        Ok(())
    }

    fn recover(&self, node: usize, identity: &Identity) -> Result<(Recovered, Recorder), PowerFails> {
        let (environment, config, mut recorder) = (self.environment(node), self.config(node), Recorder::default());
        match data_dir::recover(&environment, &config, identity, &mut recorder, Plants::NONE) {
            Ok(recovered) => Ok((recovered, recorder)),
            Err(error) => {
                assert!(self.nodes[node].disk.is_off(), "node {node} does not open again: {error}");
                Err(PowerFails)
            }
        }
    }

    fn run_node(&mut self, node: usize, data_dir: DataDir, (recovered, recorder): (Recovered, Recorder)) {
        let options = replica_options(&self.config(node), self.hand.next_u64());
        let Recovered { opened, store, base, kept, genesis } = recovered;
        let Opened { writer, reader, state, .. } = opened;
        let mut replica =
            Replica::open(options, &state, reader, (recorder.clone(), &base, kept), genesis, self.now()).unwrap();
        let now = self.now();
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            if let Some(running) = &mut self.nodes[peer].running {
                for channel in Channel::ALL {
                    replica.peer_connected(now, Self::id(peer), channel);
                    running.replica.peer_connected(now, Self::id(node), channel);
                }
            }
        }
        let (tasks, orders, worker) = (VecDeque::new(), VecDeque::new(), SnapshotWorker::new(store));
        let running = Running { replica, writer, tasks, purge: None, worker, orders, recorder, _data_dir: data_dir };
        self.nodes[node].running = Some(running);
    }

    /// Ends a node's process after its disk came to rest.
    pub(super) fn stop(&mut self, node: usize) {
        let mut running = self.nodes[node].running.take().unwrap();
        while let Some(task) = running.tasks.pop_front() {
            running.writer.write(&task.batch).unwrap();
        }
        running.writer.idle(running.replica.raft().committed().min(running.replica.raft().written())).unwrap();
        self.network.retain(|(from, outbound)| *from != Self::id(node) && outbound.to != Self::id(node));
        drop(running);
        self.nodes[node].disk.kill_process();
        self.closed(node);
    }

    /// The others notice that a node is gone.
    fn closed(&mut self, node: usize) {
        let now = self.now();
        for peer in 0..self.nodes.len() {
            if let Some(running) = &mut self.nodes[peer].running {
                for channel in Channel::ALL {
                    running.replica.peer_closed(now, Self::id(node), channel);
                }
                self.end_turn(peer);
            }
        }
    }

    /// Starts a node that has been stopped.
    pub(super) fn restart(&mut self, node: usize) -> Result<(), PowerFails> {
        let config = self.config(node);
        let environment = self.environment(node);
        let directory = data_dir::open(&environment, &config, &config.cluster).map_err(|_error| PowerFails)?;
        let found = self.recover(node, &directory.identity)?;
        self.run_node(node, directory, found);
        self.end_turn(node);
        Ok(())
    }

    /// Opens the log of a node that has been stopped, and drops its front with what cannot be read in it.
    pub(super) fn purge_at_rest(&self, node: usize, upto: Index) {
        let (environment, config) = (self.environment(node), self.config(node));
        let directory = data_dir::open(&environment, &config, &config.cluster).unwrap();
        let (mut found, _recorder) = self.recover(node, &directory.identity).unwrap();
        found.opened.writer.purge(upto).unwrap();
    }

    /// One node loses its power.
    pub(super) fn cut_power_of(&mut self, node: usize, seed: u64) {
        let disk = self.nodes[node].disk.clone();
        disk.cut_power_at(0);
        self.nodes[node].running = None;
        self.network.retain(|(from, outbound)| *from != Self::id(node) && outbound.to != Self::id(node));
        disk.power_cut(crate::env::memory::Fate::seeded(seed));
        self.closed(node);
    }

    pub(super) fn replica(&self, node: usize) -> &Replica<Recorder> {
        &self.nodes[node].running.as_ref().unwrap().replica
    }

    /// From this log time on something is due on a node, for ever.
    pub(super) fn make_due(&self, node: usize, at: LogTime) {
        self.nodes[node].running.as_ref().unwrap().recorder.make_due(at);
    }

    /// A caller asks a node to hand over to another.
    pub(super) fn transfer(&mut self, node: usize, ticket: u64, to: usize) {
        let now = self.now();
        let running = self.nodes[node].running.as_mut().unwrap();
        running.replica.transfer_leadership(now, Ticket(ticket), Self::id(to));
        self.end_turn(node);
    }

    pub(super) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].running.is_some()
    }

    /// A caller asks a node for records, as the event loop has it done.
    pub(super) fn read(&mut self, node: usize, index: Index) -> Result<Vec<Bytes>, ReadError> {
        let replica = &mut self.nodes[node].running.as_mut().unwrap().replica;
        let read = replica.entries(index, 1);
        if let Err(error) = &read {
            replica.note_damage(error);
        }
        self.end_turn(node);
        read
    }

    /// A caller asks a node for a snapshot.
    pub(super) fn ask_for_snapshot(&mut self, node: usize, ticket: u64) {
        self.nodes[node].running.as_mut().unwrap().replica.ask_for_snapshot(Ticket(ticket));
        self.end_turn(node);
    }

    /// What a node gives a member that was away when the cluster formed.
    pub(super) fn ask_for_genesis(&mut self, node: usize) -> Option<Bytes> {
        let peer = (node + 1) % self.nodes.len();
        let replica = &mut self.nodes[node].running.as_mut().unwrap().replica;
        let member = replica.raft().membership().unwrap().members().find(|member| member.id == Self::id(peer)).unwrap();
        let hello = FormationMessage::Hello {
            incarnation: member.incarnation,
            empty: true,
            members: String::new(),
            backup: None,
            read_lease_us: 0,
        };
        replica.formation(Self::id(peer), &hello);
        let answer = replica.effects.send.pop()?.frame;
        assert_eq!(answer.body, PeerBody::Formation(FormationMessage::Form));
        Some(answer.attached.concat().into())
    }

    /// What a node answers to a peer that has lost records.
    pub(super) fn ask_for_repair(&mut self, node: usize, request: &RepairRequest) -> Result<Vec<Bytes>, RepairRefusal> {
        let from = Self::id((node + 1) % self.nodes.len());
        let replica = &mut self.nodes[node].running.as_mut().unwrap().replica;
        replica.serve_repair(from, request);
        let answer = replica.effects.send.pop().unwrap().frame;
        let PeerBody::RepairAnswer { result, .. } = answer.body else { panic!("an answer to something else") };
        result.map(|_committed| answer.attached)
    }

    /// The scrub of a node comes by at an index.
    pub(super) fn scrub(&mut self, node: usize, index: Index) {
        let _scrubbed = self.replica(node).log().scrub(index, 1);
        self.end_turn(node);
    }

    /// Where the record of an index stands on a node's disk: the newest copy there is.
    pub(super) fn place_of(&self, node: usize, index: Index) -> (PathBuf, u64) {
        let disk = self.nodes[node].disk.handle();
        let log = log_dir(&group_dir(Path::new("/data"), GroupId::FIRST));
        let mut found = None;
        for name in disk.list(&log).unwrap().into_iter().filter(|name| name.ends_with(".seg")) {
            let path = log.join(name);
            let file = disk.open(&path, OpenMode::Read).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let header = |at: &usize| RecordHeader::decode(&bytes[*at..*at + HEADER_BYTES], 1 << 20).ok();
            let here = |at: &usize| header(at).is_some_and(|header| header.id.index == index);
            if let Some(at) = (0..bytes.len() - HEADER_BYTES).find(here) {
                found = Some((path, at as u64));
            }
        }
        found.unwrap_or_else(|| panic!("no record {index} on node {node}"))
    }

    /// A byte of a record rots: of its payload, or of its header, so that nothing is left of its identity.
    pub(super) fn rot(&self, node: usize, index: u64, header: bool) {
        let (path, at) = self.place_of(node, Index(index));
        let at = if header { at + 10 } else { at + HEADER_BYTES as u64 };
        self.nodes[node].disk.flip_byte(&path, at).unwrap();
    }

    /// The bytes of a record as its node has them on disk, when they can be read.
    pub(super) fn stored(&self, node: usize, index: u64) -> Option<Bytes> {
        self.replica(node).log().read(Index(index)).ok().map(|record| record.bytes().clone())
    }

    /// All nodes lose their power at once; each pending change meets `fate`.
    pub(super) fn cut_power(&mut self, mut seed: u64) {
        self.network.clear();
        for node in &mut self.nodes {
            node.running = None;
            node.disk.cut_power_at(0);
            seed += 1;
            match seed % 3 {
                0 => node.disk.power_cut(|_pending| crate::env::memory::Fate::Lost),
                _ => node.disk.power_cut(crate::env::memory::Fate::seeded(seed)),
            }
        }
    }

    /// A millisecond passes: timers, one disk write a node, all messages.
    pub(super) fn step(&mut self) -> Result<(), PowerFails> {
        self.hand.micros.fetch_add(1_000, Ordering::Relaxed);
        let now = self.now();
        for node in 0..self.nodes.len() {
            let early = self.sabotage == Sabotage::AnswerBeforeSync;
            let Some(running) = &mut self.nodes[node].running else { continue };
            running.replica.tick(now);
            // Before the writes that were ordered ahead of it: the disk thread does so while it gathers those.
            if let Some(upto) = running.purge.take() {
                running.writer.purge(upto).map_err(|_fault| PowerFails)?;
                let base = running.writer.base().entry;
                let known = running.replica.raft().term_at(base.index);
                assert_eq!(known, Some(base.term), "node {} purged up to {base}, of another history", node + 1);
                running.replica.purged(now, base);
            }
            if let Some(task) = running.tasks.pop_front() {
                if early {
                    running.replica.disk_done(now, task.number);
                    self.end_turn(node);
                    self.deliver_all();
                }
                let Some(running) = &mut self.nodes[node].running else { continue };
                running.writer.write(&task.batch).map_err(|_fault| PowerFails)?;
                if let Some(job) = running.writer.prepare_job() {
                    running.writer.prepared(job.run()).map_err(|_fault| PowerFails)?;
                }
                running.replica.disk_done(now, task.number);
            }
            let Some(running) = &mut self.nodes[node].running else { continue };
            if let Some(order) = running.orders.pop_front()
                && let Some(report) = running.worker.perform(order, &mut |_worker, _written| true)
            {
                running.replica.snapshot_report(now, report);
            }
            self.end_turn(node);
        }
        self.deliver_all();
        // Also a read may have found that the power is gone; what it then makes of that is nobody's business.
        let off = self.nodes.iter().any(|node| node.running.is_some() && node.disk.is_off());
        if off { Err(PowerFails) } else { Ok(()) }
    }

    fn end_turn(&mut self, node: usize) {
        let now = self.now();
        let Some(running) = &mut self.nodes[node].running else { return };
        let effects = running.replica.end_turn(now);
        running.tasks.extend(effects.disk);
        running.purge = effects.purge.or(running.purge);
        running.orders.extend(running.replica.take_snapshot_orders());
        self.network.extend(effects.send.into_iter().map(|outbound| (Self::id(node), outbound)));
        self.answers.extend(effects.answers);
        assert!(effects.disconnect.is_empty(), "{:?}", effects.disconnect);
    }

    fn deliver_all(&mut self) {
        let now = self.now();
        while let Some((from, Outbound { to, frame, .. })) = self.network.pop_front() {
            let node = usize::try_from(to.get()).unwrap() - 1;
            let sender = usize::try_from(from.get()).unwrap() - 1;
            if self.isolated.contains(&node) || self.isolated.contains(&sender) {
                continue;
            }
            if matches!(frame.body, PeerBody::SnapshotAnswer { .. }) {
                let Some(left) = self.chunks.checked_sub(1) else {
                    self.reconnect(node, sender);
                    continue;
                };
                self.chunks = left;
            }
            if let Some(running) = &mut self.nodes[node].running {
                running.replica.receive(now, from, frame);
                self.end_turn(node);
            }
        }
    }

    /// The bulk connection of two nodes breaks, with all that is on it, and is made again.
    fn reconnect(&mut self, one: usize, other: usize) {
        self.chunks = u64::MAX;
        let now = self.now();
        let ends = [Self::id(one), Self::id(other)];
        self.network.retain(|(from, outbound)| {
            outbound.channel != Channel::Bulk || !ends.contains(from) || !ends.contains(&outbound.to)
        });
        for (node, peer) in [(one, other), (other, one)] {
            if let Some(running) = &mut self.nodes[node].running {
                running.replica.peer_closed(now, Self::id(peer), Channel::Bulk);
                running.replica.peer_connected(now, Self::id(peer), Channel::Bulk);
                self.end_turn(node);
            }
        }
    }

    /// Steps until `done` or, after as long as ten elections may take, gives up.
    pub(super) fn until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<(), PowerFails> {
        for _ in 0..5_000 {
            if done(self) {
                return Ok(());
            }
            self.step()?;
        }
        panic!("the cluster does not get there");
    }

    /// Who leads among those that are reached.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| node.running.as_ref().is_some_and(|it| it.replica.raft().role() == Role::Leader);
        (0..self.nodes.len()).filter(|node| !self.isolated.contains(node)).find(|node| leads(&self.nodes[*node]))
    }

    /// Proposes entries on the leader and waits until they are acknowledged.
    pub(super) fn write(&mut self, ticket: u64, payloads: &[&'static str]) -> Result<(), PowerFails> {
        self.until(|cluster| cluster.leader().is_some())?;
        let leader = self.leader().unwrap();
        self.propose(leader, ticket, payloads);
        self.until(|cluster| cluster.answers.iter().any(|(answered, _)| answered.0 == ticket))
    }

    /// Proposes entries on a node and waits for nothing.
    pub(super) fn propose(&mut self, node: usize, ticket: u64, payloads: &[&'static str]) {
        let deadline = self.now().after(Duration::from_secs(60));
        let proposal = |payload: &&'static str| Proposal {
            channel: 0,
            payload: Bytes::from_static(payload.as_bytes()),
            reserve: false,
        };
        let proposals = payloads.iter().map(proposal).collect();
        let running = self.nodes[node].running.as_mut().unwrap();
        running.replica.propose(Ticket(ticket), None, proposals, deadline);
        self.end_turn(node);
    }

    /// True when the write of `ticket` was acknowledged.
    pub(super) fn is_acknowledged(&self, ticket: u64) -> bool {
        self.answers.iter().any(|(answered, answer)| answered.0 == ticket && matches!(answer, Answer::Write(Ok(_))))
    }

    /// What each node has applied.
    pub(super) fn applied(&self) -> Vec<Vec<(Index, Bytes)>> {
        (0..self.nodes.len()).map(|node| self.applied_by(node)).collect()
    }

    /// What a node has applied.
    pub(super) fn applied_by(&self, node: usize) -> Vec<(Index, Bytes)> {
        self.nodes[node].running.as_ref().unwrap().recorder.what_it_applied()
    }
}
