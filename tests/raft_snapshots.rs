//! Logs whose front is purged, and snapshots that take its place, as the core sees them.

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

use dledger::raft::message::{AppendOutcome, Body};
use dledger::raft::{AppendStep, Installed, Raft, Restored};
use dledger::types::{Index, NodeId, Role, Term, TermRun, Vote};
use raft_support::cluster::Cluster;
use raft_support::inputs::{alone, append, at, granted, id, message, sent, vote_request};
use raft_support::node::{Record, config, members};

/// What node 3 was told that it lacks, in order.
fn lacks(cluster: &Cluster) -> Vec<&str> {
    cluster.lines.iter().filter_map(|line| line.strip_prefix("3 lacks ")).collect()
}

/// Node 1 leads three; node 3 went away when the log had `there` entries, which the others then took to `last`.
fn away(there: u64, last: u64) -> Cluster {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.propose(1, there - 1);
    cluster.deliver_all();
    cluster.crash(3);
    cluster.propose(1, last - there);
    cluster.deliver_all();
    assert_eq!(cluster.committed(1), last);
    cluster
}

fn compact(cluster: &mut Cluster, node: u64, upto: u64) {
    let now = cluster.now;
    cluster.node(node).compact(now, upto);
}

fn install(cluster: &mut Cluster, node: u64, upto: u64) -> bool {
    let (now, source) = (cluster.now, cluster.node(1).log.clone());
    cluster.node(node).install(now, upto, &source)
}

/// Records of these terms that no node of the test has made.
fn records(terms: &[u64]) -> Vec<Record> {
    terms.iter().map(|term| Record { term: Term(*term), value: 90 + term, membership: None }).collect()
}

#[test]
fn purged_follower_exactly_at_the_base_catches_up_and_one_before_it_lacks() {
    for (there, is_lacking) in [(4, true), (5, false), (6, false)] {
        let mut cluster = away(there, 9);
        compact(&mut cluster, 1, 5);
        cluster.restart(3);
        cluster.run(Duration::from_millis(400));
        assert_eq!(!lacks(&cluster).is_empty(), is_lacking, "{there}");
        assert_eq!(cluster.committed(3) == 9, !is_lacking, "{there}");
    }
}

#[test]
fn purged_follower_that_lacks_is_told_at_the_pace_of_heartbeats_and_goes_on_behind_its_snapshot() {
    let mut cluster = away(3, 12);
    compact(&mut cluster, 1, 8);
    cluster.restart(3);
    cluster.run(Duration::from_millis(1000));
    let told = lacks(&cluster);
    assert!((3..=22).contains(&told.len()), "{} times in a second of heartbeats of 50 ms", told.len());
    assert!(told.iter().all(|lack| *lack == "what 1 has purged up to 8"), "{told:?}");
    assert!(install(&mut cluster, 3, 10), "its log is started anew");
    cluster.lines.clear();
    cluster.run(Duration::from_millis(300));
    assert_eq!((cluster.committed(3), cluster.node(3).raft.base()), (12, id(10, 1)));
    let log = cluster.node(1).log.clone();
    assert_eq!(cluster.node(3).log, log);
    let writes: Vec<_> = cluster.lines.iter().filter_map(|line| line.strip_prefix("3 writes #")).collect();
    assert!(
        writes.len() == 1 && writes[0].ends_with(": append 11..=12"),
        "what the snapshot has is sent again: {writes:?}"
    );
}

#[test]
fn purged_under_a_follower_that_is_being_sent_to_it_is_asked_anew() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.propose(1, 5);
    cluster.pick(Some(1), Some(3), false);
    cluster.deliver_all();
    assert_eq!(cluster.committed(1), 6);
    compact(&mut cluster, 1, 6);
    cluster.run(Duration::from_millis(600));
    assert!(!lacks(&cluster).is_empty());
    install(&mut cluster, 3, 6);
    cluster.propose(1, 1);
    cluster.run(Duration::from_millis(300));
    assert_eq!(cluster.committed(3), 7);
}

