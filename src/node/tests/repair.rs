//! Records rot on one node or several, and the cluster gets over it without a person: three replicas with their logs,
//! driven by hand.

use super::cluster::{Cluster, Sabotage};
use crate::commitlog::frame;
use crate::node::incoming;
use crate::types::{EntryId, Index, Kind, LogTime, Role};

const ENTRIES: &[&str] = &["a", "b", "c", "d", "e", "f"];

/// Three nodes that have applied `ENTRIES`, with indexes from 3 on: 1 is the membership, 2 the leader's no-op.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(Sabotage::Nothing);
    cluster.start().unwrap();
    cluster.write(1, ENTRIES).unwrap();
    cluster.until(|cluster| (0..3).all(|node| cluster.applied_by(node).len() == ENTRIES.len())).unwrap();
    cluster
}

/// All nodes ended and started again: what they read comes from their disks. Between the two, `damage` is done.
fn restarted(cluster: &mut Cluster, damage: impl FnOnce(&Cluster)) {
    for node in 0..3 {
        cluster.stop(node);
    }
    damage(cluster);
    for node in 0..3 {
        cluster.restart(node).unwrap();
    }
}

fn damaged(cluster: &Cluster, node: usize) -> Vec<u64> {
    let indexes = |hole: crate::commitlog::Hole| hole.first.get()..=hole.last.get();
    cluster.replica(node).holes().into_iter().flat_map(indexes).collect()
}

fn is_whole(cluster: &Cluster) -> bool {
    let running = (0..3).filter(|node| cluster.is_running(*node));
    running.clone().all(|node| cluster.replica(node).holes().is_empty())
        && running.clone().all(|node| cluster.replica(node).raft().first_hole().is_none())
}

fn texts(cluster: &Cluster, node: usize) -> String {
    let text = |(_, payload): (Index, bytes::Bytes)| String::from_utf8(payload.to_vec()).unwrap();
    cluster.applied_by(node).into_iter().map(text).collect()
}

/// The node's log holds the same bytes as that of another.
fn assert_equal(cluster: &Cluster, node: usize, other: usize) {
    let last = cluster.replica(other).log().last().get();
    for index in 1..=last.min(cluster.replica(node).log().last().get()) {
        assert_eq!(cluster.stored(node, index).unwrap(), cluster.stored(other, index).unwrap(), "{index}");
    }
}

fn steps(cluster: &mut Cluster, count: u64) {
    for _step in 0..count {
        cluster.step().unwrap();
    }
}

#[test]
fn repair_of_a_follower_brings_every_record_back_and_applies_on() {
    // Entry 2 is a no-op: all of it is its header.
    for (header, first) in [(false, 3), (true, 2)] {
        for index in first..=8 {
            let mut cluster = cluster();
            let follower = (0..3).find(|node| cluster.leader() != Some(*node)).unwrap();
            cluster.stop(follower);
            cluster.rot(follower, index, header);
            cluster.restart(follower).unwrap();
            assert_eq!(damaged(&cluster, follower), [index], "header {header}");
            cluster.write(2, &["g"]).unwrap();
            cluster.until(|cluster| texts(cluster, follower) == "abcdefg").unwrap();
            assert_eq!((damaged(&cluster, follower), cluster.replica(follower).mended()), (vec![], 1));
            assert_equal(&cluster, follower, cluster.leader().unwrap());
        }
    }
}

#[test]
fn repair_of_several_holes_of_one_node_goes_on_until_all_are_mended() {
    let mut cluster = cluster();
    let follower = (0..3).find(|node| cluster.leader() != Some(*node)).unwrap();
    cluster.stop(follower);
    for index in [3, 4, 6, 8] {
        cluster.rot(follower, index, false);
    }
    cluster.restart(follower).unwrap();
    assert_eq!(damaged(&cluster, follower), [3, 4, 6, 8]);
    cluster.until(|cluster| texts(cluster, follower) == "abcdef").unwrap();
    assert_eq!(cluster.replica(follower).mended(), 4);
}

