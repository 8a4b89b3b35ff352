//! The claim of `import.rs`, tried at random: a cluster as one log with terms, nodes that believe to lead for longer
//! than they do, connections whose input arrives long after the client gave them up.
//!
//! Each seed is one history. Two planted faults (a node that forwards what was meant for its term, a server without
//! fences) show that the check can fail.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};

use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::server::fake::{QueueSink, QueueSource};
use crate::server::kinds::{
    Consistency, LeaseStatus, MemberChange, MemberStatus, MembersError, NodeStatus, Scan, ScanPage, SnapshotWant,
    TransferError,
};
use crate::server::limits::ANONYMOUS;
use crate::server::protocol::Packet;
use crate::server::store::{Leadership, Store};
use crate::server::wire::WireError;
use crate::types::{LeaseId, Role, Term};

use super::*;

type Reply = oneshot::Sender<Result<Index, WriteError>>;
type Arriving = Result<Packet, WireError>;

struct Queued {
    term: Option<Term>,
    pairs: Vec<(Bytes, Bytes)>,
    reply: Reply,
}

#[derive(Default)]
struct Node {
    /// The term in which it believes to lead.
    leads_in: Option<u64>,
    /// Handed over and not yet proposed.
    line: VecDeque<Queued>,
    /// What it proposed after others had elected another leader: never committed.
    doomed: Vec<Reply>,
}

/// One connection, with what is between client and server.
struct Connection {
    client: u128,
    to_server: mpsc::UnboundedReceiver<Arriving>,
    server: Option<mpsc::UnboundedSender<Arriving>>,
    from_server: mpsc::UnboundedReceiver<Arriving>,
    /// Gone once the client was told that the connection broke.
    to_client: Option<mpsc::UnboundedSender<Arriving>>,
}

struct Model {
    random: u64,
    lines: Vec<(Bytes, Bytes)>,
    acknowledged: usize,
    log: Vec<(Bytes, Bytes)>,
    committed: usize,
    /// A committed copy that undid an acknowledged line.
    undone: Option<String>,
    term: u64,
    leader: usize,
    nodes: [Node; 3],
    /// Proposed by the leader and not committed: where each batch ends.
    pending: Vec<(usize, Reply)>,
    connections: Vec<Connection>,
    registries: [Arc<Registry>; 3],
    faults: Planted,
    elections: usize,
    cuts: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Planted {
    forwards: bool,
    no_fences: bool,
}

impl Planted {
    fn is_none(self) -> bool {
        !self.forwards && !self.no_fences
    }
}

#[derive(Clone)]
struct World(Arc<Mutex<Model>>);

#[derive(Clone)]
struct ModelNode {
    world: World,
    id: usize,
}

impl Model {
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from((self.random >> 16) % below as u64).unwrap()
    }

    /// A node takes the next of its line.
    fn propose(&mut self, id: usize) {
        let Some(queued) = self.nodes[id].line.pop_front() else { return };
        let leads_in = self.nodes[id].leads_in;
        if queued.term.map(Term::get) == leads_in && leads_in.is_some() {
            if id == self.leader {
                return self.append(queued);
            }
            return self.nodes[id].doomed.push(queued.reply);
        }
        if self.faults.forwards {
            return self.append(queued);
        }
        let _client_gone = queued.reply.send(Err(WriteError::Unavailable("not the leader of that term".to_owned())));
    }

    fn append(&mut self, queued: Queued) {
        self.log.extend(queued.pairs);
        self.pending.push((self.log.len(), queued.reply));
    }

    fn commit(&mut self) {
        let Some(most) = self.pending.len().checked_sub(1) else { return };
        let last = self.random(most + 1);
        let replies: Vec<_> = self.pending.drain(..=last).collect();
        for (end, reply) in replies {
            self.commit_to(end);
            let _client_gone = reply.send(Ok(Index(end as u64)));
        }
    }

