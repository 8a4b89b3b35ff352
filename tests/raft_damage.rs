//! What a node with a damaged log may still say and do: holes, terms that nobody knows, and doubt about the end.

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

use std::collections::BTreeMap;
use std::time::Duration;

use dledger::raft::AppendStep;
use dledger::raft::message::{AppendOutcome, Body};
use dledger::types::{Index, Role, Term, TermRun};
use raft_support::cluster::{Cluster, disk_of};
use raft_support::inputs::{MS, alone, append, at, granted, id, lead, message, sent, terms_of, vote_request};
use raft_support::node::{Disk, Event, Node, config, members};

/// Node 1 of three in term 2, its log of `log` damaged at `hole`.
fn damaged(log: &[u64], committed: u64, hole: u64) -> Node {
    start(Disk { hole: Some(Index(hole)), ..disk_of(1, 2, log, committed) })
}

fn start(disk: Disk) -> Node {
    Node::start(config(1, 1), members(3), disk, at(0))
}

/// What the node's answers to appends and heartbeats call durable.
fn claims(node: &mut Node) -> Vec<u64> {
    let claim = |(_to, _term, body)| match body {
        Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable, .. } }
        | Body::HeartbeatAnswer { durable, .. } => Some(durable.0),
        _ => None,
    };
    sent(node).into_iter().filter_map(claim).collect()
}

/// How far the node was told to apply, in order.
fn offers(node: &Node) -> Vec<u64> {
    let offer = |event: &Event| if let Event::Committed(index) = event { Some(index.0) } else { None };
    node.events.iter().filter_map(offer).collect()
}

// ---- A hole ----

#[test]
fn hole_takes_no_promise_back_votes_go_by_the_last_entry() {
    for (last, gets_it) in [(id(3, 2), false), (id(4, 2), true), (id(2, 3), true)] {
        let mut node = damaged(&[1, 1, 2, 2], 1, 2);
        node.receive(at(1), &message(2, 2, Body::PreVote { next: Term(3), last }));
        node.receive(at(2), &vote_request(2, 3, last));
        assert_eq!(granted(&mut node), [gets_it, gets_it], "{last}");
    }
}

#[test]
fn hole_forbids_every_candidacy() {
    let mut node = damaged(&[1, 1, 2], 1, 2);
    for millis in (0..5_000).step_by(50) {
        node.tick(at(millis));
    }
    node.receive(at(5_000), &message(2, 3, Body::Heartbeat { commit: Index(1), round: 1 }));
    node.disconnected(at(5_001), 2.into());
    node.tick(at(5_030));
    node.receive(at(5_031), &message(2, 3, Body::HandOver));
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Follower, Term(3)));
    let asks = |(_to, _term, body)| matches!(body, Body::PreVote { .. } | Body::Vote { .. });
    assert!(!sent(&mut node).into_iter().any(asks));
    node.holes(at(5_040), None);
    node.tick(at(6_000));
    assert_eq!(node.raft.role(), Role::PreCandidate, "mended, it stands again");

    let mut lone = Node::start(config(1, 1), members(1), disk_of(1, 1, &[1], 0), at(0));
    assert_eq!(lone.raft.role(), Role::Leader);
    let disk = Disk { hole: Some(Index(1)), ..disk_of(1, 1, &[1], 0) };
    lone = Node::start(config(1, 1), members(1), disk, at(0));
    lone.tick(at(1_000));
    assert_eq!(lone.raft.role(), Role::Follower);
}

#[test]
fn hole_found_while_standing_ends_the_candidacy() {
    let mut node = alone(1, &[1, 1], 1);
    node.tick(at(400));
    assert_eq!(node.raft.role(), Role::PreCandidate);
    node.holes(at(401), Some(2));
    assert_eq!(node.raft.role(), Role::Follower);
    let mut node = alone(1, &[1, 1], 1);
    node.tick(at(400));
    node.receive(at(400), &message(2, 1, Body::PreVoteAnswer { next: Term(2), granted: true }));
    assert_eq!(node.raft.role(), Role::Candidate);
    node.holes(at(401), Some(2));
    node.receive(at(402), &message(2, 2, Body::VoteAnswer { granted: true }));
    assert_eq!(node.raft.role(), Role::Follower, "a vote that comes late elects nobody");
}

