//! Changing who belongs to the cluster: one test for each claim of the paper's section 6 and of the thesis, 4.1 to 4.3.
//! `docs/raft.md` maps each to its test.

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

use dledger::raft::{Change, ChangeRefused};
use dledger::types::{Index, NodeId, Role};
use raft_support::changes::{T, add, cut_off, learner, promote, remove, replace, role, settled, term, with_learner};
use raft_support::cluster::Cluster;
use raft_support::inputs::MS;
use raft_support::node::member;

// ---- Paper, 6: joint consensus ----

#[test]
fn paper_6_a_joint_entry_needs_a_majority_of_the_old_and_one_of_the_new_voters() {
    // Replacing 3 by 4: the majorities {1, 4} of the new voters and {2, 3} of the old ones have nobody in common.
    for (away, why) in [([2, 3], "a majority of the new only"), ([2, 4], "a majority of the old only")] {
        let mut cluster = settled(3);
        cluster.join(4);
        cluster.change(1, &replace(3, 4)).unwrap();
        while !cluster.members(1).contains("from") {
            cluster.run(MS);
        }
        let joint = cluster.nodes[&1].raft.membership_index().unwrap();
        for node in away {
            cut_off(&mut cluster, node);
        }
        cluster.run(MS * 100);
        assert_eq!(cluster.committed(1), joint.0 - 1, "{why}");
        cluster.cuts.clear();
        cluster.run(MS * 400);
        assert_eq!(cluster.members(1), "members 1 2 4");
        assert!(cluster.committed(1) > joint.0);
    }
}

#[test]
fn paper_6_nobody_is_elected_during_a_change_without_both_majorities() {
    // Nodes 2 and 4 would be a majority of the new voters, 2 and 3 one of the old: neither pair elects.
    for away in [3, 4] {
        let mut cluster = settled(3);
        cluster.join(4);
        cluster.change(1, &replace(3, 4)).unwrap();
        while !(2..=4).all(|node| cluster.members(node).contains("from")) {
            assert!(cluster.deliver_one() || !cluster.members(1).contains("from"), "the joint entry is on its way");
            if cluster.network.is_empty() {
                cluster.tick(1);
            }
        }
        cluster.crash(1);
        cut_off(&mut cluster, away);
        cluster.run(T * 10);
        assert_eq!(cluster.leader(), None, "without node {away}");
        cluster.cuts.clear();
        cluster.run(T * 4);
        let leader = cluster.leader().expect("with both majorities somebody leads");
        assert_eq!(cluster.members(leader), "members 1 2 4");
    }
}

#[test]
fn paper_6_a_change_of_voters_passes_through_a_joint_entry_that_the_leader_ends_by_itself() {
    let mut cluster = with_learner(3, 4);
    let entry = cluster.change(1, &promote(4)).unwrap();
    assert_eq!(cluster.members(1), "members 1 2 3 4 from 1 2 3", "followed from the moment it is appended");
    cluster.run(MS * 10);
    for node in 1..=4 {
        assert_eq!(cluster.members(node), "members 1 2 3 4");
        assert_eq!(cluster.nodes[&node].raft.membership_index(), Some(entry.index.next()));
    }
    assert_eq!(role(&cluster, 4), Role::Follower);
}

#[test]
fn paper_6_a_joint_entry_that_is_cut_gives_the_old_voters_back() {
    let mut cluster = with_learner(3, 4);
    cut_off(&mut cluster, 1);
    cluster.change(1, &promote(4)).unwrap();
    assert_eq!(cluster.members(1), "members 1 2 3 4 from 1 2 3");
    cluster.run(T * 5);
    cluster.cuts.clear();
    cluster.run(T * 2);
    assert_eq!(cluster.members(1), "members 1 2 3 learners 4");
    assert_eq!(role(&cluster, 1), Role::Follower);
}

