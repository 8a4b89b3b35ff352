//! The examples do what they say: each is run as a user would run it, and checks itself. `cargo test` builds the
//! examples before it runs this; with `--test examples` alone, build them first.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::Command;

/// The example that cargo built for this test run.
fn run(name: &str) -> String {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    let output = Command::new(&path).output().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn example_embedded_kv_reads_on_one_replica_what_another_wrote() {
    assert!(run("embedded_kv").contains("service/mail is b\"10.0.0.7:25\" at revision"));
}

#[test]
fn example_commitlog_reads_in_order_what_three_replicas_appended() {
    assert!(run("commitlog").contains("`created` stands at"));
}

#[test]
fn example_embedded_kv_needs_at_most_25_lines() {
    let lines = include_str!("../examples/embedded_kv.rs").lines().count();
    assert!(lines <= 25, "{lines} lines");
}
