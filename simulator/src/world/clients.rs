//! Clients: each asks one question after another, of any node, and waits for its answer.
//!
//! A client that loses its node does not know what became of its write, says so in the history, and asks another.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dledger::kv::command::Command;
use dledger::node::{Proposal, Proposed};
use dledger::simulation::Answer as Told;
use dledger::types::Index;
use dledger::{Consistency, WriteError};
use histories::{Answer, Call, Operation};

use super::reads::is_linearizable;
use super::{Event, World};
use crate::checkers::{acknowledged, converges};
use crate::profile::Profile;
use crate::random::Random;
use crate::truth::digest;

/// Keys that a filled range has.
const HUGE: u64 = 24_000;
/// Puts in one write that fills it.
const FILL: u64 = 2_000;

/// What a command does to keys that the history watches.
type Changes = Vec<(Vec<u8>, Call)>;

/// What a client asks.
#[derive(Clone, Debug)]
enum Question {
    Get(Vec<u8>, Consistency),
    /// Commands, in one write; each with the keys of the history that it changes.
    Write(Vec<(Bytes, Changes)>),
}

/// A question under way.
#[derive(Debug)]
struct Asked {
    client: usize,
    node: usize,
    at: u64,
    question: Question,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    random: Random,
    keys: u64,
    huge: Option<u64>,
    large_per_mille: u64,
    /// Every other client reads only.
    readers: bool,
    waiting: BTreeMap<u64, Asked>,
    next_ticket: u64,
    next_value: u64,
    operations: Vec<Operation>,
    sent: BTreeSet<u64>,
    pub(super) asked: u64,
    pub(super) answered: u64,
}