#[test]
fn paper_6_reads_and_the_office_itself_need_both_majorities_during_a_change() {
    // Nodes 1 and 4 are a majority of the new voters only, 1 and 3 one of the old.
    for away in [[2, 3], [2, 4]] {
        let mut cluster = settled(3);
        cluster.join(4);
        cluster.change(1, &replace(3, 4)).unwrap();
        while !cluster.members(1).contains("from") {
            cluster.run(MS);
        }
        cut_off(&mut cluster, away[0]);
        cut_off(&mut cluster, away[1]);
        cluster.read(1, 7);
        cluster.run(MS * 20);
        assert_eq!(cluster.node(1).reads, [], "no read on the word of one majority: without {away:?}");
        cluster.run(T * 4);
        assert_ne!(role(&cluster, 1), Role::Leader, "and no office: without {away:?}");
    }
}

#[test]
fn paper_6_one_change_at_a_time() {
    let mut cluster = with_learner(3, 4);
    cluster.change(1, &promote(4)).unwrap();
    assert_eq!(cluster.change(1, &learner(5)), Err(ChangeRefused::UnderWay), "joint");
    cluster.run(MS * 50);
    cluster.change(1, &learner(5)).unwrap();
    assert_eq!(cluster.change(1, &learner(6)), Err(ChangeRefused::UnderWay), "not committed yet");
    cluster.run(MS * 10);
    cluster.change(1, &learner(6)).unwrap();
}

#[test]
fn paper_6_only_the_leader_changes_members() {
    let mut cluster = settled(3);
    assert_eq!(cluster.change(2, &learner(4)), Err(ChangeRefused::NotLeader { leader: Some(NodeId(1)) }));
}

/// The schedule of the bug of 2015, four nodes as it was reported: node 1 adds node 5 and only it knows; node 2 is elected
/// by the others and removes node 1; node 1 is elected again with the majority that its own change gave it. Had each
/// change been one step, both would have committed with majorities that have no node in common.
#[test]
fn thesis_4_1_a_new_leader_changes_nothing_before_it_has_committed_in_its_term() {
    let mut cluster = with_learner(4, 5);
    cut_off(&mut cluster, 1);
    cluster.cuts.remove(&(1, 5));
    cluster.cuts.remove(&(5, 1));
    cluster.change(1, &promote(5)).unwrap();
    cluster.deliver_all();
    assert_eq!(cluster.members(5), "members 1 2 3 4 5 from 1 2 3 4", "on 1 and 5 alone");

    cluster.pass(T * 2);
    for node in [3, 4] {
        cluster.hold_disk(node, true);
    }
    cluster.tick(2);
    while role(&cluster, 2) != Role::Leader {
        // Votes need their syncs; the no-op of the new leader does not get any.
        assert!(cluster.deliver_one() || cluster.complete_one(3) || cluster.complete_one(4));
    }
    assert_eq!(cluster.change(2, &remove(1)), Err(ChangeRefused::TooEarly));
    for node in [3, 4] {
        cluster.hold_disk(node, false);
    }
    cluster.run(MS * 120);
    cluster.change(2, &remove(1)).unwrap();
    cluster.run(MS * 100);
    assert_eq!(cluster.members(2), "members 2 3 4 learners 5");

    // Node 1 comes back with its change, which gave it and node 5 the last word: nobody follows.
    cluster.cuts.clear();
    let before = term(&cluster, 2);
    cluster.run(T * 10);
    assert_eq!((cluster.leader(), term(&cluster, 2)), (Some(2), before));
    assert_eq!(cluster.members(5), "members 2 3 4 learners 5", "node 5 gave node 1's change up");
    assert!(cluster.nodes[&1].raft.committed() < Index(cluster.committed(2)));
}

// ---- Thesis, 4.1 and 4.2: availability ----

