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
fn example_config_store_hears_of_both_changes_in_order_and_undoes_neither() {
    let said = run("config_store");
    let of = |what: &str| -> Vec<u64> {
        let revisions = said.lines().filter_map(|line| line.strip_prefix(what)?.split(':').next()?.parse().ok());
        revisions.collect()
    };
    let (mut written, heard) = (of("written at revision "), of("heard of revision "));
    written.sort_unstable();
    assert!(heard.len() == 2 && heard == written && heard.is_sorted(), "{said}");
}

#[test]
fn example_service_registry_sees_who_leaves_and_who_is_lost() {
    let said = run("service_registry");
    let order = ["mail/1 is up at 10.0.0.7:25", "mail/2 is up", "mail/1 is down", "mail/2 is down"];
    let places: Vec<Option<usize>> = order.iter().map(|line| said.find(line)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted() && said.contains("2 instances"), "{said}");
}

#[test]
fn example_distributed_lock_fences_the_holder_of_the_past() {
    let said = run("distributed_lock");
    assert!(said.contains("is fenced off by"), "{said}");
    assert!(
        said.contains("the first writes to the store: false") && said.contains("the second writes to the store: true")
    );
}

#[test]
fn example_leader_election_is_taken_over_from_a_replica_that_is_lost() {
    let said = run("leader_election");
    for line in
        ["10.0.0.1:80 schedules", "all see 10.0.0.1:80 lead", "10.0.0.2:80 schedules", "all see 10.0.0.2:80 lead"]
    {
        assert!(said.contains(line), "{said}");
    }
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

/// What the README promises: its first program is a whole service, run as a doctest too.
#[test]
fn example_of_the_readme_embeds_three_replicas_in_at_most_25_lines() {
    let (_before, program) = include_str!("../README.md").split_once("```rust,no_run\n").unwrap();
    let (program, _behind) = program.split_once("```").unwrap();
    assert!(program.contains("1=") && program.contains("3=") && program.contains("fn main()"), "{program}");
    let lines = program.lines().count();
    assert!(lines <= 25, "{lines} lines");
}

#[test]
fn example_session_cost_measures_both_ways_in() {
    let said = run("session_cost");
    assert_eq!(said.lines().filter(|line| line.contains("puts/s")).count(), 12, "{said}");
}
