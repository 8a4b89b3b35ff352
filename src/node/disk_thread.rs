//! The disk thread's loop: group commit without timers.
//!
//! ```text
//!   event loop ──tasks──► [ channel ] ──all that gathered──► one write, one sync ──► report(last number)
//!                              ▲ ▲                                   │ │
//!                              │ └── prepared ◄── preparer ◄── job ──┘ │
//!                              └──── removed ◄─── remover ◄─── removal ┘
//! ```
//! While one sync runs, tasks gather; the next write takes them all. Space ahead of the head is zero-filled by the
//! preparer, on its own thread, so that the hot path only ever overwrites prepared bytes. Segments that are purged are
//! removed by the remover, on its own: on all nodes at once, for they purge at the same place, it takes tens of
//! milliseconds.
//!
//! A full disk is waited out: nothing was written, so the same batch is tried again. Any other fault is final.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use crate::commitlog::{BadBlock, LogFault, LogReader, LogWriter, PrepareDone, PrepareJob, Removal, Removed, Space};
use crate::config::Durability;
use crate::env::Clock;
use crate::types::{EntryId, Index, Monotonic, ReadyNumber};

use super::disk_batch::Gathered;
use super::effects::DiskTask;
use super::scrub::ScrubProgress;

/// How long the disk must be idle before the progress slot is written.
const IDLE_AFTER: Duration = Duration::from_millis(20);
/// How long a full disk is left alone before the write is tried again.
const FULL_RETRY: Duration = Duration::from_millis(50);

/// How often an idle thread looks whether a disk that was full has room again.
const ROOM_AGAIN: Duration = Duration::from_millis(250);

/// What the disk thread is told.
pub(crate) enum DiskOrder {
    /// Write this.
    Task(DiskTask),
    /// The preparer is done.
    Prepared(PrepareDone),
    /// The remover is done.
    Removed(Removed),
    /// The scrub has found a block that cannot be read any more: write it again.
    Mend(BadBlock),
    /// Drop whole segments from the front of the log, up to this index at most.
    Purge(Index),
    /// Finish what was ordered before this, then end.
    Stop,
}

/// What the disk thread says.
#[derive(Debug)]
pub(crate) enum DiskReport {
    /// Every task up to this one is done.
    Done(ReadyNumber),
    /// The log begins behind this entry now.
    Purged(EntryId),
    /// The log is poisoned: nothing more will be done.
    Failed(String),
    /// The scrub has taken a step. What it found is known to the log's readers.
    Scrubbed(ScrubProgress),
}

/// The loop's state. Lives on the disk thread.
pub(crate) struct DiskLoop<R> {
    pub(crate) writer: LogWriter,
    pub(crate) reader: LogReader,
    pub(crate) durability: Durability,
    pub(crate) clock: Arc<dyn Clock>,
    /// Set before `DiskOrder::Stop` is sent: a thread that waits for room takes no orders.
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) orders: Receiver<DiskOrder>,
    pub(crate) preparer: Sender<PrepareJob>,
    pub(crate) remover: Sender<Removal>,
    pub(crate) report: R,
}

/// What to do after a write.
enum Next {
    Go,
    Task(DiskTask),
    Stop,
}

