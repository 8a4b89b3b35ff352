//! Bytes of real files rot, under running nodes and stopped ones: the cluster mends them without a person.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what goes wrong here fails the test")]

mod support;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use support::{Cluster, eventually, run_with};

const KEYS: u64 = 200;
/// Header, two slots and the footer's head, a block each, stand before the first record.
const RECORDS_AT: u64 = 4 * 4096;

fn value(number: u64) -> String {
    format!("value-{number:04}-{}", "x".repeat(300))
}

/// Three nodes that read their whole log every 300 ms.
fn cluster() -> Cluster {
    let cluster = Cluster::configured(3, "scrub_every = \"300ms\"\n");
    let lines: String = (0..KEYS).map(|number| format!("key-{number:04}\t{}\n", value(number))).collect();
    run_with(&["--endpoints", &cluster.endpoints(), "import", "-"], lines).ended(0);
    eventually("everybody has it all", || {
        let (applied, committed) = (cluster.numbers("applied"), cluster.numbers("committed"));
        let most = committed.iter().max().copied();
        applied.iter().all(|one| Some(*one) == most).then_some(())
    });
    cluster
}

/// Where a node's log holds these bytes.
fn find(data_dir: &Path, needle: &str) -> (PathBuf, u64) {
    let log = data_dir.join("groups/1/log");
    let files = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "seg")) {
        let bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle.as_bytes()) {
            return (path, at as u64);
        }
    }
    panic!("{needle} is not in {}", data_dir.display());
}

/// Changes a byte of the record that holds a value: of the value, or of the header some bytes before it.
fn rot(cluster: &Cluster, place: usize, number: u64, back: u64) {
    let data_dir = cluster.data_dir(u16::try_from(place).unwrap());
    let (path, at) = find(&data_dir, &format!("value-{number:04}"));
    flip(&path, at - back);
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

/// Waits until a node has nothing damaged and has mended so many records.
fn is_mended(cluster: &Cluster, place: usize, records: u64) {
    eventually("the node is mended", || {
        let (damaged, mended) = (cluster.numbers("damaged")[place], cluster.numbers("mended")[place]);
        (damaged == Some(0) && mended >= Some(records)).then_some(())
    });
}

fn holds_everything(cluster: &mut Cluster) {
    for place in 0..3 {
        let exported = cluster.export(place);
        let found = support::last_wins(&exported);
        for number in 0..KEYS {
            assert_eq!(found.get(format!("key-{number:04}").as_str()), Some(&value(number).as_str()));
        }
    }
    cluster.stop_all();
    cluster.assert_same_logs();
}

#[test]
fn rot_under_running_nodes_is_found_by_the_scrub_and_mended_by_peers() {
    let mut cluster = cluster();
    let leader = cluster.leader();
    for place in [leader, (leader + 1) % 3] {
        rot(&cluster, place, 50 + place as u64, 0);
        is_mended(&cluster, place, 1);
    }
    assert!(cluster.numbers("scrub_rounds").iter().all(|rounds| *rounds >= Some(1)));
    holds_everything(&mut cluster);
}

#[test]
fn rot_on_every_disk_while_all_nodes_are_down_is_mended_when_they_are_back() {
    let mut cluster = cluster();
    cluster.stop_all();
    for place in 0..3 {
        // A value, and the header of another record: it stands before the command's tag, the key and the lengths.
        rot(&cluster, place, 20 + place as u64, 0);
        rot(&cluster, place, 120 + place as u64, 60);
    }
    for place in 0..3 {
        let server = cluster.server(place);
        cluster.nodes[usize::from(place)] = Some(server);
    }
    cluster.run(&["put", "after", "1"]).ended(0);
    (0..3).for_each(|place| is_mended(&cluster, place, 2));
    holds_everything(&mut cluster);
}

/// A node whose first record had rotted knew no members, admitted none of them, and so was never mended. Tests in one
/// process let nodes talk to each other without a handshake.
#[test]
fn rot_of_most_records_the_members_among_them_is_mended_while_another_node_is_down() {
    let mut cluster = cluster();
    let rotten = (cluster.leader() + 1) % 3;
    let gone = (rotten + 1) % 3;
    cluster.stop_all();
    let (path, last) = find(&cluster.data_dir(u16::try_from(rotten).unwrap()), &format!("value-{:04}", KEYS - 2));
    for at in (RECORDS_AT..last).step_by(97) {
        flip(&path, at);
    }
    for place in (0..3).filter(|place| *place != gone) {
        cluster.restart(place);
    }
    is_mended(&cluster, rotten, KEYS - 2);
    cluster.run(&["put", "after", "1"]).ended(0);
    cluster.restart(gone);
    is_mended(&cluster, gone, 0);
    holds_everything(&mut cluster);
}
