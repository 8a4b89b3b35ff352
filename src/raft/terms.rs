//! The log as the core sees it: runs of terms.
//!
//! ```text
//!   index   1 2 3 4 5 6 7 8
//!   term    1 1 1 2 2 4 4 4      runs: (1, term 1) (4, term 2) (6, term 4)   last: 8
//! ```
//! Raft compares entries by (index, term) alone (Log Matching; paper, figure 3), so the core needs no payload, no
//! size and no position: a log of any length is a handful of runs.
//!
//! Invariant: runs are ordered by index and by term, and cover `base.index + 1 ..= last` without gap.

use crate::types::{EntryId, Index, Term, TermRun};

/// Terms of the entries above the log's base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    base: EntryId,
    runs: Vec<TermRun>,
    last: Index,
}

impl Terms {
    /// A log whose entries above `base` have the terms of `runs`, up to `last`.
    #[must_use]
    pub fn new(base: EntryId, runs: Vec<TermRun>, last: Index) -> Self {
        Self { base, runs, last }
    }

    /// The entry before the first.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry; the base when there is none.
    #[must_use]
    pub fn last(&self) -> EntryId {
        EntryId::new(self.last, self.runs.last().map_or(self.base.term, |run| run.term))
    }

    /// The term at `index`; `None` below the base and above the last entry.
    #[must_use]
    pub fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first <= index);
        self.runs.get(after.checked_sub(1)?).map(|run| run.term)
    }

    /// The entry at `index`, where there is one.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<EntryId> {
        self.term(index).map(|term| EntryId::new(index, term))
    }

    /// True when this log has this very entry, and so all before it.
    #[must_use]
    pub fn holds(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The first index of the term that `index` has; at least the first index above the base.
    #[must_use]
    pub fn first_of_term_at(&self, index: Index) -> Index {
        let after = self.runs.partition_point(|run| run.first <= index);
        after.checked_sub(1).and_then(|place| self.runs.get(place)).map_or(self.base.index, |run| run.first)
    }

    /// The last entry whose term is at most `term`, at or below `index`.
    #[must_use]
    pub fn last_at_most(&self, term: Term, index: Index) -> EntryId {
        let mut end = index.min(self.last);
        for run in self.runs.iter().rev() {
            if run.first > end {
                continue;
            }
            if run.term <= term {
                return EntryId::new(end, run.term);
            }
            end = run.first.prev();
        }
        self.base
    }

    /// Runs that cover `first ..= last`; the first of them starts at `first`.
    #[must_use]
    pub fn runs(&self, first: Index, last: Index) -> Vec<TermRun> {
        let mut runs = Vec::new();
        for (place, run) in self.runs.iter().enumerate() {
            let end = self.runs.get(place + 1).map_or(self.last, |next| next.first.prev());
            if end >= first && run.first <= last {
                runs.push(TermRun { first: run.first.max(first), term: run.term });
            }
        }
        runs
    }

    /// Cuts everything above `index`.
    pub fn truncate_after(&mut self, index: Index) {
        self.runs.retain(|run| run.first <= index);
        self.last = self.last.min(index).max(self.base.index);
    }

    /// Adds `count` entries of `term`.
    pub fn extend(&mut self, term: Term, count: u64) {
        if count == 0 {
            return;
        }
        if self.last().term != term || self.runs.is_empty() {
            self.runs.push(TermRun { first: self.last.next(), term });
        }
        self.last = self.last.plus(count);
    }

    /// True when the runs are ordered and cover what they must.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let starts = self.runs.first().is_none_or(|run| run.first == self.base.index.next());
        let ordered = self.runs.is_sorted_by(|left, right| left.first < right.first && left.term < right.term);
        let ends = self.runs.last().map_or(self.last == self.base.index, |run| run.first <= self.last);
        let terms = self.runs.first().is_none_or(|run| run.term >= self.base.term);
        starts && ordered && ends && terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Terms 1 1 1 2 2 4 4 4 above an empty base.
    fn terms() -> Terms {
        let mut terms = Terms::new(EntryId::ZERO, Vec::new(), Index(0));
        terms.extend(Term(1), 3);
        terms.extend(Term(2), 2);
        terms.extend(Term(4), 3);
        terms
    }

    #[test]
    fn terms_of_every_index_are_found() {
        let terms = terms();
        let found: Vec<_> = (0..=9).map(|index| terms.term(Index(index)).map(Term::get)).collect();
        assert_eq!(found, [Some(0), Some(1), Some(1), Some(1), Some(2), Some(2), Some(4), Some(4), Some(4), None]);
        assert!(terms.is_sound());
    }

    #[test]
    fn terms_cut_inside_a_run_keep_its_first_part() {
        let mut terms = terms();
        terms.truncate_after(Index(6));
        assert_eq!(terms.last(), EntryId::new(Index(6), Term(4)));
        terms.truncate_after(Index(5));
        assert_eq!(terms.last(), EntryId::new(Index(5), Term(2)));
        terms.extend(Term(5), 1);
        assert_eq!(terms.last(), EntryId::new(Index(6), Term(5)));
        terms.truncate_after(Index(0));
        assert_eq!((terms.last(), terms.is_sound()), (EntryId::ZERO, true));
    }

    #[test]
    fn terms_last_at_most_skips_whole_later_terms() {
        let terms = terms();
        let at_most = |term, index| terms.last_at_most(Term(term), Index(index)).index.get();
        assert_eq!((at_most(4, 8), at_most(3, 8), at_most(1, 8), at_most(0, 8)), (8, 5, 3, 0));
        assert_eq!((at_most(4, 7), at_most(2, 4), at_most(9, 99)), (7, 4, 8));
    }

    #[test]
    fn terms_runs_of_a_range_start_at_its_first_index() {
        let runs = terms().runs(Index(2), Index(6));
        let pairs: Vec<_> = runs.iter().map(|run| (run.first.get(), run.term.get())).collect();
        assert_eq!(pairs, [(2, 1), (4, 2), (6, 4)]);
    }
}
