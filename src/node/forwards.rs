//! Writes that this follower handed to the leader.
//!
//! ```text
//!   propose ──► sent (number, leader) ──answer──► applying (index) ──applied here──► done
//!                     │ connection closed, another leader, deadline
//!                     └──► unknown: a forwarded write is never sent twice
//! ```
//! A caller is told "done" only when this node has applied its entry too, so that it reads its own write here.

use std::collections::BTreeMap;

use crate::error::WriteError;
use crate::simulation::marks::{Mark, reach};
use crate::types::{Index, Monotonic, NodeId};

use super::effects::{Answer, Proposed, Ticket};

#[derive(Debug)]
struct Sent {
    ticket: Ticket,
    leader: NodeId,
    deadline: Monotonic,
}

#[derive(Debug)]
struct Applying {
    ticket: Ticket,
    deadline: Monotonic,
    write: Proposed,
}

/// The forwarded writes.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    last_number: u64,
    sent: BTreeMap<u64, Sent>,
    applying: BTreeMap<Index, Vec<Applying>>,
}

impl Forwards {
    /// Names its writes from `first` on. It must differ between the starts of a node: a leader may still answer a
    /// write of an earlier life, and that answer must fit none of this one.
    pub(crate) fn named_from(first: u64) -> Self {
        Self { last_number: first, ..Self::default() }
    }

    /// A write is handed to `leader`; the answer is its number.
    pub(crate) fn insert(&mut self, ticket: Ticket, leader: NodeId, deadline: Monotonic) -> u64 {
        self.last_number = self.last_number.wrapping_add(1);
        self.sent.insert(self.last_number, Sent { ticket, leader, deadline });
        self.last_number
    }

    /// The leader said what became of the write `number`; complete now when it is an error, else once applied.
    pub(crate) fn answered(
        &mut self,
        from: NodeId,
        number: u64,
        outcome: Result<Proposed, WriteError>,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        if self.sent.get(&number).is_none_or(|sent| sent.leader != from) {
            return;
        }
        let Some(Sent { ticket, deadline, .. }) = self.sent.remove(&number) else { return };
        match outcome {
            Ok(write) => self.applying.entry(write.last()).or_default().push(Applying { ticket, deadline, write }),
            Err(error) => answers.push((ticket, Answer::Write(Err(error)))),
        }
    }

    /// Everything up to `applied` is applied here.
    pub(crate) fn applied(&mut self, applied: Index, answers: &mut Vec<(Ticket, Answer)>) {
        while let Some(entry) = self.applying.first_entry() {
            if *entry.key() > applied {
                return;
            }
            answers.extend(entry.remove().into_iter().map(|done| (done.ticket, Answer::Write(Ok(done.write)))));
        }
    }

    /// The connection to `leader` closed: nobody will say what became of what was sent on it.
    pub(crate) fn closed(&mut self, leader: NodeId, answers: &mut Vec<(Ticket, Answer)>) {
        let reason = format!("the connection to the leader, node {leader}, closed before it answered");
        if self.give_up(|sent| sent.leader == leader, &reason, answers) {
            reach(Mark::ForwardClosed);
        }
    }

    /// `leader` leads now: one that it replaced may hang and never answer.
    pub(crate) fn replaced_by(&mut self, leader: NodeId, answers: &mut Vec<(Ticket, Answer)>) {
        let reason = format!("node {leader} leads now, and the leader before it had not answered");
        if self.give_up(|sent| sent.leader != leader, &reason, answers) {
            reach(Mark::ForwardReplaced);
        }
    }

    /// Gives up on writes whose deadline has come.
    pub(crate) fn expire(&mut self, now: Monotonic, answers: &mut Vec<(Ticket, Answer)>) {
        if self.give_up(|sent| sent.deadline <= now, "the deadline passed before the leader answered", answers) {
            reach(Mark::ForwardExpired);
        }
        for waiting in self.applying.values_mut() {
            waiting.retain(|write| {
                let keep = write.deadline > now;
                if !keep {
                    let reason = "the entry is committed, but this node did not apply it before the deadline";
                    answers.push((write.ticket, Answer::Write(Err(WriteError::Unknown(reason.to_owned())))));
                }
                keep
            });
        }
        self.applying.retain(|_index, waiting| !waiting.is_empty());
    }

