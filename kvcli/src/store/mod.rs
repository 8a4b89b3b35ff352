//! The store that commands talk to: a cluster over the network, or a map in memory in unit tests.
//!
//! Everything else in this program knows only these operations and their failures in terms of exit codes, so that
//! parsing, printing, scripts and file formats are tested without a node.

#[cfg(test)]
pub(crate) mod fake;
mod importer;
mod pages;
mod remote;
mod tracked;
mod types;
mod watcher;

use std::time::Duration;

use bytes::Bytes;
use dledger::Client;
use dledger::error::Rejection;
use dledger::kv::{KvError, LeaseStatus, Txn, TxnDone, WatchOptions};
use dledger::node::MemberChange;
use dledger::types::{LeaseId, NodeId};

pub(crate) use self::importer::{Importer, Stopped};
pub(crate) use self::pages::Pages;
pub(crate) use self::remote::{Backup, Remote};
pub(crate) use self::tracked::Tracked;
pub(crate) use self::types::{NodeAnswer, NodeRow, Nodes, Place, SnapshotRow};
pub(crate) use self::watcher::Watcher;
pub(crate) use dledger::client::MemberList;
pub(crate) use dledger::kv::{Consistency, Deleted, KeyValue, Scan, ScanPage};

use crate::exit::{Failure, Kind};

/// A store.
#[derive(Clone)]
pub(crate) enum Store {
    /// A cluster, asked over the network.
    Remote(Remote),
    /// A map.
    #[cfg(test)]
    Fake(fake::Fake),
}

impl Store {
    /// The same store over connections of its own.
    pub(crate) fn another(&self) -> Result<Self, Failure> {
        match self {
            Self::Remote(remote) => remote.another().map(Self::Remote),
            #[cfg(test)]
            Self::Fake(fake) => Ok(Self::Fake(fake.clone())),
        }
    }

    /// Sets a key; the answer is the revision.
    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<u64, Failure> {
        match self {
            Self::Remote(remote) => remote.put(key, value).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.put_batch(vec![(key, value)]),
        }
    }

