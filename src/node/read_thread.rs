//! Reads that may wait for the disk, beside the event loop.

/// Threads at most that wait for the disk on behalf of readers: as many as a disk takes at once. Names of peers are looked
/// up on them as well.
pub(super) const READ_THREADS: usize = 8;

/// Runs a read on another thread of the runtime that this task is on; `None` when that is ending.
pub(crate) async fn beside<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(read).await.ok()
}
