//! Writes under way: with a number until they are answered, without one once.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use dledger::WriteError;
use dledger::error::Rejection;
use dledger::kv::answer::Answer;
use dledger::kv::command::Command;
use dledger::node::{Proposal, Proposed};
use dledger::raft::ReadBy;
use dledger::simulation::Answer as FromNode;
use dledger::types::SessionId;

use super::super::{Event, World};
use super::Told;
use crate::checkers::{converges, exactly_once};
use crate::truth::digest;

/// Workers that share a session.
#[derive(Debug)]
pub(super) struct Group {
    ttl_ms: u64,
    session: Option<SessionId>,
    /// A worker is opening it.
    opening: bool,
    next: u64,
    /// Numbers whose answers somebody waits for.
    unanswered: BTreeSet<u64>,
}

impl Group {
    pub(super) fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, session: None, opening: false, next: 1, unanswered: BTreeSet::new() }
    }

    fn opened(&mut self, session: Option<SessionId>) {
        *self = Self { session, ..Self::new(self.ttl_ms) };
    }
}

/// A write that a worker waits for.
#[derive(Debug)]
pub(super) struct Job {
    command: Bytes,
    number: Option<(SessionId, u64)>,
    /// How often it was sent.
    sent: u64,
    since: u64,
}

/// What a node was asked.
#[derive(Debug)]
pub(super) struct Sent {
    worker: usize,
    node: usize,
    what: What,
    at: u64,
}

#[derive(Debug)]
enum What {
    Read,
    /// A job's write, with this payload.
    Write(Bytes),
    /// A session for this group.
    Open(usize, Bytes),
}

impl World {
    pub(super) fn begin_job(&mut self, worker: usize, command: Bytes) {
        let since = self.now;
        if let Some(it) = self.workers.workers.get_mut(worker) {
            it.job = Some(Job { command, number: None, sent: 0, since });
        }
    }

    /// Sends a job's write to some node, under its number when it has or gets one.
    pub(super) fn send_job(&mut self, worker: usize) {
        let workers = &mut self.workers;
        let Some(it) = workers.workers.get_mut(worker) else { return };
        let (Some(job), group) = (&mut it.job, it.group) else { return };
        let Some(place) = group else {
            let command = job.command.clone();
            return self.ask_some_node(worker, What::Write(command));
        };
        let Some(group) = workers.groups.get_mut(place) else { return };
        if job.number.is_none() {
            let Some(session) = group.session else {
                if std::mem::replace(&mut group.opening, true) {
                    return self.schedule(10_000, Event::Work { worker });
                }
                let open = Command::OpenSession { ttl_ms: group.ttl_ms }.encode();
                return self.ask_some_node(worker, What::Open(place, open));
            };
            job.number = Some((session, group.next));
            group.unanswered.insert(group.next);
            group.next += 1;
        }
        let Some((session, number)) = job.number else { return };
        let lowest = group.unanswered.first().copied().filter(|_lowest| group.session == Some(session));
        let first_unanswered = lowest.unwrap_or(number).min(number);
        let payload = Command::Numbered { session, number, first_unanswered, command: &job.command }.encode();
        if job.sent > 0 {
            self.marks.met("seen: numbered write sent again");
        }
        self.ask_some_node(worker, What::Write(payload));
    }

    pub(super) fn send_read(&mut self, worker: usize) {
        self.ask_some_node(worker, What::Read);
    }

    fn ask_some_node(&mut self, worker: usize, what: What) {
        let Some(node) = self.node_for_work() else {
            let wait = self.workers.random.within(1_000..20_000);
            return self.not_sent(worker, &what, wait);
        };
        let patience = self.workers.random.within(50_000..700_000);
        self.workers.next_ticket += 1;
        let ticket = TICKETS + self.workers.next_ticket;
        let clock = self.nodes.get(node).map(|it| it.clock(self.now)).unwrap_or_default();
        let deadline = clock.after(Duration::from_micros(patience));
        self.trace.event(self.now, node + 1, "asked", &[ticket, worker as u64], || {
            let mut text = format!("{what:?}");
            text.truncate(160);
            format!("{ticket} by worker {worker}: {text}")
        });
        let payload = match &what {
            What::Read => None,
            What::Write(payload) | What::Open(_, payload) => Some(payload.clone()),
        };
        if let Some(job) = self.workers.workers.get_mut(worker).and_then(|it| it.job.as_mut())
            && matches!(what, What::Write(_))
        {
            job.sent += 1;
        }
        self.workers.waiting.insert(ticket, Sent { worker, node, what, at: self.now });
        match payload {
            None => self.input(node, |process, _now| process.read(ticket, ReadBy::Round, deadline)),
            Some(payload) => {
                let proposals = vec![Proposal { channel: 0, payload, reserve: false }];
                self.input(node, |process, _now| process.propose(ticket, proposals, deadline));
            }
        }
    }

    /// No node runs.
    fn not_sent(&mut self, worker: usize, what: &What, wait: u64) {
        match what {
            What::Read => self.tell(worker, Told::Never),
            What::Open(place, _) => {
                self.opened(*place, None);
                self.schedule(wait, Event::Work { worker });
            }
            What::Write(_) => self.schedule(wait, Event::Work { worker }),
        }
    }

    /// A node that runs; the leader more often than others, and seldom one that was removed.
    fn node_for_work(&mut self) -> Option<usize> {
        let leader = self.nodes.iter().position(super::super::node::Node::leads);
        if leader.is_some() && self.workers.random.chance(400) {
            return leader;
        }
        let members_only = self.profile.has_operator() && self.workers.random.chance(950);
        let runs = |node: &usize| self.nodes.get(*node).is_some_and(|it| it.process.is_some());
        let fits = |node: &usize| runs(node) && (!members_only || self.is_member(*node));
        let up: Vec<usize> = (0..self.nodes.len()).filter(fits).collect();
        self.workers.random.pick(&up)
    }

