//! Takes writes: frames them when this node leads, hands them to the leader when it does not.
//!
//! A write waits here while there is no leader, and is then either taken or refused as certainly not done. Once it
//! was framed or forwarded its outcome is the log's, and only apply, truncation, a closed connection or a deadline
//! settle it.

use bytes::Bytes;

use std::time::Duration;

use crate::commitlog::Space;
use crate::commitlog::{HEADER_BYTES, frame};
use crate::error::WriteError;
use crate::raft::Member;
use crate::simulation::plants::Plant;
use crate::state_machine::StateMachine;
use crate::transport::wire::split_attached;
use crate::transport::{Channel, FormationMessage, ForwardError, Forwarded, ForwardedProposal, PeerBody, PeerFrame};
use crate::types::{EntryId, Index, Kind, LogTime, Monotonic, NodeId, Position, Role};

use super::effects::{Answer, Framed, Outbound, Proposal, Proposed};
use super::pending::{Origin, Settled};
use super::replica::{Replica, Staged, WriteRequest};

impl<M: StateMachine> Replica<M> {
    /// Takes a write for this turn, or refuses it at once.
    pub(crate) fn take_write(&mut self, request: WriteRequest) {
        match self.check(&request.proposals) {
            Ok(()) => self.waiting.push_back(request),
            Err(error) => self.settle(vec![(request.origin, Err(error))]),
        }
    }

    /// Takes up what waits, in the order it came: all of it into the log at once when this node leads, else to the
    /// leader when it can be reached. What a follower forwarded to a node that does not lead goes back.
    pub(crate) fn take_up_waiting(&mut self, now: Monotonic) {
        if self.waiting.is_empty() {
            return;
        }
        self.refuse_other_terms();
        if self.raft.role() == Role::Leader {
            let requests = std::mem::take(&mut self.waiting).into();
            return self.lead_writes(now, requests);
        }
        let leader = self.raft.leader();
        let reachable = leader.filter(|leader| self.connected.contains(&(*leader, Channel::Bulk)));
        for request in std::mem::take(&mut self.waiting) {
            match (request.origin, reachable) {
                (Origin::Peer { .. }, _) => self.refuse_forward(request.origin, leader),
                (Origin::Local(_ticket), Some(leader)) => self.forward(now, leader, request),
                (Origin::Local(_ticket), None) => self.waiting.push_back(request),
            }
        }
    }

    /// Refuses what was meant for a term that this node does not lead.
    fn refuse_other_terms(&mut self) {
        let leads_in = (self.raft.role() == Role::Leader).then(|| self.raft.term());
        let wanted = |request: &WriteRequest| request.term.is_none() || request.term == leads_in;
        if self.waiting.iter().all(wanted) {
            return;
        }
        let (kept, refused): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(wanted);
        self.waiting = kept.into();
        let refuse = |request: WriteRequest| {
            (request.origin, Err(WriteError::Unavailable("this node does not lead in the term asked for".to_owned())))
        };
        self.settle(refused.into_iter().map(refuse).collect());
    }

    /// Each entry must fit a record, and all together must fit what one frame to the leader may hold.
    fn check(&self, proposals: &[Proposal]) -> Result<(), WriteError> {
        let refused = |what, bytes, limit| {
            Err(WriteError::TooLarge(format!("{what} of {bytes} bytes is over the limit of {limit} bytes")))
        };
        let whole = self.max_record_bytes as usize;
        let limit = whole - HEADER_BYTES;
        if proposals.is_empty() {
            return Err(WriteError::TooLarge("a write needs at least one entry".to_owned()));
        }
        if let Some(bytes) = proposals.iter().map(|proposal| proposal.payload.len()).find(|bytes| *bytes > limit) {
            return refused("an entry", bytes, limit);
        }
        let bytes: usize = proposals.iter().map(|proposal| HEADER_BYTES + proposal.payload.len()).sum();
        if bytes > whole { refused("a batch", bytes, whole) } else { Ok(()) }
    }

