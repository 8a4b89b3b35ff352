//! Reads that need a read index, on their way.
//!
//! ```text
//!   gathering ──(end of turn: one question for all)──► asked ──(index)──► applying ──(applied >= index)──► answered
//!       ▲                                                │
//!       └───────────────(no leader: ask again)───────────┘
//! ```
//! All reads that arrive in one turn share one question to the core, whose heartbeat rounds serve all questions
//! that wait (thesis, section 6.4). A question never covers a read that arrived after it was asked. Reads that the leader's
//! lease may serve have a question of their own, which takes no round while there is a lease.
//!
//! The last read index that a round has confirmed is remembered with the time of its *question*: reads that are content
//! with what is a little old go by it (`fresh.rs`). One that a lease has confirmed is not: a bound relies on one clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::ReadError;
use crate::raft::ReadBy;
use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::{Plant, Plants};
use crate::types::{Index, Monotonic};

use super::effects::{Answer, Ticket};
use super::fresh::Confirmed;

/// How long a read waits before it asks again when there was no leader to confirm it.
const ASK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug)]
struct Read {
    ticket: Ticket,
    deadline: Monotonic,
}

/// Reads that share a question.
#[derive(Debug)]
struct Question {
    by: ReadBy,
    asked: Monotonic,
    reads: Vec<Read>,
}

/// The reads.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// By what may serve them; no list is empty.
    gathering: BTreeMap<ReadBy, Vec<Read>>,
    /// Reads without a leader ask again from then on.
    not_before: Option<Monotonic>,
    asked: BTreeMap<u64, Question>,
    applying: BTreeMap<Index, Vec<Read>>,
    next_token: u64,
    confirmed: Option<Confirmed>,
    plants: Plants,
}

impl Reads {
    /// Breaks a rule, for a simulation.
    pub(crate) fn with(plants: Plants) -> Self {
        Self { plants, ..Self::default() }
    }

    /// A read arrived.
    pub(crate) fn insert(&mut self, ticket: Ticket, by: ReadBy, deadline: Monotonic) {
        self.gathering.entry(by).or_default().push(Read { ticket, deadline });
    }

    /// The token of a question to ask now, when reads wait for one; to be called until none does. All of them have arrived
    /// before `now`.
    pub(crate) fn ask(&mut self, now: Monotonic) -> Option<(u64, ReadBy)> {
        if self.not_before.is_some_and(|then| now < then) {
            return None;
        }
        let (by, reads) = self.gathering.pop_first()?;
        self.not_before = None;
        self.next_token += 1;
        self.asked.insert(self.next_token, Question { by, asked: now, reads });
        Some((self.next_token, by))
    }

    /// The newest read index that a round has confirmed.
    pub(crate) fn confirmed(&self) -> Option<Confirmed> {
        self.confirmed
    }

    /// A leader is known: reads that had none need not wait longer to ask again.
    pub(crate) fn leader_changed(&mut self) {
        self.not_before = None;
    }

    /// Nobody is to be asked: reads that wait to ask are told why.
    pub(crate) fn refuse(&mut self, reason: &str, answers: &mut Vec<(Ticket, Answer)>) {
        let refuse = |read: Read| (read.ticket, Answer::Read(Err(ReadError::Unavailable(reason.to_owned()))));
        answers.extend(std::mem::take(&mut self.gathering).into_values().flatten().map(refuse));
    }

    /// The core answered the question `token`.
    pub(crate) fn answered(&mut self, now: Monotonic, token: u64, index: Option<Index>) {
        let Some(Question { by, asked, reads }) = self.asked.remove(&token) else { return };
        match index {
            Some(index) => {
                let asked = if self.plants.has(Plant::BoundFromAnswer) { now } else { asked };
                if by == ReadBy::Round && self.confirmed.is_none_or(|last| last.asked < asked) {
                    self.confirmed = Some(Confirmed { asked, index });
                }
                self.applying.entry(index).or_default().extend(reads);
            }
            None => {
                self.gathering.entry(by).or_default().extend(reads);
                self.not_before = Some(now.after(ASK_AGAIN));
            }
        }
    }

    /// Everything up to `applied` is applied and visible.
    pub(crate) fn applied(&mut self, applied: Index, answers: &mut Vec<(Ticket, Answer)>) {
        while let Some(entry) = self.applying.first_entry() {
            if *entry.key() > applied {
                return;
            }
            answers.extend(entry.remove().into_iter().map(|read| (read.ticket, Answer::Read(Ok(applied)))));
        }
    }

    /// Gives up on reads whose deadline has come.
    pub(crate) fn expire(&mut self, now: Monotonic, answers: &mut Vec<(Ticket, Answer)>) {
        let mut give_up = |reads: &mut Vec<Read>, reason: &str| {
            reads.retain(|read| {
                let keep = read.deadline > now;
                if !keep {
                    reach(Mark::ReadExpired);
                    answers.push((read.ticket, Answer::Read(Err(ReadError::Unavailable(reason.to_owned())))));
                }
                keep
            });
        };
        for reads in self.gathering.values_mut() {
            give_up(reads, "no leader was found before the deadline");
        }
        self.gathering.retain(|_by, reads| !reads.is_empty());
        for Question { reads, .. } in self.asked.values_mut() {
            give_up(reads, "no leader confirmed the read before the deadline");
        }
        for reads in self.applying.values_mut() {
            give_up(reads, "this node did not catch up before the deadline");
        }
        self.applying.retain(|_index, reads| !reads.is_empty());
    }

