//! Linearizable reads without writing to the log (thesis, section 6.4).
//!
//! ```text
//!   read arrives ──► early ──────────► waiting ──────────► rounds ──────────► answered with its index
//!                    until this term    until the next      until a quorum
//!                    has committed      heartbeat round     answered that round
//!                    its no-op          is sent             or a later one
//! ```
//!
//! A round serves only reads that arrived before it was sent: an answer to an earlier heartbeat says nothing about
//! a leader elected since. A leader that has committed nothing in its own term may not know of all that is
//! committed, so reads wait for that first. One round serves every read that waited when it was sent.
//!
//! A follower asks its leader, under a name of the core's own: names start at a random number, so that a late
//! answer to an earlier life of this node is not taken for an answer to this one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::types::{Index, Monotonic, NodeId, Role, Term};

use super::core::Raft;
use super::leadership::State;
use super::message::Body;
use super::read_lease::ReadBy;

/// Most reads that wait in one core; further ones are told to ask again.
pub(super) const MAX_READS: usize = 1 << 16;

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A caller on this node, by its token.
    Local(u64),
    /// A caller on a follower, by the follower's name for the question.
    Remote(NodeId, u64),
}

/// A leader's reads, in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Reads {
    early: VecDeque<Reader>,
    waiting: VecDeque<(Reader, Index)>,
    rounds: VecDeque<(u64, Reader, Index)>,
}

impl Reads {
    pub(super) const fn new() -> Self {
        Self { early: VecDeque::new(), waiting: VecDeque::new(), rounds: VecDeque::new() }
    }

    fn len(&self) -> usize {
        self.early.len() + self.waiting.len() + self.rounds.len()
    }

    /// Reads wait and no round is under way.
    pub(super) fn wants_round(&self) -> bool {
        !self.waiting.is_empty() && self.rounds.is_empty()
    }

    /// The first entry of this term is committed: early reads get this index.
    pub(super) fn term_committed(&mut self, committed: Index) {
        self.waiting.extend(self.early.drain(..).map(|reader| (reader, committed)));
    }

    /// Round `round` leaves now: it serves all that waits.
    pub(super) fn round_sent(&mut self, round: u64) {
        self.rounds.extend(self.waiting.drain(..).map(|(reader, index)| (round, reader, index)));
    }

    /// A quorum answered round `round`: the reads of it and of earlier ones.
    pub(super) fn confirmed(&mut self, round: u64) -> Vec<(Reader, Index)> {
        let served = self.rounds.partition_point(|(sent, _reader, _index)| *sent <= round);
        self.rounds.drain(..served).map(|(_sent, reader, index)| (reader, index)).collect()
    }

    /// Everyone who still waits.
    pub(super) fn into_readers(self) -> impl Iterator<Item = Reader> {
        let waiting = self.waiting.into_iter().map(|(reader, _index)| reader);
        let rounds = self.rounds.into_iter().map(|(_sent, reader, _index)| reader);
        rounds.chain(waiting).chain(self.early)
    }
}

/// A question to the leader.
#[derive(Clone, Copy, Debug)]
struct Question {
    name: u64,
    token: u64,
    lost_at: Monotonic,
}

/// A follower's open questions, oldest first.
#[derive(Debug)]
pub(super) struct Questions {
    next_name: u64,
    open: VecDeque<Question>,
}

impl Questions {
    pub(super) const fn new(first_name: u64) -> Self {
        Self { next_name: first_name, open: VecDeque::new() }
    }

    fn ask(&mut self, token: u64, lost_at: Monotonic) -> u64 {
        let name = self.next_name;
        self.next_name = name.wrapping_add(1);
        self.open.push_back(Question { name, token, lost_at });
        name
    }

    fn answered(&mut self, name: u64) -> Option<u64> {
        let place = self.open.iter().position(|question| question.name == name)?;
        self.open.remove(place).map(|question| question.token)
    }

    pub(super) fn next_loss(&self) -> Option<Monotonic> {
        self.open.front().map(|question| question.lost_at)
    }

    fn take_lost(&mut self, now: Monotonic) -> Vec<u64> {
        let lost = self.open.partition_point(|question| question.lost_at <= now);
        self.open.drain(..lost).map(|question| question.token).collect()
    }

    fn take_all(&mut self) -> Vec<u64> {
        self.open.drain(..).map(|question| question.token).collect()
    }
}

