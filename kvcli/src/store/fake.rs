//! A store in memory for unit tests, with failures on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use dledger::node::{MemberChange, MemberStatus};
use dledger::types::{Index, NodeId};

use super::{Deleted, KeyValue, MemberList, NodeRow, Nodes, Scan, ScanPage, SnapshotRow};
use crate::exit::{Failure, Kind};

/// Keys longer than this are refused, so that tests can meet a limit.
pub(crate) const MAX_KEY_BYTES: usize = 300;
/// Keys of one page.
const PAGE_KEYS: usize = 1_000;

#[derive(Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<Bytes, KeyValue>,
    revision: u64,
    /// What the next batches of puts answer; `None` lets one pass.
    planned: VecDeque<Option<Failure>>,
    /// Changes of members that were asked for.
    changes: Vec<MemberChange>,
}

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Plans the answers of the next batches.
    pub(crate) fn plan(&self, answers: impl IntoIterator<Item = Option<Failure>>) {
        self.state().planned.extend(answers);
    }

    /// All keys and values.
    pub(crate) fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.state().keys.values().map(|pair| (pair.key.to_vec(), pair.value.to_vec())).collect()
    }

    pub(crate) fn put_batch(&self, pairs: Vec<(Bytes, Bytes)>) -> Result<u64, Failure> {
        let mut state = self.state();
        if let Some(Some(failure)) = state.planned.pop_front() {
            return Err(failure);
        }
        if let Some((key, _)) = pairs.iter().find(|(key, _)| key.len() > MAX_KEY_BYTES) {
            return Err(Failure::new(Kind::Refused, format!("refused: a key of {} bytes is too long", key.len())));
        }
        for (key, value) in pairs {
            state.revision += 1;
            let revision = state.revision;
            let before = state.keys.get(&key).cloned();
            let pair = KeyValue {
                lease: dledger::types::LeaseId::ZERO,
                key: key.clone(),
                value,
                create_revision: before.as_ref().map_or(Index(revision), |before| before.create_revision),
                mod_revision: Index(revision),
                version: before.map_or(1, |before| before.version + 1),
            };
            state.keys.insert(key, pair);
        }
        Ok(state.revision)
    }

    pub(crate) fn delete(&self, key: &Bytes) -> Result<Deleted, Failure> {
        let mut state = self.state();
        state.revision += 1;
        let count = u64::from(state.keys.remove(key).is_some());
        Ok(Deleted { count, revision: Index(state.revision) })
    }

    pub(crate) fn delete_prefix(&self, prefix: &Bytes) -> Result<Deleted, Failure> {
        let mut state = self.state();
        state.revision += 1;
        let before = state.keys.len();
        state.keys.retain(|key, _| !key.starts_with(prefix));
        Ok(Deleted { count: (before - state.keys.len()) as u64, revision: Index(state.revision) })
    }

    pub(crate) fn get(&self, key: &Bytes) -> Result<Option<KeyValue>, Failure> {
        Ok(self.state().keys.get(key).cloned())
    }

    pub(crate) fn scan(&self, scan: &Scan) -> Result<ScanPage, Failure> {
        let state = self.state();
        let mut all: Vec<KeyValue> = state
            .keys
            .values()
            .filter(|pair| pair.key.starts_with(&scan.prefix))
            .filter(|pair| scan.from.as_ref().is_none_or(|from| pair.key >= from))
            .filter(|pair| scan.to.as_ref().is_none_or(|to| pair.key < to))
            .cloned()
            .collect();
        if scan.reverse {
            all.reverse();
        }
        let limit = usize::try_from(scan.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        all.truncate(limit);
        let next = match (all.len() > PAGE_KEYS, scan.reverse) {
            (false, _) => None,
            (true, false) => Some(all[PAGE_KEYS].key.clone()),
            (true, true) => Some(all[PAGE_KEYS - 1].key.clone()),
        };
        all.truncate(PAGE_KEYS);
        let count = all.len() as u64;
        if scan.count_only {
            all.clear();
        }
        Ok(ScanPage { items: all, count, next, revision: Index(state.revision) })
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
        self.state().changes.push(change);
        self.members()
    }

    /// Changes of members that were asked for.
    pub(crate) fn changes(&self) -> Vec<MemberChange> {
        self.state().changes.clone()
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
