//! What a task finds in front of it: the time, its luck, and where it writes down what it was told.

use bytes::Bytes;
use dledger::kv::view::KvView;
use dledger::types::Index;
use histories::{Answer, Call, Operation, counters, lists};

use super::locks::Resource;
use crate::checkers::one_view::Shown;
use crate::checkers::{Property, Verdict};
use crate::random::Random;

/// What all tasks have written down.
#[derive(Debug, Default)]
pub(in crate::world) struct Records {
    pub(super) registers: Vec<Operation>,
    pub(super) lists: Vec<lists::Operation>,
    pub(super) counters: Vec<counters::Operation>,
    /// What scans showed, since the world last looked.
    pub(super) scans: Vec<Shown>,
    /// Fencing tokens with their holders and locks, since the world last looked.
    pub(super) tokens: Vec<(Index, Bytes, Bytes)>,
    pub(super) resource: Resource,
    pub(super) marks: Vec<&'static str>,
    pub(super) wrong: Vec<(Property, String)>,
}

/// The desk.
pub(in crate::world) struct Desk<'a> {
    pub(super) now: u64,
    pub(super) random: &'a mut Random,
    pub(super) records: &'a mut Records,
}

impl<'a> Desk<'a> {
    pub(super) fn new(now: u64, random: &'a mut Random, records: &'a mut Records) -> Self {
        Self { now, random, records }
    }

    /// Something rare was met.
    pub(super) fn met(&mut self, mark: &'static str) {
        self.records.marks.push(mark);
    }

    /// Something must hold.
    pub(super) fn judge(&mut self, property: Property, verdict: Verdict) {
        self.records.wrong.extend(verdict.err().map(|what| (property, what)));
    }

    /// An operation on a register has ended; `None` when nobody knows how.
    pub(super) fn register(&mut self, asked: Asked, answer: Option<Answer>) {
        let Asked { client, key, call, invoked } = asked;
        let answered = answer.map(|answer| (self.now, answer));
        self.records.registers.push(Operation { client, key, call, invoked, answered });
    }
}

/// An operation on a register under way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) client: u64,
    pub(super) key: Vec<u8>,
    pub(super) call: Call,
    pub(super) invoked: u64,
}

/// The value of a key in a view; memory does not fail.
pub(super) fn value(view: &KvView, key: &[u8]) -> Option<Vec<u8>> {
    view.get(key).ok().flatten().map(|item| item.value.to_vec())
}
