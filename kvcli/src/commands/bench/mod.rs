//! `bench put|get`: throughput and latency as a client sees them.
//!
//! - **Closed loop** (no `--rate`): each of `clients x pipeline` workers starts an operation when its last one is
//!   done. It shows what the cluster can do; a stall slows the workers down and hides most of itself.
//! - **Open loop** (`--rate R`): operation `n` is due at `n / R`, whether or not earlier ones are done. Latency
//!   counts from when it was due, so that a stall counts for everything it held up.
//!
//! Keys lie under `bench/`, a fixed number of them, so that a benchmark does not fill the store.

mod load;
mod pace;

use std::time::Duration;

use bytes::Bytes;

use crate::args::{BenchArgs, BenchCommand};
use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::report;
use crate::run::Session;
use crate::store::Store;

use super::progress::{Cleared, bar};

/// How many keys a benchmark uses.
const KEYS: u64 = 10_000;
/// Most bytes of values in one batch while the keys of `bench get` are written.
const PREPARE_BYTES: u64 = 1 << 20;
/// Most keys in one such batch.
const PREPARE_KEYS: u64 = 1_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Put,
    Get,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

/// What a benchmark measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) operation: &'static str,
    pub(crate) clients: u32,
    pub(crate) pipeline: u32,
    pub(crate) size: u32,
    /// Operations due a second; `None` in a closed loop.
    pub(crate) rate: Option<u64>,
    /// From the first start to the last answer.
    pub(crate) elapsed: Duration,
    /// Operations that were answered well.
    pub(crate) operations: u64,
    /// Operations that failed.
    pub(crate) errors: u64,
    /// Operations that were due and never started, because all workers were busy.
    pub(crate) unsent: u64,
    pub(crate) latency: Latency,
}

impl Report {
    /// Well answered operations a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

/// Measures and prints. Fails when nothing at all was answered well.
pub(crate) async fn run(session: &Session, command: BenchCommand) -> Result<Outcome, Failure> {
    let (operation, args) = match command {
        BenchCommand::Put(args) => (Operation::Put, args),
        BenchCommand::Get(args) => (Operation::Get, args),
    };
    let value = Bytes::from(vec![b'v'; args.size as usize]);
    if operation == Operation::Get {
        prepare(&session.store, &value).await?;
    }
    let stores = (0..args.clients).map(|_| session.store.another()).collect::<Result<Vec<_>, _>>()?;
    let showing = show_seconds(args.duration);
    let outcome = load::run(stores, operation, session.options.consistency, &value, &args).await?;
    drop(showing);
    if let Some(failure) = &outcome.first_failure {
        if outcome.latencies.is_empty() {
            return Err(failure.clone());
        }
        report::remark(&format!("{} operations failed; the first: {}", outcome.errors, failure.message));
    }
    session.printer.print(Answer::Bench(&summary(operation, &args, &outcome)))?;
    Ok(Outcome::Done)
}

/// A bar that counts seconds until the answer is dropped.
fn show_seconds(duration: Duration) -> (AbortOnDrop, Cleared) {
    let bar = bar(Some(duration.as_secs()), "{bar:30} {pos}/{len} s");
    let seconds = bar.clone();
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            seconds.inc(1);
        }
    });
    (AbortOnDrop(task), Cleared(bar))
}

/// Ends a task with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn summary(operation: Operation, args: &BenchArgs, outcome: &load::Measured) -> Report {
    let at = |share: f64| outcome.latencies.value_at_quantile(share);
    Report {
        operation: match operation {
            Operation::Put => "put",
            Operation::Get => "get",
        },
        clients: args.clients,
        pipeline: args.pipeline,
        size: args.size,
        rate: args.rate.map(Into::into),
        elapsed: outcome.elapsed,
        operations: outcome.latencies.len(),
        errors: outcome.errors,
        unsent: outcome.unsent,
        latency: Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: outcome.latencies.max() },
    }
}

/// Writes the keys that `bench get` reads.
async fn prepare(store: &Store, value: &Bytes) -> Result<(), Failure> {
    let batch = (PREPARE_BYTES / (value.len() as u64).max(1)).clamp(1, PREPARE_KEYS);
    let mut next = 0;
    while next < KEYS {
        let end = (next + batch).min(KEYS);
        store.put_batch((next..end).map(|number| (key(number), value.clone())).collect()).await?;
        next = end;
    }
    Ok(())
}

fn key(number: u64) -> Bytes {
    format!("bench/{:08}", number % KEYS).into()
}
