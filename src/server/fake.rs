//! A store in memory whose answers a test holds back, refuses or loses; and connections made of queues.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::types::{ClusterId, Index, LeaseId, NodeId, Role, Term};

use super::kinds::{
    ChangeRefused, Consistency, Deleted, KeyValue, MemberChange, MemberList, MembersError, NodeStatus, Scan, ScanPage,
    SnapshotWant, TransferError, TransferRefused,
};
use super::protocol::{LeaderHint, Packet};
use super::store::{Leadership, Store};
use super::wire::{PacketSink, PacketSource, WireError};

/// What becomes of operations.
#[derive(Clone, Debug, Default)]
pub(crate) enum Mode {
    /// Done at once.
    #[default]
    Serve,
    /// Taken, and answered when released.
    Hold,
    /// Refused or lost.
    Fail(WriteError),
}

/// A node's state as a test sees it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) map: BTreeMap<Bytes, KeyValue>,
    /// Keys in the order in which their writes were proposed.
    pub(crate) proposed: Vec<String>,
    pub(crate) revision: u64,
    pub(crate) writes: Mode,
    pub(crate) reads: Mode,
    /// How often a read index was asked for.
    pub(crate) read_rounds: usize,
    /// How fresh reads had to be, in the order in which they waited.
    pub(crate) caught_up: Vec<Consistency>,
    /// Deadlines that came with writes.
    pub(crate) waits: Vec<Duration>,
    held: Vec<oneshot::Sender<()>>,
    pub(crate) leadership: Leadership,
    pub(crate) status: NodeStatus,
    /// The manifest of its snapshot, and the chunks by their numbers.
    pub(crate) pieces: BTreeMap<Option<u64>, Bytes>,
    /// Changes of members in the order in which they were asked for, and what the next ones hear.
    pub(crate) changes: Vec<MemberChange>,
    pub(crate) changing: VecDeque<Result<MemberList, MembersError>>,
    /// The same of transfers.
    pub(crate) transfers: Vec<NodeId>,
    pub(crate) transferring: VecDeque<Result<(), TransferError>>,
}