#[test]
fn repair_while_running_finds_what_a_reader_met_and_the_leader_stays_in_office() {
    let mut cluster = cluster();
    restarted(&mut cluster, |_| {});
    cluster.until(|cluster| texts(cluster, 0) == "abcdef" && cluster.leader().is_some()).unwrap();
    let leader = cluster.leader().unwrap();
    let term = cluster.replica(leader).raft().term();
    cluster.rot(leader, 4, false);
    cluster.read(leader, Index(4)).unwrap_err();
    assert_eq!(cluster.replica(leader).raft().first_hole(), Some(Index(4)));
    assert_eq!(cluster.replica(leader).raft().role(), Role::Leader);
    cluster.until(is_whole).unwrap();
    cluster.read(leader, Index(4)).unwrap();
    cluster.write(2, &["g"]).unwrap();
    assert_eq!((cluster.leader(), cluster.replica(leader).raft().term()), (Some(leader), term));
}

#[test]
fn repair_takes_from_its_own_memory_what_it_still_has_there() {
    let mut cluster = cluster();
    let follower = (0..3).find(|node| cluster.leader() != Some(*node)).unwrap();
    cluster.isolated.insert(follower);
    cluster.rot(follower, 5, true);
    cluster.scrub(follower, Index(5));
    assert_eq!(damaged(&cluster, follower), [5]);
    cluster.step().unwrap();
    assert_eq!((damaged(&cluster, follower), cluster.replica(follower).mended()), (vec![], 1));
}

#[test]
fn repair_of_two_nodes_with_different_holes_needs_neither_a_leader_nor_the_third() {
    for (one, other) in [(3, 5), (8, 2), (4, 8)] {
        let mut cluster = cluster();
        for node in 0..3 {
            cluster.stop(node);
        }
        cluster.rot(0, one, false);
        cluster.rot(1, other, true);
        cluster.restart(0).unwrap();
        cluster.restart(1).unwrap();
        assert_eq!((damaged(&cluster, 0), damaged(&cluster, 1)), (vec![one], vec![other]));
        steps(&mut cluster, 5);
        assert!(is_whole(&cluster) && cluster.leader().is_none(), "mended before anybody could be elected");
        cluster.write(2, &["g"]).unwrap();
        cluster.until(|cluster| (0..2).all(|node| texts(cluster, node) == "abcdefg")).unwrap();
        assert_equal(&cluster, 0, 1);
    }
}

#[test]
fn repair_of_the_same_record_on_two_nodes_comes_from_the_third() {
    let mut cluster = cluster();
    restarted(&mut cluster, |cluster| {
        cluster.rot(0, 5, false);
        cluster.rot(1, 5, true);
    });
    cluster.until(|cluster| (0..3).all(|node| texts(cluster, node) == "abcdef")).unwrap();
    assert!(is_whole(&cluster));
    assert_equal(&cluster, 0, 2);
    assert_equal(&cluster, 1, 2);
}

#[test]
fn repair_waits_and_says_so_when_nobody_has_the_record_and_ends_when_somebody_has() {
    let mut cluster = cluster();
    restarted(&mut cluster, |cluster| (0..3).for_each(|node| cluster.rot(node, 5, false)));
    steps(&mut cluster, 3_000);
    assert_eq!(cluster.leader(), None, "no node could hand on its log");
    for node in 0..3 {
        assert_eq!((damaged(&cluster, node), texts(&cluster, node).as_str()), (vec![5], "ab"));
        let why = cluster.replica(node).unmended().unwrap();
        assert!(why.contains("entry 5 cannot be read") && why.contains("cannot read it either"), "{why}");
    }
    cluster.stop(2);
    // The same flip again: as if the good disk had been found.
    let (path, at) = cluster.place_of(2, Index(5));
    cluster.disk(2).flip_byte(&path, at + 48).unwrap();
    cluster.restart(2).unwrap();
    cluster.write(2, &["g"]).unwrap();
    cluster.until(|cluster| (0..3).all(|node| texts(cluster, node) == "abcdefg")).unwrap();
    assert!(is_whole(&cluster) && cluster.replica(0).unmended().is_none());
}

#[test]
fn repair_without_a_connected_peer_says_so_and_starts_when_one_connects() {
    let mut cluster = cluster();
    for node in 0..3 {
        cluster.stop(node);
    }
    cluster.rot(0, 4, false);
    cluster.restart(0).unwrap();
    steps(&mut cluster, 50);
    assert!(cluster.replica(0).unmended().unwrap().contains("no peer is connected"));
    cluster.restart(1).unwrap();
    steps(&mut cluster, 3);
    assert!(is_whole(&cluster));
}