    /// A node answers. False when no worker asked.
    pub(in crate::world) fn worker_answered(&mut self, node: usize, ticket: u64, told: &FromNode) -> bool {
        let Some(sent) = self.workers.waiting.remove(&ticket) else { return false };
        self.trace.event(self.now, node + 1, "answers", &[ticket], || format!("{ticket}: {told:?}"));
        let ends = self.profile.faults_end() + converges::SERVES_AFTER;
        if sent.at > ends
            && self.is_member(node)
            && let FromNode::Write(Err(_)) | FromNode::Read(Err(_)) = told
        {
            let id = self.nodes.get(node).map(|it| it.id).unwrap_or_default();
            self.judge(converges::PROPERTY, converges::not_served(id, &format!("{told:?}")));
        }
        match (told, &sent.what) {
            (FromNode::Read(Ok(_index)), What::Read) => {
                let view = self.nodes.get(node).and_then(|it| it.watch.as_ref()).map(|watch| watch.reader.view());
                self.tell(sent.worker, view.map_or(Told::Never, Told::View));
            }
            (FromNode::Write(Ok(write)), What::Write(payload) | What::Open(_, payload)) => {
                self.done(node, write, &[digest(payload)]);
                self.written(&sent, write);
            }
            (FromNode::Write(Err(WriteError::Unknown(_))), _) => self.lost(&sent, false),
            _ => self.lost(&sent, true),
        }
        true
    }

    fn written(&mut self, sent: &Sent, write: &Proposed) {
        let worker = sent.worker;
        if let What::Open(place, _) = sent.what {
            self.marks.met("seen: session opened");
            self.opened(place, Some(SessionId(write.first.index.get())));
            return self.schedule(1, Event::Work { worker });
        }
        let answer = write.answers.first().map(|answer| Answer::decode(answer));
        let Some(job) = self.workers.workers.get_mut(worker).and_then(|it| it.job.take()) else { return };
        let told = match answer {
            Some(Ok(Answer::First { revision, answer })) => {
                if revision < write.first.index {
                    self.marks.met("seen: repeat told the first answer");
                }
                Told::Done(revision, *answer)
            }
            Some(Ok(Answer::Rejected(Rejection::NoSession(session)))) => {
                self.session_died(session);
                // What was sent before may have been done while it lived.
                if job.sent > 1 { Told::Unknown } else { Told::Never }
            }
            Some(Ok(answer)) => {
                let kept = exactly_once::kept(job.number, &answer);
                self.judge(exactly_once::PROPERTY, kept);
                Told::Done(write.first.index, answer)
            }
            Some(Err(_)) | None => {
                self.judge(exactly_once::PROPERTY, Err("an answer cannot be read".to_owned()));
                Told::Unknown
            }
        };
        self.answered(worker, &job);
        self.tell(worker, told);
    }

    /// A number is answered: the session may say so.
    fn answered(&mut self, worker: usize, job: &Job) {
        let group = self.workers.workers.get(worker).and_then(|it| it.group);
        let Some((session, number)) = job.number else { return };
        if let Some(group) = group.and_then(|group| self.workers.groups.get_mut(group))
            && group.session == Some(session)
        {
            group.unanswered.remove(&number);
        }
    }

    fn opened(&mut self, place: usize, session: Option<SessionId>) {
        if let Some(group) = self.workers.groups.get_mut(place) {
            group.opened(session);
        }
    }

    fn session_died(&mut self, session: SessionId) {
        self.marks.met("seen: session dead");
        for group in self.workers.groups.iter_mut().filter(|group| group.session == Some(session)) {
            group.opened(None);
        }
    }

    /// No answer comes, or one that says that nothing was done.
    fn lost(&mut self, sent: &Sent, never: bool) {
        let worker = sent.worker;
        match sent.what {
            What::Read => return self.tell(worker, Told::Never),
            What::Open(place, _) => self.opened(place, None),
            What::Write(_) => {
                let Some(it) = self.workers.workers.get_mut(worker) else { return };
                if it.job.as_ref().is_some_and(|job| job.number.is_none()) {
                    it.job = None;
                    return self.tell(worker, if never { Told::Never } else { Told::Unknown });
                }
            }
        }
        let wait = self.workers.random.around(20_000).max(500);
        self.schedule(wait, Event::Work { worker });
    }

    /// A process is gone, and with it its answers.
    pub(in crate::world) fn lose_workers(&mut self, node: usize) {
        let lost = |(_ticket, sent): &(&u64, &Sent)| sent.node == node;
        let lost: Vec<u64> = self.workers.waiting.iter().filter(lost).map(|(ticket, _sent)| *ticket).collect();
        for ticket in lost {
            if let Some(sent) = self.workers.waiting.remove(&ticket) {
                self.lost(&sent, false);
            }
        }
    }

    /// What was asked for long before the end, and long after the faults, is answered.
    pub(super) fn check_served(&mut self) {
        let ends = self.profile.faults_end() + converges::SERVES_AFTER;
        let job = self.workers.workers.iter().filter_map(|it| it.job.as_ref()).find(|job| job.since < ends);
        if let Some(job) = job.filter(|_job| !self.profile.has_operator()) {
            let what = format!("a write asked for at {} us is not answered: sent {} times", job.since, job.sent);
            self.judge(converges::PROPERTY, Err(what));
        }
    }
}

/// Tickets of workers are those from here on.
const TICKETS: u64 = 1 << 40;
