//! Locks: a key under a lease, taken when it is absent. Whoever holds one writes to a resource outside of the cluster and
//! shows its fencing token, the revision that made the key. Some stand still past their lease, and write all the same.
//!
//! ```text
//!   holder 1  ── token 17 ──────── stands still ────────── writes with 17: refused
//!   holder 2                ── token 23 ── writes with 23: taken
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use dledger::kv::answer::Answer;
use dledger::kv::command::Command;
use dledger::kv::{Compare, Condition, OpResult, Txn, TxnOp};
use dledger::types::{Index, LeaseId};

use super::leases::Held;
use super::{Desk, Step, Task, Told};
use crate::checkers::fencing;

/// How many locks there are.
const LOCKS: u64 = 2;

/// What lies outside of the cluster, one part for each lock, and takes no token below the highest that it was shown.
#[derive(Debug, Default)]
pub(super) struct Resource {
    highest: BTreeMap<Bytes, (Index, Bytes)>,
    /// Tokens that holders were told, with the time.
    told: BTreeMap<Bytes, Vec<(u64, Index)>>,
}

impl Resource {
    /// Somebody writes. False when its token is too low: another holder was here.
    fn write(&mut self, lock: &Bytes, token: Index, holder: &Bytes) -> Result<bool, String> {
        let known = self.highest.get(lock);
        fencing::shown(known.map(|(token, holder)| (*token, &holder[..])), token, holder)?;
        if known.is_some_and(|(highest, _holder)| token < *highest) {
            return Ok(false);
        }
        self.highest.insert(lock.clone(), (token, holder.clone()));
        Ok(true)
    }

    /// Somebody who asked at `asked` is told a token.
    fn tell(&mut self, lock: &Bytes, asked: u64, now: u64, token: Index) -> Result<(), String> {
        let told = self.told.entry(lock.clone()).or_default();
        let before = told.iter().filter(|(at, _token)| *at < asked).map(|(_at, token)| *token).max();
        told.push((now, token));
        fencing::rises(before.unwrap_or_default(), token)
    }
}

/// How far a locker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Grant,
    Take,
    /// Nobody knows whether it was taken: look.
    Look,
    /// It holds the lock, as far as it knows.
    Hold(Index),
    /// It stands still, and then writes without a look at the time.
    Paused(Index),
    Release,
}

/// Takes locks.
#[derive(Debug)]
pub(super) struct Locker {
    number: u64,
    lives: u64,
    lock: Bytes,
    me: Bytes,
    held: Held,
    stage: Stage,
    asked: u64,
}

impl Locker {
    pub(super) fn new(number: u64) -> Self {
        let held = Held { lease: LeaseId::ZERO, ttl_ms: 0, renewed: 0 };
        Self { number, lives: 0, lock: Bytes::new(), me: Bytes::new(), held, stage: Stage::Grant, asked: 0 }
    }

    fn begin(&mut self, desk: &mut Desk<'_>) -> Step {
        self.lives += 1;
        self.lock = format!("lock/{}", desk.random.within(0..LOCKS)).into();
        self.me = format!("{}-{}", self.number, self.lives).into();
        self.held.ttl_ms = desk.random.within(150..900);
        Step::Write(Command::GrantLease { ttl_ms: self.held.ttl_ms }.encode())
    }

    fn take(&self) -> Step {
        let then =
            vec![TxnOp::put_leased(self.lock.clone(), self.me.clone(), self.held.lease), TxnOp::get(self.lock.clone())];
        let compare = vec![Compare::new(self.lock.clone(), Condition::Exists(false))];
        Step::Write(Command::Txn(Txn { compare, then, otherwise: Vec::new() }).encode())
    }

    fn release(&self) -> Step {
        let compare = vec![Compare::new(self.lock.clone(), Condition::value_is(self.me.clone()))];
        let then = vec![TxnOp::delete(self.lock.clone())];
        Step::Write(Command::Txn(Txn { compare, then, otherwise: Vec::new() }).encode())
    }

