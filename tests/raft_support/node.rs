//! One node: the core, its records in memory, and a disk that completes writes when it is told to.

use std::collections::VecDeque;
use std::time::Duration;

use dledger::raft::message::{AppendOutcome, Body, Message};
use dledger::raft::ready::{Invented, Lack, LogAppend, ReadState, Ready, Replicate};
use dledger::raft::{
    AppendStep, Appended, Change, ChangeRefused, Installed, Member, Membership, Raft, RaftConfig, ReadBy, Restored,
    TransferEnd, TransferRefused,
};
use dledger::types::{
    ClusterId, EntryId, Incarnation, Index, Monotonic, NodeId, ReadyNumber, RoleChange, Term, TermRun, Vote,
};

/// A record: its term and, in place of bytes, a number that no other record of the test has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub term: Term,
    pub value: u64,
    /// What a membership entry says. Memberships of a test live as long as its process: a record stays a plain value.
    pub membership: Option<&'static Membership>,
}

impl Record {
    pub fn data(term: Term, value: u64) -> Self {
        Self { term, value, membership: None }
    }

    pub fn of_membership(term: Term, membership: Membership) -> Self {
        Self { term, value: MEMBERSHIP, membership: Some(Box::leak(Box::new(membership))) }
    }
}

/// Every record is taken to have this size.
pub const RECORD_BYTES: u64 = 100;
/// The value of a leader's no-op.
pub const NO_OP: u64 = 0;
/// The value of an entry that changes members; what it says stands beside it.
pub const MEMBERSHIP: u64 = u64::MAX;

/// A message under way, with the records that travel beside an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub message: Message,
    pub records: Vec<Record>,
}

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub vote: Vote,
    pub log: Vec<Record>,
    pub committed: Index,
    /// The first record that cannot be read back.
    pub hole: Option<Index>,
    /// First and last index of records whose terms are not known.
    pub unknown: Vec<(Index, Index)>,
    /// Records that cannot be read back: what they say of members is not known either.
    pub unread: Vec<Index>,
    /// It may have lost records behind its last.
    pub in_doubt: bool,
}

/// One Ready's work for the disk.
#[derive(Clone, Debug)]
struct Write {
    number: ReadyNumber,
    vote: Option<Vote>,
    append: Option<(Index, Vec<Record>)>,
}

/// Something a transcript shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Role(RoleChange),
    Committed(Index),
    Read(ReadState),
    Lacks(Lack),
    Transfer(TransferEnd),
    Write { number: ReadyNumber, vote: Option<Vote>, append: Option<Box<LogAppend>> },
}

pub struct Node {
    pub raft: Raft,
    /// The log as the node has it in memory; index 1 is the first.
    pub log: Vec<Record>,
    pub disk: Disk,
    writes: VecDeque<Write>,
    /// `after_durable` of Ready numbers that wait for the disk.
    waiting: VecDeque<(ReadyNumber, Vec<Message>)>,
    durable_number: ReadyNumber,
    /// The disk completes nothing by itself.
    pub disk_held: bool,
    pub out: Vec<Packet>,
    pub events: Vec<Event>,
    pub reads: Vec<ReadState>,
    pub transfers: Vec<TransferEnd>,
    /// Records that the input at hand brought, from which the next append is taken.
    incoming: Vec<Record>,
    /// Tell the core of a completion before, or after, sending what waited for it. Both must be safe.
    pub persisted_first: bool,
    /// Records are taken to have sizes that tell any two apart: an entry whose term the core does not know is seen not
    /// to be the leader's once the leader's is there.
    pub sizes_tell: bool,
}

pub fn member(id: u64) -> Member {
    Member { id: NodeId(id), incarnation: Incarnation(id), address: format!("h:{id}") }
}

pub fn members(count: u64) -> Membership {
    Membership::new(ClusterId(1), (1..=count).map(member).collect())
}

/// The memberships among some records, the first of which has index `first`.
fn memberships_of(first: Index, records: &[Record]) -> Vec<(Index, Membership)> {
    let of = |(place, record): (usize, &Record)| Some((first.plus(place as u64), record.membership?.clone()));
    records.iter().enumerate().filter_map(of).collect()
}

