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

use support::{Cluster, Finished, Running, SOON, eventually, free_ports, kvcli, last_wins, run};

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
