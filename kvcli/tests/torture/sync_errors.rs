//! Errors that a disk returns, injected into one system call after the other by `strace`.
//!
//! `when=N` counts for each thread by itself: the N-th such call fails on the thread that opens the directory, on the
//! disk thread, and on the one that prepares space, whichever gets there first. That one call fails and all later ones
//! work, which is what makes a sync that is tried again so dangerous: it would succeed.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::load::Load;
use crate::machine::{in_parallel, or_skip, tool};
use crate::process::{ConfigFile, Ended, Members, Process, behind, member, serve};
use crate::support::{Finished, Running, free_ports, kvcli, last_wins, run};

/// Puts in a run of one node: more than the calls that are counted.
const PUTS: u64 = 20;
/// Exit codes of a node that stops by itself, that cannot open its directory, that has no room to.
const STOPPED: i32 = 3;
const NOT_OPENED: i32 = 2;
const NO_ROOM: i32 = 4;
/// A cluster writes again within this after its leader's disk failed; usually in some tens of milliseconds.
const BOUND: Duration = Duration::from_secs(5);

/// A system call, what it fails with, and up to which count: while an empty directory becomes that of a node.
const AT_THE_START: [(&str, &str, u64); 5] = [
    ("fdatasync", "EIO", 14),
    ("fsync", "EIO", 16),
    ("pwritev", "EIO", 14),
    ("pwritev", "ENOSPC", 14),
    ("rename", "EIO", 5),
];
/// The same while a node is at work: records, slots, the next chunk, the next segment, its directory, its index.
const AT_WORK: [(&str, &str, u64); 5] = [
    ("fdatasync", "EIO", 10),
    ("fsync", "EIO", 2),
    ("pwritev", "EIO", 10),
    ("pwritev", "ENOSPC", 6),
    ("rename", "EIO", 2),
];

fn cases(calls: &'static [(&str, &str, u64)]) -> impl Iterator<Item = Case> + Send {
    calls.iter().flat_map(|(call, error, most)| (1..=*most).map(move |count| Case { call, error, count }))
}

/// One call that fails.
struct Case {
    call: &'static str,
    error: &'static str,
    count: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.call, self.error, self.count)
    }
}

impl Case {
    /// What a tracer is told.
    fn inject(&self) -> [String; 4] {
        let inject = format!("inject={}:error={}:when={}", self.call, self.error, self.count);
        ["-e".to_owned(), format!("trace={}", self.call), "-e".to_owned(), inject]
    }

    /// `kvcli` under a tracer that stands aside: the process that is started is `kvcli` itself, and the tracer ends
    /// with it.
    fn traced(&self) -> Command {
        let inject = self.inject();
        let mut arguments = vec!["-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"];
        arguments.extend(inject.iter().map(String::as_str));
        behind("strace", &arguments)
    }

    /// Begins to count the calls of a running node. It is traced until the tracer is dropped.
    fn attach(&self, node: &Process) -> Running {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-p", &node.pid().to_string()]).args(self.inject());
        let mut tracer = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()));
        let mut said = BufReader::new(tracer.child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{self}: {line}");
        // It says more when the node ends, and must not wait for a reader.
        thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        tracer
    }

    /// Each put waits for a write and a sync of the disk thread: none behind the one that failed was acknowledged.
    #[track_caller]
    fn bounds(&self, acknowledged: u64) {
        if self.call == "fdatasync" || (self.call == "pwritev" && self.error == "EIO") {
            assert!(acknowledged < self.count, "{self}: {acknowledged} puts were acknowledged");
        }
    }
}

/// A tracer may be installed and still not be allowed to trace.
fn tracer() -> Result<String, String> {
    tool("strace", &["-f", "-o", "/dev/null", "-e", "inject=fsync:error=EIO:when=1", "true"])
}

/// Asserts that a node said what failed, and what to do.
#[track_caller]
fn told(ended: &Ended, case: &Case) {
    assert_eq!(ended.signal, None, "{case}: {ended:?}");
    let reason = ended.stderr.lines().last().unwrap_or_default();
    let advice = match ended.code {
        Some(STOPPED) => "restart this node",
        Some(NOT_OPENED) => "start again",
        Some(NO_ROOM) => "free some space",
        _ => panic!("{case}: {ended:?}"),
    };
    assert!(reason.contains(advice), "{case}: {ended:?}");
}

/// One node that is asked by one client, one thing after the other.
struct Single {
    address: String,
    scratch: TempDir,
    config: ConfigFile,
}

impl Single {
    fn new() -> Self {
        let address = format!("127.0.0.1:{}", free_ports(1));
        Self { address, scratch: tempfile::tempdir().unwrap(), config: ConfigFile::small() }
    }

