//! Snapshots bound the log and bring back who was away: three replicas with logs, snapshots and machines, by hand.

use std::path::{Path, PathBuf};

use super::cluster::{Cluster, Sabotage};
use crate::commitlog::layout::group_dir;
use crate::config::Config;
use crate::error::ReadError;
use crate::node::effects::Answer;
use crate::snapshot::{CHUNK_BYTES, snapshot_dir};
use crate::types::{EntryId, GroupId, Index, NodeId, Role};

/// A payload that fills a fifth of a segment.
fn payload() -> &'static str {
    Box::leak("x".repeat(13 << 10).into_boxed_str())
}

/// Three nodes that take a snapshot every ten entries, keep two, and no log that those cover.
fn cluster() -> Cluster {
    cluster_with(knobs)
}

fn knobs(config: &mut Config) {
    (config.snapshot_entries, config.snapshot_bytes) = (10, 0);
    (config.snapshots_kept, config.log_tail_bytes) = (2, 0);
    config.snapshot_send_rate = 0;
}

fn cluster_with(knobs: fn(&mut Config)) -> Cluster {
    let mut cluster = Cluster::new(Sabotage::Nothing);
    cluster.knobs = knobs;
    cluster.start().unwrap();
    cluster
}

/// Writes so many entries, and waits until all that run have applied them and come to rest.
fn write(cluster: &mut Cluster, ticket: u64, count: usize) {
    for each in 0..count {
        cluster.write(ticket + each as u64, &[payload()]).unwrap();
    }
    settle(cluster);
}

fn settle(cluster: &mut Cluster) {
    let last = |cluster: &Cluster| cluster.replica(cluster.leader().unwrap()).raft().last().index;
    let there = |cluster: &Cluster| {
        let running = (0..3).filter(|node| cluster.is_running(*node) && !cluster.isolated.contains(node));
        cluster.leader().is_some() && running.clone().all(|n| cluster.replica(n).applied().index == last(cluster))
    };
    cluster.until(there).unwrap();
    for _ in 0..20 {
        cluster.step().unwrap();
    }
}

fn follower(cluster: &Cluster) -> usize {
    (0..3).find(|node| cluster.leader() != Some(*node)).unwrap()
}

fn kept(cluster: &Cluster, node: usize) -> Vec<u64> {
    cluster.replica(node).snapshots().ids.iter().map(|id| id.index.get()).collect()
}

fn first(cluster: &Cluster, node: usize) -> u64 {
    cluster.replica(node).log().first().get()
}

/// The files of a node's snapshot.
fn data_of(id: EntryId) -> PathBuf {
    let name = format!("{:020}-{}", id.index.get(), id.term.get());
    snapshot_dir(&group_dir(Path::new("/data"), GroupId::FIRST)).join(name).join("data")
}

#[test]
fn snapshots_are_of_the_same_entries_on_all_nodes_and_bound_the_log() {
    let mut cluster = cluster();
    write(&mut cluster, 1, 47);
    let mut bytes = Vec::new();
    for node in 0..3 {
        assert_eq!(kept(&cluster, node), [40, 30], "node {node}");
        let begins = first(&cluster, node);
        assert!((20..=31).contains(&begins), "node {node} begins at {begins}: whole segments up to 30 are gone");
        let disk = cluster.disk(node).handle();
        let file = disk.open(&data_of(cluster.replica(node).snapshots().ids[0]), crate::env::OpenMode::Read).unwrap();
        let mut data = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut data, 0).unwrap();
        bytes.push(data);
    }
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "and they have the same bytes");
}

#[test]
fn snapshot_is_not_followed_by_a_purge_before_there_are_as_many_as_are_kept() {
    let mut cluster = cluster();
    write(&mut cluster, 1, 16);
    assert_eq!((kept(&cluster, 0), first(&cluster, 0)), (vec![10], 1));
}

