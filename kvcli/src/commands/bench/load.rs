//! The workers of a benchmark.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::args::BenchArgs;
use crate::exit::{Failure, Kind};
use crate::store::{Consistency, Store};

use super::pace::Pace;
use super::{Operation, key};

/// Significant digits of a latency.
const DIGITS: u8 = 3;
/// Pause of a worker whose operation failed, so that a cluster that is away is not asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(10);
/// Keys of two workers are this far apart at the start.
const STRIDE: u64 = 101;

/// What the workers saw.
pub(super) struct Measured {
    /// Microseconds of well answered operations.
    pub(super) latencies: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) first_failure: Option<Failure>,
    pub(super) unsent: u64,
    pub(super) elapsed: Duration,
}

/// When a worker starts its next operation.
#[derive(Clone)]
enum Schedule {
    Closed { end: Instant },
    Open(Arc<Pace>),
}

impl Schedule {
    /// The time from which latency counts; `None` when the run is over.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { end } => Some(Instant::now()).filter(|now| now < end),
            Self::Open(pace) => pace.next().await,
        }
    }
}

/// Stops the clock of an open loop when the run ends or is abandoned.
struct StopOnDrop(Option<Arc<Pace>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(pace) = &self.0 {
            pace.stop();
        }
    }
}

#[derive(Clone)]
struct Worker {
    store: Store,
    operation: Operation,
    consistency: Consistency,
    value: Bytes,
    schedule: Schedule,
}

/// Runs `--pipeline` workers on each of the stores.
pub(super) async fn run(
    stores: Vec<Store>,
    operation: Operation,
    consistency: Consistency,
    value: &Bytes,
    args: &BenchArgs,
) -> Result<Measured, Failure> {
    let start = Instant::now();
    let pace = args.rate.map(|rate| Pace::start(rate.get(), args.duration));
    let _stop = StopOnDrop(pace.clone());
    let schedule = match &pace {
        Some(pace) => Schedule::Open(Arc::clone(pace)),
        None => Schedule::Closed { end: start + args.duration },
    };
    let mut workers = JoinSet::new();
    for store in stores {
        for _ in 0..args.pipeline {
            let schedule = schedule.clone();
            let worker = Worker { store: store.clone(), operation, consistency, value: value.clone(), schedule };
            workers.spawn(worker.work(workers.len() as u64 * STRIDE, histogram()?));
        }
    }
    let mut all =
        Measured { latencies: histogram()?, errors: 0, first_failure: None, unsent: 0, elapsed: Duration::ZERO };
    while let Some(one) = workers.join_next().await {
        let one = one.map_err(|error| Failure::new(Kind::Bug, format!("a worker of the benchmark died: {error}")))?;
        all.latencies
            .add(&one.latencies)
            .map_err(|error| Failure::new(Kind::Bug, format!("latencies do not add up: {error}")))?;
        all.errors += one.errors;
        all.first_failure = all.first_failure.or(one.first_failure);
    }
    all.elapsed = start.elapsed();
    all.unsent = pace.map_or(0, |pace| pace.unsent());
    Ok(all)
}

impl Worker {
    async fn work(self, mut next_key: u64, latencies: Histogram<u64>) -> Measured {
        let mut seen = Measured { latencies, errors: 0, first_failure: None, unsent: 0, elapsed: Duration::ZERO };
        while let Some(due) = self.schedule.next().await {
            let done = self.once(key(next_key)).await;
            next_key += 1;
            match done {
                Ok(()) => {
                    let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                    seen.latencies.saturating_record(micros);
                }
                Err(failure) => {
                    seen.errors += 1;
                    seen.first_failure.get_or_insert(failure);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        seen
    }

    async fn once(&self, key: Bytes) -> Result<(), Failure> {
        match self.operation {
            Operation::Put => self.store.put(key, self.value.clone()).await.map(|_revision| ()),
            Operation::Get => match self.store.get(key, self.consistency).await? {
                Some(_pair) => Ok(()),
                None => {
                    Err(Failure::new(Kind::NotFound, "a key of the benchmark is gone; is someone deleting bench/?"))
                }
            },
        }
    }
}

/// A histogram that grows with what it holds.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new(DIGITS).map_err(|error| Failure::new(Kind::Bug, format!("no histogram: {error}")))
}
