//! The log as the core knows it: which term each index carries, kept as runs.
//!
//! ```text
//!   index   4 │ 5  6  7  8  9 10 11
//!   term    1 │ 1  1  3  3  3  3  6      base = 4@1, runs = [5@1, 7@3, 11@6], last = 11
//! ```
//!
//! Invariants: runs ascend in first index and in term; the first run starts at `base.index + 1`; no run starts
//! above `last`. A leader appends entries of its own term only, so a log holds one run per leader, not per entry.
//!
//! Where records are damaged beyond recognition the terms are *not known*: the runs say the least that they can be
//! there, and every question about such an index is answered with "unknown", which is neither a match nor a conflict.

use crate::types::{EntryId, Index, Term, TermRun};

/// Terms of the indexes from `base` to `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    base: EntryId,
    runs: Vec<TermRun>,
    last: Index,
    /// Where the terms are not known, ascending.
    unknown: Vec<Unknown>,
}

/// Neighbouring indexes whose terms are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unknown {
    first: Index,
    last: Index,
    /// They are certainly not what the leader of this term has there.
    refuted: bool,
}

impl Terms {
    /// A log of the given runs. Runs outside `base.index + 1 ..= last` are left out.
    pub(super) fn new(base: EntryId, runs: &[TermRun], last: Index) -> Self {
        let mut terms = Self { base, runs: Vec::new(), last: base.index, unknown: Vec::new() };
        terms.extend(runs, last.max(base.index));
        terms
    }

    /// The same log, of which the terms of these indexes, first to last each, are not known.
    pub(super) fn without(mut self, unknown: &[(Index, Index)]) -> Self {
        for &(first, last) in unknown {
            let (first, last) = (first.max(self.base.index.next()), last.min(self.last));
            if first > last {
                continue;
            }
            // The least it can be keeps the runs ascending whatever it will turn out to be.
            let least = self.term_at(first.prev()).unwrap_or(self.base.term);
            self.overlay(&[TermRun { first, term: least }], last);
            self.unknown.push(Unknown { first, last, refuted: false });
        }
        self
    }

    /// Where unknown entries start that cannot be the leader's, which has `runs` up to `last`: what stands behind them
    /// here is of an earlier term than the leader's entries in their places.
    pub(super) fn refuted_by(&self, runs: &[TermRun], last: Index) -> Option<Index> {
        let refuted = |unknown: &&Unknown| {
            let behind = self.term_at(unknown.last.next());
            runs.iter().enumerate().any(|(place, run)| {
                let end = runs.get(place + 1).map_or(last, |next| next.first.prev());
                run.first <= unknown.last && end >= unknown.first && behind.is_some_and(|behind| run.term > behind)
            })
        };
        self.unknown.iter().find(refuted).map(|unknown| unknown.first)
    }

    /// The unknown entries that hold `index` are not those of the leader; those up to `committed` are, though. The answer
    /// is where they start now.
    pub(super) fn refute(&mut self, index: Index, committed: Index) -> Option<Index> {
        let holds = |unknown: &Unknown| unknown.first <= index && index <= unknown.last;
        let place = self.unknown.iter().position(|unknown| holds(unknown) && unknown.last > committed)?;
        let unknown = self.unknown.remove(place);
        let refuted = Unknown { first: unknown.first.max(committed.next()), refuted: true, ..unknown };
        let kept = Unknown { last: refuted.first.prev(), ..unknown };
        let parts = [kept, refuted].into_iter().filter(|part| part.first <= part.last);
        self.unknown.splice(place..place, parts);
        Some(refuted.first)
    }

    /// Another leader may have what the one before had not.
    pub(super) fn forget_refuted(&mut self) {
        for unknown in &mut self.unknown {
            unknown.refuted = false;
        }
    }

    pub(super) const fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry; the base when there is none.
    pub(super) fn last(&self) -> EntryId {
        let term = self.runs.last().map_or(self.base.term, |run| run.term);
        EntryId::new(self.last, term)
    }