pub fn config(id: u64, seed: u64) -> RaftConfig {
    RaftConfig {
        id: NodeId(id),
        heartbeat: Duration::from_millis(50),
        election_timeout: Duration::from_millis(150),
        seed: seed.wrapping_mul(1000).wrapping_add(id),
        max_inflight_bytes: 10 * RECORD_BYTES,
        max_inflight_messages: 4,
    }
}

pub fn runs_of(first: Index, records: &[Record]) -> Vec<TermRun> {
    let mut runs: Vec<TermRun> = Vec::new();
    for (place, record) in records.iter().enumerate() {
        if runs.last().is_none_or(|run| run.term != record.term) {
            runs.push(TermRun { first: first.plus(place as u64), term: record.term });
        }
    }
    runs
}

impl Node {
    /// A node whose log began with `formed`; with none one that was never a member, and has what its log says.
    pub fn start(config: RaftConfig, formed: impl Into<Option<Membership>>, disk: Disk, now: Monotonic) -> Self {
        let formed = formed.into().map(|membership| (Index::ZERO, membership));
        let last = disk.log.last().map_or(EntryId::ZERO, |last| EntryId::new(Index(disk.log.len() as u64), last.term));
        let read = memberships_of(Index(1), &disk.log);
        let read = read.into_iter().filter(|(index, _)| !disk.unread.contains(index));
        let restored = Restored {
            vote: disk.vote,
            base: EntryId::ZERO,
            runs: runs_of(Index(1), &disk.log),
            last,
            applied: Index::ZERO,
            committed: disk.committed.min(last.index),
            memberships: formed.into_iter().chain(read).collect(),
            hole: disk.hole,
            unknown: disk.unknown.clone(),
            in_doubt: disk.in_doubt,
        };
        let mut node = Self {
            raft: Raft::new(config, restored, now),
            log: disk.log.clone(),
            disk,
            writes: VecDeque::new(),
            waiting: VecDeque::new(),
            durable_number: ReadyNumber(0),
            disk_held: false,
            out: Vec::new(),
            events: Vec::new(),
            reads: Vec::new(),
            transfers: Vec::new(),
            incoming: Vec::new(),
            persisted_first: true,
            sizes_tell: false,
        };
        node.drain(now);
        node
    }

    pub fn tick(&mut self, now: Monotonic) {
        self.raft.tick(now);
        self.drain(now);
    }

    pub fn propose(&mut self, now: Monotonic, values: &[u64]) -> bool {
        let Ok(first) = self.raft.propose(now, values.len() as u64) else { return false };
        self.incoming = values.iter().map(|value| Record::data(first.term, *value)).collect();
        self.drain(now);
        true
    }

    pub fn change(&mut self, now: Monotonic, change: &Change) -> Result<EntryId, ChangeRefused> {
        let entry = self.raft.change_membership(now, change);
        self.drain(now);
        entry
    }

    pub fn transfer(&mut self, now: Monotonic, to: u64) -> Result<(), TransferRefused> {
        let taken_up = self.raft.transfer_leadership(now, NodeId(to));
        self.drain(now);
        taken_up
    }

    /// Tells the core whether there is room on the disk.
    pub fn room(&mut self, now: Monotonic, has_room: bool) {
        self.raft.room(now, has_room);
    }

    pub fn read_index(&mut self, now: Monotonic, token: u64, by: ReadBy) {
        self.raft.read_index(now, token, by);
        self.drain(now);
    }

    /// Tells the core of the first hole, as found or as left by mending.
    pub fn holes(&mut self, now: Monotonic, first: Option<u64>) {
        self.raft.holes(now, first.map(Index));
        self.drain(now);
    }

    /// Purges the log up to an index that was applied. The records stay in `log`, so that logs can be compared; a leader
    /// that sent one of them would show it by its order.
    pub fn compact(&mut self, now: Monotonic, upto: u64) {
        let base = EntryId::new(Index(upto), self.raft.term_at(Index(upto)).expect("it is in the log"));
        self.raft.compact(now, base);
        self.drain(now);
    }