#[test]
fn hole_is_never_vouched_for_though_records_behind_it_are_taken() {
    let mut node = damaged(&[1, 1, 2], 1, 2);
    node.receive(at(1), &append(2, 2, id(3, 2), &[2, 2], 1));
    assert_eq!(terms_of(&node), [1, 1, 2, 2, 2], "stored");
    node.receive(at(2), &append(2, 2, id(5, 2), &[], 5));
    node.receive(at(3), &message(2, 2, Body::Heartbeat { commit: Index(5), round: 1 }));
    assert_eq!(claims(&mut node), [1, 1, 1]);
    assert_eq!((node.raft.durable(), node.raft.written()), (Index(1), Index(5)));
    node.holes(at(4), Some(4));
    assert_eq!(claims(&mut node), [3], "the first of two is mended");
    node.holes(at(5), None);
    assert_eq!(claims(&mut node), [5]);
}

#[test]
fn hole_is_where_applying_waits_though_more_is_known_to_be_committed() {
    let mut node = damaged(&[1, 1, 2, 2], 3, 2);
    assert_eq!((node.raft.committed(), offers(&node)), (Index(3), vec![1]));
    node.receive(at(1), &append(2, 2, id(4, 2), &[2], 5));
    assert_eq!((node.raft.committed(), node.raft.applicable(), offers(&node)), (Index(5), Index(1), vec![1]));
    node.holes(at(2), Some(4));
    node.holes(at(3), None);
    assert_eq!(offers(&node), [1, 3, 5]);
}

#[test]
fn hole_is_cut_away_by_a_conflict_at_or_below_it_only() {
    for (prev, cut) in [(id(1, 1), true), (id(2, 1), true), (id(3, 2), false)] {
        let mut node = damaged(&[1, 1, 2, 2], 1, 3);
        node.receive(at(1), &append(2, 3, prev, &[3], 1));
        let expected = if cut { None } else { Some(Index(3)) };
        assert_eq!(node.raft.first_hole(), expected, "{prev}");
        let whole = if cut { prev.index.0 + 1 } else { 2 };
        assert_eq!(node.raft.durable(), Index(whole), "{prev}");
    }
}

#[test]
fn hole_of_a_leader_takes_its_own_copy_out_of_the_count() {
    let mut node = alone(1, &[1, 1], 1);
    lead(&mut node);
    node.holes(at(401), Some(2));
    let outcome = |upto| Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable: upto, verified: upto } };
    node.receive(at(402), &message(2, 2, outcome(Index(3))));
    assert_eq!(node.raft.committed(), Index(1), "one whole copy of entry 3, and its own damaged one");
    node.receive(at(403), &message(3, 2, outcome(Index(3))));
    assert_eq!((node.raft.committed(), node.raft.applicable()), (Index(3), Index(1)));
    assert_eq!(node.raft.role(), Role::Leader);
}

#[test]
fn hole_mended_in_time_leaves_the_leader_in_office_else_it_hands_over() {
    for (mended_after, leads) in [(100, true), (400, false)] {
        let mut cluster = Cluster::led_by(1, 3);
        cluster.propose(1, 3);
        cluster.run(MS * 10);
        let now = cluster.now;
        cluster.node(1).holes(now, Some(2));
        cluster.run(MS * mended_after);
        let now = cluster.now;
        cluster.node(1).holes(now, None);
        cluster.run(MS * 500);
        assert_eq!(cluster.leader() == Some(1), leads, "mended after {mended_after} ms");
        let handed = cluster.lines.iter().any(|line| line.contains("HandOver"));
        assert_eq!((handed, cluster.leader().is_some()), (!leads, true));
    }
}

#[test]
fn hole_of_a_leader_that_nobody_can_replace_leaves_it_in_office() {
    // Entry 5 stands on node 1 alone while 3 is down: node 2 lacks it and would not get the vote of 1.
    let mut cluster = Cluster::led_by(1, 3);
    cluster.propose(1, 3);
    cluster.run(MS * 10);
    cluster.crash(3);
    cluster.hold_disk(2, true);
    cluster.propose(1, 1);
    let now = cluster.now;
    cluster.node(1).holes(now, Some(2));
    cluster.run(MS * 400);
    assert_eq!(cluster.leader(), Some(1));
    cluster.hold_disk(2, false);
    cluster.run(MS * 100);
    assert_eq!(cluster.leader(), Some(2), "as soon as node 2 has it all");
}

// ---- Terms that are not known ----

