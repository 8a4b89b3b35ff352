//! Leases: granted, given keys, kept alive for a while, then revoked or left to die. Whoever holds one asks again and
//! again whether its keys are there.
//!
//! What a holder may rely on: from when it *asked* for what was granted, the time to live by the fastest clock of the run.

use bytes::Bytes;
use dledger::error::Rejection;
use dledger::kv::answer::Answer;
use dledger::kv::command::Command;
use dledger::kv::{Txn, TxnOp};
use dledger::types::LeaseId;

use super::{Desk, Step, Task, Told};
use crate::checkers::lease_lives;

/// Keys of one transaction, and how many transactions bind those of a large lease: more keys than one entry ends.
const LARGE: u64 = 600;
const LARGE_TIMES: u64 = 2;

/// How far a lease has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Grant,
    /// Keys are bound to it, so many times more.
    Bind(u64),
    /// It is kept alive and looked at, so many times more.
    Keep(u64),
    Revoke,
    /// Nobody keeps it alive any more, and its keys must go.
    Die,
}

/// A lease that was granted, from the point of view of its holder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) lease: LeaseId,
    pub(super) ttl_ms: u64,
    /// When the last thing that moved its deadline on was asked for.
    pub(super) renewed: u64,
}

impl Held {
    /// Whether it certainly lives.
    pub(super) fn certainly_lives(&self, now: u64) -> bool {
        lease_lives::certainly(self.renewed, self.ttl_ms, now)
    }
}

/// A holder of leases, one after the other.
#[derive(Debug)]
pub(super) struct Holder {
    number: u64,
    lives: u64,
    stage: Stage,
    held: Held,
    /// When the step under way was asked for, and whether it is a keep-alive.
    asked: u64,
    keeps: bool,
    large: bool,
}

impl Holder {
    pub(super) fn new(number: u64) -> Self {
        let held = Held { lease: LeaseId::ZERO, ttl_ms: 0, renewed: 0 };
        Self { number, lives: 0, stage: Stage::Grant, held, asked: 0, keeps: false, large: false }
    }

    fn key(&self, number: u64) -> Bytes {
        format!("lease/{}-{}/{number:04}", self.number, self.lives).into()
    }

    fn bind(&self, part: u64) -> Bytes {
        if !self.large {
            // The last key is bound first, and freed last.
            let (number, lease) = if part == 1 { (3, LeaseId::ZERO) } else { (part, self.held.lease) };
            return Command::Put { key: &self.key(number), value: b"held", lease }.encode();
        }
        let numbers = (part - 1) * LARGE..part * LARGE;
        let then = numbers.map(|number| TxnOp::put_leased(self.key(number), "held", self.held.lease)).collect();
        Command::Txn(Txn { then, ..Txn::default() }).encode()
    }

    /// A key that was bound first, and is there as long as the lease lives.
    fn first_key(&self) -> Bytes {
        self.key(if self.large { (LARGE_TIMES - 1) * LARGE } else { 2 })
    }

    fn over(&mut self) {
        self.stage = Stage::Grant;
    }

    fn ended(&mut self, desk: &mut Desk<'_>, what: &str) {
        let verdict = lease_lives::ended(self.held.lease, self.held.certainly_lives(desk.now), what);
        desk.judge(lease_lives::PROPERTY, verdict);
        desk.met("seen: lease ended under its holder");
        self.over();
    }

    fn viewed(&mut self, there: bool, freed: bool, desk: &mut Desk<'_>) {
        if !self.large && !freed && matches!(self.stage, Stage::Keep(_) | Stage::Die) {
            desk.judge(lease_lives::PROPERTY, lease_lives::freed(self.held.lease));
        }
        match self.stage {
            Stage::Die if !there => {
                desk.met("seen: keys went with their lease");
                self.over();
            }
            Stage::Die => {}
            Stage::Keep(_) if !there => self.ended(desk, "its key is gone"),
            Stage::Keep(left) => self.stage = if left == 0 { Stage::Die } else { Stage::Keep(left - 1) },
            Stage::Grant | Stage::Bind(_) | Stage::Revoke => {}
        }
    }

    fn done(&mut self, lease: LeaseId, answer: &Answer, desk: &mut Desk<'_>) {
        let renewed = self.asked;
        match (self.stage, answer) {
            (Stage::Grant, Answer::Done) => {
                desk.met("seen: lease granted");
                self.held = Held { lease, renewed, ..self.held };
                self.stage = Stage::Bind(if self.large { LARGE_TIMES } else { 3 });
            }
            (_, Answer::Rejected(Rejection::NoLease(_))) => self.ended(desk, "it is unknown"),
            (Stage::Bind(part), _) => {
                self.stage = if part > 1 { Stage::Bind(part - 1) } else { Stage::Keep(desk.random.within(0..8)) };
            }
            (Stage::Keep(_), Answer::KeptAlive(kept)) if kept.first() == Some(&None) => {
                self.ended(desk, "it has ended")
            }
            (Stage::Keep(left), Answer::KeptAlive(_)) => {
                desk.met("seen: lease kept alive");
                self.held.renewed = renewed;
                if left == 0 {
                    self.stage = if desk.random.chance(300) { Stage::Revoke } else { Stage::Die };
                }
            }
            (Stage::Revoke, _) => {
                desk.met("seen: lease revoked");
                self.stage = Stage::Die;
            }
            _ => self.over(),
        }
    }
}

impl Task for Holder {
    fn next(&mut self, desk: &mut Desk<'_>) -> Step {
        self.asked = desk.now;
        match self.stage {
            Stage::Grant => {
                self.lives += 1;
                self.large = desk.random.chance(30);
                self.held.ttl_ms = desk.random.within(100..900);
                Step::Write(Command::GrantLease { ttl_ms: self.held.ttl_ms }.encode())
            }
            Stage::Bind(part) => Step::Write(self.bind(part)),
            Stage::Keep(_) | Stage::Die if !self.keeps && desk.random.chance(700) => {
                // Now and then it asks for nothing for longer than the lease lives.
                self.keeps = true;
                Step::Wait(desk.random.around(self.held.ttl_ms * 250).max(1_000))
            }
            Stage::Keep(_) if desk.random.chance(600) => {
                self.keeps = false;
                Step::Write(Command::KeepAlive { leases: vec![self.held.lease] }.encode())
            }
            Stage::Keep(_) | Stage::Die => {
                self.keeps = false;
                Step::Read
            }
            Stage::Revoke => Step::Write(Command::RevokeLease { lease: self.held.lease }.encode()),
        }
    }

    fn told(&mut self, told: Told, desk: &mut Desk<'_>) {
        match told {
            Told::View(view) => {
                let there = |key: Bytes| view.get(&key).ok().flatten().is_some();
                self.viewed(there(self.first_key()), there(self.key(3)), desk);
            }
            Told::Done(revision, answer) => self.done(LeaseId(revision.get()), &answer, desk),
            // A lease of unknown id is nobody's, and keys that may not be bound are no sign of anything.
            Told::Unknown if matches!(self.stage, Stage::Grant | Stage::Bind(_)) => self.over(),
            Told::Unknown if self.stage == Stage::Revoke => self.stage = Stage::Die,
            Told::Unknown | Told::Never => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.stage == Stage::Grant
    }
}
