//! What this core does beyond a literal reading of the paper: one test for each rule and each addition. `docs/raft.md`
//! maps each to its test; the last test here reads that table.

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

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use dledger::raft::message::{AppendOutcome, Body};
use dledger::raft::{AppendStep, Appended};
use dledger::types::{Index, NodeId, Role, Term, TermRun};
use raft_support::cluster::{Cluster, disk_of};
use raft_support::inputs::{MS, alone, append, at, granted, id, lead, message, sent, vote_request};
use raft_support::node::{Node, config, members};

// ---- Our own design ----

#[test]
fn rule_1_a_completion_vouches_only_for_what_still_stands() {
    let mut node = alone(1, &[1], 1);
    node.disk_held = true;
    node.receive(at(1), &append(2, 1, id(1, 1), &[1, 1, 1], 1));
    node.receive(at(2), &append(3, 2, id(1, 1), &[2, 2], 1));
    sent(&mut node);
    node.complete_one(at(3));
    assert_eq!(node.raft.durable(), Index(1));
    assert_eq!(sent(&mut node), [], "nothing to tell leader 3");
    while node.complete_one(at(4)) {}
    assert_eq!(node.raft.durable(), Index(3));
}

#[test]
fn rule_2_own_vote_and_own_append_count_only_once_durable() {
    let mut node = alone(0, &[], 0);
    node.disk_held = true;
    node.tick(at(400));
    node.receive(at(400), &message(2, 0, Body::PreVoteAnswer { next: Term(1), granted: true }));
    node.receive(at(400), &message(2, 1, Body::VoteAnswer { granted: true }));
    assert_eq!(node.raft.role(), Role::Candidate, "two of three votes, one of them only in memory");
    node.complete_one(at(401));
    assert_eq!(node.raft.role(), Role::Leader);
    let outcome = AppendOutcome::Accepted { durable: Index(1), verified: Index(1) };
    node.receive(at(402), &message(2, 1, Body::AppendAnswer { outcome }));
    assert_eq!(node.raft.committed(), Index(0));
    node.complete_one(at(403));
    assert_eq!(node.raft.committed(), Index(1));
}

#[test]
fn rule_2_no_office_on_the_votes_of_others_before_the_own_is_durable() {
    // Else the node could crash, forget term 1, win it again and write other entries under the same terms.
    let mut node = alone(0, &[], 0);
    node.disk_held = true;
    node.tick(at(400));
    node.receive(at(400), &message(2, 0, Body::PreVoteAnswer { next: Term(1), granted: true }));
    for voter in [2, 3] {
        node.receive(at(400), &message(voter, 1, Body::VoteAnswer { granted: true }));
    }
    assert_eq!(node.raft.role(), Role::Candidate);
    node.complete_one(at(401));
    assert_eq!(node.raft.role(), Role::Leader);
}

#[test]
fn rule_2_votes_and_append_answers_leave_only_once_term_and_records_are_durable() {
    let mut node = alone(0, &[], 0);
    node.disk_held = true;
    node.receive(at(1), &vote_request(2, 1, id(0, 0)));
    assert_eq!(sent(&mut node), []);
    node.complete_one(at(2));
    assert_eq!(granted(&mut node), [true]);
    node.receive(at(3), &message(3, 2, Body::Heartbeat { commit: Index(0), round: 4 }));
    let answer =
        Body::HeartbeatAnswer { round: 4, durable: Index(0), verified: Index(0), written: Index(0), full: false };
    assert_eq!(sent(&mut node), [(3, 2, answer)], "a heartbeat waits for no disk");
    node.receive(at(4), &append(3, 2, id(0, 0), &[], 0));
    assert_eq!(sent(&mut node), [], "term 2 is not durable");
    node.receive(at(5), &append(3, 2, id(0, 0), &[2], 0));
    node.complete_one(at(6));
    let durable = |out: Vec<(u64, u64, Body)>| -> Vec<u64> {
        let of = |(_, _, body)| match body {
            Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable, .. } } => Some(durable.0),
            _ => None,
        };
        out.into_iter().filter_map(of).collect()
    };
    assert_eq!(durable(sent(&mut node)), [0]);
    node.complete_one(at(7));
    assert_eq!(durable(sent(&mut node)), [1]);
}

