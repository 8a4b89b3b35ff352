//! A cluster of replicas without threads: the production replica and commitlog, with disks in memory, messages in a
//! queue and time in the test's hand.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::commitlog::{LogWriter, Opened};
use crate::config::Config;
use crate::env::memory::MemoryDisk;
use crate::env::{Clock, Entropy};
use crate::node::data_dir::{self, DataDir};
use crate::node::effects::{Answer, DiskTask, Outbound, Proposal, Ticket};
use crate::node::formation::{Formation, Genesis};
use crate::node::replica::Replica;
use crate::node::{Environment, replica_options};
use crate::state_machine::{Applied, ApplyError, Entry, StateMachine};
use crate::transport::Channel;
use crate::types::{Index, Kind, LogTime, Monotonic, NodeId, Role};

/// Number of nodes.
pub(super) const NODES: u64 = 3;

/// Remembers what it applied.
#[derive(Clone, Default)]
pub(super) struct Recorder {
    applied: Arc<Mutex<Vec<(Index, Bytes)>>>,
}

impl StateMachine for Recorder {
    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        if entry.kind == Kind::Data {
            self.applied.lock().unwrap().push((entry.id.index, entry.payload.clone()));
        }
        Ok(Applied::Done(Bytes::new()))
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        Ok(Applied::Done(Bytes::new()))
    }

    fn publish(&mut self) {}
}

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
    hand: Arc<Hand>,
    sabotage: Sabotage,
    network: VecDeque<(NodeId, Outbound)>,
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
            hand: Arc::default(),
            sabotage,
            network: VecDeque::new(),
            answers: Vec::new(),
        }
    }

    pub(super) fn disk(&self, node: usize) -> &MemoryDisk {
        &self.nodes[node].disk
    }

    fn id(node: usize) -> NodeId {
        NodeId(node as u64 + 1)
    }

    fn config(node: usize) -> Config {
        let mut config = Config::member(node as u64 + 1, "1=n:1,2=n:2,3=n:3", "/data").unwrap();
        config.segment_bytes = 64 << 10;
        config
    }

    fn environment(&self, node: usize) -> Environment {
        machine(&self.nodes[node].disk, &self.hand)
    }

    fn now(&self) -> Monotonic {
        self.hand.monotonic()
    }

    /// Starts all nodes: forms the cluster where that is not done yet.
    pub(super) fn start(&mut self) -> Result<(), PowerFails> {
        let members = Self::config(0).cluster;
        let mut directories = Vec::new();
        for node in 0..self.nodes.len() {
            let opened = data_dir::open(&self.environment(node), &Self::config(node), &members);
            directories.push(opened.map_err(|_error| PowerFails)?);
        }
        let formation =
            |node: usize| Formation::new(Self::id(node), directories[node].identity.incarnation, members.clone());
        let mut genesis: Option<Genesis> = None;
        let mut logs: Vec<Option<Opened>> = Vec::new();
        for (node, directory) in directories.iter().enumerate() {
            let Some(cluster) = directory.identity.cluster else {
                logs.push(None);
                continue;
            };
            let log = data_dir::open_log(&self.environment(node), &Self::config(node), cluster);
            let log = log.map_err(|error| {
                assert!(self.nodes[node].disk.is_off(), "node {node} does not open again: {error}");
                PowerFails
            })?;
            let record = log.reader.read(Index(1)).unwrap().bytes().clone();
            genesis = Some(formation(node).form(record).unwrap());
            logs.push(Some(log));
        }
        let genesis = genesis.unwrap_or_else(|| {
            let mut first = formation(0);
            for (node, directory) in directories.iter().enumerate().skip(1) {
                let incarnation = directory.identity.incarnation;
                first.hello(Self::id(node), incarnation, &members.to_string()).unwrap();
            }
            first.mint(u128::from(self.hand.next_u64()), LogTime(self.hand.wall_ms())).unwrap()
        });
        for (node, (mut directory, log)) in directories.into_iter().zip(logs).enumerate() {
            let (environment, config) = (self.environment(node), Self::config(node));
            let log = match log {
                Some(log) => log,
                None => {
                    data_dir::adopt(&environment, &config, &mut directory, &genesis).map_err(|_error| PowerFails)?
                }
            };
            self.run_node(node, directory, log);
        }
        Ok(())
    }

    fn run_node(&mut self, node: usize, data_dir: DataDir, log: Opened) {
        let recorder = Recorder::default();
        let options = replica_options(&Self::config(node), self.hand.next_u64());
        let Opened { writer, reader, state, .. } = log;
        let mut replica = Replica::open(options, &state, reader, recorder.clone(), self.now()).unwrap();
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            for channel in Channel::ALL {
                replica.peer_connected(self.now(), Self::id(peer), channel);
            }
        }
        let running = Running { replica, writer, tasks: VecDeque::new(), recorder, _data_dir: data_dir };
        self.nodes[node].running = Some(running);
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
            self.end_turn(node);
        }
        self.deliver_all();
        Ok(())
    }

    fn end_turn(&mut self, node: usize) {
        let now = self.now();
        let Some(running) = &mut self.nodes[node].running else { return };
        let effects = running.replica.end_turn(now);
        running.tasks.extend(effects.disk);
        self.network.extend(effects.send.into_iter().map(|outbound| (Self::id(node), outbound)));
        self.answers.extend(effects.answers);
        assert!(effects.disconnect.is_empty(), "{:?}", effects.disconnect);
    }

    fn deliver_all(&mut self) {
        let now = self.now();
        while let Some((from, Outbound { to, frame, .. })) = self.network.pop_front() {
            let node = usize::try_from(to.get()).unwrap() - 1;
            if let Some(running) = &mut self.nodes[node].running {
                running.replica.receive(now, from, frame);
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

    fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| node.running.as_ref().is_some_and(|it| it.replica.raft().role() == Role::Leader);
        self.nodes.iter().position(leads)
    }

    /// Proposes entries on the leader and waits until they are acknowledged.
    pub(super) fn write(&mut self, ticket: u64, payloads: &[&'static str]) -> Result<(), PowerFails> {
        self.until(|cluster| cluster.leader().is_some())?;
        let deadline = self.now().after(Duration::from_secs(60));
        let leader = self.leader().unwrap();
        let proposal = |payload: &&'static str| Proposal {
            channel: 0,
            payload: Bytes::from_static(payload.as_bytes()),
            reserve: false,
        };
        let proposals = payloads.iter().map(proposal).collect();
        let running = self.nodes[leader].running.as_mut().unwrap();
        running.replica.propose(Ticket(ticket), None, proposals, deadline);
        self.end_turn(leader);
        self.until(|cluster| cluster.answers.iter().any(|(answered, _)| answered.0 == ticket))
    }

    /// True when the write of `ticket` was acknowledged.
    pub(super) fn is_acknowledged(&self, ticket: u64) -> bool {
        self.answers.iter().any(|(answered, answer)| answered.0 == ticket && matches!(answer, Answer::Write(Ok(_))))
    }

    /// What each node has applied.
    pub(super) fn applied(&self) -> Vec<Vec<(Index, Bytes)>> {
        let applied = |node: &Node| node.running.as_ref().unwrap().recorder.applied.lock().unwrap().clone();
        self.nodes.iter().map(applied).collect()
    }
}