#[test]
fn purged_leader_never_orders_what_it_has_not() {
    let mut cluster = away(3, 12);
    compact(&mut cluster, 1, 8);
    cluster.restart(3);
    for _ in 0..20 {
        cluster.pass(Duration::from_millis(50));
        cluster.tick(1);
        for packet in cluster.take(Some(1), Some(3)) {
            if let Body::Append { prev, base, .. } = packet.message.body {
                assert_eq!((prev, base), (id(8, 1), Index(8)));
            }
            cluster.deliver(&packet);
        }
        cluster.deliver_all();
    }
}

#[test]
fn install_over_a_conflicting_tail_discards_it_and_its_writes_count_for_nothing() {
    let mut node = alone(2, &[1, 1], 1);
    node.disk_held = true;
    node.receive(at(1), &append(2, 2, id(2, 1), &[2, 2, 2, 2], 1));
    let committed = records(&[1, 1, 3, 3]);
    assert!(node.install(at(2), 4, &committed));
    let raft = &node.raft;
    assert_eq!((raft.last(), raft.base(), raft.durable()), (id(4, 3), id(4, 3), Index(4)));
    assert_eq!((raft.committed(), raft.applied_index()), (Index(4), Index(4)));
    node.disk_held = false;
    while node.complete_one(at(3)) {}
    assert_eq!(node.raft.durable(), Index(4), "the old write vouched for 3 to 6");
}

#[test]
fn install_of_a_later_term_is_not_forgotten_and_no_vote_is_given_in_it_twice() {
    let mut node = alone(2, &[1, 2], 1);
    let committed = records(&[1, 2, 5]);
    assert!(node.install(at(1), 3, &committed));
    assert_eq!((node.raft.term(), node.disk.vote), (Term(5), Vote { term: Term(5), voted_for: NodeId(0) }));
    node.receive(at(2), &vote_request(2, 6, id(2, 2)));
    assert_eq!(granted(&mut node), [false], "the snapshot is part of its log");
}

#[test]
fn install_that_the_log_holds_already_discards_nothing() {
    let mut cluster = away(3, 12);
    let (now, source) = (cluster.now, cluster.node(1).log.clone());
    assert!(!cluster.node(2).install(now, 7, &source));
    assert_eq!((cluster.node(2).raft.last(), cluster.node(2).raft.base()), (id(12, 1), id(0, 0)));
    assert!(!cluster.node(1).install(now, 12, &source), "a leader may, when it holds it");
    assert_eq!(cluster.node(1).raft.role(), Role::Leader);
}

/// A snapshot may come from anybody, and be ahead of a leader that was replaced and does not know: what it holds must not
/// count as a copy of that leader's log.
#[test]
fn install_verifies_nothing_for_the_leader_of_the_term() {
    let mut node = alone(2, &[1], 1);
    node.receive(at(1), &append(2, 2, id(1, 1), &[2], 1));
    sent(&mut node);
    let committed = records(&[1, 1, 1]);
    assert!(node.install(at(2), 3, &committed));
    node.receive(at(3), &message(2, 2, Body::Heartbeat { commit: Index(1), round: 1 }));
    for (_to, _term, body) in sent(&mut node) {
        match body {
            Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable, verified } }
            | Body::HeartbeatAnswer { durable, verified, .. } => {
                assert!(durable <= Index(2) && verified <= Index(2), "claims {durable} and {verified}");
            }
            _ => {}
        }
    }
}

