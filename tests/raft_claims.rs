//! One test for each claim that the Raft paper and the thesis make. `docs/raft.md` maps each claim to its test.

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

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dledger::raft::message::{AppendOutcome, Body};
use dledger::raft::{AppendStep, Appended, Membership, Raft, ReadBy, Restored};
use dledger::types::{EntryId, Index, NodeId, Role, Term, TermRun, Vote};
use raft_support::cluster::{Cluster, disk_of};
use raft_support::inputs::{MS, alone, append, at, granted, id, lead, message, sent, terms_of, vote_request};
use raft_support::node::{Node, Packet, config, members};

// ---- Figure 3 ----

#[test]
fn figure_3_election_safety_two_candidates_of_a_term_never_both_win() {
    // Every order in which five voters can hear the two candidates.
    for order in 0..32u32 {
        let mut cluster = Cluster::new(5);
        for candidate in [1, 2] {
            cluster.tick(candidate);
        }
        cluster.pick(Some(1), Some(2), false);
        cluster.pick(Some(2), Some(1), false);
        cluster.pick(Some(1), None, true);
        cluster.pick(Some(2), None, true);
        cluster.pick(None, Some(1), true);
        cluster.pick(None, Some(2), true);
        assert_eq!([1, 2].map(|id| cluster.node(id).raft.term()), [Term(1); 2]);
        for voter in 3..=5 {
            let first = 1 + u64::from(order >> voter & 1);
            cluster.pick(Some(first), Some(voter), true);
            cluster.pick(Some(3 - first), Some(voter), true);
        }
        cluster.pick(Some(3), None, true);
        cluster.pick(Some(4), None, true);
        cluster.pick(Some(5), None, true);
        let leaders = cluster.nodes.values().filter(|node| node.raft.role() == Role::Leader).count();
        assert_eq!(leaders, 1, "three voters decide between two");
    }
}

#[test]
fn figure_3_leader_append_only_a_leader_ignores_appends_in_its_own_term() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.propose(1, 3);
    let before = cluster.node(1).log.clone();
    let now = cluster.now;
    let step = cluster.node(1).receive(now, &append(2, 1, id(0, 0), &[1], 0));
    assert_eq!(step, Some(AppendStep::Ignored));
    assert_eq!(cluster.node(1).log, before);
    assert_eq!(cluster.node(1).raft.role(), Role::Leader);
}

#[test]
fn figure_3_log_matching_an_equal_entry_means_equal_logs_before_it() {
    let mut cluster = Cluster::with_disks(BTreeMap::from([
        (1, disk_of(1, 6, &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6], 1)),
        (2, disk_of(1, 3, &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], 1)),
        (3, disk_of(1, 4, &[1, 1, 1, 4, 4, 4, 4], 1)),
    ]));
    cluster.elect(1);
    assert_eq!(cluster.nodes[&2].log, cluster.nodes[&1].log);
    assert_eq!(cluster.nodes[&3].log, cluster.nodes[&1].log);
}

#[test]
fn figure_3_leader_completeness_who_lacks_a_committed_entry_is_not_elected() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.cuts.extend([(1, 3), (3, 1)]);
    cluster.propose(1, 2);
    cluster.deliver_all();
    assert_eq!(cluster.committed(1), 3, "on nodes 1 and 2");
    cluster.crash(1);
    cluster.tick(3);
    cluster.deliver_all();
    assert_ne!(cluster.node(3).raft.role(), Role::Leader);
    cluster.run(MS * 700);
    assert_eq!(cluster.leader(), Some(2));
    assert_eq!(cluster.terms(3), [1, 1, 1, cluster.node(2).raft.term().0]);
}

#[test]
fn figure_3_state_machine_safety_an_append_against_a_committed_entry_is_ignored() {
    let mut node = alone(2, &[1, 1, 2], 2);
    for wrong in [append(2, 3, id(1, 1), &[3], 2), append(2, 3, id(2, 3), &[3], 2), append(2, 3, id(0, 0), &[2], 2)] {
        assert_eq!(node.receive(at(1), &wrong), Some(AppendStep::Ignored));
        let answers = sent(&mut node);
        assert!(answers.iter().all(|(_, _, body)| !matches!(body, Body::AppendAnswer { .. })), "{answers:?}");
    }
    assert_eq!(terms_of(&node), [1, 1, 2]);
}