#[test]
fn snapshot_on_request_holds_all_that_was_applied_and_is_answered_once() {
    let mut cluster = cluster();
    write(&mut cluster, 1, 13);
    let applied = cluster.replica(1).applied();
    cluster.ask_for_snapshot(1, 100);
    cluster.ask_for_snapshot(1, 101);
    settle(&mut cluster);
    let answer = |wanted: u64| {
        let mine = cluster.answers.iter().filter(move |(ticket, _)| ticket.0 == wanted);
        mine.map(|(_, answer)| if let Answer::Snapshot(Ok(id)) = answer { *id } else { EntryId::ZERO })
            .collect::<Vec<_>>()
    };
    assert_eq!((answer(100), answer(101)), (vec![applied], vec![applied]));
    assert_eq!(kept(&cluster, 1), [applied.index.get(), 10]);
}

#[test]
fn restart_begins_with_the_newest_snapshot_and_replays_only_what_follows() {
    let mut cluster = cluster();
    write(&mut cluster, 1, 47);
    let before = cluster.applied();
    for node in 0..3 {
        cluster.stop(node);
    }
    for node in 0..3 {
        cluster.restart(node).unwrap();
        assert_eq!(cluster.replica(node).raft().base().index.next().get(), first(&cluster, node));
        assert!(cluster.replica(node).applied().index >= Index(40), "restored before anything was heard");
    }
    settle(&mut cluster);
    assert_eq!(cluster.applied(), before);
}

#[test]
fn follower_that_was_away_while_its_log_was_purged_comes_back_by_snapshot_under_load() {
    let mut cluster = cluster();
    write(&mut cluster, 1, 5);
    let away = follower(&cluster);
    cluster.stop(away);
    write(&mut cluster, 10, 60);
    let leader = cluster.leader().unwrap();
    assert!(first(&cluster, leader) > 10);
    cluster.restart(away).unwrap();
    for ticket in 200..240 {
        cluster.write(ticket, &[payload()]).unwrap();
    }
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(away), cluster.applied_by(leader));
    assert!(cluster.replica(away).snapshot_bytes_received() > 0);
    assert!(first(&cluster, away) > 10 && cluster.replica(away).missing_snapshot().is_none());
    // What it holds now survives it.
    cluster.stop(away);
    cluster.restart(away).unwrap();
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(away), cluster.applied_by(leader));
}

/// A cluster whose node is away and needs a snapshot of several chunks; and that node.
fn far_behind() -> (Cluster, usize) {
    let mut cluster = cluster();
    write(&mut cluster, 1, 3);
    let away = follower(&cluster);
    cluster.stop(away);
    write(&mut cluster, 10, 110);
    (cluster, away)
}

#[test]
fn transfer_interrupted_ten_times_ends_in_one_transfer_and_at_most_a_chunk_each() {
    let (mut cluster, away) = far_behind();
    cluster.restart(away).unwrap();
    for broken in 0..10 {
        // Whatever the pieces are, the second of each connection is lost with it.
        cluster.chunks = 1;
        for _ in 0..600 {
            cluster.step().unwrap();
            if cluster.chunks == u64::MAX {
                break;
            }
        }
        assert!(cluster.chunks == u64::MAX || broken > 3, "the transfer was not broken off {broken} times");
    }
    cluster.chunks = u64::MAX;
    settle(&mut cluster);
    let received = cluster.replica(away).snapshot_bytes_received();
    let leader = cluster.leader().unwrap();
    let size = cluster.replica(leader).snapshots().newest_bytes;
    assert!(size > 4 * u64::from(CHUNK_BYTES), "{size} bytes are a few chunks");
    assert!(received <= size + 10 * u64::from(CHUNK_BYTES), "{received} bytes for a snapshot of {size}");
    assert_eq!(cluster.applied_by(away), cluster.applied_by(leader));
}

/// Post-mortem: a node without room was sent most of a snapshot every few seconds, for as long as it had none, and its
/// status never said why. The tests of full disks ended with the first error.
#[test]
fn follower_without_room_for_a_snapshot_says_so_and_is_sent_nothing_until_it_has() {
    let (mut cluster, away) = far_behind();
    cluster.disk(away).set_free(2 * u64::from(CHUNK_BYTES));
    cluster.restart(away).unwrap();
    for _ in 0..3_000 {
        cluster.step().unwrap();
    }
    let waits = cluster.replica(away);
    assert!(waits.missing_snapshot().unwrap().contains("has no room for a snapshot"), "{:?}", waits.missing_snapshot());
    assert_eq!(waits.snapshot_bytes_received(), 0);
    cluster.disk(away).set_capacity(None);
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(away), cluster.applied_by(cluster.leader().unwrap()));
    assert_eq!(cluster.replica(away).missing_snapshot(), None);
}