#[test]
fn install_ends_a_hole_below_it_and_keeps_one_behind() {
    let log = [1, 1, 1, 1, 1, 1];
    for (hole, next) in [(3, None), (4, Some(6)), (5, Some(5))] {
        let mut node = alone(1, &log, 2);
        node.holes(at(1), Some(hole));
        let source = node.log.clone();
        assert!(!node.install(at(2), 4, &source));
        assert_eq!(node.raft.first_hole(), Some(Index(5)), "{hole}: there may be more behind it");
        assert_eq!(node.raft.durable(), Index(4));
        node.holes(at(3), next);
        assert_eq!(node.raft.first_hole(), next.map(Index));
        assert_eq!(node.raft.durable(), next.map_or(Index(6), |next| Index(next - 1)));
        assert_eq!(node.raft.applicable(), Index(4));
    }
}

/// All snapshots are damaged and the log begins behind them: index 5 is the base, the machine holds nothing.
fn detached() -> Raft {
    let restored = Restored {
        vote: Vote { term: Term(2), voted_for: NodeId(0) },
        base: id(5, 1),
        runs: vec![TermRun { first: Index(6), term: Term(2) }],
        last: id(8, 2),
        applied: Index(0),
        committed: Index(7),
        memberships: vec![(Index(1), members(3))],
        ..Restored::default()
    };
    Raft::new(config(1, 1), restored, at(0))
}

/// A hole behind the snapshot stayed when the log with it was discarded, and was outside of the log then. Found by
/// fuzzing; the tests had holes in logs that go on behind the snapshot.
#[test]
fn install_that_discards_the_log_discards_the_hole_in_it() {
    let mut node = alone(2, &[1, 2, 2, 2], 1);
    node.holes(at(1), Some(4));
    let committed = records(&[1, 1, 3]);
    assert!(node.install(at(2), 3, &committed));
    assert_eq!((node.raft.first_hole(), node.raft.last(), node.raft.durable()), (None, id(3, 3), Index(3)));
}

/// An append that starts before the base was believed about the base itself: the core told its caller to go on behind an
/// entry that this log has not. Found by fuzzing; the tests had appends from the base on.
#[test]
fn append_over_the_base_that_contradicts_it_is_ignored() {
    let mut node = alone(2, &[1], 1);
    let committed = records(&[1, 2, 2]);
    assert!(node.install(at(1), 3, &committed));
    let step = node.receive(at(2), &append(2, 4, id(1, 1), &[2, 3, 4], 1));
    assert_eq!((step, node.raft.last()), (Some(AppendStep::Ignored), id(3, 2)));
    let step = node.receive(at(3), &append(2, 4, id(1, 1), &[2, 2, 4], 1));
    assert_eq!((step, node.raft.last()), (Some(AppendStep::Accepted { new_from: Some(Index(4)) }), id(4, 4)));
}

#[test]
fn detached_log_votes_by_its_end_but_vouches_for_nothing_and_stands_for_nothing() {
    let mut raft = detached();
    assert_eq!((raft.durable(), raft.applicable(), raft.last()), (Index(5), Index(5), id(8, 2)));
    for millis in 1..40 {
        raft.tick(at(millis * 50));
        while raft.ready().is_some() {}
    }
    assert_eq!((raft.role(), raft.term()), (Role::Follower, Term(2)));
    raft.step(at(3_000), vote_request(2, 9, id(7, 2)).message);
    let refused = raft.ready().expect("an answer");
    let answers: Vec<_> = refused.messages.iter().chain(&refused.after_durable).map(|m| m.body.clone()).collect();
    assert_eq!(answers, [Body::VoteAnswer { granted: false }], "it has acknowledged 8");
    assert_eq!(raft.install(at(3_001), id(7, 2), None), Installed::Kept, "its log goes on behind the snapshot");
    assert_eq!((raft.durable(), raft.applicable(), raft.applied_index()), (Index(8), Index(7), Index(7)));
}

#[test]
fn snapshot_of_less_than_is_applied_changes_nothing() {
    let mut node = alone(1, &[1, 1, 1], 3);
    let source = node.log.clone();
    assert!(!node.install(at(1), 2, &source));
    assert_eq!((node.raft.applied_index(), node.raft.last()), (Index(3), id(3, 1)));
}
