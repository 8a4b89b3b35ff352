//! A node in this process: the store that `serve` runs one of and `demo` several.

use std::time::Duration;

use dledger::config::Config;

use crate::exit::{Failure, Kind};

/// How long a clean stop may take. The contract says 5 s for the whole process.
const STOP_WITHIN: Duration = Duration::from_millis(4_500);

/// A running node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {}

impl Node {
    /// Recovers the data directory and listens.
    pub(crate) async fn open(_config: Config) -> Result<Self, Failure> {
        Err(Failure::new(Kind::Unavailable, "the node is not part of this build"))
    }

    /// Returns, with the reason, once the node stopped by itself.
    pub(crate) async fn stopped(&self) -> String {
        std::future::pending().await
    }

    /// Stops accepting, answers what is pending, syncs.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        let _ = STOP_WITHIN;
        Ok(())
    }
}
