//! A cluster over the network, through the library's client.

mod kv;

use std::time::Duration;

use bytes::Bytes;
use dledger::client::{self, Client, ClientError, ClientOptions, ClusterStatus, ImportOptions};
use dledger::node::{MemberChange, MemberStatus, NodeStatus};
use dledger::types::NodeId;

use crate::exit::{Failure, Kind};

use super::{
    Consistency, Deleted, Importer, KeyValue, MemberList, NodeAnswer, NodeRow, Nodes, Place, Scan, ScanPage,
    SnapshotRow, rejected,
};

/// A client and what it was made from.
#[derive(Clone)]
pub(crate) struct Remote {
    client: Client,
    options: ClientOptions,
}

impl Remote {
    /// Connects when it is first used.
    pub(crate) fn new(endpoints: &[String], timeout: Duration) -> Result<Self, Failure> {
        Self::with(ClientOptions { endpoints: endpoints.to_vec(), timeout, cluster: None })
    }

    fn with(options: ClientOptions) -> Result<Self, Failure> {
        let client = Client::new(options.clone()).map_err(failure)?;
        Ok(Self { client, options })
    }

    /// The same cluster over connections of its own.
    pub(crate) fn another(&self) -> Result<Self, Failure> {
        Self::with(self.options.clone())
    }

    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<u64, Failure> {
        self.client.put(key, value).await.map(|revision| revision.get()).map_err(failure)
    }

    pub(crate) async fn put_batch(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<u64, Failure> {
        self.client.put_batch(pairs).await.map(|revision| revision.get()).map_err(failure)
    }

    pub(crate) async fn delete(&self, key: Bytes) -> Result<Deleted, Failure> {
        self.client.delete(key).await.map_err(failure)
    }

    pub(crate) async fn delete_prefix(&self, prefix: Bytes) -> Result<Deleted, Failure> {
        self.client.delete_prefix(prefix).await.map_err(failure)
    }

    pub(crate) async fn get(&self, key: Bytes, consistency: Consistency) -> Result<Option<KeyValue>, Failure> {
        self.client.get(key, consistency).await.map_err(failure)
    }

    pub(crate) async fn scan(&self, scan: Scan, consistency: Consistency) -> Result<ScanPage, Failure> {
        self.client.scan(scan, consistency).await.map_err(failure)
    }

    /// Starts an import; `progress` is told how many lines are certain.
    pub(crate) fn importer(&self, progress: impl FnMut(u64) + Send + 'static) -> Importer {
        Importer::Remote(Box::new(self.client.import(ImportOptions::default(), progress)))
    }

    pub(crate) async fn snapshot(&self) -> Result<Vec<SnapshotRow>, Failure> {
        let rows = self.client.snapshot().await.map_err(failure)?;
        let row = |(id, taken): (NodeId, Result<dledger::types::Index, String>)| SnapshotRow {
            id: id.get(),
            taken: taken.map(|index| index.get()),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    pub(crate) async fn backup(&self) -> Result<Backup, Failure> {
        self.client.backup().await.map(Backup).map_err(failure)
    }

    pub(crate) async fn members(&self) -> Result<MemberList, Failure> {
        self.client.members().await.map_err(failure)
    }

    pub(crate) async fn change_members(&self, change: MemberChange) -> Result<MemberList, Failure> {
        self.client.change_members(change).await.map_err(failure)
    }

    pub(crate) async fn transfer_leadership(&self, to: NodeId) -> Result<(), Failure> {
        self.client.transfer_leadership(to).await.map_err(failure)
    }

    pub(crate) async fn nodes(&self) -> Result<Nodes, Failure> {
        self.client.status().await.map(nodes).map_err(failure)
    }
}

/// A backup on its way.
pub(crate) struct Backup(client::Backup);

impl Backup {
    /// The last index in it.
    pub(crate) fn index(&self) -> u64 {
        self.0.manifest().id().index.get()
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// The next bytes of it.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.0.next().await.map_err(failure)
    }
}

/// The exit code's view of a failed operation.
pub(super) fn failure(error: ClientError) -> Failure {
    let kind = match &error {
        ClientError::Rejected(rejection) => return rejected(rejection),
        ClientError::Unavailable(_) => Kind::Unavailable,
        ClientError::Unknown(_) => Kind::Unknown,
        ClientError::Refused(_) | ClientError::DiskFull(_) => Kind::Refused,
        ClientError::No(_) => Kind::No,
        ClientError::WrongCluster(_) | ClientError::Usage(_) => Kind::Usage,
        // Two ends that do not understand each other: nothing was done.
        ClientError::Protocol(_) => Kind::Unavailable,
        _ => Kind::Unavailable,
    };
    Failure::new(kind, error.to_string())
}

fn nodes(status: ClusterStatus) -> Nodes {
    let members = status.members.members;
    let rows = status.nodes.into_iter();
    let rows = rows.map(|(id, address, answer)| NodeRow {
        id: id.get(),
        address,
        place: members.iter().find(|member| member.id == id).map(place),
        answer: answer.map(answered),
    });
    Nodes { cluster_id: status.cluster_id.map(|id| id.to_string()), nodes: rows.collect() }
}

fn place(member: &MemberStatus) -> Place {
    Place {
        standing: member.standing.to_string(),
        matched: member.matched.map(|index| index.get()),
        snapshotting: member.snapshotting,
    }
}

fn answered(status: NodeStatus) -> NodeAnswer {
    NodeAnswer {
        role: status.role.to_string(),
        epoch: status.epoch,
        term: status.term.get(),
        leader: status.leader.map(|leader| leader.get()),
        first: status.first.get(),
        last: status.last.get(),
        durable: status.durable.get(),
        committed: status.committed.get(),
        applied: status.applied.get(),
        disk_bytes: status.disk_bytes,
        snapshot: status.snapshot.get(),
        received: status.snapshot_bytes_received,
        damaged: status.damaged,
        mended: status.mended,
        scrubbed: status.scrub.upto.get(),
        scrub_rounds: status.scrub.rounds,
        version: status.version,
        error: status.error,
    }
}