    /// Commits, and checks that no copy of an earlier line undoes an acknowledged later one.
    fn commit_to(&mut self, end: usize) {
        let acknowledged = &self.lines[..self.acknowledged];
        for (key, value) in &self.log[self.committed..end] {
            let newest = acknowledged.iter().rev().find(|(other, _value)| other == key);
            let older = |(_key, newest): &&(Bytes, Bytes)| number(value) < number(newest);
            if let Some(newest) = newest.filter(older) {
                self.undone = Some(format!("{value:?} came behind {newest:?}"));
            }
        }
        self.committed = end;
    }

    /// Another node leads, with any part of what was not committed.
    fn elect(&mut self) {
        let uncommitted = self.log.len() - self.committed;
        let kept = self.committed + self.random(uncommitted + 1);
        self.log.truncate(kept);
        self.commit_to(kept);
        let former = self.leader;
        self.nodes[former].doomed.extend(self.pending.drain(..).map(|(_end, reply)| reply));
        self.leader = (former + 1 + self.random(2)) % 3;
        self.term += 1;
        self.elections += 1;
        self.nodes[self.leader].leads_in = Some(self.term);
    }

    /// A node that was deposed hears of it.
    fn learn(&mut self, id: usize) {
        if id != self.leader && self.nodes[id].leads_in.take().is_some() {
            for reply in self.nodes[id].doomed.drain(..) {
                let _client_gone = reply.send(Err(WriteError::Unknown("the leader was deposed".to_owned())));
            }
        }
    }

    fn deliver(connection: &mut Connection) -> bool {
        match (connection.to_server.try_recv(), &connection.server) {
            (Ok(packet), Some(server)) => server.send(packet).is_ok(),
            (Err(mpsc::error::TryRecvError::Disconnected), Some(_)) => {
                connection.server = None;
                false
            }
            (Ok(_) | Err(_), _) => false,
        }
    }

    fn pump(&mut self) {
        for connection in &mut self.connections {
            if connection.client == ANONYMOUS {
                while Self::deliver(connection) {}
            }
            while let Ok(packet) = connection.from_server.try_recv() {
                if connection.to_client.as_ref().is_some_and(|client| client.send(packet).is_err()) {
                    connection.to_client = None;
                }
            }
            if connection.from_server.is_closed() {
                connection.to_client = None;
            }
        }
    }

    fn step(&mut self, faulty: bool) {
        // What is old is slow: that is when it does harm.
        let node = if self.random(20) == 0 { self.random(3) } else { self.leader };
        match self.random(if faulty { 39 } else { 36 }) {
            0..12 => self.propose(node),
            12..28 => {
                let old = self.random(40) == 0;
                let wanted = |connection: &Connection| {
                    connection.client != ANONYMOUS
                        && connection.server.is_some()
                        && connection.to_client.is_none() == old
                };
                let imports: Vec<usize> =
                    (0..self.connections.len()).filter(|at| wanted(&self.connections[*at])).collect();
                if !imports.is_empty() {
                    let at = imports[self.random(imports.len())];
                    Self::deliver(&mut self.connections[at]);
                }
            }
            28..34 => self.commit(),
            34..36 => {
                let anyone = self.random(3);
                self.learn(anyone);
            }
            36 if self.random(3) == 0 => {
                for connection in &mut self.connections {
                    self.cuts += usize::from(connection.client != ANONYMOUS && connection.to_client.take().is_some());
                }
            }
            37 if self.random(3) == 0 => self.elect(),
            _ => {}
        }
    }
}

