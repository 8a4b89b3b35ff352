//! When operations of an open loop are due.
//!
//! A thread of its own keeps the time: the runtime's timers are exact to a millisecond only, which would show up
//! as latency. It hands out one permit per due operation; a worker takes a permit and with it the next due time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Shortest sleep: operations due closer together are handed out together.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);
/// Longest sleep, so that an abandoned run ends soon.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// The schedule of one run.
pub(super) struct Pace {
    start: Instant,
    end: Instant,
    rate: u64,
    due: Semaphore,
    taken: AtomicU64,
}

impl Pace {
    /// Starts the clock.
    pub(super) fn start(rate: u64, duration: Duration) -> Arc<Self> {
        let start = Instant::now();
        let due = Semaphore::new(0);
        let pace = Arc::new(Self { start, end: start + duration, rate, due, taken: AtomicU64::new(0) });
        let clock = Arc::clone(&pace);
        thread::spawn(move || clock.keep());
        pace
    }

    /// When the next operation is due, given once that time has come; `None` behind the end.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        Some(self.start + self.offset(self.taken.fetch_add(1, Ordering::Relaxed)))
    }

    /// Operations that were due before the end and were not taken.
    pub(super) fn unsent(&self) -> u64 {
        self.due_by(self.end).saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Ends the schedule early.
    pub(super) fn stop(&self) {
        self.due.close();
    }

    fn offset(&self, number: u64) -> Duration {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many operations are due by `now`: those whose offset has passed.
    fn due_by(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos * u128::from(self.rate) / 1_000_000_000).unwrap_or(u64::MAX)
    }

    fn keep(&self) {
        let mut issued = 0;
        while !self.due.is_closed() {
            let now = Instant::now();
            if now >= self.end {
                break;
            }
            // One more than are due by now: operation 0 is due at the start.
            let wanted = self.due_by(now) + 1;
            let more = usize::try_from(wanted - issued).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS / 2);
            self.due.add_permits(more);
            issued += more as u64;
            let next = self.start + self.offset(issued);
            thread::sleep(next.saturating_duration_since(now).clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
        }
        self.due.close();
    }
}
