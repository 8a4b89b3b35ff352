//! Every byte of a small log's records, and a part of those around them, rots on one node of three, each for itself: it
//! is noticed, nothing acknowledged is lost, and the peers mend it without a person.

use std::path::PathBuf;

use super::cluster::{Cluster, Sabotage};
use crate::commitlog::layout::{VOTE_FILE, group_dir, log_dir};
use crate::env::OpenMode;
use crate::types::{GroupId, Index};

const ENTRIES: &[&str] = &["a", "bb", "ccc", "dddd"];
/// Bytes that rot one after the other in one cluster: each restart adds a segment, and many of them are slow.
const BATCH: u64 = 16;

/// Three nodes with a small log that they have synced; node 0 is stopped.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(Sabotage::Nothing);
    cluster.start().unwrap();
    cluster.write(1, ENTRIES).unwrap();
    cluster.until(|cluster| (0..3).all(|node| cluster.applied_by(node).len() == ENTRIES.len())).unwrap();
    cluster.stop(0);
    cluster
}

/// Starts node 0 on its rotten disk: how many records it found damaged. Then it gets over that.
fn gets_over_it(cluster: &mut Cluster, what: &str) -> u64 {
    cluster.restart(0).unwrap();
    let damaged = cluster.replica(0).holes().iter().map(|hole| hole.last.get() - hole.first.prev().get()).sum();
    let whole = |cluster: &Cluster| {
        cluster.replica(0).holes().is_empty()
            && cluster.leader().is_some()
            && cluster.applied_by(0).len() == ENTRIES.len()
    };
    cluster.until(whole).unwrap();
    for index in 1..=6 {
        assert_eq!(cluster.stored(0, index), cluster.stored(1, index), "{what}: entry {index}");
    }
    assert_eq!(cluster.replica(0).raft().first_hole(), None, "{what}");
    cluster.stop(0);
    damaged
}

#[test]
fn rot_of_every_byte_of_the_records_of_one_node_is_noticed_and_mended_by_its_peers() {
    let mut bytes = 0;
    for index in 1..=6 {
        let length = {
            let mut cluster = cluster();
            cluster.restart(0).unwrap();
            cluster.stored(0, index).unwrap().len() as u64
        };
        for batch in 0..length.div_ceil(BATCH) {
            let mut cluster = cluster();
            for byte in batch * BATCH..length.min((batch + 1) * BATCH) {
                let (path, at) = cluster.place_of(0, Index(index));
                cluster.disk(0).flip_byte(&path, at + byte).unwrap();
                let damaged = gets_over_it(&mut cluster, &format!("byte {byte} of entry {index}"));
                assert_eq!(damaged, 1, "byte {byte} of entry {index}");
                bytes += 1;
            }
        }
    }
    assert!(bytes > 350, "only {bytes} bytes");
}

#[test]
fn rot_around_the_records_of_one_node_loses_nothing_and_needs_nobody() {
    let files: Vec<(PathBuf, u64)> = {
        let cluster = cluster();
        let disk = cluster.disk(0).handle();
        let data = PathBuf::from("/data");
        let group = group_dir(&data, GroupId::FIRST);
        let log = log_dir(&group);
        let mut files: Vec<PathBuf> = disk.list(&log).unwrap().iter().map(|name| log.join(name)).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == "seg" || it == "idx"));
        files.extend([group.join(VOTE_FILE), data.join("identity")]);
        let sized = |path: PathBuf| {
            let length = disk.open(&path, OpenMode::Read).unwrap().len().unwrap();
            (path, length)
        };
        files.into_iter().map(sized).collect()
    };
    assert!(files.len() >= 3, "{files:?}");
    let mut tried = 0;
    for (path, length) in files {
        // The head of each block, where its fields are, and a byte of what fills it.
        let heads = (0..length.min(16 << 10))
            .step_by(4096)
            .flat_map(|block| (block..block + 120).step_by(7).chain([block + 3000]));
        for at in heads.filter(|at| *at < length) {
            let mut cluster = cluster();
            cluster.disk(0).flip_byte(&path, at).unwrap();
            let damaged = gets_over_it(&mut cluster, &format!("{} at {at}", path.display()));
            assert_eq!(damaged, 0, "{} at {at}: no record was touched", path.display());
            tried += 1;
        }
    }
    assert!(tried > 100, "only {tried} bytes");
}