    /// When reads that found no leader ask again.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        if self.gathering.is_empty() { None } else { self.not_before }
    }

    /// True when nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.gathering.is_empty() && self.asked.is_empty() && self.applying.is_empty()
    }

    /// The node stops.
    pub(crate) fn abandon(&mut self, reason: &str, answers: &mut Vec<(Ticket, Answer)>) {
        let gathering = std::mem::take(&mut self.gathering).into_values().flatten();
        let asked = std::mem::take(&mut self.asked).into_values().flat_map(|question| question.reads);
        let applying = std::mem::take(&mut self.applying).into_values().flatten();
        answers.extend(
            gathering
                .chain(asked)
                .chain(applying)
                .map(|read| (read.ticket, Answer::Read(Err(ReadError::Stopped(reason.to_owned()))))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic::from_micros(0);
    const LATER: Monotonic = Monotonic::from_micros(1_000_000);

    fn tickets(answers: &[(Ticket, Answer)]) -> Vec<(u64, bool)> {
        answers.iter().map(|(ticket, answer)| (ticket.0, matches!(answer, Answer::Read(Ok(_index))))).collect()
    }

    #[test]
    fn reads_of_one_turn_share_a_question_and_later_ones_do_not() {
        let mut reads = Reads::default();
        reads.insert(Ticket(1), ReadBy::Round, LATER);
        reads.insert(Ticket(2), ReadBy::Round, LATER);
        let (first, _by) = reads.ask(NOW).unwrap();
        reads.insert(Ticket(3), ReadBy::Round, LATER);
        let mut answers = Vec::new();
        reads.answered(NOW, first, Some(Index(7)));
        reads.applied(Index(6), &mut answers);
        assert_eq!(tickets(&answers), []);
        reads.applied(Index(8), &mut answers);
        assert_eq!(tickets(&answers), [(1, true), (2, true)]);
        assert!(reads.ask(NOW).is_some());
    }

    #[test]
    fn reads_without_a_leader_ask_again_after_a_wait_or_when_one_is_known() {
        let mut reads = Reads::default();
        reads.insert(Ticket(1), ReadBy::Round, LATER);
        let (token, _by) = reads.ask(NOW).unwrap();
        reads.answered(NOW, token, None);
        assert_eq!(reads.ask(NOW), None);
        assert!(reads.next_deadline().is_some());
        reads.leader_changed();
        assert!(reads.ask(NOW).is_some());
    }

    #[test]
    fn reads_that_have_not_been_asked_for_are_refused_when_there_is_nobody_to_ask() {
        let mut reads = Reads::default();
        reads.insert(Ticket(1), ReadBy::Round, LATER);
        let (token, _by) = reads.ask(NOW).unwrap();
        reads.insert(Ticket(2), ReadBy::Round, LATER);
        let mut answers = Vec::new();
        reads.refuse("no member", &mut answers);
        assert_eq!(tickets(&answers), [(2, false)]);
        reads.answered(NOW, token, None);
        reads.refuse("no member", &mut answers);
        assert_eq!(tickets(&answers), [(2, false), (1, false)]);
        assert!(reads.is_empty());
    }

    #[test]
    fn reads_past_their_deadline_are_given_up_in_every_place() {
        let mut reads = Reads::default();
        for ticket in 1..=2 {
            reads.insert(Ticket(ticket), ReadBy::Round, LATER);
            let (token, _by) = reads.ask(NOW).unwrap();
            if ticket == 1 {
                reads.answered(NOW, token, Some(Index(9)));
            }
        }
        reads.insert(Ticket(3), ReadBy::Round, LATER);
        let mut answers = Vec::new();
        reads.expire(LATER, &mut answers);
        answers.sort_by_key(|(ticket, _answer)| *ticket);
        assert_eq!(tickets(&answers), [(1, false), (2, false), (3, false)]);
    }

    #[test]
    fn reads_by_lease_and_by_round_have_a_question_each_and_go_on_as_they_were() {
        let mut reads = Reads::default();
        for ticket in 1..=4 {
            let by = if ticket % 2 == 0 { ReadBy::Lease } else { ReadBy::Round };
            reads.insert(Ticket(ticket), by, LATER);
        }
        let asked = [reads.ask(NOW).unwrap(), reads.ask(NOW).unwrap()];
        assert_eq!((asked.map(|(_token, by)| by), reads.ask(NOW)), ([ReadBy::Round, ReadBy::Lease], None));
        reads.answered(NOW, asked[1].0, None);
        reads.leader_changed();
        let (token, by) = reads.ask(NOW).unwrap();
        assert_eq!(by, ReadBy::Lease);
        reads.answered(NOW, token, Some(Index(3)));
        let mut answers = Vec::new();
        reads.applied(Index(3), &mut answers);
        assert_eq!(tickets(&answers), [(2, true), (4, true)]);
    }

    #[test]
    fn reads_remember_the_question_of_the_newest_round_and_none_of_a_lease() {
        let mut reads = Reads::default();
        let ask = |reads: &mut Reads, millis: u64, by| {
            reads.insert(Ticket(millis), by, LATER);
            reads.ask(Monotonic::from_micros(millis)).unwrap().0
        };
        let (first, second) = (ask(&mut reads, 1, ReadBy::Round), ask(&mut reads, 2, ReadBy::Round));
        let leased = ask(&mut reads, 3, ReadBy::Lease);
        reads.answered(LATER, second, Some(Index(7)));
        reads.answered(LATER, first, Some(Index(6)));
        reads.answered(LATER, leased, Some(Index(8)));
        assert_eq!(reads.confirmed(), Some(Confirmed { asked: Monotonic::from_micros(2), index: Index(7) }));
    }
}
