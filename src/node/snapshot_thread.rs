//! The thread that does what `snapshot_worker.rs` says, beside the log's own disk thread.
//!
//! A snapshot is written at the speed of the disk while records are synced; it is another thread so that these do not
//! queue behind it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

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
    /// Starts it; `report` is called on it.
    pub(crate) fn start(
        id: NodeId,
        worker: SnapshotWorker,
        report: impl FnMut(SnapshotReport<M>) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, incoming) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let name = format!("dledger-{id}-snap");
        let thread = Builder::new().name(name).spawn(move || run(worker, &incoming, &stop, report))?;
        Ok(Self { orders, stopping, thread })
    }

    /// Hands it an order.
    pub(crate) fn order(&self, order: SnapshotOrder<M>) {
        let _it_panicked = self.orders.send(order);
    }

    /// Gives up the snapshot that is being written and all that waits, and waits for the thread: for a write or two.
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
    orders: &Receiver<SnapshotOrder<M>>,
    stopping: &AtomicBool,
    mut report: impl FnMut(SnapshotReport<M>),
) {
    let mut later = VecDeque::new();
    while let Some(order) = later.pop_front().or_else(|| orders.recv().ok()) {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        let mut between = |worker: &mut SnapshotWorker| {
            while let Ok(order) = orders.try_recv() {
                if let SnapshotOrder::Serve { to, request } = order {
                    report(worker.serve(to, request));
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
