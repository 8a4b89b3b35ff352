//! A transaction as bytes. The enums here mirror those of `kv::txn`; the order of their variants is part of the format,
//! which theirs is not.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::types::{Index, LeaseId};

use super::super::txn::{Compare, Comparison, Condition, Txn, TxnOp};
use super::Raw;

#[derive(Serialize, Deserialize)]
struct WireTxn<'a> {
    #[serde(borrow)]
    compare: Vec<WireCompare<'a>>,
    #[serde(borrow)]
    then: Vec<WireOp<'a>>,
    #[serde(borrow)]
    otherwise: Vec<WireOp<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireCompare<'a> {
    #[serde(borrow)]
    key: Raw<'a>,
    #[serde(borrow)]
    condition: WireCondition<'a>,
}

#[derive(Serialize, Deserialize)]
enum WireCondition<'a> {
    Exists(bool),
    Value(WireComparison, #[serde(borrow)] Raw<'a>),
    Version(WireComparison, u64),
    CreateRevision(WireComparison, Index),
    ModRevision(WireComparison, Index),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum WireComparison {
    Equal,
    NotEqual,
    Less,
    Greater,
}

#[derive(Serialize, Deserialize)]
enum WireOp<'a> {
    Put(#[serde(borrow)] Raw<'a>, #[serde(borrow)] Raw<'a>, LeaseId),
    #[serde(borrow)]
    Delete(Raw<'a>),
    #[serde(borrow)]
    Get(Raw<'a>),
    Add(#[serde(borrow)] Raw<'a>, i64),
}

/// Appends a transaction.
pub(super) fn encode_into(txn: &Txn, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let wire = WireTxn {
        compare: txn.compare.iter().map(compare_out).collect(),
        then: txn.then.iter().map(op_out).collect(),
        otherwise: txn.otherwise.iter().map(op_out).collect(),
    };
    codec::encode_into("transaction", &wire, out)
}

/// Reads one. Keys and values are copied: they may stay for longer than the entry.
pub(super) fn decode(bytes: &[u8]) -> Result<Txn, DecodeError> {
    let wire: WireTxn<'_> = codec::decode_borrowed("transaction", bytes)?;
    Ok(Txn {
        compare: wire.compare.into_iter().map(compare_in).collect(),
        then: wire.then.into_iter().map(op_in).collect(),
        otherwise: wire.otherwise.into_iter().map(op_in).collect(),
    })
}

fn compare_out(compare: &Compare) -> WireCompare<'_> {
    let condition = match &compare.condition {
        Condition::Exists(there) => WireCondition::Exists(*there),
        Condition::Value(how, value) => WireCondition::Value((*how).into(), Raw(value)),
        Condition::Version(how, version) => WireCondition::Version((*how).into(), *version),
        Condition::CreateRevision(how, revision) => WireCondition::CreateRevision((*how).into(), *revision),
        Condition::ModRevision(how, revision) => WireCondition::ModRevision((*how).into(), *revision),
    };
    WireCompare { key: Raw(&compare.key), condition }
}

fn compare_in(wire: WireCompare<'_>) -> Compare {
    let condition = match wire.condition {
        WireCondition::Exists(there) => Condition::Exists(there),
        WireCondition::Value(how, value) => Condition::Value(how.into(), copied(&value)),
        WireCondition::Version(how, version) => Condition::Version(how.into(), version),
        WireCondition::CreateRevision(how, revision) => Condition::CreateRevision(how.into(), revision),
        WireCondition::ModRevision(how, revision) => Condition::ModRevision(how.into(), revision),
    };
    Compare { key: copied(&wire.key), condition }
}

fn op_out(op: &TxnOp) -> WireOp<'_> {
    match op {
        TxnOp::Put { key, value, lease } => WireOp::Put(Raw(key), Raw(value), *lease),
        TxnOp::Delete { key } => WireOp::Delete(Raw(key)),
        TxnOp::Get { key } => WireOp::Get(Raw(key)),
        TxnOp::Add { key, by } => WireOp::Add(Raw(key), *by),
    }
}

fn op_in(wire: WireOp<'_>) -> TxnOp {
    match wire {
        WireOp::Put(key, value, lease) => TxnOp::Put { key: copied(&key), value: copied(&value), lease },
        WireOp::Delete(key) => TxnOp::Delete { key: copied(&key) },
        WireOp::Get(key) => TxnOp::Get { key: copied(&key) },
        WireOp::Add(key, by) => TxnOp::Add { key: copied(&key), by },
    }
}

fn copied(raw: &Raw<'_>) -> Bytes {
    Bytes::copy_from_slice(raw.0)
}

impl From<Comparison> for WireComparison {
    fn from(comparison: Comparison) -> Self {
        match comparison {
            Comparison::Equal => Self::Equal,
            Comparison::NotEqual => Self::NotEqual,
            Comparison::Less => Self::Less,
            Comparison::Greater => Self::Greater,
        }
    }
}

impl From<WireComparison> for Comparison {
    fn from(comparison: WireComparison) -> Self {
        match comparison {
            WireComparison::Equal => Self::Equal,
            WireComparison::NotEqual => Self::NotEqual,
            WireComparison::Less => Self::Less,
            WireComparison::Greater => Self::Greater,
        }
    }
}
