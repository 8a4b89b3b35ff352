//! A writer at a follower goes on when the leader dies, and soon; a leader that slept through its replacement answers
//! nothing from before it.

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

use std::time::{Duration, Instant};

use bytes::Bytes;
use dledger::{Client, ClientOptions, Consistency};
use rustix::process::Signal;
use support::{Cluster, SOON, eventually};

/// Leaders killed, one after the other.
const KILLS: usize = 3;
/// Well within a second on a machine at rest; this leaves room for a busy one.
const BOUND: Duration = Duration::from_secs(3);

fn client(endpoint: String) -> Client {
    Client::new(ClientOptions { endpoints: vec![endpoint], timeout: Duration::from_secs(5), cluster: None }).unwrap()
}

fn address(cluster: &Cluster, place: usize) -> String {
    cluster.address(u16::try_from(place).unwrap())
}

/// Puts one key after another until a put that began behind `killed` is acknowledged.
async fn write_over(client: Client, mut killed: tokio::sync::oneshot::Receiver<Instant>) -> (Instant, Instant) {
    let (mut at, deadline) = (None, Instant::now() + SOON);
    for number in 0_u64.. {
        let begun = Instant::now();
        let put = client.put(Bytes::from(format!("key-{}", number % 64)), Bytes::from(number.to_string())).await;
        at = at.or_else(|| killed.try_recv().ok());
        if let (Ok(_revision), Some(at)) = (put, at)
            && begun >= at
        {
            return (at, Instant::now());
        }
        assert!(Instant::now() < deadline, "no write is acknowledged again");
    }
    unreachable!("there is always a next number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_at_a_follower_goes_on_soon_after_each_leader_is_killed() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["put", "a", "1"]).ended(0);
    for _kill in 0..KILLS {
        let leader = cluster.leader();
        let (tell, killed) = tokio::sync::oneshot::channel();
        let writer = tokio::spawn(write_over(client(address(&cluster, (leader + 1) % 3)), killed));
        let before = cluster.numbers("committed")[leader].unwrap();
        eventually("the writer is at work", || {
            cluster.numbers("committed")[leader].filter(|committed| *committed > before + 50)
        });
        let server = cluster.nodes[leader].take().unwrap();
        let at = Instant::now();
        server.signal(Signal::KILL);
        tell.send(at).unwrap();
        let (at, acknowledged) = writer.await.unwrap();
        let gap = acknowledged - at;
        println!("a write was acknowledged again after {} ms", gap.as_millis());
        assert!(gap < BOUND, "a write was acknowledged again only after {gap:?}");
        drop(server);
        cluster.restart(leader);
        eventually("the killed node catches up", || {
            let applied = cluster.numbers("applied");
            applied.iter().all(|at| at.is_some() && *at == applied[0]).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_that_was_paused_answers_nothing_from_before_its_replacement() {
    let cluster = Cluster::start(3);
    cluster.run(&["put", "a", "old"]).ended(0);
    let leader = cluster.leader();
    let paused = cluster.nodes[leader].as_ref().unwrap();
    // Its connection is open, and it takes the paused node for the leader.
    let near = client(address(&cluster, leader));
    near.put(Bytes::from("a"), Bytes::from("old")).await.unwrap();
    let far = client(address(&cluster, (leader + 1) % 3));
    paused.signal(Signal::STOP);
    let stopped = Instant::now();
    while let Err(error) = far.put(Bytes::from("a"), Bytes::from("new")).await {
        assert!(stopped.elapsed() < SOON, "the paused leader is not replaced: {error}");
    }
    println!("a paused leader was replaced after {} ms", stopped.elapsed().as_millis());
    // Most of these lie in the paused node's socket when it wakes.
    let reads: Vec<_> = (0..16)
        .map(|_number| {
            let near = near.clone();
            tokio::spawn(async move { near.get(Bytes::from("a"), Consistency::Linearizable).await })
        })
        .collect();
    let late = tokio::spawn({
        let near = near.clone();
        async move { near.put(Bytes::from("late"), Bytes::from("1")).await }
    });
    // One that is sent only behind the wake-up must not be answered with the old value either.
    paused.signal(Signal::CONT);
    let mut answered = 0;
    for read in reads {
        if let Ok(found) = read.await.unwrap() {
            assert_eq!(found.unwrap().value, Bytes::from("new"), "a stale answer to a linearizable read");
            answered += 1;
        }
    }
    assert!(answered > 0, "no read was answered within its timeout");
    if late.await.unwrap().is_ok() {
        let found = far.get(Bytes::from("late"), Consistency::Linearizable).await.unwrap();
        assert_eq!(found.unwrap().value, Bytes::from("1"), "an acknowledged write is lost");
    }
    // Awake for good: it follows, and serves what the others know.
    let found = near.get(Bytes::from("a"), Consistency::Linearizable).await.unwrap();
    assert_eq!(found.unwrap().value, Bytes::from("new"));
}
