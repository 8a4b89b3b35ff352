//! Reads: how fresh each must be, how it gets there, and what is checked of it.
//!
//! | asked for | goes by | checked |
//! |---|---|---|
//! | linearizable, lease | a round; the leader's lease | the history is linearizable |
//! | stale, with a bound | the node's last read index, or a round | it shows what was acknowledged that long before (`bounded`) |
//! | stale | what the node has | nothing: any state is one that was |
//!
//! A caller on a thread of its own does not ask the event loop when it need not (`node/fresh.rs`). One on a machine that
//! stands still stands still as well.

use std::time::Duration;

use dledger::Consistency;
use dledger::raft::ReadBy;
use dledger::simulation::Answer as Told;
use dledger::types::{Index, Monotonic};

use super::World;
use crate::checkers::bounded::{self, Bounded};
use crate::profile::Profile;
use crate::random::Random;

/// How fresh reads of a run must be.
#[derive(Debug)]
pub(super) struct Reads {
    random: Random,
    /// Of a thousand reads, those by lease, with a bound, and stale; the others are linearizable.
    shares: [u64; 3],
    pub(super) bounded: Bounded,
}

impl Reads {
    pub(super) fn new(seed: u64, profile: &Profile) -> Self {
        let shares = if profile.has_readers() {
            [600, 150, 50]
        } else if profile.read_lease.is_zero() {
            [30, 150, 20]
        } else {
            [300, 150, 20]
        };
        Self { random: Random::new(seed, "reads"), shares, bounded: Bounded::default() }
    }

    /// How fresh the next one must be.
    pub(super) fn consistency(&mut self) -> Consistency {
        let [lease, bounded, stale] = self.shares;
        let drawn = self.random.within(0..1000);
        if drawn < lease {
            Consistency::Lease
        } else if drawn < lease + bounded {
            let millis = self.random.pick(&[1, 10, 50, 200, 1000]).unwrap_or(50);
            Consistency::StaleWithin(Duration::from_millis(millis))
        } else if drawn < lease + bounded + stale {
            Consistency::Stale
        } else {
            Consistency::Linearizable
        }
    }
}

/// Whether a read like this has its place in the one order of all operations.
pub(super) fn is_linearizable(consistency: Consistency) -> bool {
    match consistency {
        Consistency::Linearizable | Consistency::Lease => true,
        Consistency::StaleWithin(_) | Consistency::Stale => false,
    }
}

impl World {
    /// A caller reads as soon as the node says that it may.
    pub(super) fn ask_to_read(&mut self, node: usize, ticket: u64, consistency: Consistency, deadline: Monotonic) {
        let now = self.now;
        let Some(it) = self.nodes.get(node).filter(|it| it.process.is_some()) else { return };
        let (clock, awake) = (it.clock(now), it.still_until <= now);
        let process = it.process.as_ref().filter(|_process| awake);
        let (at_once, mark) = match consistency {
            Consistency::Linearizable => (false, ""),
            Consistency::Lease => (process.is_some_and(|it| it.reads_by_lease(clock)), "seen: lease read at once"),
            Consistency::StaleWithin(bound) => {
                (process.is_some_and(|it| it.reads_within(bound, clock)), "seen: bounded read at once")
            }
            Consistency::Stale => (process.is_some(), "seen: stale read"),
        };
        if at_once {
            self.marks.met(mark);
            return self.answer(node, ticket, Told::Read(Ok(Index::ZERO)));
        }
        let by = if consistency == Consistency::Lease { ReadBy::Lease } else { ReadBy::Round };
        self.input(node, |process, _now| process.read(ticket, by, deadline));
    }

    /// What a read with a bound shows, by the clock of its node: whose clock goes slowly may take longer for it.
    pub(super) fn check_bounded(&mut self, node: usize, bound: Duration, asked: u64) {
        let Some(watch) = self.nodes.get(node).and_then(|it| it.watch.as_ref()) else { return };
        let shown = watch.reader.view().applied();
        let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let verdict = self.reads.bounded.shows(shown, asked, self.profile.longest(bound));
        self.judge(bounded::PROPERTY, verdict);
    }
}
