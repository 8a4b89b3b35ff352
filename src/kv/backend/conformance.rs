//! What every backend must do. `conformance::tests!(new)` in a backend's tests runs all of it on fresh backends; the
//! calls that no test thinks of are made at random and compared with a sorted map.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use crate::types::{EntryId, Index, LogBase, Term};

use super::super::range::KeyRange;
use super::{Backend, Snapshot, Stored};

/// Runs the tests of this file on the backends that `$new` makes.
macro_rules! tests {
    ($new:expr) => {
        #[test]
        fn backend_put_counts_revisions_and_versions_of_a_life() {
            conformance::counts_the_writes_of_a_life($new);
        }

        #[test]
        fn backend_keys_of_any_bytes_stand_in_the_order_of_their_bytes() {
            conformance::orders_keys_by_their_bytes($new);
        }

        #[test]
        fn backend_range_without_keys_is_empty_both_ways() {
            conformance::takes_empty_ranges($new);
        }

        #[test]
        fn backend_visit_ends_where_it_is_broken_off() {
            conformance::breaks_off_where_asked($new);
        }

        #[test]
        fn backend_snapshot_stays_while_the_map_changes() {
            conformance::keeps_snapshots($new);
        }

        #[test]
        fn backend_delete_of_some_takes_the_first_keys_of_the_range() {
            conformance::deletes_the_first_of_a_range($new);
        }

        #[test]
        fn backend_fresh_map_loaded_from_a_snapshot_equals_it() {
            conformance::loads_what_a_snapshot_says($new);
        }

        #[test]
        fn backend_random_calls_agree_with_a_sorted_map() {
            conformance::agrees_with_a_model(|| $new);
        }
    };
}
pub(in super::super) use tests;

/// What readers see of what was done so far.
fn committed<B: Backend>(backend: &mut B) -> B::Snapshot {
    let base = LogBase { entry: EntryId::new(Index(1), Term(1)), ..LogBase::default() };
    backend.commit(&base, None).unwrap();
    backend.snapshot()
}

type Model = BTreeMap<Vec<u8>, Stored>;

fn range(from: &[u8], to: Option<&[u8]>) -> KeyRange {
    KeyRange { from: Bytes::copy_from_slice(from), to: to.map(Bytes::copy_from_slice) }
}

fn keys<S: Snapshot>(snapshot: &S, range: &KeyRange, reverse: bool) -> Vec<Vec<u8>> {
    content(snapshot, range, reverse).into_iter().map(|(key, _stored)| key).collect()
}

fn content<S: Snapshot>(snapshot: &S, range: &KeyRange, reverse: bool) -> Vec<(Vec<u8>, Stored)> {
    let mut seen = Vec::new();
    let visited = snapshot.visit(range, reverse, &mut |key, stored| {
        seen.push((key.to_vec(), stored.clone()));
        ControlFlow::Continue(())
    });
    let end = visited.unwrap();
    assert_eq!(end, ControlFlow::Continue(()));
    seen
}

pub(in super::super) fn counts_the_writes_of_a_life<B: Backend>(mut backend: B) {
    backend.put(b"a", b"1", Index(5)).unwrap();
    backend.put(b"a", b"", Index(7)).unwrap();
    let stored = committed(&mut backend).get(b"a").unwrap().unwrap();
    assert_eq!(
        (&*stored.value, stored.create_revision, stored.mod_revision, stored.version),
        (&b""[..], Index(5), Index(7), 2)
    );
    assert_eq!(backend.delete(b"a").unwrap(), Some(stored));
    assert_eq!(backend.delete(b"a").unwrap(), None);
    assert_eq!(committed(&mut backend).get(b"a").unwrap(), None);
    backend.put(b"a", b"3", Index(9)).unwrap();
    let stored = committed(&mut backend).get(b"a").unwrap().unwrap();
    assert_eq!((stored.create_revision, stored.mod_revision, stored.version), (Index(9), Index(9), 1));
}

