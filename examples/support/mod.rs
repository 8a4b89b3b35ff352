//! Three replicas in this process, on free ports. In a service each would be in a process of its own: see `embedded_kv.rs`.

use std::net::TcpListener;
use std::time::Duration;

use dledger::{Config, KvStore};

/// What goes wrong in an example.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Three replicas, and the directory they are in.
pub(crate) struct Replicas {
    pub(crate) stores: [KvStore; 3],
    _directory: tempfile::TempDir,
}

impl Replicas {
    /// Opens all three.
    pub(crate) async fn open() -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let listeners =
            [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let mut members = Vec::new();
        for (id, listener) in (1..).zip(&listeners) {
            members.push(format!("{id}={}", listener.local_addr()?));
        }
        drop(listeners);
        let cluster = members.join(",");
        let open = async |id: u64| {
            let mut config = Config::member(id, &cluster, directory.path().join(id.to_string()))?;
            // All three share a machine with whatever else runs: none of them is replaced for being slow.
            config.election_timeout = Duration::from_millis(500);
            KvStore::open(config).await
        };
        let (one, two, three) = tokio::try_join!(open(1), open(2), open(3))?;
        Ok(Self { stores: [one, two, three], _directory: directory })
    }

    /// Stops all three.
    pub(crate) async fn close(self) {
        for store in self.stores {
            store.shutdown().await;
        }
    }
}
