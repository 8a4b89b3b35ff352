//! Tasks merged for one write and one sync: group commit.
//!
//! Whatever gathered while the disk was busy goes in one batch, up to a size, but a truncation or a reset starts a batch
//! of its own: a batch cuts before it appends.

use crate::commitlog::WriteBatch;
use crate::types::ReadyNumber;

use super::effects::DiskTask;

/// Most record bytes in one write; a sync of that much takes a few milliseconds.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// Tasks that are written together.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) batch: WriteBatch,
    /// The last task's.
    pub(crate) number: ReadyNumber,
    bytes: usize,
}

impl Gathered {
    pub(crate) fn new(first: DiskTask) -> Self {
        Self { bytes: bytes_of(&first.batch), batch: first.batch, number: first.number }
    }

    /// Takes the next task in, or gives it back when it must start a write of its own.
    #[must_use]
    pub(crate) fn add(&mut self, task: DiskTask) -> Option<DiskTask> {
        if task.batch.truncate_after.is_some() || task.batch.reset.is_some() || self.bytes >= MAX_BATCH_BYTES {
            return Some(task);
        }
        self.bytes += bytes_of(&task.batch);
        self.number = task.number;
        self.batch.vote = task.batch.vote.or(self.batch.vote);
        self.batch.committed = task.batch.committed.max(self.batch.committed);
        self.batch.records.extend(task.batch.records);
        self.batch.mend.extend(task.batch.mend);
        self.batch.trust_last |= task.batch.trust_last;
        None
    }
}

fn bytes_of(batch: &WriteBatch) -> usize {
    batch.records.iter().chain(&batch.mend).map(bytes::Bytes::len).sum()
}
