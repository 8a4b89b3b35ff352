//! One simulated cluster: nodes, network, clients and faults in one queue of events, on one thread, from one seed.
//!
//! ```text
//!            ┌────────────────────────── queue, by time ───────────────────────────┐
//!            │ turn · arrival · connect · close · disk · client · fault · start …  │
//!            └───────┬──────────────────────────────────────────────────▲──────────┘
//!                    ▼                                                  │
//!     nodes: Process (production replica, log, KV) over MemoryDisk ─► effects ─► network, disk, clients
//!                    │
//!                    └─► after every input: checkers, against the truth
//! ```
//! Time is in microseconds. An input to a node never acts at once on another: it goes through the queue.

mod admission;
mod clients;
mod coups;
mod disk;
mod growth;
mod health;
mod lifecycle;
mod misdirected;
mod nemesis;
mod network;
mod node;
mod operator;
mod orphans;
mod reads;
mod rot;
mod snapshots;
mod turns;
mod workloads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use dledger::simulation::{Plant, take_marks};
use dledger::transport::Channel;
use dledger::types::{Index, Term};

use crate::checkers::acknowledged::Acknowledged;
use crate::checkers::election_safety::ElectionSafety;
use crate::checkers::lease_lives::Renewals;
use crate::checkers::log_time::LogTimes;
use crate::checkers::majority_serves::MajorityServes;
use crate::checkers::one_view::KeysByLog;
use crate::checkers::one_vote::OneVote;
use crate::checkers::same_state::SameState;
use crate::checkers::state_machine_safety::StateMachineSafety;
use crate::checkers::{
    Property, Verdict, Violation, acknowledged, applied_once, change_answered, converges, linearizable,
};
use crate::faults::Fault;
use crate::marks::Marks;
use crate::memberships::place;
use crate::profile::Profile;
use crate::trace::Trace;
use crate::truth::{Truth, digest};

use clients::Clients;
use nemesis::Nemesis;
use network::Network;
use node::Node;
use operator::Operator;
use reads::Reads;
use rot::Rotting;
use snapshots::Asked;
use workloads::Workers;

/// What is to happen.
#[derive(Debug)]
enum Event {
    /// A node ends a turn.
    Turn { node: usize, life: u64 },
    /// A frame arrives.
    Arrive { from: usize, to: usize, channel: Channel, epoch: u64, bytes: Bytes },
    /// One end of a connection hears that it is closed.
    Close { node: usize, peer: usize, channel: Channel, epoch: u64 },
    /// Nodes that are not connected try to.
    Reconnect,
    /// The write under way returns.
    Disk { node: usize, life: u64 },
    /// Space ahead was prepared.
    Prepared { node: usize, life: u64 },
    /// The disk has been idle for a while.
    Idle { node: usize, life: u64, quiet_since: u64 },
    /// The scrub takes a step.
    Scrub { node: usize, life: u64 },
    /// The work on snapshots under way returns.
    Snapshot { node: usize, life: u64 },
    /// Somebody asks a node for a snapshot.
    AskSnapshot,
    /// The last records of a leader that was cut off are damaged.
    DamageTail { node: usize, life: u64 },
    /// A client asks its next question.
    Client { client: usize },
    /// A worker goes on.
    Work { worker: usize },
    /// A watcher asks for more.
    Watch { watcher: usize },
    /// The next fault.
    Fault,
    /// A leader that took office is cut off.
    Coup { node: usize, life: u64 },
    /// A machine whose disk failed loses its power too.
    CutPower { node: usize, life: u64 },
    /// A fault that lasts is over.
    Heal(nemesis::Lasting),
    /// A machine starts its process.
    Start { node: usize },
    /// The operator makes a wish.
    Operate,
    /// A disk is lost while others lag behind.
    Wipe { node: usize },
    /// Who changes the members is struck.
    Interrupt { node: usize, life: u64, kind: Fault },
    /// A machine that was removed is switched off.
    Retire { node: usize },
    /// A look at the cluster as a whole.
    Look,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) marks: Marks,
    pub(crate) hash: u64,
    pub(crate) lines: Vec<String>,
    pub(crate) figures: Figures,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) events: u64,
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    pub(crate) entries: u64,
    pub(crate) elections: u64,
    pub(crate) faults: u64,
}

