//! Counters that count up by one and tell the new count.
//!
//! The counts say in which order the operations came. A count that nobody was told of must be the work of an operation of
//! unknown outcome, each of them of one at most, that was asked for early enough. What is left is whether the order fits
//! the times.

use std::collections::{BTreeMap, BTreeSet};

use crate::order::{Placed, misfit};
use crate::{Checked, Wrong};

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: u64,
    /// Of which counter.
    pub key: Vec<u8>,
    /// Whether it counts; else it reads.
    pub counts: bool,
    /// Time of the call.
    pub invoked: u64,
    /// Time of the answer, and the count; `None` when the outcome is unknown.
    pub answered: Option<(u64, u64)>,
}

/// Checks every counter of a history.
///
/// # Errors
/// The first counter that is not linearizable, and why.
pub fn check(history: &[Operation]) -> Result<Checked, Wrong> {
    let mut counters: BTreeMap<&[u8], Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        counters.entry(&operation.key).or_default().push(operation);
    }
    for (key, operations) in &counters {
        check_one(operations).map_err(|what| Wrong { key: key.to_vec(), what })?;
    }
    Ok(Checked { operations: history.len(), keys: counters.len() })
}

fn check_one(operations: &[&Operation]) -> Result<(), String> {
    let mut placed: Vec<Placed> = Vec::new();
    let mut told: BTreeSet<u64> = BTreeSet::new();
    for it in operations {
        let Some((at, count)) = it.answered else { continue };
        if it.counts && !told.insert(count) {
            return Err(format!("two operations came to {count}"));
        }
        placed.push(Placed { rank: count * 2 + u64::from(!it.counts), invoked: it.invoked, answered: Some(at) });
    }
    let highest = placed.iter().map(|it| it.rank / 2).max().unwrap_or(0);
    let mut unknown: Vec<u64> =
        operations.iter().filter(|it| it.counts && it.answered.is_none()).map(|it| it.invoked).collect();
    unknown.sort_unstable();
    let mut unknown = unknown.into_iter();
    for count in (1..=highest).filter(|count| !told.contains(count)) {
        // The earliest is the best for the lowest: whoever could not use it can use no other.
        let invoked = unknown.next().ok_or_else(|| format!("nobody can have counted to {count}"))?;
        placed.push(Placed { rank: count * 2, invoked, answered: None });
    }
    match misfit(&mut placed) {
        Some((it, other)) => Err(format!(
            "count {} was told at {:?}, before count {} was asked for at {}",
            it.rank / 2,
            it.answered,
            other.rank / 2,
            other.invoked
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(invoked: u64, answered: Option<(u64, u64)>) -> Operation {
        Operation { client: 1, key: b"c".to_vec(), counts: true, invoked, answered }
    }

    fn read(invoked: u64, answered: (u64, u64)) -> Operation {
        Operation { counts: false, ..count(invoked, Some(answered)) }
    }

    fn wrong(history: &[Operation], words: &str) {
        let error = check(history).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn counter_whose_gaps_are_those_of_unknown_operations_is_linearizable() {
        let history = [count(1, Some((2, 1))), count(3, None), count(3, None), count(5, Some((6, 3))), read(4, (7, 2))];
        assert_eq!(check(&history).unwrap().operations, 5);
        check(&[read(1, (2, 0))]).unwrap();
    }

    #[test]
    fn counter_that_counted_one_operation_twice_is_wrong() {
        wrong(&[count(1, Some((2, 1))), read(3, (4, 2))], "nobody can have counted");
        wrong(&[count(1, Some((2, 1))), count(1, Some((2, 1)))], "two operations");
        wrong(&[count(1, Some((2, 2))), count(9, None)], "was told at");
    }

    #[test]
    fn counter_that_goes_back_is_wrong() {
        wrong(&[count(1, Some((2, 1))), read(3, (4, 0))], "was told at");
        wrong(&[read(1, (2, 1)), count(3, Some((4, 1)))], "was told at");
    }
}
