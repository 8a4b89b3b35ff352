//! Changes of members and transfers of leadership that callers of this node ask for, until they hear how each ended.
//!
//! ```text
//!   change ──► taken up by the core ──► its entry committed, and what carries it on ──► done: who belongs to the cluster now
//!     │            │                        │
//!     │ not now    │ refused                └─ replaced in the log, covered by a snapshot, or out of time: unknown
//!     └─ again, until its deadline
//! ```
//! One change is under way at a time in the whole cluster; whoever asks meanwhile waits. What is done and when is the
//! core's affair (`raft/members.rs`, `raft/transfer.rs`). Deliberately absent: asking another node; only the leader changes
//! members, and the others say who that is.

use std::collections::VecDeque;

use thiserror::Error;

use crate::error::WriteError;
use crate::raft::{Change, ChangeRefused, Membership, TransferEnd, TransferRefused};
use crate::simulation::plants::Plant;
use crate::state_machine::StateMachine;
use crate::types::{EntryId, Monotonic, NodeId, Role};

use super::effects::{Answer, Ticket};
use super::replica::{Replica, WriteRequest};

/// Changes that wait for their turn. They are made by people: more than this is a mistake.
const MAX_WAITING: usize = 64;

/// Why a change of members was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MembersError {
    /// Certainly not done: the members stay as they are.
    #[error("{0}")]
    Refused(#[from] ChangeRefused),
    /// Certainly not done: the node that is to become a member cannot be one, or cannot be reached.
    #[error("{0}")]
    Candidate(String),
    /// Too many changes wait already.
    #[error("{MAX_WAITING} changes of members wait for their turn; wait for one of them")]
    Overloaded,
    /// It may be done, or may yet be: look at the members before asking again.
    #[error("whether the members change is unknown: {0}; look at the members before you ask again")]
    Unknown(String),
    /// This node has stopped, or does not belong to a cluster yet.
    #[error("this node cannot change members: {0}")]
    Unavailable(String),
}

/// Why leadership was not handed over as asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Nothing has happened.
    #[error("{0}")]
    Refused(#[from] TransferRefused),
    /// Somebody else was elected meanwhile.
    #[error("node {0} was elected meanwhile")]
    OtherLeads(NodeId),
    /// The node did not take over in time; it may yet.
    #[error("the node did not take over in time; ask for the status, and try again")]
    GivenUp,
    /// This node has stopped, or does not belong to a cluster yet.
    #[error("this node cannot hand over: {0}")]
    Unavailable(String),
}

/// A change that somebody waits for.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    change: Change,
    deadline: Monotonic,
    /// Its first entry, once the core has taken it up.
    entry: Option<EntryId>,
}

/// What callers wait for.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// In the order in which they came; only the first has an entry.
    changes: VecDeque<Asked>,
    transfer: Option<Ticket>,
}

/// Refusals that time cures.
fn is_for_now(refused: &ChangeRefused) -> bool {
    matches!(
        refused,
        ChangeRefused::UnderWay
            | ChangeRefused::TooEarly
            | ChangeRefused::HandingOver { .. }
            | ChangeRefused::NotLeader { leader: None }
    )
}

impl<M: StateMachine> Replica<M> {
    /// A caller wants other members; it hears, under `ticket` and by `deadline` at the latest, who the members are then.
    pub(crate) fn change_members(&mut self, ticket: Ticket, change: Change, deadline: Monotonic) {
        if self.requests.changes.len() >= MAX_WAITING {
            return self.answer_change(ticket, Err(MembersError::Overloaded));
        }
        self.requests.changes.push_back(Asked { ticket, change, deadline, entry: None });
    }

    /// A caller wants `to` to lead; it hears, under `ticket`, whether it does.
    pub(crate) fn transfer_leadership(&mut self, now: Monotonic, ticket: Ticket, to: NodeId) {
        match self.raft.transfer_leadership(now, to) {
            Ok(()) => self.requests.transfer = Some(ticket),
            Err(refused) => self.answer_transfer(ticket, Err(refused.into())),
        }
        self.drain(now);
    }

    /// This node is about to stop; another one is to lead first.
    pub(crate) fn step_aside(&mut self, now: Monotonic) {
        self.raft.step_aside(now);
        self.drain(now);
    }

    /// The core says how the transfer ended that was asked for.
    pub(crate) fn transfer_ended(&mut self, end: TransferEnd) {
        let Some(ticket) = self.requests.transfer.take() else { return };
        let outcome = match end {
            TransferEnd::Done => Ok(()),
            TransferEnd::OtherLeads(leader) => Err(TransferError::OtherLeads(leader)),
            TransferEnd::GivenUp => Err(TransferError::GivenUp),
        };
        self.answer_transfer(ticket, outcome);
    }

