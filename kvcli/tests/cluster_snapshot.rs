//! Three processes that take snapshots all the time: the log stays small, and whoever was away comes back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what goes wrong here fails the test")]

mod support;

use support::{Cluster, eventually, last_wins, names, run_with};

/// Small segments, and a snapshot every few hundred entries.
const CONFIG: &str = "
segment_bytes = 65536
snapshot_entries = 300
snapshot_bytes = 0
snapshots_kept = 2
log_tail_bytes = 0
";

/// Lines that write the keys of a few hundred over and over.
fn lines(from: u64, to: u64) -> String {
    (from..to).map(|number| format!("key-{:03}\tvalue-{number}-{}\n", number % 300, "x".repeat(200))).collect()
}

fn import(cluster: &Cluster, lines: &str) {
    run_with(&["--endpoints", &cluster.endpoints(), "--timeout", "20s", "import", "-"], lines).ended(0);
}

/// Everybody who runs has applied what anybody knows to be committed.
fn settled(cluster: &Cluster) {
    eventually("everybody has it all", || {
        let (applied, committed) = (cluster.numbers("applied"), cluster.numbers("committed"));
        let most = committed.iter().max().copied();
        applied.iter().all(|one| one.is_none() || Some(*one) == most).then_some(())
    });
}

#[test]
fn snapshots_bound_the_log_and_bring_back_a_node_that_was_away_under_load() {
    let mut cluster = Cluster::configured(3, CONFIG);
    import(&cluster, &lines(0, 1_000));
    settled(&cluster);
    cluster.nodes[2].take().unwrap().kill();
    // Each of the others comes to hold less than half of what was written: a record has 260 bytes. A busy node leaves out
    // a snapshot while it still writes one, so that there may have to be more.
    let mut written = 1_000;
    let is_bounded = |cluster: &Cluster, written: u64| {
        let (firsts, bytes) = (cluster.numbers("first"), cluster.numbers("disk_bytes"));
        (0..2).all(|place| firsts[place] > Some(2_000) && bytes[place] < Some(written * 130))
    };
    while written < 6_000 || !is_bounded(&cluster, written) {
        import(&cluster, &lines(written, written + 1_000));
        written += 1_000;
        assert!(written <= 40_000, "the log is not bounded: {:?}", cluster.numbers("disk_bytes"));
    }
    // The rest is written while the node that was away is on its way back.
    cluster.restart(2);
    import(&cluster, &lines(written, written + 2_000));
    settled(&cluster);
    assert!(cluster.numbers("snapshot_bytes_received")[2] > Some(0));
    let wanted = lines(0, written + 2_000);
    assert_eq!(last_wins(&cluster.export(2)), last_wins(&wanted));
    // What it was given and has taken since is on its disk.
    cluster.kill_all();
    (0..3).for_each(|place| cluster.restart(place));
    assert_eq!(last_wins(&cluster.export(2)), last_wins(&wanted));
    cluster.stop_all();
    cluster.assert_same_logs();
}

#[test]
fn snapshot_has_a_row_for_every_member_and_names_who_has_none() {
    let mut cluster = Cluster::start(3);
    import(&cluster, &lines(0, 50));
    settled(&cluster);
    let applied = cluster.numbers("applied")[0].unwrap();
    let taken = cluster.run(&["snapshot"]).ended(0).text();
    assert_eq!(taken, (1..=3).map(|id| format!("{id}\t{applied}\n")).collect::<String>());
    assert_eq!(cluster.numbers("snapshot"), [Some(applied); 3]);
    let again = cluster.run(&["snapshot", "--output", "json"]).ended(0).json();
    assert_eq!(again[1], serde_json::json!({ "id": 2, "index": applied, "error": null }));
    let kept = names(&cluster.data_dir(1).join("groups/1/snapshot"));
    assert_eq!(kept.len(), 1, "the same one: {kept:?}");
    cluster.nodes[2].take().unwrap().kill();
    let without = cluster.run(&["snapshot"]).ended(3);
    assert!(without.text().contains("\n3\t-\t"), "{}", without.text());
    assert!(without.stderr.contains("no snapshot on node 3"), "{}", without.stderr);
}

/// As the documentation says: bytes of a full chunk.
const CHUNK_BYTES: u64 = 256 << 10;

#[test]
fn snapshot_whose_senders_are_killed_ten_times_is_sent_once_and_at_most_a_chunk_more_for_each() {
    let config = format!("{CONFIG}snapshot_send_rate = 524288\n");
    let mut cluster = Cluster::configured(3, &config.replace("snapshots_kept = 2", "snapshots_kept = 1"));
    import(&cluster, &lines(0, 50));
    cluster.nodes[2].take().unwrap().kill();
    // Some thirty chunks, of which those who stay hold the log no more.
    let large = "x".repeat(23_000);
    let wanted: String = (0..320).map(|number| format!("key-{number:03}\t{number}-{large}\n")).collect();
    import(&cluster, &wanted);
    cluster.run(&["snapshot"]).ended(3);
    eventually("the log is purged", || {
        cluster.numbers("first")[..2].iter().all(|first| *first > Some(100)).then_some(())
    });
    cluster.restart(2);
    let received = |cluster: &Cluster| cluster.numbers("snapshot_bytes_received")[2].unwrap();
    for _broken in 0..10 {
        let before = received(&cluster);
        eventually("a chunk more", || (received(&cluster) > before).then_some(()));
        // Whoever of them sends.
        cluster.nodes[..2].iter_mut().for_each(|node| node.take().unwrap().kill());
        assert!(cluster.numbers("applied")[2] < Some(100), "the transfer is over and was not broken off");
        (0..2).for_each(|place| cluster.restart(place));
    }
    eventually("the snapshot is installed", || (cluster.numbers("applied")[2] > Some(300)).then_some(()));
    settled(&cluster);
    let directory = cluster.data_dir(2).join("groups/1/snapshot");
    let newest = names(&directory).pop().unwrap();
    let size = std::fs::metadata(directory.join(newest).join("data")).unwrap().len();
    let received = received(&cluster);
    assert!(size > 16 * CHUNK_BYTES && received + CHUNK_BYTES > size, "{received} bytes for a snapshot of {size}");
    assert!(received <= size + 10 * CHUNK_BYTES, "{received} bytes for a snapshot of {size}");
    assert_eq!(last_wins(&cluster.export(2)), last_wins(&wanted));
}
