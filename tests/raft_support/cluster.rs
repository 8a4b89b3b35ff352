//! Some nodes and the network between them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dledger::raft::message::{Body, Message};
use dledger::raft::ready::Invented;
use dledger::raft::{Change, ChangeRefused, Membership, ReadBy, TransferEnd, TransferRefused};
use dledger::types::{EntryId, Index, Monotonic, NodeId, Role, Term};

use super::node::{Disk, Event, Node, Packet, config, members, show, show_event, show_membership};

/// Time a packet takes when time runs by itself.
const LATENCY: Duration = Duration::from_millis(1);
/// More deliveries than this in one command are a loop.
const MOST_STEPS: usize = 100_000;

pub struct Cluster {
    /// The members at the start.
    pub formed: Membership,
    pub now: Monotonic,
    pub nodes: BTreeMap<u64, Node>,
    pub crashed: BTreeMap<u64, Disk>,
    pub network: Vec<(Monotonic, Packet)>,
    /// Directions in which nothing arrives.
    pub cuts: BTreeSet<(u64, u64)>,
    /// Lines of what happened, for transcripts.
    pub lines: Vec<String>,
    /// Show every message and write, or elections only.
    pub verbose: bool,
    pub last_delivered: Option<Packet>,
    starts: u64,
    next_value: u64,
}

impl Cluster {
    pub fn new(size: u64) -> Self {
        Self::with_members(members(size))
    }

    /// A cluster of these voters, numbered from 1 on.
    pub fn with_members(formed: Membership) -> Self {
        let disks = formed.voters.iter().map(|member| (member.id.0, Disk::default())).collect();
        Self::with(formed, disks)
    }

    pub fn with_disks(disks: BTreeMap<u64, Disk>) -> Self {
        Self::with(members(disks.len() as u64), disks)
    }

    pub fn with(formed: Membership, disks: BTreeMap<u64, Disk>) -> Self {
        let size = disks.len() as u64;
        let mut cluster = Self {
            formed,
            now: Monotonic::from_micros(1_000_000),
            nodes: BTreeMap::new(),
            crashed: disks,
            network: Vec::new(),
            cuts: BTreeSet::new(),
            lines: Vec::new(),
            verbose: true,
            last_delivered: None,
            starts: 0,
            next_value: 1,
        };
        for id in 1..=size {
            cluster.restart(id);
        }
        cluster
    }

    /// A cluster whose node `id` has won the first election and committed its no-op everywhere.
    pub fn led_by(id: u64, size: u64) -> Self {
        let mut cluster = Self::new(size);
        cluster.elect(id);
        cluster
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("the node runs")
    }

    /// Lets `id` time out and delivers everything until quiet.
    pub fn elect(&mut self, id: u64) {
        self.tick(id);
        self.deliver_all();
        assert_eq!(self.node(id).raft.role(), Role::Leader, "node {id} won");
    }

    pub fn restart(&mut self, id: u64) {
        let disk = self.crashed.remove(&id).expect("the node is down");
        self.starts += 1;
        let formed = self.formed.member(NodeId(id)).map(|_member| self.formed.clone());
        let node = Node::start(config(id, self.starts), formed, disk, self.now);
        self.nodes.insert(id, node);
        self.collect(id);
    }

    /// A node with an empty disk that was not there when the cluster was formed.
    pub fn join(&mut self, id: u64) {
        self.crashed.insert(id, Disk::default());
        self.restart(id);
    }

    pub fn change(&mut self, id: u64, change: &Change) -> Result<EntryId, ChangeRefused> {
        let now = self.now;
        let entry = self.node(id).change(now, change);
        self.collect(id);
        entry
    }

    pub fn transfer(&mut self, id: u64, to: u64) -> Result<(), TransferRefused> {
        let now = self.now;
        let taken_up = self.node(id).transfer(now, to);
        self.collect(id);
        taken_up
    }

    /// How the transfers that were asked of a node ended.
    pub fn transfers(&mut self, id: u64) -> Vec<TransferEnd> {
        std::mem::take(&mut self.node(id).transfers)
    }