    /// Refuses callers whom this node cannot serve: waiting would be in vain, and somebody else serves them. The cluster does
    /// not talk to a node that was removed or is not added yet; one whose machine has stopped shows nothing new any more.
    pub(crate) fn turn_callers_away(&mut self) {
        let stopped = self.applier.failure().map(|reason| format!("this node applies nothing any more: {reason}"));
        // What a stranger knows to be committed it still applies; of the rest it will never hear.
        let hears_no_more = stopped.is_some() || self.applied().index >= self.raft.committed();
        let stranger =
            || self.is_stranger().then(|| "this node is no member of its cluster; ask another one".to_owned());
        let Some(reason) = stopped.or_else(stranger) else { return };
        self.reads.refuse(&reason, &mut self.effects.answers);
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let refuse = |request: WriteRequest| (request.origin, Err(WriteError::Unavailable(reason.clone())));
        let mut settled = waiting.map(refuse).collect();
        if hears_no_more {
            self.pending.abandon(&reason, &mut settled);
        }
        self.settle(settled);
    }

    /// Whether this node follows a cluster that it is no member of, as far as it knows.
    fn is_stranger(&self) -> bool {
        let entry = self.raft.membership_index().filter(|entry| *entry <= self.raft.committed());
        let belongs = entry.is_none() || self.raft.membership().is_none_or(|members| members.member(self.id).is_some());
        !belongs && self.raft.role() != Role::Leader
    }

    /// Takes up what waits, and tells whose change has ended.
    pub(crate) fn look_after_members(&mut self, now: Monotonic) {
        while let Some(asked) = self.requests.changes.pop_front() {
            match self.settle_change(now, &asked) {
                Ok(outcome) => self.answer_change(asked.ticket, outcome),
                Err(entry) => {
                    self.requests.changes.push_front(Asked { entry, ..asked });
                    break;
                }
            }
        }
        let is_due = |asked: &mut Asked| asked.entry.is_none() && now >= asked.deadline;
        while let Some(place) = self.requests.changes.iter_mut().position(is_due)
            && let Some(asked) = self.requests.changes.remove(place)
        {
            self.answer_change(asked.ticket, Err(ChangeRefused::UnderWay.into()));
        }
    }

    /// How a change has ended; else the entry that it has in the log so far.
    fn settle_change(
        &mut self,
        now: Monotonic,
        asked: &Asked,
    ) -> Result<Result<Membership, MembersError>, Option<EntryId>> {
        let entry = match asked.entry {
            Some(entry) => entry,
            None => match self.raft.change_membership(now, &asked.change) {
                Ok(entry) => {
                    self.drain(now);
                    entry
                }
                // One that was removed hears of no other leader any more.
                Err(refused) if is_for_now(&refused) && now < asked.deadline && !self.raft.is_removed() => {
                    return Err(None);
                }
                Err(refused) => return Ok(Err(refused.into())),
            },
        };
        if self.raft.term_at(entry.index) != Some(entry.term) {
            let reason = format!("entry {entry} is not in the log any more");
            return Ok(Err(MembersError::Unknown(reason)));
        }
        let early = self.plants.has(Plant::ChangeDoneEarly);
        if self.raft.committed() >= entry.index && (self.raft.change_under_way().is_none() || early) {
            let unknown = || MembersError::Unknown("nobody is known to belong to the cluster".to_owned());
            return Ok(self.raft.membership().cloned().ok_or_else(unknown));
        }
        if now >= asked.deadline {
            return Ok(Err(MembersError::Unknown(format!("entry {entry} is not committed yet"))));
        }
        Err(Some(entry))
    }

    /// When somebody is to hear that time is up.
    pub(crate) fn next_change_deadline(&self) -> Option<Monotonic> {
        self.requests.changes.iter().map(|asked| asked.deadline).min()
    }

    /// The node stops.
    pub(crate) fn abandon_requests(&mut self, reason: &str) {
        for asked in std::mem::take(&mut self.requests.changes) {
            let error = match asked.entry {
                Some(_) => MembersError::Unknown(reason.to_owned()),
                None => MembersError::Unavailable(reason.to_owned()),
            };
            self.answer_change(asked.ticket, Err(error));
        }
        if let Some(ticket) = self.requests.transfer.take() {
            self.answer_transfer(ticket, Err(TransferError::GivenUp));
        }
    }

    fn answer_change(&mut self, ticket: Ticket, outcome: Result<Membership, MembersError>) {
        self.effects.answers.push((ticket, Answer::Members(outcome)));
    }

    fn answer_transfer(&mut self, ticket: Ticket, outcome: Result<(), TransferError>) {
        self.effects.answers.push((ticket, Answer::Transfer(outcome)));
    }
}
