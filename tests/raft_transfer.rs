//! Who leads: the office given to a node of choice (thesis, 3.10), and to a preferred one. `docs/raft.md` maps each claim to
//! its test.

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

use dledger::raft::{ChangeRefused, TransferEnd, TransferRefused};
use dledger::types::{NodeId, Role};
use raft_support::changes::{T, cut_off, learner, prefer, role, settled, term, with_learner};
use raft_support::cluster::Cluster;
use raft_support::inputs::MS;

// ---- Thesis, 3.10: leadership transfer ----

#[test]
fn thesis_3_10_a_transfer_moves_the_office_without_an_election_timeout() {
    let mut cluster = settled(3);
    let before = cluster.now;
    cluster.transfer(1, 3).unwrap();
    while cluster.leader() != Some(3) {
        cluster.run(MS);
    }
    assert!(cluster.now.since(before) <= MS * 4);
    cluster.run(MS * 5);
    assert_eq!(cluster.transfers(1), [TransferEnd::Done]);
}

#[test]
fn thesis_3_10_nothing_is_proposed_while_the_target_is_brought_up_to_date() {
    let mut cluster = settled(3);
    cluster.hold_disk(2, true);
    cluster.propose(1, 3);
    cluster.run(MS * 5);
    cluster.transfer(1, 2).unwrap();
    assert!(!cluster.propose(1, 1));
    assert_eq!(cluster.change(1, &learner(4)), Err(ChangeRefused::HandingOver { to: NodeId(2) }));
    cluster.run(MS * 20);
    assert_eq!((cluster.leader(), term(&cluster, 2)), (Some(1), 1), "the target lacks three entries");
    cluster.hold_disk(2, false);
    cluster.run(MS * 10);
    assert_eq!((cluster.leader(), cluster.transfers(1)), (Some(2), vec![TransferEnd::Done]));
}

#[test]
fn thesis_3_10_a_transfer_that_takes_an_election_timeout_is_given_up_and_service_goes_on() {
    let mut cluster = settled(3);
    cluster.hold_disk(2, true);
    cluster.propose(1, 1);
    cluster.transfer(1, 2).unwrap();
    cluster.run(T - MS);
    assert_eq!((cluster.transfers(1), cluster.propose(1, 1)), (vec![], false));
    cluster.run(MS * 2);
    assert_eq!((cluster.transfers(1), cluster.propose(1, 1)), (vec![TransferEnd::GivenUp], true));
    assert_eq!((cluster.leader(), term(&cluster, 1)), (Some(1), 1));
}

#[test]
fn thesis_3_10_the_caller_learns_that_another_one_leads() {
    let mut cluster = settled(3);
    cluster.cuts.insert((1, 2));
    cluster.propose(1, 1);
    cluster.transfer(1, 2).unwrap();
    cluster.run(MS);
    // Before node 2 has what it lacks, 2 and 3 lose their connections to the leader and elect the better log.
    cluster.cuts.insert((1, 3));
    cluster.connection(1, 2, false);
    cluster.connection(1, 3, false);
    cluster.run(T - MS * 10);
    assert_eq!((cluster.leader(), cluster.transfers(1)), (Some(3), vec![TransferEnd::OtherLeads(NodeId(3))]));
}

#[test]
fn thesis_3_10_the_caller_learns_that_nobody_leads() {
    let mut cluster = settled(3);
    cut_off(&mut cluster, 3);
    cluster.transfer(1, 2).unwrap();
    while role(&cluster, 1) == Role::Leader {
        assert!(cluster.deliver_one());
    }
    cluster.crash(2);
    cluster.run(T * 2 - MS);
    assert_eq!(cluster.transfers(1), [], "somebody may still turn up");
    cluster.run(MS * 2);
    assert_eq!((cluster.transfers(1), cluster.leader()), (vec![TransferEnd::GivenUp], None));
}

