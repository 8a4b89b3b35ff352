//! What the server needs of the store it serves.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::time::Duration;

use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::types::{Index, LeaseId, NodeId, Term};

use super::kinds::{
    Consistency, KeyValue, LeaseStatus, MemberChange, MemberList, MembersError, NodeStatus, Scan, ScanPage,
    SnapshotWant, TransferError,
};
use super::protocol::{Failure, LeaderHint};

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
    /// Has a command done, which is here as its entry will have it: the revision of the entry, and the answer's bytes.
    /// One that is malformed or over a limit is never proposed.
    fn command(&self, command: Bytes, wait: Duration) -> BoxFuture<'static, Result<(Index, Bytes), Failure>>;

    /// Sets several keys, one behind the other; with a term, only if this node itself leads in it when it proposes
    /// them, and `Unavailable` otherwise.
    fn put_batch(
        &self,
        term: Option<Term>,
        pairs: Vec<(Bytes, Bytes)>,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Index, WriteError>>;

    /// Resolves once reads from this node's state are as fresh as was asked for when this was called.
    fn catch_up(&self, consistency: Consistency, wait: Duration) -> BoxFuture<'static, Result<(), ReadError>>;

    /// Reads a key from this node's state as it is.
    fn get(&self, key: Bytes) -> BoxFuture<'static, Result<Option<KeyValue>, ReadError>>;

    /// Reads a page from this node's state as it is, in bounded steps that let others run. `max_bytes` is within the
    /// server's bound; the number of items is for the store to bound.
    fn scan(&self, scan: Scan) -> BoxFuture<'static, Result<ScanPage, ReadError>>;

    /// The leases that live in this node's state, from one on: a bounded first part of them.
    fn leases(&self, from: LeaseId) -> Vec<LeaseStatus>;

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