impl Clients {
    pub(super) fn new(seed: u64, profile: &Profile) -> Self {
        Self {
            random: Random::new(seed, "clients"),
            keys: profile.keys,
            huge: profile.huge_ranges.then_some(0),
            large_per_mille: profile.large_per_mille,
            readers: profile.has_readers(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            next_value: 0,
            operations: Vec::new(),
            sent: BTreeSet::new(),
            asked: 0,
            answered: 0,
        }
    }

    /// Checksums of the payloads that clients sent once.
    pub(super) fn sent_payloads(&self) -> BTreeSet<u64> {
        self.sent.clone()
    }

    /// Whether somebody waits for an answer.
    pub(super) fn are_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Everything that was asked and answered; questions still open have an unknown outcome.
    pub(super) fn history(&self) -> Vec<Operation> {
        let mut history = self.operations.clone();
        for asked in self.waiting.values() {
            history.extend(operations(asked, None));
        }
        history
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key{:02}", self.random.within(0..self.keys)).into_bytes()
    }

    fn value(&mut self, client: usize) -> Vec<u8> {
        self.next_value += 1;
        let mut value = format!("c{client}-{}", self.next_value).into_bytes();
        let length = if self.random.chance(self.large_per_mille) {
            self.random.within(4_000..60_000)
        } else {
            self.random.within(0..120)
        };
        value.resize(value.len() + usize::try_from(length).unwrap_or(0), b'.');
        value
    }

    fn put(&mut self, client: usize) -> (Bytes, Changes) {
        let (key, value) = (self.key(), self.value(client));
        let payload = Command::Put { key: &key, value: &value }.encode();
        (payload, vec![(key, Call::Put(value))])
    }

    fn delete(&mut self) -> (Bytes, Changes) {
        let key = self.key();
        (Command::Delete { key: &key }.encode(), vec![(key, Call::Delete)])
    }

    fn delete_range(&mut self) -> (Bytes, Changes) {
        let (one, two) = (self.random.within(0..self.keys), self.random.within(0..self.keys));
        let (from, to) = (one.min(two), one.max(two));
        let name = |key: u64| format!("key{key:02}").into_bytes();
        let payload = Command::DeleteRange { from: &name(from), to: Some(&name(to)) }.encode();
        (payload, (from..to).map(|key| (name(key), Call::Delete)).collect())
    }

    /// The next step of filling and deleting a range of many keys.
    fn huge(&mut self, filled: u64) -> Vec<(Bytes, Changes)> {
        if filled >= HUGE {
            self.huge = Some(0);
            let payload = Command::DeleteRange { from: b"many", to: Some(b"many~") }.encode();
            return vec![(payload, Vec::new())];
        }
        self.huge = Some(filled + FILL);
        let key = |number: u64| format!("many{number:06}").into_bytes();
        (filled..filled + FILL)
            .map(|number| (Command::Put { key: &key(number), value: b"x" }.encode(), Vec::new()))
            .collect()
    }

    /// The next question of a client; should it be a read, it must be so fresh.
    fn question(&mut self, client: usize, consistency: Consistency) -> Question {
        if let Some(filled) = self.huge.filter(|_filled| client == 0) {
            return Question::Write(self.huge(filled));
        }
        if self.readers && client % 2 == 1 {
            return Question::Get(self.key(), consistency);
        }
        match self.random.within(0..100) {
            0..45 => Question::Get(self.key(), consistency),
            45..85 => Question::Write(vec![self.put(client)]),
            85..91 => Question::Write(vec![self.delete()]),
            91..94 => Question::Write(vec![self.delete_range()]),
            _ => {
                // Each key once: the entries of a write stand behind each other in the log, and others may read between.
                let (count, mut keys) = (self.random.within(2..6), BTreeSet::new());
                let puts = (0..count).map(|_number| self.put(client));
                let of_another_key = |(_payload, changes): &(Bytes, Changes)| {
                    changes.iter().all(|(key, _call)| keys.insert(key.clone()))
                };
                Question::Write(puts.filter(of_another_key).collect())
            }
        }
    }
}

/// What a question is in the history, with its answer.
fn operations(asked: &Asked, answer: Option<(u64, Answer)>) -> Vec<Operation> {
    let operation = |key: &Vec<u8>, call: &Call| Operation {
        client: asked.client as u64,
        key: key.clone(),
        call: call.clone(),
        invoked: asked.at,
        answered: answer.clone(),
    };
    match &asked.question {
        Question::Get(key, consistency) if is_linearizable(*consistency) => vec![operation(key, &Call::Get)],
        Question::Get(..) => Vec::new(),
        Question::Write(writes) => {
            // Each is an entry of its own: readers may see what a later one of the same question hides.
            let changes = writes.iter().flat_map(|(_payload, changes)| changes);
            changes.map(|(key, call)| operation(key, call)).collect()
        }
    }
}

impl World {
    /// A client asks its next question.
    pub(super) fn client(&mut self, client: usize) {
        // Time to answer what is under way.
        if self.now + 1_000_000 > self.profile.end() {
            return;
        }
        let Some(node) = self.some_node() else { return self.think(client) };
        let consistency = self.reads.consistency();
        let question = self.clients.question(client, consistency);
        let patience = self.clients.random.within(100_000..1_500_000);
        self.clients.next_ticket += 1;
        self.clients.asked += 1;
        let ticket = self.clients.next_ticket;
        let asked = Asked { client, node, at: self.now, question: question.clone() };
        let (now, clock) = (self.now, self.nodes.get(node).map(|it| it.clock(self.now)).unwrap_or_default());
        let deadline = clock.after(std::time::Duration::from_micros(patience));
        self.trace.event(now, node + 1, "asked", &[ticket, client as u64], || {
            let mut text = format!("{:?}", asked.question);
            text.truncate(120);
            format!("{ticket} by client {client}: {text}")
        });
        self.clients.waiting.insert(ticket, asked);
        match question {
            Question::Get(_key, consistency) => self.ask_to_read(node, ticket, consistency, deadline),
            Question::Write(writes) => {
                self.clients.sent.extend(unique(&writes));
                if writes.len() > 1 {
                    self.marks.met("seen: several entries in one write");
                }
                let proposal = |(payload, _changes): &(Bytes, _)| Proposal {
                    channel: 0,
                    payload: payload.clone(),
                    reserve: false,
                };
                let proposals = writes.iter().map(proposal).collect();
                self.input(node, |process, _now| process.propose(ticket, proposals, deadline));
            }
        }
    }

    /// A node that runs, if any does; the leader more often than others.
    fn some_node(&mut self) -> Option<usize> {
        let leader = self.nodes.iter().position(super::node::Node::leads);
        if let Some(leader) = leader
            && self.clients.random.chance(400)
        {
            return Some(leader);
        }
        // Few ask a node that was removed.
        let members_only = self.profile.has_operator() && self.clients.random.chance(950);
        let runs = |node: &usize| self.nodes.get(*node).is_some_and(|it| it.process.is_some());
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|node| runs(node) && (!members_only || self.is_member(*node))).collect();
        self.clients.random.pick(&up)
    }

