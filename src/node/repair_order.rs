//! Which holes are mended first, how many at once, and how long an answer may take.
//!
//! ```text
//!   holes      40 │ 52  53 │ 60      a snapshot covers everything up to 52
//!   waited for      52  53   60      what is covered blocks nothing, unless it stands right before one that does
//! ```
//! Deliberately absent: asking and mending; that is `repair`.

use std::path::PathBuf;
use std::time::Duration;

use crate::commitlog::Hole;
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::types::Index;

use super::repair_service::MAX_REPAIR_BYTES;

/// Holes that are asked about at once: bounds what peers must read and send beside their own work.
const MAX_AT_ONCE: usize = 4;
/// Bytes of the holes that are asked about at once, unless the first is larger. A peer gives all of it in one turn, and
/// its connection ends when more waits on it than the transport admits.
const MAX_BYTES_AT_ONCE: u64 = 4 * MAX_REPAIR_BYTES as u64;
/// How long a peer may take to answer before another is asked, and its answer counts no more: a disk that reads a few
/// megabytes is quicker. What must travel has time on top.
const PATIENCE: Duration = Duration::from_secs(1);
/// The slowest connection over which records come in time, in bytes a second.
const SLOWEST: u64 = 4 << 20;
/// The first index in a hole that no snapshot covers: one that is covered blocks nothing.
pub(super) fn first_uncovered(holes: &[Hole], covered: Index) -> Option<Index> {
    holes.iter().find(|hole| !hole.is_covered(covered)).map(|hole| hole.first.max(covered.next()))
}

/// The holes that something waits for, and the others, each in their order. What a snapshot covers counts where it stands
/// right before one that is waited for: they may share a sector, which is mended from its front on.
pub(super) fn by_need(holes: Vec<Hole>, covered: Index) -> (Vec<Hole>, Vec<Hole>) {
    let mut behind: Option<(PathBuf, Index)> = None;
    let (mut urgent, mut others): (Vec<Hole>, Vec<Hole>) = holes.into_iter().rev().partition(|hole| {
        let leads_there = behind.as_ref().is_some_and(|(path, first)| *path == hole.path && *first == hole.last.next());
        let needed = leads_there || !hole.is_covered(covered);
        behind = needed.then(|| (hole.path.clone(), hole.first));
        needed
    });
    urgent.reverse();
    others.reverse();
    (urgent, others)
}

/// The holes that are asked about beside each other, the first ones.
pub(super) fn at_once(holes: &[Hole]) -> &[Hole] {
    let mut bytes = 0;
    let fits = |(place, hole): &(usize, &Hole)| {
        bytes += bytes_of(hole);
        *place == 0 || bytes <= MAX_BYTES_AT_ONCE
    };
    let count = holes.iter().enumerate().take(MAX_AT_ONCE).take_while(fits).count();
    holes.get(..count).unwrap_or_default()
}

/// How long the answers about these holes may take: they may travel one behind the other.
pub(super) fn patience(holes: &[Hole]) -> Duration {
    let bytes: u64 = holes.iter().map(|hole| bytes_of(hole).min(u64::from(MAX_RECORD_BYTES_LIMIT))).sum();
    PATIENCE + Duration::from_secs(bytes / SLOWEST)
}

fn bytes_of(hole: &Hole) -> u64 {
    hole.end.get().saturating_sub(hole.position.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Position;

    /// A hole in each of five segments, of so many MiB.
    fn holes(sizes: [u64; 5]) -> Vec<Hole> {
        let hole = |(place, size): (u64, u64)| Hole {
            first: Index(place),
            last: Index(place),
            terms: Vec::new(),
            position: Position(place << 32),
            end: Position((place << 32) + (size << 20)),
            path: "x".into(),
            offset: 1,
            reason: String::new(),
        };
        (1..).zip(sizes).map(hole).collect()
    }

    /// Large records of four holes were asked for at once: the peer's answers overran its connection, which ended with
    /// all of them, again and again. The tests had small records only.
    #[test]
    fn repair_asks_at_once_for_no_more_than_a_connection_takes() {
        for (sizes, count) in [([1; 5], 4), ([12; 5], 1), ([48, 1, 1, 1, 1], 1), ([4, 12, 1, 1, 1], 2)] {
            assert_eq!(at_once(&holes(sizes)).len(), count, "{sizes:?}");
        }
        assert!(at_once(&[]).is_empty());
    }

    /// A record that takes longer than a second to travel was asked for without end: each answer came too late to count.
    /// In the tests everything arrives within a millisecond.
    #[test]
    fn repair_has_patience_with_large_records() {
        for (sizes, seconds) in [([0; 5], 1), ([4; 5], 5), ([48; 5], 13), ([64; 5], 13)] {
            assert_eq!(patience(at_once(&holes(sizes))), Duration::from_secs(seconds), "{sizes:?}");
        }
    }
}
