//! Carries out what the core asks for in a Ready, and feeds the machine.

use bytes::Bytes;

use crate::commitlog::WriteBatch;
use crate::commitlog::{Record, frame};
use crate::error::ReadError;
use crate::raft::message::{Body, Message};
use crate::raft::ready::{Invented, LogAppend, Ready, Replicate};
use crate::raft::{AppendStep, Appended};
use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::state_machine::{Entry, StateMachine};
use crate::transport::{Channel, PeerBody, PeerFrame};
use crate::types::{EntryId, Index, Kind, Monotonic, NodeId, ReadyNumber, Role};

use super::apply::{ApplyOrder, ApplyReport};
use super::effects::{DiskTask, Outbound};
use super::incoming;
use super::replica::{Replica, Staged};
use super::tail::Run;

impl<M: StateMachine> Replica<M> {
    /// A frame of a peer arrived.
    pub(crate) fn receive(&mut self, now: Monotonic, from: NodeId, frame: PeerFrame) {
        match frame.body {
            PeerBody::Raft(message) if message.from != from || message.to != self.id => {
                let reason = format!("a message from node {} to node {} came over it", message.from, message.to);
                self.effects.disconnect.push((from, reason));
            }
            PeerBody::Raft(Message { term, body: Body::Append { prev, commit, base }, .. }) => {
                let attached = match self.plants.has(Plant::RecordsBelieved) {
                    true => incoming::believed(frame.attached),
                    false => frame.attached,
                };
                match incoming::verify(prev, (commit, base), attached, self.max_record_bytes) {
                    Ok(records) => self.step_append(now, from, term, &records),
                    Err(reason) => {
                        reach(Mark::IncomingBad);
                        self.effects.disconnect.push((from, reason));
                    }
                }
            }
            PeerBody::Raft(message) => {
                self.raft.step(now, message);
                self.drain(now);
            }
            PeerBody::Formation(message) => self.formation(from, &message),
            PeerBody::Forward { number, wait_ms, proposals } => {
                self.take_forward(now, from, number, wait_ms, &proposals, &frame.attached);
            }
            PeerBody::ForwardAnswer { number, result, .. } => {
                self.take_forward_answer(from, number, result, &frame.attached);
            }
            PeerBody::Repair(request) => self.serve_repair(from, &request),
            PeerBody::RepairAnswer { number, result } => {
                self.take_repair_answer(now, from, number, result, frame.attached);
            }
            PeerBody::Snapshot(request) => self.serve_snapshot(now, from, request),
            PeerBody::SnapshotAnswer { number, result } => {
                self.take_snapshot_answer(from, number, result, &frame.attached);
            }
        }
    }

    fn step_append(&mut self, now: Monotonic, from: NodeId, term: crate::types::Term, records: &incoming::Incoming) {
        let prev = records.appended.prev;
        if let (Some(position), Some(end)) = (records.position, self.end_of(prev.index))
            && self.raft.term_at(prev.index) == Some(prev.term)
            && position != end
        {
            let reason = format!("its record {} stands at {position} and not at {end}", prev.index.next());
            self.effects.disconnect.push((from, reason));
            return;
        }
        let has_new = records.appended.last > self.raft.last().index;
        if has_new && self.log.space() == crate::commitlog::Space::Exhausted {
            return;
        }
        let appended = Appended { refutes: self.refuted_by(records), ..records.appended.clone() };
        if let AppendStep::Accepted { new_from: Some(first) } = self.raft.step_append(now, from, term, appended) {
            let (starts, bytes) = records.from(first);
            self.staged = Some(Staged { first, starts, bytes });
            self.end = records.end;
            self.clock.follow(records.last_time);
        }
        self.drain(now);
    }

    /// Where the record after `index` starts, when this log holds `index`.
    fn end_of(&self, index: Index) -> Option<crate::types::Position> {
        if index == self.raft.last().index {
            return Some(self.end);
        }
        match self.tail.get(index.next()) {
            Some(bytes) => Record::decode(&bytes, self.max_record_bytes).ok().map(|next| next.header().position),
            None => self.log.end_of(index),
        }
    }

    /// Carries out every Ready there is.
    pub(crate) fn drain(&mut self, now: Monotonic) {
        while let Some(ready) = self.raft.ready() {
            self.perform(now, ready);
        }
        debug_assert!(self.staged.is_none(), "staged records were not named by a Ready");
    }

