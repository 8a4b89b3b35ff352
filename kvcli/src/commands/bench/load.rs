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
/// Longer latencies are counted as this.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// Most workers of a run: each has a task and a histogram.
const MAX_WORKERS: u32 = 16_384;
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
    if args.clients.saturating_mul(args.pipeline) > MAX_WORKERS {
        return Err(Failure::usage(format!("--clients times --pipeline must be at most {MAX_WORKERS}")));
    }
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
                Ok(()) => match record(&mut seen.latencies, due.elapsed()) {
                    Ok(()) => {}
                    Err(failure) => {
                        seen.first_failure.get_or_insert(failure);
                    }
                },
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

/// A histogram that grows with what it holds, so that thousands of workers can have one each.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new(DIGITS).map_err(|error| Failure::new(Kind::Bug, format!("no histogram: {error}")))
}

/// Adds a latency, in microseconds. `saturating_record` would not let the histogram grow.
fn record(latencies: &mut Histogram<u64>, latency: Duration) -> Result<(), Failure> {
    let micros = u64::try_from(latency.min(LONGEST).as_micros()).unwrap_or(u64::MAX);
    latencies.record(micros).map_err(|error| Failure::new(Kind::Bug, format!("a latency is lost: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_to_three_digits_from_microseconds_to_minutes() {
        let mut latencies = histogram().unwrap();
        for micros in [3, 2_500, 7_000_000, 90_000_000] {
            record(&mut latencies, Duration::from_micros(micros)).unwrap();
        }
        let at = |share: f64| latencies.value_at_quantile(share) as f64;
        for (share, micros) in [(0.25, 3.0), (0.5, 2_500.0), (0.75, 7_000_000.0), (1.0, 90_000_000.0)] {
            assert!((at(share) - micros).abs() <= micros / 1_000.0, "{} is not {micros}", at(share));
        }
    }
}
