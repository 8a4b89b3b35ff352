//! Where one turn's outputs gather until the caller takes them as a `Ready`.
//!
//! The caller takes the Ready after every input, so it holds at most one append. Should it not, the outbox seals
//! the Ready at hand before a second append or a second vote, and hands the two out one after the other.

use std::collections::VecDeque;

use crate::types::{EntryId, Index, Monotonic, NodeId, ReadyNumber, Vote};

use super::message::{Body, Message};
use super::ready::{Invented, Lack, LogAppend, ReadState, Ready, Replicate};
use super::transfer::TransferEnd;
use super::writes::Writes;

/// Outputs not yet taken.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    sealed: VecDeque<Ready>,
    open: Ready,
    last_number: ReadyNumber,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open == Ready::default()
    }

    /// The number of the newest Ready that was sealed.
    pub(super) const fn last_number(&self) -> ReadyNumber {
        self.last_number
    }

    pub(super) fn take(&mut self, writes: &mut Writes, now: Monotonic) -> Option<Ready> {
        self.seal(writes, now);
        self.sealed.pop_front()
    }

    /// A number behind all that were given and before all that will be.
    pub(super) const fn reserve(&mut self) -> ReadyNumber {
        self.last_number = ReadyNumber(self.last_number.0.saturating_add(1));
        self.last_number
    }

    /// Ends the Ready at hand, if there is anything in it; its writes are under way from now on.
    fn seal(&mut self, writes: &mut Writes, now: Monotonic) {
        if self.open == Ready::default() {
            return;
        }
        let mut ready = std::mem::take(&mut self.open);
        ready.number = self.reserve();
        let range = ready.append.as_ref().map(|append| (append.after.index.next(), append.last));
        if ready.vote.is_some() || range.is_some() {
            writes.push(ready.number, ready.vote, range, now);
        }
        self.sealed.push_back(ready);
    }

    /// Orders entries to be written, after sealing a Ready that already has some.
    pub(super) fn append(&mut self, append: LogAppend, writes: &mut Writes, now: Monotonic) {
        if self.open.append.is_some() {
            self.seal(writes, now);
        }
        self.open.append = Some(append);
    }

    /// Orders term and vote to be synced. A vote already in this Ready is superseded only by one that nothing in
    /// the Ready relies on, so a second one starts a new Ready.
    pub(super) fn vote(&mut self, vote: Vote, writes: &mut Writes, now: Monotonic) {
        if self.open.vote.is_some() && !self.open.after_durable.is_empty() {
            self.seal(writes, now);
        }
        self.open.vote = Some(vote);
    }

    pub(super) fn send(&mut self, message: Message) {
        self.open.messages.push(message);
    }

    pub(super) fn send_when_durable(&mut self, message: Message) {
        self.open.after_durable.push(message);
    }

    pub(super) fn replicate(&mut self, order: Replicate) {
        self.open.replicate.push(order);
    }

    pub(super) fn committed(&mut self, index: Index) {
        self.open.committed = Some(index);
    }

    pub(super) fn lacks(&mut self, lack: Lack) {
        self.open.lacks = Some(lack);
    }

    pub(super) fn read(&mut self, token: u64, index: Option<Index>) {
        self.open.reads.push(ReadState { token, index });
    }

    /// Tells the end of a transfer, in a Ready of its own should the one at hand tell of another.
    pub(super) fn transfer(&mut self, end: TransferEnd, writes: &mut Writes, now: Monotonic) {
        if self.open.transfer.is_some() {
            self.seal(writes, now);
        }
        self.open.transfer = Some(end);
    }

    pub(super) fn role(&mut self, change: crate::types::RoleChange) {
        self.open.role = Some(change);
    }
}

/// Builds the messages of one node in one term.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) from: NodeId,
    pub(super) term: crate::types::Term,
}

impl Sender {
    pub(super) const fn message(self, to: NodeId, body: Body) -> Message {
        Message { from: self.from, to, term: self.term, body }
    }
}

/// An entry that a leader appends by itself.
pub(super) const fn invented_after(after: EntryId, invented: Invented) -> LogAppend {
    LogAppend { after, last: after.index.next(), truncate: false, invented: Some(invented) }
}
