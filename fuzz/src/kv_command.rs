//! Commands of the KV, from the bytes of an entry to what readers see.
//!
//! ```text
//!   steps: kind (1), then
//!     0  length (1), payload             an entry of these bytes
//!     1  key (1), value length (1)       a put of a short key
//!     2  key (1)                         a delete of a short key
//!     3  from (1), to (1)                a range delete; to = 255: to the end
//!     4  count (1), prefix (1)           that many times four puts of longer keys
//!     5  kind                            an entry that is no command
//!     6  how (1), from (1), to (1), limit (1)    a scan
//! ```
//! Claims: an accepted command is encoded again to the same bytes, and its answer can be read; the machine holds what a plain
//! map holds after the same puts and deletes, revisions and counts included; readers see a range delete whole or not at all, whatever its turns; a scan by
//! pages gives what the map gives; an entry that is refused changes nothing.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use dledger::codec::DecodeError;
use dledger::kv::answer::Answer;
use dledger::kv::command::Command;
use dledger::kv::machine::KvMachine;
use dledger::kv::{KeyValue, Scan};
use dledger::state_machine::{Applied, Entry, StateMachine};
use dledger::types::{EntryId, Index, Kind, LeaseId, LogTime, Position, Term};

use crate::{Seed, golden, memory};

const MEMORY: &str = "a map in memory does not fail";
/// Steps of one run: more say nothing new.
const MAX_STEPS: usize = 64;
/// Keys that the puts of one run by the hundred may write: several turns of a range delete.
const MAX_BULK: usize = 1200;
/// Pages of a scan are small, so that there are several.
const PAGE_BYTES: u64 = 200;
const ENOUGH_BYTES: usize = 512;
/// A list reserves up to 1 MiB for what it claims; a transaction has three.
const ENOUGH_FOR_LISTS_BYTES: usize = (3 << 20) + ENOUGH_BYTES;

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let mut run =
        Run { bulk: 0, machine: KvMachine::new(), model: BTreeMap::new(), leases: BTreeMap::new(), index: Index::ZERO };
    for _ in 0..MAX_STEPS {
        let Ok(kind) = data.try_get_u8() else { break };
        run.step(kind, &mut data);
    }
    run.check_all();
}

/// What the map holds of a key: value, create and modify revision, version.
type Stored = (Bytes, Index, Index, u64);

struct Run {
    bulk: usize,
    machine: KvMachine,
    model: BTreeMap<Vec<u8>, Stored>,
    /// Of keys that have one.
    leases: BTreeMap<Vec<u8>, LeaseId>,
    index: Index,
}

fn byte(data: &mut &[u8]) -> u8 {
    data.try_get_u8().unwrap_or(0)
}

/// A key of few, so that steps meet.
fn short(key: u8) -> Vec<u8> {
    match key {
        0 => Vec::new(),
        255 => vec![255, 255],
        key => vec![b'a' + key % 8; usize::from(key / 8 % 3) + 1],
    }
}

/// Whether the bytes say that lists follow.
fn has_lists(payload: &[u8]) -> bool {
    matches!(payload, [5 | 7 | 11, ..])
}

/// A command, with what it numbers, if it does.
fn whole(payload: &[u8]) -> Result<Command<'_>, DecodeError> {
    let command = Command::decode(payload)?;
    if let Command::Numbered { command: numbered, .. } = command {
        Command::decode(numbered)?;
    }
    Ok(command)
}

