//! Scripted stories about the core, told in `tests/raft/*.txt`.
//!
//! A file opens with its story (lines that start with `#`). A line that starts with `>` is a command; below it stand
//! the messages and events that it caused, which are compared. `UPDATE_TRANSCRIPTS=1 cargo test --test
//! raft_transcripts` writes them anew; read the difference before you keep it.
//!
//! ```text
//! > cluster 3                  three nodes with empty logs; `cluster 3 500ms`: who promise their leader so much
//! > node 1 term=3 log=1,1,3    before `cluster`: node 1 starts with this log (all durable); also committed=2
//! > lead 1                     node 1 times out and is elected, and all comes to rest; nothing of it is shown
//! > timeout 1                  time moves to node 1's next deadline and node 1 sees it
//! > deliver [from 1] [to 2]    all that is under way arrives, and what that causes (with a filter: only that)
//! > drop [from 1] [to 2]       it is lost instead
//! > again                      the packet that was last delivered arrives once more
//! > keep from 1 to 2           what is under way there is put aside ...
//! > late                       ... and arrives now
//! > propose 1 2                node 1 is given two records
//! > join 4                     node 4 starts with an empty disk; it was not there when the cluster was formed
//! > change 1 add 4             node 1 is asked for a learner that is promoted by itself; also `learner 4`,
//!                              `promote 4`, `remove 3`, `replace 3 4`, `prefer 2 9`
//! > transfer 1 2               node 1 is asked to give its office to node 2
//! > read 2 7                   a caller of node 2 asks for a read index, as number 7; `lease 2 7`: by lease, if there is one
//! > cut 1 2, cut 1>2, heal     nothing arrives between them / in that direction / all arrives again
//! > close 1 2, connect 1 2     the control connection between them goes and comes
//! > hold 2, go 2, done 2       the disk of node 2 hangs / works again / completes one write
//! > crash 1, restart 1
//! > run 300ms                  time runs by itself; only elections and reads are shown
//! > state, > logs              all nodes in a line each
//! ```

#![allow(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test's own support: it must fail loudly, and is shared between test binaries"
)]

mod raft_support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use dledger::raft::{Change, Membership};
use dledger::types::NodeId;
use raft_support::cluster::{Cluster, disk_of};
use raft_support::node::{Disk, Packet, member, members};

/// One file's run.
#[derive(Default)]
struct Story {
    disks: BTreeMap<u64, Disk>,
    cluster: Option<Cluster>,
    kept: Vec<Packet>,
}

impl Story {
    fn run(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |place: usize| words[place].parse::<u64>().expect("a number");
        if words[0] == "node" {
            self.disks.insert(number(1), disk_from(&words[1..]));
            return Vec::new();
        }
        if words[0] == "cluster" {
            let disk = |id| (id, self.disks.remove(&id).unwrap_or_default());
            let disks: BTreeMap<u64, Disk> = (1..=number(1)).map(disk).collect();
            let read_lease = words.get(2).map_or(Duration::ZERO, |text| humantime::parse_duration(text).unwrap());
            let formed = Membership { read_lease, ..members(number(1)) };
            self.cluster = Some(Cluster::with(formed, disks));
            return self.lines();
        }
        let cluster = self.cluster.as_mut().expect("the story has a cluster");
        cluster.verbose = words[0] != "run";
        match words[0] {
            "lead" => {
                cluster.elect(number(1));
                cluster.lines.clear();
            }
            "timeout" => cluster.tick(number(1)),
            "deliver" if words.len() == 1 => cluster.deliver_all(),
            "deliver" | "drop" => cluster.pick(after(&words, "from"), after(&words, "to"), words[0] == "deliver"),
            "keep" => self.kept.extend(cluster.take(after(&words, "from"), after(&words, "to"))),
            "late" => {
                for packet in std::mem::take(&mut self.kept) {
                    cluster.deliver(&packet);
                }
            }
            "again" => {
                let packet = cluster.last_delivered.clone().expect("something was delivered");
                cluster.deliver(&packet);
            }
            "propose" => {
                if !cluster.propose(number(1), number(2)) {
                    cluster.lines.push(format!("{} does not lead", words[1]));
                }
            }
            "join" => cluster.join(number(1)),
            "change" => {
                if let Err(refused) = cluster.change(number(1), &change(&words[2..])) {
                    cluster.lines.push(format!("{} refuses: {refused}", words[1]));
                }
            }
            "transfer" => {
                if let Err(refused) = cluster.transfer(number(1), number(2)) {
                    cluster.lines.push(format!("{} refuses: {refused}", words[1]));
                }
            }
            "read" => cluster.read(number(1), number(2)),
            "lease" => cluster.lease_read(number(1), number(2)),
            "cut" => match words[1].split_once('>') {
                Some((from, to)) => {
                    cluster.cuts.insert((from.parse().unwrap(), to.parse().unwrap()));
                }
                None => cluster.cuts.extend([(number(1), number(2)), (number(2), number(1))]),
            },
            "heal" => cluster.cuts.clear(),
            "close" => cluster.connection(number(1), number(2), false),
            "connect" => cluster.connection(number(1), number(2), true),
            "hold" => cluster.hold_disk(number(1), true),
            "go" => cluster.hold_disk(number(1), false),
            "done" => assert!(cluster.complete_one(number(1)), "nothing is being written"),
            "crash" => cluster.crash(number(1)),
            "restart" => cluster.restart(number(1)),
            "run" => cluster.run(humantime::parse_duration(words[1]).unwrap()),
            "state" => cluster.lines.extend(cluster.state()),
            "logs" => {
                for id in cluster.nodes.keys() {
                    let terms: Vec<String> = cluster.terms(*id).iter().map(u64::to_string).collect();
                    cluster.lines.push(format!("{id} log {}", terms.join(" ")));
                }
            }
            other => panic!("no such command: {other}"),
        }
        self.lines()
    }

    fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cluster.as_mut().expect("the story has a cluster").lines)
    }
}

/// `add 4`, `learner 4`, `promote 4`, `remove 3`, `replace 3 4`, `prefer 2 9`
fn change(words: &[&str]) -> Change {
    let number = |place: usize| words[place].parse::<u64>().expect("a number");
    let id = NodeId(number(1));
    match words[0] {
        "add" => Change::AddLearner { member: member(number(1)), promote: true },
        "learner" => Change::AddLearner { member: member(number(1)), promote: false },
        "promote" => Change::Promote { id },
        "remove" => Change::Remove { id },
        "replace" => Change::Replace { old: id, new: member(number(2)) },
        "prefer" => Change::Prioritise { id, priority: u8::try_from(number(2)).expect("a priority") },
        other => panic!("no such change: {other}"),
    }
}

fn after(words: &[&str], name: &str) -> Option<u64> {
    let place = words.iter().position(|word| *word == name)?;
    Some(words[place + 1].parse().expect("a node"))
}

/// `1 term=3 vote=2 log=1,1,3 committed=2`
fn disk_from(words: &[&str]) -> Disk {
    let mut given: BTreeMap<&str, &str> = words[1..].iter().map(|word| word.split_once('=').unwrap()).collect();
    let mut number = |name: &str| given.remove(name).map_or(0, |text| text.parse::<u64>().unwrap());
    let (term, vote, committed) = (number("term"), number("vote"), number("committed"));
    let terms: Vec<u64> =
        given.remove("log").map_or(Vec::new(), |list| list.split(',').map(|term| term.parse().unwrap()).collect());
    assert!(given.is_empty(), "unknown: {given:?}");
    let mut disk = disk_of(0, term, &terms, committed);
    disk.vote.voted_for = vote.into();
    disk
}

/// The file as it reads when its commands are run now.
fn replay(text: &str) -> String {
    let mut story = Story::default();
    let mut out = String::new();
    let mut in_output = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(out, "{line}").unwrap();
            for output in story.run(command) {
                writeln!(out, "{output}").unwrap();
            }
            in_output = true;
        } else if line.starts_with('#') || line.is_empty() || !in_output {
            in_output = !(line.starts_with('#') || line.is_empty());
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft").join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with('#'), "{name} opens with its story");
    let now = replay(&text);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let first = text.lines().zip(now.lines()).position(|(was, is)| was != is);
    let differs = || first.map(|line| format!("line {}: {:?}", line + 1, now.lines().nth(line)));
    assert!(text == now, "{name} tells another story, from {:?}\n{now}", differs());
}

/// One test a file.
macro_rules! stories {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn transcripts_all_files_are_run() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft");
            let mut files: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            files.sort();
            let mut run = vec![$(stringify!($name).to_owned()),*];
            run.sort();
            assert_eq!(files, run);
        }
    };
}

stories! {
    election_three_nodes_elect_one
    election_split_vote_is_settled_by_time
    election_rejoining_node_disturbs_nobody
    election_closed_connection_replaces_the_leader_at_once
    election_broken_connection_alone_elects_nobody
    election_one_way_partition_ends_a_deaf_leader
    election_own_vote_counts_once_durable
    election_leader_crash_and_return
    election_stale_leader_is_told
    replication_diverged_log_is_repaired_a_term_at_a_time
    replication_pipeline_fills_the_window_and_flows_again
    replication_lost_append_is_found_by_the_next_heartbeats
    replication_duplicates_and_delays_change_nothing
    commit_old_terms_are_not_counted
    commit_news_leave_at_once
    commit_divergent_durable_tail_is_not_counted
    commit_does_not_wait_for_the_leaders_disk
    disk_cut_and_rewritten_is_not_vouched_for
    disk_hung_leader_hands_over
    disk_all_hung_nobody_steps_down
    read_index_leader_and_follower
    read_index_lost_question_times_out
    lease_read_takes_no_round_until_the_lease_is_over
    lease_killed_leader_is_replaced_when_the_promises_end
    members_three_become_four_and_a_dead_one_leaves
    members_removed_leader_hands_over
    members_lost_leader_leaves_a_joint_change_to_the_next
    transfer_brings_the_target_up_to_date_first
    transfer_to_a_node_that_falls_silent_is_given_up
}
