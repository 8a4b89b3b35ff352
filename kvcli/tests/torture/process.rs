//! A `kvcli serve` that may end by itself: its code, the signal that ended it, and what it said.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Finished, SOON, eventually, free_ports, kvcli, run, wait};

/// A running node. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    answers: Receiver<String>,
    said: Option<JoinHandle<String>>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stderr: String,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, answers) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let said = thread::spawn(move || {
            let mut said = String::new();
            let _closed = stderr.read_to_string(&mut said);
            said
        });
        Self { child, answers, said: Some(said) }
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ended instead.
    #[track_caller]
    pub(crate) fn ready(self) -> Result<Self, Ended> {
        match self.answers.recv_timeout(SOON) {
            Ok(line) => {
                assert_eq!(line, "ready");
                Ok(self)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(self.ended()),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("neither ready nor ended within {SOON:?}"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let status = wait(&mut self.child);
        let stderr = self.said.take().unwrap().join().unwrap();
        Ended { code: status.code(), signal: status.signal(), stderr }
    }

    /// Asks it to stop, and waits until it has, with code 0.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        let ended = self.ended();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    /// Kills it without warning.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        self.ended();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A configuration in a file of its own.
pub(crate) struct ConfigFile {
    _directory: TempDir,
    path: PathBuf,
}

impl ConfigFile {
    /// The least segments: what happens once a segment happens often.
    pub(crate) fn small_segments() -> Self {
        Self::of("")
    }

    /// The same, and quick elections: one node needs one too.
    pub(crate) fn small() -> Self {
        Self::of("heartbeat = \"10ms\"\nelection_timeout = \"50ms\"\n")
    }

    /// The same as the first, and elections so slow that only a cut brings one about, and never a busy machine.
    pub(crate) fn patient() -> Self {
        Self::of("heartbeat = \"50ms\"\nelection_timeout = \"1s\"\n")
    }

    fn of(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dledger.toml");
        let segments =
            "segment_bytes = 65536\nmax_record_bytes = 65536\nmax_value_bytes = 32768\nmax_key_bytes = 1024\n";
        std::fs::write(&path, format!("{segments}{more}")).unwrap();
        Self { _directory: directory, path }
    }
}

/// The members of a cluster, and where they are asked.
pub(crate) struct Members {
    pub(crate) spec: String,
    pub(crate) addresses: Vec<String>,
}

impl Members {
    pub(crate) fn of(addresses: Vec<String>) -> Self {
        let named: Vec<String> =
            (1..).zip(&addresses).map(|(id, address): (u16, _)| format!("{id}={address}")).collect();
        Self { spec: named.join(","), addresses }
    }

    pub(crate) fn on_loopback(count: u16) -> Self {
        let base = free_ports(count);
        Self::of((base..base + count).map(|port| format!("127.0.0.1:{port}")).collect())
    }

    /// Runs a command against all nodes.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let endpoints = self.addresses.join(",");
        run(&[&["--endpoints", &endpoints, "--timeout", "20s"], arguments].concat())
    }

    /// The place of the leader, once there is one.
    pub(crate) fn leader(&self) -> usize {
        eventually("there is a leader", || {
            let status = self.run(&["status", "--output", "json"]);
            let told = (status.code == 0).then(|| status.json())?;
            told[0]["nodes"].as_array()?.iter().position(|node| node["role"] == "leader")
        })
    }
}

/// `kvcli` as the command line of another program.
pub(crate) fn behind(program: &str, arguments: &[&str]) -> Command {
    let (kvcli, mut command) = (kvcli(), Command::new(program));
    command.args(arguments).arg(kvcli.get_program()).stdin(Stdio::null());
    // Whatever `kvcli` must not see is removed.
    for (name, _removed) in kvcli.get_envs() {
        command.env_remove(name);
    }
    command
}

/// `kvcli serve` as a cluster of its own.
pub(crate) fn single(address: &str, data_dir: &Path, config: &ConfigFile) -> Command {
    serve(kvcli(), &["--listen", address], data_dir, config)
}

/// `kvcli serve` as node `id` of `cluster`.
pub(crate) fn member(id: u16, cluster: &str, data_dir: &Path, config: &ConfigFile) -> Command {
    serve(kvcli(), &["--id", &id.to_string(), "--cluster", cluster], data_dir, config)
}

/// `command serve` with these flags.
pub(crate) fn serve(mut command: Command, flags: &[&str], data_dir: &Path, config: &ConfigFile) -> Command {
    command
        .args(["serve", "--log-level", "warn", "--data-dir"])
        .arg(data_dir)
        .arg("--config")
        .arg(&config.path)
        .args(flags);
    command
}