impl Run {
    fn step(&mut self, kind: u8, data: &mut &[u8]) {
        match kind % 7 {
            0 => {
                let length = usize::from(byte(data)).min(data.len());
                let payload = Bytes::copy_from_slice(&data[..length]);
                data.advance(length);
                self.apply(Kind::Data, payload);
            }
            1 => {
                let (key, value) = (short(byte(data)), vec![b'v'; usize::from(byte(data))]);
                self.command(&Command::put(&key, &value));
            }
            2 => self.command(&Command::Delete { key: &short(byte(data)) }),
            3 => {
                let (from, to) = (short(byte(data)), byte(data));
                let to = (to != 255).then(|| short(to));
                self.command(&Command::DeleteRange { from: &from, to: to.as_deref() });
            }
            4 => {
                let (count, prefix) = (usize::from(byte(data)) * 4, byte(data));
                let count = count.min(MAX_BULK - self.bulk);
                self.bulk += count;
                for number in 0..count {
                    let key = [short(prefix), format!("{number:04}").into_bytes()].concat();
                    self.command(&Command::put(&key, b"x"));
                }
            }
            5 => self.apply(if byte(data) & 1 == 0 { Kind::NoOp } else { Kind::Membership }, Bytes::new()),
            _ => {
                let (how, from, to, limit) = (byte(data), short(byte(data)), short(byte(data)), byte(data));
                self.machine.publish().expect(MEMORY);
                self.check_scan(how, from, to, limit);
            }
        }
    }

    fn command(&mut self, command: &Command<'_>) {
        self.apply(Kind::Data, command.encode());
    }

    fn apply(&mut self, kind: Kind, payload: Bytes) {
        let enough = if has_lists(&payload) { ENOUGH_FOR_LISTS_BYTES } else { ENOUGH_BYTES };
        let decoded = memory::within(enough, || whole(&payload));
        if let Ok(command) = &decoded {
            assert_eq!(command.encode(), payload, "{command:?}");
        }
        self.index = self.index.next();
        let id = EntryId::new(self.index, Term(1));
        let entry =
            Entry { id, position: Position::ZERO, time: LogTime::ZERO, kind, channel: 0, payload: payload.clone() };
        let applied = self.machine.apply(&entry);
        match (kind, decoded) {
            (Kind::Data, Err(_)) => {
                assert!(applied.is_err(), "bytes that are no command were applied: {applied:?}");
                // It stops in earnest; here the index is given to the next entry.
                self.index = self.index.prev();
            }
            (Kind::Data, Ok(command)) => {
                let expected = self.apply_to_model(&command);
                let answer = self.finish(applied.expect("a command is applied"));
                let answer = Answer::decode(&answer).expect("an answer can be read");
                match expected {
                    Some(expected) => assert_eq!(answer, expected, "{command:?}"),
                    None => self.take_over(),
                }
            }
            (Kind::NoOp, _) => {
                assert_eq!(applied, Ok(Applied::Done(Bytes::new())));
                self.take_over();
            }
            (Kind::Membership, _) => assert_eq!(applied, Ok(Applied::Done(Bytes::new()))),
        }
    }

    /// Goes on until the entry is applied. Between its turns readers see what they will see after the last.
    fn finish(&mut self, mut applied: Applied) -> Bytes {
        loop {
            match applied {
                Applied::Done(answer) => return answer,
                Applied::More => {
                    let view = self.machine.reader().view();
                    assert_eq!(view.applied(), self.index);
                    let counted = view.scan(&Scan { count_only: true, ..Scan::default() }).expect(MEMORY);
                    assert_eq!(counted.count, self.model.len() as u64, "a range delete is seen in parts");
                    applied = self.machine.resume().expect("what began goes on");
                }
            }
        }
    }

    /// What the model has no words for was done: from here on it holds what the machine shows.
    fn take_over(&mut self) {
        self.machine.publish().expect(MEMORY);
        let page = self.machine.reader().view().scan(&Scan { max_bytes: u64::MAX, ..Scan::default() }).expect(MEMORY);
        let item = |it: KeyValue| (it.key.to_vec(), (it.value, it.create_revision, it.mod_revision, it.version));
        self.leases = page.items.iter().map(|it| (it.key.to_vec(), it.lease)).collect();
        self.model = page.items.into_iter().map(item).collect();
    }

    /// What is answered; nothing for a command that the model has no words for, which it is not changed by.
    fn apply_to_model(&mut self, command: &Command<'_>) -> Option<Answer> {
        let before = self.model.len();
        match *command {
            Command::Put { key, value, lease: LeaseId::ZERO } => {
                self.leases.remove(key);
                let value = Bytes::copy_from_slice(value);
                let stored = self.model.entry(key.to_vec()).or_insert((Bytes::new(), self.index, self.index, 0));
                *stored = (value, stored.1, self.index, stored.3 + 1);
                return Some(Answer::Done);
            }
            Command::Delete { key } => drop(self.model.remove(key)),
            Command::DeleteRange { from, to } => {
                self.model.retain(|key, _stored| key.as_slice() < from || to.is_some_and(|to| key.as_slice() >= to));
            }
            _ => return None,
        }
        Some(Answer::Deleted((before - self.model.len()) as u64))
    }

