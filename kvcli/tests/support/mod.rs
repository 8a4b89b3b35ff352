//! Starts the built binary. Whoever starts a server stops it: a `Server` kills its process when dropped.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod person;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The binary, with an environment that nothing outside the test can change.
pub(crate) fn kvcli() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvcli"));
    for (name, _value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("DLEDGER_") || text.starts_with("KVCLI_") || text == "RUST_LOG" || text == "NO_COLOR" {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Longest that one command may take.
const LONGEST_RUN: Duration = Duration::from_secs(180);

/// Runs `kvcli ARGUMENTS` to its end.
pub(crate) fn run(arguments: &[&str]) -> Finished {
    run_with(arguments, "")
}

/// Runs `kvcli ARGUMENTS` with `stdin`. One that does not end is killed, and fails the test.
pub(crate) fn run_with(arguments: &[&str], stdin: impl AsRef<[u8]>) -> Finished {
    let mut child =
        kvcli().args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = Pid::from_child(&child);
    let mut pipe = child.stdin.take().unwrap();
    let bytes = stdin.as_ref().to_vec();
    let writer = thread::spawn(move || {
        // A command that ends early closes the pipe.
        let _closed = pipe.write_all(&bytes);
    });
    let (ended, end) = mpsc::channel();
    let waiter = thread::spawn(move || ended.send(child.wait_with_output()));
    let output = end.recv_timeout(LONGEST_RUN);
    if output.is_err() {
        // Nobody has waited for it, so the number is still its own.
        let _ended = kill_process(process, Signal::KILL);
    }
    writer.join().unwrap();
    let _sent = waiter.join().unwrap();
    assert!(output.is_ok(), "`kvcli {}` does not end", arguments.join(" "));
    finished(output.unwrap().unwrap())
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Each line of stdout as JSON.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", String::from_utf8_lossy(&self.stdout), self.stderr);
        self
    }
}

pub(crate) fn finished(output: Output) -> Finished {
    let code = output.status.code().unwrap_or(-1);
    Finished { code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// `count` free ports in a row, below those that outgoing connections get. Each call starts elsewhere, so that tests
/// of one binary do not race for the same ones.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 400).unwrap() * 25;
    for _attempt in 0..1_000 {
        let base = 12_000 + (spread + NEXT.fetch_add(count, Ordering::Relaxed)) % 20_000;
        if (base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
    panic!("no {count} free ports in a row");
}

/// A running `kvcli serve`.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts `kvcli serve ARGUMENTS` and waits for `ready`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child =
            kvcli().arg("serve").args(arguments).args(["--log-level", "warn"]).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let server = Self { child };
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        assert_eq!(receiver.recv_timeout(SOON).as_deref(), Ok("ready"));
        server
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it without warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait(&mut self.child)
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Waits for the end of a process, with a bound.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process does not end");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A process that is killed when dropped, for tests that talk to its stdin.
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap() }
    }

    pub(crate) fn stdin(&mut self) -> &mut ChildStdin {
        self.child.stdin.as_mut().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Three servers on loopback.
pub(crate) struct Cluster {
    pub(crate) spec: String,
    pub(crate) base: u16,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) nodes: Vec<Option<Server>>,
}

impl Cluster {
    pub(crate) fn start(count: u16) -> Self {
        Self::configured(count, "")
    }

    /// The same with a configuration file for all.
    pub(crate) fn configured(count: u16, config: &str) -> Self {
        Self::prepared(count, config, |_cluster, _place| ())
    }

    /// The same with something done to each node's directory before its first start.
    pub(crate) fn prepared(count: u16, config: &str, prepare: impl Fn(&Self, u16)) -> Self {
        let base = free_ports(count);
        let members: Vec<String> =
            (0..count).map(|place| format!("{}=127.0.0.1:{}", place + 1, base + place)).collect();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), config).unwrap();
        let mut cluster = Self { spec: members.join(","), base, directory, nodes: Vec::new() };
        (0..count).for_each(|place| prepare(&cluster, place));
        for place in 0..count {
            let server = cluster.server(place);
            cluster.nodes.push(Some(server));
        }
        cluster
    }

    /// Starts node `place + 1`.
    pub(crate) fn server(&self, place: u16) -> Server {
        let id = (place + 1).to_string();
        let (directory, config) = (self.data_dir(place), self.directory.path().join("config.toml"));
        let (directory, config) = (directory.to_str().unwrap(), config.to_str().unwrap());
        Server::start(&["--config", config, "--id", &id, "--cluster", &self.spec, "--data-dir", directory])
    }

    pub(crate) fn data_dir(&self, place: u16) -> std::path::PathBuf {
        self.directory.path().join((place + 1).to_string())
    }

    pub(crate) fn address(&self, place: u16) -> String {
        format!("127.0.0.1:{}", self.base + place)
    }

    pub(crate) fn endpoints(&self) -> String {
        let all: Vec<String> = (0..self.nodes.len()).map(|place| self.address(u16::try_from(place).unwrap())).collect();
        all.join(",")
    }

    /// Runs a command against all nodes.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let endpoints = self.endpoints();
        run(&[&["--endpoints", &endpoints, "--timeout", "20s"], arguments].concat())
    }

    /// The place of the leader, once there is one.
    pub(crate) fn leader(&self) -> usize {
        let deadline = Instant::now() + SOON;
        loop {
            let status = self.run(&["status", "--output", "json"]);
            let leader = (status.code == 0)
                .then(|| status.json())
                .and_then(|lines| lines[0]["nodes"].as_array()?.iter().position(|node| node["role"] == "leader"));
            if let Some(place) = leader {
                return place;
            }
            assert!(Instant::now() < deadline, "no leader: {status:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Looks until there is something, for as long as [`SOON`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a store holds after all lines: sorted by key, the last of a key wins.
pub(crate) fn last_wins(lines: &str) -> BTreeMap<&str, &str> {
    lines.lines().filter_map(|line| line.split_once('\t')).collect()
}

impl Cluster {
    /// Starts node `place + 1` again on its directory.
    pub(crate) fn restart(&mut self, place: usize) {
        let server = self.server(u16::try_from(place).unwrap());
        self.nodes[place] = Some(server);
    }

    /// Asks every node to stop, and asserts that each ends with code 0 within five seconds.
    pub(crate) fn stop_all(&mut self) {
        let asked = Instant::now();
        let nodes: Vec<Server> = self.nodes.iter_mut().filter_map(Option::take).collect();
        nodes.iter().for_each(|node| node.signal(Signal::TERM));
        for node in nodes {
            assert_eq!(node.wait().code(), Some(0));
        }
        assert!(asked.elapsed() < Duration::from_secs(5), "stopping took {:?}", asked.elapsed());
    }

    /// Kills every node; none is waited for before the last is hit.
    pub(crate) fn kill_all(&mut self) {
        self.nodes.iter().flatten().for_each(|node| node.signal(Signal::KILL));
        self.nodes.iter_mut().for_each(|node| drop(node.take()));
    }

    /// One number of every node's status; `None` for a node that does not answer.
    pub(crate) fn numbers(&self, name: &str) -> Vec<Option<u64>> {
        let status = self.run(&["status", "--output", "json"]).ended(0).json();
        status[0]["nodes"].as_array().unwrap().iter().map(|node| node[name].as_u64()).collect()
    }

    /// A linearizable export through this node.
    pub(crate) fn export(&self, place: usize) -> String {
        let address = self.address(u16::try_from(place).unwrap());
        let arguments = ["--endpoints", &address, "--timeout", "20s", "--consistency", "linearizable", "export"];
        run(&arguments).ended(0).text()
    }

    /// Asserts that the logs of the stopped nodes hold the same bytes where they overlap, by digest and record for
    /// record. Answers the last index of the overlap.
    pub(crate) fn assert_same_logs(&self) -> u64 {
        let look = |action: &str, place: usize, range: &[&str]| {
            let directory = self.data_dir(u16::try_from(place).unwrap());
            let arguments = ["log", action, "--data-dir", directory.to_str().unwrap(), "--output", "json"];
            run(&[&arguments, range].concat()).ended(0)
        };
        let places = 0..self.nodes.len();
        let whole: Vec<serde_json::Value> =
            places.clone().map(|place| look("verify", place, &[]).json().remove(0)).collect();
        let first = whole.iter().map(|row| row["first"].as_u64().unwrap()).max().unwrap();
        let last = whole.iter().map(|row| row["last"].as_u64().unwrap()).min().unwrap();
        assert!(first <= last, "nothing overlaps: {whole:?}");
        let (from, to) = (first.to_string(), last.to_string());
        let range = ["--from", &from, "--to", &to];
        let digests: Vec<String> = places.clone().map(|place| look("verify", place, &range).text()).collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:#?}");
        let records = look("cat", 0, &range).stdout;
        assert_eq!(records.iter().filter(|byte| **byte == b'\n').count() as u64, last - first + 1);
        for place in places.skip(1) {
            assert!(look("cat", place, &range).stdout == records, "node {} holds other records", place + 1);
        }
        last
    }
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
