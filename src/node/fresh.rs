//! What readers on any thread may go by without asking the event loop: the leader's lease, and the last read index.
//!
//! ```text
//!   event loop:  turn ─► show: committed, applied; then lease, question ─► messages and answers leave
//!   reader:      called ─► lease, clock ─► committed ─► applied reached it? ─► reads
//! ```
//! # Why it is linearizable
//! Nobody is told that an entry is committed before `committed` shows it: neither a caller here, nor a follower, who may
//! have a caller of its own. A reader that finds the lease valid by a clock that it looked at *after* it was called knows
//! that up to then nobody else has committed anything; so what `committed` shows from then on holds everything that was
//! acknowledged before the call. Whatever happens between that look and the read itself (the thread may stand still for an
//! hour) can only show it something newer. A leader that gives its lease away shows that before it says so to anybody.
//!
//! # Why a bound holds on one clock
//! A read index is at least everything that was acknowledged before its question was asked, and stays so for ever. A
//! reader that is content with what is `D` old may go by any question asked no longer than `D` before it was called, by
//! this machine's own clock; when the answer came does not matter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::types::{Index, Monotonic};

/// A read index, and when its question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    pub(crate) asked: Monotonic,
    pub(crate) index: Index,
}

/// What a replica is at the end of a turn, as far as readers need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) committed: Index,
    pub(crate) applied: Index,
    pub(crate) lease_until: Option<Monotonic>,
    pub(crate) confirmed: Option<Confirmed>,
}

/// Shown by one thread, read by all.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    committed: AtomicU64,
    applied: AtomicU64,
    /// Microseconds; 0 without a lease.
    lease_until: AtomicU64,
    confirmed: AtomicU64,
    /// One more than the microseconds; 0 before the first.
    asked: AtomicU64,
}

impl Fresh {
    /// Shows what holds now. To be called before anything leaves that the same turn has led to.
    pub(crate) fn show(&self, shown: Shown) {
        // What a reader looks at first is stored last.
        self.applied.store(shown.applied.get(), Ordering::Release);
        self.committed.store(shown.committed.get(), Ordering::Release);
        self.lease_until.store(shown.lease_until.map_or(0, Monotonic::as_micros), Ordering::Release);
        if let Some(Confirmed { asked, index }) = shown.confirmed {
            self.confirmed.store(index.get(), Ordering::Release);
            self.asked.store(asked.as_micros().saturating_add(1), Ordering::Release);
        }
    }

    /// The index that the state must show for a lease read, when this node has a lease at `now`, a time at or after the
    /// call.
    pub(crate) fn leased(&self, now: Monotonic) -> Option<Index> {
        let until = self.lease_until.load(Ordering::Acquire);
        (now.as_micros() < until).then(|| Index(self.committed.load(Ordering::Acquire)))
    }

    /// The index that the state must show for a read with a bound that was called at `now`, when it is known.
    pub(crate) fn within(&self, bound: Duration, now: Monotonic) -> Option<Index> {
        let asked = Monotonic::from_micros(self.asked.load(Ordering::Acquire).checked_sub(1)?);
        (now.since(asked) <= bound).then(|| Index(self.confirmed.load(Ordering::Acquire)))
    }

    /// What is applied, and visible, at least.
    pub(crate) fn applied(&self) -> Index {
        Index(self.applied.load(Ordering::Acquire))
    }

    /// For a plant: a lease that was shown, whatever the time.
    #[cfg(feature = "simulation")]
    pub(crate) fn lease_shown(&self) -> Option<Monotonic> {
        Some(Monotonic::from_micros(self.lease_until.load(Ordering::Acquire))).filter(|until| until.as_micros() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(millis * 1000)
    }

    fn shown(lease_until: Option<Monotonic>, confirmed: Option<Confirmed>) -> Shown {
        Shown { committed: Index(9), applied: Index(8), lease_until, confirmed }
    }

    #[test]
    fn fresh_lease_ends_with_its_time_and_when_it_is_taken_back() {
        let fresh = Fresh::default();
        assert_eq!(fresh.leased(at(0)), None);
        fresh.show(shown(Some(at(10)), None));
        assert_eq!((fresh.leased(at(9)), fresh.leased(at(10))), (Some(Index(9)), None));
        fresh.show(shown(None, None));
        assert_eq!((fresh.leased(at(1)), fresh.applied()), (None, Index(8)));
    }

    #[test]
    fn fresh_bound_counts_from_the_question_and_a_later_turn_forgets_nothing() {
        let fresh = Fresh::default();
        assert_eq!(fresh.within(Duration::MAX, at(0)), None);
        fresh.show(shown(None, Some(Confirmed { asked: at(0), index: Index(5) })));
        fresh.show(shown(None, None));
        let bound = Duration::from_millis(7);
        assert_eq!((fresh.within(bound, at(7)), fresh.within(bound, at(8))), (Some(Index(5)), None));
    }
}
