//! The state machine: replays committed commands into the map.
//!
//! Contract (src/state_machine.rs): nothing but the map and the entry decides. A range delete goes through its keys
//! in bounded turns; readers see none of it before the whole is done, because only whole entries are published.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec;
use crate::state_machine::{Applied, ApplyError, Entry, StateMachine};
use crate::types::{EntryId, Kind};

use super::command::Command;
use super::memory::{Key, MemoryMap};
use super::view::{KvReader, KvView};

/// Keys that one turn of a range delete removes.
const TURN_KEYS: usize = 256;

/// A range delete that is under way.
#[derive(Debug)]
struct Deleting {
    from: Bytes,
    to: Option<Bytes>,
    count: u64,
}

/// The KV's state machine.
#[derive(Debug, Default)]
pub struct KvMachine {
    map: MemoryMap,
    last: EntryId,
    deleting: Option<Deleting>,
    reader: KvReader,
}

impl KvMachine {
    /// An empty machine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What readers see of it: stays valid as the machine goes on.
    #[must_use]
    pub fn reader(&self) -> KvReader {
        self.reader.clone()
    }

    fn turn(&mut self) -> Applied {
        let Some(deleting) = &mut self.deleting else { return Applied::Done(Bytes::new()) };
        let to = deleting.to.as_ref().map_or(Bound::Unbounded, |to| Bound::Excluded(to.as_ref()));
        let keys: Vec<Key> = if deleting.to.as_ref().is_some_and(|to| *to <= deleting.from) {
            Vec::new()
        } else {
            let range = self.map.range(Bound::Included(&deleting.from), to);
            range.take(TURN_KEYS).map(|(key, _stored)| Arc::clone(key)).collect()
        };
        for key in &keys {
            self.map.delete(key);
        }
        deleting.count += keys.len() as u64;
        if keys.len() == TURN_KEYS {
            return Applied::More;
        }
        let count = deleting.count;
        self.deleting = None;
        Applied::Done(deleted(count))
    }
}

impl StateMachine for KvMachine {
    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        self.last = entry.id;
        match entry.kind {
            Kind::Data => {}
            Kind::NoOp | Kind::Membership => return Ok(Applied::Done(Bytes::new())),
        }
        let command =
            Command::decode(&entry.payload).map_err(|error| ApplyError { id: entry.id, reason: error.to_string() })?;
        Ok(match command {
            Command::Put { key, value } => {
                self.map.put(&key, &value, entry.id.index);
                Applied::Done(Bytes::new())
            }
            Command::Delete { key } => Applied::Done(deleted(u64::from(self.map.delete(&key)))),
            Command::DeleteRange { from, to } => {
                self.deleting = Some(Deleting { from, to, count: 0 });
                self.turn()
            }
        })
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        Ok(self.turn())
    }

    fn publish(&mut self) {
        self.reader.publish(KvView::new(self.map.clone(), self.last.index));
    }
}

/// The answer to a delete: how many keys went.
fn deleted(count: u64) -> Bytes {
    Bytes::copy_from_slice(&count.to_le_bytes())
}

