//! What numbering writes costs: puts with and without a session, in turns, through one client and through the embedded
//! handle.
//!
//! `cargo run --release --example session_cost -- 1500` takes turns of so many milliseconds.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use dledger::client::{Client, ClientOptions};
use dledger::{Config, KvStore};
use tokio::task::JoinSet;

/// Turns of each kind; the median counts.
const TURNS: usize = 5;
/// How long a turn is when nothing is said of it.
const SHORT_MS: u64 = 20;
const VALUE: [u8; 256] = [b'v'; 256];

/// A way to put.
#[derive(Clone)]
enum Way {
    Remote(Client),
    Embedded(KvStore),
}

impl Way {
    async fn put(&self, key: Bytes) -> Result<(), String> {
        let value = Bytes::from_static(&VALUE);
        match self {
            Self::Remote(client) => client.put(key, value).await.map(drop).map_err(|error| error.to_string()),
            Self::Embedded(store) => store.put(key, value).await.map(drop).map_err(|error| error.to_string()),
        }
    }
}

/// Puts a second, and the middle of how long one took, with so many callers.
async fn measure(way: &Way, callers: usize, turn: Duration) -> Result<(f64, Duration), String> {
    let (started, mut tasks) = (Instant::now(), JoinSet::new());
    for caller in 0..callers {
        let way = way.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            while started.elapsed() < turn {
                let asked = Instant::now();
                way.put(format!("{caller}/{}", took.len() % 1000).into()).await?;
                took.push(asked.elapsed());
            }
            Ok::<_, String>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = tasks.join_next().await {
        all.extend(took.map_err(|error| error.to_string())??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    all.sort_unstable();
    Ok((all.len() as f64 / elapsed, all.get(all.len() / 2).copied().unwrap_or_default()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let turn = std::env::args().nth(1).map_or(Ok(SHORT_MS), |text| text.parse()).map(Duration::from_millis)?;
    let directory = tempfile::tempdir()?;
    let store = KvStore::open(Config { listen: "127.0.0.1:0".to_owned(), ..Config::single(directory.path()) }).await?;
    let endpoints = vec![store.node().address().to_string()];
    let client = Client::new(ClientOptions { endpoints, timeout: Duration::from_secs(20), cluster: None })?;
    let ways = [
        ("remote", Way::Remote(client.clone()), Way::Remote(client.unnumbered())),
        ("embedded", Way::Embedded(store.clone()), Way::Embedded(store.unnumbered())),
    ];
    for (name, numbered, unnumbered) in &ways {
        for callers in [1, 64, 512] {
            let mut turns = [Vec::new(), Vec::new()];
            for _turn in 0..TURNS {
                for (of, way) in turns.iter_mut().zip([numbered, unnumbered]) {
                    of.push(measure(way, callers, turn).await?);
                }
            }
            for (kind, mut of) in ["numbered", "unnumbered"].into_iter().zip(turns) {
                of.sort_by(|one, other| one.0.total_cmp(&other.0));
                let (rate, middle) = of.get(TURNS / 2).copied().unwrap_or_default();
                println!("{name:8} {callers:4} callers, {kind:10}: {rate:9.0} puts/s, p50 {middle:?}");
            }
        }
    }
    store.shutdown().await;
    Ok(())
}