impl World {
    fn new(seed: u64, lines: Vec<(Bytes, Bytes)>, faults: Planted) -> Self {
        let mut nodes: [Node; 3] = Default::default();
        nodes[0].leads_in = Some(1);
        Self(Arc::new(Mutex::new(Model {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            lines,
            acknowledged: 0,
            log: Vec::new(),
            committed: 0,
            undone: None,
            term: 1,
            leader: 0,
            nodes,
            pending: Vec::new(),
            connections: Vec::new(),
            registries: [0; 3].map(|_node| Registry::new(1 << 20)),
            faults,
            elections: 0,
            cuts: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap()
    }
}

fn unavailable<T: Send + 'static>() -> BoxFuture<'static, Result<T, WriteError>> {
    std::future::ready(Err(WriteError::Unavailable("not in this model".to_owned()))).boxed()
}

impl Store for ModelNode {
    fn change_members(
        &self,
        _change: MemberChange,
        _wait: Duration,
    ) -> BoxFuture<'static, Result<MemberList, MembersError>> {
        std::future::ready(Err(MembersError::Unavailable("not in this model".to_owned()))).boxed()
    }

    fn transfer(&self, _to: NodeId) -> BoxFuture<'static, Result<(), TransferError>> {
        std::future::ready(Err(TransferError::Unavailable("not in this model".to_owned()))).boxed()
    }

    fn snapshot_piece(&self, _want: SnapshotWant) -> BoxFuture<'static, Result<Bytes, SnapshotRequestError>> {
        std::future::ready(Err(SnapshotRequestError::NoState)).boxed()
    }

    fn snapshot(&self) -> BoxFuture<'static, Result<Index, SnapshotRequestError>> {
        std::future::ready(Err(SnapshotRequestError::NoState)).boxed()
    }

    fn command(&self, _command: Bytes, _wait: Duration) -> BoxFuture<'static, Result<(Index, Bytes), Failure>> {
        unavailable().map(|refused: Result<_, WriteError>| refused.map_err(Failure::from)).boxed()
    }

    fn put_batch(
        &self,
        term: Option<Term>,
        pairs: Vec<(Bytes, Bytes)>,
        _wait: Duration,
    ) -> BoxFuture<'static, Result<Index, WriteError>> {
        let node = self.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            node.world.lock().nodes[node.id].line.push_back(Queued { term, pairs, reply });
            answer.await.unwrap_or_else(|_dropped| Err(WriteError::Unknown("lost".to_owned())))
        }
        .boxed()
    }

    fn catch_up(&self, _freshness: Consistency, _wait: Duration) -> BoxFuture<'static, Result<(), ReadError>> {
        let confirmed = self.world.lock().leader == self.id;
        let answer = if confirmed { Ok(()) } else { Err(ReadError::Unavailable("deposed".to_owned())) };
        std::future::ready(answer).boxed()
    }

    fn get(&self, _key: Bytes) -> BoxFuture<'static, Result<Option<KeyValue>, ReadError>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn scan(&self, _scan: Scan) -> BoxFuture<'static, Result<ScanPage, ReadError>> {
        std::future::ready(Ok(ScanPage::default())).boxed()
    }

    fn leases(&self, _from: LeaseId) -> Vec<LeaseStatus> {
        Vec::new()
    }

    fn leadership(&self) -> Leadership {
        // With the fault planted, a node that was deposed takes what it should refuse.
        let world = self.world.lock();
        let believed = if world.faults.forwards { Some(world.term) } else { world.nodes[self.id].leads_in };
        Leadership { leads_in: believed.map(Term), elsewhere: None }
    }

    fn status(&self) -> NodeStatus {
        let mut status = FakeStore::leader().status();
        let world = self.world.lock();
        let leads_in = world.nodes[self.id].leads_in;
        status.id = NodeId(self.id as u64 + 1);
        status.role = if leads_in.is_some() { Role::Leader } else { Role::Follower };
        status.term = Term(leads_in.unwrap_or(1));
        status.leader = leads_in.map(|_term| status.id);
        status.members = (1..=3).map(|id| MemberStatus::voter(NodeId(id), address(id))).collect();
        status
    }
}

