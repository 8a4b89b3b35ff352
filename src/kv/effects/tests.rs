use super::*;

fn stored(value: &[u8]) -> Stored {
    Stored::written(None, value, Index(1))
}

#[test]
fn effects_keys_come_back_as_they_went() {
    let mut effects = Effects::default();
    for key in [&b"a"[..], b"", b"long key"] {
        effects.gone(Index(1), key, &stored(b"v"));
    }
    effects.all_gone(Index(1));
    effects.publish(Index(1));
    let told = effects.newest().load_full();
    let (_revision, Note::Deleted(keys)) = &told.notes[0] else { panic!("{told:?}") };
    assert_eq!(keys.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"long key"]);
    assert_eq!(told.previous(Index(1), Index(1)).count(), 3);
}

#[test]
fn effects_of_what_does_as_it_says_are_not_noted() {
    let mut effects = Effects::default();
    effects.transacted(Index(1), true, &[OpResult::Put, OpResult::Deleted(true), OpResult::Value(None)], vec![]);
    effects.all_gone(Index(2));
    effects.publish(Index(3));
    assert!(effects.newest().load().notes.is_empty());
    effects.transacted(Index(4), false, &[OpResult::Put], vec![]);
    effects.transacted(Index(5), true, &[OpResult::Value(None), OpResult::Deleted(false)], vec![]);
    effects.transacted(Index(6), true, &[OpResult::Sum(7)], vec![LeaseId(3)]);
    effects.publish(Index(6));
    let told = effects.newest().load_full();
    let sum = Branch { succeeded: true, sums: vec![(7, LeaseId(3))], found: vec![] };
    let expected = [(Index(5), Note::Nothing), (Index(6), Note::Txn(Arc::new(sum)))];
    assert_eq!(told.notes(Index(5), Index(6)).cloned().collect::<Vec<_>>(), expected);
    assert!(matches!(&told.notes[0].1, Note::Txn(branch) if !branch.succeeded));
}

#[test]
fn effects_over_their_bounds_let_the_oldest_go_and_no_more() {
    let mut effects = Effects::bounded(Bounds { notes: 10 * ITEM_BYTES, previous: 5 * (ITEM_BYTES + 10) });
    for index in 1..=30 {
        effects.nothing(Index(index));
        effects.changed(Index(index), Some(&stored(&[0; 10])));
        effects.publish(Index(index));
    }
    let told = effects.newest().load_full();
    assert_eq!((told.oldest(false), told.oldest(true)), (Index(21), Index(26)));
    assert_eq!((told.notes.len(), told.previous.len()), (10, 5));
    assert_eq!(told.notes(Index(22), Index(24)).map(|(of, _note)| of.get()).collect::<Vec<_>>(), [22, 23, 24]);
}

/// What one entry deleted is more than is kept: nobody is told a part of it, and those of other keys go on.
#[test]
fn effects_larger_than_is_kept_are_lost_alone() {
    let mut effects = Effects::bounded(Bounds { notes: 1_000, previous: 1_000 });
    effects.nothing(Index(1));
    for number in 0..100u8 {
        effects.gone(Index(2), &[number; 20], &stored(&[0; 20]));
    }
    assert!(effects.gone.is_empty(), "let go as soon as it is too much");
    effects.all_gone(Index(2));
    effects.nothing(Index(3));
    effects.publish(Index(3));
    let told = effects.newest().load_full();
    let notes: Vec<_> = told.notes.iter().cloned().collect();
    assert_eq!(notes, [(Index(1), Note::Nothing), (Index(2), Note::Lost), (Index(3), Note::Nothing)]);
    assert_eq!(told.oldest(true), Index(3), "not all of its values are here");
}

#[test]
fn effects_are_let_go_in_bounded_steps() {
    let mut effects = Effects::bounded(Bounds { notes: 1 << 20, previous: 1 << 20 });
    for index in 1..=10_000 {
        effects.nothing(Index(index));
    }
    effects.publish(Index(10_000));
    effects.bounds = Bounds { notes: 0, previous: 0 };
    effects.nothing(Index(10_001));
    effects.publish(Index(10_001));
    assert_eq!(effects.told.notes.len(), 10_000 - TRIM);
    effects.restart(Index(20_000));
    assert_eq!((effects.leaving.0.len(), effects.newest().load().oldest(true)), (10_000 - TRIM, Index(20_001)));
    effects.publish(Index(20_001));
    assert_eq!(effects.leaving.0.len(), 10_000 - 2 * TRIM);
}

/// Transactions of many small writes: a quantum of them changes far more keys than it has entries.
#[test]
fn effects_of_entries_that_change_many_keys_stay_within_their_bounds() {
    let mut effects = Effects::bounded(Bounds { notes: 1 << 20, previous: 100 * ITEM_BYTES });
    for quantum in 1..=20 {
        (0..5 * TRIM).for_each(|_key| effects.changed(Index(quantum), None));
        effects.publish(Index(quantum));
    }
    assert_eq!(effects.newest().load().previous.len(), 100);
}
