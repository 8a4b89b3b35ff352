//! The examples do what they say: each is run as a user would run it, and checks itself. `cargo test` builds the
//! examples before it runs this; with `--test examples` alone, build them first.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often an example is tried while its ports are in use.
const ATTEMPTS: u32 = 60;

/// Each example has the machine to itself, as a user's would: several clusters of three and their load on two cores elect one
/// leader after the other, and a write under way then ends as unknown.
static ALONE: Mutex<()> = Mutex::new(());

/// The example that cargo built for this test run.
fn run(name: &str) -> String {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    for _attempt in 0..ATTEMPTS {
        let output = Command::new(&path).output().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        // An example names its ports, and another run of these tests may hold them.
        assert!(complaint.contains("AddrInUse"), "{name}: {complaint}");
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("{name}: its ports stay in use");
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
fn example_custom_machine_is_replicated_read_and_restored_from_its_snapshot() {
    let said = run("custom_machine");
    assert!(said.contains("tea is 3 after") && said.contains("goes on behind its snapshot"), "{said}");
}

#[test]
fn example_snapshot_speed_restores_every_key_that_it_wrote() {
    assert!(run("snapshot_speed").contains("restored 20000 keys"));
}

#[test]
fn example_snapshot_pause_measures_puts_with_and_without_a_snapshot() {
    let said = run("snapshot_pause");
    assert!(said.contains("no snapshot\n  puts ") && said.contains("on 3 nodes, of 5000 keys"), "{said}");
}

#[test]
fn example_backend_speed_finds_every_key_again_after_a_start() {
    let said = run("backend_speed");
    assert!(said.contains("memory, 20000 keys") && said.matches("gets of any key").count() == 2, "{said}");
}

#[test]
fn example_read_speed_reads_in_every_way_at_the_leader_and_at_a_follower() {
    let said = run("read_speed");
    for consistency in ["linearizable", "lease", "stale:10ms", "stale "] {
        assert_eq!(said.lines().filter(|line| line.starts_with(consistency)).count(), 2, "{said}");
    }
}

#[test]
fn example_embedded_kv_needs_at_most_25_lines() {
    let lines = include_str!("../examples/embedded_kv.rs").lines().count();
    assert!(lines <= 25, "{lines} lines");
}