    /// Installs a snapshot of everything up to `upto` in the log `source`. A log that is started anew is filled with the
    /// records behind the snapshot, which are as good as on disk.
    pub fn install(&mut self, now: Monotonic, upto: u64, source: &[Record]) -> bool {
        let source = &source[..upto as usize];
        let last = EntryId::new(Index(upto), source.last().expect("a snapshot of something").term);
        let membership = self.raft.membership().cloned().map(|membership| (Index::ZERO, membership));
        let reset = self.raft.install(now, last, membership) == Installed::StartedOver;
        if reset {
            self.log = source.to_vec();
            self.disk.log = source.to_vec();
            self.writes.iter_mut().for_each(|write| write.append = None);
        }
        self.drain(now);
        reset
    }

    pub fn connected(&mut self, now: Monotonic, peer: NodeId) {
        self.raft.peer_connected(now, peer);
        self.drain(now);
    }

    pub fn disconnected(&mut self, now: Monotonic, peer: NodeId) {
        self.raft.peer_disconnected(now, peer);
        self.drain(now);
    }

    pub fn receive(&mut self, now: Monotonic, packet: &Packet) -> Option<AppendStep> {
        let message = &packet.message;
        let Body::Append { prev, commit, base } = message.body else {
            self.raft.step(now, message.clone());
            self.drain(now);
            return None;
        };
        let first = prev.index.next();
        let appended = Appended {
            prev,
            commit,
            base,
            runs: runs_of(first, &packet.records),
            last: prev.index.plus(packet.records.len() as u64),
            memberships: memberships_of(first, &packet.records),
            refutes: self.refuted_by(first, &packet.records),
        };
        let step = self.raft.step_append(now, message.from, message.term, appended);
        if let AppendStep::Accepted { new_from: Some(from) } = step {
            self.incoming = packet.records[(from.0 - first.0) as usize..].to_vec();
        }
        self.drain(now);
        Some(step)
    }

    fn refuted_by(&self, first: Index, records: &[Record]) -> Option<Index> {
        let differs = |index: &Index| {
            let theirs = index.0.checked_sub(first.0).and_then(|place| records.get(place as usize));
            let unknown = self.raft.term_at(*index).is_none() && index.0 <= self.log.len() as u64;
            unknown && theirs.is_some_and(|theirs| *theirs != self.log[index.0 as usize - 1])
        };
        let hole_differs = |(first, last): &&(Index, Index)| (first.0..=last.0).map(Index).any(|index| differs(&index));
        self.disk.unknown.iter().find(hole_differs).map(|(_first, last)| *last).filter(|_last| self.sizes_tell)
    }

    /// The oldest write of the disk completes; false when there is none.
    pub fn complete_one(&mut self, now: Monotonic) -> bool {
        let Some(write) = self.writes.pop_front() else { return false };
        self.disk.vote = write.vote.unwrap_or(self.disk.vote);
        if let Some((after, records)) = write.append {
            self.disk.log.truncate(after.0 as usize);
            assert_eq!(self.disk.log.len() as u64, after.0, "a hole in the log");
            self.disk.log.extend(records);
        }
        self.durable_number = write.number;
        if self.persisted_first {
            self.raft.persisted(now, write.number);
        }
        self.release();
        if !self.persisted_first {
            self.raft.persisted(now, write.number);
        }
        // Never more than this disk holds: above `durable` it may still have entries that are to be cut.
        self.disk.committed = self.raft.committed().min(self.raft.written());
        self.drain(now);
        true
    }

    pub fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// What a crash leaves: all that completed, and of the write under way the vote or its first `records` records.
    pub fn crash(self, with_vote: bool, records: usize) -> Disk {
        let mut disk = self.disk;
        if let Some(write) = self.writes.front() {
            if with_vote {
                disk.vote = write.vote.unwrap_or(disk.vote);
            }
            if let (Some((after, new)), true) = (&write.append, with_vote && records > 0) {
                disk.log.truncate(after.0 as usize);
                disk.log.extend(new.iter().take(records));
            }
        }
        disk
    }

