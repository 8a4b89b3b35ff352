//! Members come and go, and leadership moves, in clusters of real processes, by commands alone.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "what goes wrong here fails the test, and what is measured is said"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::{Cluster, Finished, Running, SOON, Server, eventually, free_ports, kvcli, last_wins, run};

/// Where node `id` is, of those that come later.
struct Later {
    base: u16,
    nodes: BTreeMap<u64, Server>,
}

impl Later {
    fn new() -> Self {
        Self { base: free_ports(4), nodes: BTreeMap::new() }
    }

    /// Nodes 4 to 7.
    fn address(&self, id: u64) -> String {
        format!("127.0.0.1:{}", self.base + u16::try_from(id - 4).unwrap())
    }

    fn named(&self, id: u64) -> String {
        format!("{id}={}", self.address(id))
    }

    /// Starts a node with an empty directory that waits to be added.
    fn start(&mut self, cluster: &Cluster, id: u64) {
        let directory = cluster.directory.path().join(id.to_string());
        let (address, number) = (self.address(id), id.to_string());
        let join = ["--join", &cluster.endpoints(), "--id", &number, "--listen", &address];
        let server = Server::start(&[&join[..], &["--data-dir", directory.to_str().unwrap()]].concat());
        self.nodes.insert(id, server);
    }
}

fn at(endpoints: &str, arguments: &[&str]) -> Finished {
    run(&[&["--endpoints", endpoints, "--timeout", "20s"], arguments].concat())
}

/// The members and their standings, and who leads.
fn members(endpoints: &str) -> (BTreeMap<u64, String>, Option<u64>) {
    let list = at(endpoints, &["members", "--output", "json"]).ended(0).json().remove(0);
    let standing =
        |member: &serde_json::Value| (member["id"].as_u64().unwrap(), member["standing"].as_str().unwrap().to_owned());
    (list["members"].as_array().unwrap().iter().map(standing).collect(), list["leader"].as_u64())
}

/// Waits until these and no others are members, and all of them vote.
#[track_caller]
fn voters(endpoints: &str, ids: &[u64]) {
    let wanted: BTreeMap<u64, String> = ids.iter().map(|id| (*id, "voter".to_owned())).collect();
    eventually(&format!("the voters are {ids:?}"), || (members(endpoints).0 == wanted).then_some(()));
}

#[track_caller]
fn leader_is(endpoints: &str, id: u64) {
    eventually(&format!("node {id} leads"), || (members(endpoints).1 == Some(id)).then_some(()));
}

/// Puts one key after the other through one process that was told of the first members only.
struct Load {
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Loaded>,
}

struct Loaded {
    /// Numbers whose puts were acknowledged.
    certain: Vec<u64>,
    /// What was said of the others.
    failed: Vec<String>,
    longest_gap: Duration,
}

/// Passes each line on, as it comes.
fn pass(lines: impl Read + Send + 'static, on: mpsc::Sender<Result<(), String>>, good: bool) {
    thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            let _nobody_listens = on.send(if good { Ok(()) } else { Err(line) });
        }
    });
}

