//! The thread that does what `snapshot_worker.rs` says, beside the log's own disk thread.
//!
//! Another thread, so that the syncs of records do not queue behind it; and paced, so that they do not wait for the disk
//! under it either.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::state_machine::StateMachine;
use crate::types::NodeId;

use super::snapshot_worker::{SnapshotOrder, SnapshotReport, SnapshotWorker};

/// The snapshot thread.
pub(crate) struct SnapshotThread<M: StateMachine> {
    orders: Sender<SnapshotOrder<M>>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl<M: StateMachine> SnapshotThread<M> {
    /// Starts it; `report` is called on it. It writes `write_rate` bytes of a snapshot a second, or as fast as it goes for 0.
    pub(crate) fn start(
        id: NodeId,
        worker: SnapshotWorker,
        write_rate: u64,
        report: impl FnMut(SnapshotReport<M>) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, incoming) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let name = format!("dledger-{id}-snap");
        let thread = Builder::new().name(name).spawn(move || run(worker, write_rate, &incoming, &stop, report))?;
        Ok(Self { orders, stopping, thread })
    }

    /// Hands it an order.
    pub(crate) fn order(&self, order: SnapshotOrder<M>) {
        let _it_panicked = self.orders.send(order);
    }

    /// Gives up the snapshot that is being written and all that waits, and waits for the thread: for a write or two, or for a restore.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the snapshot thread panicked");
        }
    }
}

fn run<M: StateMachine>(
    mut worker: SnapshotWorker,
    write_rate: u64,
    orders: &Receiver<SnapshotOrder<M>>,
    stopping: &AtomicBool,
    mut report: impl FnMut(SnapshotReport<M>),
) {
    let mut later = VecDeque::new();
    while let Some(order) = later.pop_front().or_else(|| orders.recv().ok()) {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        let mut paced = 0;
        let mut between = |worker: &mut SnapshotWorker, written: u64| {
            std::thread::sleep(pause(written - paced, write_rate));
            paced = written;
            while let Ok(order) = orders.try_recv() {
                if let SnapshotOrder::Serve { to, want } = order {
                    report(worker.serve(to, want));
                } else {
                    later.push_back(order);
                }
            }
            !stopping.load(Ordering::Acquire)
        };
        let done = worker.perform(order, &mut between);
        done.into_iter().for_each(&mut report);
    }
}

/// How long so many bytes may take at a rate.
fn pause(bytes: u64, rate: u64) -> Duration {
    if rate == 0 {
        return Duration::ZERO;
    }
    Duration::from_nanos(u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_thread_pauses_as_long_as_bytes_take_at_the_rate() {
        assert_eq!(pause(256 << 10, 64 << 20), Duration::from_nanos(3_906_250));
        assert_eq!((pause(1 << 40, 0), pause(0, 1)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(pause(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }
}
