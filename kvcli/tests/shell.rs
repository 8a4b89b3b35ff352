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

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::{Running, SOON, free_ports, kvcli, wait};

/// A person at a terminal.
struct Person {
    running: Running,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Person {
    /// Starts a demo of one node with its own history.
    fn at_demo(state: &Path, arguments: &[&str]) -> Self {
        let mut command = kvcli();
        let base = free_ports(1).to_string();
        command.args(["demo", "--nodes", "1", "--base-port", &base]).args(arguments).env("XDG_STATE_HOME", state);
        let mut person = Self::at(&mut command);
        person.sees("leader 1> ");
        person
    }

    fn at(command: &mut Command) -> Self {
        let (controller, terminal) = terminal();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm").env("NO_COLOR", "1");
        let running = Running::start(command);
        let keyboard = File::from(controller);
        let mut display = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = display.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { running, keyboard, screen, seen: String::new() }
    }

    fn types(&mut self, keys: &str) {
        self.seen.clear();
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen has shown `text` since the last keys.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + SOON;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} is not seen in {:?}", self.seen),
            }
        }
    }

    /// Types a line and waits for its answer and the next prompt.
    #[track_caller]
    fn runs(&mut self, line: &str, answer: &str) {
        self.types(&format!("{line}\r"));
        self.sees(answer);
        self.seen = self.seen.split_off(self.seen.find(answer).unwrap());
        self.sees("> ");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running.child), signal).unwrap();
    }

    fn leaves(&mut self, keys: &str) -> Option<i32> {
        self.types(keys);
        wait(&mut self.running.child).code()
    }
}

fn terminal() -> (OwnedFd, OwnedFd) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let path = std::ffi::OsStr::from_bytes(name.as_bytes());
    let terminal = OpenOptions::new().read(true).write(true).open(path).unwrap();
    (controller, terminal.into())
}

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
    person.sees("leader 1> ");
    person.runs("get half", "no such key: half");
    person.types("bench put --duration 60s\r");
    person.sees("/60 s");
    person.signal(Signal::INT);
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
    second.sees("leader 1> ");
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
