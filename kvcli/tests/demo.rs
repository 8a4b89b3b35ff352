//! `demo`: three nodes in one process, commands from stdin.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{Running, free_ports, kvcli, names, run_with, wait};

/// `demo` on ports that no other test uses.
fn demo(arguments: &[&str], stdin: &str) -> support::Finished {
    let base = free_ports(9).to_string();
    run_with(&[&["demo", "--base-port", &base], arguments].concat(), stdin)
}

#[test]
fn demo_runs_commands_from_stdin_and_ends_cleanly() {
    let done = demo(&[], "put a 1\nget a\nstatus\n").ended(0);
    let text = done.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["OK", "1"]);
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(lines[2..].iter().filter(|line| line.split('\t').nth(2) == Some("leader")).count(), 1, "{text}");
    assert_eq!(done.stderr, "");
}

#[test]
fn demo_ends_with_the_code_of_the_script() {
    let done = demo(&[], "put a 1\nget nope\nput b 2\n").ended(1);
    assert_eq!(done.text(), "OK\n");
    assert!(done.stderr.contains("line 2"), "{}", done.stderr);
}

#[test]
fn every_command_answers_in_every_format() {
    let script =
        "put k v\nput \"b\\xff\" \"\\x00\"\nget k\nscan\nscan --count\ndel nope\ndel k\ndel --prefix b\nstatus\n";
    let arguments = ["--output", "json", "--keep-going", "--nodes", "1"];
    let done = demo(&arguments, script).ended(1);
    let answers = done.json();
    assert_eq!(answers[2]["value"], "v");
    assert_eq!(answers[2]["version"], 1);
    assert_eq!(answers[2]["mod_revision"], answers[0]["revision"]);
    assert_eq!(answers[3]["key"]["base64"], "Yv8=");
    assert_eq!(answers[5]["count"], 2);
    assert_eq!(answers[6]["deleted"], 0);
    assert_eq!(answers[7]["deleted"], 1);
    assert_eq!(answers[9]["nodes"][0]["role"], "leader");
    assert_eq!(answers[9]["cluster_id"].as_str().unwrap().len(), 32);
    let table = demo(&["--output", "table", "--nodes", "1"], "put k v\nget k\nstatus\n").ended(0).text();
    assert!(table.contains("REVISION") && table.contains("KEY  VALUE") && table.contains("leader"), "{table}");
}

#[test]
fn bytes_are_raw_in_a_pipe() {
    let done = demo(&["--nodes", "1"], "put k \"a\\x1b\\xff\\x00b\"\nget k\n").ended(0);
    assert_eq!(done.stdout, b"OK\na\x1b\xff\0b\n");
}

#[test]
fn named_directory_is_opened_again_by_the_next_demo() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let base = free_ports(3).to_string();
    let arguments = ["demo", "--data-dir", path.to_str().unwrap(), "--base-port", &base];
    run_with(&arguments, "put a 1\n").ended(0);
    assert_eq!(names(&path), ["1", "2", "3", "demo.toml"]);
    // The ports are remembered.
    let again = run_with(&arguments[..3], "get a\n").ended(0);
    assert_eq!(again.text(), "1\n");
    assert_eq!(again.stderr, "");
    assert_eq!(run_with(&[&arguments[..3], &["--nodes", "5"]].concat(), "").ended(2).stderr.lines().count(), 1);
}

#[test]
fn temporary_directory_is_gone_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let base = free_ports(3).to_string();
    let mut command = kvcli();
    command.args(["demo", "--base-port", &base]).env("TMPDIR", directory.path());
    assert!(command.status().unwrap().success());
    assert_eq!(names(directory.path()), Vec::<String>::new());
}

#[test]
fn ports_in_use_are_passed_over_and_that_is_said() {
    let base = free_ports(6);
    let _holder = TcpListener::bind(("127.0.0.1", base + 1)).unwrap();
    let done = run_with(&["demo", "--base-port", &base.to_string()], "put a 1\n").ended(0);
    assert!(done.stderr.contains("in use"), "{}", done.stderr);
    assert_eq!(done.text(), "OK\n");
}

#[test]
fn closed_pipe_ends_the_demo_quietly() {
    let base = free_ports(3).to_string();
    let mut command = kvcli();
    command.args(["demo", "--base-port", &base]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    drop(running.child.stdout.take());
    for _line in 0..1_000 {
        if running.stdin().write_all(b"put a 1\n").is_err() {
            break;
        }
    }
    drop(running.child.stdin.take());
    assert_eq!(wait(&mut running.child).code(), Some(0));
    let mut said = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn sigterm_and_sigint_stop_a_demo_that_waits_for_commands() {
    for signal in [Signal::TERM, Signal::INT] {
        let base = free_ports(3).to_string();
        let mut command = kvcli();
        command.args(["demo", "--base-port", &base]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(&mut command);
        running.stdin().write_all(b"put a 1\n").unwrap();
        let mut answer = [0; 3];
        running.child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        let start = Instant::now();
        kill_process(Pid::from_child(&running.child), signal).unwrap();
        assert_eq!(wait(&mut running.child).code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