/// The simulated cluster.
pub(crate) struct World {
    seed: u64,
    profile: Profile,
    plant: Option<Plant>,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    nodes: Vec<Node>,
    network: Network,
    clients: Clients,
    reads: Reads,
    nemesis: Nemesis,
    rotting: Rotting,
    truth: Truth,
    marks: Marks,
    trace: Trace,
    violation: Option<Violation>,
    election_safety: ElectionSafety,
    one_vote: OneVote,
    /// When some node first was in a term.
    entered: BTreeMap<Term, u64>,
    state_machine_safety: StateMachineSafety,
    acknowledged: Acknowledged,
    log_times: LogTimes,
    majority_serves: MajorityServes,
    same_state: SameState,
    keys_by_log: KeysByLog,
    renewals: Renewals,
    workers: Workers,
    asked: Asked,
    operator: Operator,
    /// What was committed at each of the last looks.
    looks: VecDeque<(u64, Index)>,
}

impl World {
    /// A cluster that has not started yet.
    pub(crate) fn new(seed: u64, profile: Profile, plant: Option<Plant>, text: bool) -> Self {
        // What an earlier run on this thread left behind.
        drop(take_marks());
        let nodes = (1..=profile.nodes).map(|id| Node::new(seed, id, &profile)).collect();
        let mut world = Self {
            seed,
            plant,
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            nodes,
            network: Network::new(seed, profile.nodes),
            clients: Clients::new(seed, &profile),
            reads: Reads::new(seed, &profile),
            nemesis: Nemesis::new(seed),
            rotting: Rotting::new(seed, &profile),
            truth: Truth::formed(profile.nodes),
            marks: Marks::default(),
            trace: Trace::new(text),
            violation: None,
            election_safety: ElectionSafety::default(),
            one_vote: OneVote::default(),
            entered: BTreeMap::new(),
            state_machine_safety: StateMachineSafety::default(),
            acknowledged: Acknowledged::default(),
            log_times: LogTimes::default(),
            majority_serves: MajorityServes::default(),
            same_state: SameState::default(),
            keys_by_log: KeysByLog::default(),
            renewals: Renewals::default(),
            workers: Workers::new(seed, &profile),
            asked: Asked::new(seed),
            operator: Operator::new(seed),
            looks: VecDeque::new(),
            profile,
        };
        world.form();
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            self.schedule(0, Event::Start { node });
        }
        for client in 0..self.profile.clients {
            self.schedule(100_000 + client as u64 * 1_000, Event::Client { client });
        }
        for worker in 0..self.workers.count() {
            self.schedule(150_000 + worker as u64 * 1_000, Event::Work { worker });
        }
        for watcher in 0..self.workers.watchers() {
            self.schedule(150_000, Event::Watch { watcher });
        }
        self.schedule(1_000, Event::Reconnect);
        self.schedule(500_000, Event::Fault);
        self.schedule(500_000, Event::Look);
        if self.profile.has_operator() {
            self.schedule(operator::FIRST_WISH, Event::Operate);
        }
        if self.profile.snapshots.is_some() {
            self.schedule(500_000, Event::AskSnapshot);
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(mut self) -> Outcome {
        while self.violation.is_none()
            && let Some(((at, _order), event)) = self.queue.pop_first()
            && at <= self.profile.end()
        {
            self.now = at;
            self.dispatch(event);
        }
        if self.violation.is_none() {
            self.finish();
        }
        self.marks.add_product(take_marks());
        let figures = Figures {
            events: self.trace.events(),
            asked: self.clients.asked,
            answered: self.clients.answered,
            entries: self.truth.committed.len() as u64,
            elections: self.election_safety.elections() as u64,
            faults: self.nemesis.struck,
        };
        let hash = self.trace.hash();
        Outcome { violation: self.violation, marks: self.marks, hash, lines: self.trace.into_lines(), figures }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Turn { node, life } if self.awake(node, life, || Event::Turn { node, life }) => self.turn(node),
            Event::Arrive { from, to, channel, epoch, bytes } => self.arrive(from, to, channel, epoch, bytes),
            Event::Close { node, peer, channel, epoch } => self.close_end(node, peer, channel, epoch),
            Event::Reconnect => self.reconnect(),
            Event::Disk { node, life } if self.awake(node, life, || Event::Disk { node, life }) => self.disk_done(node),
            Event::Prepared { node, life } if self.awake(node, life, || Event::Prepared { node, life }) => {
                self.prepared(node);
            }
            Event::Idle { node, life, quiet_since }
                if self.awake(node, life, || Event::Idle { node, life, quiet_since }) =>
            {
                self.idle(node, quiet_since);
            }
            Event::Scrub { node, life } if self.awake(node, life, || Event::Scrub { node, life }) => self.scrub(node),
            Event::DamageTail { node, life } if self.awake(node, life, || Event::DamageTail { node, life }) => {
                self.damage_tail(node);
            }
            Event::Snapshot { node, life } if self.awake(node, life, || Event::Snapshot { node, life }) => {
                self.snapshot_work_done(node);
            }
            Event::AskSnapshot => self.ask_for_snapshot(),
            Event::Client { client } => self.client(client),
            Event::Work { worker } => self.work(worker),
            Event::Watch { watcher } => self.watch(watcher),
            Event::Fault => self.fault(),
            Event::Coup { node, life } => self.cut_leader(node, life),
            Event::CutPower { node, life } if self.nodes.get(node).is_some_and(|it| it.life == life) => {
                self.power_off_for_a_while(node);
            }
            Event::Heal(lasting) => self.heal(lasting),
            Event::Start { node } => self.start(node),
            Event::Operate => self.operate(),
            Event::Retire { node } => self.retire(node),
            Event::Wipe { node } => self.wipe_and_stop_leader(node),
            Event::Interrupt { node, life, kind } if self.nodes.get(node).is_some_and(|it| it.life == life) => {
                self.interrupted(node, kind);
            }
            Event::Look => self.look(),
            Event::Turn { .. }
            | Event::Disk { .. }
            | Event::Prepared { .. }
            | Event::Idle { .. }
            | Event::Scrub { .. }
            | Event::Snapshot { .. }
            | Event::CutPower { .. }
            | Event::Interrupt { .. }
            | Event::DamageTail { .. } => {}
        }
    }