// ---- Paper, 5.1 ----

#[test]
fn paper_5_1_a_higher_term_makes_leader_and_candidate_follow() {
    let mut cluster = Cluster::led_by(1, 3);
    let now = cluster.now;
    cluster.node(1).receive(now, &message(2, 7, Body::Heartbeat { commit: Index(0), round: 1 }));
    assert_eq!((cluster.node(1).raft.role(), cluster.node(1).raft.term()), (Role::Follower, Term(7)));
    cluster.tick(3);
    cluster.pick(Some(3), Some(2), true);
    cluster.pick(Some(2), Some(3), true);
    assert_eq!(cluster.node(3).raft.role(), Role::Candidate);
    let mut higher = message(2, 9, Body::VoteAnswer { granted: false });
    higher.message.to = NodeId(3);
    cluster.deliver(&higher);
    assert_eq!((cluster.node(3).raft.role(), cluster.node(3).raft.term()), (Role::Follower, Term(9)));
}

#[test]
fn paper_5_1_a_request_of_a_lower_term_is_answered_with_the_own_term() {
    for body in [
        Body::Vote { last: id(9, 4), handed_over: false },
        Body::Append { prev: id(0, 0), commit: Index(0), base: Index(0) },
        Body::Heartbeat { commit: Index(3), round: 8 },
        Body::ReadIndex { token: 1, by_lease: false },
        Body::PreVote { next: Term(5), last: id(9, 4) },
        Body::HandOver,
    ] {
        let mut node = alone(5, &[1], 1);
        node.receive(at(1), &message(2, 4, body.clone()));
        let answers = sent(&mut node);
        assert!(matches!(answers.as_slice(), [(2, 5, _)]), "{body:?}: {answers:?}");
        assert_eq!((node.raft.term(), node.raft.leader()), (Term(5), None), "{body:?}");
    }
}

#[test]
fn paper_5_1_answers_of_a_lower_term_change_nothing() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.propose(1, 1);
    cluster.network.clear();
    let now = cluster.now;
    let outcome = AppendOutcome::Accepted { durable: Index(2), verified: Index(2) };
    cluster.node(1).receive(now, &message(2, 0, Body::AppendAnswer { outcome }));
    cluster.node(1).receive(now, &message(3, 0, Body::AppendAnswer { outcome }));
    assert_eq!(cluster.committed(1), 1);
}

// ---- Paper, 5.2 ----

#[test]
fn paper_5_2_one_vote_a_term_first_come_first_served_also_after_a_restart() {
    let mut node = alone(0, &[], 0);
    node.receive(at(1), &vote_request(2, 1, id(0, 0)));
    node.receive(at(1), &vote_request(3, 1, id(0, 0)));
    node.receive(at(1), &vote_request(2, 1, id(0, 0)));
    assert_eq!(granted(&mut node), [true, false, true]);
    let disk = node.crash(true, 0);
    let mut node = Node::start(config(1, 2), members(3), disk, at(2));
    node.receive(at(3), &vote_request(3, 1, id(0, 0)));
    assert_eq!(granted(&mut node), [false]);
}

#[test]
fn paper_5_2_heartbeats_keep_followers_from_standing() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.nodes.values().map(|node| node.raft.term()).collect::<Vec<_>>(), [Term(1); 3]);
    assert_eq!(cluster.leader(), Some(1));
}

#[test]
fn paper_5_2_election_timeouts_are_random_between_one_and_two_timeouts() {
    let mut waits = BTreeSet::new();
    for seed in 0..50 {
        let node = Node::start(config(1, seed), members(3), disk_of(1, 0, &[], 0), at(0));
        let wait = node.raft.next_deadline().unwrap().since(at(0));
        assert!(wait >= MS * 150 && wait <= MS * 300, "{wait:?}");
        waits.insert(wait);
    }
    assert!(waits.len() > 40, "spread");
}