#[test]
fn rule_3_answers_and_commits_stop_at_what_is_verified() {
    let mut node = alone(3, &[1, 2, 2, 2], 1);
    node.receive(at(1), &append(2, 3, id(1, 1), &[], 4));
    let outcome = AppendOutcome::Accepted { durable: Index(1), verified: Index(1) };
    assert_eq!(sent(&mut node), [(2, 3, Body::AppendAnswer { outcome })]);
    node.receive(at(2), &message(2, 3, Body::Heartbeat { commit: Index(4), round: 1 }));
    assert_eq!(node.raft.committed(), Index(1));
    node.receive(at(3), &append(2, 3, id(1, 1), &[2], 4));
    assert_eq!(node.raft.committed(), Index(2), "entry 2 is the leader's too, 3 and 4 may not be");
    node.receive(at(4), &append(3, 4, id(1, 1), &[], 4));
    assert_eq!(node.raft.verified(), Index(1), "each leader verifies anew");
}

#[test]
fn rule_4_removed_nodes_and_messages_for_others_are_ignored() {
    let mut formed = members(3);
    formed.removed.add(NodeId(9));
    let mut node = Node::start(config(1, 1), formed, disk_of(1, 1, &[1], 1), at(0));
    for mut packet in [vote_request(9, 5, id(9, 4)), message(9, 5, Body::Heartbeat { commit: Index(1), round: 1 })] {
        node.receive(at(1), &packet);
        packet.message.from = NodeId(2);
        packet.message.to = NodeId(3);
        node.receive(at(1), &packet);
    }
    assert_eq!(node.receive(at(1), &append(9, 5, id(1, 1), &[5], 1)), Some(AppendStep::Ignored));
    assert_eq!((node.raft.term(), sent(&mut node)), (Term(1), vec![]));
}

#[test]
fn rule_4_malformed_appends_are_ignored() {
    let good = || Appended {
        prev: id(1, 1),
        commit: Index(1),
        base: Index::ZERO,
        runs: vec![TermRun { first: Index(2), term: Term(2) }, TermRun { first: Index(4), term: Term(3) }],
        last: Index(5),
        memberships: Vec::new(),
        refutes: None,
    };
    let broken: [fn(&mut Appended); 9] = [
        |it| it.runs.clear(),
        |it| it.runs[0].first = Index(3),
        |it| it.runs[0].term = Term(0),
        |it| it.runs[1].term = Term(2),
        |it| it.runs[1].first = Index(2),
        |it| it.runs[1].first = Index(6),
        |it| it.runs[1].term = Term(4),
        |it| it.last = Index(0),
        |it| it.memberships.push((Index(6), members(1))),
    ];
    for (place, break_it) in broken.iter().enumerate() {
        let mut node = alone(3, &[1], 1);
        let mut appended = good();
        break_it(&mut appended);
        assert_eq!(node.raft.step_append(at(1), NodeId(2), Term(3), appended), AppendStep::Ignored, "{place}");
        assert_eq!(node.raft.last(), id(1, 1));
    }
    let mut node = alone(3, &[1], 1);
    let step = node.raft.step_append(at(1), NodeId(2), Term(3), good());
    assert_eq!(step, AppendStep::Accepted { new_from: Some(Index(2)) });
}

#[test]
fn design_commit_news_leave_in_the_turn_in_which_nothing_else_does() {
    let mut node = alone(0, &[], 0);
    lead(&mut node);
    sent(&mut node);
    let outcome = AppendOutcome::Accepted { durable: Index(1), verified: Index(1) };
    node.receive(at(401), &message(2, 1, Body::AppendAnswer { outcome }));
    let news = |out: Vec<(u64, u64, Body)>| -> Vec<(u64, u64)> {
        let of = |(to, _, body)| if let Body::Heartbeat { commit, .. } = body { Some((to, commit.0)) } else { None };
        out.into_iter().filter_map(of).collect()
    };
    assert_eq!(news(sent(&mut node)), [(2, 1), (3, 1)]);
    node.receive(at(402), &message(2, 1, Body::AppendAnswer { outcome }));
    assert_eq!(news(sent(&mut node)), [], "told once");
}