    fn start(&self, command: Command) -> Result<Process, Ended> {
        let flags = ["--listen", &self.address];
        Process::start(&mut serve(command, &flags, &self.scratch.path().join("data"), &self.config)).ready()
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        run(&[&["--endpoints", &self.address, "--timeout", "10s"], arguments].concat())
    }

    /// Puts one key after the other until one fails. Answers how many were acknowledged.
    fn put_until_refused(&self) -> u64 {
        let put = |number: u64| self.run(&["put", &format!("key-{number}"), &value(number)]).code == 0;
        (0..PUTS).find(|number| !put(*number)).unwrap_or(PUTS)
    }

    /// Starts it on a disk that works again, and asserts that what was acknowledged is there and that it serves.
    fn starts_again_with(&self, acknowledged: u64, case: &Case) {
        let node = self.start(kvcli()).unwrap_or_else(|ended| panic!("{case}: does not start again: {ended:?}"));
        self.run(&["put", "after", "1"]).ended(0);
        let exported = self.run(&["export"]).ended(0).text();
        let found = last_wins(&exported);
        for number in 0..acknowledged {
            assert_eq!(found.get(format!("key-{number}").as_str()), Some(&value(number).as_str()), "{case}");
        }
        node.stop();
    }
}

/// Long enough that the puts of a run fill more than one segment.
fn value(number: u64) -> String {
    format!("{number:08000}")
}

#[test]
fn sync_errors_while_a_node_starts_end_it_and_lose_nothing() {
    let Some(_works) = or_skip(tracer()) else { return };
    let (not_opened, stopped) = (AtomicU32::new(0), AtomicU32::new(0));
    in_parallel(cases(&AT_THE_START), |case| {
        let single = Single::new();
        let mut acknowledged = 0;
        match single.start(case.traced()) {
            Err(ended) => {
                told(&ended, &case);
                not_opened.fetch_add(1, Ordering::SeqCst);
            }
            Ok(node) => {
                acknowledged = single.put_until_refused();
                assert!(acknowledged < PUTS, "{case}: nothing failed");
                case.bounds(acknowledged);
                told(&node.ended(), &case);
                stopped.fetch_add(1, Ordering::SeqCst);
            }
        }
        single.starts_again_with(acknowledged, &case);
    });
    println!("{not_opened:?} calls ended the start, {stopped:?} came later");
    assert!(not_opened.into_inner() > 40, "few of the calls were those of a start");
}

#[test]
fn sync_errors_at_work_stop_a_node_before_it_acknowledges_more() {
    let Some(_works) = or_skip(tracer()) else { return };
    in_parallel(cases(&AT_WORK), |case| {
        let single = Single::new();
        let node = single.start(kvcli()).unwrap();
        single.run(&["put", "before", "1"]).ended(0);
        let tracer = case.attach(&node);
        let acknowledged = single.put_until_refused();
        assert!(acknowledged < PUTS, "{case}: nothing failed, or the node went on");
        case.bounds(acknowledged);
        told(&node.ended(), &case);
        drop(tracer);
        single.starts_again_with(acknowledged, &case);
    });
}

#[test]
fn sync_errors_on_the_leader_replace_it_and_the_history_stays_linearizable() {
    let Some(_works) = or_skip(tracer()) else { return };
    let (members, scratch, config) =
        (Members::on_loopback(3), tempfile::tempdir().unwrap(), ConfigFile::small_segments());
    let start = |place: usize| {
        let id = u16::try_from(place + 1).unwrap();
        Process::start(&mut member(id, &members.spec, &scratch.path().join(id.to_string()), &config)).ready().unwrap()
    };
    let mut nodes: Vec<Option<Process>> = (0..3).map(|place| Some(start(place))).collect();
    let load = Load::start(&members.addresses, 6);
    for (call, count) in [("fdatasync", 1), ("pwritev", 2), ("fdatasync", 5), ("pwritev", 9)] {
        load.goes_on(50);
        let (case, leader) = (Case { call, error: "EIO", count }, members.leader());
        let failing = nodes[leader].take().unwrap();
        let tracer = case.attach(&failing);
        let ended = failing.ended();
        assert_eq!(ended.code, Some(STOPPED), "{case}: {ended:?}");
        told(&ended, &case);
        drop(tracer);
        let gap = load.goes_on(50);
        println!("{case}: a write was acknowledged {} ms after the leader had stopped", gap.as_millis());
        assert!(gap < BOUND, "{case}: a write was acknowledged again only after {gap:?}");
        nodes[leader] = Some(start(leader));
    }
    load.finish();
    nodes.into_iter().flatten().for_each(Process::stop);
}