#[test]
fn paper_5_2_a_candidate_follows_the_leader_of_its_own_term() {
    let mut node = alone(1, &[], 0);
    node.tick(at(400));
    node.receive(at(400), &message(2, 1, Body::PreVoteAnswer { next: Term(2), granted: true }));
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Candidate, Term(2)));
    node.receive(at(401), &message(3, 2, Body::Heartbeat { commit: Index(0), round: 1 }));
    assert_eq!((node.raft.role(), node.raft.leader()), (Role::Follower, Some(NodeId(3))));
}

#[test]
fn paper_5_2_a_second_leader_in_a_term_is_not_believed() {
    let mut node = alone(1, &[], 0);
    node.receive(at(1), &message(2, 1, Body::Heartbeat { commit: Index(0), round: 1 }));
    assert_eq!(node.receive(at(2), &append(3, 1, id(0, 0), &[1], 1)), Some(AppendStep::Ignored));
    assert_eq!((node.raft.leader(), terms_of(&node)), (Some(NodeId(2)), vec![]));
}

#[test]
fn paper_5_2_a_lone_voter_leads_at_once_and_commits_when_durable() {
    let mut node = Node::start(config(1, 1), members(1), disk_of(1, 4, &[1, 4], 0), at(0));
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Leader, Term(5)));
    assert_eq!((terms_of(&node), node.raft.committed()), (vec![1, 4, 5], Index(3)));
    node.disk_held = true;
    assert!(node.propose(at(1), &[1]));
    assert_eq!(node.raft.committed(), Index(3));
    node.complete_one(at(2));
    assert_eq!(node.raft.committed(), Index(4));
    node.read_index(at(2), 9, ReadBy::Round);
    assert_eq!(node.reads.last().map(|read| (read.token, read.index)), Some((9, Some(Index(4)))));
}

// ---- Paper, 5.3 ----

#[test]
fn paper_5_3_an_append_without_its_predecessor_is_rejected_with_a_place_to_look() {
    for (log, prev, hint) in [
        (&[1, 1][..], id(5, 3), id(2, 1)),
        (&[1, 1, 2, 2, 2], id(5, 3), id(5, 2)),
        (&[1, 1, 4, 4, 4], id(5, 3), id(2, 1)),
        (&[1, 4, 4, 4, 4], id(5, 3), id(1, 1)),
        (&[4, 4, 4], id(2, 3), id(0, 0)),
    ] {
        let mut node = alone(4, log, 0);
        assert_eq!(node.receive(at(1), &append(2, 4, prev, &[4], 0)), Some(AppendStep::Rejected));
        let outcome = AppendOutcome::Rejected { prev, hint };
        assert_eq!(sent(&mut node), [(2, 4, Body::AppendAnswer { outcome })], "{log:?}");
        assert_eq!(terms_of(&node), log);
    }
}

#[test]
fn paper_5_3_conflicting_entries_are_cut_and_an_old_shorter_append_cuts_nothing() {
    let mut node = alone(3, &[1, 2, 2, 2], 1);
    let step = node.receive(at(1), &append(2, 4, id(1, 1), &[3, 3, 4], 0));
    assert_eq!(step, Some(AppendStep::Accepted { new_from: Some(Index(2)) }));
    assert_eq!(terms_of(&node), [1, 3, 3, 4]);
    let step = node.receive(at(2), &append(2, 4, id(1, 1), &[3], 0));
    assert_eq!(step, Some(AppendStep::Accepted { new_from: None }));
    assert_eq!(terms_of(&node), [1, 3, 3, 4], "what merely is not in an append stays");
}