#[test]
fn transfer_goes_on_from_another_node_when_the_leader_dies() {
    let (mut cluster, away) = far_behind();
    cluster.restart(away).unwrap();
    let half = u64::from(CHUNK_BYTES) * 2;
    cluster.until(|cluster| cluster.replica(away).snapshot_bytes_received() >= half).unwrap();
    let leader = cluster.leader().unwrap();
    let size = cluster.replica(leader).snapshots().newest_bytes;
    cluster.stop(leader);
    cluster.write(500, &[payload()]).unwrap();
    settle(&mut cluster);
    let received = cluster.replica(away).snapshot_bytes_received();
    assert!(received <= size + u64::from(CHUNK_BYTES), "{received} bytes for a snapshot of {size}");
    let other = (0..3).find(|node| *node != away && *node != leader).unwrap();
    assert_eq!(cluster.applied_by(away), cluster.applied_by(other));
}

/// Post-mortem: a connection that closed counted as a refusal. A node that lost all its peers at once, or the only one in
/// reach, threw away what it had of a snapshot and began anew. The tests always left it somebody to ask.
#[test]
fn transfer_goes_on_where_it_was_when_everybody_who_sends_was_gone() {
    let (mut cluster, away) = far_behind();
    cluster.restart(away).unwrap();
    let others: Vec<usize> = (0..3).filter(|node| *node != away).collect();
    for chunks in 1..=3 {
        let there = chunks * u64::from(CHUNK_BYTES);
        cluster.until(|cluster| cluster.replica(away).snapshot_bytes_received() >= there).unwrap();
        others.iter().for_each(|node| cluster.stop(*node));
        for _ in 0..1_000 {
            cluster.step().unwrap();
        }
        others.iter().for_each(|node| cluster.restart(*node).unwrap());
    }
    settle(&mut cluster);
    let received = cluster.replica(away).snapshot_bytes_received();
    let size = cluster.replica(others[0]).snapshots().newest_bytes;
    assert!(received <= size + 3 * u64::from(CHUNK_BYTES), "{received} bytes for a snapshot of {size}");
    assert_eq!(cluster.applied_by(away), cluster.applied_by(others[0]));
}

#[test]
fn transfer_after_a_power_cut_at_any_step_ends_in_the_same_state() {
    let mut cuts = 0;
    for at in 0.. {
        let (mut cluster, away) = far_behind();
        cluster.restart(away).unwrap();
        let mut installed = false;
        for _ in 0..at {
            cluster.step().unwrap();
            installed = cluster.replica(away).snapshot_bytes_received() > 0
                && cluster.replica(away).applied().index > Index(50);
        }
        cluster.cut_power_of(away, at);
        cuts += 1;
        cluster.restart(away).unwrap();
        settle(&mut cluster);
        assert_eq!(cluster.applied_by(away), cluster.applied_by(cluster.leader().unwrap()), "cut after step {at}");
        if installed {
            break;
        }
    }
    assert!(cuts > 5, "only {cuts} places to cut");
}

#[test]
fn restart_with_the_newest_snapshot_damaged_begins_with_the_one_before_and_its_log() {
    let mut cluster = cluster();
    write(&mut cluster, 1, 47);
    let node = follower(&cluster);
    let newest = cluster.replica(node).snapshots().ids[0];
    cluster.stop(node);
    cluster.disk(node).flip_byte(&data_of(newest), 300).unwrap();
    cluster.restart(node).unwrap();
    assert!((30..40).contains(&cluster.replica(node).applied().index.get()) || first(&cluster, node) <= 31);
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(node), cluster.applied_by(cluster.leader().unwrap()));
    assert_eq!(cluster.replica(node).snapshot_bytes_received(), 0, "its own log was enough");
}

