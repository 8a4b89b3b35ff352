//! Writes that this leader took and whose callers wait.
//!
//! A caller waits under (index, term) and never under an index alone (raft.md, rule 5): an entry of another term
//! applied at its index, or a truncation, means that its own entry is gone from this log. It may still live in
//! another log, so the caller hears "unknown", never "done" and never "failed".
//!
//! Invariant: writes are ordered by index and do not overlap.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::error::WriteError;
use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::{Plant, Plants};
use crate::types::{EntryId, Index, Monotonic, NodeId, Position};

use super::effects::{Proposed, Ticket};

/// Who waits for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A caller of this node.
    Local(Ticket),
    /// A follower that forwarded the write, under its own number.
    Peer {
        /// The follower.
        node: NodeId,
        /// Its name for the write.
        number: u64,
    },
}

/// A write whose outcome is known, or is now known to be unknowable.
pub(crate) type Settled = (Origin, Result<Proposed, WriteError>);

#[derive(Debug)]
struct Waiting {
    origin: Origin,
    deadline: Monotonic,
    write: Proposed,
}

/// The waiting writes.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    plants: Plants,
    waiting: VecDeque<Waiting>,
}

impl Pending {
    /// Nobody waits; some rule may be broken.
    pub(crate) fn with(plants: Plants) -> Self {
        Self { plants, ..Self::default() }
    }

    /// `origin` waits for entries from `first` on, whose records stand at `positions`.
    pub(crate) fn insert(&mut self, origin: Origin, first: EntryId, positions: Vec<Position>, deadline: Monotonic) {
        debug_assert!(self.waiting.back().is_none_or(|last| last.write.last() < first.index), "ordered by index");
        let answers = Vec::with_capacity(positions.len());
        self.waiting.push_back(Waiting { origin, deadline, write: Proposed { first, positions, answers } });
    }

    /// Entry `id` was applied here with `answer`.
    pub(crate) fn applied(&mut self, id: EntryId, answer: &Bytes, settled: &mut Vec<Settled>) {
        while let Some(front) = self.waiting.front_mut() {
            if front.write.first.index > id.index {
                return;
            }
            let own = front.write.first.term == id.term || self.plants.has(Plant::DoneUnderIndex);
            if own && id.index <= front.write.last() {
                front.write.answers.push(answer.clone());
                if id.index == front.write.last()
                    && let Some(done) = self.waiting.pop_front()
                {
                    settled.push((done.origin, Ok(done.write)));
                }
                return;
            }
            if let Some(lost) = self.waiting.pop_front() {
                let reason = format!("another entry was committed at index {}", lost.write.first.index);
                settled.push((lost.origin, Err(WriteError::Unknown(reason))));
            }
        }
    }

    /// Everything above `index` was cut from this log.
    pub(crate) fn truncated(&mut self, index: Index, settled: &mut Vec<Settled>) {
        if self.plants.has(Plant::DoneUnderIndex) {
            return;
        }
        while self.waiting.back().is_some_and(|last| last.write.last() > index) {
            reach(Mark::WriteTruncated);
            if let Some(lost) = self.waiting.pop_back() {
                let reason = "a new leader replaced the entry in this log".to_owned();
                settled.push((lost.origin, Err(WriteError::Unknown(reason))));
            }
        }
    }

    /// A snapshot took the place of everything up to `index`: whether an entry is in it, nobody can tell any more.
    pub(crate) fn installed(&mut self, index: Index, settled: &mut Vec<Settled>) {
        while self.waiting.front().is_some_and(|first| first.write.first.index <= index) {
            let Some(mut lost) = self.waiting.pop_front() else { return };
            let reason = format!("a snapshot took the place of the entry at index {}", lost.write.first.index);
            let unknown = Err(WriteError::Unknown(reason));
            lost.write.answers.resize(lost.write.positions.len(), Bytes::new());
            let planted = self.plants.has(Plant::InstallToldDone);
            settled.push((lost.origin, if planted { Ok(lost.write) } else { unknown }));
        }
    }

    /// Gives up on callers whose deadline has come.
    pub(crate) fn expire(&mut self, now: Monotonic, settled: &mut Vec<Settled>) {
        self.waiting.retain(|waiting| {
            let keep = waiting.deadline > now;
            if !keep {
                reach(Mark::WriteExpired);
                let reason = "the deadline passed before the entry was committed and applied".to_owned();
                let told = self.plants.has(Plant::UnknownToldFailed);
                let error = if told { WriteError::Unavailable(reason) } else { WriteError::Unknown(reason) };
                settled.push((waiting.origin, Err(error)));
            }
            keep
        });
    }

    /// The node stops: nobody will be told more.
    pub(crate) fn abandon(&mut self, reason: &str, settled: &mut Vec<Settled>) {
        settled.extend(
            self.waiting.drain(..).map(|waiting| (waiting.origin, Err(WriteError::Unknown(reason.to_owned())))),
        );
    }

    /// True when nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    const LATER: Monotonic = Monotonic::from_micros(1_000);

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Index(index), Term(term))
    }

    fn insert(pending: &mut Pending, ticket: u64, index: u64, term: u64, count: u64) {
        let positions = (0..count).map(|place| Position(place * 100)).collect();
        pending.insert(Origin::Local(Ticket(ticket)), id(index, term), positions, LATER);
    }

    fn apply(pending: &mut Pending, index: u64, term: u64) -> Vec<(u64, bool)> {
        let mut settled = Vec::new();
        pending.applied(id(index, term), &Bytes::from_static(b"x"), &mut settled);
        short(settled)
    }

    fn short(settled: Vec<Settled>) -> Vec<(u64, bool)> {
        settled
            .into_iter()
            .map(|(origin, outcome)| {
                let Origin::Local(Ticket(ticket)) = origin else { panic!("only local callers here") };
                (ticket, outcome.is_ok())
            })
            .collect()
    }

    #[test]
    fn pending_batch_is_done_when_its_last_entry_is_applied() {
        let mut pending = Pending::default();
        insert(&mut pending, 1, 5, 2, 3);
        assert_eq!(apply(&mut pending, 4, 2), []);
        assert_eq!(apply(&mut pending, 5, 2), []);
        assert_eq!(apply(&mut pending, 6, 2), []);
        assert_eq!(apply(&mut pending, 7, 2), [(1, true)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn pending_overwritten_by_another_term_is_unknown_and_never_done() {
        let mut pending = Pending::default();
        insert(&mut pending, 1, 5, 2, 1);
        insert(&mut pending, 2, 6, 2, 1);
        assert_eq!(apply(&mut pending, 5, 3), [(1, false)]);
        assert_eq!(apply(&mut pending, 7, 3), [(2, false)]);
    }

    #[test]
    fn pending_batch_cut_in_the_middle_is_unknown() {
        let mut pending = Pending::default();
        insert(&mut pending, 1, 5, 2, 1);
        insert(&mut pending, 2, 6, 2, 3);
        let mut settled = Vec::new();
        pending.truncated(Index(7), &mut settled);
        assert_eq!(short(settled), [(2, false)]);
        assert_eq!(apply(&mut pending, 5, 2), [(1, true)]);
    }

    #[test]
    fn pending_past_its_deadline_is_unknown() {
        let mut pending = Pending::default();
        insert(&mut pending, 1, 5, 2, 1);
        let mut settled = Vec::new();
        pending.expire(Monotonic::from_micros(999), &mut settled);
        assert!(settled.is_empty());
        pending.expire(LATER, &mut settled);
        assert_eq!(short(settled), [(1, false)]);
    }
}