fn want_key(want: SnapshotWant) -> Option<u64> {
    match want {
        SnapshotWant::Newest { .. } => None,
        SnapshotWant::Chunk { chunk, .. } => Some(chunk),
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FakeStore {
    state: Arc<Mutex<State>>,
}

impl FakeStore {
    /// Node 1, leading alone in term 1.
    pub(crate) fn leader() -> Self {
        let status = NodeStatus {
            id: NodeId(1),
            cluster: Some(ClusterId(1)),
            epoch: 1,
            address: String::new(),
            role: Role::Leader,
            term: Term(1),
            leader: Some(NodeId(1)),
            first: Index(1),
            last: Index(0),
            durable: Index(0),
            committed: Index(0),
            applied: Index(0),
            disk_bytes: 0,
            snapshot: Index(0),
            snapshot_bytes_received: 0,
            damaged: 0,
            mended: 0,
            scrub: crate::node::ScrubProgress::default(),
            members: Vec::new(),
            error: None,
            version: "test".to_owned(),
        };
        let state = State {
            map: BTreeMap::new(),
            proposed: Vec::new(),
            revision: 0,
            writes: Mode::Serve,
            reads: Mode::Serve,
            read_rounds: 0,
            caught_up: Vec::new(),
            waits: Vec::new(),
            held: Vec::new(),
            leadership: Leadership { leads_in: Some(Term(1)), elsewhere: None },
            status,
            pieces: BTreeMap::new(),
            changes: Vec::new(),
            changing: VecDeque::new(),
            transfers: Vec::new(),
            transferring: VecDeque::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets everything held go on, the last first.
    pub(crate) fn release(&self) {
        let held: Vec<_> = self.state().held.drain(..).rev().collect();
        for held in held {
            let _asker_gone = held.send(());
        }
    }

    /// Becomes the leader of a term.
    pub(crate) fn lead(&self, term: u64) {
        let mut state = self.state();
        state.leadership = Leadership { leads_in: Some(Term(term)), elsewhere: None };
        state.status.role = Role::Leader;
        state.status.term = Term(term);
        state.status.leader = Some(state.status.id);
    }

    /// Follows another node, or nobody.
    pub(crate) fn follow(&self, term: u64, leader: Option<(u64, &str)>) {
        let mut state = self.state();
        let elsewhere = leader.map(|(id, address)| LeaderHint { id: NodeId(id), address: address.to_owned() });
        state.status.role = Role::Follower;
        state.status.term = Term(term);
        state.status.leader = elsewhere.as_ref().map(|hint| hint.id);
        state.leadership = Leadership { leads_in: None, elsewhere };
    }

    /// Puts a key without asking anybody.
    pub(crate) fn put_directly(&self, key: &str, value: &str) {
        let (key, value) = (key.to_owned().into_bytes(), value.to_owned().into_bytes());
        set(&mut self.state(), key.into(), value.into());
    }

    /// Waits as the mode says.
    fn pause(&self, pick: fn(&State) -> Mode) -> BoxFuture<'static, Result<(), WriteError>> {
        let mut state = self.state();
        match pick(&state) {
            Mode::Serve => std::future::ready(Ok(())).boxed(),
            Mode::Fail(error) => std::future::ready(Err(error)).boxed(),
            Mode::Hold => {
                let (held, released) = oneshot::channel();
                state.held.push(held);
                released.map(|_released| Ok(())).boxed()
            }
        }
    }

    fn write<T: 'static>(
        &self,
        wait: Duration,
        keys: Vec<Bytes>,
        change: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> BoxFuture<'static, Result<T, WriteError>> {
        let store = self.clone();
        let write = async move {
            let names = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned());
            store.state().proposed.extend(names);
            store.state().waits.push(wait);
            store.pause(|state| state.writes.clone()).await?;
            Ok(change(&mut store.state()))
        };
        write.boxed()
    }
}

fn set(state: &mut State, key: Bytes, value: Bytes) -> Index {
    state.revision += 1;
    let revision = Index(state.revision);
    let former = state.map.get(&key);
    let create_revision = former.map_or(revision, |former| former.create_revision);
    let version = former.map_or(1, |former| former.version + 1);
    state.map.insert(
        key.clone(),
        KeyValue { key, value, create_revision, mod_revision: revision, version, lease: LeaseId::ZERO },
    );
    revision
}

impl Store for FakeStore {
    fn put(&self, key: Bytes, value: Bytes, wait: Duration) -> BoxFuture<'static, Result<Index, WriteError>> {
        self.write(wait, vec![key.clone()], |state| set(state, key, value))
    }

    fn snapshot(&self) -> BoxFuture<'static, Result<Index, SnapshotRequestError>> {
        std::future::ready(Ok(Index(self.state().revision))).boxed()
    }

    fn snapshot_piece(&self, want: SnapshotWant) -> BoxFuture<'static, Result<Bytes, SnapshotRequestError>> {
        let absent = || SnapshotRequestError::Absent("a fake".to_owned());
        std::future::ready(self.state().pieces.get(&want_key(want)).cloned().ok_or_else(absent)).boxed()
    }

    fn put_batch(
        &self,
        _term: Option<Term>,
        pairs: Vec<(Bytes, Bytes)>,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Index, WriteError>> {
        let keys = pairs.iter().map(|(key, _value)| key.clone()).collect();
        self.write(wait, keys, |state| {
            pairs.into_iter().map(|(key, value)| set(state, key, value)).last().unwrap_or_default()
        })
    }

    fn delete(&self, key: Bytes, wait: Duration) -> BoxFuture<'static, Result<Deleted, WriteError>> {
        self.write(wait, vec![key.clone()], move |state| {
            state.revision += 1;
            let count = u64::from(state.map.remove(&key).is_some());
            Deleted { count, revision: Index(state.revision) }
        })
    }

    fn delete_prefix(&self, prefix: Bytes, wait: Duration) -> BoxFuture<'static, Result<Deleted, WriteError>> {
        self.write(wait, vec![prefix.clone()], move |state| {
            state.revision += 1;
            let before = state.map.len();
            state.map.retain(|key, _item| !key.starts_with(&prefix));
            Deleted { count: (before - state.map.len()) as u64, revision: Index(state.revision) }
        })
    }

    fn catch_up(&self, consistency: Consistency, _wait: Duration) -> BoxFuture<'static, Result<(), ReadError>> {
        self.state().read_rounds += 1;
        self.state().caught_up.push(consistency);
        let round = self.pause(|state| state.reads.clone());
        round.map(|answer| answer.map_err(|error| ReadError::Unavailable(error.to_string()))).boxed()
    }

    fn get(&self, key: Bytes) -> BoxFuture<'static, Result<Option<KeyValue>, ReadError>> {
        std::future::ready(Ok(self.state().map.get(&key).cloned())).boxed()
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'static, Result<ScanPage, ReadError>> {
        let state = self.state();
        let mut page = ScanPage { revision: Index(state.revision), ..ScanPage::default() };
        let limit = scan.limit.unwrap_or(u64::MAX);
        for (key, item) in &state.map {
            let wanted = key.starts_with(&scan.prefix) && scan.from.as_ref().is_none_or(|from| key >= from);
            if wanted && page.count == limit {
                page.next = Some(key.clone());
                break;
            }
            if wanted {
                page.count += 1;
                page.items.push(item.clone());
            }
        }
        std::future::ready(Ok(page)).boxed()
    }

    fn change_members(
        &self,
        change: MemberChange,
        _wait: Duration,
    ) -> BoxFuture<'static, Result<MemberList, MembersError>> {
        let mut state = self.state();
        if state.leadership.leads_in.is_none() {
            return std::future::ready(Err(ChangeRefused::NotLeader { leader: state.status.leader }.into())).boxed();
        }
        state.changes.push(change);
        let answer = state.changing.pop_front().unwrap_or_else(|| Ok(MemberList::of(state.status.clone())));
        drop(state);
        let pause = self.pause(|state| state.writes.clone());
        pause.map(|paused| paused.map_err(|error| MembersError::Unknown(error.to_string())).and(answer)).boxed()
    }

    fn transfer(&self, to: NodeId) -> BoxFuture<'static, Result<(), TransferError>> {
        let mut state = self.state();
        if state.leadership.leads_in.is_none() {
            return std::future::ready(Err(TransferRefused::NotLeader { leader: state.status.leader }.into())).boxed();
        }
        state.transfers.push(to);
        let answer = state.transferring.pop_front().unwrap_or(Ok(()));
        drop(state);
        let pause = self.pause(|state| state.writes.clone());
        pause.map(|paused| paused.map_err(|_lost| TransferError::GivenUp).and(answer)).boxed()
    }

    fn leadership(&self) -> Leadership {
        self.state().leadership.clone()
    }

    fn status(&self) -> NodeStatus {
        self.state().status.clone()
    }
}