    fn perform(&mut self, now: Monotonic, ready: Ready) {
        if let Some(change) = ready.role {
            if change.role == Role::Leader {
                self.clock.take_office(now);
            }
            if let Some(leader) = change.leader {
                self.reads.leader_changed();
                self.forwards.replaced_by(leader, &mut self.effects.answers);
            }
            self.effects.roles.push(change);
        }
        let records = match &ready.append {
            Some(append) => self.append(now, append),
            None => Bytes::new(),
        };
        if ready.vote.is_some() || ready.append.is_some() {
            let truncate_after = ready.append.as_ref().and_then(|append| append.truncate.then_some(append.after));
            let records = if records.is_empty() { Vec::new() } else { vec![records] };
            let vote = ready.vote.filter(|_vote| !self.plants.has(Plant::VoteNotPersisted));
            let batch = WriteBatch { vote, truncate_after, records, ..WriteBatch::default() };
            self.order_write(ready.number, batch);
            if let Some(after) = truncate_after {
                self.repair.cut(ready.number, after.index);
            }
        }
        for message in ready.messages {
            let outbound = self.carry(message);
            self.effects.send.push(outbound);
        }
        for order in ready.replicate {
            self.replicate(now, &order);
        }
        for message in ready.after_durable {
            let outbound = self.carry(message);
            self.held.push_back((self.disk_asked, outbound));
        }
        self.release_held();
        if let Some(lack) = ready.lacks {
            self.install.lacks(lack);
        }
        if let Some(end) = ready.transfer {
            self.transfer_ended(end);
        }
        for read in ready.reads {
            let applied_by = |index| if self.plants.has(Plant::ReadBeforeApplied) { Index::ZERO } else { index };
            self.reads.answered(now, read.token, read.index.map(applied_by));
        }
    }

    /// Hands a batch to the disk.
    pub(crate) fn order_write(&mut self, number: ReadyNumber, batch: WriteBatch) {
        self.effects.disk.push(DiskTask { number, batch: WriteBatch { committed: self.vouched(), ..batch } });
        self.disk_asked = number;
    }

    /// The committed index as far as this disk has it. Only that may be remembered on disk: above `durable` the disk
    /// may still hold entries that are about to be cut, and after a crash those would be taken for committed.
    fn vouched(&self) -> Index {
        self.raft.committed().min(self.raft.written())
    }

    /// Takes the records that the Ready names into the tail; gives their bytes for the disk.
    fn append(&mut self, now: Monotonic, append: &LogAppend) -> Bytes {
        if append.truncate {
            self.tail.truncate_after(append.after.index);
            let mut settled = Vec::new();
            self.pending.truncated(append.after.index, &mut settled);
            self.settle(settled);
        }
        match &append.invented {
            Some(Invented::NoOp) => self.stage_one(now, append.last, Kind::NoOp, &[]),
            Some(Invented::Membership(membership)) => {
                self.stage_one(now, append.last, Kind::Membership, &membership.encode());
            }
            None => {}
        }
        let Some(Staged { first, starts, bytes }) = self.staged.take() else {
            debug_assert!(false, "a Ready names records that nobody staged");
            return Bytes::new();
        };
        debug_assert_eq!(
            (first, starts.len() as u64),
            (append.after.index.next(), append.last.get() + 1 - first.get())
        );
        self.tail.push(first, starts, bytes.clone());
        bytes
    }

    /// Frames one entry that no caller proposed.
    pub(crate) fn stage_one(&mut self, now: Monotonic, index: Index, kind: Kind, payload: &[u8]) {
        let mut bytes = Vec::new();
        let id = EntryId::new(index, self.raft.term());
        frame(&mut bytes, id, self.end, self.clock.stamp(now), kind, 0, payload);
        self.end = self.end.plus(bytes.len() as u64);
        self.staged = Some(Staged { first: index, starts: vec![0], bytes: bytes.into() });
    }

