//! Starts and joins the threads that block on the disk: writer, preparer, remover, scrub.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::commitlog::{LogReader, LogWriter, PrepareJob, Removal};
use crate::config::Durability;
use crate::env::Clock;
use crate::types::NodeId;

use super::disk_thread::{DiskLoop, DiskOrder, DiskReport};
use super::scrub::Scrub;

/// The threads that block on the disk.
pub(crate) struct DiskThreads {
    orders: Sender<DiskOrder>,
    stopping: Arc<AtomicBool>,
    disk: JoinHandle<()>,
    preparer: JoinHandle<()>,
    remover: JoinHandle<()>,
    scrub: JoinHandle<()>,
    /// Dropped to end the scrub.
    scrubbing: Sender<()>,
}

impl DiskThreads {
    /// Starts all; `report` is called on the disk thread and on the scrub's.
    pub(crate) fn start(
        id: NodeId,
        writer: LogWriter,
        reader: LogReader,
        durability: Durability,
        scrub: Scrub,
        clock: Arc<dyn Clock>,
        report: impl FnMut(DiskReport) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, incoming) = channel();
        let (jobs, preparing) = channel();
        let done = orders.clone();
        let preparer = Builder::new().name(format!("dledger-{id}-prep")).spawn(move || prepare(&preparing, &done))?;
        let (removals, removing) = channel();
        let done = orders.clone();
        let remover = Builder::new().name(format!("dledger-{id}-drop")).spawn(move || remove(&removing, &done))?;
        let (scrubbing, stop_scrub) = channel();
        let (found, tell, time) = (orders.clone(), report.clone(), Arc::clone(&clock));
        let scrub = Builder::new()
            .name(format!("dledger-{id}-scrub"))
            .spawn(move || run_scrub(scrub, &*time, &stop_scrub, &found, tell))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let disk_loop = DiskLoop {
            writer,
            reader,
            durability,
            clock,
            stopping: stop,
            orders: incoming,
            preparer: jobs,
            remover: removals,
            report,
        };
        let disk = Builder::new().name(format!("dledger-{id}-disk")).spawn(move || disk_loop.run())?;
        Ok(Self { orders, stopping, disk, preparer, remover, scrub, scrubbing })
    }

    /// Hands an order to the disk thread. When that thread is gone it has reported why.
    pub(crate) fn order(&self, order: DiskOrder) {
        let _reported = self.orders.send(order);
    }

    /// Finishes what was ordered, as far as the disk has room, syncs, and waits for all threads: blocks for a sync
    /// or two, for what the remover has begun, and for the scrub's step.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.order(DiskOrder::Stop);
        drop(self.scrubbing);
        for thread in [self.disk, self.preparer, self.remover, self.scrub] {
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

/// The remover's loop: ends when the disk thread does.
fn remove(removals: &Receiver<Removal>, done: &Sender<DiskOrder>) {
    while let Ok(removal) = removals.recv() {
        let _disk_thread_ended = done.send(DiskOrder::Removed(removal.run()));
    }
}

/// The scrub's loop: ends when the node stops.
fn run_scrub(
    mut scrub: Scrub,
    clock: &dyn Clock,
    stop: &Receiver<()>,
    disk: &Sender<DiskOrder>,
    mut report: impl FnMut(DiskReport),
) {
    while let Some(due) = scrub.next_deadline() {
        match stop.recv_timeout(due.since(clock.monotonic())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        for block in scrub.step(clock.monotonic()).blocks {
            let _disk_thread_ended = disk.send(DiskOrder::Mend(block));
        }
        report(DiskReport::Scrubbed(scrub.progress()));
    }
}
