//! Backups of real nodes in this process, and new clusters that begin with them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends by panicking")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use dledger::client::{Client, ClientError, ClientOptions};
use dledger::config::Config;
use dledger::error::WriteError;
use dledger::kv::{Consistency, KeyValue, KvStore, Scan};
use dledger::node::{Environment, RESTORE_GAP, RestoreOptions, restore};
use dledger::snapshot::Manifest;
use tempfile::TempDir;

struct Cluster {
    configs: Vec<Config>,
    nodes: Vec<KvStore>,
    directory: TempDir,
}

impl Cluster {
    /// So many nodes; those that `restored` names begin with the backup.
    async fn start(count: u64, backup: Option<&Path>, restored: impl Fn(u64) -> bool) -> Self {
        let listeners: Vec<_> = (0..count).map(|_node| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port());
        let members: Vec<_> = ports.enumerate().map(|(at, port)| format!("{}=127.0.0.1:{port}", at + 1)).collect();
        drop(listeners);
        let mut cluster = Self { configs: Vec::new(), nodes: Vec::new(), directory: tempfile::tempdir().unwrap() };
        for id in 1..=count {
            let data_dir = cluster.directory.path().join(id.to_string());
            let config = Config::member(id, &members.join(","), &data_dir).unwrap();
            if let Some(backup) = backup.filter(|_file| restored(id)) {
                let (backup, cluster) = (backup.to_owned(), config.cluster.clone());
                restore(&Environment::real(), &RestoreOptions { backup, data_dir, id: config.id, cluster }).unwrap();
            }
            cluster.nodes.push(KvStore::open(config.clone()).await.unwrap());
            cluster.configs.push(config);
        }
        cluster
    }

    fn client(&self, id: usize) -> Client {
        let endpoints = vec![self.configs[id - 1].listen.clone()];
        Client::new(ClientOptions { endpoints, timeout: Duration::from_secs(20), cluster: None }).unwrap()
    }

    async fn put(&self, key: String, value: &str) -> u64 {
        loop {
            match self.nodes[0].put(key.clone(), Bytes::copy_from_slice(value.as_bytes())).await {
                Ok(revision) => return revision.get(),
                // An election at the start; the same value again does no harm.
                Err(error) => assert!(matches!(error, WriteError::Unknown(_) | WriteError::Unavailable(_)), "{error}"),
            }
        }
    }

    async fn shutdown(&self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
    }
}

/// Everything that a node has.
async fn content(node: &KvStore) -> Vec<KeyValue> {
    node.scan(Scan { max_bytes: 64 << 20, ..Scan::default() }, Consistency::Linearizable).await.unwrap().items
}

/// Writes a backup to a file.
async fn back_up(client: &Client, file: &Path) -> Result<Manifest, ClientError> {
    let mut backup = client.backup().await?;
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next().await? {
        bytes.extend_from_slice(&piece);
    }
    std::fs::write(file, bytes).unwrap();
    Ok(backup.manifest().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_cluster_has_the_same_pairs_and_gives_only_higher_revisions() {
    let old = Cluster::start(3, None, |_id| false).await;
    let value = "v".repeat(2_000);
    for number in 0..300 {
        old.put(format!("key-{:03}", number % 200), &value).await;
    }
    old.nodes[0].delete_prefix("key-01").await.unwrap();
    let cluster_id = old.nodes[0].status().cluster;
    let file: PathBuf = old.directory.path().join("backup");
    let manifest = back_up(&old.client(2), &file).await.unwrap();
    let wanted = content(&old.nodes[1]).await;
    assert!(
        wanted.len() > 150 && wanted.iter().any(|pair| pair.version == 2 && pair.create_revision < pair.mod_revision)
    );
    // What the old cluster did after its backup was taken.
    let after = old.put("lost".to_owned(), "value").await;
    assert!(after > manifest.id().index.get());
    old.shutdown().await;
    for count in [1, 5] {
        let new = Cluster::start(count, Some(&file), |_id| true).await;
        for node in &new.nodes {
            assert_eq!(content(node).await, wanted);
        }
        assert_ne!(new.nodes[0].status().cluster, cluster_id);
        let revision = new.put("next".to_owned(), "value").await;
        assert!(revision > after && revision > manifest.id().index.get() + RESTORE_GAP);
        // A restored cluster is backed up as any other.
        let again = new.directory.path().join("again");
        let second = back_up(&new.client(1), &again).await.unwrap();
        assert!(second.id().index.get() >= revision);
        let third = Cluster::start(1, Some(&again), |_id| true).await;
        assert_eq!(content(&third.nodes[0]).await.len(), wanted.len() + 1);
        assert!(third.put("next".to_owned(), "again").await > second.id().index.get() + RESTORE_GAP);
        third.shutdown().await;
        new.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_and_empty_nodes_form_no_cluster_together() {
    let old = Cluster::start(1, None, |_id| false).await;
    old.put("key".to_owned(), "value").await;
    let file = old.directory.path().join("backup");
    back_up(&old.client(1), &file).await.unwrap();
    let mixed = Cluster::start(3, Some(&file), |id| id != 2).await;
    let waiting = mixed.nodes[0].with_timeout(Duration::from_millis(600));
    let refused = waiting.put("key", "another").await.unwrap_err();
    assert!(matches!(refused, WriteError::Unavailable(_)), "{refused}");
    assert!(mixed.nodes.iter().all(|node| node.status().cluster.is_none()));
    mixed.shutdown().await;
    old.shutdown().await;
}
