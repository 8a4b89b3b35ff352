//! Transactions: first what would stop them, then all they do.

use std::cmp::Ordering;

use bytes::Bytes;
use dledger::error::Rejection;
use dledger::kv::answer::Answer;
use dledger::kv::{Compare, Comparison, Condition, KeyValue, OpResult, Txn, TxnOp};
use dledger::types::Index;

use super::{Item, Plain};

impl Plain {
    pub(super) fn transact(&mut self, txn: &Txn) -> Answer {
        if let Err(error) = txn.check() {
            return Answer::Rejected(Rejection::Malformed(error.to_string()));
        }
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        if let Some(rejection) = ops.iter().find_map(|op| self.forbids(op)) {
            return Answer::Rejected(rejection);
        }
        let results = ops.iter().map(|op| self.perform(op)).collect();
        Answer::Txn { succeeded, results }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let item = self.items.get(&compare.key);
        let number = |of: fn(&Item) -> u64| item.map_or(0, of);
        match &compare.condition {
            Condition::Exists(expected) => item.is_some() == *expected,
            Condition::Value(how, given) => match item {
                Some(item) => is(*how, item.value.cmp(given)),
                None => *how == Comparison::NotEqual,
            },
            Condition::Version(how, given) => is(*how, number(|item| item.version).cmp(given)),
            Condition::CreateRevision(how, given) => is(*how, number(|item| item.create).cmp(&given.get())),
            Condition::ModRevision(how, given) => is(*how, number(|item| item.modified).cmp(&given.get())),
            // A later kind of condition has no reading here: whoever adds one adds it.
            _ => false,
        }
    }

    fn forbids(&self, op: &TxnOp) -> Option<Rejection> {
        match op {
            TxnOp::Put { lease, .. } if !self.takes(*lease) => Some(Rejection::NoLease(*lease)),
            TxnOp::Add { key, by } => match self.number_in(key) {
                None => Some(Rejection::NotANumber(key.clone())),
                Some(there) if there.checked_add(*by).is_none() => Some(Rejection::Overflow(key.clone())),
                Some(_fits) => None,
            },
            _ => None,
        }
    }

    fn number_in(&self, key: &Bytes) -> Option<i64> {
        let Some(item) = self.items.get(key) else { return Some(0) };
        std::str::from_utf8(&item.value).ok()?.parse().ok()
    }

    fn perform(&mut self, op: &TxnOp) -> OpResult {
        match op {
            TxnOp::Put { key, value, lease } => {
                self.put(key, value, *lease);
                OpResult::Put
            }
            TxnOp::Delete { key } => OpResult::Deleted(self.remove(key)),
            TxnOp::Add { key, by } => {
                let sum = self.number_in(key).unwrap_or_default() + by;
                self.put(key, sum.to_string().as_bytes(), self.lease_of(key));
                OpResult::Sum(sum)
            }
            TxnOp::Get { key } => OpResult::Value(self.items.get(key).map(|item| KeyValue {
                key: key.clone(),
                value: item.value.clone(),
                create_revision: Index(item.create),
                mod_revision: Index(item.modified),
                version: item.version,
                lease: self.lease_of(key),
            })),
            // As above.
            _ => OpResult::Value(None),
        }
    }
}

fn is(how: Comparison, order: Ordering) -> bool {
    match how {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::Greater => order.is_gt(),
    }
}