    /// Sets several keys in order, all or none; the answer is the revision of the last.
    pub(crate) async fn put_batch(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<u64, Failure> {
        match self {
            Self::Remote(remote) => remote.put_batch(pairs).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.put_batch(pairs),
        }
    }

    /// Deletes a key.
    pub(crate) async fn delete(&self, key: Bytes) -> Result<Deleted, Failure> {
        match self {
            Self::Remote(remote) => remote.delete(key).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.delete(&key),
        }
    }

    /// Deletes all keys with a prefix.
    pub(crate) async fn delete_prefix(&self, prefix: Bytes) -> Result<Deleted, Failure> {
        match self {
            Self::Remote(remote) => remote.delete_prefix(prefix).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.delete_prefix(&prefix),
        }
    }

    /// Reads a key.
    pub(crate) async fn get(&self, key: Bytes, consistency: Consistency) -> Result<Option<KeyValue>, Failure> {
        match self {
            Self::Remote(remote) => remote.get(key, consistency).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.get(&key),
        }
    }

    /// Reads one page of keys.
    pub(crate) async fn scan(&self, scan: Scan, consistency: Consistency) -> Result<ScanPage, Failure> {
        match self {
            Self::Remote(remote) => remote.scan(scan, consistency).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.scan(&scan),
        }
    }

    /// Sets a key that lives as long as a lease; the answer is the revision.
    pub(crate) async fn put_leased(&self, key: Bytes, value: Bytes, lease: LeaseId) -> Result<u64, Failure> {
        match self {
            Self::Remote(remote) => remote.put_leased(key, value, lease).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.put(&key, &value, lease),
        }
    }

    /// Does a transaction.
    pub(crate) async fn transact(&self, txn: Txn) -> Result<TxnDone, Failure> {
        match self {
            Self::Remote(remote) => remote.transact(txn).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.transact(txn),
        }
    }

    /// Makes a lease.
    pub(crate) async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, Failure> {
        match self {
            Self::Remote(remote) => remote.grant_lease(ttl).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.grant_lease(ttl),
        }
    }

    /// Lets a lease live its time to live, which is the answer.
    pub(crate) async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Failure> {
        match self {
            Self::Remote(remote) => remote.keep_alive(lease).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.keep_alive(lease),
        }
    }

    /// Ends a lease, and with it its keys.
    pub(crate) async fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, Failure> {
        match self {
            Self::Remote(remote) => remote.revoke_lease(lease).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.revoke_lease(lease),
        }
    }

    /// The leases that live.
    pub(crate) async fn leases(&self) -> Result<Vec<LeaseStatus>, Failure> {
        match self {
            Self::Remote(remote) => remote.leases().await,
            #[cfg(test)]
            Self::Fake(fake) => Ok(fake.leases()),
        }
    }

    /// What recipes of the library are built on.
    pub(crate) fn kv(&self) -> Result<Client, Failure> {
        match self {
            Self::Remote(remote) => Ok(remote.kv()),
            #[cfg(test)]
            Self::Fake(_) => Err(Failure::usage("a fake runs no recipes")),
        }
    }

    /// Ends the session of the writes so far, so that the cluster need not keep it. Waits but a moment.
    pub(crate) async fn close(&self) {
        match self {
            Self::Remote(remote) => remote.close().await,
            #[cfg(test)]
            Self::Fake(_) => {}
        }
    }

    /// Watches keys; asks nobody yet.
    pub(crate) fn watch(&self, options: WatchOptions) -> Watcher {
        match self {
            Self::Remote(remote) => Watcher::Remote(remote.watch(options)),
            #[cfg(test)]
            Self::Fake(fake) => Watcher::Fake(fake.watch(options)),
        }
    }

    /// Reads a range page by page, as one view; asks nobody yet.
    pub(crate) fn range(&self, scan: Scan, consistency: Consistency) -> Pages {
        match self {
            Self::Remote(remote) => Pages::Remote(remote.range(scan, consistency)),
            #[cfg(test)]
            Self::Fake(fake) => Pages::Fake(fake.clone(), Some(scan)),
        }
    }

    /// Starts an import; `progress` is told how many lines are certain.
    pub(crate) fn importer(&self, progress: impl FnMut(u64) + Send + 'static) -> Importer {
        match self {
            Self::Remote(remote) => remote.importer(progress),
            #[cfg(test)]
            Self::Fake(fake) => Importer::Fake { store: fake.clone(), acknowledged: 0, progress: Box::new(progress) },
        }
    }

    /// Has every known member write its state down.
    pub(crate) async fn snapshot(&self) -> Result<Vec<SnapshotRow>, Failure> {
        match self {
            Self::Remote(remote) => remote.snapshot().await,
            #[cfg(test)]
            Self::Fake(fake) => Ok(fake.snapshot()),
        }
    }

    /// Begins a backup.
    pub(crate) async fn backup(&self) -> Result<Backup, Failure> {
        match self {
            Self::Remote(remote) => remote.backup().await,
            #[cfg(test)]
            Self::Fake(_) => Err(Failure::usage("a fake has no backup")),
        }
    }

    /// Who belongs to the cluster.
    pub(crate) async fn members(&self) -> Result<MemberList, Failure> {
        match self {
            Self::Remote(remote) => remote.members().await,
            #[cfg(test)]
            Self::Fake(fake) => Ok(fake.members()),
        }
    }

    /// Changes who does; the answer is who does then.
    pub(crate) async fn change_members(&self, change: MemberChange) -> Result<MemberList, Failure> {
        match self {
            Self::Remote(remote) => remote.change_members(change).await,
            #[cfg(test)]
            Self::Fake(fake) => Ok(fake.change_members(change)),
        }
    }

    /// Makes a voter the leader.
    pub(crate) async fn transfer_leadership(&self, to: NodeId) -> Result<(), Failure> {
        match self {
            Self::Remote(remote) => remote.transfer_leadership(to).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.transfer_leadership(to),
        }
    }

    /// Asks every known member how it is.
    pub(crate) async fn nodes(&self) -> Result<Nodes, Failure> {
        match self {
            Self::Remote(remote) => remote.nodes().await,
            #[cfg(test)]
            Self::Fake(fake) => fake.nodes(),
        }
    }
}

/// The exit code's view of a failed recipe.
pub(crate) fn kv_failure(error: KvError) -> Failure {
    let kind = match &error {
        KvError::Rejected(rejection) => return rejected(rejection),
        KvError::Unknown(_) => Kind::Unknown,
        KvError::Refused(_) => Kind::Refused,
        KvError::Unavailable(_) | KvError::Stopped(_) | KvError::Watch(_) | _ => Kind::Unavailable,
    };
    Failure::new(kind, error.to_string())
}

/// The exit code's view of a command that changed nothing, as all replicas agree.
pub(crate) fn rejected(rejection: &Rejection) -> Failure {
    let kind = match rejection {
        Rejection::NoLease(_) | Rejection::NotANumber(_) | Rejection::Overflow(_) => Kind::No,
        // What was numbered before may have been done, and this may be it.
        Rejection::NoSession(_) | Rejection::Forgotten(_) => Kind::Unknown,
        Rejection::TooManyUnanswered(_) | Rejection::Malformed(_) | _ => Kind::Refused,
    };
    Failure::new(kind, rejection.to_string())
}