impl Dialer for World {
    fn dial(
        &self,
        address: String,
        client: u128,
        _cluster: Option<ClusterId>,
    ) -> BoxFuture<'static, Result<Link, DialError>> {
        let world = self.clone();
        async move {
            let id: usize = address.rsplit_once(':').unwrap().1.parse::<usize>().unwrap() - 1;
            let (from_client, to_server) = mpsc::unbounded_channel();
            let (server, server_source) = mpsc::unbounded_channel();
            let (server_sink, from_server) = mpsc::unbounded_channel();
            let (to_client, source) = mpsc::unbounded_channel();
            let mut model = world.lock();
            let fences = if model.faults.no_fences { Registry::new(1) } else { Arc::clone(&model.registries[id]) };
            let admission = fences.admit(client).unwrap();
            let (server, to_client) = (Some(server), Some(to_client));
            model.connections.push(Connection { client, to_server, server, from_server, to_client });
            let node = ModelNode { world: world.clone(), id };
            tokio::spawn(async move {
                dispatch::run(node, admission.fence(), QueueSource(server_source), QueueSink(server_sink)).await;
            });
            let info = LinkInfo { address, node: NodeId(id as u64 + 1), cluster: None, epoch: Epoch::NONE };
            Ok(Link::start(info, QueueSource(source), QueueSink(from_client)))
        }
        .boxed()
    }
}

fn number(value: &Bytes) -> u64 {
    String::from_utf8_lossy(value).parse().unwrap()
}

/// How often a history's leader changed and its connections broke, and what an old copy undid.
async fn history(seed: u64, faults: Planted) -> (usize, usize, Option<String>) {
    const FAULTY_STEPS: usize = 1_000;
    const MOST_STEPS: usize = 100_000;
    let lines: Vec<_> = (0..120).map(|line| (key(&format!("k{}", line * 5 % 3)), key(&format!("{line}")))).collect();
    let world = World::new(seed, lines.clone(), faults);
    let endpoints = vec![address(1), address(2), address(3)];
    let options = ClientOptions { endpoints, timeout: Duration::from_secs(5), cluster: None };
    let client = Client::with_dialer(options, Box::new(world.clone())).unwrap();
    let patience = Duration::from_secs(100_000);
    let batches = ImportOptions { batch_lines: 3, window: 4, patience, ..ImportOptions::default() };
    let told = world.clone();
    let mut importer = client.import(batches, move |count| told.lock().acknowledged = usize::try_from(count).unwrap());
    let feeding = lines.clone();
    let import = tokio::spawn(async move {
        for (key, value) in feeding {
            importer.push(key, value).await.unwrap();
        }
        importer.finish().await.unwrap()
    });
    let mut steps = 0;
    while !import.is_finished() {
        assert!(steps < MOST_STEPS, "seed {seed} never ends");
        world.lock().step(steps < FAULTY_STEPS);
        world.lock().pump();
        for _turn in 0..4 {
            yield_now().await;
        }
        if steps % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        steps += 1;
    }
    assert_eq!(import.await.unwrap(), 120);
    let model = world.lock();
    if faults.is_none() {
        let written: BTreeMap<_, _> = model.log[..model.committed].iter().cloned().collect();
        assert_eq!(written, lines.into_iter().collect(), "seed {seed}");
    }
    (model.elections, model.cuts, model.undone.clone())
}

#[tokio::test(start_paused = true)]
async fn import_of_any_history_is_never_undone_by_an_old_copy() {
    let (mut elections, mut cuts) = (0, 0);
    for seed in 1..=30 {
        let (elected, cut, undone) = history(seed, Planted::default()).await;
        assert_eq!(undone, None, "seed {seed}");
        elections += elected;
        cuts += cut;
    }
    assert!(elections > 30 && cuts > 30, "{elections} elections and {cuts} cuts try nothing");
}

/// The first seed whose history shows a planted fault.
async fn found(faults: Planted) -> Option<u64> {
    for seed in 1..=60 {
        if history(seed, faults).await.2.is_some() {
            return Some(seed);
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn import_model_finds_a_node_that_forwards_what_was_meant_for_its_term() {
    assert!(found(Planted { forwards: true, ..Planted::default() }).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn import_model_finds_a_server_without_fences() {
    assert!(found(Planted { no_fences: true, ..Planted::default() }).await.is_some());
}
