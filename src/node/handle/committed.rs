//! Reading committed entries beside the event loop: for those who read much of the log, or often.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::commitlog::split;
use crate::error::ReadError;
use crate::state_machine::Entry;
use crate::types::Index;

use super::NodeHandle;

impl NodeHandle {
    /// A handle to the same node that does not keep it running.
    pub(crate) fn visitor(&self) -> Self {
        Self::visiting(Arc::clone(&self.shared))
    }

    /// The last index that is committed and written here: up to it, the log on the disk has what is committed. Above, it
    /// may still show records that were cut, while those that replace them are in memory.
    fn readable(&self) -> Index {
        Index(self.shared.readable.load(Ordering::Acquire))
    }

    /// Committed entries from `from` up to `last`, both committed: at least one, and about `max_bytes` of them. Those on
    /// the disk are read by a thread that may wait for it; only the newest, which are in memory, are asked of the event
    /// loop.
    ///
    /// # Errors
    /// `OutOfRange` for what is not held any more, `Damaged`, `Stopped`.
    pub(crate) async fn committed_entries(
        &self,
        from: Index,
        last: Index,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, ReadError> {
        let max = self.shared.config.max_record_bytes;
        let readable = self.readable();
        let on_disk = self.log().filter(|_log| from <= readable);
        if let Some(log) = on_disk {
            let read = move || entries_of(&log.read_from(from, max_bytes)?, last.min(readable), max);
            let stopped = |_ended| Err(ReadError::Stopped(self.why_stopped()));
            match self.shared.runtime.spawn_blocking(read).await.unwrap_or_else(stopped) {
                // The event loop is to know of it, and has it mended.
                Err(ReadError::Damaged { .. }) => {}
                read => return read,
            }
        }
        entries_of(&self.entries(from, max_bytes).await?, last, max)
    }

    /// Resolves once more is applied and `seen` says that it can be seen: at once, or a little later when many wait.
    pub(crate) async fn applied_more(&self, seen: impl Fn() -> bool) {
        self.shared.news.wait(seen).await;
    }

    /// Resolves after a while. May be awaited on any runtime.
    pub(crate) fn after(&self, wait: Duration) -> impl Future<Output = ()> + Send + 'static {
        let _context = self.shared.runtime.enter();
        tokio::time::sleep(wait)
    }
}

/// The entries in some pieces of the log, up to the last that is wanted.
pub(in crate::node) fn entries_of(
    pieces: &[Bytes],
    last: Index,
    max_record_bytes: u32,
) -> Result<Vec<Entry>, ReadError> {
    let mut entries = Vec::new();
    for record in pieces.iter().flat_map(|piece| split(piece, max_record_bytes)) {
        let record = record.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        if record.header().id.index > last {
            break;
        }
        entries.push(record.to_entry());
    }
    Ok(entries)
}
