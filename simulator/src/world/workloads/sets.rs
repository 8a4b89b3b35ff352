//! A set: members are keys under a prefix, added, removed, moved one into the place of another, and read all at once.
//!
//! In the history each member is a register. That a reading is one view is compared with the log (checkers/one_view.rs).

use dledger::kv::command::Command;
use dledger::kv::view::KvView;
use dledger::kv::{Compare, Condition, Scan, Txn, TxnOp};
use histories::{Answer, Call};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::desk::Asked;
use super::registers::{CLIENTS, answer, command};
use super::{Desk, Step, Task, Told};
use crate::checkers::one_view::Shown;

/// The prefix of all members.
const PREFIX: &[u8] = b"set/";
/// How many members there may be.
const MEMBERS: u64 = 6;

#[derive(Debug)]
enum Doing {
    /// One member is added or removed.
    One(Asked),
    /// One goes and another comes, if the first is there as it was seen.
    Move(Asked, Asked),
    /// All are read.
    Scan(u64),
}

/// A client of the set.
#[derive(Debug)]
pub(super) struct Sets {
    client: u64,
    values: u64,
    seen: BTreeMap<Vec<u8>, Vec<u8>>,
    doing: Option<Doing>,
}

impl Sets {
    pub(super) fn new(number: u64) -> Self {
        Self { client: CLIENTS + number, values: 0, seen: BTreeMap::new(), doing: None }
    }

    fn value(&mut self) -> Vec<u8> {
        self.values += 1;
        format!("s{}-{}", self.client, self.values).into_bytes()
    }

    fn asked(&self, key: Vec<u8>, call: Call, desk: &Desk<'_>) -> Asked {
        Asked { client: self.client, key, call, invoked: desk.now }
    }

    fn one(&mut self, key: Vec<u8>, desk: &mut Desk<'_>) -> Asked {
        let call = match desk.random.within(0..3) {
            0 => Call::Put(self.value()),
            1 => Call::CompareAndSet { expected: None, value: Some(self.value()) },
            _ => Call::Delete,
        };
        self.asked(key, call, desk)
    }

    fn moved(&mut self, from: Vec<u8>, to: Vec<u8>, desk: &Desk<'_>) -> Option<(Step, Doing)> {
        let there = self.seen.get(&from).filter(|_there| from != to)?.clone();
        let value = self.value();
        let txn = Txn {
            compare: vec![Compare::new(from.clone(), Condition::value_is(there.clone()))],
            then: vec![TxnOp::delete(from.clone()), TxnOp::put(to.clone(), value.clone())],
            otherwise: vec![TxnOp::get(from.clone())],
        };
        let goes = self.asked(from, Call::CompareAndSet { expected: Some(there), value: None }, desk);
        let comes = self.asked(to, Call::Put(value), desk);
        Some((Step::Write(Command::Txn(txn).encode()), Doing::Move(goes, comes)))
    }

    fn scanned(&mut self, view: &Arc<KvView>, invoked: u64, desk: &mut Desk<'_>) {
        // Memory does not fail.
        let Ok(page) = view.scan(&Scan::prefix(PREFIX.to_vec())) else { return };
        desk.met("seen: set read");
        let items: Vec<_> = page.items.iter().map(|item| (item.key.clone(), item.value.clone())).collect();
        self.seen = items.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        for number in 0..MEMBERS {
            let key = member(number);
            let value = self.seen.get(&key).cloned();
            desk.register(Asked { client: self.client, key, call: Call::Get, invoked }, Some(Answer::Value(value)));
        }
        desk.records.scans.push(Shown { prefix: PREFIX, at: view.applied(), items });
    }
}

fn member(number: u64) -> Vec<u8> {
    [PREFIX, format!("{number}").as_bytes()].concat()
}

impl Task for Sets {
    fn next(&mut self, desk: &mut Desk<'_>) -> Step {
        let [one, other] = [(); 2].map(|()| member(desk.random.within(0..MEMBERS)));
        let kind = desk.random.within(0..100);
        if kind >= 70
            && let Some((step, doing)) = self.moved(one.clone(), other, desk)
        {
            self.doing = Some(doing);
            return step;
        }
        if kind < 35 {
            self.doing = Some(Doing::Scan(desk.now));
            return Step::Read;
        }
        let asked = self.one(one, desk);
        let step = command(&asked.key, &asked.call).map_or(Step::Read, Step::Write);
        self.doing = Some(Doing::One(asked));
        step
    }

    fn told(&mut self, told: Told, desk: &mut Desk<'_>) {
        match (self.doing.take(), told) {
            (Some(Doing::Scan(invoked)), Told::View(view)) => self.scanned(&view, invoked, desk),
            (Some(Doing::One(asked)), Told::Done(_revision, it)) => {
                let answer = answer(&asked.call, &it);
                desk.register(asked, answer);
            }
            (Some(Doing::Move(goes, comes)), Told::Done(_revision, it)) => match answer(&goes.call, &it) {
                Some(Answer::Swapped(true)) => {
                    desk.register(goes, Some(Answer::Swapped(true)));
                    desk.register(comes, Some(Answer::Done));
                }
                answer => desk.register(goes, answer),
            },
            (Some(Doing::One(asked)), Told::Unknown) => desk.register(asked, None),
            (Some(Doing::Move(goes, comes)), Told::Unknown) => {
                desk.register(goes, None);
                desk.register(comes, None);
            }
            _ => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.doing.is_none()
    }
}