/// A cluster at rest, of which one node has started; all its snapshots are damaged.
fn without_a_snapshot() -> (Cluster, usize) {
    let mut cluster = cluster();
    write(&mut cluster, 1, 47);
    let node = follower(&cluster);
    let ids = cluster.replica(node).snapshots().ids.clone();
    (0..3).for_each(|each| cluster.stop(each));
    for id in ids {
        cluster.disk(node).flip_byte(&data_of(id), 300).unwrap();
    }
    cluster.restart(node).unwrap();
    (cluster, node)
}

#[test]
fn restart_with_every_snapshot_damaged_fetches_one_and_meanwhile_stands_for_nothing() {
    let (mut cluster, node) = without_a_snapshot();
    for _ in 0..2_000 {
        cluster.step().unwrap();
    }
    let alone = cluster.replica(node);
    assert_eq!((alone.raft().role(), alone.applied()), (Role::Follower, EntryId::ZERO));
    assert!(alone.missing_snapshot().unwrap().contains("needs a snapshot"));
    (0..3).filter(|each| *each != node).for_each(|each| cluster.restart(each).unwrap());
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(node), cluster.applied_by(cluster.leader().unwrap()));
}

#[test]
fn hole_that_all_peers_have_purged_is_covered_by_a_snapshot() {
    let mut cluster = cluster();
    write(&mut cluster, 1, 8);
    let node = follower(&cluster);
    cluster.stop(node);
    write(&mut cluster, 20, 50);
    let leader = cluster.leader().unwrap();
    assert!(first(&cluster, leader) > 8);
    cluster.rot(node, 4, false);
    cluster.restart(node).unwrap();
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(node), cluster.applied_by(leader));
    assert!(cluster.replica(node).holes().is_empty() && cluster.replica(node).raft().first_hole().is_none());
}

/// A member that had not heard of the formation asks for record 1. Nodes read it from their logs, and could not once it was
/// purged: that member would have stood outside for ever. Nothing purged logs when this was written.
#[test]
fn formation_is_told_to_a_late_member_although_its_record_is_purged() {
    let mut cluster = cluster();
    let record = cluster.ask_for_genesis(0).unwrap();
    write(&mut cluster, 1, 47);
    assert!(first(&cluster, 0) > 1);
    assert_eq!(cluster.ask_for_genesis(0), Some(record.clone()));
    (0..3).for_each(|node| cluster.stop(node));
    (0..3).for_each(|node| cluster.restart(node).unwrap());
    assert_eq!(cluster.ask_for_genesis(2), Some(record));
}

/// With an installed snapshot came an order to purge, which the disk did before it started over: for a moment the log began
/// behind an entry that was never committed, and a crash lost what the snapshot before had to go on with. The tests gave
/// the disk one order at a time; the simulator's checker of where a log begins noticed.
#[test]
fn install_over_a_log_that_parted_purges_nothing_of_that() {
    let mut cluster = cluster_with(|config| {
        knobs(config);
        config.snapshots_kept = 1;
    });
    write(&mut cluster, 1, 3);
    let parted = cluster.leader().unwrap();
    cluster.isolated.insert(parted);
    for ticket in 10..22 {
        cluster.propose(parted, ticket, &[payload()]);
    }
    cluster.until(|cluster| cluster.leader().is_some()).unwrap();
    write(&mut cluster, 100, 60);
    let own_last = cluster.replica(parted).raft().last().index.get();
    assert!(own_last > 10, "it has segments of its own, up to {own_last}");
    cluster.isolated.remove(&parted);
    settle(&mut cluster);
    // At every purge of every node the harness has looked of which history it was.
    assert!(first(&cluster, parted) > own_last);
    assert_eq!(cluster.applied_by(parted), cluster.applied_by(cluster.leader().unwrap()));
}

