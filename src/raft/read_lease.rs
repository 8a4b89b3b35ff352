//! Lease reads: a leader that a quorum has promised its patience reads without a round (thesis, 6.4.1).
//!
//! ```text
//!   leader's clock    sent s ├──────────── lease: 4/5 T ───────────┤ reads by a round again
//!                        \            / answers of a quorum
//!   follower's clock      └ heard h ├──────────── promise: T ──────────────────┤ may vote and stand again
//! ```
//! `T` is the cluster's [`Membership::read_lease`](super::Membership::read_lease): fixed when the cluster is formed, so that
//! every node that has heard of the cluster knows it, whatever it has forgotten otherwise. Zero: there are no leases.
//!
//! **The promise.** A node that answers a heartbeat votes for nobody and does not stand for `T`. Unlike stickiness, which
//! is for peace, nothing ends it but time: not a closed connection, not a later term that it hears of, and not a restart,
//! after which it is taken to have promised just before. Only a hand-over passes it, since a leader ends its lease first.
//!
//! **The lease** counts from when the heartbeat was *sent*, by the leader's clock: what a quorum has answered since it was
//! received after that. Anybody else's election needs a voter of that quorum (of both, while voters change: it is taken
//! anew from the membership in force at each look), and that one refuses for `T` from a later moment on. So while the
//! lease lasts nobody else commits, and what this leader knows to be committed is all that anybody was told.
//!
//! **The clocks.** All that is asked of them is that no member's runs more than a quarter faster than the leader's: true
//! when each is within a ninth of true time, since 10/9 are 5/4 of 8/9. A crystal is off by a ten-thousandth; a time
//! daemon that slews hard (chrony's default limit is a twelfth) stays within. Beyond it a lease read may be stale. A clock
//! that stands still while others go on breaks it as well: that of a virtual machine that was suspended as a whole, say.
//!
//! A leader that has handed over, in vain, has no lease for the rest of its term: its word that another may pass all
//! promises is under way, and may arrive at any time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::simulation::plants::Plant;
use crate::types::{Monotonic, Role};

use super::core::Raft;
use super::leadership::State;

/// How a read is made linearizable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadBy {
    /// A round of heartbeats confirms that the leader still leads.
    Round,
    /// The leader's lease does, while it has one; else a round.
    Lease,
}

/// Of each promise the leader counts all but one part in so many: the drift between two clocks that it allows for.
const DRIFT_PARTS: u32 = 5;

/// Rounds whose times are remembered. More are under way only when answers take longer than any lease.
const MOST_ROUNDS: usize = 128;

/// How long a promise counts for the leader to whom it was made.
fn counted(promise: Duration) -> Duration {
    promise.saturating_sub(promise / DRIFT_PARTS)
}

/// What this node has promised the leaders that it heard.
#[derive(Debug)]
pub(super) struct Promise {
    /// When it answered a heartbeat last; the start of the node before the first.
    since: Monotonic,
}

impl Promise {
    /// What an earlier life has promised is not known: as much as may be.
    pub(super) const fn of_earlier_life(now: Monotonic) -> Self {
        Self { since: now }
    }
}

/// When an office's rounds were sent, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Lease {
    sent: VecDeque<(u64, Monotonic)>,
    /// Somebody was told that he may pass the promises.
    ended: bool,
    /// When a heartbeat was answered last: for a plant.
    heard: Monotonic,
}

impl Lease {
    pub(super) const fn new() -> Self {
        Self { sent: VecDeque::new(), ended: false, heard: Monotonic::from_micros(0) }
    }

    /// Round `round` leaves now.
    pub(super) fn sent(&mut self, round: u64, now: Monotonic) {
        if self.sent.len() == MOST_ROUNDS {
            self.sent.pop_front();
        }
        self.sent.push_back((round, now));
    }

    pub(super) const fn heard(&mut self, now: Monotonic) {
        self.heard = now;
    }

    /// When the last of the remembered rounds up to `round` was sent.
    fn sent_at(&self, round: u64) -> Option<Monotonic> {
        let upto = self.sent.partition_point(|(sent, _at)| *sent <= round);
        self.sent.get(upto.checked_sub(1)?).map(|(_round, at)| *at)
    }
}

impl Raft {
    /// Until when, by this node's clock, what it knows to be committed is all that is committed anywhere, as long as it
    /// leads; `None` where it has no lease. The end of an office and a hand-over take it back: whoever goes by it on
    /// another thread must be told of that before any message of the same Ready leaves.
    #[must_use]
    pub fn read_lease_until(&self) -> Option<Monotonic> {
        let State::Leader(office) = &self.state else { return None };
        let promise = self.read_lease();
        let knows_all = self.committed >= office.first_own || self.plants.has(Plant::LeaseBeforeOwnCommit);
        if promise.is_zero() || office.lease.ended || !knows_all {
            return None;
        }
        let sent = office.lease.sent_at(self.confirmed_round())?;
        let from = if self.plants.has(Plant::LeaseFromAnswer) { office.lease.heard.max(sent) } else { sent };
        Some(from.after(counted(promise)))
    }

    pub(super) fn holds_read_lease(&self) -> bool {
        self.read_lease_until().is_some_and(|until| self.now < until)
    }

    /// Ends this office's lease for good: a hand-over is about to leave.
    pub(super) fn end_read_lease(&mut self) {
        if let State::Leader(office) = &mut self.state
            && !self.plants.has(Plant::LeaseKeptInTransfer)
        {
            office.lease.ended = true;
        }
    }

    /// The leader is heard and about to be answered.
    pub(super) const fn promise(&mut self) {
        self.promise = Promise { since: self.now };
    }

    /// A connection to the leader has closed: nothing, but for a plant.
    pub(super) fn promise_outlives_connection(&mut self) {
        if self.plants.has(Plant::PromiseEndsWithConnection) {
            self.promise.since = Monotonic::default();
        }
    }

    /// Until when this node keeps a promise to vote for nobody and not to stand; `None` when it is free.
    pub(super) fn bound_until(&self) -> Option<Monotonic> {
        let until = self.promise.since.after(self.read_lease());
        (self.now < until && self.role() != Role::Leader).then_some(until)
    }

    fn read_lease(&self) -> Duration {
        self.memberships.latest().map_or(Duration::ZERO, |latest| latest.read_lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(millis * 1000)
    }

    #[test]
    fn lease_counts_four_fifths_of_a_promise() {
        assert_eq!(counted(Duration::from_millis(500)), Duration::from_millis(400));
        assert_eq!(counted(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn lease_of_a_round_that_is_not_remembered_counts_from_an_earlier_one_or_not_at_all() {
        let mut lease = Lease::new();
        assert_eq!(lease.sent_at(3), None);
        let rounds = MOST_ROUNDS as u64 + 2;
        (1..=rounds).for_each(|round| lease.sent(round * 2, at(round)));
        assert_eq!(lease.sent_at(4), None, "forgotten");
        assert_eq!(lease.sent_at(6), Some(at(3)));
        assert_eq!(lease.sent_at(9), Some(at(4)), "round 9 was never sent by itself");
        assert_eq!(lease.sent_at(u64::MAX), Some(at(rounds)));
    }
}
