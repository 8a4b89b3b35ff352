//! Transactions: a condition over many keys, and what is done when it holds or does not, as one entry of the log.
//!
//! ```text
//!   compare: all hold? ── yes ──► then      operations in order, all of them or none,
//!                      └─ no ───► otherwise  under the revision of the entry
//! ```
//! The other conditional writes are transactions with a name: [`Txn::put_if_absent`], [`Txn::put_if_revision`],
//! [`Txn::compare_and_set`], [`Txn::add`].
//!
//! Invariant: a branch writes no key twice, so a revision changes a key once. Deliberately absent: deleting a range, which
//! may be work of many turns and is a command of its own; and reading a range, of which an answer would have no bound.

use bytes::Bytes;
use thiserror::Error;

use crate::types::{Index, LeaseId};

use super::KeyValue;

/// Most comparisons and operations of a transaction, both branches counted: it is applied in one go.
pub const MAX_TXN_PARTS: usize = 1024;

/// A transaction.
///
/// ```
/// use dledger::kv::{Compare, Condition, Txn, TxnOp};
///
/// // Move the one owner's mark, unless somebody was quicker.
/// let txn = Txn {
///     compare: vec![Compare::new("owner", Condition::value_is("alice"))],
///     then: vec![TxnOp::put("owner", "bob"), TxnOp::delete("alice/session")],
///     otherwise: vec![TxnOp::get("owner")],
/// };
/// assert!(txn.check().is_ok());
/// ```
///
/// What it did:
///
/// ```
/// use dledger::kv::{Compare, Comparison, Condition, OpResult, Txn, TxnDone, TxnOp};
/// # dledger::doctest::run(|store| async move {
///
/// let at_most_once = Txn {
///     compare: vec![Compare::new("paid", Condition::Version(Comparison::Equal, 0))],
///     then: vec![TxnOp::put("paid", "yes"), TxnOp::add("balance", -5)],
///     otherwise: vec![TxnOp::get("balance")],
/// };
/// let TxnDone { succeeded, results, .. } = store.transact(at_most_once.clone()).await?;
/// assert!(succeeded && results == [OpResult::Put, OpResult::Sum(-5)]);
///
/// let again = store.transact(at_most_once).await?;
/// assert!(!again.succeeded);
/// let Some(OpResult::Value(Some(balance))) = again.results.first() else { return Err("no balance".into()) };
/// assert_eq!(balance.value, "-5");
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold, all of it; nothing holds always.
    pub compare: Vec<Compare>,
    /// What is done if it holds.
    pub then: Vec<TxnOp>,
    /// What is done if it does not.
    pub otherwise: Vec<TxnOp>,
}

/// What one key must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// What is compared.
    pub condition: Condition,
}

/// What is compared, how, and with what. An absent key has version 0, revisions 0, and no value: no value equals, precedes
/// or follows another, and so only `NotEqual` holds of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Whether the key is there.
    Exists(bool),
    /// Its value, byte by byte.
    Value(Comparison, Bytes),
    /// How often it was written in its present life.
    Version(Comparison, u64),
    /// The entry that gave it its present life.
    CreateRevision(Comparison, Index),
    /// The entry that last wrote it.
    ModRevision(Comparison, Index),
}

/// How two things are compared: what is there, on the left, with what is given, on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
}

/// One operation of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxnOp {
    /// Set a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The lease it lives with; zero for none.
        lease: LeaseId,
    },
    /// Delete a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Read a key, as the operations before it left it.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Add to the number that a key holds as decimal text; an absent key holds 0. It keeps its lease.
    Add {
        /// The key.
        key: Bytes,
        /// What is added.
        by: i64,
    },
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnDone {
    /// Whether what was compared held: which branch was taken.
    pub succeeded: bool,
    /// The entry that did it.
    pub revision: Index,
    /// What became of each operation of the branch.
    pub results: Vec<OpResult>,
}

impl TxnDone {
    /// The revision, when what was compared held.
    pub(super) fn if_succeeded(&self) -> Option<Index> {
        self.succeeded.then_some(self.revision)
    }

    /// What the first operation came to, when that was to add.
    pub(super) fn sum(&self) -> Result<i64, &'static str> {
        match self.results.first() {
            Some(OpResult::Sum(sum)) => Ok(*sum),
            _ => Err("the number was added to, but the sum was not told"),
        }
    }
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpResult {
    /// The key was set.
    Put,
    /// The key was deleted; false when there was none.
    Deleted(bool),
    /// What the key was; `None` when there was none.
    Value(Option<KeyValue>),
    /// The number that the key holds now.
    Sum(i64),
}

/// What is wrong with a transaction, and where. It was not proposed.
///
/// ```
/// use dledger::kv::{Txn, TxnError, TxnOp};
///
/// let twice = Txn { then: vec![TxnOp::put("k", "1"), TxnOp::delete("k")], ..Txn::default() };
/// let TxnError { place, .. } = twice.check().unwrap_err();
/// assert_eq!(place, "then[1]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {reason}")]
pub struct TxnError {
    /// Where the mistake is: `compare[0]`, `then[2]`, `else[1]`.
    pub place: String,
    /// What it is.
    pub reason: String,
}

impl Compare {
    /// A comparison.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, condition: Condition) -> Self {
        Self { key: key.into(), condition }
    }
}

impl Condition {
    /// The key has this very value.
    #[must_use]
    pub fn value_is(value: impl Into<Bytes>) -> Self {
        Self::Value(Comparison::Equal, value.into())
    }
}