pub(in super::super) fn orders_keys_by_their_bytes<B: Backend>(mut backend: B) {
    let long = [7; 5000];
    let mut expected: Vec<&[u8]> = vec![b"", b"\0", b"\0\0", b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff", &long];
    for key in expected.iter().rev() {
        backend.put(key, key, Index(1)).unwrap();
    }
    expected.sort();
    let all = KeyRange::default();
    let snapshot = committed(&mut backend);
    assert_eq!(keys(&snapshot, &all, false), expected);
    expected.reverse();
    assert_eq!(keys(&snapshot, &all, true), expected);
    assert_eq!(keys(&snapshot, &range(b"\xff", None), false), [&b"\xff"[..], b"\xff\xff"]);
    assert_eq!(keys(&snapshot, &range(b"a", Some(b"b")), true), [&b"ab"[..], b"a\0", b"a"]);
    assert_eq!(*snapshot.get(&long).unwrap().unwrap().value, long);
}

pub(in super::super) fn takes_empty_ranges<B: Backend>(mut backend: B) {
    for key in [&b"a"[..], b"b", b"c"] {
        backend.put(key, b"v", Index(1)).unwrap();
    }
    let snapshot = committed(&mut backend);
    for empty in [range(b"b", Some(b"b")), range(b"c", Some(b"a")), range(b"bb", Some(b"c")), range(b"d", None)] {
        for reverse in [false, true] {
            assert_eq!(keys(&snapshot, &empty, reverse), [[0u8; 0]; 0], "{empty:?}");
        }
        assert_eq!(backend.delete_some(&empty, 10).unwrap(), [], "{empty:?}");
    }
}

pub(in super::super) fn breaks_off_where_asked<B: Backend>(mut backend: B) {
    for key in 0..10 {
        backend.put(&[key], b"v", Index(1)).unwrap();
    }
    for (reverse, expected) in [(false, [0, 1, 2]), (true, [9, 8, 7])] {
        let mut seen = Vec::new();
        let end = committed(&mut backend).visit(&KeyRange::default(), reverse, &mut |key, _stored| {
            seen.extend_from_slice(key);
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((end.unwrap(), seen), (ControlFlow::Break(()), expected.to_vec()));
    }
}

pub(in super::super) fn keeps_snapshots<B: Backend>(mut backend: B) {
    for key in 0..100 {
        backend.put(&[key], &[key], Index(1)).unwrap();
    }
    let (all, before) = (KeyRange::default(), committed(&mut backend));
    let content_before = content(&before, &all, false);
    backend.put(&[5], b"new", Index(2)).unwrap();
    backend.put(&[200], b"new", Index(3)).unwrap();
    assert!(backend.delete(&[6]).unwrap().is_some());
    assert_eq!(backend.delete_some(&range(&[50], None), 1000).unwrap().len(), 51);
    assert_eq!(content(&before, &all, false), content_before);
    assert_eq!(keys(&committed(&mut backend), &all, false).len(), 49);
}

pub(in super::super) fn deletes_the_first_of_a_range<B: Backend>(mut backend: B) {
    for key in 0..10 {
        backend.put(&[key], b"v", Index(1)).unwrap();
    }
    let middle = range(&[2], Some(&[8]));
    assert_eq!(backend.delete_some(&middle, 4).unwrap().len(), 4);
    assert_eq!(keys(&committed(&mut backend), &KeyRange::default(), false).concat(), [0, 1, 6, 7, 8, 9]);
    assert_eq!(backend.delete_some(&middle, 4).unwrap().len(), 2);
    assert_eq!(backend.delete_some(&middle, 4).unwrap().len(), 0);
    assert_eq!(keys(&committed(&mut backend), &KeyRange::default(), false).concat(), [0, 1, 8, 9]);
}

pub(in super::super) fn loads_what_a_snapshot_says<B: Backend>(mut backend: B) {
    let (all, long) = (KeyRange::default(), [7; 5000]);
    for (key, revision) in [(&b"a"[..], 1), (b"", 2), (&long, 3), (b"a", 9)] {
        backend.put(key, key, Index(revision)).unwrap();
    }
    let before = content(&committed(&mut backend), &all, false);
    let mut fresh = backend.fresh();
    assert_eq!(keys(&fresh.snapshot(), &all, false), [[0u8; 0]; 0]);
    for (key, stored) in &before {
        fresh.load(key, stored.clone()).unwrap();
    }
    let base = LogBase { entry: EntryId::new(Index(9), Term(1)), ..LogBase::default() };
    fresh.loaded(&base).unwrap();
    assert_eq!(content(&fresh.snapshot(), &all, false), before);
    fresh.put(b"a", b"", Index(20)).unwrap();
    let stored = committed(&mut fresh).get(b"a").unwrap().unwrap();
    assert_eq!((stored.create_revision, stored.mod_revision, stored.version), (Index(1), Index(20), 3));
    assert_eq!(content(&committed(&mut backend), &all, false), before, "the other map is another one");
}

#[derive(Clone, Debug)]
enum Call {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteSome(KeyRange, usize),
    Snapshot,
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![0u8..4, Just(255)], 0..4)
}

fn any_range() -> impl Strategy<Value = KeyRange> {
    (any_key(), proptest::option::of(any_key())).prop_map(|(from, to)| range(&from, to.as_deref()))
}

fn any_call() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => (any_key(), proptest::collection::vec(any::<u8>(), 0..3)).prop_map(|(key, value)| Call::Put(key, value)),
        2 => any_key().prop_map(Call::Delete),
        1 => (any_range(), 0usize..20).prop_map(|(range, limit)| Call::DeleteSome(range, limit)),
        1 => Just(Call::Snapshot),
    ]
}