#[test]
fn paper_5_3_each_reject_skips_a_term_so_repair_takes_few_rounds() {
    // Ten thousand entries of the wrong term, and as many that the leader has of another.
    let long = |term: u64| -> Vec<u64> { std::iter::once(1).chain(std::iter::repeat_n(term, 10_000)).collect() };
    let mut cluster = Cluster::with_disks(BTreeMap::from([
        (1, disk_of(1, 5, &long(5), 1)),
        (2, disk_of(1, 4, &long(4), 1)),
        (3, disk_of(1, 5, &long(5), 1)),
    ]));
    cluster.tick(1);
    let mut rejects = 0;
    let mut rounds = 0;
    while cluster.terms(2).last() != Some(&6) || cluster.terms(2).len() != 10_002 {
        let next = &cluster.network[0].1.message.body;
        rejects += u32::from(matches!(next, Body::AppendAnswer { outcome: AppendOutcome::Rejected { .. } }));
        assert!(cluster.deliver_one());
        rounds += 1;
        assert!(rounds < 20_000);
    }
    assert!(rejects <= 2, "{rejects} rejects");
    assert_eq!(cluster.nodes[&2].log, cluster.nodes[&1].log);
}

#[test]
fn paper_5_3_appends_are_pipelined_and_bounded_and_one_large_record_always_goes() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.node(2).disk_held = true;
    for _proposal in 0..30 {
        cluster.propose(1, 1);
    }
    let under_way = |cluster: &Cluster| cluster.network.iter().filter(|(_, p)| !p.records.is_empty()).count();
    assert_eq!(under_way(&cluster), 8, "four messages to each follower without an answer");
    let status = cluster.node(1).raft.peers();
    assert!(status.iter().all(|peer| peer.inflight_messages == 4), "{status:?}");
    // A record above the whole window goes when the window is empty, and then nothing else does.
    let mut leader = Node::start(
        dledger::raft::RaftConfig { max_inflight_bytes: 10, ..config(1, 1) },
        members(1),
        disk_of(1, 0, &[], 0),
        at(0),
    );
    assert!(leader.propose(at(1), &[1]));
    let mut config = config(1, 1);
    config.max_inflight_bytes = 10;
    let mut leader = Node::start(config, members(3), disk_of(1, 0, &[], 0), at(0));
    lead(&mut leader);
    leader.propose(at(401), &[1]);
    let sizes: Vec<usize> = leader
        .out
        .drain(..)
        .filter(|p| matches!(p.message.body, Body::Append { .. }))
        .map(|p| p.records.len())
        .collect();
    assert_eq!(sizes, [1, 1], "the no-op to each, and nothing beside it");
}

// ---- Paper, 5.4 ----

#[test]
fn paper_5_4_1_votes_go_only_to_logs_at_least_as_up_to_date() {
    for (last, expected) in
        [(id(3, 2), true), (id(4, 2), true), (id(2, 3), true), (id(2, 2), false), (id(9, 1), false), (id(0, 0), false)]
    {
        let mut node = alone(3, &[1, 1, 2], 1);
        node.receive(at(1), &message(2, 3, Body::PreVote { next: Term(4), last }));
        node.receive(at(1), &vote_request(2, 4, last));
        assert_eq!(granted(&mut node), [expected; 2], "{last}");
    }
}

#[test]
fn paper_5_4_1_a_candidate_claims_only_what_is_on_its_disk() {
    let mut node = alone(1, &[1], 0);
    node.disk_held = true;
    node.receive(at(1), &append(2, 1, id(1, 1), &[1, 1], 0));
    node.disconnected(at(2), NodeId(2));
    node.tick(at(30));
    let asked: Vec<EntryId> = sent(&mut node)
        .into_iter()
        .filter_map(|(_, _, body)| if let Body::PreVote { last, .. } = body { Some(last) } else { None })
        .collect();
    assert_eq!(asked, [id(1, 1); 2]);
}

#[test]
fn paper_5_4_2_an_entry_of_an_earlier_term_is_not_committed_by_counting() {
    let mut node = alone(2, &[1, 2], 1);
    lead(&mut node);
    let outcome = AppendOutcome::Accepted { durable: Index(2), verified: Index(2) };
    for peer in [2, 3] {
        node.receive(at(401), &message(peer, 3, Body::AppendAnswer { outcome }));
    }
    assert_eq!(node.raft.committed(), Index(1), "on all three disks, and yet");
    let outcome = AppendOutcome::Accepted { durable: Index(3), verified: Index(3) };
    node.receive(at(402), &message(2, 3, Body::AppendAnswer { outcome }));
    assert_eq!(node.raft.committed(), Index(3));
}