impl Raft {
    pub(super) fn read(&mut self, token: u64, by: ReadBy) {
        match (&self.state, self.leader) {
            (State::Leader(_), _) => self.lead_read(Reader::Local(token), by),
            // A leader whose connection has closed cannot be asked.
            (_, Some(leader)) if self.timer.heard_leader.is_some() && self.questions.open.len() < MAX_READS => {
                let name = self.questions.ask(token, self.now.after(self.patience()));
                self.send(leader, Body::ReadIndex { token: name, by_lease: by == ReadBy::Lease });
            }
            (State::Follower | State::PreCandidate(_) | State::Candidate(_), _) => self.outbox.read(token, None),
        }
    }

    /// How long a question to the leader may stay open: a round and, at the start of a term, a commit fit in.
    fn patience(&self) -> Duration {
        self.config.election_timeout * 2
    }

    pub(super) fn on_read_index(&mut self, from: NodeId, token: u64, by_lease: bool) {
        if self.role() == Role::Leader {
            self.lead_read(Reader::Remote(from, token), if by_lease { ReadBy::Lease } else { ReadBy::Round });
        } else {
            self.send(from, Body::ReadIndexAnswer { token, index: None });
        }
    }

    pub(super) fn on_read_index_answer(&mut self, from: NodeId, token: u64, index: Option<Index>) {
        if self.leader == Some(from)
            && !self.damage.answered(token, index)
            && let Some(token) = self.questions.answered(token)
        {
            self.outbox.read(token, index);
        }
    }

    fn lead_read(&mut self, reader: Reader, by: ReadBy) {
        if by == ReadBy::Lease && self.holds_read_lease() {
            reach(Mark::LeaseRead);
            return self.answer_read(reader, Some(self.committed));
        }
        let State::Leader(office) = &mut self.state else { return };
        if office.reads.len() >= MAX_READS {
            self.answer_read(reader, None);
            return;
        }
        if self.plants.has(Plant::ReadWithoutRound) {
            return self.answer_read(reader, Some(self.committed));
        }
        let may_read = self.committed >= office.first_own || self.plants.has(Plant::ReadBeforeOwnCommit);
        let under_way = office.reads.rounds.front().map(|(round, _reader, _index)| *round);
        if let Some(round) = under_way.filter(|_round| may_read && self.plants.has(Plant::ReadRoundReused)) {
            office.reads.rounds.push_front((round, reader, self.committed));
        } else if may_read {
            office.reads.waiting.push_back((reader, self.committed));
        } else {
            reach(Mark::ReadEarly);
            office.reads.early.push_back(reader);
        }
    }

    /// Sends a round when reads wait for one and none is under way, and answers what a quorum has confirmed.
    pub(super) fn serve_reads(&mut self) {
        loop {
            let State::Leader(office) = &mut self.state else { return };
            if office.reads.wants_round() {
                self.send_heartbeats();
            }
            let State::Leader(office) = &mut self.state else { return };
            if office.reads.rounds.is_empty() {
                return;
            }
            let confirmed = self.confirmed_round();
            let State::Leader(office) = &mut self.state else { return };
            let served = office.reads.confirmed(confirmed);
            if served.is_empty() {
                return;
            }
            for (reader, index) in served {
                self.answer_read(reader, Some(index));
            }
        }
    }

    /// The last round of this office that a quorum has answered.
    pub(super) fn confirmed_round(&self) -> u64 {
        let State::Leader(office) = &self.state else { return 0 };
        let (me, round) = (self.config.id, office.round);
        let answered = |node: NodeId| office.peers.get(&node).map_or(0, |peer| peer.round);
        self.memberships.quorum().agreed(|node| if node == me { round } else { answered(node) })
    }

    pub(super) fn answer_read(&mut self, reader: Reader, index: Option<Index>) {
        match reader {
            Reader::Local(token) => self.outbox.read(token, index),
            Reader::Remote(node, token) => self.send(node, Body::ReadIndexAnswer { token, index }),
        }
    }

    /// Tells the callers whose questions got no answer in time.
    pub(super) fn give_up_lost_questions(&mut self) {
        for token in self.questions.take_lost(self.now) {
            reach(Mark::ReadLost);
            self.outbox.read(token, None);
        }
    }

    /// The leader that was asked is gone.
    pub(super) fn give_up_all_questions(&mut self) {
        for token in self.questions.take_all() {
            reach(Mark::ReadGivenUp);
            self.outbox.read(token, None);
        }
    }

    /// The office ends: nobody who waits for it can be served.
    pub(super) fn give_up_reads(&mut self, reads: Reads, term: Term) {
        let sender = super::outbox::Sender { from: self.config.id, term };
        for reader in reads.into_readers() {
            match reader {
                Reader::Local(token) => self.outbox.read(token, None),
                Reader::Remote(node, token) => {
                    self.outbox.send(sender.message(node, Body::ReadIndexAnswer { token, index: None }));
                }
            }
        }
    }
}
