//! Clocks beyond the bound that lease reads declare: there the simulator *must* find a stale read. One that finds none would
//! find none either where the bound is wrong.

use std::sync::Mutex;

use crate::checkers::linearizable;
use crate::profile::Fixed;
use crate::report;
use crate::sweep::{each, run};

/// Seeds among which there must be one.
const MOST_SEEDS: u64 = 100;

/// Looks for the first seed with a stale read; false when there is none, or something else does not hold.
pub(crate) fn find(fixed: &Fixed, from: u64, jobs: usize) -> bool {
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let other: Mutex<Option<String>> = Mutex::new(None);
    each(from..from.saturating_add(MOST_SEEDS), jobs, |seed| {
        let Some(violation) = run(seed, fixed, None, false).violation else { return true };
        let stale = violation.property == linearizable::PROPERTY;
        if !stale && let Ok(mut other) = other.lock() {
            *other = Some(format!("seed {seed}: {violation}"));
        } else if let Ok(mut found) = found.lock()
            && found.as_ref().is_none_or(|(first, _what)| seed < *first)
        {
            *found = Some((seed, violation.what));
        }
        false
    });
    if let Ok(Some(other)) = other.into_inner() {
        report::complain(&other);
        return false;
    }
    match found.into_inner() {
        Ok(Some((seed, what))) => {
            let needed = seed + 1 - from;
            report::say(&format!(
                "stale, as it must be beyond the bound, after {needed} seeds of at most {MOST_SEEDS}"
            ));
            report::say(&format!("seed {seed}: {what}"));
            true
        }
        Ok(None) | Err(_) => {
            report::complain(&format!("no stale read in {MOST_SEEDS} seeds, with clocks beyond the bound"));
            false
        }
    }
}
