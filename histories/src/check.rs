//! The check of one history, key by key.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use crate::{Answer, Call, Checked, NotLinearizable, Operation};

/// A value by a number of its own; 0 is no value.
type Value = u32;

/// An operation on a register.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read(Value),
    Write(Value),
}

/// One key: holds a value or none.
struct Register;

impl Specification for Register {
    type State = Value;
    type Operation = Step;

    fn init() -> Value {
        0
    }

    fn apply(step: &Step, state: &Value) -> (bool, Value) {
        match step {
            Step::Read(value) => (value == state, *state),
            Step::Write(value) => (true, *value),
        }
    }
}

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
        checked.operations += relevant(&operations).count();
        if !is_linearizable(&operations) {
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
        if is_linearizable(operations.get(..middle).unwrap_or_default()) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    operations.get(..bad).unwrap_or(operations)
}

/// Operations that some order must explain.
fn relevant<'a, 'b>(operations: &'b [&'a Operation]) -> impl Iterator<Item = &'a Operation> + use<'a, 'b> {
    let read: BTreeSet<&[u8]> = operations
        .iter()
        .filter_map(|operation| match &operation.answered {
            Some((_at, Answer::Value(Some(value)))) => Some(value.as_slice()),
            Some((_, Answer::Value(None) | Answer::Done)) | None => None,
        })
        .collect();
    operations.iter().copied().filter(move |operation| match (&operation.call, &operation.answered) {
        (_, Some(_)) | (Call::Delete, None) => true,
        (Call::Put(value), None) => read.contains(value.as_slice()),
        (Call::Get, None) => false,
    })
}

fn is_linearizable(operations: &[&Operation]) -> bool {
    let mut values: HashMap<&[u8], Value> = HashMap::new();
    let mut events: Vec<(u64, bool, usize, Step)> = Vec::new();
    for (process, operation) in relevant(operations).enumerate() {
        let step = match (&operation.call, &operation.answered) {
            (Call::Put(value), _) => Step::Write(name(&mut values, value)),
            (Call::Delete, _) => Step::Write(0),
            (Call::Get, Some((_at, Answer::Value(Some(value))))) => Step::Read(name(&mut values, value)),
            (Call::Get, Some((_at, Answer::Value(None)))) => Step::Read(0),
            // An answer to another kind of question: no order explains it.
            (Call::Get, Some((_, Answer::Done)) | None) => Step::Read(Value::MAX),
        };
        let answered = operation.answered.as_ref().map_or(u64::MAX, |(at, _answer)| *at);
        // At one instant answers stand behind calls: what may have been at the same time counts for that.
        events.push((operation.invoked, false, process, step));
        events.push((answered, true, process, step));
    }
    if events.is_empty() {
        return true;
    }
    events.sort_by_key(|(at, answer, process, _step)| (*at, *answer, *process));
    let action = |(_at, answer, process, step)| match answer {
        false => (process, Action::Call(step)),
        true => (process, Action::Response(step)),
    };
    WGLChecker::<Register>::is_linearizable(History::from_actions(events.into_iter().map(action).collect()))
}

/// The number of a value, a new one when it was not met before.
fn name<'a>(values: &mut HashMap<&'a [u8], Value>, value: &'a [u8]) -> Value {
    let next = Value::try_from(values.len() + 1).unwrap_or(Value::MAX);
    *values.entry(value).or_insert(next)
}

#[cfg(test)]
mod tests;