    fn check_scan(&self, how: u8, from: Vec<u8>, to: Vec<u8>, limit: u8) {
        let flag = |bit: u8| how >> bit & 1 == 1;
        let scan = Scan {
            from: flag(0).then(|| from.clone().into()),
            to: flag(1).then(|| to.clone().into()),
            prefix: if flag(2) { from.clone().into() } else { Bytes::new() },
            limit: flag(3).then_some(limit.into()),
            max_bytes: PAGE_BYTES,
            reverse: flag(4),
            keys_only: flag(5),
            count_only: flag(6),
        };
        let inside = |key: &&Vec<u8>| {
            scan.from.as_ref().is_none_or(|from| key.as_slice() >= from.as_ref())
                && scan.to.as_ref().is_none_or(|to| key.as_slice() < to.as_ref())
                && key.starts_with(&scan.prefix)
        };
        let mut expected: Vec<&Vec<u8>> = self.model.keys().filter(inside).collect();
        if scan.reverse {
            expected.reverse();
        }
        expected.truncate(scan.limit.map_or(usize::MAX, |limit| limit as usize));
        let (mut found, mut count) = (Vec::new(), 0);
        let mut next = Some(scan.clone());
        let view = self.machine.reader().view();
        for _page in 0..=expected.len() {
            let Some(part) = next else { break };
            let page = view.scan(&part).expect(MEMORY);
            count += page.count;
            next = part.after(&page);
            found.extend(page.items);
        }
        assert_eq!(count, expected.len() as u64, "{scan:?}");
        if scan.count_only {
            assert!(found.is_empty());
            return;
        }
        let expected: Vec<KeyValue> = expected.into_iter().map(|key| self.item(key, scan.keys_only)).collect();
        assert_eq!(found, expected, "{scan:?}");
    }

    fn item(&self, key: &[u8], keys_only: bool) -> KeyValue {
        let (value, create_revision, mod_revision, version) = self.model[key].clone();
        let value = if keys_only { Bytes::new() } else { value };
        let lease = self.leases.get(key).copied().unwrap_or_default();
        KeyValue { key: Bytes::copy_from_slice(key), value, create_revision, mod_revision, version, lease }
    }

    fn check_all(&mut self) {
        self.machine.publish().expect(MEMORY);
        let view = self.machine.reader().view();
        assert_eq!(view.applied(), self.index);
        let page = view.scan(&Scan { max_bytes: u64::MAX, ..Scan::default() }).expect(MEMORY);
        let expected: Vec<KeyValue> = self.model.keys().map(|key| self.item(key, false)).collect();
        assert_eq!(page.items, expected);
        for key in (0..24).chain([255]).map(short) {
            let expected = self.model.contains_key(&key).then(|| self.item(&key, false));
            assert_eq!(view.get(&key).expect(MEMORY), expected);
        }
    }
}

/// The golden commands, and a run through every kind of step.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let golden = golden::text("kv/commands-v1.txt");
    let commands: Vec<Vec<u8>> = golden.lines().filter(|line| !line.starts_with('#')).map(golden::hex).collect();
    let entry = |payload: &Vec<u8>| [&[0, payload.len() as u8][..], payload].concat();
    let mut seeds: Vec<Seed> =
        commands.iter().enumerate().map(|(place, payload)| (format!("golden-{place}"), entry(payload))).collect();
    seeds.push(("golden-all".to_owned(), commands.iter().flat_map(entry).collect()));
    let steps =
        [&[1, 3, 9, 1, 4, 0, 1, 3, 2][..], &[2, 4, 4, 200, 3, 6, 18, 0, 0, 7], &[3, 2, 255, 5, 0, 6, 0, 0, 0, 0]];
    seeds.push(("steps".to_owned(), steps.concat()));
    seeds
}