    /// A node answers.
    pub(super) fn answer(&mut self, node: usize, ticket: u64, told: Told) {
        let told = match told {
            Told::Snapshot(answer) => return self.snapshot_answered(node, ticket, answer),
            Told::Members(answer) => return self.change_answered(node, ticket, answer),
            Told::Transfer(answer) => return self.transfer_answered(node, ticket, answer),
            told @ (Told::Write(_) | Told::Read(_)) => told,
        };
        let Some(asked) = self.clients.waiting.remove(&ticket) else { return };
        let (now, ends) = (self.now, self.profile.faults_end() + converges::SERVES_AFTER);
        let after_faults = asked.at > ends && self.is_member(node);
        self.trace.event(now, node + 1, "answers", &[ticket], || format!("{ticket}: {told:?}"));
        let served = match (&told, &asked.question) {
            (Told::Write(Ok(write)), Question::Write(writes)) => {
                let payloads: Vec<u64> = writes.iter().map(|(payload, _)| digest(payload)).collect();
                self.done(node, write, &payloads);
                self.clients.operations.extend(operations(&asked, Some((now, Answer::Done))));
                Ok(())
            }
            (Told::Write(Err(error)), Question::Write(writes)) => {
                let unknown = matches!(error, WriteError::Unknown(_));
                self.marks.met(if unknown { "seen: write unknown" } else { "seen: write refused" });
                if unknown {
                    self.clients.operations.extend(operations(&asked, None));
                } else {
                    self.acknowledged.refused(unique(writes));
                }
                Err(error.to_string())
            }
            (Told::Read(Ok(_index)), Question::Get(key, consistency)) => {
                self.read(node, key, *consistency, &asked);
                Ok(())
            }
            (Told::Read(Err(error)), Question::Get(..)) => {
                self.marks.met("seen: read refused");
                self.clients.operations.extend(operations(&asked, None));
                Err(error.to_string())
            }
            (Told::Write(_) | Told::Read(_) | Told::Snapshot(_) | Told::Members(_) | Told::Transfer(_), _) => {
                Err("an answer to another kind of question".to_owned())
            }
        };
        let refused = served.is_err();
        match served {
            Ok(()) => self.clients.answered += 1,
            Err(reason) if after_faults => {
                let id = self.nodes.get(node).map(|it| it.id).unwrap_or_default();
                self.judge(converges::PROPERTY, converges::not_served(id, &reason));
            }
            Err(_reason) => {}
        }
        if refused { self.wait_a_little(asked.client) } else { self.think(asked.client) }
    }

    fn done(&mut self, node: usize, write: &Proposed, payloads: &[u64]) {
        let Some(it) = self.nodes.get(node) else { return };
        self.marks.met("seen: write acknowledged");
        if !it.leads() {
            self.marks.met("seen: forwarded write acknowledged");
        }
        if write
            .answers
            .iter()
            .any(|answer| answer.first_chunk::<8>().is_some_and(|count| u64::from_le_bytes(*count) > 1))
        {
            self.marks.met("seen: range deleted");
        }
        let applied = it.process.as_ref().map_or(Index::ZERO, |process| process.applied().index);
        self.reads.bounded.done(self.now, write.last());
        let verdict = self.acknowledged.done(write, payloads, applied, &self.truth);
        self.judge(acknowledged::PROPERTY, verdict);
    }

    fn read(&mut self, node: usize, key: &[u8], consistency: Consistency, asked: &Asked) {
        self.marks.met("seen: read answered");
        if let Consistency::StaleWithin(bound) = consistency {
            self.check_bounded(node, bound, asked.at);
        }
        let Some(watch) = self.nodes.get(node).and_then(|it| it.watch.as_ref()) else { return };
        let value = watch.reader.get(key).ok().flatten().map(|item| item.value.to_vec());
        self.clients.operations.extend(operations(asked, Some((self.now, Answer::Value(value)))));
    }

    /// The client asks again after a while.
    fn think(&mut self, client: usize) {
        // One that fills a range of thousands of keys leaves time for others.
        let slower = if client == 0 && self.profile.huge_ranges { 20 } else { 1 };
        let wait = self.clients.random.around(self.profile.think * slower).max(100);
        self.schedule(wait, Event::Client { client });
    }

    /// The client was refused: asking again at once would be of no use.
    fn wait_a_little(&mut self, client: usize) {
        let wait = self.clients.random.around(60_000).max(1_000);
        self.schedule(wait, Event::Client { client });
    }

    /// A process is gone, and with it everybody's answers.
    pub(super) fn lose_callers(&mut self, node: usize) {
        self.asked.waiting.retain(|_ticket, (asked, _, _)| *asked != node);
        self.operator.lose(node);
        let lost: Vec<u64> = self
            .clients
            .waiting
            .iter()
            .filter(|(_ticket, asked)| asked.node == node)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in lost {
            let Some(asked) = self.clients.waiting.remove(&ticket) else { continue };
            self.clients.operations.extend(operations(&asked, None));
            self.think(asked.client);
        }
    }
}

/// Checksums of the payloads that no other write has: those of puts, whose values are all different. The log tells
/// writes apart by nothing but their bytes.
fn unique(writes: &[(Bytes, Changes)]) -> impl Iterator<Item = u64> {
    let puts = |changes: &Changes| changes.iter().any(|(_key, call)| matches!(call, Call::Put(_)));
    writes.iter().filter(move |(_payload, changes)| puts(changes)).map(|(payload, _changes)| digest(payload))
}
