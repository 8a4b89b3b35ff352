//! Numbers of nodes that were members once. They are never given again.
//!
//! A number means one life of one disk. Were it given to another, every promise of the first one would be taken for the
//! second's: a vote that it does not remember, an entry that it never had. So a membership remembers who left.
//!
//! The set is a list of ranges, so that a cluster whose nodes are numbered in order needs one range however many came
//! and went. It is bounded: when there are too many ranges, the two that stand closest become one, and the numbers
//! between them are refused as well. That refuses numbers nobody had, and never grants one that somebody had.

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// Most ranges that are remembered one by one.
pub const MAX_RANGES: usize = 64;

/// Numbers `first ..= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    first: NodeId,
    last: NodeId,
}

/// A set of numbers that only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemovedIds {
    /// Ascending, with a gap between any two.
    ranges: Vec<Range>,
}

impl RemovedIds {
    /// Nobody left yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Whether the number is not to be given again.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.ranges.iter().any(|range| range.first <= id && id <= range.last)
    }

    /// Whether every number of `other` is here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let within = |inner: &Range| self.ranges.iter().any(|own| own.first <= inner.first && inner.last <= own.last);
        other.ranges.iter().all(within)
    }

    /// The ranges, ascending, both ends included.
    pub fn ranges(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        self.ranges.iter().map(|range| (range.first, range.last))
    }

    /// The node left.
    pub fn add(&mut self, id: NodeId) {
        if self.contains(id) {
            return;
        }
        let place = self.ranges.partition_point(|range| range.last < id);
        self.ranges.insert(place, Range { first: id, last: id });
        while let Some(place) = self.next_to_join() {
            let joined = self.ranges.remove(place + 1);
            if let Some(range) = self.ranges.get_mut(place) {
                range.last = joined.last;
            }
        }
    }

    /// The place of a range that must become one with the range behind it: they touch, or there are too many.
    fn next_to_join(&self) -> Option<usize> {
        let gap = |pair: &[Range]| match pair {
            [one, next] => next.first.get() - one.last.get() - 1,
            _ => u64::MAX,
        };
        let (gap, place) = self.ranges.windows(2).enumerate().map(|(place, pair)| (gap(pair), place)).min()?;
        (gap == 0 || self.ranges.len() > MAX_RANGES).then_some(place)
    }

    pub(super) fn is_well_formed(&self) -> bool {
        let apart = |pair: &[Range]| match pair {
            [one, next] => one.last.get().saturating_add(1) < next.first.get(),
            _ => false,
        };
        let sound = |range: &Range| !range.first.is_zero() && range.first <= range.last;
        self.ranges.len() <= MAX_RANGES && self.ranges.iter().all(sound) && self.ranges.windows(2).all(apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: impl IntoIterator<Item = u64>) -> RemovedIds {
        let mut set = RemovedIds::new();
        for id in ids {
            set.add(NodeId(id));
            assert!(set.is_well_formed(), "{set:?}");
        }
        set
    }

    #[test]
    fn removed_ids_in_any_order_are_remembered_and_neighbours_share_a_range() {
        let ids = [5, 3, 9, 4, 1];
        let set = set(ids);
        for id in 0..12 {
            assert_eq!(set.contains(NodeId(id)), ids.contains(&id), "{id}");
        }
        assert_eq!(set.ranges.len(), 3);
    }

    #[test]
    fn removed_ids_beyond_the_bound_join_the_closest_and_forget_nobody() {
        let ids = || (1..=MAX_RANGES as u64 + 1).map(|number| if number == 9 { 91 } else { number * 10 });
        let full = set(ids());
        assert_eq!(full.ranges.len(), MAX_RANGES);
        assert!(ids().all(|id| full.contains(NodeId(id))));
        let closest = (91..=100).all(|id| full.contains(NodeId(id)));
        assert!(closest && !full.contains(NodeId(15)), "only what stands between the closest two is lost");
    }

    #[test]
    fn removed_ids_out_of_order_or_touching_or_empty_are_not_well_formed() {
        let of = |ranges: &[(u64, u64)]| RemovedIds {
            ranges: ranges.iter().map(|(first, last)| Range { first: NodeId(*first), last: NodeId(*last) }).collect(),
        };
        for wrong in [&[(3, 2)][..], &[(0, 1)], &[(1, 2), (3, 4)], &[(5, 6), (1, 2)]] {
            assert!(!of(wrong).is_well_formed(), "{wrong:?}");
        }
        assert!(of(&[(1, 2), (4, 4)]).is_well_formed());
    }

    #[test]
    fn removed_ids_cover_what_they_grew_from() {
        assert!(set([1, 2, 5]).covers(&set([1, 5])));
        assert!(!set([1, 5]).covers(&set([1, 2, 5])));
    }
}
