//! What watches are told, against the states that readers saw.

use std::collections::BTreeSet;

use proptest::sample::Index as Pick;

use super::*;
use crate::kv::command::Command;
use crate::kv::effects::{BOUNDS, Bounds, Effects};
use crate::kv::range::KeyRange;
use crate::kv::txn::{Compare, Condition, Txn, TxnOp};
use crate::kv::watch::{Changes, Event, EventKind, WatchAsk, WatchError, WatchPage};
use crate::types::SessionId;

/// An entry in a form that proptest can make and print. Leases and sessions are picked of those that were granted so far.
#[derive(Clone, Debug)]
enum Made {
    Put(u8, u8, Option<Pick>),
    Delete(u8),
    DeleteRange(u8, u8),
    Txn(u8, Vec<(u8, u8, u8)>, Vec<(u8, u8, u8)>),
    Grant(u64),
    KeepAlive(Pick),
    Revoke(Pick),
    Open,
    Numbered(Pick, u64, Box<Made>),
    NoOp,
}

fn key(number: u8) -> Bytes {
    Bytes::from(format!("k{:02}", number % 24))
}

fn value(number: u8) -> Bytes {
    if number.is_multiple_of(3) { number.to_string().into() } else { vec![b'v'; usize::from(number)].into() }
}

fn any_ops() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    proptest::collection::vec((0u8..4, any::<u8>(), any::<u8>()), 0..4)
}

fn any_plain() -> impl Strategy<Value = Made> {
    prop_oneof![
        6 => (any::<u8>(), any::<u8>(), proptest::option::weighted(0.4, any::<Pick>()))
            .prop_map(|(key, value, lease)| Made::Put(key, value, lease)),
        3 => any::<u8>().prop_map(Made::Delete),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Made::DeleteRange(from, to)),
        4 => (any::<u8>(), any_ops(), any_ops()).prop_map(|(key, then, or)| Made::Txn(key, then, or)),
    ]
}

fn any_made() -> impl Strategy<Value = Made> {
    prop_oneof![
        12 => any_plain(),
        2 => (1u64..60).prop_map(Made::Grant),
        1 => any::<Pick>().prop_map(Made::KeepAlive),
        1 => any::<Pick>().prop_map(Made::Revoke),
        1 => Just(Made::Open),
        5 => (any::<Pick>(), 1u64..6, any_plain()).prop_map(|(of, number, made)| Made::Numbered(of, number, Box::new(made))),
        3 => Just(Made::NoOp),
    ]
}

/// A machine with the log that it was fed, and what readers saw after each entry.
struct World {
    machine: KvMachine,
    log: Vec<Entry>,
    /// The states, from before the first entry on.
    states: Vec<BTreeMap<Bytes, KeyValue>>,
    leases: Vec<u64>,
    sessions: Vec<u64>,
    now: u64,
}

impl World {
    fn new(bounds: Bounds, turn_keys: usize) -> Self {
        let mut machine = KvMachine::new();
        machine.effects = Effects::bounded(bounds);
        machine.turn_keys = turn_keys;
        Self { machine, log: vec![], states: vec![BTreeMap::new()], leases: vec![0], sessions: vec![0], now: 1_000 }
    }

    fn operations(&self, made: &[(u8, u8, u8)]) -> Vec<TxnOp> {
        let mut seen = BTreeSet::new();
        let fresh = made.iter().filter(|(_kind, of, _value)| seen.insert(of % 24));
        let operation = |(kind, of, given): &(u8, u8, u8)| match kind {
            0 => TxnOp::put_leased(
                key(*of),
                value(*given),
                LeaseId(self.leases[usize::from(*given) % self.leases.len()]),
            ),
            1 => TxnOp::delete(key(*of)),
            2 => TxnOp::get(key(*of)),
            _ => TxnOp::Add { key: key(*of), by: i64::from(*given) },
        };
        fresh.map(operation).collect()
    }