    /// Frames all writes of a turn as one piece: one Ready, one disk write, one message a follower.
    fn lead_writes(&mut self, now: Monotonic, requests: Vec<WriteRequest>) {
        let (admitted, refused): (Vec<_>, Vec<_>) = requests.into_iter().partition(|request| self.admits(request));
        let full = |request: WriteRequest| (request.origin, Err(WriteError::DiskFull(self.id)));
        let refused = refused.into_iter().map(full).collect();
        self.settle(refused);
        let payloads = || admitted.iter().flat_map(|request| &request.proposals);
        let count = payloads().count() as u64;
        let size: usize = payloads().map(|proposal| HEADER_BYTES + proposal.payload.len()).sum();
        if count == 0 {
            return;
        }
        let Ok(first) = self.raft.propose(now, count) else {
            return self.waiting.extend(admitted);
        };
        let mut framed = Framing { bytes: Vec::with_capacity(size), starts: Vec::new(), next: first, end: self.end };
        let stamp = match self.plants.has(Plant::MachineTime) {
            true => LogTime(now.as_micros() / 1000),
            false => self.clock.stamp(now),
        };
        for request in admitted {
            let id = framed.next;
            let positions: Vec<Position> =
                request.proposals.iter().map(|proposal| framed.add(stamp, proposal)).collect();
            if let Origin::Local(ticket) = request.origin {
                self.effects.framed.push((ticket, Framed { first: id, positions: positions.clone() }));
            }
            self.pending.insert(request.origin, id, positions, request.deadline);
        }
        self.end = framed.end;
        self.staged = Some(Staged { first: first.index, starts: framed.starts, bytes: framed.bytes.into() });
        self.drain(now);
    }

    fn admits(&self, request: &WriteRequest) -> bool {
        match self.log.space() {
            Space::Open => true,
            Space::Reserve => request.proposals.iter().all(|proposal| proposal.reserve),
            Space::Exhausted => false,
        }
    }

    fn forward(&mut self, now: Monotonic, leader: NodeId, request: WriteRequest) {
        let Origin::Local(ticket) = request.origin else { return };
        let number = self.forwards.insert(ticket, leader, request.deadline);
        let wait_ms = u32::try_from(request.deadline.since(now).as_millis()).unwrap_or(u32::MAX);
        let proposals = request
            .proposals
            .iter()
            .map(|proposal| ForwardedProposal {
                channel: proposal.channel,
                reserve: proposal.reserve,
                bytes: u32::try_from(proposal.payload.len()).unwrap_or(u32::MAX),
            })
            .collect();
        let body = PeerBody::Forward { number, wait_ms, proposals };
        let attached = request.proposals.into_iter().map(|proposal| proposal.payload).collect();
        let frame = PeerFrame { group: self.group, body, attached };
        if self.plants.has(Plant::ForwardTwice) {
            let mut again = frame.clone();
            if let PeerBody::Forward { number, .. } = &mut again.body {
                *number |= 1 << 63;
            }
            self.effects.send.push(Outbound { to: leader, channel: Channel::Bulk, frame: again });
        }
        self.effects.send.push(Outbound { to: leader, channel: Channel::Bulk, frame });
    }

    /// A follower hands over a write.
    pub(crate) fn take_forward(
        &mut self,
        now: Monotonic,
        from: NodeId,
        number: u64,
        wait_ms: u32,
        proposals: &[ForwardedProposal],
        attached: &[Bytes],
    ) {
        let Some(payloads) = split_attached(attached, proposals.iter().map(|proposal| proposal.bytes)) else {
            let reason = "a forwarded write whose lengths and bytes do not agree".to_owned();
            return self.effects.disconnect.push((from, reason));
        };
        let proposals = proposals
            .iter()
            .zip(payloads)
            .map(|(head, payload)| Proposal { channel: head.channel, payload, reserve: head.reserve })
            .collect();
        let deadline = now.after(Duration::from_millis(u64::from(wait_ms)));
        let origin = Origin::Peer { node: from, number };
        self.take_write(WriteRequest { origin, term: None, proposals, deadline });
    }

    /// The leader says what became of a forwarded write.
    pub(crate) fn take_forward_answer(
        &mut self,
        from: NodeId,
        number: u64,
        result: Result<Forwarded, ForwardError>,
        attached: &[Bytes],
    ) {
        let outcome = match result {
            Ok(done) => match split_attached(attached, done.answer_lengths.iter().copied()) {
                Some(answers) => Ok(Proposed { first: done.first, positions: done.positions, answers }),
                None => Err(WriteError::Unknown("the leader's answer does not decode".to_owned())),
            },
            Err(ForwardError::NotLeader { .. }) => {
                Err(WriteError::Unavailable("the leader changed while the write was on its way".to_owned()))
            }
            Err(ForwardError::Unknown(reason)) => Err(WriteError::Unknown(reason)),
            Err(ForwardError::Refused(refusal)) => Err(refusal.into()),
        };
        self.forwards.answered(from, number, outcome, &mut self.effects.answers);
        if self.plants.has(Plant::ForwardDoneEarly) {
            self.forwards.applied(Index(u64::MAX), &mut self.effects.answers);
        }
    }

