//! Linearizable reads on their way.
//!
//! ```text
//!   gathering ──(end of turn: one question for all)──► asked ──(index)──► applying ──(applied >= index)──► answered
//!       ▲                                                │
//!       └───────────────(no leader: ask again)───────────┘
//! ```
//! All reads that arrive in one turn share one question to the core, whose heartbeat rounds serve all questions
//! that wait (thesis, section 6.4). A question never covers a read that arrived after it was asked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::ReadError;
use crate::simulation::marks::{Mark, reach};
use crate::types::{Index, Monotonic};

use super::effects::{Answer, Ticket};

/// How long a read waits before it asks again when there was no leader to confirm it.
const ASK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug)]
struct Read {
    ticket: Ticket,
    deadline: Monotonic,
}

/// The reads.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    gathering: Vec<Read>,
    /// Reads without a leader ask again from then on.
    not_before: Option<Monotonic>,
    asked: BTreeMap<u64, Vec<Read>>,
    applying: BTreeMap<Index, Vec<Read>>,
    next_token: u64,
}

impl Reads {
    /// A read arrived.
    pub(crate) fn insert(&mut self, ticket: Ticket, deadline: Monotonic) {
        self.gathering.push(Read { ticket, deadline });
    }

    /// The token of a question to ask now, when reads wait for one.
    pub(crate) fn ask(&mut self, now: Monotonic) -> Option<u64> {
        if self.gathering.is_empty() || self.not_before.is_some_and(|then| now < then) {
            return None;
        }
        self.not_before = None;
        self.next_token += 1;
        self.asked.insert(self.next_token, std::mem::take(&mut self.gathering));
        Some(self.next_token)
    }

    /// A leader is known: reads that had none need not wait longer to ask again.
    pub(crate) fn leader_changed(&mut self) {
        self.not_before = None;
    }

    /// Nobody is to be asked: reads that wait to ask are told why.
    pub(crate) fn refuse(&mut self, reason: &str, answers: &mut Vec<(Ticket, Answer)>) {
        let refuse = |read: Read| (read.ticket, Answer::Read(Err(ReadError::Unavailable(reason.to_owned()))));
        answers.extend(self.gathering.drain(..).map(refuse));
    }

    /// The core answered the question `token`.
    pub(crate) fn answered(&mut self, now: Monotonic, token: u64, index: Option<Index>) {
        let Some(reads) = self.asked.remove(&token) else { return };
        match index {
            Some(index) => self.applying.entry(index).or_default().extend(reads),
            None => {
                self.gathering.extend(reads);
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
        give_up(&mut self.gathering, "no leader was found before the deadline");
        for reads in self.asked.values_mut() {
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
        let asked = std::mem::take(&mut self.asked).into_values().flatten();
        let applying = std::mem::take(&mut self.applying).into_values().flatten();
        answers.extend(
            self.gathering
                .drain(..)
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
        reads.insert(Ticket(1), LATER);
        reads.insert(Ticket(2), LATER);
        let first = reads.ask(NOW).unwrap();
        reads.insert(Ticket(3), LATER);
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
        reads.insert(Ticket(1), LATER);
        let token = reads.ask(NOW).unwrap();
        reads.answered(NOW, token, None);
        assert_eq!(reads.ask(NOW), None);
        assert!(reads.next_deadline().is_some());
        reads.leader_changed();
        assert!(reads.ask(NOW).is_some());
    }

    #[test]
    fn reads_that_have_not_been_asked_for_are_refused_when_there_is_nobody_to_ask() {
        let mut reads = Reads::default();
        reads.insert(Ticket(1), LATER);
        let token = reads.ask(NOW).unwrap();
        reads.insert(Ticket(2), LATER);
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
            reads.insert(Ticket(ticket), LATER);
            let token = reads.ask(NOW).unwrap();
            if ticket == 1 {
                reads.answered(NOW, token, Some(Index(9)));
            }
        }
        reads.insert(Ticket(3), LATER);
        let mut answers = Vec::new();
        reads.expire(LATER, &mut answers);
        answers.sort_by_key(|(ticket, _answer)| *ticket);
        assert_eq!(tickets(&answers), [(1, false), (2, false), (3, false)]);
    }
}
