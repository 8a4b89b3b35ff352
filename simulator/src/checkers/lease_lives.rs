//! A lease lives its time to live from when it was last renewed, by log time, which passes no faster than the fastest clock
//! (log_time.rs), and not much longer once there is a leader again (faults.md, row 26).

use std::collections::BTreeMap;

use dledger::types::{LeaseId, LogTime};

use super::log_time::FASTEST;
use super::{Property, Verdict, holds};
use crate::plain::Lease;

pub(crate) const PROPERTY: Property = Property {
    name: "lease_lives",
    claim: "no lease ends before its time, by the fastest clock; none outlives it for long once there is a leader (kv.md)",
};

/// How long after the faults there may be no leader yet, in microseconds: log time stands still until then.
const LINGERS: u64 = 1_200_000;
/// How long the no-op that ends a lease may take, and those that end the rest of a large one.
const PROMPT: u64 = 300_000;

/// Whether a lease certainly lives at `now`, which was renewed by what was asked for at `renewed`.
pub(crate) fn certainly(renewed: u64, ttl_ms: u64, now: u64) -> bool {
    // Milliseconds of a run are far below what a float holds exactly.
    let shortest = (ttl_ms as f64 * 1000.0 / FASTEST) as u64;
    now < renewed + shortest
}

/// Its holder is told that it has ended.
pub(crate) fn ended(lease: LeaseId, lives: bool, what: &str) -> Verdict {
    holds(!lives, || format!("lease {lease} ended before its time: {what}"))
}

/// A key that was written without a lease after it had one is gone.
pub(crate) fn freed(lease: LeaseId) -> Verdict {
    Err(format!("a key that lived with lease {lease} once, and was written without one, is gone"))
}

/// When each lease that is there was last renewed.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    seen: BTreeMap<LeaseId, (LogTime, u64)>,
}

impl Renewals {
    /// A look at `now` at the leases that are there, after faults ended at `healed`.
    pub(crate) fn look<'a>(
        &mut self,
        leases: impl Iterator<Item = (LeaseId, &'a Lease)>,
        healed: u64,
        now: u64,
    ) -> Verdict {
        let before = std::mem::take(&mut self.seen);
        let mut verdict = Ok(());
        for (id, lease) in leases {
            let known = before.get(&id).filter(|(deadline, _at)| *deadline == lease.deadline);
            let renewed = known.map_or(now, |(_deadline, at)| *at);
            self.seen.insert(id, (lease.deadline, renewed));
            let latest = renewed.max(healed + LINGERS) + lease.ttl_ms * 1000 + PROMPT;
            verdict = verdict.and(holds(now <= latest, || {
                format!("lease {id} of {} ms is still there {} us after it should be gone", lease.ttl_ms, now - latest)
            }));
        }
        verdict
    }
}