    /// The members as a node's log has them, in a line.
    pub fn members(&self, id: u64) -> String {
        self.nodes[&id].raft.membership().map_or("none".to_owned(), show_membership)
    }

    pub fn crash(&mut self, id: u64) {
        let node = self.nodes.remove(&id).expect("the node runs");
        self.crashed.insert(id, node.crash(false, 0));
        self.network.retain(|(_due, packet)| packet.message.from.0 != id && packet.message.to.0 != id);
    }

    /// Moves time to the node's next deadline and ticks that node only.
    pub fn tick(&mut self, id: u64) {
        if let Some(deadline) = self.node(id).raft.next_deadline() {
            self.now = self.now.max(deadline);
        }
        let now = self.now;
        self.node(id).tick(now);
        self.collect(id);
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    pub fn propose(&mut self, id: u64, count: u64) -> bool {
        let values: Vec<u64> = (self.next_value..self.next_value + count).collect();
        self.next_value += count;
        let now = self.now;
        let taken = self.node(id).propose(now, &values);
        self.collect(id);
        taken
    }

    pub fn read(&mut self, id: u64, token: u64) {
        let now = self.now;
        self.node(id).read_index(now, token, ReadBy::Round);
        self.collect(id);
    }

    pub fn lease_read(&mut self, id: u64, token: u64) {
        let now = self.now;
        self.node(id).read_index(now, token, ReadBy::Lease);
        self.collect(id);
    }

    pub fn connection(&mut self, one: u64, other: u64, stands: bool) {
        let now = self.now;
        for (id, peer) in [(one, other), (other, one)] {
            if let Some(node) = self.nodes.get_mut(&id) {
                if stands {
                    node.connected(now, NodeId(peer));
                } else {
                    node.disconnected(now, NodeId(peer));
                }
                self.collect(id);
            }
        }
    }

    pub fn hold_disk(&mut self, id: u64, held: bool) {
        self.node(id).disk_held = held;
        if !held {
            while self.complete_one(id) {}
        }
    }

    pub fn complete_one(&mut self, id: u64) -> bool {
        let now = self.now;
        let done = self.node(id).complete_one(now);
        self.collect(id);
        done
    }

    /// Delivers the oldest packet; false when there is none.
    pub fn deliver_one(&mut self) -> bool {
        if self.network.is_empty() {
            return false;
        }
        let (_due, packet) = self.network.remove(0);
        self.deliver(&packet);
        true
    }

    pub fn deliver(&mut self, packet: &Packet) {
        let Message { from, to, .. } = packet.message;
        self.last_delivered = Some(packet.clone());
        let lost = self.cuts.contains(&(from.0, to.0)) || !self.nodes.contains_key(&to.0);
        if self.verbose || is_of_an_election(&packet.message.body) {
            let lost = if lost { "  (lost)" } else { "" };
            self.lines.push(format!("{}{lost}", show(packet)));
        }
        if !lost {
            let now = self.now;
            self.node(to.0).receive(now, packet);
            self.collect(to.0);
        }
    }

    pub fn deliver_all(&mut self) {
        for _step in 0..MOST_STEPS {
            if !self.deliver_one() {
                return;
            }
        }
        panic!("the network does not come to rest");
    }

    /// Delivers, or drops, only what is under way between two nodes, in that direction.
    pub fn pick(&mut self, from: Option<u64>, to: Option<u64>, deliver: bool) {
        let (picked, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.network).into_iter().partition(|(_, packet)| {
                from.is_none_or(|id| packet.message.from.0 == id) && to.is_none_or(|id| packet.message.to.0 == id)
            });
        self.network = rest;
        for (_due, packet) in picked {
            if deliver {
                self.deliver(&packet);
            } else {
                self.lines.push(format!("{}  (dropped)", show(&packet)));
            }
        }
    }

    /// Takes what is under way between two nodes, in that direction, off the network.
    pub fn take(&mut self, from: Option<u64>, to: Option<u64>) -> Vec<Packet> {
        let (picked, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.network).into_iter().partition(|(_, packet)| {
                from.is_none_or(|id| packet.message.from.0 == id) && to.is_none_or(|id| packet.message.to.0 == id)
            });
        self.network = rest;
        picked.into_iter().map(|(_due, packet)| packet).collect()
    }

    /// Lets time run: packets take `LATENCY`, timers fire.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        for _step in 0..MOST_STEPS {
            let packet = self.network.iter().map(|(due, _)| *due).min();
            let timer = self.nodes.values().filter_map(|node| node.raft.next_deadline()).min();
            let Some(next) = packet.into_iter().chain(timer).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if packet.is_some_and(|due| due <= self.now) {
                let place = self.network.iter().position(|(due, _)| *due <= self.now).unwrap();
                let (_due, packet) = self.network.remove(place);
                self.deliver(&packet);
                continue;
            }
            let due = |node: &Node| node.raft.next_deadline().is_some_and(|deadline| deadline <= next);
            let id = *self.nodes.iter().find(|(_, node)| due(node)).unwrap().0;
            let now = self.now;
            self.node(id).tick(now);
            self.collect(id);
        }
        panic!("time stands still");
    }

    /// Takes what the node wants sent and what it showed.
    fn collect(&mut self, id: u64) {
        let due = self.now.after(LATENCY);
        let verbose = self.verbose;
        let node = self.nodes.get_mut(&id).expect("the node runs");
        self.network.extend(node.out.drain(..).map(|packet| (due, packet)));
        let shown = node.events.drain(..).filter(|event| verbose || is_of_note(event));
        self.lines.extend(shown.map(|event| show_event(id, &event)));
    }

    pub fn leader(&self) -> Option<u64> {
        let leads = |(id, node): (&u64, &Node)| (node.raft.role() == Role::Leader).then_some((node.raft.term(), *id));
        self.nodes.iter().filter_map(leads).max().map(|(_term, id)| id)
    }

    pub fn terms(&self, id: u64) -> Vec<u64> {
        self.nodes[&id].log.iter().map(|record| record.term.0).collect()
    }

    pub fn committed(&self, id: u64) -> u64 {
        self.nodes[&id].raft.committed().0
    }

    pub fn state(&self) -> Vec<String> {
        let up = self.nodes.iter().map(|(id, node)| {
            let raft = &node.raft;
            let (vote, last) = (raft.vote(), raft.last());
            format!(
                "{id} {:12} term {} vote {}  last {last} durable {} committed {}",
                raft.role().to_string(),
                vote.term,
                vote.voted_for,
                raft.durable(),
                raft.committed()
            )
        });
        let down = self.crashed.iter().map(|(id, disk)| {
            format!("{id} down         term {} vote {}  disk {}", disk.vote.term, disk.vote.voted_for, disk.log.len())
        });
        let mut lines: Vec<String> = up.chain(down).collect();
        lines.sort();
        lines
    }
}

/// A log with these terms; values are distinct within one `source`.
pub fn disk_of(source: u64, term: u64, terms: &[u64], committed: u64) -> Disk {
    let record = |(place, term): (usize, &u64)| {
        super::node::Record::data(Term(*term), source * 1_000_000 + term * 1000 + place as u64)
    };
    Disk {
        vote: dledger::types::Vote { term: Term(term), voted_for: NodeId(0) },
        log: terms.iter().enumerate().map(record).collect(),
        committed: Index(committed),
        ..Disk::default()
    }
}

/// What is shown when time runs by itself.
fn is_of_note(event: &Event) -> bool {
    match event {
        Event::Role(_) | Event::Read(_) | Event::Transfer(_) => true,
        Event::Write { append: Some(append), .. } => matches!(append.invented, Some(Invented::Membership(_))),
        _ => false,
    }
}

fn is_of_an_election(body: &Body) -> bool {
    matches!(
        body,
        Body::PreVote { .. }
            | Body::PreVoteAnswer { .. }
            | Body::Vote { .. }
            | Body::VoteAnswer { .. }
            | Body::PreVoteInDoubt { .. }
            | Body::VoteInDoubt
            | Body::HandOver
    )
}
