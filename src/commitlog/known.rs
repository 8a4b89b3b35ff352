//! The holes that are known: found at opening, by a read, or by the scrub; until they are mended or cut away.
//!
//! Readers look here first and leave a hole's bytes alone. Whoever changes what is known does so in turn with the
//! writer's cuts and mends, so that nothing is noted of a segment that is gone or whole by now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::hole::Hole;
use crate::types::{Index, Position};

/// The known holes of one log.
pub(super) struct Known {
    holes: ArcSwap<Vec<Hole>>,
    changing: Mutex<()>,
}

/// The right to change what is known.
pub(super) struct Change<'a> {
    known: &'a Known,
    _turn: MutexGuard<'a, ()>,
}

impl Known {
    /// Starts with the holes that opening has found, in index order.
    pub(super) fn new(holes: Vec<Hole>) -> Self {
        Self { holes: ArcSwap::from_pointee(holes), changing: Mutex::new(()) }
    }

    /// All holes in index order.
    pub(super) fn all(&self) -> Arc<Vec<Hole>> {
        self.holes.load_full()
    }

    /// The hole that holds an index.
    pub(super) fn holding(&self, index: Index) -> Option<Hole> {
        self.from(index).filter(|hole| hole.holds(index))
    }

    /// The hole that a position stands in.
    pub(super) fn around(&self, position: Position) -> Option<Hole> {
        let holes = self.holes.load();
        let behind = holes.partition_point(|hole| hole.end <= position);
        holes.get(behind).filter(|hole| hole.position <= position).cloned()
    }

    /// The first hole that ends at or behind an index.
    pub(super) fn from(&self, index: Index) -> Option<Hole> {
        let holes = self.holes.load();
        holes.get(holes.partition_point(|hole| hole.last < index)).cloned()
    }

    /// Waits for its turn to change them; reading never waits.
    pub(super) fn change(&self) -> Change<'_> {
        let turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        Change { known: self, _turn: turn }
    }
}

impl Change<'_> {
    /// Puts `holes`, in index order, in the place of whatever is known of indexes `first` to `last`; a hole that
    /// reaches out of that range is replaced as a whole.
    pub(super) fn replace(&self, (first, last): (Index, Index), holes: Vec<Hole>) {
        let known = self.known.holes.load();
        let below = known.iter().filter(|hole| hole.last < first).cloned();
        let above = known.iter().filter(|hole| hole.first > last).cloned();
        self.known.holes.store(Arc::new(below.chain(holes).chain(above).collect()));
    }

    /// Forgets everything above an index that now ends at a position.
    pub(super) fn cut(&self, last: Index, end: Position) {
        let known = self.known.holes.load();
        let kept = known.iter().filter(|hole| hole.first <= last).map(|hole| hole.clipped(last, end));
        self.known.holes.store(Arc::new(kept.collect()));
    }
}