    fn release(&mut self) {
        let busy = self.writes.front().map(|write| write.number);
        while self.waiting.front().is_some_and(|(number, _)| busy.is_none_or(|busy| *number < busy)) {
            let (_number, messages) = self.waiting.pop_front().unwrap();
            self.out.extend(messages.into_iter().map(|message| Packet { message, records: Vec::new() }));
        }
    }

    fn drain(&mut self, now: Monotonic) {
        loop {
            while let Some(ready) = self.raft.ready() {
                self.handle(now, ready);
            }
            self.incoming.clear();
            if self.disk_held || !self.complete_one_quietly(now) {
                break;
            }
        }
    }

    fn complete_one_quietly(&mut self, now: Monotonic) -> bool {
        if self.writes.is_empty() {
            return false;
        }
        self.complete_one(now)
    }

    fn handle(&mut self, now: Monotonic, ready: Ready) {
        if let Some(append) = &ready.append {
            self.log.truncate(append.after.index.0 as usize);
            let count = (append.last.0 - append.after.index.0) as usize;
            match &append.invented {
                Some(Invented::NoOp) => self.log.push(Record::data(self.raft.term(), NO_OP)),
                Some(Invented::Membership(membership)) => {
                    self.log.push(Record::of_membership(self.raft.term(), membership.clone()));
                }
                None => {
                    assert_eq!(self.incoming.len(), count, "the append is not what the input brought");
                    self.log.append(&mut self.incoming);
                }
            }
            assert_eq!(self.log.len() as u64, append.last.0);
        }
        if ready.vote.is_some() || ready.append.is_some() {
            let records = |append: &LogAppend| self.log[append.after.index.0 as usize..].to_vec();
            let append = ready.append.as_ref().map(|append| (append.after.index, records(append)));
            self.events.push(Event::Write {
                number: ready.number,
                vote: ready.vote,
                append: ready.append.map(Box::new),
            });
            self.writes.push_back(Write { number: ready.number, vote: ready.vote, append });
        }
        self.events.extend(ready.role.map(Event::Role));
        self.events.extend(ready.committed.map(Event::Committed));
        self.transfers.extend(ready.transfer);
        self.events.extend(ready.transfer.map(Event::Transfer));
        self.events.extend(ready.reads.iter().copied().map(Event::Read));
        self.reads.extend(ready.reads);
        self.events.extend(ready.lacks.map(Event::Lacks));
        self.out.extend(ready.messages.into_iter().map(|message| Packet { message, records: Vec::new() }));
        if !ready.after_durable.is_empty() {
            self.waiting.push_back((ready.number, ready.after_durable));
        }
        for order in ready.replicate {
            self.replicate(now, order);
        }
        if let Some(committed) = ready.committed {
            self.raft.applied(committed);
        }
        self.release();
    }

    fn replicate(&mut self, now: Monotonic, order: Replicate) {
        let after = order.after.index;
        let room = (order.max_bytes / RECORD_BYTES).max(u64::from(order.at_least_one));
        let count = room.min(order.last.0 - after.0);
        let records = self.log[after.0 as usize..(after.0 + count) as usize].to_vec();
        if count > 0 || order.last == after {
            let body = Body::Append { prev: order.after, commit: order.commit, base: order.base };
            let message = Message { from: self.raft.id(), to: order.to, term: self.raft.term(), body };
            self.out.push(Packet { message, records });
        }
        self.raft.sent(now, order.to, after.plus(count), count * RECORD_BYTES);
    }
}

