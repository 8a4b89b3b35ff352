//! Choices drawn from a seed. Each part of a run has a stream of its own, so that a run without one fault makes the
//! same choices everywhere else.

use std::ops::Range;

/// A stream of choices.
#[derive(Clone, Debug)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    /// The stream called `name` of a run.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let name = u64::from(crc32fast::hash(name.as_bytes()));
        Self(fastrand::Rng::with_seed(seed.rotate_left(32) ^ (name << 16) ^ 0x9E37_79B9_7F4A_7C15))
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// True `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.0.u64(0..1000) < per_mille
    }

    /// A number of a range that is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        self.0.u64(range)
    }

    /// A place in a list of `count` things; 0 when it is empty.
    pub(crate) fn place(&mut self, count: usize) -> usize {
        if count == 0 { 0 } else { self.0.usize(0..count) }
    }

    /// One of a list.
    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        list.get(self.place(list.len())).copied()
    }

    /// A time around `mean`: mostly shorter, sometimes much longer, at most twenty times as long.
    pub(crate) fn around(&mut self, mean: u64) -> u64 {
        let drawn = -self.0.f64().max(1e-9).ln();
        // A time in microseconds is far below what a float holds exactly.
        (drawn.min(20.0) * mean as f64) as u64
    }
}
