//! A backup under load, and new clusters that begin with it; and everything that must not be restored.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what goes wrong here fails the test")]

mod support;

use std::path::{Path, PathBuf};
use std::thread;

use support::{Cluster, Finished, eventually, kvcli, names, run, run_with};

/// Small segments, snapshots that only the backup asks for, and pieces that take their time.
const CONFIG: &str = "
segment_bytes = 262144
snapshot_entries = 0
snapshot_bytes = 0
snapshot_send_rate = 2097152
";
/// As the documentation says: indexes that a restored cluster leaves out.
const GAP: u64 = 1 << 32;

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn import(cluster: &Cluster, lines: &str) {
    run_with(&["--endpoints", &cluster.endpoints(), "--timeout", "20s", "import", "-"], lines).ended(0);
}

/// Keys that are written over and over, some of which are deleted.
fn churn(cluster: &Cluster) {
    let line = |number: usize| format!("churn-{:03}\t{number}-{}\n", number % 400, "x".repeat(1_000));
    import(cluster, &(0..3_000).map(line).collect::<String>());
    cluster.run(&["del", "--prefix", "churn-01"]).ended(0);
}

/// All pairs as a node has them, with their revisions and versions. An import that goes on after its leader was killed may
/// write a key of the load once more: of those only the first write counts, at the create revision.
fn rows(cluster: &Cluster, place: u16) -> Vec<serde_json::Value> {
    let address = cluster.address(place);
    let exported = run(&["--endpoints", &address, "--timeout", "20s", "export", "--format", "json"]);
    let mut rows = exported.ended(0).json();
    for row in rows.iter_mut().filter(|row| row["key"].as_str().unwrap().starts_with("load-")) {
        row["mod_revision"] = row["create_revision"].clone();
        row["version"] = 1.into();
    }
    rows
}

fn restore(file: &Path, directory: &Path, id: &str, spec: &str) -> Finished {
    run(&["restore", path(file), "--data-dir", path(directory), "--id", id, "--cluster", spec])
}

/// A cluster of so many nodes that begins with a backup.
fn restored(file: &Path, count: u16) -> Cluster {
    Cluster::prepared(count, CONFIG, |cluster, place| {
        restore(file, &cluster.data_dir(place), &(place + 1).to_string(), &cluster.spec).ended(0);
    })
}

/// Waits until the cluster has formed and a leader serves.
fn serving(cluster: &Cluster) {
    eventually("the restored cluster serves", || (cluster.run(&["get", "nothing"]).code == 1).then_some(()));
}

