//! The interactive shell, through a pseudo-terminal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::person::Person;
use support::{free_ports, kvcli, wait};

#[test]
fn shell_shows_the_leader_runs_commands_and_escapes_control_bytes() {
    let state = tempfile::tempdir().unwrap();
    let mut person = Person::at_demo(state.path(), &[]);
    person.runs(r#"put k "a\x1b[31m""#, "OK");
    person.runs("get k", "\na\\x1b[31m\r\n");
    person.runs("get nope", "error: no such key: nope");
    person.runs("nonsense", "error: unrecognized subcommand");
    person.runs("put a -", "pipe it into `kvcli` instead");
    assert_eq!(person.leaves("quit\r"), Some(0));
}

#[test]
fn commands_flags_and_live_keys_are_completed() {
    let state = tempfile::tempdir().unwrap();
    let mut person = Person::at_demo(state.path(), &[]);
    person.runs(r#"put "long key" v1"#, "OK");
    person.types("ge\t");
    person.sees("get ");
    person.types("lon\t");
    person.sees("get \"long key\"");
    person.runs("", "\nv1\r\n");
    person.runs("scan --keys\t", "\nlong key\r\n");
    assert_eq!(person.leaves("\u{4}"), Some(0));
}

#[test]
fn interrupt_clears_a_line_and_cancels_a_command_but_not_the_shell() {
    let state = tempfile::tempdir().unwrap();
    let mut person = Person::at_demo(state.path(), &[]);
    person.types("put half a li");
    person.sees(" li");
    person.types("\u{3}");
    person.is_told("\n");
    person.runs("get half", "no such key: half");
    person.types("bench put --duration 60s\r");
    person.sees("/60 s");
    person.types("\u{3}");
    person.sees("error: cancelled");
    person.sees("leader 1> ");
    person.runs("put a 1", "OK");
    assert_eq!(person.leaves("exit\r"), Some(0));
}

#[test]
fn history_is_kept_across_runs() {
    let state = tempfile::tempdir().unwrap();
    let mut first = Person::at_demo(state.path(), &[]);
    first.runs("put from-the-first-run 1", "OK");
    assert_eq!(first.leaves("quit\r"), Some(0));
    let mut second = Person::at_demo(state.path(), &[]);
    second.types("\u{1b}[A\u{1b}[A");
    second.sees("put from-the-first-run 1");
    second.types("\u{3}");
    second.is_told("\n");
    assert_eq!(second.leaves("\u{4}"), Some(0));
}

#[test]
fn sigterm_ends_the_shell_and_its_nodes_within_five_seconds() {
    let state = tempfile::tempdir().unwrap();
    let data = state.path().join("data");
    let mut person = Person::at_demo(state.path(), &["--data-dir", data.to_str().unwrap()]);
    person.runs("put a 1", "OK");
    let start = Instant::now();
    person.signal(Signal::TERM);
    assert_eq!(wait(&mut person.running.child).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn shell_without_a_cluster_says_so_and_stays() {
    let mut command = kvcli();
    let nobody = format!("127.0.0.1:{}", free_ports(1));
    command.args(["--endpoints", &nobody, "--timeout", "200ms"]);
    let state = tempfile::tempdir().unwrap();
    let mut person = Person::at(command.env("XDG_STATE_HOME", state.path()));
    person.sees("no leader> ");
    person.runs("get a", "error: unavailable");
    assert_eq!(person.leaves("quit\r"), Some(0));
}