/// Whoever refused its vote to a candidate that its own log does not name, or because its own log does not make it a
/// voter, could be the one without whom there is no majority.
#[test]
fn thesis_4_1_a_voter_that_lags_behind_elects_a_candidate_that_it_has_never_heard_of() {
    let mut cluster = settled(3);
    cut_off(&mut cluster, 3);
    cluster.join(4);
    cluster.change(1, &replace(1, 4)).unwrap();
    cluster.run(T * 4);
    assert_eq!(cluster.members(4), "members 2 3 4");
    assert_eq!(cluster.members(3), "members 1 2 3");
    cluster.crash(2);
    cluster.crash(1);
    cluster.cuts.clear();
    cluster.run(T * 6);
    assert_eq!((cluster.leader(), cluster.members(3).as_str()), (Some(4), "members 2 3 4"));
}

#[test]
fn thesis_4_1_a_learner_that_does_not_know_of_its_promotion_votes() {
    let mut cluster = with_learner(1, 2);
    cluster.change(1, &promote(2)).unwrap();
    cluster.network.clear();
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(cluster.members(1), "members 1 2 from 1");
    assert_eq!(role(&cluster, 2), Role::Learner);
    cluster.run(T * 4);
    assert_eq!((cluster.leader(), cluster.members(2).as_str()), (Some(1), "members 1 2"));
    assert_eq!(role(&cluster, 2), Role::Follower);
}

#[test]
fn thesis_4_2_1_a_learner_is_promoted_only_once_a_round_is_done_within_an_election_timeout() {
    let mut cluster = settled(3);
    cluster.propose(1, 40);
    cluster.run(MS * 20);
    cluster.join(4);
    cluster.hold_disk(4, true);
    cluster.change(1, &add(4)).unwrap();
    cluster.run(T * 4);
    assert_eq!(cluster.members(1), "members 1 2 3 learners 4", "its disk does not move");
    assert_eq!(cluster.change(1, &promote(4)), Err(ChangeRefused::Behind { id: NodeId(4) }), "not by hand either");
    cluster.hold_disk(4, false);
    cluster.run(T * 3);
    assert_eq!(cluster.members(1), "members 1 2 3 4");
}

#[test]
fn thesis_4_2_1_a_learner_that_is_full_or_has_a_hole_or_is_silent_is_not_promoted() {
    type Spoil = fn(&mut Cluster, bool);
    let spoils: [(&str, Spoil); 2] = [
        ("holed", |cluster, spoilt| {
            let now = cluster.now;
            cluster.node(4).holes(now, spoilt.then_some(1));
        }),
        ("silent", |cluster, spoilt| match spoilt {
            true => cut_off(cluster, 4),
            false => cluster.cuts.clear(),
        }),
    ];
    for (name, spoil) in spoils {
        let mut cluster = settled(3);
        cluster.join(4);
        let now = cluster.now;
        cluster.node(4).room(now, false);
        cluster.change(1, &add(4)).unwrap();
        cluster.run(T * 4);
        assert_eq!(cluster.members(1), "members 1 2 3 learners 4", "full");
        assert_eq!(cluster.nodes[&4].log.len(), 2, "{name}: it has the whole log");
        spoil(&mut cluster, true);
        cluster.run(T * 2);
        let now = cluster.now;
        cluster.node(4).room(now, true);
        cluster.run(T * 4);
        assert_eq!(cluster.members(1), "members 1 2 3 learners 4", "{name}");
        spoil(&mut cluster, false);
        cluster.run(T * 4);
        assert_eq!(cluster.members(1), "members 1 2 3 4", "{name} no more");
    }
}

#[test]
fn thesis_4_2_1_a_learner_that_is_not_to_be_promoted_is_not_and_never_counts() {
    let mut cluster = with_learner(3, 4);
    cluster.run(T * 4);
    assert_eq!(cluster.members(1), "members 1 2 3 learners 4");
    for node in [2, 3] {
        cluster.hold_disk(node, true);
    }
    let before = cluster.committed(1);
    cluster.propose(1, 1);
    cluster.run(MS * 20);
    assert_eq!(cluster.committed(1), before, "the disks of 1 and 4 are no majority");
    for node in 1..=3 {
        cluster.crash(node);
    }
    cluster.run(T * 10);
    assert_eq!((role(&cluster, 4), term(&cluster, 4)), (Role::Learner, 1), "it stands for nothing");
}

