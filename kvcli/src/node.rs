//! A node in this process: `serve` runs one, `demo` several.

use std::time::Duration;

use dledger::config::Config;
use dledger::kv::KvStore;

use crate::exit::{Failure, Kind};

/// How long a clean stop may take: the contract gives the whole process 5 s.
const STOP_WITHIN: Duration = Duration::from_millis(4_500);

/// A running node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    store: KvStore,
}

impl Node {
    /// Recovers the data directory and listens.
    pub(crate) async fn open(config: Config) -> Result<Self, Failure> {
        Ok(Self { store: KvStore::open(config).await? })
    }

    /// Returns, with the reason, once the node stopped by itself.
    pub(crate) async fn stopped(&self) -> String {
        self.store.node().stopped().await
    }

    /// Stops accepting, answers what is pending, syncs.
    ///
    /// # Errors
    /// It takes too long: a disk hangs, for example.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        tokio::time::timeout(STOP_WITHIN, self.store.shutdown()).await.map_err(|_elapsed| {
            let waited = humantime::format_duration(STOP_WITHIN);
            Failure::new(Kind::Unavailable, format!("the node did not stop within {waited}; its disk may hang"))
        })
    }
}