impl Comparison {
    /// Whether it holds of the two.
    #[must_use]
    pub fn holds<T: Ord + ?Sized>(self, there: &T, given: &T) -> bool {
        match self {
            Self::Equal => there == given,
            Self::NotEqual => there != given,
            Self::Less => there < given,
            Self::Greater => there > given,
        }
    }
}

impl TxnOp {
    /// Sets a key, without a lease.
    #[must_use]
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: LeaseId::ZERO }
    }

    /// Sets a key that lives as long as a lease.
    #[must_use]
    pub fn put_leased(key: impl Into<Bytes>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease }
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// Reads a key.
    #[must_use]
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Adds to a number.
    #[must_use]
    pub fn add(key: impl Into<Bytes>, by: i64) -> Self {
        Self::Add { key: key.into(), by }
    }

    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Get { key } | Self::Add { key, .. } => key,
        }
    }

    /// Whether it changes its key.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Delete { .. } | Self::Add { .. } => true,
            Self::Get { .. } => false,
        }
    }
}

impl Txn {
    /// Sets a key if there is none.
    #[must_use]
    pub fn put_if_absent(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self {
            compare: vec![Compare::new(key.clone(), Condition::Exists(false))],
            then: vec![TxnOp::put(key, value)],
            otherwise: Vec::new(),
        }
    }

    /// Sets a key if it was last written by the entry at `revision`; zero stands for an absent key.
    #[must_use]
    pub fn put_if_revision(key: impl Into<Bytes>, value: impl Into<Bytes>, revision: Index) -> Self {
        let key = key.into();
        Self {
            compare: vec![Compare::new(key.clone(), Condition::ModRevision(Comparison::Equal, revision))],
            then: vec![TxnOp::put(key, value)],
            otherwise: Vec::new(),
        }
    }

    /// Sets a key if it has the value `expected`.
    #[must_use]
    pub fn compare_and_set(key: impl Into<Bytes>, expected: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self {
            compare: vec![Compare::new(key.clone(), Condition::value_is(expected))],
            then: vec![TxnOp::put(key, value)],
            otherwise: Vec::new(),
        }
    }

    /// Adds to the number that a key holds.
    #[must_use]
    pub fn add(key: impl Into<Bytes>, by: i64) -> Self {
        Self { then: vec![TxnOp::add(key, by)], ..Self::default() }
    }

    /// Looks whether this is a transaction at all, whatever the limits of a node are.
    ///
    /// # Errors
    /// The first mistake: more than [`MAX_TXN_PARTS`], or a key that a branch writes twice.
    pub fn check(&self) -> Result<(), TxnError> {
        let parts = self.compare.len() + self.then.len() + self.otherwise.len();
        if parts > MAX_TXN_PARTS {
            let reason = format!("{parts} comparisons and operations; at most {MAX_TXN_PARTS} are taken");
            return Err(TxnError { place: "transaction".to_owned(), reason });
        }
        for (branch, ops) in [("then", &self.then), ("else", &self.otherwise)] {
            let mut written = std::collections::BTreeSet::new();
            for (at, op) in ops.iter().enumerate() {
                if op.writes() && !written.insert(op.key()) {
                    let reason = format!("key `{}` is written twice in this branch", op.key().escape_ascii());
                    return Err(TxnError { place: format!("{branch}[{at}]"), reason });
                }
            }
        }
        Ok(())
    }

    /// Every part with its place, in order: comparisons, then both branches.
    pub fn parts(&self) -> impl Iterator<Item = (String, TxnPart<'_>)> {
        let compare = self.compare.iter().map(TxnPart::Compare).enumerate().map(|part| ("compare", part));
        let then = self.then.iter().map(TxnPart::Op).enumerate().map(|part| ("then", part));
        let otherwise = self.otherwise.iter().map(TxnPart::Op).enumerate().map(|part| ("else", part));
        compare.chain(then).chain(otherwise).map(|(name, (at, part))| (format!("{name}[{at}]"), part))
    }
}

/// A part of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnPart<'a> {
    /// A comparison.
    Compare(&'a Compare),
    /// An operation.
    Op(&'a TxnOp),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn txn_that_writes_a_key_twice_names_the_place() {
        let mut txn = Txn { then: vec![TxnOp::put("a", "1"), TxnOp::get("a"), TxnOp::delete("b")], ..Txn::default() };
        txn.check().unwrap();
        txn.otherwise = vec![TxnOp::put("a", "1")];
        txn.check().expect("one branch alone is taken");
        txn.otherwise.extend([TxnOp::get("a"), TxnOp::add("a", 1)]);
        let error = txn.check().unwrap_err();
        assert_eq!(error.to_string(), "else[2]: key `a` is written twice in this branch");
    }

    #[test]
    fn txn_of_too_many_parts_is_refused() {
        let mut txn = Txn { then: vec![TxnOp::get("k"); MAX_TXN_PARTS], ..Txn::default() };
        txn.check().unwrap();
        txn.compare.push(Compare::new("k", Condition::Exists(true)));
        assert_eq!(txn.check().unwrap_err().place, "transaction");
    }

    #[test]
    fn txn_parts_are_named_in_order() {
        let txn = Txn::compare_and_set("k", "1", "2");
        let places: Vec<String> = txn.parts().map(|(place, _part)| place).collect();
        assert_eq!(places, ["compare[0]", "then[0]"]);
    }
}