    fn payload(&self, made: &Made) -> Bytes {
        let lease = |pick: &Pick| LeaseId(*pick.get(&self.leases));
        match made {
            Made::Put(of, given, pick) => {
                let lease = pick.as_ref().map_or(LeaseId::ZERO, lease);
                Command::Put { key: &key(*of), value: &value(*given), lease }.encode()
            }
            Made::Delete(of) => Command::Delete { key: &key(*of) }.encode(),
            Made::DeleteRange(from, to) => {
                Command::DeleteRange { from: &key(*from), to: (to % 5 > 0).then(|| key(*to)).as_deref() }.encode()
            }
            Made::Txn(of, then, otherwise) => {
                let compare = vec![Compare::new(key(*of), Condition::Exists(true))];
                let (then, otherwise) = (self.operations(then), self.operations(otherwise));
                Command::Txn(Txn { compare, then, otherwise }).encode()
            }
            Made::Grant(ttl_ms) => Command::GrantLease { ttl_ms: *ttl_ms }.encode(),
            Made::KeepAlive(pick) => Command::KeepAlive { leases: vec![lease(pick)] }.encode(),
            Made::Revoke(pick) => Command::RevokeLease { lease: lease(pick) }.encode(),
            Made::Open => Command::OpenSession { ttl_ms: 200 }.encode(),
            Made::Numbered(pick, number, inner) => {
                let session = SessionId(*pick.get(&self.sessions));
                let (number, first_unanswered, command) = (*number, 1, &self.payload(inner)[..]);
                Command::Numbered { session, number, first_unanswered, command }.encode()
            }
            Made::NoOp => Bytes::new(),
        }
    }

    /// Applies an entry; `between` looks on after each turn of it that is not the last.
    fn apply(&mut self, made: &Made, wait: u64, mut between: impl FnMut(&Self)) {
        let index = self.log.len() as u64 + 1;
        self.now += wait;
        let kind = if matches!(made, Made::NoOp) { Kind::NoOp } else { Kind::Data };
        let entry = Entry { kind, time: LogTime(self.now), ..entry(index, self.payload(made)) };
        self.log.push(entry.clone());
        if matches!(made, Made::Grant(_)) {
            self.leases.push(index);
        }
        if matches!(made, Made::Open) {
            self.sessions.push(index);
        }
        let mut applied = self.machine.apply(&entry).unwrap();
        while applied == Applied::More {
            between(self);
            applied = self.machine.resume().unwrap();
        }
        // Others than `published` see nothing of it: a reader of its own.
        self.machine.show();
        let items = whole(&self.machine).items;
        self.states.push(items.into_iter().map(|item| (item.key.clone(), item)).collect());
    }

    /// What the entry at `revision` changed in the range, by the states before and after it.
    fn expected(&self, revision: u64, ask: &WatchAsk) -> Vec<Event> {
        let at = usize::try_from(revision).unwrap();
        let (before, after) = (&self.states[at - 1], &self.states[at]);
        let keys: BTreeSet<&Bytes> = before.keys().chain(after.keys()).filter(|key| ask.range.contains(key)).collect();
        let event = |key: &&Bytes| {
            let kind = match after.get(*key) {
                Some(item) if item.mod_revision.get() < revision => return None,
                Some(item) => EventKind::Put { value: item.value.clone(), lease: item.lease },
                None => EventKind::Delete,
            };
            let previous = before.get(*key).map(|item| item.value.clone()).filter(|_value| ask.previous);
            Some(Event { key: (*key).clone(), kind, previous })
        };
        keys.iter().filter_map(event).collect()
    }

    /// Asks for a page as a node does.
    fn page(&self, ask: &WatchAsk, entries: usize, max_bytes: usize) -> Result<WatchPage, WatchError> {
        let history = self.machine.history();
        history.check(ask.from, ask.previous)?;
        let published = history.published().get();
        if ask.from.get() > published {
            return Ok(WatchPage { changes: Vec::new(), next: ask.from });
        }
        let from = usize::try_from(ask.from.get()).unwrap() - 1;
        let until = (from + entries).min(usize::try_from(published).unwrap());
        let range = entries.is_multiple_of(2).then_some(&ask.range);
        history.page(&self.log[from..until], ask.previous, range)?.tell(ask, max_bytes)
    }
}