#[test]
fn backup_from_a_follower_under_load_restores_on_one_three_and_five_nodes_though_the_leader_is_killed() {
    let mut cluster = Cluster::configured(3, CONFIG);
    churn(&cluster);
    let leader = cluster.leader();
    let follower = cluster.address(u16::try_from((leader + 1) % 3).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let (file, unfinished) = (directory.path().join("one.backup"), directory.path().join("one.backup.tmp"));
    // Each key once: at every index a prefix of them is there.
    let load: String = (0..20_000).map(|number| format!("load-{number:05}\tvalue {number}\n")).collect();
    let endpoints = cluster.endpoints();
    let loading = thread::spawn(move || {
        run_with(&["--endpoints", &endpoints, "--timeout", "20s", "import", "-"], load).ended(0);
    });
    let mut backup = kvcli();
    backup.args(["--endpoints", &follower, "--timeout", "20s", "--output", "json", "backup", path(&file)]);
    let backup = thread::spawn(move || support::finished(backup.output().unwrap()));
    eventually("the backup is under way", || std::fs::metadata(&unfinished).ok().filter(|about| about.len() > 300_000));
    cluster.nodes[leader].take().unwrap().kill();
    let taken = backup.join().unwrap().ended(0).json().remove(0);
    loading.join().unwrap();
    let (index, bytes) = (taken["index"].as_u64().unwrap(), taken["bytes"].as_u64().unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().len(), bytes);
    assert_eq!(names(directory.path()), ["one.backup"]);
    cluster.restart(leader);
    let all = rows(&cluster, 0);
    let wanted: Vec<_> = all.iter().filter(|row| row["mod_revision"].as_u64().unwrap() <= index).cloned().collect();
    assert!(wanted.len() > 300 && wanted.len() < all.len(), "{} of {} pairs", wanted.len(), all.len());
    drop(cluster);
    for count in [1, 3, 5] {
        let mut new = restored(&file, count);
        serving(&new);
        for place in 0..count {
            assert!(rows(&new, place) == wanted, "node {} of {count} has other pairs", place + 1);
        }
        let put = new.run(&["--output", "json", "put", "churn-000", "new"]).ended(0).json();
        let revision = put[0]["revision"].as_u64().unwrap();
        assert!(revision > index + GAP, "{revision} could have been given before");
        new.stop_all();
        (0..count).for_each(|place| new.restart(usize::from(place)));
        serving(&new);
        assert_eq!(new.run(&["get", "churn-000"]).ended(0).text(), "new\n");
        assert_eq!(rows(&new, 0).len(), wanted.len(), "and all else is still there");
        new.stop_all();
        if count > 1 {
            new.assert_same_logs();
        }
    }
}

/// A backup of a few keys.
fn small_backup(directory: &Path) -> PathBuf {
    let cluster = Cluster::start(1);
    import(&cluster, "a\t1\nb\t2\na\t3\n");
    let file = directory.join("small.backup");
    let taken = cluster.run(&["backup", path(&file)]).ended(0).text();
    let (index, bytes) = taken.trim_end().split_once('\t').unwrap();
    assert_eq!(bytes.parse::<u64>().unwrap(), std::fs::metadata(&file).unwrap().len());
    assert!(index.parse::<u64>().unwrap() >= 4, "{taken}");
    let again = cluster.run(&["backup", path(&file)]).ended(2);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    file
}

#[test]
fn restore_of_what_is_no_whole_backup_is_refused_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let good = std::fs::read(small_backup(directory.path())).unwrap();
    let (file, data) = (directory.path().join("bad.backup"), directory.path().join("data"));
    let refused = |bytes: &[u8], because: &str| {
        std::fs::write(&file, bytes).unwrap();
        let ended = restore(&file, &data, "1", "1=127.0.0.1:7101").ended(1);
        assert!(ended.stderr.contains(because), "{}", ended.stderr);
        assert!(!data.exists(), "something was written");
    };
    for place in (0..good.len()).step_by(good.len() / 24) {
        let mut flipped = good.clone();
        flipped[place] ^= 0x10;
        refused(&flipped, "bad.backup");
    }
    for length in [15, 23, 60, good.len() / 2, good.len() - 1] {
        refused(&good[..length], "bad.backup");
    }
    refused(&[&good[..], b"x"].concat(), "is damaged at offset");
    refused(b"", "is not a backup: it is empty");
    refused(b"any other file that somebody has named so", "is not a backup");
}

#[test]
fn restore_needs_an_empty_directory_and_a_member_of_the_new_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let file = small_backup(directory.path());
    let data = directory.path().join("data");
    let wrong = |data: &Path, id: &str, spec: &str, because: &str| {
        let ended = restore(&file, data, id, spec).ended(2);
        assert!(ended.stderr.contains(because), "{}", ended.stderr);
    };
    wrong(&data, "4", "1=127.0.0.1:7101,2=127.0.0.1:7102", "node 4 is not among the members");
    wrong(&data, "1", "1=nowhere", "is not ID=HOST:PORT");
    let missing = restore(&directory.path().join("none"), &data, "1", "1=127.0.0.1:7101").ended(2);
    assert!(missing.stderr.contains("none"), "{}", missing.stderr);
    assert!(!data.exists());
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("notes.txt"), "mine").unwrap();
    wrong(&data, "1", "1=127.0.0.1:7101", "is not empty, it holds `notes.txt`");
    std::fs::remove_file(data.join("notes.txt")).unwrap();
    restore(&file, &data, "1", "1=127.0.0.1:7101").ended(0);
    wrong(&data, "1", "1=127.0.0.1:7101", "is not empty");
    let other = run(&["serve", "--data-dir", path(&data), "--id", "1", "--cluster", "1=127.0.0.1:1,2=127.0.0.1:2"]);
    assert!(other.ended(2).stderr.contains("its cluster has the members"));
}

#[test]
fn restore_over_one_that_was_cut_off_starts_anew_and_a_node_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = small_backup(directory.path());
    let data = directory.path().join("data");
    std::fs::create_dir_all(data.join("groups/1")).unwrap();
    std::fs::write(data.join("LOCK"), "").unwrap();
    std::fs::write(data.join("groups/1/restore.tmp"), "the first half").unwrap();
    let served = run(&["serve", "--data-dir", path(&data)]).ended(2);
    assert!(served.stderr.contains("run `kvcli restore` again"), "{}", served.stderr);
    let restored = restore(&file, &data, "1", "1=127.0.0.1:7101").ended(0).text();
    let (index, begins) = restored.trim_end().split_once('\t').unwrap();
    assert_eq!(begins.parse::<u64>().unwrap(), index.parse::<u64>().unwrap() + GAP + 1);
    assert_eq!(names(&data.join("groups/1")), ["restore"]);
}