/// A node that held nothing was asked for a snapshot and answered that there was one, of entry 0. The tests asked nodes
/// that had applied something; one whose snapshots are all damaged has not.
#[test]
fn snapshot_on_request_of_a_node_that_holds_nothing_is_answered_once_it_has_one() {
    let (mut cluster, node) = without_a_snapshot();
    cluster.ask_for_snapshot(node, 500);
    for _ in 0..20 {
        cluster.step().unwrap();
    }
    let answer = |cluster: &Cluster| cluster.answers.iter().position(|(ticket, _)| ticket.0 == 500);
    assert_eq!(answer(&cluster), None, "it has nothing to write down");
    (0..3).filter(|each| *each != node).for_each(|each| cluster.restart(each).unwrap());
    settle(&mut cluster);
    let answer = &cluster.answers[answer(&cluster).unwrap()].1;
    assert!(matches!(answer, Answer::Snapshot(Ok(id)) if id.index >= Index(40)), "{answer:?}");
}

/// A log that was purged with a hole in front forgot the membership, which the header of a segment made behind a hole does
/// not know: the node was a learner from its next start on, for ever. That needs a hole, a restart over it and a purge, and
/// no test had all three.
#[test]
fn restart_behind_a_purged_hole_knows_the_membership_from_the_snapshot() {
    let mut cluster = cluster_with(|config| {
        knobs(config);
        config.snapshot_entries = 0;
    });
    write(&mut cluster, 1, 8);
    let node = follower(&cluster);
    cluster.ask_for_snapshot(node, 100);
    settle(&mut cluster);
    let last = cluster.replica(node).raft().last().index;
    assert_eq!(kept(&cluster, node), [last.get()]);
    cluster.rot(node, last.get() - 1, true);
    cluster.stop(node);
    // Once to begin a segment behind the hole, and once to purge up to there.
    for _start in 0..2 {
        cluster.purge_at_rest(node, last);
    }
    cluster.restart(node).unwrap();
    assert_eq!((first(&cluster, node), cluster.replica(node).raft().role()), (last.get() + 1, Role::Follower));
    assert_eq!(cluster.replica(node).raft().membership_index(), Some(Index(1)));
}

/// Whether a follower needed a snapshot was judged by how long its log is. One whose own, uncommitted tail reached beyond
/// what the leader had purged never fetched one, and nobody could send it anything else. In the tests logs that parted
/// were short.
#[test]
fn follower_whose_uncommitted_tail_reaches_the_base_of_the_leader_fetches_a_snapshot_all_the_same() {
    let mut cluster = cluster();
    write(&mut cluster, 1, 5);
    let parted = cluster.leader().unwrap();
    cluster.isolated.insert(parted);
    cluster.propose(parted, 10, &["small"; 200]);
    cluster.until(|cluster| cluster.leader().is_some()).unwrap();
    write(&mut cluster, 100, 60);
    let leader = cluster.leader().unwrap();
    let own_last = cluster.replica(parted).raft().last().index;
    assert!(own_last > cluster.replica(leader).raft().last().index && first(&cluster, leader) > 10);
    cluster.isolated.remove(&parted);
    let mut between = 0;
    for _ in 0..3_000 {
        cluster.step().unwrap();
        if cluster.replica(parted).is_starting_over() {
            between += 1;
            // The disk shows what it has yet to discard; to a reader that is gone.
            assert!(matches!(cluster.read(parted, Index(20)), Err(ReadError::OutOfRange { .. })));
        }
    }
    assert!(between > 0, "the disk starts over a step later");
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(parted), cluster.applied_by(leader));
}

/// A hole that peers had purged called for a snapshot only while nobody was asked for its records: every half second the
/// copy was dropped and begun again. In the tests a snapshot came within one step.
#[test]
fn hole_that_peers_have_purged_is_waited_for_as_long_as_the_snapshot_takes() {
    let mut cluster = cluster_with(|config| {
        knobs(config);
        config.snapshot_send_rate = 512 << 10;
        // The third takes none, and has all of its log.
        config.snapshot_entries = if config.id == NodeId(3) { 0 } else { 10 };
    });
    let node = 2;
    write(&mut cluster, 1, 68);
    cluster.stop(node);
    cluster.until(|cluster| cluster.leader().is_some()).unwrap();
    cluster.rot(node, 4, false);
    cluster.restart(node).unwrap();
    assert_eq!((first(&cluster, node), cluster.replica(node).applied().index), (1, Index(3)));
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(node), cluster.applied_by(cluster.leader().unwrap()));
    let size = cluster.replica(node).snapshots().newest_bytes;
    let received = cluster.replica(node).snapshot_bytes_received();
    assert!(size > 2 * u64::from(CHUNK_BYTES) && received <= size, "{received} bytes for a snapshot of {size}");
}