    /// Puts an event into the queue, `wait` microseconds from now.
    fn schedule(&mut self, wait: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((self.now.saturating_add(wait), self.scheduled), event);
    }

    /// Whether this life of the node goes on and the process is not standing still; an event for one that stands
    /// still waits for it.
    fn awake(&mut self, node: usize, life: u64, again: impl FnOnce() -> Event) -> bool {
        let Some(it) = self.nodes.get_mut(node).filter(|it| it.life == life && it.process.is_some()) else {
            return false;
        };
        if it.still_until <= self.now {
            return true;
        }
        // One that was busy reads the frames that came meanwhile first, as the event loop does. One that was paused may
        // have been about to do something else.
        let frames_first = it.paused_until <= self.now || it.random.chance(500);
        let wait = it.still_until - self.now + u64::from(frames_first);
        self.schedule(wait, again());
        false
    }

    /// Notes the first thing that does not hold.
    fn judge(&mut self, property: Property, verdict: Verdict) {
        if let Err(what) = verdict
            && self.violation.is_none()
            && !self.profile.without.contains(property.name)
        {
            self.trace.event(self.now, 0, "VIOLATION", &[], || format!("{}: {what}", property.name));
            self.violation = Some(Violation { property, at: self.now, what });
        }
    }

    fn finish(&mut self) {
        let sent = self.clients.sent_payloads();
        let committed: BTreeSet<u64> = match applied_once::finish(&self.truth, &sent) {
            Ok(committed) => committed,
            Err(what) => return self.judge(applied_once::PROPERTY, Err(what)),
        };
        let acknowledged = self.acknowledged.finish(&self.truth, &committed);
        self.judge(acknowledged::PROPERTY, acknowledged);
        self.finish_work();
        let history = [&self.clients.history()[..], self.workers.registers()].concat();
        let verdict = linearizable::finish(&history);
        self.judge(linearizable::PROPERTY, verdict);
        self.check_members();
        self.check_disks();
        self.check_asked();
        if self.clients.answered * 2 < self.clients.asked {
            let what = format!("only {} of {} questions were answered", self.clients.answered, self.clients.asked);
            self.judge(ENOUGH, Err(what));
        }
    }