    /// Whether the entry at `index` is damaged beyond recognition.
    pub(super) fn is_unknown(&self, index: Index) -> bool {
        self.unknown_at(index).is_some()
    }

    /// Whether the entry at `index` is damaged beyond recognition and yet known not to be the leader's.
    pub(super) fn is_refuted(&self, index: Index) -> bool {
        self.unknown_at(index).is_some_and(|unknown| unknown.refuted)
    }

    fn unknown_at(&self, index: Index) -> Option<Unknown> {
        self.unknown.iter().copied().find(|unknown| unknown.first <= index && index <= unknown.last)
    }

    /// The term at `index`; `None` below the base, above the last entry, and where it is not known.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last || self.is_unknown(index) {
            return None;
        }
        self.run_at(index).map(|(run, _end)| run.term)
    }

    /// The runs over `first ..= last`; `None` when not all of them are in this log and known.
    pub(super) fn over(&self, first: Index, last: Index) -> Option<Vec<TermRun>> {
        let unknown = self.unknown.iter().any(|unknown| unknown.first <= last && unknown.last >= first);
        if unknown || first <= self.base.index || last > self.last {
            return None;
        }
        let (start, _end) = self.run_at(first)?;
        let later = self.runs.iter().filter(|run| run.first > first && run.first <= last).copied();
        Some([TermRun { first, term: start.term }].into_iter().chain(later).collect())
    }

    /// The entry at `index`, where this log knows its term.
    pub(super) fn id_at(&self, index: Index) -> Option<EntryId> {
        self.term_at(index).map(|term| EntryId::new(index, term))
    }

    /// Whether this log holds exactly this entry, and so, by Log Matching, all before it.
    pub(super) fn holds(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last known entry at or before `index` whose term is at most `term`; never before the base.
    pub(super) fn last_at_most(&self, index: Index, term: Term) -> EntryId {
        let mut end = index.min(self.last);
        for run in self.runs.iter().rev() {
            while let Some(unknown) = self.unknown_at(end) {
                end = unknown.first.prev();
            }
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
    /// Indexes at or below the base are committed and count as the same; so do those whose terms are not known here,
    /// unless refuted: entries are never cut on a mere suspicion.
    pub(super) fn first_new(&self, prev: Index, runs: &[TermRun], last: Index) -> Option<Index> {
        let mut cursor = prev.next().max(self.base.index.next());
        for (place, run) in runs.iter().enumerate() {
            let end = runs.get(place + 1).map_or(last, |next| next.first.prev());
            while cursor <= end {
                match self.unknown_at(cursor) {
                    Some(unknown) if unknown.refuted => return Some(cursor),
                    Some(unknown) => {
                        cursor = unknown.last.min(end).next();
                        continue;
                    }
                    None => {}
                }
                match self.run_at(cursor) {
                    Some((own, own_end)) if cursor <= self.last && own.term == run.term => {
                        let unknown = self.unknown.iter().find(|unknown| unknown.first > cursor);
                        let known_end = unknown.map_or(own_end, |unknown| own_end.min(unknown.first.prev()));
                        cursor = known_end.min(end).next();
                    }
                    _ => return Some(cursor),
                }
            }
        }
        None
    }

    /// Forgets everything: the log starts anew behind `base`.
    pub(super) fn restart(&mut self, base: EntryId) {
        *self = Self::new(base, &[], base.index);
    }

    /// Forgets what is at or below `base`, an entry of this log.
    pub(super) fn compact(&mut self, base: EntryId) {
        if base.index <= self.base.index {
            return;
        }
        let later = self.runs.partition_point(|run| run.first <= base.index);
        let behind = self.term_behind(base.index);
        self.runs.drain(..later);
        if let Some(term) = behind
            && self.runs.first().is_none_or(|run| run.first > base.index.next())
        {
            self.runs.insert(0, TermRun { first: base.index.next(), term });
        }
        self.unknown.retain_mut(|unknown| {
            unknown.first = unknown.first.max(base.index.next());
            unknown.first <= unknown.last
        });
        self.base = base;
        self.last = self.last.max(base.index);
    }

    /// The term that the runs say of the entry behind `index`, when there is one.
    fn term_behind(&self, index: Index) -> Option<Term> {
        if index >= self.last {
            return None;
        }
        self.run_at(index.next()).map(|(run, _end)| run.term)
    }

    /// Cuts everything above `after`, which is not below the base.
    pub(super) fn truncate(&mut self, after: Index) {
        let after = after.max(self.base.index);
        if after < self.last {
            self.runs.truncate(self.runs.partition_point(|run| run.first <= after));
            self.last = after;
            self.unknown.retain(|unknown| unknown.first <= after);
            if let Some(newest) = self.unknown.last_mut() {
                newest.last = after.min(newest.last);
            }
        }
    }

    /// Learns the terms of indexes whose terms were not known: `runs` cover up to `last`. False, and nothing changes,
    /// when they contradict what is known.
    pub(super) fn learn(&mut self, runs: &[TermRun], last: Index) -> bool {
        let Some(first) = runs.first().map(|run| run.first).filter(|first| *first > self.base.index) else {
            return false;
        };
        let agrees = last <= self.last && self.first_new(first.prev(), runs, last).is_none();
        let before = self.run_at(first.prev()).map_or(self.base.term, |(run, _end)| run.term);
        let next = self.unknown_at(last.next()).map_or(last, |unknown| unknown.last).next();
        let behind = self.term_at(next);
        if !agrees || runs.iter().any(|run| run.term < before || behind.is_some_and(|behind| run.term > behind)) {
            return false;
        }
        self.overlay(runs, last);
        let left = |Unknown { first: from, last: to, .. }: Unknown| {
            let parts = [(from, to.min(first.prev())), (from.max(last.next()), to)];
            parts.into_iter().filter(|(from, to)| from <= to)
        };
        let unknown: Vec<_> = std::mem::take(&mut self.unknown).into_iter().flat_map(left).collect();
        // What is still unknown behind can be no less than what is known now.
        *self = self.clone().without(&unknown);
        true
    }

    /// Replaces the runs over the indexes that `runs` cover, up to `last`.
    fn overlay(&mut self, runs: &[TermRun], last: Index) {
        let Some(first) = runs.first().map(|run| run.first) else { return };
        let behind = self.run_at(last.next()).filter(|_run| last < self.last).map(|(run, _end)| run.term);
        let behind = behind.map(|term| TermRun { first: last.next(), term });
        let later = self.runs.iter().filter(|run| run.first > last.next()).copied();
        let new = runs.iter().copied().chain(behind).chain(later);
        let kept = self.runs.iter().filter(|run| run.first < first).copied();
        let mut merged: Vec<TermRun> = Vec::new();
        for run in kept.chain(new) {
            if merged.last().is_none_or(|before| before.term != run.term) {
                merged.push(run);
            }
        }
        self.runs = merged;
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
    fn terms_not_known_neither_match_nor_conflict() {
        let log = sample().without(&[(Index(6), Index(7))]);
        assert_eq!(log.term_at(Index(6)), None);
        assert_eq!(log.term_at(Index(8)), Some(Term(3)));
        assert!(!log.holds(id(6, 1)), "not a match");
        assert_eq!(log.first_new(Index(5), &runs(&[(6, 2)]), Index(7)), None, "not a conflict");
        assert_eq!(log.first_new(Index(5), &runs(&[(6, 2)]), Index(8)), Some(Index(8)), "a known one behind is");
        assert_eq!(log.last_at_most(Index(7), Term(3)), id(5, 1), "no place to look for agreement");
        let mut cut = log;
        cut.truncate(Index(6));
        assert!(cut.is_unknown(Index(6)) && !cut.is_unknown(Index(7)));
        cut.truncate(Index(5));
        assert_eq!(cut, Terms::new(id(4, 1), &runs(&[(5, 1)]), Index(5)));
    }

    #[test]
    fn terms_refuted_conflict_until_another_leader_and_never_below_what_is_committed() {
        let mut log = sample().without(&[(Index(6), Index(8))]);
        assert_eq!(log.refuted_by(&runs(&[(6, 3)]), Index(9)), None, "no later than what stands behind");
        assert_eq!(log.refuted_by(&runs(&[(6, 3), (9, 4)]), Index(9)), None, "not in their places");
        assert_eq!(log.refuted_by(&runs(&[(6, 3), (8, 4)]), Index(8)), Some(Index(6)));
        let mut whole = log.clone();
        assert_eq!(whole.refute(Index(6), Index(5)), Some(Index(6)));
        assert_eq!(whole.first_new(Index(5), &runs(&[(6, 3)]), Index(8)), Some(Index(6)));
        assert_eq!(log.refute(Index(6), Index(6)), Some(Index(7)));
        assert_eq!(log.first_new(Index(5), &runs(&[(6, 3)]), Index(8)), Some(Index(7)));
        log.forget_refuted();
        assert_eq!(log.first_new(Index(5), &runs(&[(6, 3)]), Index(8)), None);
        assert_eq!(log.refute(Index(6), Index(8)), None, "all of it is committed");
    }

    /// What is not known shares a run with the least that it can be. A match with the known part of that run went over
    /// what was refuted as if it were known: the tests asked from the entry before it on.
    #[test]
    fn terms_refuted_conflict_though_the_known_entries_before_them_match() {
        let mut log = Terms::new(id(4, 1), &runs(&[(5, 1)]), Index(8)).without(&[(Index(7), Index(8))]);
        assert_eq!(log.refute(Index(7), Index(4)), Some(Index(7)));
        assert_eq!(log.first_new(Index(4), &runs(&[(5, 1), (8, 2)]), Index(8)), Some(Index(7)));
        assert_eq!(log.first_new(Index(6), &runs(&[(7, 1), (8, 2)]), Index(8)), Some(Index(7)));
    }

    #[test]
    fn terms_are_learnt_only_where_they_fit() {
        let log = sample().without(&[(Index(6), Index(7))]);
        for (learnt, last) in [(runs(&[(6, 4)]), 7), (runs(&[(6, 0)]), 7), (runs(&[(5, 2)]), 6), (runs(&[(11, 6)]), 12)]
        {
            assert!(!log.clone().learn(&learnt, Index(last)), "{learnt:?}");
        }
        let mut partly = log.clone();
        assert!(partly.learn(&runs(&[(6, 2)]), Index(6)));
        assert_eq!((partly.term_at(Index(6)), partly.term_at(Index(7))), (Some(Term(2)), None));
        assert!(!partly.clone().learn(&runs(&[(7, 1)]), Index(7)), "terms never fall");
        assert!(partly.learn(&runs(&[(7, 3)]), Index(7)));
        assert_eq!(partly, Terms::new(id(4, 1), &runs(&[(5, 1), (6, 2), (7, 3), (11, 6)]), Index(11)));
        let mut whole = log;
        assert!(whole.learn(&runs(&[(6, 1), (7, 3)]), Index(7)));
        assert_eq!(whole, sample());
    }

    #[test]
    fn terms_compacted_at_any_index_say_the_same_of_the_rest() {
        let whole = sample().without(&[(Index(8), Index(9))]);
        for base in 4..=11 {
            let mut rest = whole.clone();
            let id = EntryId::new(Index(base), sample().term_at(Index(base)).unwrap());
            rest.compact(id);
            assert_eq!((rest.base(), rest.last()), (id, whole.last()), "{base}");
            for index in base + 1..=12 {
                assert_eq!(rest.term_at(Index(index)), whole.term_at(Index(index)), "{base} {index}");
                assert_eq!(rest.is_unknown(Index(index)), whole.is_unknown(Index(index)), "{base} {index}");
            }
            assert_eq!(rest, Terms::new(id, &rest.runs, Index(11)).without(&left(&rest)), "{base}");
        }
        let mut lower = whole.clone();
        lower.compact(id(2, 1));
        assert_eq!(lower, whole, "never back");
    }

    fn left(terms: &Terms) -> Vec<(Index, Index)> {
        terms.unknown.iter().map(|unknown| (unknown.first, unknown.last)).collect()
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