/// The reading end of a connection made of a queue.
#[derive(Debug)]
pub(crate) struct QueueSource(pub(crate) mpsc::UnboundedReceiver<Result<Packet, WireError>>);

impl PacketSource for QueueSource {
    async fn next(&mut self) -> Result<Option<Packet>, WireError> {
        self.0.recv().await.transpose()
    }

    fn arrived(&mut self) -> Result<Option<Packet>, WireError> {
        self.0.try_recv().ok().transpose()
    }
}

/// The writing end of a connection made of a queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueSink(pub(crate) mpsc::UnboundedSender<Result<Packet, WireError>>);

/// The largest body that a queue takes.
pub(crate) const QUEUE_BODY_BYTES: usize = 16 << 20;

impl PacketSink for QueueSink {
    fn max_body_bytes(&self) -> usize {
        QUEUE_BODY_BYTES
    }

    async fn send(&mut self, packets: Vec<Packet>) -> Result<(), WireError> {
        for packet in packets {
            self.0.send(Ok(packet)).map_err(|_gone| WireError::Closed("the queue has no reader".to_owned()))?;
        }
        Ok(())
    }
}

/// A queue with its two ends.
pub(crate) fn queue() -> (QueueSink, QueueSource) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (QueueSink(sender), QueueSource(receiver))
}
