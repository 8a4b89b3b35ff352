//! Three `serve` processes on loopback: the same answers from every node, import and export, a lost leader.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use support::{Cluster, Running, SOON, finished, kvcli, run};

/// Lines like those of a package list, with keys that come twice.
fn lines(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        writeln!(text, "package-{:05}\t1.{number}-ubuntu~{}", number * 7 % (count - count / 10), number % 13).unwrap();
    }
    text
}

/// What a store holds after all lines: sorted, the last of a key wins.
fn expected(text: &str) -> String {
    let pairs: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    pairs.iter().fold(String::new(), |mut out, (key, value)| {
        writeln!(out, "{key}\t{value}").unwrap();
        out
    })
}

/// The last line of stdout says how many lines are certain.
fn acknowledged(text: &str) -> usize {
    let line = text.lines().last().unwrap();
    line.strip_prefix("acknowledged ").unwrap().strip_suffix(" lines").unwrap().parse().unwrap()
}

#[test]
fn import_into_three_processes_is_exported_by_each() {
    let cluster = Cluster::start(3);
    let text = lines(3_000);
    let file = cluster.directory.path().join("list.tsv");
    std::fs::write(&file, &text).unwrap();
    let done = cluster.run(&["import", file.to_str().unwrap()]).ended(0);
    assert_eq!(done.text(), "acknowledged 3000 lines\n");
    for place in 0..3 {
        let address = cluster.address(place);
        let done = run(&["--endpoints", &address, "export"]).ended(0);
        assert!(done.text() == expected(&text), "node {} exports something else", place + 1);
    }
    let address = cluster.address(1);
    let json = run(&["--endpoints", &address, "export", "package-0000", "--format", "json"]).ended(0);
    assert_eq!(json.json().len(), 10);
    assert_eq!(json.json()[0]["key"], "package-00000");
}

#[test]
fn every_node_serves_every_command() {
    let cluster = Cluster::start(3);
    for place in 0..3 {
        let address = cluster.address(place);
        let key = format!("k{place}");
        run(&["--endpoints", &address, "put", &key, "v"]).ended(0);
        for other in 0..3 {
            let address = cluster.address(other);
            assert_eq!(run(&["--endpoints", &address, "get", &key]).ended(0).text(), "v\n");
        }
    }
    assert_eq!(cluster.run(&["--consistency", "stale", "scan", "--count"]).ended(0).text(), "3\n");
    assert_eq!(cluster.run(&["del", "--prefix", "k"]).ended(0).text(), "3\n");
    cluster.run(&["get", "k0"]).ended(1);
}

#[test]
fn killed_leader_is_replaced_and_status_says_so() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["put", "a", "1"]).ended(0);
    let leader = cluster.leader();
    cluster.nodes[leader].take().unwrap().kill();
    // What a follower hands to a leader before it notices that it is gone is unknown, as it should be.
    assert_ne!(cluster.leader(), leader);
    cluster.run(&["put", "b", "2"]).ended(0);
    let status = cluster.run(&["status", "--output", "json"]).ended(0);
    let nodes = status.json()[0]["nodes"].clone();
    assert_eq!(nodes[leader]["role"], "unreachable");
    assert_eq!(cluster.run(&["scan"]).ended(0).text(), "a\t1\nb\t2\n");
    let back = cluster.server(u16::try_from(leader).unwrap());
    cluster.nodes[leader] = Some(back);
    let address = cluster.address(u16::try_from(leader).unwrap());
    assert_eq!(run(&["--endpoints", &address, "--timeout", "20s", "get", "b"]).ended(0).text(), "2\n");
}