pub(in super::super) fn agrees_with_a_model<B: Backend>(new: impl Fn() -> B) {
    let calls = proptest::collection::vec(any_call(), 1..200);
    proptest!(ProptestConfig::with_cases(64), |(calls in calls, asked in any_range(), reverse in any::<bool>())| {
        let (mut backend, mut model) = (new(), Model::new());
        let mut snapshots = Vec::new();
        for (call, revision) in calls.into_iter().zip(1..) {
            match call {
                Call::Put(key, value) => {
                    prop_assert_eq!(backend.read(&key).unwrap(), model.get(&key).cloned());
                    let before = backend.put(&key, &value, Index(revision)).unwrap();
                    prop_assert_eq!(before.as_ref(), model.get(&key));
                    let written = Stored::written(model.get(&key), &value, Index(revision));
                    model.insert(key, written);
                }
                Call::Delete(key) => prop_assert_eq!(backend.delete(&key).unwrap(), model.remove(&key)),
                Call::DeleteSome(range, limit) => {
                    let mut inside = model.keys().filter(|key| range.contains(key)).cloned();
                    let gone: Vec<Vec<u8>> = inside.by_ref().take(limit).collect();
                    let removed = backend.delete_some(&range, limit).unwrap();
                    let pair = |key: Vec<u8>| model.remove(&key).map(|stored| (Bytes::from(key), stored));
                    prop_assert_eq!(removed, gone.into_iter().filter_map(pair).collect::<Vec<_>>());
                }
                Call::Snapshot => snapshots.push((committed(&mut backend), model.clone())),
            }
        }
        snapshots.push((committed(&mut backend), model));
        for (snapshot, model) in snapshots {
            let mut expected: Vec<(Vec<u8>, Stored)> = model.clone().into_iter().collect();
            prop_assert_eq!(content(&snapshot, &KeyRange::default(), false), expected.clone());
            expected.retain(|(key, _stored)| asked.contains(key));
            if reverse {
                expected.reverse();
            }
            prop_assert_eq!(content(&snapshot, &asked, reverse), expected);
            for (key, stored) in model {
                prop_assert_eq!(snapshot.get(&key).unwrap(), Some(stored));
            }
        }
    });
}
