//! One node around the core: its log as terms, and a disk that completes writes when it is told to. It checks whatever
//! comes out of the core against them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dledger::raft::invariants::{self, Snapshot};
use dledger::raft::message::{AppendOutcome, Body, Message};
use dledger::raft::ready::{LogAppend, Ready, Replicate};
use dledger::raft::{AppendStep, Appended, Installed, Member, Membership, Raft, RaftConfig, ReadBy, Restored};
use dledger::types::{
    ClusterId, EntryId, Incarnation, Index, Monotonic, NodeId, ReadyNumber, Role, Term, TermRun, Vote,
};

const ID: NodeId = NodeId(1);
const RECORD_BYTES: u64 = 100;
/// Messages of one turn: to each peer a few.
const MAX_MESSAGES: usize = 64;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
struct Disk {
    vote: Vote,
    log: Vec<Term>,
    committed: Index,
    /// The first record that cannot be read back.
    hole: Option<Index>,
    /// It may have lost records behind its last.
    in_doubt: bool,
}

/// One write under way.
struct Write {
    number: ReadyNumber,
    vote: Option<Vote>,
    append: Option<(usize, Vec<Term>)>,
}

pub(super) struct Node {
    pub(super) raft: Raft,
    membership: Membership,
    now: Monotonic,
    starts: u64,
    /// The terms of the records as the core ordered them written; index 1 is the first.
    log: Vec<Term>,
    disk: Disk,
    writes: VecDeque<Write>,
    /// What waits for a Ready to be durable.
    waiting: VecDeque<(ReadyNumber, Vec<Message>)>,
    /// The records that the input at hand brings.
    incoming: Vec<Term>,
    /// Whom this node has voted for, by term, over all its lives.
    votes: BTreeMap<Term, NodeId>,
    /// Reads without an answer, and the name of the next.
    reads: BTreeSet<u64>,
    next_read: u64,
    committed: Index,
}

fn runs_of(first: Index, terms: &[Term]) -> Vec<TermRun> {
    let mut runs: Vec<TermRun> = Vec::new();
    for (place, term) in terms.iter().enumerate() {
        if runs.last().is_none_or(|run| run.term != *term) {
            runs.push(TermRun { first: first.plus(place as u64), term: *term });
        }
    }
    runs
}

fn terms_of(appended: &Appended) -> Vec<Term> {
    let indexes = appended.prev.index.get() + 1..=appended.last.get();
    let of = |index| appended.runs.iter().rev().find(|run| run.first.get() <= index).map_or(Term::ZERO, |run| run.term);
    indexes.map(of).collect()
}

fn place(index: Index) -> usize {
    usize::try_from(index.get()).expect("an index of a small log")
}

impl Node {
    /// A node of one, three or five voters, or a learner, in doubt or not, with up to four records of two terms.
    pub(super) fn start(members: u8, records: u8) -> Self {
        let voters = [1, 3, 5, 3][usize::from(members % 4)];
        let member = |id| Member { id: NodeId(id), incarnation: Incarnation(id), address: format!("h:{id}") };
        let first = if members % 4 == 3 { 2 } else { 1 };
        let learners = if first == 2 { vec![member(1)] } else { Vec::new() };
        let voters = (first..first + voters).map(member).collect();
        let membership = Membership { learners, ..Membership::new(ClusterId(1), voters) };
        let log: Vec<Term> = [1, 1, 2, 2].into_iter().take(usize::from(records % 5)).map(Term).collect();
        let term = log.last().copied().unwrap_or_default().get() + u64::from(records / 5 % 3);
        let vote = Vote { term: Term(term), voted_for: NodeId(u64::from(records / 15) % 4) };
        let voted = Some((vote.term, vote.voted_for)).filter(|(_term, whom)| !whom.is_zero());
        let in_doubt = members / 4 % 2 == 1;
        let disk = Disk { vote, log: log.clone(), committed: Index::ZERO, hole: None, in_doubt };
        let now = Monotonic::from_micros(1_000_000);
        let mut node = Self {
            raft: core(&membership, &disk, now, 0),
            membership,
            now,
            starts: 0,
            log,
            disk,
            writes: VecDeque::new(),
            waiting: VecDeque::new(),
            incoming: Vec::new(),
            votes: voted.into_iter().collect(),
            reads: BTreeSet::new(),
            next_read: 0,
            committed: Index::ZERO,
        };
        node.drain();
        node
    }

    pub(super) fn tick(&mut self, micros: u64) {
        self.now = self.now.after(Duration::from_micros(micros));
        let now = self.now;
        self.act(|raft| raft.tick(now));
        let due = self.raft.next_deadline();
        assert!(due.is_none_or(|due| due > now), "due again at once: {due:?} at {now:?}");
    }

    pub(super) fn receive(&mut self, message: Message) {
        let now = self.now;
        self.act(|raft| raft.step(now, message));
    }