#[test]
fn design_closed_connection_alone_is_refused_and_rate_limited() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.run(MS * 100);
    let mut asked = 0;
    for _flap in 0..10 {
        cluster.connection(1, 2, false);
        cluster.connection(1, 2, true);
        let before = cluster.lines.len();
        cluster.verbose = false;
        cluster.run(MS * 10);
        asked += cluster.lines[before..].iter().filter(|line| line.contains("PreVote ")).count();
    }
    assert_eq!((cluster.leader(), cluster.node(1).raft.term()), (Some(1), Term(1)));
    assert!(asked <= 2, "{asked} questions in ten flaps");
}

#[test]
fn design_killed_leader_is_replaced_within_two_jitters() {
    let mut slowest = Duration::ZERO;
    for seed in 0..20 {
        let mut cluster = Cluster::led_by(1, 3);
        cluster.run(MS * (100 + seed));
        cluster.crash(1);
        cluster.connection(1, 2, false);
        cluster.connection(1, 3, false);
        let start = cluster.now;
        while cluster.leader().is_none() {
            cluster.run(MS);
        }
        slowest = slowest.max(cluster.now.since(start));
    }
    assert!(slowest <= MS * 50, "{slowest:?}");
}

#[test]
fn design_hung_leader_disk_hands_over_only_when_a_quorum_of_others_moves() {
    for (others_held, hands_over) in [(&[][..], true), (&[2], false), (&[2, 3], false)] {
        let mut cluster = Cluster::led_by(1, 3);
        for id in others_held.iter().chain(&[1]) {
            cluster.hold_disk(*id, true);
        }
        cluster.propose(1, 1);
        cluster.run(MS * 450);
        assert_eq!(cluster.node(1).raft.role() != Role::Leader, hands_over, "{others_held:?}");
    }
}

#[test]
fn design_hung_disk_forbids_candidacy_until_it_moves() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.hold_disk(1, true);
    cluster.propose(1, 1);
    cluster.run(MS * 450);
    assert_eq!(cluster.leader(), Some(2));
    cluster.crash(2);
    cluster.crash(3);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.node(1).raft.role(), Role::Follower, "it does not even ask");
    cluster.hold_disk(1, false);
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.node(1).raft.role(), Role::PreCandidate);
}

#[test]
fn design_candidate_whose_disk_hangs_raises_no_further_term() {
    let mut cluster = Cluster::new(3);
    cluster.cuts.extend([(2, 3), (3, 2), (2, 1), (3, 1)]);
    cluster.hold_disk(1, true);
    cluster.tick(1);
    cluster.cuts.remove(&(2, 1));
    cluster.run(MS * 5);
    cluster.cuts.insert((2, 1));
    assert_eq!(cluster.node(1).raft.role(), Role::Candidate);
    cluster.cuts.clear();
    cluster.run(MS * 140);
    let term = cluster.node(1).raft.term();
    cluster.cuts.extend([(2, 3), (3, 2), (2, 1), (3, 1)]);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.node(1).raft.term(), term);
}

#[test]
fn design_pre_vote_is_repeated_to_a_peer_that_connects_later() {
    let mut cluster = Cluster::new(3);
    cluster.tick(1);
    cluster.network.clear();
    cluster.connection(1, 2, true);
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(1));
}

#[test]
fn design_read_of_a_leader_whose_connection_closed_is_answered_at_once() {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.connection(1, 2, false);
    cluster.read(2, 1);
    assert_eq!(cluster.node(2).reads.iter().map(|read| read.index).collect::<Vec<_>>(), [None]);
}

#[test]
fn design_learners_receive_the_log_and_are_not_counted() {
    let mut membership = members(3);
    membership.learners = membership.voters.split_off(2);
    let start = |id| Node::start(config(id, 1), membership.clone(), disk_of(id, 0, &[], 0), at(0));
    let mut learner = start(3);
    assert_eq!((learner.raft.role(), learner.raft.next_deadline()), (Role::Learner, None));
    let mut ask = vote_request(2, 1, id(0, 0));
    ask.message.to = NodeId(3);
    learner.receive(at(1), &ask);
    assert_eq!(granted(&mut learner), [true], "who asks may know that it votes by now");
    let mut records = append(1, 1, id(0, 0), &[1], 1);
    records.message.to = NodeId(3);
    learner.receive(at(2), &records);
    assert_eq!((learner.raft.committed(), learner.raft.role()), (Index(1), Role::Learner));
    let mut leader = start(1);
    lead(&mut leader);
    let to: BTreeSet<u64> = sent(&mut leader).into_iter().map(|(to, _, _)| to).collect();
    assert_eq!(to, BTreeSet::from([2, 3]));
    let outcome = AppendOutcome::Accepted { durable: Index(1), verified: Index(1) };
    leader.receive(at(401), &message(3, 1, Body::AppendAnswer { outcome }));
    assert_eq!(leader.raft.committed(), Index(0), "a learner's disk does not count");
}

