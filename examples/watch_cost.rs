//! What watches cost the writes: `watch_cost [WATCHES] [ROUNDS] [WRITERS] [DIRECTORY]`; in a release build.
//!
//! One replica, asynchronous, so that processing and not the disk is what is measured: each writer puts one key after the
//! other. Short rounds without watches alternate, within one run, with rounds in which so many watches have begun and are
//! never asked again, and rounds in which as many are asked all the time, each for a key of its own. The ratio is that of a
//! round to the one without watches right before it: of the puts a second, and of the puts for each second of processor
//! time of this process, which other load on the machine does not change (Linux). Between two rounds without watches it
//! says how far the figures scatter.
#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "an example shows what it does")]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dledger::kv::{Watch, WatchOptions};
use dledger::{Config, Durability, KvStore};
use tokio::task::JoinSet;

const ROUND: Duration = Duration::from_millis(700);
const KEYS: u64 = 1_000;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn key(number: u64) -> String {
    format!("service/{:05}", number % KEYS)
}

/// Processor time of this process, in ticks of 10 ms; nothing where that cannot be read.
fn ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// Puts of so many writers, over one round: for each second, and for each second of processor time.
async fn puts(store: &KvStore, writers: u64) -> Outcome<[f64; 2]> {
    let (start, used) = (Instant::now(), ticks());
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut done = 0;
            while start.elapsed() < ROUND {
                store.put(key(writer + done * writers), vec![b'v'; 256]).await?;
                done += 1;
            }
            Ok::<_, dledger::WriteError>(done)
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    let done = done as f64;
    Ok([done / start.elapsed().as_secs_f64(), done / ((ticks() - used) / 100.0)])
}

async fn watches(store: &KvStore, count: u64) -> Outcome<Vec<Watch>> {
    let mut watches = Vec::new();
    for number in 0..count {
        let mut watch = store.watch(WatchOptions::key(key(number)).with_previous());
        watch.begin().await?;
        watches.push(watch);
    }
    Ok(watches)
}

fn report(name: &str, rounds: &[[[f64; 2]; 2]]) {
    for (of, unit) in [(0, "second"), (1, "second of processor time")] {
        let mut ratios: Vec<f64> = rounds.iter().map(|[before, with]| with[of] / before[of]).collect();
        ratios.sort_by(f64::total_cmp);
        let (least, median, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
        println!("{name}: puts a {unit}, of those without watches: median {median:.3}, {least:.3} to {most:.3}");
    }
}

async fn run(directory: &Path, (count, rounds, writers): (u64, usize, u64)) -> Outcome<()> {
    let mut config = Config::single(directory.join("1"));
    config.durability = Durability::Async { flush_every: Duration::from_secs(1) };
    let store = KvStore::open(config).await?;
    puts(&store, writers).await?;
    let (mut stalled, mut live, mut none) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let before = puts(&store, writers).await?;
        let idle = watches(&store, count).await?;
        let with_stalled = puts(&store, writers).await?;
        drop(idle);
        let between = puts(&store, writers).await?;
        let told = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for mut watch in watches(&store, count).await? {
            let told = Arc::clone(&told);
            tasks.spawn(async move {
                while let Ok(_changes) = watch.next().await {
                    told.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let with_live = puts(&store, writers).await?;
        tasks.shutdown().await;
        let told = told.load(Ordering::Relaxed) as f64 / ROUND.as_secs_f64();
        println!(
            "round {round}: {:.0} puts/s, {:.0} with {count} stalled; {:.0}, {:.0} with {count} live, which were told \
             {told:.0} changes/s",
            before[0], with_stalled[0], between[0], with_live[0]
        );
        stalled.push([before, with_stalled]);
        live.push([between, with_live]);
        none.push([before, between]);
    }
    report("none", &none);
    report("stalled", &stalled);
    report("live", &live);
    store.shutdown().await;
    Ok(())
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise: u64| arguments.get(at).map_or(Ok(otherwise), |text| text.parse());
    let (count, rounds, writers) = (number(0, 1_000)?, usize::try_from(number(1, 15)?.max(1))?, number(2, 64)?.max(1));
    let directory = match arguments.get(3) {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(directory.path(), (count, rounds, writers)))
}
