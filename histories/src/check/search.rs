//! The search for a linearization of one key's operations.
//!
//! It walks through calls and answers by time and keeps every *configuration* that explains what was seen so far: the
//! value of the key, and which of the operations under way have taken effect. An operation has to have taken effect when
//! its answer comes, and takes effect no sooner than the answer that needs it: at an answer, each configuration without
//! the operation is tried with every row of others under way that ends in it. When no configuration is left, no order
//! explains that answer. (Wing and Gong, 1993, with Lowe's just-in-time linearization and memory, 2017.)
//!
//! A compare-and-set that held is a write that needs a value to be there; one that did not is a read that shows any other
//! value.
//!
//! Three rules of registers keep configurations few, and lose none that matters:
//! - **Reads come at once.** A read under way that fits the value takes effect there and then: nothing can come of
//!   waiting.
//! - **A write of unknown outcome comes just before what needs its value**, a read that shows it or a compare-and-set that
//!   it lets hold, or never: with another write behind it, or nothing at all, it changed nothing that anybody saw. Such
//!   writes stay possible to the end, so without this rule each of them would double the search. (A compare-and-set of
//!   unknown outcome needs no rule: its value is there, or it is not.)
//! - **Unknown writes of one value are alike**, whoever asked for them: only their number counts, and a configuration
//!   that has spent fewer of them is as good as one that has spent more.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{Answer, Call, Operation};

/// A value by a number of its own.
type Value = u32;

/// The number of no value.
const ABSENT: Value = 0;

/// What an operation does to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Read(Value),
    /// It shows that the value is another one.
    ReadOther(Value),
    Write(Value),
    /// It writes the second, and needs the first.
    Swap(Value, Value),
    /// An answer to another kind of question: no order explains it.
    Never,
}

impl Step {
    /// Whether it changes nothing and is explained by this value.
    fn shows(self, value: Value) -> bool {
        match self {
            Self::Read(seen) => seen == value,
            Self::ReadOther(not) => not != value,
            Self::Write(_) | Self::Swap(..) | Self::Never => false,
        }
    }

    /// What it makes of a value, if it can be written there.
    fn writes(self, value: Value) -> Option<Value> {
        match self {
            Self::Write(new) => Some(new),
            Self::Swap(needed, new) if needed == value => Some(new),
            Self::Swap(..) | Self::Read(_) | Self::ReadOther(_) | Self::Never => None,
        }
    }
}

/// What came of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    /// Some order explains all operations.
    pub(super) linearizable: bool,
    /// Configurations looked at: what the search cost.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests bound the cost of a search by it, and not by the clock"))]
    pub(super) configurations: usize,
}

/// Looks for an order of these operations, all of one key.
pub(super) fn run(operations: &[&Operation]) -> Verdict {
    let mut names = HashMap::new();
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    let mut search = Search::new(operations.iter().map(|operation| step(&mut names, operation)).collect());
    for (place, operation) in operations.iter().enumerate() {
        // At one instant answers stand behind calls: what may have been at the same time counts for that.
        events.push((operation.invoked, false, place));
        events.extend(operation.answered.as_ref().map(|(at, _answer)| (*at, true, place)));
    }
    events.sort_unstable();
    let linearizable = events.into_iter().all(|(_at, answer, place)| match answer {
        true => search.answer(place),
        false => {
            search.call(place, operations.get(place).is_some_and(|operation| operation.answered.is_some()));
            true
        }
    });
    Verdict { linearizable, configurations: search.configurations }
}

fn step<'a>(names: &mut HashMap<&'a [u8], Value>, operation: &'a Operation) -> Step {
    let mut name = |value: &'a [u8]| {
        let next = Value::try_from(names.len() + 1).unwrap_or(Value::MAX);
        *names.entry(value).or_insert(next)
    };
    let answer = operation.answered.as_ref().map(|(_at, answer)| answer);
    if let Call::CompareAndSet { expected, value } = &operation.call {
        let mut optional = |value: &'a Option<Vec<u8>>| value.as_deref().map_or(ABSENT, &mut name);
        let (expected, value) = (optional(expected), optional(value));
        return match answer {
            Some(Answer::Swapped(true)) | None => Step::Swap(expected, value),
            Some(Answer::Swapped(false)) => Step::ReadOther(expected),
            Some(Answer::Value(_) | Answer::Done) => Step::Never,
        };
    }
    match (&operation.call, answer) {
        (Call::Put(value), Some(Answer::Done) | None) => Step::Write(name(value)),
        (Call::Delete, Some(Answer::Done) | None) => Step::Write(ABSENT),
        (Call::Get, Some(Answer::Value(Some(value)))) => Step::Read(name(value)),
        (Call::Get, Some(Answer::Value(None))) => Step::Read(ABSENT),
        _ => Step::Never,
    }
}

/// How far an order has come, apart from the unknown writes in it: the value, and those of the operations under way
/// that have taken effect, by place, sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reached {
    value: Value,
    done: Vec<usize>,
}

impl Reached {
    fn has(&self, place: usize) -> bool {
        self.done.binary_search(&place).is_ok()
    }

