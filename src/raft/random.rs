//! The core's only source of chance: a small seeded generator, so that a run can be repeated from its seed.
//!
//! It spreads election timeouts and names questions. Nothing secret comes from it.

use std::time::Duration;

/// A generator of the SplitMix64 kind: one 64-bit counter, mixed on the way out.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(super) const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time from zero to `most`, both included, in whole microseconds.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.number() % micros.saturating_add(1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_of_one_seed_repeats_and_of_two_differs() {
        let (mut first, mut same, mut other) = (Random::new(7), Random::new(7), Random::new(8));
        let drawn: Vec<u64> = (0..8).map(|_| first.number()).collect();
        assert_eq!(drawn, (0..8).map(|_| same.number()).collect::<Vec<_>>());
        assert_ne!(drawn, (0..8).map(|_| other.number()).collect::<Vec<_>>());
    }

    #[test]
    fn random_time_stays_within_its_bound_and_reaches_both_ends() {
        let mut random = Random::new(1);
        let drawn: Vec<u128> = (0..200).map(|_| random.up_to(Duration::from_micros(3)).as_micros()).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&0), Some(&3)));
        assert_eq!(random.up_to(Duration::ZERO), Duration::ZERO);
    }
}
