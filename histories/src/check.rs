//! The check of a history: by key, and the shortest failing beginning of a key that fails.

mod search;

use std::collections::{BTreeMap, BTreeSet};

use crate::{Answer, Call, Checked, NotLinearizable, Operation};

/// Checks every key of a history.
///
/// # Errors
/// The first key, in their order, whose operations have no linearization.
pub fn check(history: &[Operation]) -> Result<Checked, NotLinearizable> {
    let mut keys: BTreeMap<&[u8], Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut checked = Checked { operations: 0, keys: keys.len() };
    for (key, mut operations) in keys {
        operations.sort_by_key(|operation| operation.invoked);
        checked.operations += relevant(&operations);
        if !search::run(&operations).linearizable {
            let operations = shortest(&operations).iter().map(|operation| (*operation).clone()).collect();
            return Err(NotLinearizable { key: key.to_vec(), operations });
        }
    }
    Ok(checked)
}

/// The shortest beginning that fails, of operations that do. What fails stays failing when more follows: so the place
/// can be looked for by halves.
fn shortest<'a, 'b>(operations: &'b [&'a Operation]) -> &'b [&'a Operation] {
    let (mut good, mut bad) = (0, operations.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if search::run(operations.get(..middle).unwrap_or_default()).linearizable {
            good = middle;
        } else {
            bad = middle;
        }
    }
    operations.get(..bad).unwrap_or(operations)
}

/// How many operations some order must explain.
fn relevant(operations: &[&Operation]) -> usize {
    let read: BTreeSet<&[u8]> = operations
        .iter()
        .filter_map(|operation| match &operation.answered {
            Some((_at, Answer::Value(Some(value)))) => Some(value.as_slice()),
            Some((_, Answer::Value(None) | Answer::Done | Answer::Swapped(_))) | None => None,
        })
        .collect();
    let counts = |operation: &&&Operation| match (&operation.call, &operation.answered) {
        (_, Some(_)) | (Call::Delete | Call::CompareAndSet { .. }, None) => true,
        (Call::Put(value), None) => read.contains(value.as_slice()),
        (Call::Get, None) => false,
    };
    operations.iter().filter(counts).count()
}

#[cfg(test)]
mod tests;
