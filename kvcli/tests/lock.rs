//! `lock`: one program at a time, with its signals, its status and a token that grows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{Cluster, Running, eventually, kvcli, run_with, wait};

/// A lock whose program says when it runs.
struct Holder {
    running: Running,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Holder {
    /// Starts `kvcli lock ARGUMENTS`.
    fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let mut command = lock(cluster, arguments);
        let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
        Self { running, lines }
    }

    /// The next line that the program prints.
    fn says(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running.child), signal).unwrap();
    }

    /// How it ends, and what it says on stderr.
    fn ends(mut self) -> (Option<i32>, String) {
        let code = wait(&mut self.running.child).code();
        (code, std::io::read_to_string(self.running.child.stderr.take().unwrap()).unwrap())
    }
}

fn lock(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = kvcli();
    command.args(["--endpoints", &cluster.endpoints(), "lock"]).args(arguments);
    command
}

/// How many places there are in the queue of a lock.
fn contenders(cluster: &Cluster, name: &str) -> usize {
    cluster.run(&["scan", "--keys-only", &format!("{name}/")]).ended(0).text().lines().count()
}

#[test]
fn lock_passes_on_the_status_of_its_program_and_a_growing_token() {
    let cluster = Cluster::start(3);
    let token = |name: &str| -> u64 {
        let said = cluster.run(&["lock", name, "--", "printenv", "KVCLI_FENCING_TOKEN"]).ended(0).text();
        said.trim().parse().unwrap()
    };
    assert!(token("job") < token("job"));
    cluster.run(&["lock", "job", "--", "sh", "-c", "exit 7"]).ended(7);
    cluster.run(&["lock", "job", "--", "sh", "-c", "kill -KILL $$"]).ended(128 + 9);
    let absent = cluster.run(&["lock", "job", "--", "/no/such/program"]).ended(2);
    assert!(absent.stderr.starts_with("error: cannot run `/no/such/program`"), "{}", absent.stderr);
    let short = cluster.run(&["lock", "job", "--ttl", "10ms", "--", "true"]).ended(4);
    assert!(short.stderr.contains("10 ms"), "{}", short.stderr);
    assert_eq!(contenders(&cluster, "job"), 0);
}

#[test]
fn lock_in_a_script_gives_its_program_no_input_and_stops_the_script_at_its_status() {
    let cluster = Cluster::start(3);
    // Longer than what any buffer has read ahead by the time that the program could take the rest.
    let padding = "# a line of the script\n".repeat(20_000);
    let script = format!("lock job -- cat\n{padding}put a 1\nlock job -- sh -c 'exit 3'\nput a 2\n");
    let done = run_with(&["--endpoints", &cluster.endpoints()], script).ended(3);
    assert_eq!(done.text(), "OK\n");
    assert_eq!(done.stderr, "error: line 20003: the program ended with status 3 (exit 3)\n");
    assert_eq!(cluster.run(&["get", "a"]).ended(0).text(), "1\n");
}

#[test]
fn lock_keeps_others_waiting_until_its_program_ends() {
    let cluster = Cluster::start(3);
    let mut first = Holder::start(&cluster, &["job", "--", "sh", "-c", "echo first; exec sleep 1000"]);
    assert_eq!(first.says(), "first");
    let mut second = Holder::start(&cluster, &["job", "--", "echo", "second"]);
    eventually("the second waits", || (contenders(&cluster, "job") == 2).then_some(()));
    assert!(second.running.child.try_wait().unwrap().is_none());
    first.signal(Signal::TERM);
    assert_eq!(first.ends(), (Some(128 + 15), String::new()));
    assert_eq!(second.says(), "second");
    assert_eq!(second.ends(), (Some(0), String::new()));
}

#[test]
fn lock_passes_signals_on_and_exits_with_what_the_program_makes_of_them() {
    let cluster = Cluster::start(3);
    let script = "trap 'exit 41' INT; trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done";
    let mut holder = Holder::start(&cluster, &["job", "--", "sh", "-c", script]);
    assert_eq!(holder.says(), "ready");
    holder.signal(Signal::HUP);
    assert_eq!(holder.says(), "hup");
    holder.signal(Signal::INT);
    assert_eq!(holder.ends(), (Some(41), String::new()));
    assert_eq!(contenders(&cluster, "job"), 0);
}

#[test]
fn lock_interrupted_while_it_waits_leaves_nothing_behind() {
    let cluster = Cluster::start(3);
    let mut first = Holder::start(&cluster, &["job", "--", "sh", "-c", "echo first; exec sleep 1000"]);
    assert_eq!(first.says(), "first");
    let second = Holder::start(&cluster, &["job", "--ttl", "1h", "--", "echo", "never"]);
    eventually("the second waits", || (contenders(&cluster, "job") == 2).then_some(()));
    second.signal(Signal::INT);
    let (code, said) = second.ends();
    assert_eq!(
        (code, said.as_str()),
        (Some(128 + 2), "cancelled while waiting for the lock; the program was not run\n")
    );
    assert_eq!(contenders(&cluster, "job"), 1);
    first.signal(Signal::TERM);
    assert_eq!(first.ends().0, Some(128 + 15));
    assert_eq!(cluster.run(&["lease", "list"]).ended(0).text(), "", "neither left its lease");
}

#[test]
fn lock_that_is_lost_terminates_its_program_and_is_code_three() {
    let cluster = Cluster::start(3);
    let script = "trap 'echo terminated; exit 0' TERM; echo running; while :; do sleep 0.05; done";
    let mut holder = Holder::start(&cluster, &["job", "--", "sh", "-c", script]);
    assert_eq!(holder.says(), "running");
    // Somebody with the right to do so takes it away.
    assert_eq!(cluster.run(&["del", "--prefix", "job/"]).ended(0).text(), "1\n");
    assert_eq!(holder.says(), "terminated");
    let (code, said) = holder.ends();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.lines().any(|line| line.starts_with("the lock is lost: the lease has ended, or its key")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("error: the lock was lost while the program ran")), "{said}");
}

#[test]
fn lock_is_lost_when_the_cluster_is_gone_for_as_long_as_it_lives() {
    let mut cluster = Cluster::start(3);
    let mut holder =
        Holder::start(&cluster, &["job", "--ttl", "2s", "--", "sh", "-c", "echo running; exec sleep 1000"]);
    assert_eq!(holder.says(), "running");
    let killed = Instant::now();
    cluster.kill_all();
    let (code, said) = holder.ends();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the lock is lost: the cluster confirmed nothing"), "{said}");
    let after = killed.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(10)).contains(&after), "lost after {after:?}");
}

#[test]
fn lock_outlives_the_leader() {
    let mut cluster = Cluster::start(3);
    let go_on = cluster.directory.path().join("go-on");
    let script = "echo running; while [ ! -e \"$0\" ]; do sleep 0.05; done";
    let mut holder =
        Holder::start(&cluster, &["job", "--ttl", "20s", "--", "sh", "-c", script, go_on.to_str().unwrap()]);
    assert_eq!(holder.says(), "running");
    let leader = cluster.leader();
    cluster.nodes[leader].take().unwrap().kill();
    // There is a leader again once this is answered.
    cluster.run(&["put", "a", "1"]).ended(0);
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(holder.ends(), (Some(0), String::new()));
    assert_eq!(contenders(&cluster, "job"), 0);
}
