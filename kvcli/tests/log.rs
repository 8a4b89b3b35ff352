//! `log ls|cat|verify` on the directory of a stopped node.

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
    assert_eq!(data.len(), 3);
    assert!(data[2][5].contains("needle-in-the-log"));
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
