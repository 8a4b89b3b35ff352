//! Writes that must not be done twice, while leaders are killed and answers get lost.
//!
//! Clients add to a counter and append to a list, one write behind the other, without a pause. Whenever a leader dies there
//! are writes on their way: some are in the log and nobody was told. The clients send those again, under their numbers.

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

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dledger::kv::command::Command;
use serde_json::{Value, json};
use support::{Cluster, Running, eventually, kvcli, run, wait};

/// How often a leader is killed.
const KILLS: usize = 12;
/// Clients that add, and clients that append.
const ADDING: usize = 3;
const APPENDING: usize = 3;
/// Writes that are acknowledged between two kills.
const BETWEEN: u64 = 60;

/// A client: one process, one session, one write at a time.
struct Client {
    running: Running,
    answers: std::io::Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(endpoints: &str) -> Self {
        let mut command = kvcli();
        command.args(["--endpoints", endpoints, "--timeout", "60s", "--output", "json", "--keep-going"]);
        let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let answers = BufReader::new(running.child.stdout.take().unwrap()).lines();
        Self { running, answers }
    }

    fn ask(&mut self, line: &str) -> Value {
        writeln!(self.running.stdin(), "{line}").unwrap();
        let answer = self.answers.next().unwrap_or_else(|| panic!("no answer to {line}")).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Ends it; whatever was not answered well is on stderr.
    fn end(mut self) -> String {
        drop(self.running.child.stdin.take());
        wait(&mut self.running.child);
        std::io::read_to_string(self.running.child.stderr.take().unwrap()).unwrap()
    }
}

/// What the clients and the one who kills know of each other.
#[derive(Clone, Default)]
struct Load {
    over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

/// Adds one until it is over; how often it did.
fn add(endpoints: &str, load: &Load) -> u64 {
    let mut client = Client::start(endpoints);
    let (mut added, mut last) = (0, 0);
    while load.goes_on() {
        let sum = client.ask("incr counter")["value"].as_u64().unwrap();
        assert!(sum > last, "{sum} behind {last}");
        (added, last) = (added + 1, sum);
        load.acknowledge();
    }
    assert_eq!(client.end(), "");
    added
}

/// Appends items of its own until it is over, each if the list is still what it was; which it did.
fn append(endpoints: &str, load: &Load, name: usize, file: PathBuf) -> Vec<String> {
    let mut client = Client::start(endpoints);
    let mut done: Vec<String> = Vec::new();
    let mut list = client.ask("get list");
    while load.goes_on() {
        let item = format!("{name}.{}", done.len());
        let longer = format!("{}{item};", list["value"].as_str().unwrap());
        let txn = json!({
            "compare": [{ "key": "list", "target": "mod", "op": "=", "to": list["mod_revision"] }],
            "then": [{ "put": { "key": "list", "value": longer } }, { "get": { "key": "list" } }],
            "else": [{ "get": { "key": "list" } }],
        });
        std::fs::write(&file, txn.to_string()).unwrap();
        let mut answer = client.ask(&format!("txn {}", file.display()));
        if answer["succeeded"] == true {
            done.push(item);
            load.acknowledge();
        }
        list = answer["results"].as_array_mut().unwrap().pop().unwrap();
    }
    let said = client.end();
    assert!(said.lines().all(|line| line.contains("the answer is no")), "{said}");
    done
}

/// How many numbered writes stand in a log more than once: their first answers were lost.
fn repeated(cluster: &Cluster) -> usize {
    let directory = cluster.data_dir(0);
    let records = run(&["log", "cat", "--data-dir", directory.to_str().unwrap(), "--output", "json"]).ended(0);
    let mut times: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for record in records.json() {
        let payload = match &record["payload"] {
            Value::String(text) => text.clone().into_bytes(),
            encoded => STANDARD.decode(encoded["base64"].as_str().unwrap()).unwrap(),
        };
        if record["kind"] == "data"
            && let Ok(Command::Numbered { session, number, .. }) = Command::decode(&payload)
        {
            *times.entry((session.0, number)).or_default() += 1;
        }
    }
    times.values().filter(|times| **times > 1).count()
}

#[test]
fn exactly_once_counts_and_lists_are_exact_after_killed_leaders_and_lost_answers() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["put", "list", ""]).ended(0);
    let (endpoints, load) = (cluster.endpoints(), Load::default());
    let adding: Vec<_> = (0..ADDING)
        .map(|_| {
            let (endpoints, load) = (endpoints.clone(), load.clone());
            thread::spawn(move || add(&endpoints, &load))
        })
        .collect();
    let appending: Vec<_> = (0..APPENDING)
        .map(|name| {
            let (endpoints, load) = (endpoints.clone(), load.clone());
            let file = cluster.directory.path().join(format!("append-{name}"));
            thread::spawn(move || append(&endpoints, &load, name, file))
        })
        .collect();
    for _kill in 0..KILLS {
        let before = load.acknowledged.load(Ordering::SeqCst);
        eventually("writes go on", || (load.acknowledged.load(Ordering::SeqCst) >= before + BETWEEN).then_some(()));
        let leader = cluster.leader();
        cluster.nodes[leader].take().unwrap().kill();
        cluster.restart(leader);
    }
    load.over.store(true, Ordering::SeqCst);
    let added: u64 = adding.into_iter().map(|client| client.join().unwrap()).sum();
    let mut appended: Vec<Vec<String>> = appending.into_iter().map(|client| client.join().unwrap()).collect();

    assert_eq!(cluster.run(&["get", "counter"]).ended(0).text(), format!("{added}\n"));
    let list = cluster.run(&["get", "list"]).ended(0).text();
    let mut found: Vec<Vec<String>> = vec![Vec::new(); APPENDING];
    for item in list.trim_end().split_terminator(';') {
        let (name, _number) = item.split_once('.').unwrap();
        found[name.parse::<usize>().unwrap()].push(item.to_owned());
    }
    assert_eq!(found, appended);
    let items: usize = appended.iter_mut().map(|items| items.len()).sum();
    cluster.stop_all();
    let repeated = repeated(&cluster);
    println!(
        "{KILLS} kills: {added} added, {items} appended, {repeated} of them sent again because their answers were lost"
    );
    assert!(repeated > 0, "no answer was lost, so nothing was shown");
}
