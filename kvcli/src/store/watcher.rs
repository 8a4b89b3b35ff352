//! A watch of keys.

use dledger::kv::{Changes, Watch, WatchError};

/// A watch under way.
pub(crate) enum Watcher {
    /// Of a cluster.
    Remote(Watch),
    /// Of a fake.
    #[cfg(test)]
    Fake(super::fake::FakeWatch),
}

impl Watcher {
    /// Waits for the next changes. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Changes, WatchError> {
        match self {
            Self::Remote(watch) => watch.next().await,
            #[cfg(test)]
            Self::Fake(watch) => watch.next().await,
        }
    }
}
