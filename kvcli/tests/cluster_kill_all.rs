//! All three processes are killed at once while scripts write, again and again: every `OK` that a script printed
//! stands for a write that is found afterwards.

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

use std::io::{BufRead, BufReader, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::{Cluster, Running, eventually, kvcli, last_wins};

const ROUNDS: usize = 5;
const WRITERS: usize = 4;
/// Far more than a writer gets done before the kill.
const LINES: usize = 5_000;
/// Acknowledged writes of a round before it.
const BEFORE_THE_KILL: usize = 120;

/// One `kvcli` that is fed `put` lines. It stops at the first without an `OK`.
struct Writer {
    process: Running,
    name: String,
    done: Arc<AtomicUsize>,
    reading: thread::JoinHandle<()>,
    feeding: thread::JoinHandle<()>,
}

impl Writer {
    fn start(cluster: &Cluster, name: String) -> Self {
        let mut command = kvcli();
        command.args(["--endpoints", &cluster.endpoints(), "--timeout", "2s"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Running::start(&mut command);
        let mut pipe = process.child.stdin.take().unwrap();
        let script: String = (0..LINES).map(|number| format!("put {name}/{number} {name}={number}\n")).collect();
        let feeding = thread::spawn(move || {
            // It stops reading when a put fails.
            let _closed = pipe.write_all(script.as_bytes());
        });
        let answers = BufReader::new(process.child.stdout.take().unwrap());
        let done = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&done);
        let reading = thread::spawn(move || {
            for line in answers.lines().map_while(Result::ok) {
                assert_eq!(line, "OK");
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { process, name, done, reading, feeding }
    }

    /// Ends it. Answers the keys and values that were acknowledged: the first ones, as it takes them in order.
    fn end(self) -> Vec<(String, String)> {
        drop(self.process);
        self.reading.join().unwrap();
        self.feeding.join().unwrap();
        let done = self.done.load(Ordering::SeqCst);
        assert!(done < LINES, "the kill came behind the load");
        (0..done).map(|number| (format!("{}/{number}", self.name), format!("{}={number}", self.name))).collect()
    }
}

#[test]
fn scripts_find_every_ok_again_after_all_nodes_were_killed_at_once() {
    let mut cluster = Cluster::start(3);
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let start = |writer| Writer::start(&cluster, format!("round-{round}/writer-{writer}"));
        let writers: Vec<Writer> = (0..WRITERS).map(start).collect();
        eventually("writes are acknowledged", || {
            let done: usize = writers.iter().map(|writer| writer.done.load(Ordering::SeqCst)).sum();
            (done >= BEFORE_THE_KILL).then_some(())
        });
        cluster.kill_all();
        writers.into_iter().for_each(|writer| acknowledged.extend(writer.end()));
        (0..3).for_each(|place| cluster.restart(place));
        let exported = cluster.export(round % 3);
        let found = last_wins(&exported);
        for (key, value) in &acknowledged {
            assert_eq!(found.get(key.as_str()), Some(&value.as_str()), "round {round}: {key} was acknowledged");
        }
    }
    println!("{} acknowledged writes over {ROUNDS} kills of all nodes", acknowledged.len());
    cluster.stop_all();
    cluster.assert_same_logs();
}
