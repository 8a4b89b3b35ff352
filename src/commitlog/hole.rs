//! Holes: records below the durable end that cannot be read back, and what is still known of them.
//!
//! ```text
//!   index      40   41   42   43   44        first = 42, last = 43
//!            ──┬────┬────┬────┬────┬──       position = where 42 starts
//!              │ ok │ ok │ ?? │ ?? │ ok      end = where 44 starts
//!            ──┴────┴────┴────┴────┴──       terms: from headers, else footer, slot or agreeing neighbours
//! ```
//! A hole is mended by whole records of the same identities, positions and total length ([`super::WriteBatch`]), or
//! goes when the log is cut below it.

use std::path::PathBuf;

use crate::error::{OpenError, ReadError};
use crate::types::{EntryId, Index, Position, TermRun};

/// Neighbouring records of one segment that cannot be read back: the term of each of them is known, or of none, or of the
/// last one alone, which a slot or the next segment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first bad index.
    pub first: Index,
    /// The last bad index.
    pub last: Index,
    /// The terms of these indexes, each run by its first index. Those before the first run are not known.
    pub terms: Vec<TermRun>,
    /// Where the first bad record starts in the whole log.
    pub position: Position,
    /// Where the last bad record ends in the whole log.
    pub end: Position,
    /// The segment file.
    pub path: PathBuf,
    /// Byte offset of the first bad record in that file.
    pub offset: u64,
    /// What is wrong, for a person.
    pub reason: String,
}

impl Hole {
    /// Whether an index lies in it.
    #[must_use]
    pub fn holds(&self, index: Index) -> bool {
        self.first <= index && index <= self.last
    }

    /// The first and the last of the indexes whose terms are not known.
    #[must_use]
    pub fn unknown(&self) -> Option<(Index, Index)> {
        let behind = self.terms.first().map_or(self.last.next(), |run| run.first);
        (self.first < behind).then(|| (self.first, behind.prev()))
    }

    /// Whether a record that ends at this position may be the last one of unknown term; false where none is.
    #[must_use]
    pub fn may_end_unknown(&self, end: Position) -> bool {
        match self.unknown() {
            Some((_first, last)) if last < self.last => self.position < end && end < self.end,
            Some(_all) => end == self.end,
            None => false,
        }
    }

    /// Whether a verified snapshot up to `covered` makes all of it needless: then it blocks nothing, although only
    /// mending, a purge or a reset ends it.
    #[must_use]
    pub fn is_covered(&self, covered: Index) -> bool {
        self.last <= covered
    }

    /// The identity of one of its indexes, when it is known.
    #[must_use]
    pub fn identity(&self, index: Index) -> Option<EntryId> {
        if !self.holds(index) {
            return None;
        }
        let run = self.terms.iter().rev().find(|run| run.first <= index)?;
        Some(EntryId { index, term: run.term })
    }

    /// Why a node that has no peers does not start with it, and the way out.
    #[must_use]
    pub fn refusal(&self) -> OpenError {
        let (path, reason) = (self.path.clone(), self.reason.clone());
        OpenError::Unmendable { path, offset: self.offset, index: self.first, reason }
    }

    /// The same with its terms taken from runs that cover all of it.
    pub(super) fn with_terms(self, runs: &[TermRun]) -> Self {
        let term = runs.iter().rev().find(|run| run.first <= self.first).map(|run| run.term);
        let here = term.map(|term| TermRun { first: self.first, term });
        let later = runs.iter().filter(|run| self.first < run.first && run.first <= self.last).copied();
        Self { terms: here.into_iter().chain(later).collect(), ..self }
    }

    /// The error of reading one of its indexes.
    pub(super) fn damage(&self, index: Index) -> ReadError {
        let (path, reason) = (self.path.clone(), self.reason.clone());
        ReadError::Damaged { path, offset: self.offset, index, reason }
    }

    /// True when `next` starts where this one ends, and as much is known of it.
    pub(super) fn continues_as(&self, next: &Self) -> bool {
        (self.path == next.path && self.last.next() == next.first && self.end == next.position)
            && self.unknown().is_none() == next.unknown().is_none()
    }

    /// What is left of it when the log is cut after `last`, which ends at `end`.
    pub(super) fn clipped(&self, last: Index, end: Position) -> Self {
        if self.last <= last {
            return self.clone();
        }
        let terms = self.terms.iter().filter(|run| run.first <= last).copied().collect();
        Self { last, end, terms, ..self.clone() }
    }

    /// Takes in the hole that continues it.
    pub(super) fn extend(&mut self, next: Self) {
        let known = self.terms.last().map(|run| run.term);
        self.terms.extend(next.terms.into_iter().filter(|run| Some(run.term) != known));
        (self.last, self.end) = (next.last, next.end);
    }
}

/// Whether a log with these terms between `base` and `last`, and these holes in index order, has an entry; of one in a
/// hole of unknown terms: whether it may have it ([`super::LogState::has`]).
pub(super) fn holds((runs, holes): (&[TermRun], &[Hole]), (base, last): (EntryId, EntryId), entry: EntryId) -> bool {
    if entry.index <= base.index || entry.index > last.index {
        return entry == base;
    }
    let term_at = |index: Index| runs.iter().rev().find(|run| run.first <= index).map(|run| run.term);
    let mut behind = entry.index;
    for (first, last) in holes.iter().filter_map(Hole::unknown) {
        if first <= behind && behind <= last {
            behind = last.next();
        }
    }
    let is_unknown = behind > entry.index && behind <= last.index;
    // What the runs say of such a hole is the least that its terms can be.
    term_at(entry.index).is_some_and(|least| {
        let most = term_at(behind).filter(|_term| is_unknown).unwrap_or(least);
        least <= entry.term && entry.term <= most
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    #[test]
    fn entry_in_a_hole_of_unknown_terms_is_there_when_its_term_fits_between_those_around() {
        let run = |first, term| TermRun { first: Index(first), term: Term(term) };
        let hole = |first, last, terms: &[TermRun]| {
            let (terms, path) = (terms.to_vec(), PathBuf::new());
            let (first, last, position, end) = (Index(first), Index(last), Position(0), Position(1));
            Hole { first, last, terms, position, end, path, offset: 0, reason: String::new() }
        };
        let id = |index, term| EntryId::new(Index(index), Term(term));
        // 11 ... 14 of term 2, 15 to 17 unknown in two files, 18 of term 5 though damaged, 19 good, 20 unknown.
        let runs = [run(11, 2), run(18, 5)];
        let holes = [hole(15, 15, &[]), hole(16, 18, &[run(18, 5)]), hole(20, 20, &[])];
        let has = |entry| holds((&runs, &holes), (id(10, 2), id(20, 5)), entry);
        for (index, least, most) in [(10, 2, 2), (14, 2, 2), (15, 2, 5), (17, 2, 5), (18, 5, 5), (19, 5, 5), (20, 5, 5)]
        {
            for term in 1..=6 {
                assert_eq!(has(id(index, term)), (least..=most).contains(&term), "{index}@{term}");
            }
        }
        assert!(!has(id(9, 2)) && !has(id(21, 5)));
    }
}