    pub(super) fn receive_append(&mut self, from: NodeId, term: Term, appended: Appended) {
        let (now, terms, prev) = (self.now, terms_of(&appended), appended.prev.index);
        let step = self.turn(|raft| raft.step_append(now, from, term, appended));
        if let AppendStep::Accepted { new_from: Some(new) } = step {
            self.incoming = terms[place(new) - place(prev) - 1..].to_vec();
        }
        self.drain();
    }

    pub(super) fn propose(&mut self, count: u64) {
        let (now, leads) = (self.now, self.raft.role() == Role::Leader);
        let proposed = self.turn(|raft| raft.propose(now, count));
        assert_eq!(proposed.is_ok(), leads);
        if let Ok(first) = proposed {
            assert_eq!(first, EntryId::new(Index(self.log.len() as u64 + 1), self.raft.term()));
            self.incoming = vec![first.term; count as usize];
        }
        self.drain();
    }

    pub(super) fn read(&mut self) {
        let (now, token) = (self.now, self.next_read);
        self.next_read += 1;
        self.reads.insert(token);
        self.act(|raft| raft.read_index(now, token, ReadBy::Round));
    }

    pub(super) fn connection(&mut self, peer: NodeId, up: bool) {
        let now = self.now;
        self.act(|raft| if up { raft.peer_connected(now, peer) } else { raft.peer_disconnected(now, peer) });
    }

    pub(super) fn apply(&mut self) {
        let before = self.raft.applied_index();
        let readable = self.raft.committed().min(self.sound_end());
        self.act(|raft| raft.applied(readable));
        assert_eq!(self.raft.applied_index(), readable.max(before));
    }

    /// A record cannot be read back, or all can again.
    pub(super) fn hole(&mut self, first: Option<Index>) {
        // What stands before the log is none, what stands behind it is nonsense.
        if first.is_none_or(|first| place(first) <= self.log.len()) {
            self.disk.hole = first.filter(|first| *first > self.raft.base().index);
        }
        let now = self.now;
        self.act(|raft| raft.holes(now, first));
    }

    /// The front of the log is dropped; more than is applied is nonsense.
    pub(super) fn compact(&mut self, upto: Index) {
        let Some(term) = self.raft.term_at(upto) else { return };
        let (now, base) = (self.now, self.raft.base());
        let purged = upto <= self.raft.applied_index() && upto > base.index;
        self.act(|raft| raft.compact(now, EntryId::new(upto, term)));
        assert_eq!(self.raft.base(), if purged { EntryId::new(upto, term) } else { base });
        self.disk.hole = self.disk.hole.filter(|hole| *hole > self.raft.base().index);
    }

    /// A snapshot of everything up to an entry is durable and restored.
    pub(super) fn install(&mut self, last: EntryId) {
        if last.index.is_zero() || last.term.is_zero() || last.index.get() > 500 {
            return;
        }
        let (now, applied, committed) = (self.now, self.raft.applied_index(), self.raft.committed());
        // Snapshots are made up here: one would tell a leader that what it has not counted is committed, another take back
        // what was said to a leader of this term, which has all that is committed.
        let leads = self.raft.role() == Role::Leader && last.index > committed;
        let contradicts = last.index <= self.raft.verified() && self.raft.term_at(last.index) != Some(last.term);
        if leads || contradicts {
            return;
        }
        let membership = Some((Index::ZERO, self.membership.clone()));
        let installed = self.turn(|raft| raft.install(now, last, membership));
        match installed {
            Installed::Refused => assert_eq!(self.raft.applied_index(), applied),
            Installed::Kept => assert_eq!(self.raft.applied_index(), last.index.max(applied)),
            Installed::StartedOver => {
                assert!(last.index > committed && self.raft.base() == last && self.raft.last() == last);
                assert_eq!(self.raft.durable(), last.index);
                // What stood before it is forgotten: any terms will do.
                self.log = vec![last.term; place(last.index)];
                self.disk.log = self.log.clone();
                self.writes.iter_mut().for_each(|write| write.append = None);
            }
        }
        if installed != Installed::Refused {
            self.disk.hole = self.disk.hole.filter(|hole| *hole > last.index);
            assert!(self.raft.committed() >= last.index);
        }
        self.drain();
    }

    /// The last record that can be read back with all before it.
    fn sound_end(&self) -> Index {
        self.disk.hole.map_or(Index(u64::MAX), Index::prev)
    }

    /// What a caller must never say; it is to be ignored.
    pub(super) fn nonsense(&mut self, what: u8, number: u64) {
        let now = self.now;
        match what % 3 {
            0 if number > self.raft.committed().get() => self.act(|raft| raft.applied(Index(number))),
            // No core gives so many.
            1 => self.act(|raft| raft.persisted(now, ReadyNumber(number | 1 << 40))),
            2 => self.act(|raft| raft.sent(now, NodeId(number % 7), Index(number), number)),
            _ => {}
        }
    }

