//! A simulated machine's clocks and luck.

use std::sync::atomic::{AtomicU64, Ordering};

use dledger::env::{Clock, Entropy};
use dledger::types::Monotonic;

/// Wall time at the start of every run, in milliseconds since the Unix epoch.
const WALL_START_MS: u64 = 1_700_000_000_000;
/// A clock that goes right passes so many millionths of a microsecond in each.
pub(crate) const RIGHT: u64 = 1_000_000;

/// Clocks and random numbers of one machine, moved by the world.
#[derive(Debug)]
pub(crate) struct Machine {
    monotonic: AtomicU64,
    wall_ms: AtomicU64,
    luck: AtomicU64,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        Self { monotonic: AtomicU64::new(0), wall_ms: AtomicU64::new(WALL_START_MS), luck: AtomicU64::new(seed) }
    }
}

impl Clock for Machine {
    fn monotonic(&self) -> Monotonic {
        Monotonic::from_micros(self.monotonic.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }
}

impl Entropy for Machine {
    fn next_u64(&self) -> u64 {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        let mut number = self.luck.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ (number >> 31)
    }
}

/// How one machine's clocks go: from a moment on, at a rate, from a reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    since: u64,
    reading: u64,
    /// Millionths of a microsecond that pass on this clock in each true microsecond.
    rate: u64,
    wall_offset_ms: i64,
}

impl Pace {
    /// A right clock that has been running for a while.
    pub(crate) fn starting_at(reading: u64) -> Self {
        Self { since: 0, reading, rate: RIGHT, wall_offset_ms: 0 }
    }

    /// What the monotonic clock shows at a true time.
    pub(crate) fn at(&self, now: u64) -> Monotonic {
        let passed = u128::from(now.saturating_sub(self.since)) * u128::from(self.rate) / u128::from(RIGHT);
        Monotonic::from_micros(self.reading.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// The true time at which the clock will show `reading`, or a little later.
    pub(crate) fn when(&self, reading: Monotonic) -> u64 {
        let wait = u128::from(reading.as_micros().saturating_sub(self.reading));
        let wait = (wait * u128::from(RIGHT)).div_ceil(u128::from(self.rate.max(1)));
        self.since.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// From `now` on it goes at this rate.
    pub(crate) fn go_at(&mut self, now: u64, rate: u64) {
        self.reading = self.at(now).as_micros();
        (self.since, self.rate) = (now, rate);
    }

    /// Whether it goes about right.
    pub(crate) fn is_right(&self) -> bool {
        self.rate.abs_diff(RIGHT) <= RIGHT / 20
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, milliseconds: i64) {
        self.wall_offset_ms = self.wall_offset_ms.saturating_add(milliseconds);
    }

    /// Sets a machine's clocks to a true time.
    pub(crate) fn show(&self, now: u64, machine: &Machine) {
        machine.monotonic.store(self.at(now).as_micros(), Ordering::Relaxed);
        let wall = WALL_START_MS.saturating_add(now / 1000).saturating_add_signed(self.wall_offset_ms);
        machine.wall_ms.store(wall, Ordering::Relaxed);
    }
}