    fn add(&mut self, place: usize) {
        if let Err(gap) = self.done.binary_search(&place) {
            self.done.insert(gap, place);
        }
    }

    fn without(mut self, place: usize) -> Self {
        self.done.retain(|done| *done != place);
        self
    }
}

/// How many unknown writes of each kind stand in an order.
type Spent = BTreeMap<Step, usize>;

/// Configurations without those that another one is as good as.
#[derive(Debug, Default)]
struct Configurations(HashMap<Reached, Vec<Spent>>);

impl Configurations {
    /// Adds one, unless one that reached the same has spent no more of anything. Tells whether it is new.
    fn add(&mut self, reached: Reached, spent: Spent) -> bool {
        let no_more = |one: &Spent, other: &Spent| {
            one.iter().all(|(step, count)| other.get(step).is_some_and(|others| count <= others))
        };
        let known = self.0.entry(reached).or_default();
        if known.iter().any(|other| no_more(other, &spent)) {
            return false;
        }
        known.retain(|other| !no_more(&spent, other));
        known.push(spent);
        true
    }

    fn into_each(self) -> impl Iterator<Item = (Reached, Spent)> {
        self.0.into_iter().flat_map(|(reached, all)| all.into_iter().map(move |spent| (reached.clone(), spent)))
    }
}

struct Search {
    steps: Vec<Step>,
    /// Operations with a known outcome that were called and not yet answered.
    under_way: BTreeSet<usize>,
    /// Writes of unknown outcome that were called so far.
    unknown: BTreeMap<Step, usize>,
    /// What explains everything so far.
    frontier: Configurations,
    configurations: usize,
}

impl Search {
    fn new(steps: Vec<Step>) -> Self {
        let mut frontier = Configurations::default();
        frontier.add(Reached { value: ABSENT, done: Vec::new() }, Spent::new());
        Self { steps, under_way: BTreeSet::new(), unknown: BTreeMap::new(), frontier, configurations: 1 }
    }

    fn step(&self, place: usize) -> Step {
        self.steps.get(place).copied().unwrap_or(Step::Never)
    }

    fn call(&mut self, place: usize, known: bool) {
        let step = self.step(place);
        if !known {
            if let Step::Write(_) | Step::Swap(..) = step {
                *self.unknown.entry(step).or_default() += 1;
            }
            return;
        }
        self.under_way.insert(place);
        if let Step::Read(_) | Step::ReadOther(_) = step {
            for (mut reached, spent) in std::mem::take(&mut self.frontier).into_each() {
                if step.shows(reached.value) {
                    reached.add(place);
                }
                self.frontier.add(reached, spent);
            }
        }
    }

    /// Tells whether some configuration explains this answer.
    fn answer(&mut self, place: usize) -> bool {
        let (mut with, mut seen, mut todo) = (Configurations::default(), Configurations::default(), Vec::new());
        for (reached, spent) in std::mem::take(&mut self.frontier).into_each() {
            if reached.has(place) {
                with.add(reached.without(place), spent);
            } else if seen.add(reached.clone(), spent.clone()) {
                todo.push((reached, spent));
            }
        }
        while let Some((reached, spent)) = todo.pop() {
            for (reached, spent) in self.next(&reached, &spent) {
                self.configurations += 1;
                if reached.has(place) {
                    with.add(reached.without(place), spent);
                } else if seen.add(reached.clone(), spent.clone()) {
                    todo.push((reached, spent));
                }
            }
        }
        self.under_way.remove(&place);
        self.frontier = with;
        !self.frontier.0.is_empty()
    }

    /// Every configuration that is one write further.
    fn next(&self, from: &Reached, spent: &Spent) -> Vec<(Reached, Spent)> {
        let mut next = Vec::new();
        for place in self.under_way.iter().copied().filter(|place| !from.has(*place)) {
            if let Some(value) = self.step(place).writes(from.value) {
                let mut reached = self.write(from, value);
                reached.add(place);
                next.push((reached, spent.clone()));
            }
        }
        for (step, called) in &self.unknown {
            let used = spent.get(step).copied().unwrap_or(0);
            let Some(value) = step.writes(from.value).filter(|_value| used < *called) else { continue };
            if matches!(step, Step::Swap(..)) || self.is_awaited(from, value) {
                let mut spent = spent.clone();
                spent.insert(*step, used + 1);
                next.push((self.write(from, value), spent));
            }
        }
        next
    }

    /// Whether something that has not taken effect needs this value.
    fn is_awaited(&self, from: &Reached, value: Value) -> bool {
        let needs = |step: Step| step.shows(value) || matches!(step, Step::Swap(needed, _) if needed == value);
        let under_way = self.under_way.iter().filter(|place| !from.has(**place));
        under_way.map(|place| self.step(*place)).any(needs) || self.unknown.keys().any(|step| needs(*step))
    }

    /// The value is written, and every read under way that shows it takes effect.
    fn write(&self, from: &Reached, value: Value) -> Reached {
        let mut reached = Reached { value, done: from.done.clone() };
        self.under_way.iter().filter(|place| self.step(**place).shows(value)).for_each(|place| reached.add(*place));
        reached
    }
}