    fn took(&mut self, token: Index, desk: &mut Desk<'_>) {
        desk.met("seen: lock taken");
        let verdict = desk.records.resource.tell(&self.lock, self.asked, desk.now, token);
        desk.judge(fencing::PROPERTY, verdict);
        desk.records.tokens.push((token, self.me.clone(), self.lock.clone()));
        self.stage = Stage::Hold(token);
    }

    fn write(&mut self, token: Index, desk: &mut Desk<'_>) {
        match desk.records.resource.write(&self.lock, token, &self.me) {
            Ok(true) => desk.met("seen: resource written under a lock"),
            Ok(false) => desk.met("seen: write of a former holder fenced off"),
            Err(what) => desk.judge(fencing::PROPERTY, Err(what)),
        }
    }

    /// What it does while it holds the lock, by its own clock.
    fn hold(&mut self, token: Index, desk: &mut Desk<'_>) -> Step {
        if desk.now >= self.held.renewed + self.held.ttl_ms * 1000 {
            self.stage = Stage::Grant;
            return Step::Wait(1_000);
        }
        match desk.random.within(0..100) {
            0..40 => {
                self.write(token, desk);
                Step::Wait(desk.random.within(1_000..30_000))
            }
            40..70 => Step::Write(Command::KeepAlive { leases: vec![self.held.lease] }.encode()),
            70..85 => {
                self.stage = Stage::Paused(token);
                Step::Wait(desk.random.within(1..self.held.ttl_ms * 3) * 1000)
            }
            85..93 => {
                self.stage = Stage::Release;
                self.release()
            }
            // It is gone without a word.
            _ => {
                self.stage = Stage::Grant;
                Step::Wait(desk.random.within(1_000..200_000))
            }
        }
    }

    fn done(&mut self, revision: Index, answer: &Answer, desk: &mut Desk<'_>) {
        match (self.stage, answer) {
            (Stage::Grant, Answer::Done) => {
                self.held = Held { lease: LeaseId(revision.get()), renewed: self.asked, ..self.held };
                self.stage = Stage::Take;
            }
            (Stage::Take, Answer::Txn { succeeded: true, results }) => match results.get(1) {
                Some(OpResult::Value(Some(item))) => self.took(item.create_revision, desk),
                _ => self.stage = Stage::Look,
            },
            (Stage::Take, Answer::Txn { .. }) => desk.met("seen: lock held by another"),
            (Stage::Hold(_), Answer::KeptAlive(kept)) if kept.first().is_some_and(Option::is_some) => {
                self.held.renewed = self.asked;
            }
            // The lease has ended, or it gave the lock back.
            _ => self.stage = Stage::Grant,
        }
    }
}

impl Task for Locker {
    fn next(&mut self, desk: &mut Desk<'_>) -> Step {
        self.asked = desk.now;
        match self.stage {
            Stage::Grant => self.begin(desk),
            Stage::Take => self.take(),
            Stage::Look => Step::Read,
            Stage::Hold(token) => self.hold(token, desk),
            Stage::Paused(token) => {
                self.write(token, desk);
                self.stage = Stage::Hold(token);
                Step::Wait(1_000)
            }
            Stage::Release => self.release(),
        }
    }

    fn told(&mut self, told: Told, desk: &mut Desk<'_>) {
        match told {
            Told::View(view) => match view.get(&self.lock).ok().flatten() {
                Some(item) if item.value == self.me => self.took(item.create_revision, desk),
                _ => self.stage = Stage::Grant,
            },
            Told::Done(revision, answer) => self.done(revision, &answer, desk),
            Told::Unknown if self.stage == Stage::Take => self.stage = Stage::Look,
            Told::Unknown => self.stage = Stage::Grant,
            Told::Never => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.stage == Stage::Grant
    }

    /// Some try again at once to take what another has: they are there when its lease ends.
    fn hurries(&self) -> bool {
        self.stage == Stage::Take && self.lives.is_multiple_of(4)
    }
}