/// Node 1 of three in term 5 with a log of eight entries, of which the terms of 3 to 5 are not known.
fn unrecognisable(committed: u64) -> Node {
    start(Disk {
        hole: Some(Index(3)),
        unknown: vec![(Index(3), Index(5))],
        ..disk_of(1, 5, &[1, 1, 9, 9, 9, 4, 4, 4], committed)
    })
}

#[test]
fn unknown_last_entry_neither_votes_nor_stands() {
    let disk = Disk { hole: Some(Index(2)), unknown: vec![(Index(2), Index(2))], ..disk_of(1, 2, &[1, 2], 1) };
    let mut node = start(disk);
    node.tick(at(1_000));
    node.receive(at(1_001), &message(2, 2, Body::PreVote { next: Term(9), last: id(99, 8) }));
    node.receive(at(1_002), &vote_request(2, 9, id(99, 8)));
    assert_eq!((granted(&mut node), node.raft.role()), (vec![false, false], Role::Follower));
    node.receive(at(1_003), &append(2, 9, id(1, 1), &[2, 9], 1));
    node.receive(at(1_400), &vote_request(3, 10, id(3, 9)));
    assert_eq!(node.raft.last(), id(3, 9));
    assert_eq!(granted(&mut node), [true], "the last entry is a new one and known");
}

#[test]
fn unknown_terms_are_never_cut_on_suspicion() {
    let mut node = unrecognisable(1);
    let step = node.receive(at(1), &append(2, 5, id(2, 1), &[2, 3], 1));
    assert_eq!(step, Some(AppendStep::Accepted { new_from: None }));
    assert_eq!((node.raft.last(), node.raft.verified()), (id(8, 4), Index(4)), "nothing is cut");
    let step = node.receive(at(2), &append(2, 5, id(4, 3), &[4, 4], 1));
    assert_eq!(step, Some(AppendStep::Accepted { new_from: None }), "this leader led there");
    assert_eq!((node.raft.last(), node.raft.durable()), (id(8, 4), Index(2)));
    assert_eq!(claims(&mut node), [2, 2]);
}

#[test]
fn unknown_terms_give_way_where_what_stands_behind_them_conflicts() {
    let mut node = unrecognisable(1);
    let step = node.receive(at(1), &append(2, 5, id(2, 1), &[2, 2, 3, 5], 1));
    assert_eq!(step, Some(AppendStep::Accepted { new_from: Some(Index(6)) }));
    let cut = node.events.iter().find_map(|event| match event {
        Event::Write { append, .. } => append.as_ref().filter(|append| append.truncate).map(|append| append.after),
        _ => None,
    });
    assert_eq!(cut, Some(id(5, 3)), "the entry that stays last has the term that its leader says");
    assert_eq!((node.raft.last(), node.raft.first_hole()), (id(6, 5), Some(Index(3))));
}

#[test]
fn unknown_terms_give_way_where_sizes_or_terms_show_that_they_are_others() {
    // Entries 3 to 5 stand before one of term 4: a leader's of term 5 is another one. So is one of another size.
    for (terms, sizes_tell) in [([5, 5], false), ([2, 3], true)] {
        let mut node = unrecognisable(1);
        node.sizes_tell = sizes_tell;
        node.receive(at(1), &append(2, 5, id(2, 1), &terms, 1));
        assert_eq!((node.raft.last(), node.raft.first_hole()), (id(4, terms[1]), None));
        assert!(node.raft.in_doubt(), "one of the first of them may have been acknowledged, and be gone");
    }
    let mut node = unrecognisable(4);
    node.receive(at(1), &append(2, 5, id(2, 1), &[2, 3, 5], 4));
    assert_eq!((node.raft.last(), node.raft.first_hole()), (id(5, 5), Some(Index(3))), "3 and 4 are committed");
}

/// A peer gave the first of some damaged entries, which the disk was still writing when the leader's records showed that the
/// last of them was not its own. The refutation named the first one, which was known by then, and was lost: the leader's
/// entries were taken up behind one of another size. In the tests nothing came between.
#[test]
fn unknown_terms_behind_what_a_mend_has_told_apart_give_way_where_sizes_show_that_they_are_others() {
    let mut node = unrecognisable(1);
    node.sizes_tell = true;
    let known = TermRun { first: Index(3), term: Term(2) };
    assert!(node.raft.identified(at(1), (&[known], Index(3)), Vec::new()));
    let step = node.receive(at(2), &append(2, 5, id(2, 1), &[2, 3, 3], 1));
    assert_eq!(step, Some(AppendStep::Accepted { new_from: Some(Index(4)) }));
    assert_eq!((node.raft.last(), node.raft.first_hole()), (id(5, 3), Some(Index(3))));
    assert!(node.raft.in_doubt());
}

