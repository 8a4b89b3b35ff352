//! Bad records as they are found one by one, and the holes that they make together.
//!
//! ```text
//!   good  │ header good, payload bad │ nothing readable │ good
//!   term 1│ term 2                   │ ?                │ term 2        ? must be 2: terms never fall
//! ```

use std::path::Path;

use super::hole::Hole;
use super::segment::header::SegmentHeader;
use crate::types::{Index, Term, TermRun};

/// Bad records: one whose bounds are known, or neighbours of which only the outer bounds are.
pub(super) struct Gap {
    pub(super) first: Index,
    pub(super) last: Index,
    /// Offset of the first byte.
    pub(super) start: u64,
    /// Offset behind the last byte.
    pub(super) end: u64,
    /// The one term of all of them, when it is known.
    pub(super) term: Option<Term>,
    /// The term of the last of them, when it is known.
    pub(super) last_term: Option<Term>,
    pub(super) reason: String,
}

/// Finds out terms between a record of term `before` and one of term `next`: where the two sides agree there is no
/// choice.
pub(super) fn identify(gaps: &mut [Gap], before: Term, next: Option<Term>) {
    let mut before = before.max(Term(1));
    for place in 0..gaps.len() {
        let behind = gaps.iter().skip(place + 1).find_map(|gap| gap.term).or(next);
        let Some(gap) = gaps.get_mut(place) else { break };
        gap.term = gap.term.or(behind.filter(|behind| *behind == before));
        before = gap.term.unwrap_or(before);
    }
}

impl Gap {
    /// The hole that it makes in a segment.
    pub(super) fn hole(self, path: &Path, segment: &SegmentHeader) -> Hole {
        Hole {
            first: self.first,
            last: self.last,
            terms: match (self.term, self.last_term) {
                (Some(term), _) => vec![TermRun { first: self.first, term }],
                (None, Some(term)) => vec![TermRun { first: self.last, term }],
                (None, None) => Vec::new(),
            },
            position: segment.position_of(self.start),
            end: segment.position_of(self.end),
            path: path.to_owned(),
            offset: self.start,
            reason: self.reason,
        }
    }
}

/// Adds the next hole, to the last one where they belong together.
pub(super) fn push(holes: &mut Vec<Hole>, hole: Hole) {
    match holes.last_mut() {
        Some(last) if last.continues_as(&hole) => last.extend(hole),
        _ => holes.push(hole),
    }
}