// ---- Paper, 5.5 and 6 ----

#[test]
fn paper_5_5_a_crashed_follower_catches_up_and_repeats_are_harmless() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.propose(1, 2);
    cluster.deliver_all();
    cluster.crash(2);
    cluster.propose(1, 5);
    cluster.deliver_all();
    cluster.restart(2);
    let repeated: Vec<Packet> = std::mem::take(&mut cluster.network).into_iter().map(|(_, packet)| packet).collect();
    cluster.run(MS * 500);
    for packet in repeated.iter().chain(&repeated) {
        cluster.deliver(packet);
    }
    assert_eq!(cluster.nodes[&2].log, cluster.nodes[&1].log);
    assert_eq!(cluster.committed(2), 8);
}

#[test]
fn paper_6_membership_is_adopted_when_appended_and_dropped_when_cut() {
    let three = members(3);
    let five = Membership { outgoing: three.voters.clone(), ..members(5) };
    let restored = Restored {
        vote: Vote { term: Term(1), voted_for: NodeId(0) },
        base: EntryId::ZERO,
        runs: vec![TermRun { first: Index(1), term: Term(1) }],
        last: id(1, 1),
        committed: Index(1),
        memberships: vec![(Index(1), three.clone())],
        ..Restored::default()
    };
    let mut raft = Raft::new(config(1, 1), restored, at(0));
    let appended = |term: u64, memberships: Vec<(Index, Membership)>| Appended {
        refutes: None,
        prev: id(1, 1),
        commit: Index(1),
        base: Index::ZERO,
        runs: vec![TermRun { first: Index(2), term: Term(term) }],
        last: Index(3),
        memberships,
    };
    raft.step_append(at(1), NodeId(2), Term(1), appended(1, vec![(Index(3), five.clone())]));
    assert_eq!(raft.membership(), Some(&five), "committed or not");
    raft.step_append(at(2), NodeId(3), Term(2), appended(2, Vec::new()));
    assert_eq!(raft.membership(), Some(&three));
}

// ---- Paper, 8; thesis, 6.4 ----

#[test]
fn paper_8_a_new_leader_appends_a_no_op_at_once() {
    let mut node = alone(2, &[1, 2], 1);
    lead(&mut node);
    assert_eq!(terms_of(&node), [1, 2, 3]);
    assert_eq!(node.log.last().map(|record| record.value), Some(raft_support::node::NO_OP));
}

#[test]
fn thesis_6_4_a_read_waits_for_an_entry_of_the_term_and_for_a_round_sent_after_it() {
    let mut node = alone(2, &[1, 2], 1);
    lead(&mut node);
    node.read_index(at(401), 7, ReadBy::Round);
    let answer =
        |round| Body::HeartbeatAnswer { round, durable: Index(0), verified: Index(3), written: Index(0), full: false };
    node.receive(at(402), &message(2, 3, answer(1)));
    assert_eq!(node.reads, [], "nothing of this term is committed");
    let outcome = AppendOutcome::Accepted { durable: Index(3), verified: Index(3) };
    node.receive(at(403), &message(2, 3, Body::AppendAnswer { outcome }));
    node.receive(at(404), &message(2, 3, answer(1)));
    assert_eq!(node.reads, [], "round 1 was sent before the read");
    node.receive(at(405), &message(2, 3, answer(2)));
    assert_eq!(node.reads.iter().map(|read| (read.token, read.index)).collect::<Vec<_>>(), [(7, Some(Index(3)))]);
    node.read_index(at(406), 8, ReadBy::Round);
    node.read_index(at(406), 9, ReadBy::Round);
    node.receive(at(407), &message(2, 3, answer(2)));
    assert_eq!(node.reads.len(), 1, "an answer to an earlier round serves no later read");
    node.receive(at(407), &message(2, 3, answer(3)));
    assert_eq!(node.reads.last().map(|read| read.token), Some(8), "read 9 came while round 3 was under way");
    node.receive(at(408), &message(2, 3, answer(4)));
    assert_eq!(node.reads.last().map(|read| read.token), Some(9));
}

