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

/// Neighbouring records of one segment that cannot be read back: either the term of each of them is known, or of none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first bad index.
    pub first: Index,
    /// The last bad index.
    pub last: Index,
    /// The terms of these indexes, each run by its first index; empty when they are not known.
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
            && self.terms.is_empty() == next.terms.is_empty()
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
