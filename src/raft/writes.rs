//! What has been given to the disk and is not known to be durable (raft.md, rules 1 and 2).
//!
//! A write is named by its Ready's number, never by an index: an index may be cut and written again while the
//! first write is still under way, and the old write's completion says nothing about the new record.
//!
//! ```text
//!   Ready 3  append 5..=8       persisted(3) now means "5..=5 durable", because of the cut below;
//!   Ready 4  cut above 5,       it must not mean 6..=8, which are other records.
//!            append 6..=7
//! ```

use std::collections::VecDeque;

use crate::simulation::marks::{Mark, reach};
use crate::types::{Index, Monotonic, ReadyNumber, Vote};

/// One Ready's work for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Write {
    number: ReadyNumber,
    vote: Option<Vote>,
    /// The last index written that nothing has cut since; `None` when none is left or the Ready had no append.
    last: Option<Index>,
    first: Index,
    since: Monotonic,
}

/// What a completion made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Persisted {
    /// The newest term and vote.
    pub(super) vote: Option<Vote>,
    /// The last entry that was written and still stands.
    pub(super) last: Option<Index>,
    /// Some write ended, whatever it held.
    pub(super) any: bool,
}

/// Writes under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Writes {
    queue: VecDeque<Write>,
}

impl Writes {
    /// Notes a Ready that went to the disk; `range` is first and last index of its append.
    pub(super) fn push(
        &mut self,
        number: ReadyNumber,
        vote: Option<Vote>,
        range: Option<(Index, Index)>,
        now: Monotonic,
    ) {
        let first = range.map_or(Index::ZERO, |(first, _last)| first);
        self.queue.push_back(Write { number, vote, last: range.map(|(_first, last)| last), first, since: now });
    }

    /// Everything above `after` is cut: what is under way no longer vouches for it.
    pub(super) fn truncate(&mut self, after: Index) {
        for write in &mut self.queue {
            if write.last.is_some_and(|last| last > after) {
                reach(Mark::StaleCompletion);
            }
            write.last = write.last.map(|last| last.min(after)).filter(|last| *last >= write.first);
        }
    }

    /// Write `number`, and so every one before it, is durable. Unknown numbers change nothing.
    pub(super) fn persisted(&mut self, number: ReadyNumber) -> Persisted {
        let mut done = Persisted::default();
        while let Some(write) = self.queue.front().copied().filter(|write| write.number <= number) {
            self.queue.pop_front();
            done.any = true;
            done.vote = write.vote.or(done.vote);
            done.last = done.last.max(write.last);
        }
        done
    }

    /// When the oldest write of any kind was given to the disk.
    pub(super) fn oldest(&self) -> Option<Monotonic> {
        self.queue.front().map(|write| write.since)
    }

    /// The oldest append that still stands: its last index and when it was given to the disk.
    pub(super) fn oldest_append(&self) -> Option<(Index, Monotonic)> {
        self.queue.iter().find_map(|write| write.last.map(|last| (last, write.since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_cut_and_rewritten_are_not_vouched_for_by_the_old_write() {
        let mut writes = Writes::default();
        let at = Monotonic::from_micros(1);
        writes.push(ReadyNumber(3), None, Some((Index(5), Index(8))), at);
        writes.truncate(Index(5));
        writes.push(ReadyNumber(4), None, Some((Index(6), Index(7))), at);
        assert_eq!(writes.persisted(ReadyNumber(3)).last, Some(Index(5)));
        assert_eq!(writes.persisted(ReadyNumber(4)).last, Some(Index(7)));
    }

    #[test]
    fn writes_wholly_cut_complete_without_moving_anything() {
        let mut writes = Writes::default();
        let at = Monotonic::from_micros(1);
        writes.push(ReadyNumber(1), None, Some((Index(5), Index(8))), at);
        writes.truncate(Index(4));
        assert_eq!(writes.oldest_append(), None);
        assert_eq!(writes.persisted(ReadyNumber(1)), Persisted { vote: None, last: None, any: true });
    }

    #[test]
    fn writes_complete_up_to_the_number_and_repeat_harmlessly() {
        let mut writes = Writes::default();
        let at = Monotonic::from_micros(1);
        let vote = |term: u64| Some(Vote { term: term.into(), voted_for: 1.into() });
        writes.push(ReadyNumber(1), vote(1), None, at);
        writes.push(ReadyNumber(2), vote(2), Some((Index(1), Index(1))), at);
        writes.push(ReadyNumber(5), None, Some((Index(2), Index(9))), at);
        let done = writes.persisted(ReadyNumber(4));
        assert_eq!((done.vote, done.last), (vote(2), Some(Index(1))));
        assert!(!writes.persisted(ReadyNumber(4)).any);
        assert_eq!(writes.oldest_append(), Some((Index(9), at)));
    }
}