#[test]
fn thesis_4_2_2_a_removed_leader_does_not_count_itself_and_hands_over_without_a_gap() {
    let mut cluster = settled(3);
    cluster.change(1, &remove(1)).unwrap();
    while cluster.members(1) != "members 2 3" {
        assert!(cluster.deliver_one());
    }
    cluster.hold_disk(3, true);
    cluster.run(MS * 30);
    let last = cluster.nodes[&1].raft.membership_index().unwrap();
    assert!(cluster.committed(1) < last.0, "nodes 1 and 2 have it, but 1 does not count any more");
    assert_eq!(role(&cluster, 1), Role::Leader);
    cluster.hold_disk(3, false);
    cluster.run(MS * 10);
    let leader = cluster.leader().expect("the next one leads within ten milliseconds");
    assert_ne!(leader, 1);
    assert_eq!((role(&cluster, 1), cluster.committed(1)), (Role::Learner, last.0));
    cluster.run(T * 10);
    assert_eq!((cluster.leader(), term(&cluster, leader)), (Some(leader), 2), "and nobody disturbs it");
}

/// Its log says that it votes no more, and its vote is not counted; but nobody else can be elected without what it has.
/// It took itself for out of office for good, and so did nobody lead again: only logs that part in that very moment
/// show it, and the first test of removals had none.
#[test]
fn thesis_4_2_2_who_wrote_its_own_removal_stands_again_until_that_is_committed() {
    let mut cluster = settled(2);
    cluster.change(1, &remove(1)).unwrap();
    while cluster.members(1) != "members 2" {
        assert!(cluster.deliver_one());
    }
    cut_off(&mut cluster, 2);
    cluster.run(T * 4);
    assert_ne!(role(&cluster, 1), Role::Leader);
    assert_eq!(cluster.members(2), "members 2 from 1 2", "it needs the vote of 1, whose log is ahead");
    cluster.cuts.clear();
    cluster.run(T * 4);
    assert_eq!((cluster.leader(), cluster.members(2).as_str()), (Some(2), "members 2"));
    let settled = term(&cluster, 2);
    cluster.run(T * 10);
    assert_eq!((role(&cluster, 1), term(&cluster, 2)), (Role::Learner, settled), "and node 1 rests");
}

#[test]
fn thesis_4_2_2_a_removed_leader_takes_what_it_was_given_to_its_successor() {
    let mut cluster = settled(3);
    cluster.change(1, &remove(1)).unwrap();
    cluster.run(MS * 3);
    assert!(cluster.propose(1, 5), "it leads until the end");
    cluster.run(MS * 30);
    let leader = cluster.leader().unwrap();
    let data = |node: u64| cluster.nodes[&node].log.iter().filter(|record| (1..=5).contains(&record.value)).count();
    assert_eq!((data(leader), leader != 1), (5, true), "nothing that it took is lost");
}

/// It left as soon as its successor had everything, and nobody told it afterwards that this was committed: whoever had asked
/// it to write waited for nothing until his patience ended.
#[test]
fn thesis_4_2_2_a_removed_leader_stays_until_it_has_seen_all_that_it_proposed_committed() {
    let mut cluster = settled(3);
    cluster.change(1, &remove(1)).unwrap();
    while cluster.members(1) != "members 2 3" {
        assert!(cluster.deliver_one());
    }
    assert!(cluster.propose(1, 5));
    let last = cluster.nodes[&1].raft.last().index.0;
    while role(&cluster, 1) == Role::Leader {
        cluster.run(MS);
    }
    assert_eq!(cluster.committed(1), last);
    cluster.run(MS * 10);
    assert!(cluster.leader().is_some_and(|leader| leader != 1));
}