#[test]
fn thesis_3_10_a_transfer_to_whom_it_cannot_go_is_refused_at_once() {
    let mut cluster = with_learner(3, 4);
    let id = NodeId;
    assert_eq!(cluster.transfer(2, 3), Err(TransferRefused::NotLeader { leader: Some(id(1)) }));
    assert_eq!(cluster.transfer(1, 1), Err(TransferRefused::LeadsAlready { to: id(1) }));
    assert_eq!(cluster.transfer(1, 4), Err(TransferRefused::NotAVoter { to: id(4) }));
    assert_eq!(cluster.transfer(1, 9), Err(TransferRefused::NotAVoter { to: id(9) }));
    let now = cluster.now;
    cluster.node(2).room(now, false);
    cluster.crash(3);
    cluster.run(T + MS * 60);
    for to in [2, 3] {
        assert_eq!(cluster.transfer(1, to), Err(TransferRefused::Unfit { to: id(to) }));
    }
    cluster.node(2).room(now, true);
    cluster.run(MS * 60);
    cluster.transfer(1, 2).unwrap();
    assert_eq!(cluster.transfer(1, 2), Err(TransferRefused::UnderWay { to: id(2) }));
}

// ---- Election priority ----

#[test]
fn design_a_preferred_voter_gets_the_office_once_it_has_caught_up_and_back_after_a_crash() {
    let mut cluster = settled(3);
    cluster.change(1, &prefer(2, 5)).unwrap();
    cluster.run(T * 4);
    assert_eq!((cluster.leader(), term(&cluster, 2)), (Some(2), 2));
    cluster.crash(2);
    cluster.run(T * 4);
    let substitute = cluster.leader().unwrap();
    assert_ne!(substitute, 2);
    cluster.propose(substitute, 20);
    cluster.run(MS * 50);
    cluster.restart(2);
    cluster.run(T * 16);
    assert_eq!(cluster.leader(), Some(2), "it takes its office back");
    let before = term(&cluster, 2);
    cluster.run(T * 20);
    assert_eq!(term(&cluster, 2), before, "and keeps it");
}

#[test]
fn design_a_preferred_voter_that_is_full_or_holed_or_silent_or_behind_does_not_get_the_office() {
    type Spoil = fn(&mut Cluster);
    let spoils: [(&str, Spoil); 4] = [
        ("full", |cluster| {
            let now = cluster.now;
            cluster.node(2).room(now, false);
        }),
        ("holed", |cluster| {
            let now = cluster.now;
            cluster.node(2).holes(now, Some(1));
        }),
        ("silent", |cluster| cut_off(cluster, 2)),
        ("behind", |cluster| {
            cluster.hold_disk(2, true);
            cluster.propose(1, 1);
        }),
    ];
    for (name, spoil) in spoils {
        let mut cluster = settled(3);
        cluster.change(1, &prefer(2, 5)).unwrap();
        spoil(&mut cluster);
        cluster.run(T * 10);
        assert_eq!((cluster.leader(), term(&cluster, 1)), (Some(1), 1), "{name}");
        assert!(cluster.propose(1, 1), "{name}: nor is anybody kept waiting for it");
    }
}

#[test]
fn design_a_preferred_voter_that_cannot_keep_the_office_does_not_pull_it_to_and_fro() {
    let mut cluster = settled(3);
    cluster.change(1, &prefer(2, 5)).unwrap();
    let mut given = 0;
    // Node 2 crashes whenever it leads, and is back at once.
    for _turn in 0..400 {
        cluster.run(MS * 25);
        if cluster.leader() == Some(2) {
            given += 1;
            cluster.crash(2);
            cluster.run(T * 2);
            cluster.restart(2);
        }
    }
    // Ten seconds are 66 election timeouts: each of two leaders waits 8, 16 and 32 of them.
    assert!((2..=8).contains(&given), "{given}");
}

#[test]
fn design_equal_priorities_move_nothing_and_the_highest_fit_one_wins() {
    let mut cluster = settled(3);
    for change in [prefer(1, 3), prefer(2, 3), prefer(3, 9)] {
        cluster.change(1, &change).unwrap();
        cluster.deliver_all();
    }
    cut_off(&mut cluster, 3);
    cluster.run(T * 8);
    assert_eq!((cluster.leader(), term(&cluster, 1)), (Some(1), 1));
    cluster.cuts.clear();
    cluster.run(T * 4);
    assert_eq!(cluster.leader(), Some(3));
}
