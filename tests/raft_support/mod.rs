//! A cluster of bare cores: messages, disks and crashes as plain data, driven one step at a time.
//!
//! A disk is a queue of writes; a write becomes durable when the test says so, in order. A crash loses the queue
//! and restarts the core from what is durable. No payloads: an entry is its term.

#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dledger::raft::message::{Body, Message};
use dledger::raft::ready::{LogAppend, Ready, Replicate};
use dledger::raft::{Appended, Member, Membership, Raft, RaftConfig, Restored, Terms};
use dledger::types::{ClusterId, EntryId, Incarnation, Index, Monotonic, NodeId, ReadyNumber, Role, Term, Vote};

/// A message on its way; an append carries what the receiver derives from its records.
#[derive(Clone, Debug)]
pub struct Packet {
    pub message: Message,
    pub appended: Option<Appended>,
}

/// One write for a disk.
#[derive(Clone, Debug)]
pub struct Write {
    pub number: ReadyNumber,
    pub vote: Option<Vote>,
    pub append: Option<(LogAppend, Vec<Term>)>,
}

/// A core with its disk.
pub struct Node {
    pub raft: Raft,
    /// Terms of all entries; the entry of index `i` stands at `i - 1`.
    pub log: Vec<Term>,
    pub durable_log: Vec<Term>,
    pub durable_vote: Vote,
    pub writes: VecDeque<Write>,
    /// Messages that wait for the disk.
    pub held: VecDeque<(ReadyNumber, Packet)>,
    pub asked: ReadyNumber,
    pub done: ReadyNumber,
    /// Terms of the records of the append being stepped.
    staged: Vec<Term>,
    pub reads: Vec<(u64, Option<Index>)>,
    /// Compared with what others committed up to here.
    seen: Index,
    seed: u64,
}

/// Shortest election timeout of the test cores.
pub const TIMEOUT: Duration = Duration::from_millis(150);

pub fn membership(nodes: u64) -> Membership {
    let member = |id| Member { id: NodeId(id), incarnation: Incarnation(id), address: format!("n:{id}") };
    Membership::of(ClusterId(1), (1..=nodes).map(member).collect())
}

fn config(id: NodeId, seed: u64) -> RaftConfig {
    RaftConfig {
        id,
        heartbeat: Duration::from_millis(50),
        election_timeout: TIMEOUT,
        seed,
        max_inflight_bytes: 400,
        max_inflight_messages: 4,
    }
}

fn core(id: NodeId, nodes: u64, seed: u64, vote: Vote, log: &[Term], now: Monotonic) -> Raft {
    let mut terms = Terms::new(EntryId::ZERO, Vec::new(), Index(0));
    for term in log {
        terms.extend(*term, 1);
    }
    let restored = Restored {
        vote,
        base: EntryId::ZERO,
        runs: terms.runs(Index(1), terms.last().index),
        last: terms.last(),
        committed: Index(1),
        memberships: vec![(Index(1), membership(nodes))],
    };
    Raft::new(config(id, seed), restored, now)
}

impl Node {
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.get(usize::try_from(index.get()).unwrap().checked_sub(1)?).copied()
    }
}

/// The cluster.
pub struct Cluster {
    pub nodes: BTreeMap<NodeId, Node>,
    pub size: u64,
    pub now: Monotonic,
    pub network: Vec<Packet>,
    /// Entries known to be committed, by index.
    pub committed: BTreeMap<Index, Term>,
    /// Who led each term.
    pub leaders: BTreeMap<Term, NodeId>,
}