#[test]
fn import_while_the_leader_is_killed_loses_no_acknowledged_line() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["put", "before", "1"]).ended(0);
    let leader = cluster.leader();
    let text = lines(20_000);
    let mut command = kvcli();
    command.args(["--endpoints", &cluster.endpoints(), "import", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut stdin = running.child.stdin.take().unwrap();
    let half = text.len() / 2;
    std::io::Write::write_all(&mut stdin, &text.as_bytes()[..half]).unwrap();
    cluster.nodes[leader].take().unwrap().kill();
    let rest = text.as_bytes()[half..].to_vec();
    let feeding = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &rest).is_ok());
    let code = support::wait(&mut running.child).code();
    feeding.join().unwrap();
    let output = std::io::read_to_string(running.child.stdout.take().unwrap()).unwrap();
    let said = std::io::read_to_string(running.child.stderr.take().unwrap()).unwrap();
    assert!(code == Some(0) || code == Some(3), "{code:?} {said}");
    let certain = acknowledged(&output);
    if code == Some(0) {
        assert_eq!(certain, 20_000);
    } else {
        assert!(said.contains("certainly stored"), "{said}");
        // It is safe to go on from there.
        let rest: String = text.lines().skip(certain).fold(String::new(), |out, line| out + line + "\n");
        let file = cluster.directory.path().join("rest.tsv");
        std::fs::write(&file, rest).unwrap();
        cluster.run(&["import", file.to_str().unwrap()]).ended(0);
    }
    cluster.run(&["del", "before"]).ended(0);
    let back = cluster.server(u16::try_from(leader).unwrap());
    cluster.nodes[leader] = Some(back);
    for place in 0..3 {
        let address = cluster.address(place);
        let done = run(&["--endpoints", &address, "--timeout", "20s", "export"]).ended(0);
        assert!(done.text() == expected(&text), "node {} exports something else", place + 1);
    }
    same_logs(&mut cluster);
}

/// Stops the nodes and asserts that their logs are the same bytes where they overlap.
fn same_logs(cluster: &mut Cluster) {
    cluster.nodes.clear();
    let directories: Vec<String> = (0..3).map(|place| cluster.data_dir(place).to_str().unwrap().to_owned()).collect();
    let verify = |directory: &str, to: &str| {
        let text = run(&["log", "verify", "--data-dir", directory, "--to", to]).ended(0).text();
        text.split_whitespace().map(str::to_owned).collect::<Vec<String>>()
    };
    let all: Vec<Vec<String>> = directories.iter().map(|directory| verify(directory, "1000000000")).collect();
    let shortest = all.iter().map(|row| row[1].parse::<u64>().unwrap()).min().unwrap();
    assert!(shortest > 20_000, "{all:?}");
    let to = shortest.to_string();
    let rows: Vec<Vec<String>> = directories.iter().map(|directory| verify(directory, &to)).collect();
    assert_eq!(rows[0].len(), 5);
    assert!(rows.iter().all(|row| *row == rows[0]), "{rows:?}");
}

#[test]
fn interrupted_import_says_how_far_it_is_certain() {
    let cluster = Cluster::start(1);
    let mut command = kvcli();
    command.args(["--endpoints", &cluster.endpoints(), "import", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    let text = lines(10_000);
    std::io::Write::write_all(running.stdin(), text.as_bytes()).unwrap();
    let deadline = Instant::now() + SOON;
    while cluster.run(&["scan", "--count"]).ended(0).text() == "0\n" {
        assert!(Instant::now() < deadline, "nothing is stored");
    }
    kill_process(Pid::from_child(&running.child), Signal::INT).unwrap();
    assert_eq!(support::wait(&mut running.child).code(), Some(3));
    let said = std::io::read_to_string(running.child.stderr.take().unwrap()).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("lines are certainly stored"), "{said}");
}

#[test]
fn reader_that_stops_early_ends_a_scan_quietly() {
    let cluster = Cluster::start(1);
    let file = cluster.directory.path().join("list.tsv");
    let value = "v".repeat(1_000);
    let text = (0..3_000).fold(String::new(), |out, number| out + &format!("k{number}\t{value}\n"));
    std::fs::write(&file, text).unwrap();
    cluster.run(&["import", file.to_str().unwrap()]).ended(0);
    let mut command = kvcli();
    command.args(["--endpoints", &cluster.endpoints(), "scan"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let done = finished(child.wait_with_output().unwrap()).ended(0);
    assert_eq!(done.stderr, "");
}

#[test]
fn bench_measures_a_cluster() {
    let cluster = Cluster::start(1);
    for operation in ["put", "get"] {
        let arguments = ["bench", operation, "--duration", "300ms", "--clients", "2", "--output", "json"];
        let report = cluster.run(&arguments).ended(0).json();
        assert!(report[0]["operations"].as_u64().unwrap() > 0, "{report:?}");
        assert!(report[0]["latency_us"]["p99_9"].as_u64().unwrap() > 0, "{report:?}");
    }
}
