use proptest::prelude::*;

use super::super::leases::Leases;
use super::*;
use crate::kv::backend::Backend;
use crate::types::{EntryId, Index, LogBase, Term};

fn view(keys: impl IntoIterator<Item = Vec<u8>>) -> Arc<KvView> {
    let mut map = MemoryMap::default();
    for (key, revision) in keys.into_iter().zip(1..) {
        map.put(&key, b"v", Index(revision)).unwrap();
    }
    let base = LogBase { entry: EntryId::new(Index(9), Term(1)), ..LogBase::default() };
    Arc::new(KvView::new(map.snapshot(), Leases::default(), None, &base))
}

fn numbered(count: u64) -> Arc<KvView> {
    view((1..=count).map(|number| format!("k{number:05}").into_bytes()))
}

/// All pages of a scan, one behind the other: their keys and counts.
fn pages(view: &Arc<KvView>, scan: Scan) -> Vec<(Vec<Vec<u8>>, u64)> {
    let (mut pages, mut scan) = (Vec::new(), Some(scan));
    while let Some(asked) = scan {
        let page = view.scan(&asked).unwrap();
        assert_eq!(page.revision, Index(9));
        pages.push((page.items.iter().map(|item| item.key.to_vec()).collect(), page.count));
        scan = asked.after(&page);
    }
    pages
}

fn joined(pages: Vec<(Vec<Vec<u8>>, u64)>) -> Vec<Vec<u8>> {
    pages.into_iter().flat_map(|(keys, _count)| keys).collect()
}

#[test]
fn scan_pages_join_to_the_whole_in_both_directions() {
    let view = numbered(3000);
    for reverse in [false, true] {
        let scan = Scan { max_bytes: 5000, reverse, limit: Some(2500), ..Scan::default() };
        let pages = pages(&view, scan);
        assert!(pages.len() > 20 && pages.iter().all(|(keys, count)| keys.len() as u64 == *count && *count > 0));
        let mut expected: Vec<Vec<u8>> = (1..=3000).map(|number| format!("k{number:05}").into_bytes()).collect();
        if reverse {
            expected.reverse();
        }
        expected.truncate(2500);
        assert_eq!(joined(pages), expected);
    }
}

#[test]
fn scan_that_only_counts_counts_all_in_one_page() {
    let view = numbered(3 * STEP_KEYS as u64 + 1);
    for reverse in [false, true] {
        let scan = Scan { count_only: true, max_bytes: 1, reverse, ..Scan::default() };
        assert_eq!(pages(&view, scan.clone()), [(vec![], 3 * STEP_KEYS as u64 + 1)]);
        assert_eq!(pages(&view, Scan { limit: Some(1500), ..scan }), [(vec![], 1500)]);
    }
}

#[test]
fn scan_of_keys_only_leaves_values_out_and_keeps_revisions() {
    let page = numbered(2).scan(&Scan { keys_only: true, ..Scan::default() }).unwrap();
    let seen: Vec<_> = page.items.iter().map(|item| (item.value.len(), item.mod_revision)).collect();
    assert_eq!(seen, [(0, Index(1)), (0, Index(2))]);
}

#[test]
fn scan_page_ends_exactly_at_the_last_key_without_a_continuation() {
    let view = numbered(STEP_KEYS as u64);
    for reverse in [false, true] {
        let page = view.scan(&Scan { reverse, ..Scan::default() }).unwrap();
        assert_eq!((page.count, page.next), (STEP_KEYS as u64, None));
        let page = view.scan(&Scan { reverse, limit: Some(STEP_KEYS as u64), ..Scan::default() }).unwrap();
        assert_eq!((page.count, page.next), (STEP_KEYS as u64, None));
    }
}

#[test]
fn scan_with_limit_zero_or_crossed_ends_is_empty_and_the_last() {
    let view = numbered(10);
    let (from, to) = (Some(Bytes::from("k00008")), Some(Bytes::from("k00002")));
    for reverse in [false, true] {
        let nothing = Scan { limit: Some(0), reverse, ..Scan::default() };
        let crossed = Scan { from: from.clone(), to: to.clone(), reverse, ..Scan::default() };
        for scan in [nothing, crossed] {
            let page = view.scan(&scan).unwrap();
            assert_eq!((page.items.len(), page.count, page.next), (0, 0, None), "{scan:?}");
        }
    }
}

#[test]
fn scan_of_an_item_over_the_page_bound_returns_it_alone() {
    let view = numbered(3);
    let pages = pages(&view, Scan { max_bytes: 1, ..Scan::default() });
    assert_eq!(pages.iter().map(|(_keys, count)| *count).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn scan_broken_off_between_steps_goes_on_where_it_was() {
    let view = numbered(5 * STEP_KEYS as u64);
    for reverse in [false, true] {
        let scan = Scan { reverse, ..Scan::default() };
        let mut pager = Pager::new(Arc::clone(&view), scan.clone());
        assert!(pager.step().unwrap() && pager.step().unwrap());
        assert_eq!(pager.items(), 2 * STEP_KEYS);
        let page = pager.page();
        let rest = joined(pages(&view, scan.after(&page).unwrap()));
        let mut all: Vec<Vec<u8>> = page.items.iter().map(|item| item.key.to_vec()).chain(rest).collect();
        assert_eq!(all.len(), 5 * STEP_KEYS);
        all.dedup();
        assert_eq!(all.len(), 5 * STEP_KEYS);
        assert!(all.is_sorted_by(|one, two| (one < two) != reverse));
    }
}

fn any_key(least: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![0u8..4, Just(255)], least..4)
}

proptest! {
    #[test]
    fn scan_agrees_with_a_sorted_list(
        keys in proptest::collection::btree_set(any_key(1), 0..40),
        from in proptest::option::of(any_key(0)),
        to in proptest::option::of(any_key(0)),
        prefix in any_key(0),
        limit in proptest::option::of(0u64..10),
        reverse in any::<bool>(),
        count_only in any::<bool>(),
        max_bytes in 1u64..200,
    ) {
        let wanted = |key: &&Vec<u8>| {
            let above = from.as_ref().is_none_or(|from| *key >= from);
            above && to.as_ref().is_none_or(|to| *key < to) && key.starts_with(&prefix)
        };
        let mut expected: Vec<Vec<u8>> = keys.iter().filter(wanted).cloned().collect();
        if reverse {
            expected.reverse();
        }
        expected.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        let (from, to) = (from.map(Bytes::from), to.map(Bytes::from));
        let scan = Scan { from, to, prefix: prefix.into(), limit, reverse, max_bytes, count_only, keys_only: false };
        let pages = pages(&view(keys), scan);
        prop_assert_eq!(pages.iter().map(|(_keys, count)| *count).sum::<u64>(), expected.len() as u64);
        if count_only {
            expected.clear();
        }
        prop_assert_eq!(joined(pages), expected);
    }
}