#[test]
fn thesis_4_2_3_a_removed_node_that_was_never_told_disturbs_nobody() {
    let mut cluster = settled(3);
    cut_off(&mut cluster, 3);
    cluster.change(1, &remove(3)).unwrap();
    cluster.run(MS * 20);
    assert_eq!(cluster.members(1), "members 1 2");
    cluster.cuts.clear();
    cluster.run(T * 20);
    assert_eq!(cluster.members(3), "members 1 2 3", "it still believes that it votes");
    assert_eq!((cluster.leader(), term(&cluster, 1), term(&cluster, 3)), (Some(1), 1, 1));
    // Nor when there is no leader to be loyal to.
    cluster.crash(1);
    cluster.run(T * 10);
    assert_eq!(cluster.leader(), None, "node 2 needs node 1, and node 3 is not heard");
    cluster.restart(1);
    cluster.run(T * 6);
    assert!(cluster.leader().is_some_and(|leader| leader != 3));
}

#[test]
fn thesis_4_3_a_dead_voter_is_replaced_in_one_change() {
    let mut cluster = settled(3);
    cluster.crash(3);
    cluster.join(4);
    cluster.change(1, &replace(3, 4)).unwrap();
    cluster.run(T * 3);
    assert_eq!(cluster.members(1), "members 1 2 4");
    cluster.crash(2);
    assert!(cluster.propose(1, 1));
    let last = cluster.nodes[&1].raft.last().index;
    cluster.run(MS * 20);
    assert_eq!(cluster.committed(1), last.0, "nodes 1 and 4 are a majority");
}

#[test]
fn thesis_4_3_three_nodes_become_three_others_under_writes() {
    let mut cluster = settled(3);
    for (old, new) in [(2, 4), (3, 5), (1, 6)] {
        cluster.join(new);
        let leader = cluster.leader().unwrap();
        cluster.change(leader, &replace(old, new)).unwrap();
        for _burst in 0..12 {
            let leader = cluster.leader().expect("somebody leads at any time");
            cluster.propose(leader, 2);
            cluster.run(MS * 50);
        }
        cluster.crash(old);
    }
    let leader = cluster.leader().unwrap();
    assert_eq!(cluster.members(leader), "members 4 5 6");
    for node in 4..=6 {
        assert_eq!(cluster.nodes[&node].log, cluster.nodes[&leader].log);
    }
    let data = cluster.nodes[&leader].log.iter().filter(|record| record.value > 0 && record.membership.is_none());
    assert_eq!(data.count(), 72, "every write is there, the last leader's removal included");
}

#[test]
fn design_a_change_that_could_not_be_completed_is_refused() {
    let mut cluster = settled(3);
    cluster.crash(3);
    cluster.run(T);
    assert_eq!(cluster.change(1, &remove(2)), Err(ChangeRefused::NoQuorum), "1 and the dead 3 would be the voters");
    cluster.change(1, &remove(3)).unwrap();
    cluster.run(MS * 20);
    assert_eq!(cluster.members(1), "members 1 2");
}

#[test]
fn design_a_number_is_never_given_twice_whatever_the_incarnation() {
    let mut cluster = settled(3);
    cluster.change(1, &remove(3)).unwrap();
    cluster.run(MS * 20);
    let mut again = member(3);
    again.incarnation = dledger::types::Incarnation(99);
    let change = Change::AddLearner { member: again, promote: true };
    assert_eq!(cluster.change(1, &change), Err(ChangeRefused::IdUsedBefore { id: NodeId(3) }));
    // Whoever leads next, and after a restart, knows it as well: it stands in the log.
    cluster.crash(1);
    cluster.restart(1);
    cluster.run(T * 4);
    let leader = cluster.leader().unwrap();
    assert_eq!(cluster.change(leader, &change), Err(ChangeRefused::IdUsedBefore { id: NodeId(3) }));
}