    /// The oldest write is on the disk. The core may hear of it before or after what waited for it has left.
    pub(super) fn complete_write(&mut self, order: u8) {
        let Some(write) = self.writes.pop_front() else { return };
        self.disk.vote = write.vote.unwrap_or(self.disk.vote);
        if let Some((after, terms)) = write.append {
            self.disk.log.truncate(after);
            assert_eq!(self.disk.log.len(), after, "a hole in the log on disk");
            self.disk.log.extend(terms);
        }
        let (now, number) = (self.now, write.number);
        if order & 1 == 1 {
            self.release();
        }
        self.turn(|raft| raft.persisted(now, number));
        self.release();
        self.disk.committed = self.disk.committed.max(self.raft.committed().min(self.raft.durable()));
        self.drain();
    }

    /// The process dies; of the write under way the vote, or the vote and some records, may be there.
    pub(super) fn crash(&mut self, kept: u8) {
        self.disk.in_doubt = self.raft.in_doubt();
        if let Some(write) = self.writes.pop_front().filter(|_write| kept & 1 == 1) {
            self.disk.vote = write.vote.unwrap_or(self.disk.vote);
            let records = usize::from(kept >> 1);
            if let Some((after, terms)) = write.append.filter(|_append| records > 0) {
                self.disk.log.truncate(after);
                self.disk.log.extend(terms.into_iter().take(records));
            }
        }
        let last = Index(self.disk.log.len() as u64);
        // The writer cut the hole away, or it is there still, unless it was in what was lost.
        self.disk.hole = self.disk.hole.filter(|hole| *hole <= last);
        assert!(self.disk.committed <= last, "committed and durable records are cut");
        self.starts += 1;
        self.writes.clear();
        self.waiting.clear();
        self.reads.clear();
        self.log = self.disk.log.clone();
        self.committed = self.disk.committed;
        self.raft = core(&self.membership, &self.disk, self.now, self.starts);
        self.drain();
    }

    pub(super) fn check_end(&self) {
        assert_eq!(invariants::check(&self.raft), Ok(()));
        let base = self.raft.base().index.get();
        for (index, term) in (1..).zip(&self.log).filter(|(index, _term)| *index > base) {
            assert_eq!(self.raft.term_at(Index(index)), Some(*term));
        }
    }

    fn act(&mut self, input: impl FnOnce(&mut Raft)) {
        self.turn(input);
        self.drain();
    }

    /// One input, and what must hold of any.
    fn turn<T>(&mut self, input: impl FnOnce(&mut Raft) -> T) -> T {
        let before = Snapshot::of(&self.raft);
        let (role, term, committed) = (self.raft.role(), self.raft.term(), self.raft.committed());
        let result = input(&mut self.raft);
        assert_eq!(invariants::check(&self.raft), Ok(()));
        assert_eq!(invariants::check_delta(&before, &self.raft), Ok(()));
        let leads_on = role == Role::Leader && self.raft.role() == role && self.raft.term() == term;
        if leads_on && self.raft.committed() > committed {
            // Paper, 5.4.2.
            assert_eq!(self.raft.term_at(self.raft.committed()), Some(term), "an old term was committed by counting");
        }
        result
    }

    fn drain(&mut self) {
        while let Some(ready) = self.raft.ready() {
            self.handle(ready);
        }
        assert!(!self.raft.has_ready());
        let stands = matches!(self.raft.role(), Role::PreCandidate | Role::Candidate);
        assert!(!stands || self.disk.hole.is_none(), "stands for election with a hole");
        assert!(self.incoming.is_empty(), "records were taken and never ordered written");
        assert_eq!(self.raft.last().index, Index(self.log.len() as u64));
    }

    fn handle(&mut self, ready: Ready) {
        assert!(ready.messages.len() + ready.after_durable.len() <= MAX_MESSAGES);
        let append = ready.append.map(|append| self.append(append));
        if ready.vote.is_some() || append.is_some() {
            self.writes.push_back(Write { number: ready.number, vote: ready.vote, append });
        }
        if let Some(committed) = ready.committed {
            assert!(committed > self.committed || self.starts > 0, "{committed} was told already");
            assert!(place(committed) <= self.log.len() && committed <= self.sound_end());
            self.committed = self.committed.max(committed);
        }
        for read in ready.reads {
            assert!(self.reads.remove(&read.token), "read {} is answered twice, or was never asked", read.token);
        }
        for message in ready.messages {
            self.leave(&message);
        }
        if !ready.after_durable.is_empty() {
            self.waiting.push_back((ready.number, ready.after_durable));
        }
        for order in ready.replicate {
            self.replicate(order);
        }
        self.release();
    }

