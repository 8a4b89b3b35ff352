//! The store of this very node, as its connections see it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};

use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::kv::KvStore;
use crate::node::read_thread::beside;
use crate::types::{Index, LeaseId, NodeId, Role, Term};

use super::kinds::{
    ChangeRefused, Consistency, KeyValue, LeaseStatus, MemberChange, MemberList, MembersError, NodeStatus, Scan,
    ScanPage, SnapshotWant, TransferError,
};
use super::limits::MAX_PAGE_ITEMS;
use super::protocol::{Failure, LeaderHint};
use super::store::{Leadership, Store};

/// A read that may wait for the disk, on another thread than the node's.
async fn read<T: Send + 'static>(read: impl FnOnce() -> Result<T, ReadError> + Send + 'static) -> Result<T, ReadError> {
    let stopped = || Err(ReadError::Stopped("it is shutting down".to_owned()));
    beside(read).await.unwrap_or_else(stopped)
}

impl Store for KvStore {
    fn command(&self, command: Bytes, wait: Duration) -> BoxFuture<'static, Result<(Index, Bytes), Failure>> {
        let store = self.with_timeout(wait);
        async move { Ok(KvStore::command(&store, command).await??) }.boxed()
    }

    fn put_batch(
        &self,
        term: Option<Term>,
        pairs: Vec<(Bytes, Bytes)>,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Index, WriteError>> {
        let store = self.with_timeout(wait);
        async move { store.put_batch_in(term, pairs).await }.boxed()
    }

    fn catch_up(&self, consistency: Consistency, wait: Duration) -> BoxFuture<'static, Result<(), ReadError>> {
        let store = self.with_timeout(wait);
        async move { KvStore::catch_up(&store, consistency).await }.boxed()
    }

    fn get(&self, key: Bytes) -> BoxFuture<'static, Result<Option<KeyValue>, ReadError>> {
        let reader = self.reader().clone();
        if self.reads_disk() {
            return read(move || Ok(reader.get(&key)?)).boxed();
        }
        std::future::ready(reader.get(&key).map_err(ReadError::from)).boxed()
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'static, Result<ScanPage, ReadError>> {
        let mut pager = self.reader().pager(scan);
        if self.reads_disk() {
            return read(move || {
                while pager.step()? && pager.items() < MAX_PAGE_ITEMS {}
                Ok(pager.page())
            })
            .boxed();
        }
        async move {
            while pager.step()? && pager.items() < MAX_PAGE_ITEMS {
                tokio::task::yield_now().await;
            }
            Ok(pager.page())
        }
        .boxed()
    }

    fn leases(&self, from: LeaseId) -> Vec<LeaseStatus> {
        self.reader().view().leases_from(from).take(MAX_PAGE_ITEMS).collect()
    }

    fn leadership(&self) -> Leadership {
        let change = *self.node().role_changes().borrow();
        if change.role == Role::Leader {
            return Leadership { leads_in: Some(change.term), elsewhere: None };
        }
        let elsewhere = change.leader.and_then(|id| {
            let address = self.node().address_of(id)?;
            Some(LeaderHint { id, address })
        });
        Leadership { leads_in: None, elsewhere }
    }

    fn snapshot(&self) -> BoxFuture<'static, Result<Index, SnapshotRequestError>> {
        let node = self.node().clone();
        async move { node.snapshot().await.map(|last| last.index) }.boxed()
    }

    fn snapshot_piece(&self, want: SnapshotWant) -> BoxFuture<'static, Result<Bytes, SnapshotRequestError>> {
        let node = self.node().clone();
        async move { node.snapshot_piece(want).await }.boxed()
    }

    fn change_members(
        &self,
        change: MemberChange,
        wait: Duration,
    ) -> BoxFuture<'static, Result<MemberList, MembersError>> {
        let store = self.with_timeout(wait);
        let present = *store.node().role_changes().borrow();
        async move {
            // Before the newcomer is asked who it is: it may be out of reach of this node alone.
            if present.role != Role::Leader {
                return Err(ChangeRefused::NotLeader { leader: present.leader }.into());
            }
            store.change_members(change).await?;
            Ok(MemberList::of(store.status()))
        }
        .boxed()
    }

    fn transfer(&self, to: NodeId) -> BoxFuture<'static, Result<(), TransferError>> {
        let node = self.node().clone();
        async move { node.transfer_leadership(to).await }.boxed()
    }

    fn status(&self) -> NodeStatus {
        KvStore::status(self)
    }
}
