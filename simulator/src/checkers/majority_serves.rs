//! A majority that can reach each other, with healthy disks and clocks, has a leader and commits (thesis, 3.9 and 9.6):
//! whatever happens to the others.

use std::time::Duration;

use dledger::types::Index;

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property =
    Property { name: "majority_serves", claim: "a healthy majority has a leader and commits what it is asked to" };

/// How long a majority must have been healthy before it is held to anything, in microseconds.
const HEALTHY_FOR: u64 = 2_000_000;
/// So many leaders may be lost to it meanwhile, and each is replaced only when what was promised to him is over.
const LEADERS: u32 = 4;

/// How long a majority whose members promise their leader so much must have been healthy.
fn patience(promise: Duration) -> u64 {
    HEALTHY_FOR.saturating_add(u64::try_from((promise * LEADERS).as_micros()).unwrap_or(u64::MAX))
}

/// The last look.
#[derive(Debug, Default)]
pub(crate) struct MajorityServes {
    committed: Index,
    since: u64,
}

impl MajorityServes {
    /// Called now and then: whether a healthy majority stands at `now`, and what is committed.
    pub(crate) fn look(
        &mut self,
        now: u64,
        (healthy, leads): (bool, bool),
        committed: Index,
        promise: Duration,
    ) -> Verdict {
        if !healthy || committed > self.committed {
            (self.committed, self.since) = (committed, now);
            return Ok(());
        }
        let waited = now.saturating_sub(self.since);
        holds(waited < patience(promise), || {
            let leader = if leads { "has a leader" } else { "has no leader" };
            format!("a healthy majority {leader} and committed nothing for {} ms", waited / 1000)
        })
    }
}
