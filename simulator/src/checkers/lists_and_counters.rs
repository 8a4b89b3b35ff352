//! What is appended stands in its list once, in one order for all; what is counted is counted once. Both show a write that
//! was done twice, or never, where a register shows nothing.

use histories::{counters, lists};

use super::{Property, Verdict};

pub(crate) const PROPERTY: Property = Property {
    name: "lists_and_counters",
    claim: "lists and counters are linearizable: each append and each count is done once (faults.md, row 18)",
};

/// The histories of a run.
pub(crate) fn finish(lists: &[lists::Operation], counters: &[counters::Operation]) -> Verdict {
    lists::check(lists).map_err(|wrong| wrong.to_string())?;
    counters::check(counters).map_err(|wrong| wrong.to_string())?;
    Ok(())
}