impl Load {
    fn start(endpoints: &str) -> Self {
        let mut command = kvcli();
        command.args(["--endpoints", endpoints, "--timeout", "20s", "--keep-going"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Running::start(&mut command);
        let (said, events) = mpsc::channel();
        pass(process.child.stdout.take().unwrap(), said.clone(), true);
        pass(process.child.stderr.take().unwrap(), said, false);
        let (acknowledged, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut loaded = Loaded { certain: Vec::new(), failed: Vec::new(), longest_gap: Duration::ZERO };
            let mut last = Instant::now();
            for number in 0.. {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                process.stdin().write_all(format!("put load-{number} {number}\n").as_bytes()).unwrap();
                match events.recv_timeout(SOON).unwrap() {
                    Ok(()) => {
                        loaded.longest_gap = loaded.longest_gap.max(last.elapsed());
                        last = Instant::now();
                        loaded.certain.push(number);
                        count.store(loaded.certain.len(), Ordering::Release);
                    }
                    Err(said) => loaded.failed.push(said),
                }
            }
            loaded
        });
        Self { acknowledged, stop, thread }
    }

    /// Waits for puts that begin from now on.
    fn goes_on(&self) {
        let before = self.acknowledged.load(Ordering::Acquire);
        eventually("puts are acknowledged", || (self.acknowledged.load(Ordering::Acquire) > before + 20).then_some(()));
    }

    /// Ends the load and asserts that what was acknowledged is there.
    fn end(self, what: &str, address: &str) {
        self.stop.store(true, Ordering::Release);
        let loaded = self.thread.join().unwrap();
        println!(
            "{what}: {} puts acknowledged, longest gap between two {:?}, not acknowledged: {:?}",
            loaded.certain.len(),
            loaded.longest_gap,
            loaded.failed
        );
        assert!(loaded.failed.iter().all(|said| said.contains("outcome unknown")), "{:?}", loaded.failed);
        let exported = at(address, &["export"]).ended(0).text();
        let found = last_wins(&exported);
        let lost: Vec<u64> = loaded
            .certain
            .into_iter()
            .filter(|number| found.get(format!("load-{number}").as_str()) != Some(&number.to_string().as_str()))
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }
}

#[test]
fn members_three_become_five_become_three_others_under_load() {
    let mut cluster = Cluster::start(3);
    let mut later = Later::new();
    cluster.leader();
    let load = Load::start(&cluster.endpoints());
    load.goes_on();
    let first = cluster.endpoints();
    for id in [4, 5] {
        later.start(&cluster, id);
        assert_eq!(at(&first, &["members", "add", &later.named(id)]).ended(0).text(), "OK\n");
    }
    voters(&first, &[1, 2, 3, 4, 5]);
    load.goes_on();
    later.start(&cluster, 6);
    let all = [first, later.address(4), later.address(5), later.address(6)].join(",");
    at(&all, &["members", "replace", "1", &later.named(6)]).ended(0);
    voters(&all, &[2, 3, 4, 5, 6]);
    for id in ["2", "3"] {
        at(&all, &["members", "remove", id]).ended(0);
    }
    voters(&all, &[4, 5, 6]);
    load.goes_on();
    cluster.stop_all();
    load.goes_on();
    // The nodes of before are gone for good; status and members speak of those of now alone.
    let status = at(&later.address(5), &["status", "--output", "json"]).ended(0).json().remove(0);
    let rows: Vec<u64> = status["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_u64().unwrap()).collect();
    assert_eq!(rows, [4, 5, 6]);
    load.end("three became three others", &later.address(4));
}

#[test]
fn members_replace_of_a_killed_node_is_one_command() {
    let mut cluster = Cluster::start(3);
    let mut later = Later::new();
    let leader = cluster.leader();
    let load = Load::start(&cluster.endpoints());
    load.goes_on();
    let dead = (leader + 1) % 3;
    cluster.nodes[dead].take().unwrap().kill();
    later.start(&cluster, 4);
    let old = (dead + 1).to_string();
    at(&cluster.endpoints(), &["members", "replace", &old, &later.named(4)]).ended(0);
    let mut ids: Vec<u64> = (1..=4).filter(|id| *id != dead as u64 + 1).collect();
    voters(&cluster.endpoints(), &ids);
    load.goes_on();
    load.end("a killed node was replaced", &later.address(4));
    // The newcomer carries the majority: one more of the others may go.
    let leader = members(&cluster.endpoints()).1.unwrap();
    let other = ids.iter().position(|id| *id != leader && *id != 4).map(|place| ids.remove(place)).unwrap();
    cluster.nodes[usize::try_from(other).unwrap() - 1].take().unwrap().kill();
    at(&cluster.endpoints(), &["put", "a", "1"]).ended(0);
}

#[test]
fn members_learner_does_not_vote_until_it_is_promoted() {
    let cluster = Cluster::start(1);
    let mut later = Later::new();
    cluster.leader();
    let endpoints = cluster.endpoints();
    later.start(&cluster, 4);
    at(&endpoints, &["members", "add", &later.named(4), "--learner"]).ended(0);
    eventually("the learner has caught up", || {
        let status = at(&endpoints, &["status", "--output", "json"]).ended(0).json().remove(0);
        let [leader, learner] = status["nodes"].as_array().unwrap().as_slice() else { return None };
        assert_eq!(learner["standing"], "learner");
        let same = |name: &str| learner[name].as_u64().is_some() && learner[name] == leader[name];
        (same("applied") && same("matched") && learner["lag"] == 0).then_some(())
    });
    let plain = at(&endpoints, &["members"]).ended(0).text();
    assert_eq!(plain.lines().filter(|line| line.contains("\tlearner\t")).count(), 1, "{plain}");
    assert_eq!(at(&endpoints, &["transfer", "4"]).ended(1).text(), "");
    // A learner that was not heard of for a moment, on a machine with other work, has not caught up as the leader sees it.
    eventually("the learner is promoted", || {
        let asked = at(&endpoints, &["members", "promote", "4"]);
        if asked.stderr.contains("has not caught up") {
            drop(asked.ended(4))
        } else {
            return Some(asked.ended(0));
        }
        None
    });
    voters(&endpoints, &[1, 4]);
    let again = at(&endpoints, &["members", "promote", "4"]).ended(1);
    assert!(again.stderr.contains("votes already"), "{}", again.stderr);
}

#[test]
fn members_removed_leader_hands_over_and_leaves() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader() as u64 + 1;
    let load = Load::start(&cluster.endpoints());
    load.goes_on();
    at(&cluster.endpoints(), &["members", "remove", &leader.to_string()]).ended(0);
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    voters(&cluster.endpoints(), &others);
    load.goes_on();
    let next = members(&cluster.endpoints()).1.unwrap();
    assert!(others.contains(&next), "{next} leads");
    load.end("the leader was removed", &cluster.address(u16::try_from(next - 1).unwrap()));
}

#[test]
fn transfer_moves_leadership_there_and_back_under_load() {
    let cluster = Cluster::start(3);
    let first = cluster.leader() as u64 + 1;
    let second = first % 3 + 1;
    let load = Load::start(&cluster.endpoints());
    for _round in 0..3 {
        for to in [second, first] {
            load.goes_on();
            assert_eq!(cluster.run(&["transfer", &to.to_string()]).ended(0).text(), "OK\n");
            assert_eq!(members(&cluster.endpoints()).1, Some(to));
        }
    }
    assert_eq!(cluster.run(&["transfer", &first.to_string()]).ended(0).text(), "OK\n", "it leads already");
    load.end("leadership moved six times", &cluster.address(0));
}

#[test]
fn members_preferred_leader_takes_over_and_again_after_its_return() {
    let mut cluster = Cluster::start(3);
    let preferred = (cluster.leader() as u64 + 1) % 3 + 1;
    let endpoints = cluster.endpoints();
    at(&endpoints, &["members", "prefer", &preferred.to_string(), "10"]).ended(0);
    leader_is(&endpoints, preferred);
    let place = usize::try_from(preferred).unwrap() - 1;
    cluster.nodes[place].take().unwrap().kill();
    eventually("another one leads", || members(&endpoints).1.filter(|leader| *leader != preferred));
    at(&endpoints, &["put", "a", "1"]).ended(0);
    cluster.restart(place);
    leader_is(&endpoints, preferred);
    assert_eq!(at(&endpoints, &["get", "a"]).ended(0).text(), "1\n");
}

#[test]
fn members_wiped_directory_under_its_old_number_is_refused() {
    let mut cluster = Cluster::start(3);
    let place = (cluster.leader() + 1) % 3;
    let (id, endpoints) = (place as u64 + 1, cluster.endpoints());
    let (number, address) = (id.to_string(), cluster.address(u16::try_from(place).unwrap()));
    let directory = cluster.data_dir(u16::try_from(place).unwrap());
    cluster.nodes[place].take().unwrap().kill();
    std::fs::remove_dir_all(&directory).unwrap();
    let start = ["--join", &endpoints, "--id", &number, "--listen", &address];
    let _wiped = Server::start(&[&start[..], &["--data-dir", directory.to_str().unwrap()]].concat());
    let node = format!("{id}={address}");
    let member = at(&endpoints, &["members", "add", &node]).ended(1);
    assert!(member.stderr.contains("is a member already"), "{}", member.stderr);
    at(&endpoints, &["members", "remove", &number]).ended(0);
    let used = at(&endpoints, &["members", "add", &node]).ended(4);
    assert!(used.stderr.contains("numbers are never used again"), "{}", used.stderr);
    assert_eq!(members(&endpoints).0.len(), 2);
}

#[test]
fn members_that_cannot_be_are_refused_with_a_word_of_what_to_do() {
    let cluster = Cluster::start(3);
    let strangers = Cluster::start(1);
    let mut later = Later::new();
    cluster.leader();
    strangers.leader();
    later.start(&cluster, 4);
    let endpoints = cluster.endpoints();
    let unused = format!("5={}", later.address(5));
    let renamed = format!("6={}", later.address(4));
    let foreign = format!("1={}", strangers.address(0));
    for (arguments, code, word) in [
        (&["members", "add", &unused][..], 4, "--join"),
        (&["members", "add", &renamed], 4, "is node 4, not node 6"),
        (&["members", "add", &foreign], 4, "belongs to cluster"),
        (&["members", "replace", "9", &later.named(4)], 1, "not a member"),
        (&["members", "remove", "9"], 1, "not a member"),
        (&["members", "promote", "9"], 1, "not a member"),
        (&["members", "promote", "1"], 1, "votes already"),
        (&["members", "prefer", "9", "1"], 1, "not a member"),
        (&["transfer", "9"], 1, "not a voter"),
        (&["members", "remove", "x"], 2, "x"),
        (&["members", "add"], 2, "ID=ADDR"),
    ] {
        let ended = at(&endpoints, arguments).ended(code);
        assert!(ended.stderr.contains(word) && ended.stdout.is_empty(), "{arguments:?}: {}", ended.stderr);
        let lines = ended.stderr.lines().count();
        assert_eq!(lines, 1, "{}", ended.stderr);
    }
    let alone = at(&strangers.endpoints(), &["members", "remove", "1"]).ended(4);
    assert!(alone.stderr.contains("last voter"), "{}", alone.stderr);
    let kind = at(&endpoints, &["--output", "json", "members", "remove", "9"]).ended(1);
    assert!(kind.stderr.starts_with("{\"error\":{\"kind\":\"no\""), "{}", kind.stderr);
    voters(&endpoints, &[1, 2, 3]);
}

#[test]
fn members_are_not_removed_while_the_rest_would_have_no_majority() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (dead, living) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[dead].take().unwrap().kill();
    let endpoints = cluster.endpoints();
    let number = |place: usize| (place + 1).to_string();
    // A node is taken for dead once it has been silent for some time.
    eventually("the removal is refused", || {
        let refused = at(&endpoints, &["transfer", &number(dead)]);
        (refused.code == 4).then_some(())
    });
    let refused = at(&endpoints, &["members", "remove", &number(living)]).ended(4);
    assert!(refused.stderr.contains("remove those that are dead first"), "{}", refused.stderr);
    at(&endpoints, &["members", "remove", &number(dead)]).ended(0);
    let mut left = [leader as u64 + 1, living as u64 + 1];
    left.sort_unstable();
    voters(&endpoints, &left);
}

