//! Runs seeds: one with all its words, or many at once with a summary.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use dledger::simulation::Plant;
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkers::{Property, Violation};
use crate::faults::Fault;
use crate::marks::Marks;
use crate::profile::{Fixed, Profile};
use crate::report;
use crate::world::{Figures, Outcome, World};

/// A process may not panic whatever happens to it.
pub(crate) const PANIC: Property =
    Property { name: "no_panic", claim: "nothing that a disk, a peer or a clock does panics" };
/// A sweep of fewer seeds is not asked whether it reached every mark.
const MARKS_FROM: u64 = 200;

/// Runs one seed.
pub(crate) fn run(seed: u64, fixed: &Fixed, plant: Option<Plant>, text: bool) -> Outcome {
    let profile = Profile::of(seed, fixed);
    let world = AssertUnwindSafe(|| World::new(seed, profile, plant, text).run());
    catch_unwind(world).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        let violation = Violation { property: PANIC, at: 0, what: words };
        Outcome {
            violation: Some(violation),
            marks: Marks::default(),
            hash: 0,
            lines: Vec::new(),
            figures: Figures::default(),
        }
    })
}

/// Runs one seed and tells everything; false when something did not hold.
pub(crate) fn one(seed: u64, fixed: &Fixed, plant: Option<Plant>, trace: bool, twice: bool) -> bool {
    report::say(&report::settings(seed, fixed));
    let outcome = run(seed, fixed, plant, trace);
    for line in &outcome.lines {
        report::say(line);
    }
    let Figures { events, asked, answered, entries, elections, faults } = outcome.figures;
    report::say(&format!(
        "{events} events, {answered} of {asked} questions answered, {entries} entries committed, {elections} elections, \
         {faults} faults, trace {:016x}",
        outcome.hash
    ));
    if twice && run(seed, fixed, plant, false).hash != outcome.hash {
        report::complain(&format!("seed {seed} runs differently each time"));
        return false;
    }
    match outcome.violation {
        Some(violation) => {
            report::complain(&violation.to_string());
            false
        }
        None => true,
    }
}

/// What many runs came to.
#[derive(Debug, Default)]
struct Sum {
    marks: Marks,
    figures: Figures,
    failed: Vec<(u64, Violation)>,
    differ: Vec<u64>,
}

/// Runs many seeds and sums up; false when something did not hold or a mark was never reached.
pub(crate) fn many(seeds: Range<u64>, fixed: &Fixed, jobs: usize, twice: bool) -> bool {
    let started = Instant::now();
    let total = seeds.end.saturating_sub(seeds.start);
    let sum = Mutex::new(Sum::default());
    let bar = progress(total);
    each(seeds, jobs, |seed| {
        let outcome = run(seed, fixed, None, false);
        let differs = twice && run(seed, fixed, None, false).hash != outcome.hash;
        bar.inc(1);
        let Ok(mut sum) = sum.lock() else { return false };
        sum.marks.add(&outcome.marks);
        sum.figures.add(&outcome.figures);
        sum.differ.extend(differs.then_some(seed));
        sum.failed.extend(outcome.violation.map(|violation| (seed, violation)));
        sum.failed.len() < 20
    });
    bar.finish_and_clear();
    let Ok(sum) = sum.into_inner() else { return false };
    let required = total >= MARKS_FROM;
    let all_marks = report::marks(&sum.marks, fixed, total, required) || !required;
    let seconds = started.elapsed().as_secs_f64();
    let Figures { events, asked, answered, entries, elections, faults } = sum.figures;
    report::say(&format!(
        "{events} events, {answered} of {asked} questions answered, {entries} entries committed, {elections} elections, \
         {faults} faults"
    ));
    report::say(&format!(
        "{total} seeds of {} ticks in {seconds:.0} s: {:.0} seeds a minute",
        fixed.ticks,
        total as f64 / seconds * 60.0
    ));
    for seed in &sum.differ {
        report::complain(&format!("seed {seed} runs differently each time"));
    }
    for (seed, violation) in &sum.failed {
        report::complain(&format!("seed {seed}: {violation}"));
    }
    if let Some((seed, violation)) = sum.failed.iter().min_by_key(|(seed, _violation)| *seed) {
        report::complain(&format!(
            "replay with: {} --trace",
            report::command(*seed, &shortest(*seed, fixed, violation))
        ));
    }
    sum.failed.is_empty() && sum.differ.is_empty() && all_marks
}

/// The fewest faults and ticks with which a seed still breaks the same property.
fn shortest(seed: u64, fixed: &Fixed, violation: &Violation) -> Fixed {
    let mut best = fixed.clone();
    let same = |tried: &Fixed| {
        run(seed, tried, None, false).violation.is_some_and(|found| found.property == violation.property)
    };
    for fault in Profile::of(seed, fixed).faults {
        let mut tried = best.clone();
        let mut faults = tried.faults.take().unwrap_or_else(|| Profile::of(seed, &best).faults);
        faults.retain(|other: &Fault| *other != fault);
        tried.faults = Some(faults);
        if same(&tried) {
            best = tried;
        }
    }
    best
}

/// Calls `run` for each seed, on `jobs` threads, until it says false.
pub(crate) fn each(seeds: Range<u64>, jobs: usize, run: impl Fn(u64) -> bool + Sync) {
    let (next, go_on) = (AtomicU64::new(seeds.start), AtomicBool::new(true));
    std::thread::scope(|scope| {
        for _job in 0..jobs.max(1) {
            scope.spawn(|| {
                while go_on.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if !run(seed) {
                        go_on.store(false, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

fn progress(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} seeds, {eta} left");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_malformed| ProgressStyle::default_bar()))
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.asked += other.asked;
        self.answered += other.answered;
        self.entries += other.entries;
        self.elections += other.elections;
        self.faults += other.faults;
    }
}
