//! What the server needs of the store it serves.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::time::Duration;

use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::types::{Index, NodeId, Term};

use super::kinds::{
    Consistency, Deleted, KeyValue, MemberChange, MemberList, MembersError, NodeStatus, Scan, ScanPage, SnapshotWant,
    TransferError,
};
use super::protocol::LeaderHint;

/// Who leads, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The term this node leads in.
    pub(crate) leads_in: Option<Term>,
    /// The leader, when it is another node.
    pub(crate) elsewhere: Option<LeaderHint>,
}

/// A store as its connections see it.
///
/// The first poll of a write hands it to the log, or puts it in the line for that: writes that are first polled one
/// after the other are proposed in this order.
pub(crate) trait Store: Clone + Send + Sync + 'static {
    /// Sets a key.
    fn put(&self, key: Bytes, value: Bytes, wait: Duration) -> BoxFuture<'static, Result<Index, WriteError>>;

    /// Sets several keys, one behind the other; with a term, only if this node itself leads in it when it proposes
    /// them, and `Unavailable` otherwise.
    fn put_batch(
        &self,
        term: Option<Term>,
        pairs: Vec<(Bytes, Bytes)>,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Index, WriteError>>;

    /// Deletes a key.
    fn delete(&self, key: Bytes, wait: Duration) -> BoxFuture<'static, Result<Deleted, WriteError>>;

    /// Deletes the keys that start so.
    fn delete_prefix(&self, prefix: Bytes, wait: Duration) -> BoxFuture<'static, Result<Deleted, WriteError>>;

    /// Resolves once reads from this node's state are as fresh as was asked for when this was called.
    fn catch_up(&self, consistency: Consistency, wait: Duration) -> BoxFuture<'static, Result<(), ReadError>>;

    /// Reads a key from this node's state as it is.
    fn get(&self, key: Bytes) -> BoxFuture<'static, Result<Option<KeyValue>, ReadError>>;

    /// Reads a page from this node's state as it is, in bounded steps that let others run. `max_bytes` is within the
    /// server's bound; the number of items is for the store to bound.
    fn scan(&self, scan: Scan) -> BoxFuture<'static, Result<ScanPage, ReadError>>;

    /// Who leads. Cheap: asked once for every answer.
    fn leadership(&self) -> Leadership;

    /// Writes this node's state down; the answer is the last index in it.
    fn snapshot(&self) -> BoxFuture<'static, Result<Index, SnapshotRequestError>>;

    /// A piece of one of this node's snapshots.
    fn snapshot_piece(&self, want: SnapshotWant) -> BoxFuture<'static, Result<Bytes, SnapshotRequestError>>;

    /// Changes who belongs to the cluster; the answer is who does then. Only the leader does it.
    fn change_members(
        &self,
        change: MemberChange,
        wait: Duration,
    ) -> BoxFuture<'static, Result<MemberList, MembersError>>;

    /// Makes a voter the leader. Only the leader does it.
    fn transfer(&self, to: NodeId) -> BoxFuture<'static, Result<(), TransferError>>;

    /// How the node is.
    fn status(&self) -> NodeStatus;
}