impl Cluster {
    /// Nodes 1 to `size`, each with the first entry (the membership) at term 1.
    pub fn new(size: u64, seed: u64) -> Self {
        let now = Monotonic::from_micros(1_000_000);
        let vote = Vote { term: Term(1), voted_for: NodeId::ZERO };
        let log = vec![Term(1)];
        let nodes = (1..=size).map(NodeId).map(|id| {
            let seed = seed.wrapping_mul(31).wrapping_add(id.get());
            let node = Node {
                raft: core(id, size, seed, vote, &log, now),
                log: log.clone(),
                durable_log: log.clone(),
                durable_vote: vote,
                writes: VecDeque::new(),
                held: VecDeque::new(),
                asked: ReadyNumber(0),
                done: ReadyNumber(0),
                staged: Vec::new(),
                reads: Vec::new(),
                seen: Index(1),
                seed,
            };
            (id, node)
        });
        let nodes = nodes.collect();
        let committed = BTreeMap::from([(Index(1), Term(1))]);
        Self { nodes, size, now, network: Vec::new(), committed, leaders: BTreeMap::new() }
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// Gives one input to a core, checks its step, and carries out what it wants.
    pub fn input(&mut self, id: NodeId, input: impl FnOnce(&mut Raft, Monotonic)) {
        let now = self.now;
        let before = self.node(id).raft.clone();
        input(&mut self.node(id).raft, now);
        self.drain(id);
        let after = &self.node(id).raft;
        assert_eq!(after.broken(), None);
        assert_eq!(before.broken_since(after), None);
        self.observe(id);
    }

    pub fn tick(&mut self, id: NodeId) {
        self.input(id, |raft, now| raft.tick(now));
        self.input(id, |raft, _now| raft.announce_commit());
    }

    pub fn deliver(&mut self, packet: Packet) {
        let Packet { message, appended } = packet;
        let to = message.to;
        match appended {
            None => self.input(to, |raft, now| raft.step(now, message)),
            Some(appended) => {
                let mut terms = Vec::new();
                let mut index = appended.prev.index.next();
                while index <= appended.last {
                    let run = appended.runs.iter().rev().find(|run| run.first <= index).unwrap();
                    terms.push(run.term);
                    index = index.next();
                }
                self.node(to).staged = terms;
                self.input(to, |raft, now| {
                    raft.step_append(now, message.from, message.term, appended);
                });
            }
        }
    }

    /// The disk of a node finishes its oldest write.
    pub fn write_one(&mut self, id: NodeId) {
        let node = self.node(id);
        let Some(write) = node.writes.pop_front() else { return };
        node.durable_vote = write.vote.unwrap_or(node.durable_vote);
        if let Some((append, terms)) = write.append {
            node.durable_log.truncate(usize::try_from(append.after.index.get()).unwrap());
            assert_eq!(node.durable_log.len() as u64, append.after.index.get(), "writes come in order");
            node.durable_log.extend(terms);
        }
        node.done = write.number;
        self.input(id, |raft, now| raft.persisted(now, write.number));
        self.release(id);
    }

    /// The node loses what is not durable and starts again.
    pub fn crash(&mut self, id: NodeId) {
        let (size, now) = (self.size, self.now);
        let node = self.node(id);
        node.seed = node.seed.wrapping_add(1_000_003);
        node.log = node.durable_log.clone();
        node.raft = core(id, size, node.seed, node.durable_vote, &node.log, now);
        node.writes.clear();
        node.held.clear();
        (node.asked, node.done) = (ReadyNumber(0), ReadyNumber(0));
        node.seen = Index(1);
    }

    pub fn propose(&mut self, id: NodeId, count: u64) -> Option<EntryId> {
        let mut first = None;
        self.input(id, |raft, now| first = raft.propose(now, count).ok());
        first
    }

    pub fn leader(&self) -> Option<NodeId> {
        let leaders = self.nodes.iter().filter(|(_, node)| node.raft.role() == Role::Leader);
        leaders.max_by_key(|(_, node)| node.raft.term()).map(|(id, _)| *id)
    }

    fn drain(&mut self, id: NodeId) {
        while let Some(ready) = self.node(id).raft.ready() {
            self.carry_out(id, ready);
        }
    }

    fn carry_out(&mut self, id: NodeId, ready: Ready) {
        let now = self.now;
        let node = self.node(id);
        let append = ready.append.map(|append| {
            let count = usize::try_from(append.last.get() - append.after.index.get()).unwrap();
            let own = vec![node.raft.term(); count];
            let terms =
                if node.raft.role() == Role::Leader { own } else { node.staged.split_off(node.staged.len() - count) };
            assert_eq!(append.truncate, node.log.len() as u64 > append.after.index.get());
            node.log.truncate(usize::try_from(append.after.index.get()).unwrap());
            node.log.extend(&terms);
            (append, terms)
        });
        if ready.vote.is_some() || append.is_some() {
            node.writes.push_back(Write { number: ready.number, vote: ready.vote, append });
            node.asked = ready.number;
        }
        for message in ready.after_durable {
            let asked = node.asked;
            node.held.push_back((asked, Packet { message, appended: None }));
        }
        node.reads.extend(ready.reads.iter().map(|read| (read.token, read.index)));
        self.network.extend(ready.messages.into_iter().map(|message| Packet { message, appended: None }));
        for order in ready.replicate {
            self.replicate(id, order, now);
        }
        self.release(id);
    }

    /// Sends at most three entries an append, ten bytes each.
    fn replicate(&mut self, id: NodeId, order: Replicate, now: Monotonic) {
        let node = self.node(id);
        let last = order.last.min(order.after.index.plus(3));
        let mut terms = Terms::new(order.after, Vec::new(), order.after.index);
        let mut index = order.after.index.next();
        while index <= last {
            terms.extend(node.term_at(index).unwrap(), 1);
            index = index.next();
        }
        let runs = terms.runs(order.after.index.next(), last);
        let appended = Appended { prev: order.after, commit: order.commit, runs, last, memberships: Vec::new() };
        let body = Body::Append { prev: order.after, commit: order.commit };
        let message = Message { from: id, to: order.to, term: node.raft.term(), body };
        node.raft.sent(now, order.to, last, 10 * (last.get() - order.after.index.get()));
        self.network.push(Packet { message, appended: Some(appended) });
    }

    fn release(&mut self, id: NodeId) {
        let node = self.node(id);
        let mut free = Vec::new();
        while node.held.front().is_some_and(|(number, _)| *number <= node.done) {
            free.extend(node.held.pop_front().map(|(_, packet)| packet));
        }
        self.network.extend(free);
    }

    /// Election safety, state machine safety, leader completeness, durability of what is committed (paper, fig. 3).
    fn observe(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let raft = &node.raft;
        if raft.role() == Role::Leader {
            let earlier = self.leaders.insert(raft.term(), id);
            assert!(earlier.is_none_or(|earlier| earlier == id), "two leaders in term {}", raft.term());
            if earlier.is_none() {
                for (index, term) in &self.committed {
                    assert_eq!(node.term_at(*index), Some(*term), "leader {id} lacks committed entry {index}");
                }
            }
        }
        let mut index = raft.committed();
        while !self.committed.contains_key(&index) {
            let term = node.term_at(index).unwrap();
            let copies = self
                .nodes
                .values()
                .filter(|other| other.durable_log.get(usize::try_from(index.get()).unwrap() - 1) == Some(&term));
            assert!(copies.count() as u64 > self.size / 2, "entry {index} of term {term} is committed on no quorum");
            self.committed.insert(index, term);
            index = index.prev();
        }
        let committed = raft.committed();
        for (index, term) in self.committed.range(node.seen..=committed) {
            assert_eq!(node.term_at(*index), Some(*term), "node {id} committed another entry at {index}");
        }
        self.node(id).seen = committed;
    }

    /// Runs without faults, a millisecond a step, everything delivered and written at once.
    pub fn run(&mut self, millis: u64, mut lets_through: impl FnMut(&Message) -> bool) {
        for _ in 0..millis {
            self.now = self.now.after(Duration::from_millis(1));
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.tick(id);
                while !self.nodes[&id].writes.is_empty() {
                    self.write_one(id);
                }
            }
            for packet in std::mem::take(&mut self.network) {
                if lets_through(&packet.message) {
                    self.deliver(packet);
                }
            }
        }
    }
}
