//! A store in memory for unit tests: the state machine of a node, fed with commands one by one, with failures on demand.
//!
//! What it answers is what a cluster answers, for it is the same code; what it cannot show is a network. Its log time
//! stands still until a test moves it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use dledger::error::Rejection;
use dledger::kv::answer::Answer;
use dledger::kv::command::Command;
use dledger::kv::machine::KvMachine;
use dledger::kv::txn::TxnPart;
use dledger::kv::{Changes, Event, EventKind, KeyRange, LeaseStatus, Txn, TxnDone, TxnOp, WatchError, WatchOptions};
use dledger::node::{MemberChange, MemberStatus};
use dledger::state_machine::{Applied, Entry, StateMachine};
use dledger::types::{EntryId, Index, Kind as EntryKind, LeaseId, LogTime, NodeId, Position, Term};

use super::{Deleted, KeyValue, MemberList, NodeRow, Nodes, Scan, ScanPage, SnapshotRow, rejected};
use crate::exit::{Failure, Kind};

/// Keys longer than this are refused, so that tests can meet a limit.
pub(crate) const MAX_KEY_BYTES: usize = 4096;
/// A page of a scan is small, so that tests meet several.
const PAGE_BYTES: u64 = 48_000;

#[derive(Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    machine: KvMachine,
    applied: u64,
    time: LogTime,
    /// What changed so far.
    history: Vec<Changes>,
    /// What the next writes answer; `None` lets one pass.
    planned: VecDeque<Option<Failure>>,
    /// What watches meet before anything that changed.
    watch_errors: VecDeque<WatchError>,
    /// Changes of members that were asked for.
    members: Vec<MemberChange>,
}

impl State {
    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.machine.reader().get(key).unwrap()
    }

    fn items(&self, range: &KeyRange) -> Vec<KeyValue> {
        let scan = Scan { from: Some(range.from.clone()), to: range.to.clone(), ..Scan::default() };
        self.page(scan).items
    }

    fn page(&self, scan: Scan) -> ScanPage {
        let reader = self.machine.reader();
        let mut pager = reader.pager(scan);
        while pager.step().unwrap() {}
        pager.page()
    }

    /// Applies an entry, and notes what it changed of these keys.
    fn entry(&mut self, kind: EntryKind, payload: Bytes, keys: &[Bytes]) -> (Index, Bytes) {
        let before: Vec<Option<KeyValue>> = keys.iter().map(|key| self.get(key)).collect();
        self.applied += 1;
        let id = EntryId { index: Index(self.applied), term: Term(1) };
        let entry = Entry { id, position: Position(0), time: self.time, kind, channel: 0, payload };
        let mut applied = self.machine.apply(&entry).unwrap();
        let answer = loop {
            match applied {
                Applied::Done(answer) => break answer,
                Applied::More => applied = self.machine.resume().unwrap(),
            }
        };
        self.machine.publish().unwrap();
        let events = keys.iter().zip(before).filter_map(|(key, before)| {
            let now = self.get(key);
            let kind = match now {
                _ if now == before => return None,
                Some(pair) => EventKind::Put { value: pair.value, lease: pair.lease },
                None => EventKind::Delete,
            };
            Some(Event { key: key.clone(), kind, previous: None })
        });
        let events: Vec<Event> = events.collect();
        if !events.is_empty() {
            self.history.push(Changes { revision: id.index, events });
        }
        (id.index, answer)
    }

    /// The keys that a command may change.
    fn touched(&self, command: &Command<'_>) -> Vec<Bytes> {
        let all = || self.items(&KeyRange::default()).into_iter();
        match command {
            Command::Put { key, .. } | Command::Delete { key } => vec![Bytes::copy_from_slice(key)],
            Command::DeleteRange { from, to } => {
                let range = KeyRange { from: Bytes::copy_from_slice(from), to: to.map(Bytes::copy_from_slice) };
                self.items(&range).into_iter().map(|pair| pair.key).collect()
            }
            Command::Txn(txn) => txn.then.iter().chain(&txn.otherwise).map(TxnOp::key).cloned().collect(),
            Command::RevokeLease { lease } => all().filter(|pair| pair.lease == *lease).map(|pair| pair.key).collect(),
            Command::GrantLease { .. }
            | Command::KeepAlive { .. }
            | Command::OpenSession { .. }
            | Command::CloseSession { .. }
            | Command::Numbered { .. } => Vec::new(),
        }
    }

    fn write(&mut self, command: &Command<'_>) -> Result<(Index, Answer), Failure> {
        if let Some(Some(failure)) = self.planned.pop_front() {
            return Err(failure);
        }
        let keys = self.touched(command);
        let (revision, answer) = self.entry(EntryKind::Data, command.encode(), &keys);
        let answer = Answer::decode(&answer).unwrap();
        if let Answer::Rejected(rejection) = &answer { Err(rejected(rejection)) } else { Ok((revision, answer)) }
    }

    fn deleting(&mut self, command: &Command<'_>) -> Result<Deleted, Failure> {
        match self.write(command)? {
            (revision, Answer::Deleted(count)) => Ok(Deleted { count, revision }),
            other => panic!("{other:?}"),
        }
    }
}

