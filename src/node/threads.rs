//! Starts and joins the disk thread and the preparer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::commitlog::{LogReader, LogWriter, PrepareJob};
use crate::config::Durability;
use crate::env::Clock;
use crate::types::NodeId;

use super::disk_thread::{DiskLoop, DiskOrder, DiskReport};

/// The two threads that block on the disk.
pub(crate) struct DiskThreads {
    orders: Sender<DiskOrder>,
    stopping: Arc<AtomicBool>,
    disk: JoinHandle<()>,
    preparer: JoinHandle<()>,
}

impl DiskThreads {
    /// Starts both; `report` is called on the disk thread.
    pub(crate) fn start(
        id: NodeId,
        writer: LogWriter,
        reader: LogReader,
        durability: Durability,
        clock: Arc<dyn Clock>,
        report: impl FnMut(DiskReport) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, incoming) = channel();
        let (jobs, preparing) = channel();
        let done = orders.clone();
        let preparer = Builder::new().name(format!("dledger-{id}-prep")).spawn(move || prepare(&preparing, &done))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let disk_loop =
            DiskLoop { writer, reader, durability, clock, stopping: stop, orders: incoming, preparer: jobs, report };
        let disk = Builder::new().name(format!("dledger-{id}-disk")).spawn(move || disk_loop.run())?;
        Ok(Self { orders, stopping, disk, preparer })
    }

    /// Hands an order to the disk thread. When that thread is gone it has reported why.
    pub(crate) fn order(&self, order: DiskOrder) {
        let _reported = self.orders.send(order);
    }

    /// Finishes what was ordered, as far as the disk has room, syncs, and waits for both threads: blocks for a sync
    /// or two.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.order(DiskOrder::Stop);
        for thread in [self.disk, self.preparer] {
            if thread.join().is_err() {
                tracing::error!("a disk thread panicked");
            }
        }
    }
}

/// The preparer's loop: ends when the disk thread does.
fn prepare(jobs: &Receiver<PrepareJob>, done: &Sender<DiskOrder>) {
    while let Ok(job) = jobs.recv() {
        let _disk_thread_ended = done.send(DiskOrder::Prepared(job.run()));
    }
}
