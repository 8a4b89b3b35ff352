//! Counters: each answer says what the count is now.

use dledger::kv::answer::Answer;
use dledger::kv::command::Command;
use dledger::kv::{OpResult, Txn};
use histories::counters::Operation;

use super::desk::value;
use super::{Desk, Step, Task, Told};

/// How many counters there are.
const COUNTERS: u64 = 2;

/// A client of counters.
#[derive(Debug)]
pub(super) struct Counters {
    client: u64,
    doing: Option<Operation>,
}

impl Counters {
    pub(super) fn new(number: u64) -> Self {
        Self { client: number, doing: None }
    }
}

impl Task for Counters {
    fn next(&mut self, desk: &mut Desk<'_>) -> Step {
        let key = format!("count/{}", desk.random.within(0..COUNTERS)).into_bytes();
        let counts = desk.random.chance(750);
        let step = match counts {
            true => Step::Write(Command::Txn(Txn::add(key.clone(), 1)).encode()),
            false => Step::Read,
        };
        self.doing = Some(Operation { client: self.client, key, counts, invoked: desk.now, answered: None });
        step
    }

    fn told(&mut self, told: Told, desk: &mut Desk<'_>) {
        let Some(mut doing) = self.doing.take() else { return };
        let count = match told {
            Told::View(view) => {
                let text = value(&view, &doing.key).unwrap_or_else(|| b"0".to_vec());
                String::from_utf8(text).ok().and_then(|text| text.parse().ok())
            }
            Told::Done(_revision, Answer::Txn { results, .. }) => match results.first() {
                Some(OpResult::Sum(sum)) => u64::try_from(*sum).ok(),
                _ => None,
            },
            Told::Done(..) | Told::Unknown => None,
            Told::Never => return,
        };
        doing.answered = count.map(|count| (desk.now, count));
        if doing.counts {
            desk.met(if count.is_some() { "seen: counted" } else { "seen: count unknown" });
        }
        desk.records.counters.push(doing);
    }

    fn is_idle(&self) -> bool {
        self.doing.is_none()
    }
}
