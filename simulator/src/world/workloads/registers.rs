//! Registers: keys that are read, set, deleted, and set on condition of what they were.

use std::collections::BTreeMap;

use dledger::kv::Txn;
use dledger::kv::answer::Answer as FromMachine;
use dledger::kv::command::Command;
use dledger::kv::{Compare, Condition, TxnOp};
use histories::{Answer, Call};

use super::desk::{Asked, value};
use super::{Desk, Step, Task, Told};

/// How many registers there are.
const REGISTERS: u64 = 3;

/// A client of registers.
#[derive(Debug)]
pub(super) struct Registers {
    client: u64,
    values: u64,
    /// What it saw last in each.
    seen: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    asked: Option<Asked>,
}

impl Registers {
    pub(super) fn new(number: u64) -> Self {
        Self { client: CLIENTS + number, values: 0, seen: BTreeMap::new(), asked: None }
    }

    fn new_value(&mut self) -> Vec<u8> {
        self.values += 1;
        format!("w{}-{}", self.client, self.values).into_bytes()
    }

    fn call(&mut self, key: &[u8], desk: &mut Desk<'_>) -> Call {
        match desk.random.within(0..100) {
            0..35 => Call::Get,
            35..55 => Call::Put(self.new_value()),
            55..62 => Call::Delete,
            kind => {
                let expected = self.seen.get(key).cloned().flatten();
                let value = (kind < 95).then(|| self.new_value());
                Call::CompareAndSet { expected, value }
            }
        }
    }
}

/// Clients of the workloads have numbers of their own in the history.
pub(super) const CLIENTS: u64 = 100;

/// The command that stands for a call; a read is none.
pub(super) fn command(key: &[u8], call: &Call) -> Option<bytes::Bytes> {
    let command = match call {
        Call::Get => return None,
        Call::Put(value) => Command::put(key, value),
        Call::Delete => Command::Delete { key },
        Call::CompareAndSet { expected, value } => {
            let condition = match expected {
                Some(expected) => Condition::value_is(expected.clone()),
                None => Condition::Exists(false),
            };
            let then = match value {
                Some(value) => TxnOp::put(key.to_vec(), value.clone()),
                None => TxnOp::delete(key.to_vec()),
            };
            let compare = vec![Compare::new(key.to_vec(), condition)];
            Command::Txn(Txn { compare, then: vec![then], otherwise: Vec::new() })
        }
    };
    Some(command.encode())
}

/// What the machine answered to a call, in the words of histories; nothing but what fits the call.
pub(super) fn answer(call: &Call, answer: &FromMachine) -> Option<Answer> {
    match (call, answer) {
        (Call::Put(_), FromMachine::Done) | (Call::Delete, FromMachine::Deleted(_)) => Some(Answer::Done),
        (Call::CompareAndSet { .. }, FromMachine::Txn { succeeded, .. }) => Some(Answer::Swapped(*succeeded)),
        _ => None,
    }
}

/// A transaction that either finds nothing to do or is forbidden by its second part: it does nothing at all.
fn doomed(key: &[u8], value: Vec<u8>) -> bytes::Bytes {
    let word = b"word".to_vec();
    let compare = vec![Compare::new(word.clone(), Condition::Exists(true))];
    let then = vec![TxnOp::put(key.to_vec(), value), TxnOp::add(word.clone(), 1)];
    Command::Txn(Txn { compare, then, otherwise: vec![TxnOp::put(word, "no number")] }).encode()
}

impl Task for Registers {
    fn next(&mut self, desk: &mut Desk<'_>) -> Step {
        if desk.random.chance(50) {
            let key = format!("reg/{}", desk.random.within(0..REGISTERS)).into_bytes();
            return Step::Write(doomed(&key, self.new_value()));
        }
        let key = format!("reg/{}", desk.random.within(0..REGISTERS)).into_bytes();
        let call = self.call(&key, desk);
        let step = command(&key, &call).map_or(Step::Read, Step::Write);
        self.asked = Some(Asked { client: self.client, key, call, invoked: desk.now });
        step
    }

    fn told(&mut self, told: Told, desk: &mut Desk<'_>) {
        let Some(asked) = self.asked.take() else { return };
        let answer = match told {
            Told::View(view) => {
                let value = value(&view, &asked.key);
                self.seen.insert(asked.key.clone(), value.clone());
                Some(Answer::Value(value))
            }
            Told::Done(_revision, it) => answer(&asked.call, &it),
            Told::Unknown => None,
            Told::Never => return,
        };
        if matches!(answer, Some(Answer::Swapped(_))) {
            desk.met("seen: compare-and-set answered");
        }
        desk.register(asked, answer);
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none()
    }
}