#[test]
fn members_of_no_cluster_are_unavailable() {
    let nowhere = format!("127.0.0.1:{}", free_ports(1));
    for arguments in [&["members"][..], &["members", "remove", "1"], &["transfer", "1"]] {
        let ended = run(&[&["--endpoints", &nowhere, "--timeout", "1s"], arguments].concat()).ended(3);
        assert!(ended.stderr.contains("unavailable"), "{}", ended.stderr);
    }
    let help = run(&["help", "members"]).ended(0).text();
    assert!(help.contains("Exit codes") && help.contains("replace"), "{help}");
}

#[test]
fn serve_with_join_and_cluster_is_wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let both = ["serve", "--id", "4", "--join", "127.0.0.1:1", "--cluster", "4=127.0.0.1:2", "--data-dir", data];
    let ended = run(&both).ended(2);
    assert!(ended.stderr.contains("exclude each other"), "{}", ended.stderr);
    assert!(run(&["serve", "--join", "127.0.0.1:1", "--data-dir", data]).ended(2).stderr.contains("--id"));
    assert!(
        run(&["serve", "--id", "4", "--join", "nowhere", "--data-dir", data]).ended(2).stderr.contains("HOST:PORT")
    );
    let shown = run(&["serve", "--id", "4", "--join", "127.0.0.1:1", "--data-dir", data, "--print-config"]).ended(0);
    let line = shown.text().lines().find(|line| line.contains("join")).map(str::to_owned).unwrap();
    assert!(line.contains("127.0.0.1:1") && line.contains("--join"), "{line}");
}
