//! Lease reads of the core: what a follower promises, what a leader may go by, and what ends it.

#![allow(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test's own support: it must fail loudly, and is shared between test binaries"
)]

mod raft_support;

use std::time::Duration;

use dledger::raft::message::Body;
use dledger::raft::{Change, Membership, ReadBy};
use dledger::types::{Index, NodeId, Role, Term};
use raft_support::cluster::{Cluster, disk_of};
use raft_support::inputs::{MS, at, granted, id, message, sent, vote_request};
use raft_support::node::{Node, config, member, members};

/// What members promise here.
const PROMISE: Duration = Duration::from_millis(500);
/// How long that counts for the leader.
const LEASE: Duration = Duration::from_millis(400);

fn leased(count: u64) -> Membership {
    Membership { read_lease: PROMISE, ..members(count) }
}

/// Node 1 of three in a cluster with leases, started at 0.
fn follower() -> Node {
    Node::start(config(1, 1), leased(3), disk_of(1, 1, &[1], 1), at(0))
}

fn heartbeat(term: u64) -> raft_support::node::Packet {
    message(2, term, Body::Heartbeat { commit: Index(1), round: 1 })
}

fn ask(node: &mut Node, millis: u64, from: u64, term: u64) -> bool {
    node.receive(at(millis), &vote_request(from, term, id(9, 1)));
    granted(node) == [true]
}

/// A cluster with leases whose node `id` leads, all of it at rest.
fn led_by(id: u64, size: u64) -> Cluster {
    let mut cluster = Cluster::with_members(leased(size));
    cluster.run(PROMISE);
    cluster.elect(id);
    cluster.lines.clear();
    cluster
}

/// Whether a lease read of node `id` is answered without a message.
fn reads_by_lease(cluster: &mut Cluster, id: u64) -> bool {
    let before = cluster.node(id).reads.len();
    let under_way = cluster.network.len();
    cluster.lease_read(id, 7);
    cluster.network.truncate(under_way);
    cluster.node(id).reads.len() > before
}

#[test]
fn promise_outlives_a_closed_connection_and_ends_with_its_time() {
    let mut node = follower();
    node.receive(at(600), &heartbeat(1));
    node.disconnected(at(601), NodeId(2));
    sent(&mut node);
    assert!(!ask(&mut node, 1099, 3, 2));
    assert_eq!(node.raft.term().0, 1, "nor is the term taken over");
    node.tick(at(1099));
    assert_eq!(node.raft.role(), Role::Follower, "it does not stand either");
    assert!(node.raft.next_deadline().unwrap() >= at(1100));
    assert!(ask(&mut node, 1100, 3, 2));
}

#[test]
fn promise_keeps_the_node_from_standing_and_ends_in_time_for_it_to_stand_at_once() {
    let mut node = follower();
    node.receive(at(600), &heartbeat(1));
    node.disconnected(at(601), NodeId(2));
    let mut due = at(0);
    while node.raft.role() == Role::Follower {
        due = node.raft.next_deadline().unwrap();
        node.tick(due);
    }
    assert!(due >= at(1100) && due <= at(1120), "{due:?}");
}

#[test]
fn promise_of_an_earlier_life_is_kept_after_a_restart() {
    let mut node = follower();
    assert!(!ask(&mut node, 499, 3, 2));
    node.tick(at(499));
    assert_eq!(node.raft.role(), Role::Follower);
    assert!(ask(&mut node, 500, 3, 2));
    let mut alone = Node::start(config(1, 1), leased(1), disk_of(1, 1, &[1], 1), at(0));
    assert_eq!((alone.raft.role(), alone.raft.next_deadline()), (Role::Follower, Some(at(500))));
    alone.tick(at(500));
    assert_eq!(alone.raft.role(), Role::Leader);
}

/// Stickiness is asked only of requests in a later term: whoever had heard of that term otherwise was free to vote.
#[test]
fn promise_is_kept_in_a_later_term_that_the_node_heard_of_otherwise() {
    let mut node = follower();
    node.receive(at(600), &heartbeat(1));
    node.receive(at(601), &message(3, 2, Body::ReadIndex { token: 1, by_lease: false }));
    assert_eq!((node.raft.term().0, node.raft.leader()), (2, None));
    sent(&mut node);
    assert!(!ask(&mut node, 602, 3, 2));
    assert!(ask(&mut node, 1100, 3, 2));
}

#[test]
fn promise_is_passed_by_a_hand_over() {
    let mut node = follower();
    node.receive(at(600), &heartbeat(1));
    sent(&mut node);
    node.receive(at(601), &message(3, 2, Body::Vote { last: id(9, 1), handed_over: true }));
    assert_eq!(granted(&mut node), [true]);
    let mut target = follower();
    target.receive(at(600), &heartbeat(1));
    target.receive(at(601), &message(2, 1, Body::HandOver));
    assert_eq!(target.raft.role(), Role::Candidate);
}

#[test]
fn promise_is_none_in_a_cluster_without_leases() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.run(300 * MS);
    assert_eq!(cluster.node(1).raft.read_lease_until(), None);
    assert!(!reads_by_lease(&mut cluster, 1), "it takes a round");
}

#[test]
fn lease_counts_from_when_the_heartbeat_was_sent() {
    let mut cluster = led_by(1, 3);
    cluster.tick(1);
    let sent_at = cluster.now;
    let heartbeats = cluster.take(Some(1), None);
    cluster.pass(90 * MS);
    heartbeats.iter().filter(|packet| packet.message.to.0 == 2).for_each(|packet| cluster.deliver(packet));
    cluster.pass(60 * MS);
    cluster.pick(Some(2), Some(1), true);
    assert_eq!(cluster.node(1).raft.read_lease_until(), Some(sent_at.after(LEASE)));
    cluster.network.clear();
    cluster.now = sent_at.after(LEASE - Duration::from_micros(1));
    assert!(reads_by_lease(&mut cluster, 1));
    cluster.pass(Duration::from_micros(1));
    assert!(!reads_by_lease(&mut cluster, 1), "over, and confirmed by a round again");
}