    fn refuse_forward(&mut self, origin: Origin, leader: Option<NodeId>) {
        if let Origin::Peer { node, number } = origin {
            let result = Err(ForwardError::NotLeader { leader });
            let body = PeerBody::ForwardAnswer { number, commit: self.raft.committed(), result };
            self.outbound(node, Channel::Bulk, body);
        }
    }

    /// Tells callers, here or on followers, what became of their writes.
    pub(crate) fn settle(&mut self, settled: Vec<Settled>) {
        for (origin, outcome) in settled {
            match origin {
                Origin::Local(ticket) => self.effects.answers.push((ticket, Answer::Write(outcome))),
                Origin::Peer { node, number } => {
                    let (result, attached) = to_peer(outcome);
                    let body = PeerBody::ForwardAnswer { number, commit: self.raft.committed(), result };
                    let frame = PeerFrame { group: self.group, body, attached };
                    self.effects.send.push(Outbound { to: node, channel: Channel::Bulk, frame });
                }
            }
        }
    }

    /// Refuses what waited past its deadline: it was certainly never proposed.
    pub(crate) fn expire_waiting(&mut self, now: Monotonic) {
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|request| request.deadline <= now);
        self.waiting = rest.into();
        let refuse = |request: WriteRequest| {
            (request.origin, Err(WriteError::Unavailable("no leader was found before the deadline".to_owned())))
        };
        self.settle(due.into_iter().map(refuse).collect());
    }

    /// The node stops: what waited was never proposed.
    pub(crate) fn refuse_waiting(&mut self, reason: &str) {
        let waiting = std::mem::take(&mut self.waiting);
        let refuse = |request: WriteRequest| (request.origin, Err(WriteError::Stopped(reason.to_owned())));
        self.settle(waiting.into_iter().map(refuse).collect());
    }

    /// A peer that has not heard of the formation gets the first record of the log, when it is a member by it.
    pub(crate) fn formation(&mut self, from: NodeId, message: &FormationMessage) {
        let FormationMessage::Hello { incarnation, .. } = message else { return };
        let is_it = |member: &Member| member.id == from && member.incarnation == *incarnation;
        let member = self.raft.membership().is_some_and(|membership| membership.members().any(is_it));
        if !member && !self.plants.has(Plant::LifeNotChecked) {
            let reason = "it has an empty directory, but the cluster knows it by another one".to_owned();
            return self.effects.disconnect.push((from, reason));
        }
        let Some(record) = self.genesis.clone() else {
            tracing::warn!(node = %self.id, peer = %from, "cannot read the record that formed the cluster; another must tell it");
            return;
        };
        let body = PeerBody::Formation(FormationMessage::Form);
        let frame = PeerFrame { group: self.group, body, attached: vec![record] };
        self.effects.send.push(Outbound { to: from, channel: Channel::Control, frame });
    }
}

/// Records being framed, one behind the other.
struct Framing {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    next: EntryId,
    end: Position,
}

impl Framing {
    /// Frames one more record; the answer is where it stands in the log.
    fn add(&mut self, stamp: LogTime, proposal: &Proposal) -> Position {
        let (position, start) = (self.end, self.bytes.len());
        self.starts.push(u32::try_from(start).unwrap_or(u32::MAX));
        frame(&mut self.bytes, self.next, position, stamp, Kind::Data, proposal.channel, &proposal.payload);
        self.end = position.plus((self.bytes.len() - start) as u64);
        self.next.index = self.next.index.next();
        position
    }
}

/// What a follower is told, and the answers that travel beside it.
fn to_peer(outcome: Result<Proposed, WriteError>) -> (Result<Forwarded, ForwardError>, Vec<Bytes>) {
    match outcome {
        Ok(Proposed { first, positions, answers }) => {
            let answer_lengths = answers.iter().map(|answer| u32::try_from(answer.len()).unwrap_or(u32::MAX)).collect();
            (Ok(Forwarded { first, positions, answer_lengths }), answers)
        }
        Err(error) => (Err(error.into()), Vec::new()),
    }
}