/// Reads the answer to a delete.
pub(super) fn deleted_count(answer: &[u8]) -> Option<u64> {
    codec::decode("delete answer", answer).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kv::{Scan, ScanPage};
    use crate::types::{Index, LogTime, Position, Term};
    use proptest::prelude::*;

    fn entry(index: u64, payload: Bytes) -> Entry {
        let id = EntryId::new(Index(index), Term(1));
        Entry { id, position: Position(0), time: LogTime(0), kind: Kind::Data, channel: 0, payload }
    }

    /// Applies a command whole and publishes it.
    fn apply(machine: &mut KvMachine, index: u64, command: &Command) -> Bytes {
        let mut applied = machine.apply(&entry(index, command.encode())).unwrap();
        loop {
            match applied {
                Applied::Done(answer) => {
                    machine.publish();
                    return answer;
                }
                Applied::More => applied = machine.resume().unwrap(),
            }
        }
    }

    fn put(key: &str, value: &str) -> Command {
        Command::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::copy_from_slice(value.as_bytes()) }
    }

    fn filled(count: u64) -> KvMachine {
        let mut machine = KvMachine::new();
        for index in 1..=count {
            apply(&mut machine, index, &put(&format!("k{index:05}"), "v"));
        }
        machine
    }

    #[test]
    fn machine_counts_revisions_and_versions_of_a_life() {
        let mut machine = KvMachine::new();
        apply(&mut machine, 5, &put("a", "1"));
        apply(&mut machine, 7, &put("a", "2"));
        let seen = machine.reader().view().get(b"a").unwrap();
        assert_eq!((seen.create_revision, seen.mod_revision, seen.version), (Index(5), Index(7), 2));
        let key = Bytes::from_static(b"a");
        assert_eq!(deleted_count(&apply(&mut machine, 8, &Command::Delete { key: key.clone() })), Some(1));
        assert_eq!(deleted_count(&apply(&mut machine, 9, &Command::Delete { key })), Some(0));
        apply(&mut machine, 10, &put("a", "3"));
        let seen = machine.reader().view().get(b"a").unwrap();
        assert_eq!((seen.create_revision, seen.mod_revision, seen.version), (Index(10), Index(10), 1));
    }

    #[test]
    fn machine_range_delete_takes_turns_and_is_invisible_before_its_end() {
        let mut machine = filled(1000);
        let command = Command::delete_prefix(Bytes::from_static(b"k"));
        assert_eq!(machine.apply(&entry(1001, command.encode())).unwrap(), Applied::More);
        assert_eq!(machine.reader().view().scan(&Scan::default()).count, 1000);
        let mut turns = 0;
        let answer = loop {
            turns += 1;
            if let Applied::Done(answer) = machine.resume().unwrap() {
                break answer;
            }
        };
        machine.publish();
        assert_eq!((turns, deleted_count(&answer)), (3, Some(1000)));
        assert_eq!(machine.reader().view().scan(&Scan::default()).count, 0);
    }

    #[test]
    fn machine_stops_at_a_command_it_does_not_know() {
        let mut machine = KvMachine::new();
        let error = machine.apply(&entry(3, Bytes::from_static(&[77, 1]))).unwrap_err();
        assert!(error.reason.contains("tag 77"), "{error}");
    }

    #[test]
    fn view_stays_the_same_while_the_machine_goes_on() {
        let mut machine = filled(3);
        let before = machine.reader().view();
        apply(&mut machine, 4, &Command::delete_prefix(Bytes::new()));
        assert_eq!(before.scan(&Scan::default()).count, 3);
    }

    fn keys(page: &ScanPage) -> Vec<String> {
        page.items.iter().map(|item| String::from_utf8(item.key.to_vec()).unwrap()).collect()
    }

    #[test]
    fn scan_pages_join_to_the_whole_in_both_directions() {
        let machine = filled(3000);
        let view = machine.reader().view();
        for reverse in [false, true] {
            let mut whole = Vec::new();
            let mut scan = Some(Scan { max_bytes: 500, reverse, limit: Some(2500), ..Scan::default() });
            while let Some(next) = scan {
                let page = view.scan(&next);
                whole.extend(keys(&page));
                scan = next.after(&page);
            }
            let mut expected: Vec<String> = (1..=3000).map(|index| format!("k{index:05}")).collect();
            if reverse {
                expected.reverse();
            }
            expected.truncate(2500);
            assert_eq!(whole, expected);
        }
    }

    #[test]
    fn scan_counts_without_items_past_one_step() {
        let view = filled(3000).reader().view();
        let page = view.scan(&Scan { count_only: true, ..Scan::default() });
        assert_eq!((page.count, page.items.len(), page.next), (3000, 0, None));
    }

    proptest! {
        #[test]
        fn scan_agrees_with_a_sorted_map(
            keys in proptest::collection::btree_set(proptest::collection::vec(0u8..4, 1..4), 0..40),
            from in proptest::option::of(proptest::collection::vec(0u8..4, 0..3)),
            to in proptest::option::of(proptest::collection::vec(0u8..4, 0..3)),
            prefix in proptest::collection::vec(prop_oneof![0u8..4, Just(255)], 0..2),
            limit in proptest::option::of(0u64..10),
            reverse in any::<bool>(),
            max_bytes in 1u64..40,
        ) {
            let mut machine = KvMachine::new();
            let mut model = BTreeMap::new();
            for (index, key) in keys.iter().enumerate() {
                let command = Command::Put { key: key.clone().into(), value: Bytes::from_static(b"v") };
                apply(&mut machine, index as u64 + 1, &command);
                model.insert(key.clone(), ());
            }
            let mut expected: Vec<Vec<u8>> = model
                .into_keys()
                .filter(|key| from.as_ref().is_none_or(|from| key >= from))
                .filter(|key| to.as_ref().is_none_or(|to| key < to))
                .filter(|key| key.starts_with(&prefix))
                .collect();
            if reverse {
                expected.reverse();
            }
            expected.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
            let view = machine.reader().view();
            let bytes = |key: &Option<Vec<u8>>| key.clone().map(Bytes::from);
            let first = Scan { from: bytes(&from), to: bytes(&to), prefix: prefix.into(), limit, reverse, max_bytes, ..Scan::default() };
            let mut found: Vec<Vec<u8>> = Vec::new();
            let mut scan = Some(first);
            while let Some(next) = scan {
                let page = view.scan(&next);
                found.extend(page.items.iter().map(|item| item.key.to_vec()));
                scan = next.after(&page);
            }
            prop_assert_eq!(found, expected);
        }
    }
}
