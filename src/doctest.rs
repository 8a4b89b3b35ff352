//! A store for the examples in the docs: one node, on a disk in memory, gone when the example ends. Not for anybody else.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::env::memory::MemoryDisk;
use crate::env::os::{OsClock, OsEntropy};
use crate::kv::store::{KvStore, block_on};
use crate::node::Environment;

/// What an example ends with.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs an example with a store of its own.
///
/// # Panics
/// When the example fails.
#[expect(clippy::panic, reason = "an example that fails must fail its test")]
pub fn run<F: Future<Output = Outcome>>(example: impl FnOnce(KvStore) -> F) {
    let disk = MemoryDisk::new();
    let environment =
        Environment { disk: disk.handle(), clock: Arc::new(OsClock::new()), entropy: Arc::new(OsEntropy) };
    let ended = block_on(async {
        let store = KvStore::open_in(environment, config()).await?;
        let ended = example(store.clone()).await;
        store.shutdown().await;
        ended
    });
    if let Err(error) = ended {
        panic!("{error}");
    }
}

/// A single node on a free port, with a small log.
fn config() -> Config {
    let (max_record_bytes, max_value_bytes) = (1 << 20, 64 << 10);
    Config { segment_bytes: 1 << 20, max_record_bytes, max_value_bytes, ..Config::single(Path::new("/example")) }
}