#[test]
fn unknown_terms_led_to_and_then_refuted_are_taken_back() {
    let mut node = unrecognisable(1);
    node.receive(at(1), &append(2, 5, id(2, 1), &[2, 3], 1));
    assert_eq!(node.raft.verified(), Index(4));
    sent(&mut node);
    let step = node.receive(at(2), &append(2, 5, id(4, 3), &[5], 1));
    assert_eq!((step, node.raft.verified()), (Some(AppendStep::Rejected), Index(2)));
    let outcome = AppendOutcome::Rejected { prev: id(4, 3), hint: id(2, 1) };
    assert!(sent(&mut node).iter().any(|(_, _, body)| *body == Body::AppendAnswer { outcome }));
    node.receive(at(3), &append(2, 5, id(2, 1), &[2, 3, 5], 1));
    assert_eq!((node.raft.last(), node.raft.first_hole()), (id(5, 5), None));
}

#[test]
fn unknown_entry_before_an_append_is_looked_for_below_the_hole() {
    let mut node = unrecognisable(1);
    node.receive(at(1), &append(2, 5, id(4, 3), &[], 1));
    let outcome = AppendOutcome::Rejected { prev: id(4, 3), hint: id(2, 1) };
    assert_eq!(sent(&mut node), [(2, 5, Body::AppendAnswer { outcome })]);
    // Where it is committed it can be no other.
    let mut node = unrecognisable(6);
    let step = node.receive(at(1), &append(2, 5, id(4, 3), &[3, 4], 6));
    assert_eq!(step, Some(AppendStep::Accepted { new_from: None }));
}

#[test]
fn unknown_terms_are_learnt_from_what_mends_them() {
    let run = |first, term| TermRun { first: Index(first), term: Term(term) };
    let mut node = unrecognisable(6);
    assert!(!node.raft.identified(at(1), (&[run(3, 5)], Index(5)), Vec::new()), "later than what stands behind");
    assert!(node.raft.identified(at(1), (&[run(3, 2), run(5, 3)], Index(5)), Vec::new()));
    node.holes(at(1), None);
    let found: Vec<_> = (3..=6).map(|index| node.raft.term_at(Index(index)).unwrap().0).collect();
    assert_eq!((found, offers(&node)), (vec![2, 2, 3, 4], vec![2, 6]));
}

#[test]
fn unknown_membership_is_adopted_from_what_mends_it() {
    let disk = Disk { hole: Some(Index(1)), ..disk_of(1, 1, &[1], 0) };
    let restored_without = |disk: Disk| {
        let mut node = start(disk);
        assert!(node.raft.identified(
            at(1),
            (&[TermRun { first: Index(1), term: Term(1) }], Index(1)),
            vec![(Index(1), members(5))]
        ));
        node
    };
    let node = restored_without(disk);
    assert_eq!(node.raft.membership().unwrap().voters.len(), 5);
}

// ---- Doubt about the end ----

fn in_doubt(term: u64, log: &[u64], committed: u64) -> Disk {
    Disk { in_doubt: true, ..disk_of(1, term, log, committed) }
}

/// Three nodes whose logs end with these terms; those named doubt theirs.
fn cluster_of(logs: [&[u64]; 3], doubters: &[u64]) -> Cluster {
    let disk = |(place, log): (usize, &&[u64])| {
        let id = place as u64 + 1;
        (id, Disk { in_doubt: doubters.contains(&id), ..disk_of(1, 3, log, 1) })
    };
    let disks: BTreeMap<u64, Disk> = logs.iter().enumerate().map(disk).collect();
    let mut cluster = Cluster::with_disks(disks);
    cluster.verbose = false;
    cluster
}