#[test]
fn repair_of_a_silent_peers_turn_goes_to_the_next() {
    let mut cluster = cluster();
    for node in 0..3 {
        cluster.stop(node);
    }
    cluster.rot(0, 4, false);
    // Node 2 is asked first. It is connected and says nothing.
    cluster.isolated.insert(1);
    cluster.restart(1).unwrap();
    cluster.restart(2).unwrap();
    cluster.restart(0).unwrap();
    steps(&mut cluster, 900);
    assert_eq!(damaged(&cluster, 0), [4], "it still has time to answer");
    steps(&mut cluster, 200);
    assert_eq!(damaged(&cluster, 0), [0u64; 0]);
}

/// A fifth hole that was found before the other four kept a deadline that had passed, and so the event loop never slept.
/// The tests had four holes at most, found in one go.
#[test]
fn repair_of_a_hole_that_must_wait_its_turn_keeps_nobody_awake() {
    let mut cluster = cluster();
    cluster.write(2, &["g", "h", "i"]).unwrap();
    for node in 0..3 {
        cluster.stop(node);
    }
    for index in [5, 7, 9, 11] {
        cluster.rot(0, index, false);
    }
    cluster.isolated.extend([1, 2]);
    for node in 0..3 {
        cluster.restart(node).unwrap();
    }
    steps(&mut cluster, 5);
    cluster.rot(0, 3, false);
    cluster.read(0, Index(3)).unwrap_err();
    steps(&mut cluster, 3_000);
    assert_eq!(damaged(&cluster, 0), [3, 5, 7, 9, 11]);
    assert!(cluster.replica(0).next_deadline().is_some_and(|due| due > cluster.now()));
    cluster.isolated.clear();
    cluster.until(is_whole).unwrap();
}

#[test]
fn repair_where_no_term_is_known_takes_the_records_of_the_same_log_only() {
    // Entry 9 is the no-op of the second leader: its header lost, it may be of either term.
    let mut cluster = cluster();
    restarted(&mut cluster, |_| {});
    cluster.write(2, &["g"]).unwrap();
    cluster.until(|cluster| (0..3).all(|node| texts(cluster, node) == "abcdefg")).unwrap();
    for node in 0..3 {
        cluster.stop(node);
    }
    cluster.rot(0, 9, true);
    cluster.restart(0).unwrap();
    assert_eq!(cluster.replica(0).raft().term_at(Index(9)), None);
    cluster.restart(1).unwrap();
    steps(&mut cluster, 5);
    assert!(is_whole(&cluster), "{:?}", cluster.replica(0).unmended());
    assert_eq!(cluster.replica(0).raft().term_at(Index(9)), cluster.replica(1).raft().term_at(Index(9)));
    cluster.write(3, &["h"]).unwrap();
    assert_equal(&cluster, 0, 1);
}

