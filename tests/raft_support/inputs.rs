//! Single messages and single nodes, for tests that need no cluster.

use std::time::Duration;

use dledger::raft::message::{Body, Message};
use dledger::types::{EntryId, Index, Monotonic, NodeId, Role, Term};

use super::cluster::disk_of;
use super::node::{Node, Packet, config, members};

pub const MS: Duration = Duration::from_millis(1);

pub fn at(millis: u64) -> Monotonic {
    Monotonic::from_micros(1_000_000 + millis * 1000)
}

pub fn id(index: u64, term: u64) -> EntryId {
    EntryId::new(Index(index), Term(term))
}

/// Node 1 of three, restored with these terms in its log and `term` as its own.
pub fn alone(term: u64, log: &[u64], committed: u64) -> Node {
    Node::start(config(1, 1), members(3), disk_of(1, term, log, committed), at(0))
}

pub fn message(from: u64, term: u64, body: Body) -> Packet {
    let message = Message { from: NodeId(from), to: NodeId(1), term: Term(term), body };
    Packet { message, records: Vec::new() }
}

/// An append of leader `from` with records of these terms, whose values say who made them.
pub fn append(from: u64, term: u64, prev: EntryId, terms: &[u64], commit: u64) -> Packet {
    let log: Vec<u64> = std::iter::repeat_n(0, prev.index.0 as usize).chain(terms.iter().copied()).collect();
    let records = disk_of(from, 0, &log, 0).log.split_off(prev.index.0 as usize);
    Packet { records, ..message(from, term, Body::Append { prev, commit: Index(commit), base: Index::ZERO }) }
}

pub fn terms_of(node: &Node) -> Vec<u64> {
    node.log.iter().map(|record| record.term.0).collect()
}

/// Takes what the node has sent, as bodies with their receivers and terms.
pub fn sent(node: &mut Node) -> Vec<(u64, u64, Body)> {
    node.out.drain(..).map(|packet| (packet.message.to.0, packet.message.term.0, packet.message.body)).collect()
}

pub fn granted(node: &mut Node) -> Vec<bool> {
    let answer = |(_to, _term, body)| match body {
        Body::VoteAnswer { granted } | Body::PreVoteAnswer { granted, .. } => Some(granted),
        Body::VoteInDoubt | Body::PreVoteInDoubt { .. } => Some(true),
        _ => None,
    };
    sent(node).into_iter().filter_map(answer).collect()
}

pub fn vote_request(from: u64, term: u64, last: EntryId) -> Packet {
    message(from, term, Body::Vote { last, handed_over: false })
}

/// Has node 1 of three win term 1 above its own with the votes of 2.
pub fn lead(node: &mut Node) {
    let next = node.raft.term().next();
    node.tick(at(400));
    node.receive(at(400), &message(2, 0, Body::PreVoteAnswer { next, granted: true }));
    node.receive(at(400), &message(2, next.0, Body::VoteAnswer { granted: true }));
    assert_eq!(node.raft.role(), Role::Leader);
}