#[test]
fn doubt_makes_a_vote_that_no_majority_can_be_built_on() {
    let mut node = start(in_doubt(2, &[1, 2], 1));
    node.receive(at(1), &message(2, 2, Body::PreVote { next: Term(3), last: id(2, 2) }));
    node.receive(at(2), &vote_request(2, 3, id(2, 2)));
    let bodies: Vec<Body> = sent(&mut node).into_iter().map(|(_, _, body)| body).collect();
    assert_eq!(bodies, [Body::PreVoteInDoubt { next: Term(3) }, Body::VoteInDoubt]);

    let mut candidate = alone(2, &[1, 2], 1);
    candidate.tick(at(400));
    candidate.receive(at(401), &message(2, 2, Body::PreVoteInDoubt { next: Term(3) }));
    assert_eq!(candidate.raft.role(), Role::PreCandidate, "itself and one in doubt are no majority");
    candidate.receive(at(402), &message(3, 2, Body::PreVoteInDoubt { next: Term(3) }));
    assert_eq!(candidate.raft.role(), Role::Candidate, "but they are everybody");
    candidate.receive(at(403), &message(2, 3, Body::VoteInDoubt));
    assert_eq!(candidate.raft.role(), Role::Candidate);
    candidate.receive(at(404), &message(3, 3, Body::VoteAnswer { granted: true }));
    assert_eq!(candidate.raft.role(), Role::Leader);
}

#[test]
fn doubt_of_all_ends_when_all_take_part_and_the_most_advanced_log_wins() {
    let mut cluster = cluster_of([&[1, 2], &[1, 2, 2, 2], &[1, 2, 2]], &[1, 2, 3]);
    let third = cluster.nodes.remove(&3).unwrap();
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.leader(), None, "one is missing, and might have more than both");
    cluster.nodes.insert(3, third);
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.leader(), Some(2));
    for id in 1..=3 {
        assert_eq!(cluster.terms(id)[..4], [1, 2, 2, 2]);
        assert!(!cluster.node(id).raft.in_doubt(), "{id}");
    }
}

#[test]
fn doubt_of_one_ends_once_the_leader_has_brought_back_what_it_may_have_had() {
    let mut cluster = cluster_of([&[1, 2, 2], &[1, 2, 2], &[1]], &[3]);
    cluster.hold_disk(3, true);
    cluster.run(Duration::from_secs(1));
    assert!(cluster.leader().is_some_and(|leader| leader != 3));
    assert!(cluster.node(3).raft.in_doubt(), "nothing is on its disk yet");
    cluster.hold_disk(3, false);
    cluster.run(Duration::from_millis(200));
    assert!(!cluster.node(3).raft.in_doubt());
    let gone = cluster.leader().unwrap();
    cluster.crash(gone);
    cluster.run(Duration::from_secs(2));
    assert!(cluster.leader().is_some(), "its vote counts again");
}

#[test]
fn doubt_is_not_ended_by_news_from_before_the_restart() {
    let mut node = start(in_doubt(2, &[1, 2], 2));
    node.receive(at(1), &message(2, 2, Body::Heartbeat { commit: Index(2), round: 7 }));
    node.receive(at(2), &append(2, 2, id(2, 2), &[], 2));
    assert!(node.raft.in_doubt(), "a delayed heartbeat and append of the former life");
    let asked: Vec<u64> = sent(&mut node)
        .into_iter()
        .filter_map(|(_, _, body)| if let Body::ReadIndex { token, .. } = body { Some(token) } else { None })
        .collect();
    assert_eq!(asked.len(), 1, "asked once");
    let answer = |token, index| message(2, 2, Body::ReadIndexAnswer { token, index: Some(Index(index)) });
    node.receive(at(3), &answer(asked[0] ^ 1, 2));
    assert!(node.raft.in_doubt(), "an answer to another question");
    node.receive(at(4), &answer(asked[0], 2));
    assert!(!node.raft.in_doubt());
}

#[test]
fn doubt_lasts_until_the_node_has_what_its_leader_took_it_to_have() {
    // The leader counts this node for entry 4, which the disk lost; its committed index is 2 for the moment.
    let mut node = start(in_doubt(2, &[1, 2], 2));
    node.receive(at(1), &append(2, 2, id(4, 2), &[], 2));
    let token = sent(&mut node).into_iter().find_map(|(_, _, body)| match body {
        Body::ReadIndex { token, .. } => Some(token),
        _ => None,
    });
    node.receive(at(2), &message(2, 2, Body::ReadIndexAnswer { token: token.unwrap(), index: Some(Index(2)) }));
    node.receive(at(3), &append(2, 2, id(2, 2), &[2], 2));
    assert!(node.raft.in_doubt());
    node.receive(at(4), &append(2, 2, id(3, 2), &[2], 2));
    assert!(!node.raft.in_doubt());
}