/// Node `alone` of the answer led, and took entries that nobody else has, after `abcdef`; the others went on without it.
fn divergent(lonely: &[&'static str]) -> (Cluster, usize) {
    let mut cluster = cluster();
    let alone = cluster.leader().unwrap();
    cluster.isolated.insert(alone);
    cluster.propose(alone, 2, lonely);
    steps(&mut cluster, 10);
    cluster.write(3, &["g", "h"]).unwrap();
    cluster.stop(alone);
    cluster.isolated.clear();
    (cluster, alone)
}

#[test]
fn repair_of_an_entry_that_was_never_committed_is_its_truncation() {
    for index in [9, 10] {
        let (mut cluster, alone) = divergent(&["x", "y"]);
        cluster.rot(alone, index, false);
        cluster.restart(alone).unwrap();
        assert_eq!(damaged(&cluster, alone), [index]);
        cluster.until(|cluster| texts(cluster, alone) == "abcdefgh").unwrap();
        steps(&mut cluster, 5);
        assert_eq!((damaged(&cluster, alone), cluster.replica(alone).mended()), (vec![], 0));
        assert_equal(&cluster, alone, cluster.leader().unwrap());
    }
}

/// Of two entries the slot names the second: whoever has an entry of that term has the first one too.
#[test]
fn repair_of_an_unknown_entry_is_proved_by_the_last_one_that_the_slot_names() {
    let (mut cluster, alone, [shared, own]) = cut_off();
    cluster.write(3, &["g", "h"]).unwrap();
    comes_back_with_unknown(&mut cluster, alone, [shared, own]);
    cluster.until(|cluster| texts(cluster, alone) == "abcdefgh" && is_whole(cluster)).unwrap();
    assert_eq!(cluster.replica(alone).mended(), 1);
    steps(&mut cluster, 20);
    assert_equal(&cluster, alone, cluster.leader().unwrap());
}

/// The leader has another entry than the last one, which the slot names. Whether it has the unknown one before that nobody
/// can tell, nor where that ends, so that nothing could follow it: it goes with the last one, also when it would fit.
#[test]
fn repair_of_an_unknown_entry_is_given_up_where_the_last_one_that_the_slot_names_is_not_the_leaders() {
    let (mut cluster, alone, [shared, own]) = cut_off();
    comes_back_with_unknown(&mut cluster, alone, [shared, own]);
    let replica = cluster.replica(alone);
    let prev = EntryId::new(shared.index.prev(), replica.raft().term_at(shared.index.prev()).unwrap());
    let start = replica.log().end_of(prev.index).unwrap();
    for (term, given_up) in [(own.term, false), (own.term.next(), true)] {
        let mut bytes = Vec::new();
        frame(&mut bytes, shared, start, LogTime::ZERO, Kind::NoOp, 0, b"");
        let (last, at) = (EntryId::new(own.index, term), start.plus(bytes.len() as u64));
        frame(&mut bytes, last, at, LogTime::ZERO, Kind::Data, 0, b"x");
        let records = incoming::verify(prev, (Index::ZERO, Index::ZERO), vec![bytes.into()], 1 << 20).unwrap();
        assert_eq!(replica.refuted_by(&records), given_up.then_some(shared.index), "{last}");
    }
}

/// A leader of a new term was cut off with an entry of its own: which node, the last entry that all have, and that one.
fn cut_off() -> (Cluster, usize, [EntryId; 2]) {
    let mut cluster = cluster();
    let (before, alone) = (cluster.leader().unwrap(), (cluster.leader().unwrap() + 1) % 3);
    cluster.transfer(before, 50, alone);
    cluster.until(|cluster| cluster.leader() == Some(alone)).unwrap();
    steps(&mut cluster, 20);
    let shared = cluster.replica(alone).raft().last();
    cluster.isolated.insert(alone);
    cluster.propose(alone, 2, &["x"]);
    steps(&mut cluster, 10);
    let own = cluster.replica(alone).raft().last();
    (cluster, alone, [shared, own])
}

/// The two last entries of a node that was cut off are damaged beyond recognition, and it comes back.
fn comes_back_with_unknown(cluster: &mut Cluster, node: usize, [first, last]: [EntryId; 2]) {
    for entry in [first, last] {
        cluster.rot(node, entry.index.get(), true);
    }
    cluster.stop(node);
    cluster.isolated.clear();
    cluster.restart(node).unwrap();
    let raft = cluster.replica(node).raft();
    assert_eq!((raft.last(), raft.term_at(first.index)), (last, None));
}

/// The scrub forgot a hole that could be read again, and nobody told the core whose term was not known there: it never
/// voted again, and could vouch for another leader's entry. The tests let holes heal only where the terms were known.
#[test]
fn repair_of_an_unknown_entry_that_can_be_read_again_still_asks_whose_it_is() {
    let mut cluster = cluster();
    restarted(&mut cluster, |_| {});
    cluster.write(2, &["g"]).unwrap();
    cluster.until(|cluster| (0..3).all(|node| texts(cluster, node) == "abcdefg")).unwrap();
    for node in 0..3 {
        cluster.stop(node);
    }
    let (path, at) = cluster.place_of(0, Index(9));
    cluster.rot(0, 9, true);
    cluster.restart(0).unwrap();
    assert_eq!(cluster.replica(0).raft().term_at(Index(9)), None);
    // The same flip again.
    cluster.disk(0).flip_byte(&path, at + 10).unwrap();
    cluster.scrub(0, Index(9));
    assert_eq!(damaged(&cluster, 0), [9]);
    cluster.restart(1).unwrap();
    cluster.until(|cluster| is_whole(cluster) && cluster.leader().is_some()).unwrap();
    assert_eq!(cluster.replica(0).raft().term_at(Index(9)), cluster.replica(1).raft().term_at(Index(9)));
}

#[test]
fn repair_is_not_given_records_of_another_history() {
    // Both have an entry 9, of different terms: nothing may be written over the lost one but itself.
    let (mut cluster, alone) = divergent(&["x", "y"]);
    let other = (0..3).find(|node| *node != alone).unwrap();
    cluster.rot(alone, 9, true);
    for node in (0..3).filter(|node| *node != alone && *node != other) {
        cluster.stop(node);
    }
    let request = |terms, before: Option<(u64, u64)>, behind: Option<(u64, u64)>| {
        let id = |(index, term): (u64, u64)| EntryId::new(Index(index), crate::types::Term(term));
        crate::transport::RepairRequest {
            number: 1,
            first: Index(9),
            last: Index(9),
            position: cluster.replica(other).log().end_of(Index(8)).unwrap(),
            terms,
            before: before.map(id),
            behind: behind.map(id),
            max_bytes: 1 << 20,
        }
    };
    let run = |term| vec![crate::types::TermRun { first: Index(9), term: crate::types::Term(term) }];
    let own = cluster.replica(other).raft().term_at(Index(9)).unwrap().get();
    let before = cluster.replica(other).raft().term_at(Index(8)).unwrap().get();
    let asked = [
        (request(run(own), None, None), Ok(())),
        (request(run(own - 1), None, None), Err("another entry")),
        (request(Vec::new(), None, Some((10, own))), Ok(())),
        (request(Vec::new(), None, Some((10, own - 1))), Err("cannot tell")),
        (request(Vec::new(), Some((8, before)), None), Ok(())),
        (request(Vec::new(), Some((8, before + 1)), None), Err("cannot tell")),
        (request(Vec::new(), None, None), Err("cannot tell")),
    ];
    for (request, expected) in asked {
        let given = cluster.ask_for_repair(other, &request);
        match expected {
            Ok(()) => assert!(given.is_ok(), "{request:?}: {given:?}"),
            Err(why) => assert!(given.clone().unwrap_err().to_string().contains(why), "{request:?}: {given:?}"),
        }
    }
}

#[test]
fn repair_cut_off_by_a_power_failure_at_each_disk_call_is_done_by_the_next_start() {
    let mut call = 1;
    loop {
        let mut cluster = cluster();
        let follower = (0..3).find(|node| cluster.leader() != Some(*node)).unwrap();
        cluster.stop(follower);
        cluster.rot(follower, 4, false);
        cluster.rot(follower, 7, true);
        cluster.disk(follower).cut_power_at(call);
        let survived = cluster.restart(follower).is_ok() && cluster.until(is_whole).is_ok();
        cluster.cut_power_of(follower, call);
        cluster.restart(follower).unwrap();
        cluster.until(|cluster| is_whole(cluster) && texts(cluster, follower) == "abcdef").unwrap();
        assert_equal(&cluster, follower, cluster.leader().unwrap());
        if survived {
            break;
        }
        call += 1;
    }
    assert!(call > 20, "only {call} calls");
}

#[test]
fn repair_of_what_a_leader_must_send_comes_from_the_other_follower() {
    let mut cluster = cluster();
    let late = (0..3).find(|node| cluster.leader() != Some(*node)).unwrap();
    cluster.isolated.insert(late);
    cluster.write(2, &["g", "h"]).unwrap();
    for node in 0..3 {
        cluster.stop(node);
    }
    for node in (0..3).filter(|node| *node != late) {
        cluster.restart(node).unwrap();
    }
    cluster.write(3, &["i"]).unwrap();
    let leader = cluster.leader().unwrap();
    cluster.rot(leader, 9, false);
    cluster.isolated.clear();
    cluster.restart(late).unwrap();
    cluster.until(|cluster| texts(cluster, late) == "abcdefghi").unwrap();
    assert_eq!((cluster.leader(), cluster.replica(leader).mended()), (Some(leader), 1));
}

#[test]
fn repair_of_a_sector_that_cannot_be_read_mends_all_its_records_together() {
    for index in 3..=7 {
        let mut cluster = cluster();
        let follower = (0..3).find(|node| cluster.leader() != Some(*node)).unwrap();
        cluster.stop(follower);
        let (path, at) = cluster.place_of(follower, Index(index));
        cluster.disk(follower).spoil_sector(&path, at).unwrap();
        cluster.restart(follower).unwrap();
        assert!(damaged(&cluster, follower).len() > 3, "{:?}", damaged(&cluster, follower));
        cluster.until(|cluster| texts(cluster, follower) == "abcdef" && is_whole(cluster)).unwrap();
        assert_equal(&cluster, follower, cluster.leader().unwrap());
    }
}
