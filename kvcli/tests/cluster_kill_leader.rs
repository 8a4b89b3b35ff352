//! The leader's process is killed in the middle of a long import: what is called certain is there, and the node that
//! comes back holds the same log as the others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test, and what is measured is said"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{ChildStdin, Stdio};
use std::thread;

use support::{Cluster, Running, eventually, kvcli, wait};

const LINES: usize = 20_000;
const KEYS: usize = 6_000;
/// Lines fed before the kill is armed; those fed while it is on its way; the others follow behind it.
const FED_BEFORE: usize = 8_000;
const FED_DURING: usize = 6_000;
/// Entries that a follower must know committed before the leader is killed.
const COMMITTED: u64 = 4_000;

/// Every key comes again; every value tells its line.
fn lines() -> Vec<String> {
    (0..LINES)
        .map(|number| {
            let mut line = String::new();
            writeln!(line, "package-{:04}\t{number}", number * 7_919 % KEYS).unwrap();
            line
        })
        .collect()
}

fn feed(pipe: &mut ChildStdin, lines: &[String]) {
    // An import that ends early closes the pipe; its code is looked at later.
    let _closed = pipe.write_all(lines.concat().as_bytes());
}

/// What is wrong with a store if the first `certain` lines are in it, in order, and any of the others may be.
fn lost(lines: &[String], certain: usize, exported: &str) -> Vec<String> {
    let mut allowed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    for (place, line) in lines.iter().enumerate() {
        let (key, value) = line.trim_end().split_once('\t').unwrap();
        let values = allowed.entry(key).or_default();
        if place < certain {
            // A later certain line of the key replaces all before it.
            values.clear();
            needed.insert(key);
        }
        values.insert(value);
    }
    let found = support::last_wins(exported);
    let absent = needed.iter().filter(|key| !found.contains_key(**key)).map(|key| format!("{key} is absent"));
    let wrong = found.iter().filter(|(key, value)| !allowed.get(*key).is_some_and(|values| values.contains(*value)));
    absent.chain(wrong.map(|(key, value)| format!("{key} is {value}"))).collect()
}

#[test]
fn check_of_certain_lines_notices_absent_and_older_values() {
    let lines: Vec<String> = ["a\t1\n", "b\t2\n", "a\t3\n", "b\t4\n"].map(str::to_owned).to_vec();
    assert!(lost(&lines, 3, "a\t3\nb\t2\n").is_empty());
    assert!(lost(&lines, 3, "a\t3\nb\t4\n").is_empty(), "a line behind the certain ones may be there");
    assert_eq!(lost(&lines, 3, "a\t1\nb\t2\n"), ["a is 1"]);
    assert_eq!(lost(&lines, 3, "a\t3\n"), ["b is absent"]);
    assert_eq!(lost(&lines, 4, "a\t3\nb\t2\n"), ["b is 2"]);
}

/// Reads `acknowledged N lines`, and on a failure the same number in the reason.
fn certain(code: i32, stdout: &str, stderr: &str) -> usize {
    let told = stdout.strip_prefix("acknowledged ").and_then(|rest| rest.strip_suffix(" lines\n"));
    let certain = told.unwrap_or_else(|| panic!("{stdout} {stderr}")).parse().unwrap();
    if code == 0 {
        assert_eq!(certain, LINES, "{stderr}");
        assert_eq!(stderr, "");
    } else {
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.contains(&format!("the first {certain} lines are certainly stored")), "{stderr}");
    }
    certain
}

#[test]
fn import_goes_on_over_a_killed_leader_and_the_logs_end_up_equal() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["put", "package-before", "0"]).ended(0);
    cluster.run(&["del", "package-before"]).ended(0);
    let (leader, lines) = (cluster.leader(), lines());
    let follower = (leader + 1) % 3;
    let mut command = kvcli();
    command.args(["--endpoints", &cluster.endpoints(), "import", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut import = Running::start(&mut command);
    let mut pipe = import.child.stdin.take().unwrap();
    feed(&mut pipe, &lines[..FED_BEFORE]);
    eventually("a follower knows of commits", || cluster.numbers("committed")[follower].filter(|at| *at > COMMITTED));
    let (first, rest) =
        (lines[FED_BEFORE..FED_BEFORE + FED_DURING].to_vec(), lines[FED_BEFORE + FED_DURING..].to_vec());
    let feeding = thread::spawn(move || {
        feed(&mut pipe, &first);
        pipe
    });
    cluster.nodes[leader].take().unwrap().kill();
    feed(&mut feeding.join().unwrap(), &rest);
    let code = wait(&mut import.child).code().unwrap();
    let stdout = std::io::read_to_string(import.child.stdout.take().unwrap()).unwrap();
    let stderr = std::io::read_to_string(import.child.stderr.take().unwrap()).unwrap();
    let certain = certain(code, &stdout, &stderr);
    println!("import ended with code {code}, {certain} of {LINES} lines certain");

    assert_eq!(lost(&lines, certain, &cluster.export(follower)), Vec::<String>::new());
    cluster.restart(leader);
    eventually("the killed node catches up", || {
        let applied = cluster.numbers("applied");
        applied.iter().all(|at| at.is_some() && *at == applied[0]).then_some(())
    });
    assert_eq!(lost(&lines, certain, &cluster.export(leader)), Vec::<String>::new());
    cluster.stop_all();
    let last = cluster.assert_same_logs();
    assert!(last as usize >= certain, "the overlap ends at {last}");
}