/// A log whose entry at the end of the snapshot was damaged beyond recognition started over behind the snapshot, and what
/// it had acknowledged behind that went with it: it had to doubt itself, when all but one entry stood there.
#[test]
fn restart_with_the_last_entry_of_the_snapshot_beyond_recognition_keeps_what_stands_behind_it_and_leads_with_it() {
    let mut cluster = cluster_with(|config| {
        knobs(config);
        config.snapshot_entries = 0;
    });
    cluster.write(1, &["a", "b"]).unwrap();
    settle(&mut cluster);
    let before = cluster.leader().unwrap();
    let node = follower(&cluster);
    let late = (0..3).find(|other| ![before, node].contains(other)).unwrap();
    cluster.transfer(before, 50, late);
    cluster.until(|cluster| cluster.leader() == Some(late)).unwrap();
    settle(&mut cluster);
    // The first entry of a term: nothing around it tells which one it was.
    let end = cluster.replica(node).applied();
    cluster.ask_for_snapshot(node, 100);
    settle(&mut cluster);
    assert_eq!(kept(&cluster, node), [end.index.get()]);
    cluster.transfer(late, 51, before);
    cluster.until(|cluster| cluster.leader() == Some(before)).unwrap();
    cluster.stop(late);
    cluster.write(200, &["c", "d"]).unwrap();
    settle(&mut cluster);
    cluster.stop(before);
    cluster.rot(node, end.index.get(), true);
    let last = cluster.replica(node).raft().last();
    cluster.stop(node);
    cluster.restart(node).unwrap();
    let raft = cluster.replica(node).raft();
    assert_eq!((raft.last(), raft.in_doubt(), raft.first_hole()), (last, false, None));
    assert_eq!(cluster.replica(node).holes()[0].terms, []);
    assert_eq!(raft.term_at(end.index), Some(end.term), "the snapshot names it");
    // Who has nothing but the snapshot's entries asks it what follows.
    cluster.restart(late).unwrap();
    cluster.until(|cluster| cluster.leader() == Some(node)).unwrap();
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(late), cluster.applied_by(node));
}

/// A sector that cannot be read held the end of a record that a snapshot covers and the beginning of one that it does not.
/// It is mended from its front on, and what a snapshot covers was mended once nothing else was left to mend: never. In the
/// tests a sector lay before the end of the snapshot or behind it.
#[test]
fn hole_that_shares_a_sector_with_a_covered_one_before_it_is_mended() {
    let mut cluster = cluster_with(|config| {
        knobs(config);
        config.snapshot_entries = 0;
    });
    let long: &str = Box::leak("x".repeat(700).into_boxed_str());
    cluster.write(1, &[long]).unwrap();
    settle(&mut cluster);
    let (before, node) = (cluster.leader().unwrap(), follower(&cluster));
    let other = (0..3).find(|other| ![before, node].contains(other)).unwrap();
    cluster.ask_for_snapshot(node, 100);
    settle(&mut cluster);
    let end = cluster.replica(node).applied().index;
    assert_eq!(kept(&cluster, node), [end.get()]);
    // A new term, so that nothing around them tells which entries stood behind.
    cluster.transfer(before, 50, other);
    cluster.until(|cluster| cluster.leader() == Some(other)).unwrap();
    cluster.write(200, &["a", "b", long]).unwrap();
    settle(&mut cluster);
    let (path, start) = cluster.place_of(node, end.next());
    assert!(start % 512 != 0, "they share a sector");
    cluster.stop(node);
    cluster.disk(node).spoil_sector(&path, start).unwrap();
    cluster.restart(node).unwrap();
    let holes = cluster.replica(node).holes();
    assert_eq!((holes[0].last, holes[1].first), (end, end.next()), "{holes:?}");
    cluster.until(|cluster| cluster.replica(node).holes().is_empty()).unwrap();
    settle(&mut cluster);
    assert_eq!(cluster.applied_by(node), cluster.applied_by(other));
}