#[test]
fn thesis_6_4_a_deposed_leader_serves_no_read() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.cuts.extend([(1, 2), (2, 1), (1, 3), (3, 1)]);
    cluster.tick(2);
    cluster.pick(Some(2), Some(3), true);
    cluster.pick(Some(3), Some(2), true);
    cluster.deliver_all();
    cluster.propose(2, 1);
    cluster.deliver_all();
    assert_eq!((cluster.node(2).raft.role(), cluster.committed(2)), (Role::Leader, 3));
    cluster.read(1, 5);
    cluster.run(MS * 400);
    let reads = &cluster.node(1).reads;
    assert_eq!(reads.iter().map(|read| (read.token, read.index)).collect::<Vec<_>>(), [(5, None)], "told to ask again");
}

#[test]
fn thesis_6_4_a_late_answer_to_an_earlier_life_is_not_taken_for_this_one() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.read(2, 1);
    cluster.pick(Some(2), Some(1), true);
    cluster.pick(Some(1), Some(2), true);
    cluster.pick(Some(2), Some(1), true);
    let late = cluster.take(Some(1), Some(2));
    assert!(late.iter().any(|packet| matches!(packet.message.body, Body::ReadIndexAnswer { index: Some(_), .. })));
    cluster.crash(2);
    cluster.restart(2);
    cluster.tick(1);
    cluster.deliver_all();
    cluster.read(2, 1);
    for packet in &late {
        cluster.deliver(packet);
    }
    assert_eq!(cluster.node(2).reads, []);
}

// ---- Thesis, 4.2.3, 6.2, 9.6 ----

#[test]
fn thesis_9_6_pre_votes_raise_no_term_and_a_partitioned_node_keeps_its_own() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.cuts.extend([(1, 3), (3, 1), (2, 3), (3, 2)]);
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.node(3).raft.role(), Role::PreCandidate);
    assert_eq!((cluster.node(3).raft.term(), cluster.node(3).raft.leader()), (Term(1), Some(NodeId(1))));
    cluster.cuts.clear();
    cluster.run(Duration::from_secs(1));
    assert_eq!((cluster.leader(), cluster.node(1).raft.term()), (Some(1), Term(1)));
}

#[test]
fn thesis_4_2_3_who_hears_a_leader_refuses_votes_without_taking_their_term() {
    let mut node = alone(1, &[], 0);
    node.receive(at(1), &message(2, 1, Body::Heartbeat { commit: Index(0), round: 1 }));
    sent(&mut node);
    node.receive(at(150), &message(3, 1, Body::PreVote { next: Term(2), last: id(5, 1) }));
    node.receive(at(150), &vote_request(3, 8, id(5, 1)));
    assert_eq!((granted(&mut node), node.raft.term()), (vec![false, false], Term(1)));
    node.receive(at(151), &message(3, 1, Body::PreVote { next: Term(2), last: id(5, 1) }));
    node.receive(at(151), &vote_request(3, 8, id(5, 1)));
    assert_eq!((granted(&mut node), node.raft.term()), (vec![true, true], Term(8)));
}

#[test]
fn thesis_4_2_3_a_leader_hands_over_past_stickiness() {
    let mut node = alone(1, &[], 0);
    node.receive(at(1), &message(2, 1, Body::Heartbeat { commit: Index(0), round: 1 }));
    sent(&mut node);
    node.receive(at(2), &message(3, 2, Body::Vote { last: id(5, 1), handed_over: true }));
    assert_eq!(granted(&mut node), [true]);
}

#[test]
fn thesis_6_2_a_leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.cuts.extend([(2, 1), (3, 1)]);
    cluster.run(MS * 300);
    assert_eq!((cluster.node(1).raft.role(), cluster.node(1).raft.leader()), (Role::Follower, None));
}

#[test]
fn thesis_6_2_a_leader_that_slept_itself_does_not_step_down_for_its_own_silence() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.pass(Duration::from_secs(2));
    let now = cluster.now;
    cluster.node(1).tick(now);
    assert_eq!(cluster.node(1).raft.role(), Role::Leader);
}