    fn append(&mut self, append: LogAppend) -> (usize, Vec<Term>) {
        let LogAppend { after, last, truncate, invented } = append;
        assert!(after.index >= self.committed, "{} is cut, {} is committed", after.index.next(), self.committed);
        assert_eq!(truncate, self.log.len() > place(after.index));
        self.log.truncate(place(after.index));
        self.disk.hole = self.disk.hole.filter(|hole| *hole <= after.index);
        assert_eq!(self.log.len(), place(after.index), "a hole in the log");
        assert_eq!(self.log.last().copied().unwrap_or_default(), after.term);
        let terms = if invented.is_some() { vec![self.raft.term()] } else { std::mem::take(&mut self.incoming) };
        assert_eq!(terms.len(), place(last) - place(after.index), "not the records that the input brought");
        self.log.extend_from_slice(&terms);
        (place(after.index), terms)
    }

    fn replicate(&mut self, order: Replicate) {
        let Replicate { to, after, last, commit, base, max_bytes, at_least_one } = order;
        assert!(base == self.raft.base().index && base <= after.index, "{after} was purged");
        assert!(self.raft.role() == Role::Leader && to != ID && self.is_member(to), "an order to send to {to}");
        assert!(after.index <= last && place(last) <= self.log.len() && commit <= self.raft.committed());
        assert_eq!(self.raft.term_at(after.index), Some(after.term));
        let room = (max_bytes / RECORD_BYTES).max(u64::from(at_least_one));
        let count = room.min(last.get() - after.index.get());
        let now = self.now;
        self.turn(|raft| raft.sent(now, to, after.index.plus(count), count * RECORD_BYTES));
    }

    fn is_member(&self, id: NodeId) -> bool {
        self.membership.voters.iter().chain(&self.membership.learners).any(|member| member.id == id)
    }

    /// Lets go what waits for nothing on the disk.
    fn release(&mut self) {
        let busy = self.writes.front().map(|write| write.number);
        while self.waiting.front().is_some_and(|(number, _)| busy.is_none_or(|busy| *number < busy)) {
            for message in self.waiting.pop_front().map(|(_number, messages)| messages).unwrap_or_default() {
                self.leave(&message);
            }
        }
    }

    /// A message leaves: it must be true of this disk now.
    fn leave(&mut self, message: &Message) {
        let &Message { from, to, term, ref body } = message;
        assert!(from == ID && to != ID && !to.is_zero(), "{message:?}");
        // Whoever asks is answered: it may have been added since. A node by itself speaks to members alone.
        let asks = matches!(body, Body::Vote { .. } | Body::PreVote { .. } | Body::Heartbeat { .. } | Body::HandOver);
        assert!(!asks || self.is_member(to), "{message:?}");
        assert!(term <= self.raft.term(), "{message:?}");
        let durable_end = Index(self.disk.log.len() as u64);
        match *body {
            Body::VoteAnswer { granted: true } => {
                let vote = self.disk.vote;
                let stands = vote.term > term || (vote.term == term && vote.voted_for == to);
                assert!(stands, "a vote for {to} in {term} leaves and {vote:?} is on disk");
                let whom = *self.votes.entry(term).or_insert(to);
                assert_eq!(whom, to, "two votes in term {term}");
            }
            Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable, verified } } => {
                assert!(durable <= verified && durable <= durable_end, "{message:?}, {durable_end} is durable");
                assert!(self.disk.vote.term >= term, "{message:?} before its term is durable");
            }
            Body::HeartbeatAnswer { durable, .. } => {
                assert!(durable <= durable_end, "{message:?}, {durable_end} is durable");
                assert!(durable.is_zero() || self.disk.vote.term >= term, "{message:?} before its term is durable");
            }
            Body::Vote { last, .. } | Body::PreVote { last, .. } => {
                assert!(last.index <= durable_end, "{message:?}, {durable_end} is durable");
            }
            _ => {}
        }
    }
}

fn core(membership: &Membership, disk: &Disk, now: Monotonic, starts: u64) -> Raft {
    let config = RaftConfig {
        id: ID,
        heartbeat: Duration::from_millis(50),
        election_timeout: Duration::from_millis(150),
        seed: 7 + starts,
        max_inflight_bytes: 10 * RECORD_BYTES,
        max_inflight_messages: 4,
    };
    let last = EntryId::new(Index(disk.log.len() as u64), disk.log.last().copied().unwrap_or_default());
    let restored = Restored {
        vote: disk.vote,
        base: EntryId::ZERO,
        runs: runs_of(Index(1), &disk.log),
        last,
        applied: Index::ZERO,
        committed: disk.committed,
        memberships: vec![(Index::ZERO, membership.clone())],
        hole: disk.hole,
        unknown: Vec::new(),
        in_doubt: disk.in_doubt,
    };
    Raft::new(config, restored, now)
}
