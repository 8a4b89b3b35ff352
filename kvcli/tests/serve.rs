//! `serve`: one node as a process, its signals and what it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{Running, Server, free_ports, kvcli, run, wait};

/// A single node.
struct Single {
    address: String,
    directory: tempfile::TempDir,
    server: Option<Server>,
}

impl Single {
    fn start() -> Self {
        let address = format!("127.0.0.1:{}", free_ports(1));
        let mut single = Self { address, directory: tempfile::tempdir().unwrap(), server: None };
        single.restart();
        single
    }

    fn restart(&mut self) {
        let directory = self.directory.path().to_str().unwrap();
        self.server = Some(Server::start(&["--data-dir", directory, "--listen", &self.address]));
    }

    fn run(&self, arguments: &[&str]) -> support::Finished {
        run(&[&["--endpoints", &self.address], arguments].concat())
    }

    fn stop(&mut self) -> Option<i32> {
        self.server.take().unwrap().stop().code()
    }
}

#[test]
fn single_node_keeps_what_it_acknowledged_over_stop_and_kill() {
    let mut single = Single::start();
    single.run(&["put", "a", "1"]).ended(0);
    let start = Instant::now();
    assert_eq!(single.stop(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
    single.restart();
    assert_eq!(single.run(&["get", "a"]).ended(0).text(), "1\n");
    single.run(&["put", "b", "2"]).ended(0);
    single.server.take().unwrap().kill();
    single.restart();
    assert_eq!(single.run(&["scan"]).ended(0).text(), "a\t1\nb\t2\n");
}

#[test]
fn sighup_is_ignored_and_sigint_stops() {
    let mut single = Single::start();
    single.server.as_ref().unwrap().signal(Signal::HUP);
    single.run(&["put", "a", "1"]).ended(0);
    assert!(single.server.as_mut().unwrap().is_running());
    let server = single.server.take().unwrap();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn port_in_use_is_code_two_and_names_it() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let done = run(&["serve", "--data-dir", directory.path().to_str().unwrap(), "--listen", &address]).ended(2);
    assert!(done.stderr.contains(&address), "{}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
}

#[test]
fn directory_in_use_is_code_two() {
    let single = Single::start();
    let directory = single.directory.path().to_str().unwrap();
    let listen = format!("127.0.0.1:{}", free_ports(1));
    let done = run(&["serve", "--data-dir", directory, "--listen", &listen]).ended(2);
    assert!(done.stderr.contains("in use"), "{}", done.stderr);
}

#[test]
fn foreign_directory_is_code_one_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    let listen = format!("127.0.0.1:{}", free_ports(1));
    let done = run(&["serve", "--data-dir", directory.path().to_str().unwrap(), "--listen", &listen]).ended(1);
    assert!(done.stderr.contains("not a dledger data directory"), "{}", done.stderr);
    assert_eq!(support::names(directory.path()), ["letter.txt"]);
}

#[test]
fn directory_of_another_node_is_refused() {
    let mut single = Single::start();
    single.run(&["put", "a", "1"]).ended(0);
    single.stop();
    let directory = single.directory.path().to_str().unwrap();
    let listen = format!("127.0.0.1:{}", free_ports(1));
    let done = run(&["serve", "--id", "2", "--data-dir", directory, "--listen", &listen]).ended(2);
    assert!(done.stderr.contains("another node"), "{}", done.stderr);
}

#[test]
fn limits_are_refused_with_code_four() {
    let single = Single::start();
    let key = "k".repeat(5_000);
    let done = single.run(&["put", &key, "1"]).ended(4);
    assert!(done.stderr.contains("refused"), "{}", done.stderr);
    let done = single.run(&["--output", "json", "put", &key, "1"]).ended(4);
    let value: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!(value["error"]["kind"], "refused");
}

#[test]
fn logs_go_to_stderr_as_text_or_json() {
    for (format, first) in [("text", "20"), ("json", "{")] {
        let directory = tempfile::tempdir().unwrap();
        let listen = format!("127.0.0.1:{}", free_ports(1));
        let arguments = ["serve", "--data-dir", directory.path().to_str().unwrap(), "--listen", &listen];
        let mut command = kvcli();
        command.args(arguments).args(["--log-format", format]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        wait_until_served(&listen);
        kill_process(Pid::from_child(&running.child), Signal::TERM).unwrap();
        assert_eq!(wait(&mut running.child).code(), Some(0));
        let said = std::io::read_to_string(running.child.stderr.take().unwrap()).unwrap();
        assert!(!said.is_empty() && said.lines().all(|line| line.starts_with(first)), "{said}");
        let answers = std::io::read_to_string(running.child.stdout.take().unwrap()).unwrap();
        assert_eq!(answers, "ready\n");
    }
}

fn wait_until_served(address: &str) {
    let deadline = Instant::now() + support::SOON;
    while run(&["--endpoints", address, "put", "a", "1"]).code != 0 {
        assert!(Instant::now() < deadline);
    }
}