impl<R: FnMut(DiskReport)> DiskLoop<R> {
    /// Runs until told to stop, the other side is gone, or the log is poisoned.
    pub(crate) fn run(mut self) {
        if let Err(reason) = self.serve() {
            tracing::error!(reason, "the log cannot be written any more");
            (self.report)(DiskReport::Failed(reason));
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        self.prepare();
        let mut committed = Index::ZERO;
        let mut settled = true;
        let mut flushed = self.clock.monotonic();
        let mut carried = None;
        loop {
            let task = match carried.take() {
                Some(task) => task,
                None => match self.wait(settled, flushed) {
                    Ok(DiskOrder::Task(task)) => task,
                    Ok(DiskOrder::Prepared(done)) => {
                        self.prepared(done)?;
                        continue;
                    }
                    Ok(DiskOrder::Removed(removed)) => {
                        self.removed(removed)?;
                        continue;
                    }
                    Ok(DiskOrder::Mend(block)) => {
                        self.mend(&block)?;
                        continue;
                    }
                    Ok(DiskOrder::Purge(upto)) => {
                        self.purge(upto)?;
                        continue;
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        self.settle(committed)?;
                        settled = true;
                        flushed = self.clock.monotonic();
                        continue;
                    }
                    Ok(DiskOrder::Stop) | Err(RecvTimeoutError::Disconnected) => return self.close(committed),
                },
            };
            let (gathered, next) = self.gather(task)?;
            committed = committed.max(gathered.batch.committed);
            if !self.write(&gathered)? {
                return Ok(());
            }
            settled = false;
            (self.report)(DiskReport::Done(gathered.number));
            self.prepare();
            flushed = self.flush_when_due(flushed)?;
            match next {
                Next::Go => {}
                Next::Task(task) => carried = Some(task),
                Next::Stop => return self.close(committed),
            }
        }
    }

    fn wait(&self, settled: bool, flushed: Monotonic) -> Result<DiskOrder, RecvTimeoutError> {
        let wait = match (settled, self.durability) {
            (true, _) if self.reader.space() != Space::Open => ROOM_AGAIN,
            (true, _) => return self.orders.recv().map_err(|_gone| RecvTimeoutError::Disconnected),
            (false, Durability::Sync) => IDLE_AFTER,
            (false, Durability::Async { flush_every }) => {
                flush_every.saturating_sub(self.clock.monotonic().since(flushed))
            }
        };
        self.orders.recv_timeout(wait)
    }

    /// Under load an asynchronous log is synced as often as it promises, not only when it comes to rest. The answer
    /// is when it was last synced.
    fn flush_when_due(&mut self, flushed: Monotonic) -> Result<Monotonic, String> {
        let now = self.clock.monotonic();
        match self.durability {
            Durability::Async { flush_every } if now.since(flushed) >= flush_every => {
                self.writer.flush().or_else(survive_full)?;
                Ok(now)
            }
            Durability::Async { .. } | Durability::Sync => Ok(flushed),
        }
    }

    /// Takes all tasks that wait, up to a truncation, which starts a batch of its own, or to the size limit.
    fn gather(&mut self, first: DiskTask) -> Result<(Gathered, Next), String> {
        let mut gathered = Gathered::new(first);
        loop {
            match self.orders.try_recv() {
                Ok(DiskOrder::Task(task)) => {
                    if let Some(task) = gathered.add(task) {
                        return Ok((gathered, Next::Task(task)));
                    }
                }
                Ok(DiskOrder::Prepared(done)) => self.prepared(done)?,
                Ok(DiskOrder::Removed(removed)) => self.removed(removed)?,
                Ok(DiskOrder::Mend(block)) => self.mend(&block)?,
                Ok(DiskOrder::Purge(upto)) => self.purge(upto)?,
                Ok(DiskOrder::Stop) | Err(TryRecvError::Disconnected) => return Ok((gathered, Next::Stop)),
                Err(TryRecvError::Empty) => return Ok((gathered, Next::Go)),
            }
        }
    }

    /// Writes and syncs; false when the node stops while the disk is full: nobody was told that this is written.
    fn write(&mut self, gathered: &Gathered) -> Result<bool, String> {
        let mut warned = false;
        loop {
            match self.writer.write(&gathered.batch) {
                Ok(()) => return Ok(true),
                Err(LogFault::Full { .. }) if self.stopping.load(Ordering::Acquire) => return Ok(false),
                Err(fault @ LogFault::Full { .. }) => {
                    if !warned {
                        tracing::warn!(reason = %fault, "waiting for room on the disk");
                        warned = true;
                    }
                    std::thread::sleep(FULL_RETRY);
                }
                Err(fault @ LogFault::Poisoned { .. }) => return Err(fault.to_string()),
            }
        }
    }

    /// Nothing is under way: sync what an asynchronous log still holds, and say in the progress slot how far it is.
    fn settle(&mut self, committed: Index) -> Result<(), String> {
        self.prepare();
        self.writer.flush().and_then(|()| self.writer.idle(committed)).or_else(survive_full)
    }

    /// Nothing more will be ordered.
    fn close(&mut self, committed: Index) -> Result<(), String> {
        self.prepare();
        self.writer.close(committed).or_else(survive_full)
    }

    fn prepare(&mut self) {
        if let Some(job) = self.writer.prepare_job() {
            // A preparer that is gone only means that the writer prepares by itself.
            let _gone = self.preparer.send(job);
        }
    }

    fn prepared(&mut self, done: PrepareDone) -> Result<(), String> {
        self.writer.prepared(done).or_else(survive_full)?;
        self.prepare();
        Ok(())
    }

    /// A full disk may have no room to say that the log begins elsewhere: then the next snapshot leads here again.
    fn purge(&mut self, upto: Index) -> Result<(), String> {
        let removal = self.writer.drop_front(upto).or_else(|fault| survive_full(fault).map(|()| None))?;
        if let Some(removal) = removal {
            // A remover that is gone only means that the files go at the next opening.
            let _gone = self.remover.send(removal);
        }
        (self.report)(DiskReport::Purged(self.writer.base().entry));
        Ok(())
    }

    fn removed(&mut self, removed: Removed) -> Result<(), String> {
        self.writer.removed(removed).or_else(survive_full)
    }

    fn mend(&mut self, block: &BadBlock) -> Result<(), String> {
        let BadBlock { path, offset, region, reason, .. } = block;
        tracing::error!(path = %path.display(), offset, ?region, reason, "a block is damaged, writing it again");
        self.writer.mend_block(block).or_else(survive_full)
    }
}

fn survive_full(fault: LogFault) -> Result<(), String> {
    match fault {
        LogFault::Full { .. } => Ok(()),
        LogFault::Poisoned { .. } => Err(fault.to_string()),
    }
}