    fn carry(&self, message: Message) -> Outbound {
        let channel = match &message.body {
            Body::Append { .. } | Body::AppendAnswer { .. } => Channel::Bulk,
            Body::PreVote { .. }
            | Body::PreVoteAnswer { .. }
            | Body::Vote { .. }
            | Body::VoteAnswer { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatAnswer { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexAnswer { .. }
            | Body::HandOver
            | Body::PreVoteInDoubt { .. }
            | Body::VoteInDoubt => Channel::Control,
        };
        let to = message.to;
        let frame = PeerFrame { group: self.group, body: PeerBody::Raft(message), attached: Vec::new() };
        Outbound { to, channel, frame }
    }

    /// Sends records (or a probe without any) to a follower and tells the core what went.
    fn replicate(&mut self, now: Monotonic, order: &Replicate) {
        let first = order.after.index.next();
        let run =
            if order.last < first { Ok(Run::default()) } else { self.records(first, order.last, order.max_bytes) };
        let run = match run {
            Ok(run) => run,
            Err(error) => {
                self.note_damage(&error);
                tracing::debug!(node = %self.id, peer = %order.to, %error, "cannot read records for a follower");
                return self.raft.sent(now, order.to, order.after.index, 0);
            }
        };
        if !order.at_least_one && run.bytes > order.max_bytes {
            return self.raft.sent(now, order.to, order.after.index, 0);
        }
        let body = Body::Append { prev: order.after, commit: order.commit, base: order.base };
        let message = Message { from: self.id, to: order.to, term: self.raft.term(), body };
        let mut outbound = self.carry(message);
        outbound.frame.attached = run.pieces;
        self.effects.send.push(outbound);
        self.raft.sent(now, order.to, order.after.index.plus(run.count), run.bytes);
    }

    /// Records `first ..= last`, at least one and as many as fit: from the tail, else from the log.
    ///
    /// A log read never reaches into what the tail holds: after a truncation the disk may still show the records
    /// that were cut, and the tail already has those that replace them.
    ///
    /// Nor does it reach below the base: until the disk has started over behind a snapshot it shows the log as it was.
    pub(crate) fn records(&self, first: Index, last: Index, max_bytes: u64) -> Result<Run, ReadError> {
        let base = self.raft.base().index;
        if first <= base {
            return Err(ReadError::OutOfRange { asked: first, first: base.next(), last: self.raft.committed() });
        }
        if let Some(run) = self.tail.run(first, last, max_bytes) {
            return Ok(run);
        }
        let until = self.tail.first().map_or(last, |held| last.min(held.prev()));
        let pieces = self.log.read_from(first, max_bytes)?;
        Ok(Run::of(pieces, until.next().get().saturating_sub(first.get())))
    }

    /// The same as far as they go, from the log and then from the tail: an error behind a good record ends the answer.
    pub(crate) fn pieces(&self, first: Index, last: Index, max_bytes: u64) -> Result<Vec<Bytes>, ReadError> {
        let mut pieces = Vec::new();
        let (mut next, mut room) = (first, max_bytes);
        while next <= last && (room > 0 || pieces.is_empty()) {
            let run = match self.records(next, last, room) {
                Ok(run) => run,
                Err(error) if pieces.is_empty() => return Err(error),
                Err(_) => break,
            };
            if run.count == 0 {
                break;
            }
            next = next.plus(run.count);
            room = room.saturating_sub(run.bytes);
            pieces.extend(run.pieces);
        }
        Ok(pieces)
    }

    /// Lets go what waited for the disk.
    pub(crate) fn release_held(&mut self) {
        while self.held.front().is_some_and(|(number, _outbound)| *number <= self.disk_done) {
            if let Some((_number, outbound)) = self.held.pop_front() {
                self.effects.send.push(outbound);
            }
        }
    }

    /// Applies one quantum and tells those who waited for it.
    pub(crate) fn apply(&mut self, now: Monotonic) {
        if self.raft.is_detached() {
            return;
        }
        let committed = self.raft.applicable();
        // What is written to another disk than the log's must not be ahead of that: after a crash the log is the truth.
        let feed = if self.applier.on_disk() { committed.min(self.raft.written()) } else { committed };
        let before = self.applier.applied().index;
        let mut settled = Vec::new();
        let (tail, log, pending, max) = (&self.tail, &self.log, &mut self.pending, self.max_record_bytes);
        self.effects.more = self.applier.run(
            feed,
            |index| fetch(tail, log, index, max),
            |id, answer| pending.applied(id, answer, &mut settled),
        );
        self.settle(settled);
        if let Some(index) = self.applier.damaged() {
            self.examine(index);
        }
        self.has_applied(now, before);
    }

    /// The apply thread is done with a quantum; the machine is back.
    pub(crate) fn machine_back(&mut self, now: Monotonic, report: ApplyReport<M>) {
        let before = self.applier.applied().index;
        let mut settled = Vec::new();
        let pending = &mut self.pending;
        self.applier.back(report, |id, answer| pending.applied(id, answer, &mut settled));
        self.settle(settled);
        self.has_applied(now, before);
    }

    /// The machine and entries for the apply thread, when there is work for it.
    pub(crate) fn take_apply_order(&mut self) -> Option<ApplyOrder<M>> {
        self.applier.take_order()
    }

    /// Tells the core, and those who waited for what is applied now, where up to `before` was.
    fn has_applied(&mut self, now: Monotonic, before: Index) {
        let applied = self.applier.applied().index;
        if applied > before {
            self.raft.applied(applied);
            self.drain(now);
        }
        // The answer to a forwarded write may come after its entry was applied here.
        self.forwards.applied(applied, &mut self.effects.answers);
        self.reads.applied(applied, &mut self.effects.answers);
    }
}

/// The entry at `index`, from memory or else from the log, its checksums verified either way.
fn fetch(
    tail: &super::tail::Tail,
    log: &crate::commitlog::LogReader,
    index: Index,
    max_record_bytes: u32,
) -> Result<Entry, ReadError> {
    let record = match tail.get(index) {
        Some(bytes) => Record::decode(&bytes, max_record_bytes).map_err(|error| {
            ReadError::Unavailable(format!("the record at index {index} is damaged in memory: {error}"))
        })?,
        None => log.read(index)?,
    };
    Ok(record.to_entry())
}