fn check_key(key: &[u8]) -> Result<(), Failure> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Failure::new(Kind::Refused, format!("refused: a key of {} bytes is too long", key.len())));
    }
    Ok(())
}

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Plans the answers of the next writes.
    pub(crate) fn plan(&self, answers: impl IntoIterator<Item = Option<Failure>>) {
        self.state().planned.extend(answers);
    }

    /// Plans what the next watches meet first.
    pub(crate) fn plan_watch(&self, errors: impl IntoIterator<Item = WatchError>) {
        self.state().watch_errors.extend(errors);
    }

    /// Lets log time pass, and what is due end.
    pub(crate) fn pass(&self, time: Duration) {
        let mut state = self.state();
        state.time = LogTime(state.time.get() + u64::try_from(time.as_millis()).unwrap());
        let leased: Vec<Bytes> = state.items(&KeyRange::default()).into_iter().map(|pair| pair.key).collect();
        state.entry(EntryKind::NoOp, Bytes::new(), &leased);
    }

    /// All keys and values.
    pub(crate) fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let items = self.state().items(&KeyRange::default());
        items.into_iter().map(|pair| (pair.key.to_vec(), pair.value.to_vec())).collect()
    }

    pub(crate) fn put_batch(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<u64, Failure> {
        let mut last = 0;
        for (key, value) in pairs {
            last = self.put(&key, &value, LeaseId::ZERO)?;
        }
        Ok(last)
    }

    pub(crate) fn put(&self, key: &Bytes, value: &Bytes, lease: LeaseId) -> Result<u64, Failure> {
        check_key(key)?;
        Ok(self.state().write(&Command::Put { key, value, lease })?.0.get())
    }

    pub(crate) fn transact(&self, txn: Txn) -> Result<TxnDone, Failure> {
        for (place, part) in txn.parts() {
            let key = match part {
                TxnPart::Compare(compare) => &compare.key,
                TxnPart::Op(op) => op.key(),
            };
            check_key(key).map_err(|failure| Failure::new(failure.kind, format!("{place}: {}", failure.message)))?;
        }
        match self.state().write(&Command::Txn(txn))? {
            (revision, Answer::Txn { succeeded, results }) => Ok(TxnDone { succeeded, revision, results }),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&self, key: &Bytes) -> Result<Deleted, Failure> {
        self.state().deleting(&Command::Delete { key })
    }

    pub(crate) fn delete_prefix(&self, prefix: &Bytes) -> Result<Deleted, Failure> {
        let KeyRange { from, to } = KeyRange::of_prefix(prefix.clone());
        self.state().deleting(&Command::DeleteRange { from: &from, to: to.as_deref() })
    }

    pub(crate) fn get(&self, key: &Bytes) -> Result<Option<KeyValue>, Failure> {
        Ok(self.state().get(key))
    }

    pub(crate) fn scan(&self, scan: &Scan) -> Result<ScanPage, Failure> {
        Ok(self.state().page(Scan { max_bytes: PAGE_BYTES, ..scan.clone() }))
    }

    pub(crate) fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, Failure> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap();
        let (revision, _answer) = self.state().write(&Command::GrantLease { ttl_ms })?;
        Ok(LeaseId(revision.get()))
    }

    pub(crate) fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Failure> {
        match self.state().write(&Command::KeepAlive { leases: vec![lease] })? {
            (_, Answer::KeptAlive(leases)) => match leases[..] {
                [Some(ttl_ms)] => Ok(Duration::from_millis(ttl_ms)),
                _ => Err(rejected(&Rejection::NoLease(lease))),
            },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn revoke_lease(&self, lease: LeaseId) -> Result<Deleted, Failure> {
        self.state().deleting(&Command::RevokeLease { lease })
    }

    pub(crate) fn leases(&self) -> Vec<LeaseStatus> {
        self.state().machine.reader().view().leases().collect()
    }

    pub(crate) fn watch(&self, options: WatchOptions) -> FakeWatch {
        FakeWatch { store: self.clone(), range: options.range, next: options.from }
    }

    pub(crate) fn snapshot(&self) -> Vec<SnapshotRow> {
        vec![SnapshotRow { id: 1, taken: Err("a fake".to_owned()) }]
    }

    /// Node 1 alone.
    pub(crate) fn members(&self) -> MemberList {
        let member = MemberStatus::voter(NodeId(1), "127.0.0.1:7101".to_owned());
        MemberList { leader: Some(NodeId(1)), members: vec![member] }
    }

    pub(crate) fn change_members(&self, change: MemberChange) -> MemberList {
        self.state().members.push(change);
        self.members()
    }

    /// Changes of members that were asked for.
    pub(crate) fn changes(&self) -> Vec<MemberChange> {
        self.state().members.clone()
    }

    pub(crate) fn transfer_leadership(&self, to: NodeId) -> Result<(), Failure> {
        if to == NodeId(1) { Ok(()) } else { Err(Failure::new(Kind::No, format!("node {to} is not a voter"))) }
    }

    pub(crate) fn nodes(&self) -> Result<Nodes, Failure> {
        let row =
            NodeRow { id: 1, address: "127.0.0.1:7101".to_owned(), place: None, answer: Err("a fake".to_owned()) };
        Ok(Nodes { cluster_id: None, nodes: vec![row] })
    }
}

/// A watch of what a fake has noted. Waits for ever where nothing more changed.
pub(crate) struct FakeWatch {
    store: Fake,
    range: KeyRange,
    next: Option<Index>,
}

impl FakeWatch {
    pub(crate) async fn next(&mut self) -> Result<Changes, WatchError> {
        let from = *self.next.get_or_insert_with(|| Index(self.store.state().applied + 1));
        let found = {
            let mut state = self.store.state();
            if let Some(error) = state.watch_errors.pop_front() {
                return Err(error);
            }
            let part = |changes: &Changes| Changes {
                revision: changes.revision,
                events: changes.events.iter().filter(|event| self.range.contains(&event.key)).cloned().collect(),
            };
            let later = state.history.iter().filter(|changes| changes.revision >= from);
            later.map(part).find(|changes| !changes.events.is_empty())
        };
        let Some(changes) = found else { return std::future::pending().await };
        self.next = Some(Index(changes.revision.get() + 1));
        Ok(changes)
    }
}
