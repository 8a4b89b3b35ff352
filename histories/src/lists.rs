//! Lists that are appended to and read whole. Every item is appended by one operation.
//!
//! The longest reading says in which order the items came; every other one must be a beginning of it. What is left is
//! whether that order fits the times. An append of unknown outcome is in it or is not; one that was acknowledged and is not
//! in it came behind the last reading.

use std::collections::{BTreeMap, BTreeSet};

use crate::order::{Placed, misfit};
use crate::{Checked, Wrong};

/// What a client asked of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Append an item.
    Append(Vec<u8>),
    /// Read all items.
    Read,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The item is appended.
    Appended,
    /// All items, in order.
    Items(Vec<Vec<u8>>),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: u64,
    /// Of which list.
    pub key: Vec<u8>,
    /// What.
    pub call: Call,
    /// Time of the call.
    pub invoked: u64,
    /// Time and content of the answer; `None` when the outcome is unknown.
    pub answered: Option<(u64, Answer)>,
}

/// Checks every list of a history.
///
/// # Errors
/// The first list that is not linearizable, and why.
pub fn check(history: &[Operation]) -> Result<Checked, Wrong> {
    let mut lists: BTreeMap<&[u8], Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        lists.entry(&operation.key).or_default().push(operation);
    }
    for (key, operations) in &lists {
        check_one(operations).map_err(|what| Wrong { key: key.to_vec(), what })?;
    }
    Ok(Checked { operations: history.len(), keys: lists.len() })
}

fn check_one(operations: &[&Operation]) -> Result<(), String> {
    let reads = || {
        operations.iter().filter_map(|it| match &it.answered {
            Some((_at, Answer::Items(items))) => Some(items),
            Some((_, Answer::Appended)) | None => None,
        })
    };
    let longest: &[Vec<u8>] = reads().max_by_key(|items| items.len()).map_or(&[], Vec::as_slice);
    let words = |item: &[u8]| String::from_utf8_lossy(item).into_owned();
    if let Some(other) = reads().find(|items| !longest.starts_with(items)) {
        let shown = other.iter().zip(longest).find(|(one, two)| one != two);
        return Err(format!("one reading is no beginning of another: {:?}", shown.map(|(a, b)| (words(a), words(b)))));
    }
    let asked = |it: &&Operation| match &it.call {
        Call::Append(item) => Some(item.clone()),
        Call::Read => None,
    };
    let appended: BTreeSet<Vec<u8>> = operations.iter().filter_map(asked).collect();
    let mut places: BTreeMap<&[u8], u64> = BTreeMap::new();
    for (place, item) in longest.iter().enumerate() {
        if places.insert(item, place as u64 + 1).is_some() {
            return Err(format!("item {} stands there twice", words(item)));
        }
        if !appended.contains(item) {
            return Err(format!("nobody appended item {}", words(item)));
        }
    }
    let mut placed: Vec<Placed> = operations.iter().filter_map(|it| place(it, &places)).collect();
    match misfit(&mut placed) {
        Some((it, other)) => Err(format!(
            "what was answered at {:?} stands behind what was asked for at {} (places {} and {})",
            it.answered, other.invoked, it.rank, other.rank
        )),
        None => Ok(()),
    }
}

/// Where an operation stands: the append of the first item, the readings of one item, the append of the second …
fn place(operation: &Operation, places: &BTreeMap<&[u8], u64>) -> Option<Placed> {
    let answered = operation.answered.as_ref().map(|(at, _answer)| *at);
    let rank = match (&operation.call, &operation.answered) {
        (Call::Append(item), _) => match (places.get(item.as_slice()), answered) {
            (Some(place), _) => place * 2,
            (None, Some(_acknowledged)) => u64::MAX,
            (None, None) => return None,
        },
        (Call::Read, Some((_at, Answer::Items(items)))) => items.len() as u64 * 2 + 1,
        (Call::Read, Some((_, Answer::Appended)) | None) => return None,
    };
    Some(Placed { rank, invoked: operation.invoked, answered })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(item: &str, invoked: u64, answered: Option<u64>) -> Operation {
        let answered = answered.map(|at| (at, Answer::Appended));
        Operation { client: 1, key: b"l".to_vec(), call: Call::Append(item.into()), invoked, answered }
    }

    fn read(items: &[&str], invoked: u64, answered: u64) -> Operation {
        let items = items.iter().map(|item| item.as_bytes().to_vec()).collect();
        let answered = Some((answered, Answer::Items(items)));
        Operation { client: 2, key: b"l".to_vec(), call: Call::Read, invoked, answered }
    }

    fn wrong(history: &[Operation], words: &str) {
        let error = check(history).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn list_whose_readings_agree_with_the_times_is_linearizable() {
        let history = [
            append("a", 1, Some(4)),
            append("b", 2, None),
            append("never", 2, None),
            read(&["b"], 3, 5),
            read(&["b", "a"], 5, 6),
            append("c", 7, Some(8)),
        ];
        assert_eq!(check(&history).unwrap().operations, 6);
        check(&[]).unwrap();
    }

    #[test]
    fn list_with_an_item_twice_lost_or_from_nowhere_is_wrong() {
        wrong(&[append("a", 1, Some(2)), read(&["a", "a"], 3, 4)], "twice");
        wrong(&[append("a", 1, Some(2)), read(&[], 3, 4)], "stands behind");
        wrong(&[read(&["a"], 3, 4)], "nobody");
    }

    #[test]
    fn list_read_in_two_orders_or_before_the_append_is_wrong() {
        let both = [append("a", 1, None), append("b", 1, None)];
        wrong(&[&both[..], &[read(&["a", "b"], 2, 3), read(&["b"], 2, 3)]].concat(), "no beginning");
        wrong(&[append("a", 5, Some(6)), read(&["a"], 1, 2)], "stands behind");
        let late = [append("a", 1, Some(2)), append("b", 3, Some(4)), read(&["b", "a"], 5, 6)];
        wrong(&late, "stands behind");
    }
}