/// A quorum follows it, and what the leader before it has committed it may not know yet.
#[test]
fn lease_waits_for_an_entry_of_the_term() {
    let mut node = follower();
    let due = at(900);
    node.tick(due);
    node.receive(due, &message(2, 1, Body::PreVoteAnswer { next: Term(2), granted: true }));
    node.receive(due, &message(2, 2, Body::VoteAnswer { granted: true }));
    assert_eq!(node.raft.role(), Role::Leader);
    let (none, last) = (Index(0), Index(2));
    let answer =
        |durable| Body::HeartbeatAnswer { round: 1, durable, verified: durable, written: durable, full: false };
    node.receive(at(901), &message(2, 2, answer(none)));
    assert_eq!(node.raft.read_lease_until(), None);
    node.receive(at(902), &message(2, 2, answer(last)));
    assert_eq!((node.raft.committed(), node.raft.read_lease_until()), (last, Some(due.after(LEASE))));
}

#[test]
fn lease_needs_both_majorities_while_voters_change() {
    let mut cluster = led_by(1, 3);
    for joiner in 4..=5 {
        cluster.join(joiner);
        cluster.change(1, &Change::AddLearner { member: member(joiner), promote: false }).unwrap();
        cluster.run(600 * MS);
    }
    assert!(reads_by_lease(&mut cluster, 1));
    cluster.change(1, &Change::Promote { id: NodeId(4) }).unwrap();
    cluster.network.clear();
    assert!(reads_by_lease(&mut cluster, 1), "of 1, 2, 3 and of 1, 2, 3, 4 three have just answered");
    cluster.cuts.extend([(2, 1), (3, 1)]);
    cluster.pass(LEASE);
    cluster.tick(1);
    cluster.deliver_all();
    assert!(!reads_by_lease(&mut cluster, 1), "4 and 5 answer: 5 is a learner, and of the old voters only 1 does");
}

#[test]
fn lease_of_learners_is_none() {
    let mut cluster = led_by(1, 3);
    cluster.join(4);
    cluster.change(1, &Change::AddLearner { member: member(4), promote: false }).unwrap();
    cluster.run(600 * MS);
    cluster.cuts.extend([(2, 1), (3, 1)]);
    cluster.pass(LEASE);
    cluster.tick(1);
    cluster.deliver_all();
    assert!(!reads_by_lease(&mut cluster, 1));
}

#[test]
fn lease_ends_before_a_transfer_leaves_and_stays_ended_when_that_comes_to_nothing() {
    let mut cluster = led_by(1, 3);
    cluster.tick(1);
    cluster.deliver_all();
    assert!(reads_by_lease(&mut cluster, 1));
    cluster.transfer(1, 2).unwrap();
    assert!(!reads_by_lease(&mut cluster, 1), "the word that passes all promises is under way");
    cluster.pick(Some(1), Some(2), false);
    cluster.run(1000 * MS);
    assert_eq!(cluster.leader(), Some(1), "it was given up");
    assert!(!reads_by_lease(&mut cluster, 1), "it may arrive at any time");
    cluster.transfer(1, 2).unwrap();
    cluster.run(1000 * MS);
    assert_eq!(cluster.leader(), Some(2));
    assert!(reads_by_lease(&mut cluster, 2), "the next office has one");
}

#[test]
fn lease_ends_with_the_office() {
    let mut cluster = led_by(1, 3);
    let now = cluster.now;
    cluster.node(1).receive(
        now,
        &message(
            3,
            9,
            Body::AppendAnswer {
                outcome: dledger::raft::message::AppendOutcome::Accepted { durable: Index(0), verified: Index(0) },
            },
        ),
    );
    assert_eq!(cluster.node(1).raft.read_lease_until(), None);
    cluster.lease_read(1, 8);
    assert_eq!(cluster.node(1).reads.last().unwrap().index, None);
}

#[test]
fn lease_of_a_leader_that_slept_is_over_when_it_wakes() {
    let mut cluster = led_by(1, 3);
    assert!(reads_by_lease(&mut cluster, 1));
    cluster.connection(1, 2, false);
    cluster.connection(1, 3, false);
    let asleep = cluster.nodes.remove(&1).unwrap();
    cluster.run(1500 * MS);
    assert!(cluster.leader().is_some_and(|leader| leader != 1), "the others have gone on");
    cluster.nodes.insert(1, asleep);
    assert_eq!(cluster.node(1).raft.role(), Role::Leader, "it knows of nothing");
    assert!(!reads_by_lease(&mut cluster, 1));
}

#[test]
fn lease_read_of_a_follower_takes_a_question_and_no_round() {
    let mut cluster = led_by(1, 3);
    cluster.lease_read(2, 5);
    cluster.pick(Some(2), Some(1), true);
    let answers = cluster.take(Some(1), None);
    assert!(
        matches!(answers[..], [ref only] if matches!(only.message.body, Body::ReadIndexAnswer { index: Some(_), .. }))
    );
    answers.iter().for_each(|packet| cluster.deliver(packet));
    assert_eq!(cluster.node(2).reads.last().unwrap().token, 5);
    cluster.now = cluster.now.after(LEASE);
    let now = cluster.now;
    cluster.node(2).read_index(now, 6, ReadBy::Lease);
    cluster.deliver_all();
    assert_eq!(cluster.node(2).reads.len(), 1, "its leader was not heard of late, or asks all first");
}
