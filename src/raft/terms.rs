//! The log as the core knows it: which term each index carries, kept as runs.
//!
//! ```text
//!   index   4 │ 5  6  7  8  9 10 11
//!   term    1 │ 1  1  3  3  3  3  6      base = 4@1, runs = [5@1, 7@3, 11@6], last = 11
//! ```
//!
//! Invariants: runs ascend in first index and in term; the first run starts at `base.index + 1`; no run starts
//! above `last`. A leader appends entries of its own term only, so a log holds one run per leader, not per entry.

use crate::types::{EntryId, Index, Term, TermRun};

/// Terms of the indexes from `base` to `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    base: EntryId,
    runs: Vec<TermRun>,
    last: Index,
}

impl Terms {
    /// A log of the given runs. Runs outside `base.index + 1 ..= last` are left out.
    pub(super) fn new(base: EntryId, runs: &[TermRun], last: Index) -> Self {
        let mut terms = Self { base, runs: Vec::new(), last: base.index };
        terms.extend(runs, last.max(base.index));
        terms
    }

    pub(super) const fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry; the base when there is none.
    pub(super) fn last(&self) -> EntryId {
        let term = self.runs.last().map_or(self.base.term, |run| run.term);
        EntryId::new(self.last, term)
    }

    /// The term at `index`; `None` below the base and above the last entry.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last {
            return None;
        }
        self.run_at(index).map(|(run, _end)| run.term)
    }

    /// The entry at `index`, where this log knows its term.
    pub(super) fn id_at(&self, index: Index) -> Option<EntryId> {
        self.term_at(index).map(|term| EntryId::new(index, term))
    }

    /// Whether this log holds exactly this entry, and so, by Log Matching, all before it.
    pub(super) fn holds(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last entry at or before `index` whose term is at most `term`; never before the base.
    pub(super) fn last_at_most(&self, index: Index, term: Term) -> EntryId {
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

    /// The first index of `runs`, which cover `prev + 1 ..= last`, that this log lacks or holds with another term.
    /// Indexes at or below the base are committed and count as the same.
    pub(super) fn first_new(&self, prev: Index, runs: &[TermRun], last: Index) -> Option<Index> {
        let mut cursor = prev.next().max(self.base.index.next());
        for (place, run) in runs.iter().enumerate() {
            let end = runs.get(place + 1).map_or(last, |next| next.first.prev());
            while cursor <= end {
                match self.run_at(cursor) {
                    Some((own, own_end)) if cursor <= self.last && own.term == run.term => {
                        cursor = own_end.min(end).next();
                    }
                    _ => return Some(cursor),
                }
            }
        }
        None
    }

    /// Cuts everything above `after`, which is not below the base.
    pub(super) fn truncate(&mut self, after: Index) {
        let after = after.max(self.base.index);
        if after < self.last {
            self.runs.truncate(self.runs.partition_point(|run| run.first <= after));
            self.last = after;
        }
    }

    /// Appends what of `runs` lies above the present last entry, up to `last`.
    pub(super) fn extend(&mut self, runs: &[TermRun], last: Index) {
        let first = self.last.next();
        for (place, run) in runs.iter().enumerate() {
            let end = runs.get(place + 1).map_or(last, |next| next.first.prev());
            let newest = self.runs.last().map(|own| own.term);
            if end >= first && run.first <= last && newest != Some(run.term) {
                self.runs.push(TermRun { first: run.first.max(first), term: run.term });
            }
        }
        self.last = self.last.max(last);
    }

    /// The run that `index` lies in and the last index of that run.
    fn run_at(&self, index: Index) -> Option<(TermRun, Index)> {
        let next = self.runs.partition_point(|run| run.first <= index);
        let run = *self.runs.get(next.checked_sub(1)?)?;
        let end = self.runs.get(next).map_or(self.last, |later| later.first.prev());
        Some((run, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Index(index), Term(term))
    }

    fn runs(pairs: &[(u64, u64)]) -> Vec<TermRun> {
        pairs.iter().map(|&(first, term)| TermRun { first: Index(first), term: Term(term) }).collect()
    }

    fn sample() -> Terms {
        Terms::new(id(4, 1), &runs(&[(5, 1), (7, 3), (11, 6)]), Index(11))
    }

    #[test]
    fn terms_of_each_index_are_those_of_its_run() {
        let found: Vec<Option<u64>> = (3..=12).map(|index| sample().term_at(Index(index)).map(Term::get)).collect();
        let one = |term| Some(term);
        assert_eq!(
            found,
            [None, one(1), one(1), one(1), one(3), one(3), one(3), one(3), one(6), None],
            "indexes 3 to 12"
        );
        assert_eq!(sample().last(), id(11, 6));
        assert_eq!(Terms::new(id(4, 1), &[], Index(4)).last(), id(4, 1));
    }

    #[test]
    fn terms_search_for_at_most_a_term_skips_whole_runs() {
        for (index, term, found) in
            [(11, 6, id(11, 6)), (11, 5, id(10, 3)), (9, 3, id(9, 3)), (20, 2, id(6, 1)), (8, 0, id(4, 1))]
        {
            assert_eq!(sample().last_at_most(Index(index), Term(term)), found, "{index} {term}");
        }
    }

    #[test]
    fn terms_first_new_names_the_first_difference_only() {
        let log = sample();
        for (prev, incoming, last, expected) in [
            (11, runs(&[]), 11, None),
            (6, runs(&[(7, 3)]), 9, None),
            (6, runs(&[(7, 3), (11, 6)]), 12, Some(12)),
            (6, runs(&[(7, 3), (10, 4)]), 12, Some(10)),
            (4, runs(&[(5, 2)]), 6, Some(5)),
            (1, runs(&[(2, 1)]), 4, None),
            (11, runs(&[(12, 7)]), 12, Some(12)),
        ] {
            assert_eq!(log.first_new(Index(prev), &incoming, Index(last)), expected.map(Index), "{prev} {last}");
        }
    }

    #[test]
    fn terms_cut_and_extended_merge_equal_terms_into_one_run() {
        let mut log = sample();
        log.truncate(Index(8));
        assert_eq!(log.last(), id(8, 3));
        log.extend(&runs(&[(9, 3), (10, 7)]), Index(12));
        assert_eq!(log, Terms::new(id(4, 1), &runs(&[(5, 1), (7, 3), (10, 7)]), Index(12)));
        log.truncate(Index(2));
        assert_eq!(log.last(), id(4, 1), "never below the base");
    }
}