    /// Whether a node belongs to the cluster, in this life of its disk: only of such a one is anything expected.
    fn is_member(&self, node: usize) -> bool {
        let life = self.nodes.get(node).filter(|it| !it.wiped);
        life.is_some_and(|it| self.truth.settled().is_some_and(|(_id, members)| members.member(it.id).is_some()))
    }

    /// Every member has caught up and holds the same; no change is under way.
    fn check_members(&mut self) {
        let members: Vec<usize> = (0..self.nodes.len()).filter(|node| self.is_member(*node)).collect();
        let words = |node: &usize| self.nodes.get(*node).and_then(Node::last_words);
        let finals: Vec<converges::Final> = members.iter().filter_map(words).collect();
        let all = if finals.len() == members.len() {
            let committed = (self.settled(), self.truth.last_committed());
            converges::finish(&finals, committed, |index| self.same_state.at(index))
        } else {
            Err(format!("only {} of {} members run", finals.len(), members.len()))
        };
        self.judge(converges::PROPERTY, all);
        let last = self.truth.settled().map(|(_id, members)| members);
        let runs = |id| self.nodes.get(place(id)).is_some_and(|it| it.process.is_some() && !it.wiped);
        let settles = converges::settles(last, self.truth.in_force().len() == 1, runs);
        self.judge(converges::PROPERTY, settles);
        let answered = self.operator.answered.finish(&self.truth);
        self.judge(change_answered::PROPERTY, answered);
    }

    /// What every member must have by now. Where leases and sessions end of age somebody may be about to hear of that.
    fn settled(&self) -> Index {
        let before = |(at, _committed): &&(u64, Index)| at + REACHES_ALL < self.now;
        let look = self.looks.iter().rev().find(before).filter(|_look| self.profile.workloads.is_some());
        look.map_or(self.truth.last_committed(), |(_at, committed)| *committed)
    }

    /// Whether a record that a node has lost is covered by its snapshot, and nobody has it any more who could give it.
    fn is_mendless(&self, node: &Node, index: Index, covered: Index) -> bool {
        let gone = |it: &Node| it.process.as_ref().is_none_or(|process| process.log().first() > index);
        index <= covered && self.nodes.iter().all(|other| other.id == node.id || gone(other))
    }

    /// Every committed record stands in every log, byte for byte, or is covered by that node's durable snapshot.
    fn check_disks(&mut self) {
        let (settled, mut verdict) = (self.settled(), Ok(()));
        'nodes: for (place, (node, disk)) in self.nodes.iter().zip(&self.truth.disks).enumerate() {
            let Some(process) = node.process.as_ref().filter(|_process| self.is_member(place)) else { continue };
            let first = process.log().first();
            if disk.newest_snapshot().index < first.prev() {
                verdict = Err(format!("the log of node {} begins at {first}, its snapshot ends before", node.id));
                break 'nodes;
            }
            for id in self.truth.committed.iter().filter(|id| id.index >= first && id.index <= settled) {
                let wrong = match process.log().read(id.index) {
                    Ok(record) if record.header().id != *id => format!("it holds {} there", record.header().id),
                    Ok(record) => match self.truth.records.get(id) {
                        Some(known) if known.digest != digest(record.bytes()) => "its bytes differ".to_owned(),
                        _ => continue,
                    },
                    Err(_lost) if self.is_mendless(node, id.index, disk.newest_snapshot().index) => continue,
                    Err(error) => error.to_string(),
                };
                verdict = Err(format!("node {} cannot show the committed entry {id}: {wrong}", node.id));
                break 'nodes;
            }
        }
        self.judge(converges::PROPERTY, verdict);
    }
}

/// How long a commit takes to reach every member in good times, in microseconds.
const REACHES_ALL: u64 = 250_000;
/// A run in which most questions fail shows nothing.
const ENOUGH: Property =
    Property { name: "enough", claim: "at least half of the questions are answered, or the run shows nothing" };