/// A packet in one line.
pub fn show(packet: &Packet) -> String {
    let Message { from, to, term, body } = &packet.message;
    let what = match body {
        Body::PreVote { next, last } => format!("PreVote next={next} last={last}"),
        Body::PreVoteAnswer { next, granted } => format!("PreVoteAnswer next={next} {}", yes(*granted)),
        Body::Vote { last, handed_over: false } => format!("Vote last={last}"),
        Body::Vote { last, handed_over: true } => format!("Vote last={last} handed over"),
        Body::VoteAnswer { granted } => format!("VoteAnswer {}", yes(*granted)),
        Body::Append { prev, commit, .. } => {
            let mark = |record: &Record| if record.membership.is_some() { "m" } else { "" };
            let terms: Vec<String> =
                packet.records.iter().map(|record| format!("{}{}", record.term, mark(record))).collect();
            format!("Append prev={prev} terms=[{}] commit={commit}", terms.join(" "))
        }
        Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable, verified } } => {
            format!("Accepted durable={durable} verified={verified}")
        }
        Body::AppendAnswer { outcome: AppendOutcome::Rejected { prev, hint } } => {
            format!("Rejected prev={prev} hint={hint}")
        }
        Body::Heartbeat { commit, round } => format!("Heartbeat round={round} commit={commit}"),
        Body::HeartbeatAnswer { round, durable, verified, written, full } => {
            let full = if *full { " full" } else { "" };
            let behind = if written > durable { format!(" written={written}") } else { String::new() };
            format!("HeartbeatAnswer round={round} durable={durable} verified={verified}{behind}{full}")
        }
        // The name of a question is random.
        Body::ReadIndex { by_lease, .. } => format!("ReadIndex{}", if *by_lease { " by lease" } else { "" }),
        Body::ReadIndexAnswer { index, .. } => format!("ReadIndexAnswer {}", shown(*index)),
        Body::HandOver => "HandOver".to_owned(),
        Body::PreVoteInDoubt { next } => format!("PreVoteInDoubt next={next}"),
        Body::VoteInDoubt => "VoteInDoubt".to_owned(),
    };
    format!("{from} -> {to}  t{term} {what}")
}

pub fn show_event(id: u64, event: &Event) -> String {
    match event {
        Event::Role(RoleChange { term, role, leader }) => {
            format!("{id} is {role} in term {term}, leader {}", leader.map_or("none".to_owned(), |id| id.to_string()))
        }
        Event::Committed(index) => format!("{id} commits {index}"),
        Event::Lacks(Lack { leader, base }) => format!("{id} lacks what {leader} has purged up to {base}"),
        Event::Read(ReadState { token, index }) => format!("{id} read {token}: {}", shown(*index)),
        Event::Transfer(end) => {
            let end = match end {
                TransferEnd::Done => "done".to_owned(),
                TransferEnd::OtherLeads(other) => format!("{other} leads"),
                TransferEnd::GivenUp => "given up".to_owned(),
            };
            format!("{id} transfer: {end}")
        }
        Event::Write { number, vote, append } => {
            let vote = vote.map_or(String::new(), |vote| format!(" term {} vote {}", vote.term, vote.voted_for));
            let append = append.as_ref().map_or(String::new(), |append| {
                let cut = if append.truncate { format!(" cut above {},", append.after) } else { String::new() };
                let what = match &append.invented {
                    Some(Invented::NoOp) => "no-op".to_owned(),
                    Some(Invented::Membership(membership)) => show_membership(membership),
                    None => "append".to_owned(),
                };
                format!("{cut} {what} {}..={}", append.after.index.next(), append.last)
            });
            format!("{id} writes #{}:{vote}{append}", number.0)
        }
    }
}

/// `members 1 2 4`, `members 1 2 4 from 1 2 3`, `members 1 2 3 learners 4`.
pub fn show_membership(membership: &Membership) -> String {
    let list = |name: &str, members: &[Member]| {
        let ids: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
        if ids.is_empty() { String::new() } else { format!("{name} {}", ids.join(" ")) }
    };
    let (voters, outgoing) = (list("members", &membership.voters), list(" from", &membership.outgoing));
    format!("{voters}{outgoing}{}", list(" learners", &membership.learners))
}

fn yes(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

fn shown(index: Option<Index>) -> String {
    index.map_or("nobody knows".to_owned(), |index| format!("at {index}"))
}