    /// The node stops.
    pub(crate) fn abandon(&mut self, reason: &str, answers: &mut Vec<(Ticket, Answer)>) {
        self.give_up(|_sent| true, reason, answers);
        for write in std::mem::take(&mut self.applying).into_values().flatten() {
            answers.push((write.ticket, Answer::Write(Err(WriteError::Unknown(reason.to_owned())))));
        }
    }

    /// True when nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.applying.is_empty()
    }

    /// Tells whether anybody was given up on.
    fn give_up(&mut self, lost: impl Fn(&Sent) -> bool, reason: &str, answers: &mut Vec<(Ticket, Answer)>) -> bool {
        let before = self.sent.len();
        self.sent.retain(|_number, sent| {
            let gone = lost(sent);
            if gone {
                answers.push((sent.ticket, Answer::Write(Err(WriteError::Unknown(reason.to_owned())))));
            }
            !gone
        });
        self.sent.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EntryId, Position, Term};

    const LATER: Monotonic = Monotonic::from_micros(1_000);
    const LEADER: NodeId = NodeId(2);

    fn proposed(index: u64) -> Proposed {
        let first = EntryId::new(Index(index), Term(1));
        Proposed { first, positions: vec![Position(0)], answers: vec![bytes::Bytes::new()] }
    }

    fn done(answers: &[(Ticket, Answer)]) -> Vec<(u64, bool)> {
        answers.iter().map(|(ticket, answer)| (ticket.0, matches!(answer, Answer::Write(Ok(_write))))).collect()
    }

    #[test]
    fn forward_is_done_only_once_applied_here() {
        let (mut forwards, mut answers) = (Forwards::default(), Vec::new());
        let number = forwards.insert(Ticket(1), LEADER, LATER);
        forwards.answered(LEADER, number, Ok(proposed(9)), &mut answers);
        forwards.applied(Index(8), &mut answers);
        assert_eq!(done(&answers), []);
        forwards.applied(Index(9), &mut answers);
        assert_eq!(done(&answers), [(1, true)]);
        assert!(forwards.is_empty());
    }

    #[test]
    fn forward_answered_by_another_node_is_not_believed() {
        let (mut forwards, mut answers) = (Forwards::default(), Vec::new());
        let number = forwards.insert(Ticket(1), LEADER, LATER);
        forwards.answered(NodeId(3), number, Ok(proposed(9)), &mut answers);
        forwards.applied(Index(9), &mut answers);
        assert_eq!(done(&answers), []);
    }

    /// A follower that restarted numbered its writes from 1 again, and took the leader's answer to a write of its earlier
    /// life for the answer to another one: "done", for an entry that was not its own. Tests had restarted no follower
    /// while its leader still worked on what it had forwarded.
    #[test]
    fn forward_of_an_earlier_life_is_no_answer_to_one_of_this() {
        let (mut earlier, mut answers) = (Forwards::named_from(7), Vec::new());
        let number = earlier.insert(Ticket(1), LEADER, LATER);
        let mut forwards = Forwards::named_from(7_000);
        forwards.insert(Ticket(1), LEADER, LATER);
        forwards.answered(LEADER, number, Ok(proposed(9)), &mut answers);
        forwards.applied(Index(9), &mut answers);
        assert_eq!(done(&answers), []);
    }

    #[test]
    fn forward_on_a_closed_connection_or_past_its_deadline_is_unknown() {
        let (mut forwards, mut answers) = (Forwards::default(), Vec::new());
        forwards.insert(Ticket(1), LEADER, LATER);
        forwards.insert(Ticket(2), NodeId(3), LATER);
        forwards.closed(LEADER, &mut answers);
        assert_eq!(done(&answers), [(1, false)]);
        forwards.expire(LATER, &mut answers);
        assert_eq!(done(&answers), [(1, false), (2, false)]);
    }

    #[test]
    fn forward_to_a_leader_that_was_replaced_is_unknown_at_once() {
        let (mut forwards, mut answers) = (Forwards::default(), Vec::new());
        forwards.insert(Ticket(1), LEADER, LATER);
        forwards.insert(Ticket(2), NodeId(3), LATER);
        forwards.replaced_by(NodeId(3), &mut answers);
        assert_eq!(done(&answers), [(1, false)]);
    }
}
