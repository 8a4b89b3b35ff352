//! A store in memory whose answers a test holds back, refuses or loses; and connections made of queues.
//!
//! What commands do is done by the real machine, on a log that several stores may share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::error::{ReadError, SnapshotRequestError, WriteError};
use crate::kv::backend::memory::MemoryMap;
use crate::kv::command::Command;
use crate::kv::machine::KvMachine;
use crate::kv::view::KvReader;
use crate::state_machine::{Applied, Entry, StateMachine};
use crate::types::{ClusterId, EntryId, Index, Kind, LeaseId, LogTime, NodeId, Position, Role, Term};

use super::kinds::{
    ChangeRefused, Consistency, KeyValue, LeaseStatus, MemberChange, MemberList, MembersError, NodeStatus, Scan,
    ScanPage, SnapshotWant, TransferError, TransferRefused,
};
use super::protocol::{Failure, LeaderHint, Packet};
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
    /// Done, and the answer is lost.
    Lose,
}

/// A log that is applied at once.
#[derive(Debug, Default)]
struct Log {
    machine: KvMachine,
    revision: u64,
    /// Log time, in milliseconds.
    time: u64,
}

impl Log {
    fn apply(&mut self, kind: Kind, payload: Bytes) -> (Index, Bytes) {
        self.revision += 1;
        let id = EntryId::new(Index(self.revision), Term(1));
        let entry = Entry { id, position: Position(0), time: LogTime(self.time), kind, channel: 0, payload };
        let mut applied = self.machine.apply(&entry).unwrap();
        while applied == Applied::More {
            applied = self.machine.resume().unwrap();
        }
        self.machine.publish().unwrap();
        let Applied::Done(answer) = applied else { panic!("more of an entry that is done") };
        (id.index, answer)
    }
}

/// A node's state as a test sees it.
#[derive(Debug)]
pub(crate) struct State {
    /// Keys in the order in which their writes were proposed; of a range, its start.
    pub(crate) proposed: Vec<String>,
    /// How many sessions were to be opened and closed.
    pub(crate) opened: usize,
    pub(crate) closed: usize,
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
    log: Arc<Mutex<Log>>,
    reader: KvReader<MemoryMap>,
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
            proposed: Vec::new(),
            opened: 0,
            closed: 0,
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
        let log = Log::default();
        let reader = log.machine.reader();
        Self { state: Arc::new(Mutex::new(state)), log: Arc::new(Mutex::new(log)), reader }
    }

    /// From now on a replica of the same log.
    pub(crate) fn follow_the_log_of(&mut self, other: &Self) {
        (self.log, self.reader) = (Arc::clone(&other.log), other.reader.clone());
    }

    /// How many entries there are.
    pub(crate) fn revision(&self) -> u64 {
        self.log.lock().unwrap().revision
    }

    /// All keys and values.
    pub(crate) fn content(&self) -> BTreeMap<Bytes, Bytes> {
        let page = self.reader.view().scan(&Scan { max_bytes: u64::MAX, ..Scan::default() }).unwrap();
        page.items.into_iter().map(|item| (item.key, item.value)).collect()
    }

    /// Log time goes on, and what is due ends.
    pub(crate) fn pass(&self, time: Duration) {
        let mut log = self.log.lock().unwrap();
        log.time += u64::try_from(time.as_millis()).unwrap();
        log.apply(Kind::NoOp, Bytes::new());
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
        self.apply(&Command::put(key.as_bytes(), value.as_bytes()));
    }

    /// Does a command without asking anybody.
    pub(crate) fn apply(&self, command: &Command<'_>) {
        self.log.lock().unwrap().apply(Kind::Data, command.encode());
    }

    /// Waits as the mode says.
    fn pause(&self, pick: fn(&State) -> Mode) -> BoxFuture<'static, Result<(), WriteError>> {
        let mut state = self.state();
        match pick(&state) {
            Mode::Serve | Mode::Lose => std::future::ready(Ok(())).boxed(),
            Mode::Fail(error) => std::future::ready(Err(error)).boxed(),
            Mode::Hold => {
                let (held, released) = oneshot::channel();
                state.held.push(held);
                released.map(|_released| Ok(())).boxed()
            }
        }
    }

    fn write(
        &self,
        wait: Duration,
        keys: Vec<Bytes>,
        payloads: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<(Index, Bytes), WriteError>> {
        let store = self.clone();
        let write = async move {
            if !keys.is_empty() {
                let names = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned());
                store.state().proposed.extend(names);
                store.state().waits.push(wait);
            }
            store.pause(|state| state.writes.clone()).await?;
            let apply = |payload| store.log.lock().unwrap().apply(Kind::Data, payload);
            let last = payloads.into_iter().map(apply).last().unwrap_or_default();
            match store.state().writes {
                Mode::Lose => Err(WriteError::Unknown("the answer is lost".to_owned())),
                Mode::Serve | Mode::Hold | Mode::Fail(_) => Ok(last),
            }
        };
        write.boxed()
    }

    /// The keys that a command writes.
    fn keys_of(&self, command: &Command<'_>) -> Vec<Bytes> {
        match command {
            Command::Put { key, .. } | Command::Delete { key } => vec![Bytes::copy_from_slice(key)],
            Command::DeleteRange { from, .. } => vec![Bytes::copy_from_slice(from)],
            Command::Txn(txn) => txn.then.iter().map(|op| op.key().clone()).collect(),
            Command::Numbered { command, .. } => self.keys_of(&Command::decode(command).unwrap()),
            Command::GrantLease { .. } => vec![Bytes::from("a lease")],
            Command::OpenSession { .. } => {
                self.state().opened += 1;
                Vec::new()
            }
            Command::CloseSession { .. } => {
                self.state().closed += 1;
                Vec::new()
            }
            Command::KeepAlive { .. } | Command::RevokeLease { .. } => Vec::new(),
        }
    }
}

impl Store for FakeStore {
    fn command(&self, command: Bytes, wait: Duration) -> BoxFuture<'static, Result<(Index, Bytes), Failure>> {
        let keys = match Command::decode(&command) {
            Ok(decoded) => self.keys_of(&decoded),
            Err(error) => return std::future::ready(Err(error.into())).boxed(),
        };
        self.write(wait, keys, vec![command]).map(|done| done.map_err(Failure::from)).boxed()
    }

    fn snapshot(&self) -> BoxFuture<'static, Result<Index, SnapshotRequestError>> {
        std::future::ready(Ok(Index(self.revision()))).boxed()
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
        let payloads = pairs.iter().map(|(key, value)| Command::put(key, value).encode()).collect();
        self.write(wait, keys, payloads).map(|done| done.map(|(revision, _answer)| revision)).boxed()
    }

    fn catch_up(&self, consistency: Consistency, _wait: Duration) -> BoxFuture<'static, Result<(), ReadError>> {
        self.state().read_rounds += 1;
        self.state().caught_up.push(consistency);
        let round = self.pause(|state| state.reads.clone());
        round.map(|answer| answer.map_err(|error| ReadError::Unavailable(error.to_string()))).boxed()
    }

    fn get(&self, key: Bytes) -> BoxFuture<'static, Result<Option<KeyValue>, ReadError>> {
        std::future::ready(Ok(self.reader.get(&key).unwrap())).boxed()
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'static, Result<ScanPage, ReadError>> {
        std::future::ready(Ok(self.reader.view().scan(&scan).unwrap())).boxed()
    }

    fn leases(&self, from: LeaseId) -> Vec<LeaseStatus> {
        self.reader.view().leases_from(from).take(2).collect()
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