#[test]
fn design_a_caller_that_does_not_drain_gets_its_readies_one_append_each() {
    let mut raft_node = alone(0, &[], 0);
    lead(&mut raft_node);
    let raft = &mut raft_node.raft;
    let first = raft.propose(at(401), 2).unwrap();
    let second = raft.propose(at(401), 1).unwrap();
    assert_eq!((first, second), (id(2, 1), id(4, 1)));
    let readies: Vec<_> = std::iter::from_fn(|| raft.ready()).collect();
    let ranges: Vec<_> =
        readies.iter().filter_map(|ready| ready.append.as_ref().map(|a| (a.after.index.0, a.last.0))).collect();
    assert_eq!(ranges, [(1, 3), (3, 4)]);
    assert!(readies.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(!raft.has_ready());
}

// ---- Full disks ----

/// Node 1 of three leads; these have no room for what clients write.
fn with_full_disks(full: &[u64]) -> Cluster {
    let mut cluster = Cluster::led_by(1, 3);
    cluster.propose(1, 3);
    cluster.run(MS * 100);
    let now = cluster.now;
    for node in full {
        cluster.node(*node).raft.room(now, false);
    }
    cluster
}

#[test]
fn design_full_leader_hands_over_to_a_voter_with_room_and_not_at_once() {
    let mut cluster = with_full_disks(&[1, 3]);
    cluster.run(MS * 100);
    assert_eq!(cluster.leader(), Some(1), "it may pass");
    cluster.run(MS * 300);
    assert_eq!(cluster.leader(), Some(2));
    cluster.run(MS * 3_000);
    assert_eq!(cluster.leader(), Some(2), "nobody takes the office back");
}

/// A leader took a voter of which it had heard nothing but an answer to an append for one with room: two full nodes could
/// hand the office to each other. In the tests an answer to a heartbeat had always come first.
#[test]
fn design_full_leader_waits_for_word_of_room_from_whom_it_hands_over_to() {
    let mut node = alone(1, &[1], 1);
    node.raft.room(at(0), false);
    lead(&mut node);
    let last = node.raft.last().index;
    let taken = || Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable: last, verified: last } };
    node.receive(at(401), &message(2, 2, taken()));
    node.receive(at(401), &message(3, 2, taken()));
    node.tick(at(460));
    assert_eq!(node.raft.role(), Role::Leader);
    let answer = |full| Body::HeartbeatAnswer { round: 1, durable: last, verified: last, written: last, full };
    node.receive(at(461), &message(2, 2, answer(true)));
    node.receive(at(461), &message(3, 2, answer(false)));
    sent(&mut node);
    node.tick(at(520));
    let to: Vec<u64> =
        sent(&mut node).into_iter().filter(|(_, _, body)| *body == Body::HandOver).map(|sent| sent.0).collect();
    assert_eq!(to, [3]);
}

#[test]
fn design_full_leader_stays_where_nobody_has_more_room() {
    let mut cluster = with_full_disks(&[1, 2, 3]);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.leader(), Some(1));
    let now = cluster.now;
    cluster.node(1).raft.room(now, true);
    cluster.run(MS * 1_000);
    assert_eq!(cluster.leader(), Some(1), "its own room has returned");
}

// ---- The table ----

#[test]
fn docs_table_names_only_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for folder in ["tests", "src/raft"] {
        for file in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|end| end == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let table = std::fs::read_to_string(root.join("docs/raft.md")).unwrap();
    let mut named = 0;
    for row in table.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let tests = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        for name in tests.split('`').skip(1).step_by(2) {
            let in_code = sources.contains(&format!("#[test]\nfn {name}()"))
                || sources.contains(&format!("#[test]\n    fn {name}()"));
            let told = root.join("tests/raft").join(format!("{name}.txt")).exists();
            assert!(in_code || told, "docs/raft.md names the test {name}, which does not exist");
            named += 1;
        }
    }
    assert!(named > 40, "the table names {named} tests");
}
