//! A second, plain reading of the commands: what the entries of a log come to, told from the design and not from the
//! machine. Ordered maps, no sharing, no turns, nothing incremental but the sum over the keys.
//!
//! ```text
//!   entry ─► Plain::take ─► answer    what the caller is told
//!                      ├──► changes   what a watcher of everything sees
//!                      └──► sum       the whole state as one number
//! ```
//! It takes every entry once, in order, whoever applies it first. What the state has beside the keys enters the sum as
//! the records that docs/format.md describes. Deliberately absent: what the machine does to be fast.

mod beside;
mod sessions;
mod txn;

use std::collections::BTreeMap;

use bytes::Bytes;
use dledger::error::Rejection;
use dledger::kv::answer::Answer;
use dledger::kv::command::Command;
use dledger::types::{Index, Kind, LeaseId, LogTime, SessionId};

use crate::machine::{Content, item_digest, record_digest};

use beside::Lease;
use sessions::{Numbered, Session};

/// Keys and empty leases that one entry ends.
const MAX_ENDED: usize = 1024;
/// Sessions that one entry ends.
const MAX_ENDED_SESSIONS: usize = 256;

/// A key that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) value: Bytes,
    pub(crate) create: u64,
    pub(crate) modified: u64,
    version: u64,
    /// Its part of the sum.
    part: u64,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Bytes,
    /// Its value and lease; `None` when it was deleted.
    pub(crate) now: Option<(Bytes, LeaseId)>,
    /// What it was.
    pub(crate) before: Option<Bytes>,
}

/// What an entry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) time: LogTime,
    /// The bytes that its caller is told.
    pub(crate) answer: Bytes,
    /// In the order in which it did them.
    pub(crate) changes: Vec<Change>,
    /// Leases that have ended and are forgotten with this entry.
    pub(crate) ended: Vec<LeaseId>,
}

/// The state.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    items: BTreeMap<Bytes, Item>,
    leases: BTreeMap<LeaseId, Lease>,
    bound: BTreeMap<Bytes, LeaseId>,
    sessions: BTreeMap<SessionId, Session>,
    sum: u64,
    index: Index,
    effect: Effect,
}

impl Plain {
    /// What the next entry does.
    pub(crate) fn take(&mut self, index: Index, content: &Content) -> Effect {
        self.index = index;
        self.effect = Effect { time: content.time, ..Effect::default() };
        match (content.kind, Command::decode(&content.payload)) {
            (Kind::Data, Ok(command)) => self.effect.answer = self.command(command),
            (Kind::NoOp, _) => self.end_due(),
            // What cannot be read stops the machine, and a membership is none of its business.
            (Kind::Data | Kind::Membership, _) => {}
        }
        std::mem::take(&mut self.effect)
    }

    /// All of the state as one number.
    pub(crate) fn sum(&self) -> u64 {
        self.records().iter().fold(self.sum, |sum, record| sum.wrapping_add(record_digest(record)))
    }

    /// A lease that is not forgotten yet.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    fn now(&self) -> LogTime {
        self.effect.time
    }

    fn command(&mut self, command: Command<'_>) -> Bytes {
        let Command::Numbered { session, number, first_unanswered, command } = command else {
            return self.plain(command).encode();
        };
        let Ok(inner) = Command::decode(command) else { return Bytes::new() };
        match self.number(session, number, first_unanswered) {
            Numbered::Rejected(rejection) => Answer::Rejected(rejection).encode(),
            Numbered::Done(revision, answer) => first(revision, &answer),
            Numbered::New => {
                let answer = self.plain(inner).encode();
                self.keep(session, number, &answer);
                first(self.index.get(), &answer)
            }
        }
    }

    fn plain(&mut self, command: Command<'_>) -> Answer {
        match command {
            Command::Put { lease, .. } if !self.takes(lease) => Answer::Rejected(Rejection::NoLease(lease)),
            Command::Put { key, value, lease } => {
                self.put(key, value, lease);
                Answer::Done
            }
            Command::Delete { key } => Answer::Deleted(u64::from(self.remove(key))),
            Command::DeleteRange { from, to } => {
                let leaving = |key: &&Bytes| key.as_ref() >= from && to.is_none_or(|to| key.as_ref() < to);
                let keys: Vec<Bytes> = self.items.keys().filter(leaving).cloned().collect();
                Answer::Deleted(self.remove_all(&keys))
            }
            Command::Txn(txn) => self.transact(&txn),
            Command::GrantLease { ttl_ms } => {
                self.grant(LeaseId(self.index.get()), ttl_ms);
                Answer::Done
            }
            Command::KeepAlive { leases } => {
                Answer::KeptAlive(leases.into_iter().map(|lease| self.keep_alive(lease)).collect())
            }
            Command::RevokeLease { lease } => self.revoke(lease),
            Command::OpenSession { ttl_ms } => {
                self.open(SessionId(self.index.get()), ttl_ms);
                Answer::Done
            }
            Command::CloseSession { session } => {
                self.sessions.remove(&session);
                Answer::Done
            }
            Command::Numbered { .. } => Answer::Rejected(Rejection::Malformed("a number in a number".to_owned())),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        let index = self.index.get();
        let old = self.take_item(&key);
        let (create, version) = old.as_ref().map_or((index, 1), |old| (old.create, old.version + 1));
        let part = item_digest(&key, &value, [create, index, version]);
        self.sum = self.sum.wrapping_add(part);
        self.items.insert(key.clone(), Item { value: value.clone(), create, modified: index, version, part });
        self.bind(&key, lease);
        self.effect.changes.push(Change { key, now: Some((value, lease)), before: old.map(|old| old.value) });
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(old) = self.take_item(key) else { return false };
        let key = Bytes::copy_from_slice(key);
        self.bind(&key, LeaseId::ZERO);
        self.effect.changes.push(Change { key, now: None, before: Some(old.value) });
        true
    }

    fn take_item(&mut self, key: &[u8]) -> Option<Item> {
        let old = self.items.remove(key)?;
        self.sum = self.sum.wrapping_sub(old.part);
        Some(old)
    }

    fn remove_all(&mut self, keys: &[Bytes]) -> u64 {
        keys.iter().filter(|key| self.remove(key)).count() as u64
    }
}

/// The bytes of a first answer (docs/format.md).
fn first(revision: u64, answer: &[u8]) -> Bytes {
    [&[5, 1][..], &revision.to_le_bytes(), answer].concat().into()
}

/// The bytes of a record beside the keys: tag, version, and what follows.
fn record(tag: u8, body: &[&[u8]]) -> Vec<u8> {
    [&[tag, 1][..], &body.concat()].concat()
}

/// A number as records have it.
fn number(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[cfg(test)]
mod tests;
