//! `log ls|cat|verify|repair` on the directory of a stopped node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dledger::commitlog::layout::group_dir;
use dledger::commitlog::{LogOptions, WriteBatch, frame, open};
use dledger::config::Durability;
use dledger::env::os::OsDisk;
use dledger::types::{ClusterId, EntryId, GroupId, Index, Kind, LogTime, Position, Term};
use support::{free_ports, names, run, run_with};

/// The directory of a stopped node that holds a few keys.
fn stopped_node() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let base = free_ports(1).to_string();
    let path = directory.path().to_str().unwrap().to_owned();
    let script = "put a 1\nput b 2\nput needle-in-the-log 3\n";
    run_with(&["demo", "--nodes", "1", "--data-dir", &path, "--base-port", &base], script).ended(0);
    let node = directory.path().join("1");
    (directory, node)
}

fn log(action: &str, node: &Path, more: &[&str]) -> support::Finished {
    run(&[&["log", action, "--data-dir", node.to_str().unwrap()], more].concat())
}

/// Every file below a directory with its bytes.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names(directory) {
        let path = directory.join(name);
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

#[test]
fn cat_shows_every_record_in_order() {
    let (_directory, node) = stopped_node();
    let text = log("cat", &node, &[]).ended(0).text();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let indexes: Vec<usize> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(indexes, (1..=rows.len()).collect::<Vec<_>>());
    assert_eq!(rows[0][3], "membership");
    assert!(rows.iter().any(|row| row[3] == "noop"));
    let data: Vec<_> = rows.iter().filter(|row| row[3] == "data").collect();
    // The session of the script is opened by its first write and closed at its end.
    assert_eq!(data.len(), 5);
    assert!(data[3][5].contains("needle-in-the-log"));
    let some = log("cat", &node, &["--from", "2", "--to", "3", "--output", "json"]).ended(0).json();
    assert_eq!(some.iter().map(|row| row["index"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn ls_shows_the_segment_and_verify_its_sum() {
    let (_directory, node) = stopped_node();
    let segments = log("ls", &node, &["--output", "json"]).ended(0).json();
    assert_eq!(segments.len(), 1);
    assert_eq!((segments[0]["first"].as_u64(), segments[0]["state"].as_str()), (Some(1), Some("active")));
    let records = log("cat", &node, &[]).ended(0).text().lines().count();
    let row = log("verify", &node, &[]).ended(0).text();
    let fields: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(fields[..3], ["1", &records.to_string(), &records.to_string()]);
    let half = log("verify", &node, &["--from", "2"]).ended(0).text();
    assert_ne!(half.split_whitespace().last(), fields.last().copied());
}

#[test]
fn inspection_changes_no_byte() {
    let (_directory, node) = stopped_node();
    let before = contents(&node);
    for action in ["ls", "cat", "verify"] {
        log(action, &node, &[]).ended(0);
    }
    assert!(contents(&node) == before);
}

#[test]
fn corruption_is_code_one_and_names_its_place() {
    let (_directory, node) = stopped_node();
    let (path, mut bytes) =
        contents(&node).into_iter().find(|(_, bytes)| find(bytes, b"needle-in-the-log").is_some()).unwrap();
    let place = find(&bytes, b"needle-in-the-log").unwrap();
    bytes[place] ^= 1;
    fs::write(&path, bytes).unwrap();
    let done = log("verify", &node, &[]).ended(1);
    assert_eq!(done.text().split_whitespace().count(), 5);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(done.stderr.contains(name) && done.stderr.contains("offset"), "{}", done.stderr);
    assert!(!log("cat", &node, &[]).ended(1).text().contains("eedle-in-the-log"));
}

/// Spoils the record whose payload holds `needle`.
fn spoil(node: &Path, needle: &[u8]) -> PathBuf {
    let (path, mut bytes) = contents(node).into_iter().find(|(_, bytes)| find(bytes, needle).is_some()).unwrap();
    let place = find(&bytes, needle).unwrap();
    bytes[place] ^= 1;
    fs::write(&path, bytes).unwrap();
    path
}

/// The directory of a log whose front was purged, the first index that is left, and the last one.
fn purged_log() -> (tempfile::TempDir, u64, u64) {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions {
        cluster: ClusterId(7),
        group: GroupId::FIRST,
        segment_bytes: 64 << 10,
        max_record_bytes: 1 << 20,
        durability: Durability::Sync,
        wall_ms: 1_700_000_000_000,
        covered: Index::ZERO,
    };
    let mut log = open(Arc::new(OsDisk::new()), &group_dir(directory.path(), GroupId::FIRST), options).unwrap();
    let mut end = Position::ZERO;
    for index in 1..=100 {
        let mut record = Vec::new();
        let id = EntryId::new(Index(index), Term(1));
        frame(&mut record, id, end, LogTime(index), Kind::Data, 0, &[b'x'; 2_000]);
        end = end.plus(record.len() as u64);
        log.writer.write(&WriteBatch { records: vec![record.into()], ..WriteBatch::default() }).unwrap();
    }
    log.writer.purge(Index(60)).unwrap();
    log.writer.close(Index(100)).unwrap();
    (directory, log.reader.first().get(), log.reader.last().get())
}

#[test]
fn purged_log_is_shown_from_where_it_begins_and_is_not_damaged() {
    let (directory, first, last) = purged_log();
    assert!(first > 1 && last == 100);
    let before = contents(directory.path());
    let text = |action: &str, more: &[&str]| log(action, directory.path(), more).ended(0).text();
    let indexes = |text: String| -> Vec<u64> {
        text.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
    };
    let all: Vec<u64> = (first..=last).collect();
    assert_eq!(indexes(text("cat", &[])), all);
    assert_eq!(indexes(text("cat", &["--from", "1", "--to", &(first + 1).to_string()])), all[..2]);
    let segments = log("ls", directory.path(), &["--output", "json"]).ended(0).json();
    assert_eq!(segments[0]["first"].as_u64(), Some(first));
    let row = text("verify", &[]);
    assert_eq!(row.split_whitespace().take(2).collect::<Vec<_>>(), [first.to_string(), last.to_string()]);
    assert!(log("repair", directory.path(), &[]).ended(0).stderr.contains("nothing is damaged"));
    assert!(contents(directory.path()) == before);
    // A front that is lost is damage, and named by where the log began.
    let name = segments[0]["file"].as_str().unwrap();
    fs::remove_file(group_dir(directory.path(), GroupId::FIRST).join("log").join(name)).unwrap();
    let told = log("verify", directory.path(), &[]).ended(1).stderr;
    assert!(told.contains(&format!("index {first}")) && told.contains("lost"), "{told}");
}

#[test]
fn repair_of_a_sound_log_says_so_and_changes_nothing() {
    let (_directory, node) = stopped_node();
    let before = contents(&node);
    for more in [&[][..], &["--cut"]] {
        let done = log("repair", &node, more).ended(0);
        assert!(done.text().is_empty() && done.stderr.contains("nothing is damaged"), "{}", done.stderr);
    }
    assert!(contents(&node) == before);
}

#[test]
fn repair_names_the_hole_and_what_a_cut_would_give_up_and_changes_nothing() {
    let (_directory, node) = stopped_node();
    let path = spoil(&node, b"needle-in-the-log");
    let before = contents(&node);
    let last = log("verify", &node, &[]).ended(1).text().split_whitespace().nth(1).unwrap().to_owned();
    let done = log("repair", &node, &[]).ended(1);
    let row: Vec<String> = done.text().trim_end().split('\t').map(str::to_owned).collect();
    assert_eq!(row[0], path.file_name().unwrap().to_str().unwrap());
    let index: u64 = row[2].parse().unwrap();
    assert_eq!((&row[3], row.len()), (&row[2], 7));
    assert!(done.stderr.contains(&format!("(index {index})")) && done.stderr.contains("--cut"), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("keep entries up to {}", index - 1)), "{}", done.stderr);
    assert!(last.parse::<u64>().unwrap() + 1 >= index);
    let json = log("repair", &node, &["--output", "json"]).ended(1).json();
    assert_eq!((json[0]["first"].as_u64(), json[0]["terms"].as_array().unwrap().len()), (Some(index), 1));
    assert!(contents(&node) == before);
}

#[test]
fn repair_with_cut_keeps_the_files_and_the_node_starts_with_what_stood_before() {
    let (directory, node) = stopped_node();
    let path = spoil(&node, b"needle-in-the-log");
    let damaged = fs::read(&path).unwrap();
    let text = log("repair", &node, &["--cut"]).ended(0).text();
    let row: Vec<&str> = text.lines().last().unwrap().split('\t').collect();
    assert_eq!((row[0], row.len()), ("cut", 5));
    let aside = Path::new(row[4]);
    assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("damaged-"));
    assert!(fs::read(aside.join(path.file_name().unwrap())).unwrap() == damaged);
    log("verify", &node, &[]).ended(0);
    let data = directory.path().to_str().unwrap();
    let script = "get a\nget b\nput c 4\n";
    let done = run_with(&["demo", "--nodes", "1", "--data-dir", data], script).ended(0);
    assert_eq!(done.text(), "1\n2\nOK\n");
    log("repair", &node, &[]).ended(0);
}

#[test]
fn repair_is_refused_while_somebody_holds_the_directory() {
    let (_directory, node) = stopped_node();
    spoil(&node, b"needle-in-the-log");
    let before = contents(&node);
    let held = dledger::commitlog::lock_data_dir(&OsDisk::new(), &node).unwrap();
    for more in [&[][..], &["--cut"]] {
        let done = log("repair", &node, more).ended(2);
        assert!(done.stderr.contains("in use by another process"), "{}", done.stderr);
    }
    drop(held);
    assert!(contents(&node) == before);
}

#[test]
fn repair_leaves_a_node_that_has_peers_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let base = free_ports(3).to_string();
    let path = directory.path().to_str().unwrap();
    run_with(&["demo", "--data-dir", path, "--base-port", &base], "put needle needle-in-the-log\n").ended(0);
    let node = directory.path().join("1");
    spoil(&node, b"needle-in-the-log");
    let before = contents(&node);
    for (more, code) in [(&[][..], 1), (&["--cut"], 2)] {
        let done = log("repair", &node, more).ended(code);
        assert!(done.stderr.contains("has peers"), "{}", done.stderr);
    }
    assert!(contents(&node) == before);
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[test]
fn directory_without_a_log_is_code_one_and_a_missing_one_is_wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    let done = log("verify", directory.path(), &[]).ended(1);
    assert!(done.stderr.contains("not a dledger data directory"), "{}", done.stderr);
    log("ls", &directory.path().join("absent"), &[]).ended(2);
}
