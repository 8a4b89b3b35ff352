//! The bare log as a service uses it: real disks, real sockets, replicas in one process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod replica_support;

use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use dledger::commitlog::HEADER_BYTES;
use dledger::ledger::{Appended, Ledger, is_appended};
use dledger::types::{Index, Position, Role, RoleChange, Term};
use dledger::{Config, ReadError, WriteError};

/// Longer than any election here takes.
const LONG: Duration = Duration::from_secs(20);

async fn open_all(configs: &[Config]) -> Vec<Ledger> {
    let mut ledgers = Vec::new();
    for config in configs {
        ledgers.push(Ledger::open(config.clone()).await.unwrap().with_timeout(LONG));
    }
    ledgers
}

/// Takes the replica that leads out of the others, with its term.
async fn take_leader(ledgers: &mut Vec<Ledger>) -> (Ledger, Term) {
    loop {
        let leading = |ledger: &Ledger| {
            let change = *ledger.role_changes().borrow();
            (change.role == Role::Leader).then_some(change.term)
        };
        let found = ledgers.iter().enumerate().find_map(|(at, ledger)| Some((at, leading(ledger)?)));
        if let Some((at, term)) = found {
            return (ledgers.remove(at), term);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn payloads(count: u32) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from("x".repeat(1 + number as usize))).collect()
}

/// One behind the other, from the first on, each as long as its payload makes it.
fn assert_contiguous(entries: &[Appended], payloads: &[Bytes]) {
    assert_eq!(entries.len(), payloads.len());
    for ((before, after), payload) in entries.iter().zip(&entries[1..]).zip(payloads) {
        assert_eq!(after.id.index, before.id.index.next());
        assert_eq!(after.id.term, before.id.term);
        assert_eq!(after.position, before.position.plus((HEADER_BYTES + payload.len()) as u64));
    }
}

#[tokio::test]
async fn ledger_leader_tells_places_at_once_and_commit_apart() {
    let directory = tempfile::tempdir().unwrap();
    let mut ledgers = open_all(&replica_support::members(directory.path(), 3)).await;
    let (leader, term) = take_leader(&mut ledgers).await;
    let before = leader.append("first").await.unwrap();
    for follower in ledgers {
        follower.shutdown().await;
    }
    let batch = leader.with_timeout(Duration::from_millis(500)).append_batch(payloads(5)).await.unwrap();
    assert_contiguous(&batch.entries, &payloads(5));
    assert_eq!((before.id.term, batch.entries[0].id.term), (term, term));
    assert_eq!(batch.entries[0].id.index, before.id.index.next());
    let error = batch.committed().await.unwrap_err();
    assert!(matches!(error, WriteError::Unknown(_)), "{error}");
    assert!(matches!(leader.get(before.id.index).await, Ok(entry) if entry.payload == "first"));
}

#[tokio::test]
async fn ledger_entry_stands_at_the_same_place_on_every_replica() {
    let directory = tempfile::tempdir().unwrap();
    let ledgers = open_all(&replica_support::members(directory.path(), 3)).await;
    let mut appended = Vec::new();
    for ledger in &ledgers {
        let batch = ledger.append_batch(payloads(7)).await.unwrap();
        assert_contiguous(&batch.entries, &payloads(7));
        appended.extend(batch.entries.clone().into_iter().zip(payloads(7)));
        batch.committed().await.unwrap();
        let (one, payload) = (ledger.append("one").await.unwrap(), Bytes::from("one"));
        appended.push((one, payload));
    }
    for ledger in &ledgers {
        for (place, payload) in &appended {
            let entry = ledger.get(place.id.index).await.unwrap();
            assert_eq!((entry.id, entry.position, &entry.payload), (place.id, place.position, payload));
        }
    }
}

#[tokio::test]
async fn ledger_reads_in_order_across_pages_and_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::single(directory.path().join("1"));
    config.segment_bytes = 64 << 10;
    let ledger = Ledger::open(config).await.unwrap().with_timeout(LONG);
    let payload = |number: u32| Bytes::from(format!("{number:01000}"));
    for first in (0..200).step_by(50) {
        let batch = ledger.append_batch((first..first + 50).map(payload).collect()).await.unwrap();
        batch.committed().await.unwrap();
    }
    let (mut next, mut end, mut read, mut pages) = (Index(1), Position(0), Vec::new(), 0);
    loop {
        match ledger.read(next, 10_000).await {
            Ok(entries) => {
                for entry in &entries {
                    assert_eq!((entry.id.index, entry.position), (next, end));
                    next = next.next();
                    end = end.plus((HEADER_BYTES + entry.payload.len()) as u64);
                }
                read.extend(entries.into_iter().filter(is_appended).map(|entry| entry.payload));
                pages += 1;
            }
            Err(ReadError::OutOfRange { asked, last, .. }) => {
                assert_eq!((asked, last), (next, ledger.status().committed));
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(read, (0..200).map(payload).collect::<Vec<_>>());
    assert!(pages >= 15, "{pages} pages of about 10,000 bytes");
    assert!(matches!(ledger.read(Index(0), 1).await, Err(ReadError::OutOfRange { .. })));
    assert!(matches!(ledger.get(Index(10_000)).await, Err(ReadError::OutOfRange { .. })));
}

#[tokio::test]
async fn ledger_append_over_a_limit_is_refused_and_nothing_is_appended() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::single(directory.path().join("1"));
    (config.max_key_bytes, config.max_value_bytes, config.max_record_bytes) = (16, 2_000, 8 << 10);
    let ledger = Ledger::open(config).await.unwrap().with_timeout(LONG);
    let before = ledger.append("").await.unwrap();
    let (large, half) = (Bytes::from(vec![b'x'; 8 << 10]), Bytes::from(vec![b'x'; 4 << 10]));
    let batches = [vec![], vec![large], vec![half.clone(), half]];
    for batch in batches {
        let error = ledger.append_batch(batch).await.map(|batch| batch.entries).unwrap_err();
        assert!(matches!(error, WriteError::TooLarge(_)), "{error}");
    }
    assert_eq!(ledger.append("").await.unwrap().id.index, before.id.index.next());
}

#[tokio::test]
async fn ledger_entries_are_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::single(directory.path().join("1"));
    let ledger = Ledger::open(config.clone()).await.unwrap();
    let place = ledger.append("kept").await.unwrap();
    ledger.shutdown().await;
    assert!(matches!(ledger.append("late").await, Err(WriteError::Stopped(_))));
    let ledger = Ledger::open(config).await.unwrap().with_timeout(LONG);
    let entry = ledger.get(place.id.index).await.unwrap();
    assert_eq!((entry.id, entry.position, entry.payload), (place.id, place.position, Bytes::from("kept")));
    assert!(ledger.append("later").await.unwrap().id.term > place.id.term);
}

#[tokio::test]
async fn ledger_term_of_a_lost_leadership_appends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut ledgers = open_all(&replica_support::members(directory.path(), 3)).await;
    let (leader, term) = take_leader(&mut ledgers).await;
    leader.append_in(term, "mine").await.unwrap();
    for follower in &ledgers {
        assert!(matches!(follower.append_in(term, "not mine").await, Err(WriteError::Unavailable(_))));
    }
    let (heard_in, heard) = channel();
    for ledger in &ledgers {
        let heard_in = heard_in.clone();
        ledger.on_role_change(move |change: RoleChange| {
            let _test_ended = heard_in.send(change);
        });
    }
    leader.shutdown().await;
    let (next, next_term) = take_leader(&mut ledgers).await;
    assert!(next_term > term);
    let error = next.append_in(term, "too late").await.unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
    let last = next.append_in(next_term, "mine now").await.unwrap();
    let own = next.read(Index(1), u64::MAX).await.unwrap().into_iter().filter(is_appended);
    assert_eq!(own.map(|entry| entry.payload).collect::<Vec<_>>(), ["mine", "mine now"]);
    assert_eq!(last.id.term, next_term);
    let heard: Vec<RoleChange> = heard.try_iter().collect();
    assert!(heard.iter().any(|change| change.role == Role::Leader && change.term == next_term), "{heard:?}");
}

/// The first call was left to a task, which a replica that stopped at once never ran. It mostly did.
#[test]
fn ledger_role_handler_hears_the_present_role_first_and_ends_with_the_replica() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (heard_in, heard) = channel();
    let term = runtime.block_on(async {
        let ledger = Ledger::open(Config::single(directory.path().join("1"))).await.unwrap().with_timeout(LONG);
        let term = ledger.append("makes sure that it leads").await.unwrap().id.term;
        ledger.on_role_change(move |change| {
            let _test_ended = heard_in.send(change);
        });
        ledger.shutdown().await;
        term
    });
    // The handler is dropped with the replica, and its sender with it: the list ends.
    let heard: Vec<RoleChange> = heard.iter().collect();
    assert_eq!((heard[0].role, heard[0].term), (Role::Leader, term));
}