/// A watcher that holds what it is told against the states.
struct Watcher {
    ask: WatchAsk,
    entries: usize,
    max_bytes: usize,
    told: usize,
    compacted: bool,
}

impl Watcher {
    /// Asks until there is nothing new.
    fn catch_up(&mut self, world: &World) {
        let published = world.machine.history().published();
        while !self.compacted && self.ask.from <= published {
            match world.page(&self.ask, self.entries, self.max_bytes) {
                Ok(page) => self.check(world, page),
                Err(WatchError::Compacted { oldest }) => {
                    let behind = Index(world.log.len() as u64 + 1);
                    assert!(self.ask.from < oldest && oldest <= behind, "{:?} {oldest}", self.ask);
                    self.compacted = true;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn check(&mut self, world: &World, page: WatchPage) {
        let (from, next) = (self.ask.from, page.next);
        assert!(from < next && next <= world.machine.history().published().next(), "{from} {next}");
        let mut expected: Vec<Changes> = Vec::new();
        for revision in from.get()..next.get() {
            let events = world.expected(revision, &self.ask);
            if !events.is_empty() {
                expected.push(Changes { revision: Index(revision), events });
            }
        }
        let mut changes = page.changes;
        changes.iter_mut().for_each(|changes| changes.events.sort_by(|one, other| one.key.cmp(&other.key)));
        assert_eq!(changes, expected, "from {from} to {next}");
        self.told += changes.len();
        self.ask.from = next;
    }
}

fn any_watcher() -> impl Strategy<Value = Watcher> {
    (any::<u8>(), proptest::option::of(any::<u8>()), any::<bool>(), 1usize..30, 0usize..600).prop_map(
        |(from, to, previous, entries, max_bytes)| {
            let range = KeyRange { from: key(from / 2), to: to.map(key) };
            let ask = WatchAsk { range, from: Index(1), previous };
            Watcher { ask, entries, max_bytes, told: 0, compacted: false }
        },
    )
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (&self.ask, self.entries, self.max_bytes).fmt(f)
    }
}

fn any_world() -> impl Strategy<Value = Vec<(Made, u64, bool, u8)>> {
    proptest::collection::vec((any_made(), 0u64..30, any::<bool>(), any::<u8>()), 1..120)
}

/// Runs entries past watchers: each begins at one of the first entries, and asks now and then.
fn run(world: &mut World, made: &[(Made, u64, bool, u8)], watchers: &mut [Watcher]) {
    for (made, wait, publish, who) in made {
        let mut due: Vec<&mut Watcher> = watchers.iter_mut().skip(usize::from(*who % 4)).step_by(3).collect();
        world.apply(made, *wait, |world| due.iter_mut().for_each(|watcher| watcher.catch_up(world)));
        if *publish {
            world.machine.publish().unwrap();
        }
        due.iter_mut().for_each(|watcher| watcher.catch_up(world));
    }
    world.machine.publish().unwrap();
    watchers.iter_mut().for_each(|watcher| watcher.catch_up(world));
}

proptest! {
    #[test]
    fn watch_is_told_every_change_once_and_in_order(
        made in any_world(),
        mut watchers in proptest::collection::vec(any_watcher(), 4..8),
        turn_keys in 1usize..6,
    ) {
        let mut world = World::new(BOUNDS, turn_keys);
        run(&mut world, &made, &mut watchers);
        let end = Index(made.len() as u64 + 1);
        for watcher in &watchers {
            prop_assert!(!watcher.compacted && watcher.ask.from == end, "{watcher:?}");
        }
    }

    #[test]
    fn watch_over_small_bounds_is_told_all_or_that_it_is_too_late(
        made in any_world(),
        mut watchers in proptest::collection::vec(any_watcher(), 4..8),
        turn_keys in 1usize..6,
        (notes, previous) in (16usize..1_500, 100usize..3_000),
    ) {
        let mut world = World::new(Bounds { notes, previous }, turn_keys);
        run(&mut world, &made, &mut watchers);
        let history = world.machine.history();
        for watcher in &mut watchers {
            // Whoever was too late goes on from where it is told.
            watcher.compacted = false;
            watcher.ask.from = watcher.ask.from.max(history.oldest(watcher.ask.previous));
            watcher.catch_up(&world);
        }
        prop_assert!(history.oldest(true) >= history.oldest(false));
    }

    #[test]
    fn watch_of_an_installed_state_begins_behind_it(
        made in any_world(),
        after in any_world(),
        mut watcher in any_watcher(),
    ) {
        let mut world = World::new(BOUNDS, 4);
        run(&mut world, &made, &mut []);
        let last = Index(made.len() as u64);
        let state = restored(&world.machine, &items(&world.machine));
        world.machine.install(state, EntryId::new(last, Term(1)));
        let history = world.machine.history();
        prop_assert_eq!((history.oldest(false), history.oldest(true), history.published()), (last.next(), last.next(), last));
        watcher.ask.from = last;
        let oldest = last.next();
        prop_assert_eq!(world.page(&watcher.ask, 8, 8), Err(WatchError::Compacted { oldest }));
        watcher.ask.from = oldest;
        run(&mut world, &after, std::slice::from_mut(&mut watcher));
        prop_assert!(!watcher.compacted);
    }
}

#[test]
fn watch_of_what_is_added_to_is_told_the_sum_and_the_lease_that_was_kept() {
    let mut world = World::new(BOUNDS, 4);
    world.apply(&Made::Grant(1_000), 0, |_world| {});
    let mut entries = vec![
        Command::Put { key: b"n", value: b"40", lease: LeaseId(1) }.encode(),
        Command::Txn(Txn { then: vec![TxnOp::Add { key: "n".into(), by: 2 }], ..Txn::default() }).encode(),
    ];
    for (payload, index) in entries.drain(..).zip(2..) {
        let entry = Entry { time: LogTime(1_000), ..entry(index, payload) };
        world.machine.apply(&entry).unwrap();
        world.log.push(entry);
    }
    world.machine.publish().unwrap();
    let ask = WatchAsk { range: KeyRange::default(), from: Index(3), previous: true };
    let kind = EventKind::Put { value: "42".into(), lease: LeaseId(1) };
    let events = vec![Event { key: "n".into(), kind, previous: Some("40".into()) }];
    let changes = vec![Changes { revision: Index(3), events }];
    assert_eq!(world.page(&ask, 9, 9), Ok(WatchPage { changes, next: Index(4) }));
}

/// A page that ended at what is lost, and began there again, would tell nothing for ever.
#[test]
fn watch_that_comes_to_what_is_lost_is_told_all_before_and_then_that_it_is() {
    let mut world = World::new(Bounds { notes: 300, previous: 1_000 }, 4);
    for number in 0..24 {
        world.apply(&Made::Put(number, 1, None), 0, |_world| {});
    }
    world.apply(&Made::DeleteRange(0, 0), 0, |_world| {});
    world.apply(&Made::Put(3, 1, None), 0, |_world| {});
    world.machine.publish().unwrap();
    let ask = |from| WatchAsk { range: KeyRange::default(), from: Index(from), previous: false };
    let before = world.page(&ask(20), 99, 9_999).unwrap();
    assert_eq!((before.changes.len(), before.next), (5, Index(25)));
    assert_eq!(world.page(&ask(25), 99, 9_999), Err(WatchError::Compacted { oldest: Index(26) }));
    assert_eq!(world.page(&ask(26), 99, 9_999).unwrap().changes.len(), 1);
}
