//! The disk thread's loop, run on this thread to its end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::commitlog::{self, LogOptions, Opened, WriteBatch, frame};
use crate::config::Durability;
use crate::env::Clock;
use crate::env::memory::MemoryDisk;
use crate::node::disk_thread::{DiskLoop, DiskOrder, DiskReport};
use crate::node::effects::DiskTask;
use crate::types::{ClusterId, EntryId, GroupId, Index, Kind, LogTime, Monotonic, Position, ReadyNumber, Term};

/// A clock that goes on a millisecond each time somebody looks.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn monotonic(&self) -> Monotonic {
        Monotonic::from_micros(self.0.fetch_add(1_000, Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        1
    }
}

fn task(index: u64, position: &mut Position) -> DiskTask {
    let mut record = Vec::new();
    let id = EntryId::new(Index(index), Term(1));
    frame(&mut record, id, *position, LogTime(1), Kind::Data, 0, b"payload");
    *position = position.plus(record.len() as u64);
    let batch = WriteBatch { vote: None, truncate_after: None, records: vec![record.into()], ..WriteBatch::default() };
    DiskTask { number: ReadyNumber(index), batch }
}

fn open(disk: &MemoryDisk, durability: Durability) -> Opened {
    let options = LogOptions {
        cluster: ClusterId(1),
        group: GroupId::FIRST,
        segment_bytes: 1 << 20,
        max_record_bytes: 1 << 16,
        durability,
        wall_ms: 1,
        covered: Index::ZERO,
    };
    commitlog::open(disk.handle(), Path::new("/log"), options).unwrap()
}

/// Runs the loop over `tasks` that come one by one; the answer is how often the disk synced, and what was reported.
fn run(durability: Durability, tasks: u64) -> (u64, Vec<ReadyNumber>) {
    let disk = MemoryDisk::new();
    let Opened { writer, reader, .. } = open(&disk, durability);
    let (orders, incoming) = channel();
    let ((preparer, _jobs), (remover, _removals)) = (channel(), channel());
    let mut position = Position::ZERO;
    let mut more = (1..=tasks).map(move |index| task(index, &mut position));
    orders.send(DiskOrder::Task(more.next().unwrap())).unwrap();
    let done = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&done);
    let mut next = Some(orders);
    let report = move |report| {
        let DiskReport::Done(number) = report else { panic!("the disk works") };
        noted.lock().unwrap().push(number);
        match (&next, more.next()) {
            (Some(orders), Some(task)) => orders.send(DiskOrder::Task(task)).unwrap(),
            _ => next = None,
        }
    };
    let before = disk.counts().syncs;
    let clock = Arc::new(Ticking::default());
    let stopping = Arc::default();
    DiskLoop { writer, reader, durability, clock, stopping, orders: incoming, preparer, remover, report }.run();
    let done = done.lock().unwrap().clone();
    (disk.counts().syncs - before, done)
}

#[test]
fn disk_loop_under_load_syncs_an_asynchronous_log_as_often_as_it_promises() {
    let (syncs, done) = run(Durability::Async { flush_every: Duration::from_millis(10) }, 100);
    assert_eq!(done.len(), 100);
    // The loop looks at the clock two or three times a write: about every fourth write is synced.
    assert!((8..=40).contains(&syncs), "{syncs} syncs");
}

#[test]
fn disk_loop_of_a_synchronous_log_syncs_before_each_report() {
    let (syncs, done) = run(Durability::Sync, 100);
    assert_eq!(done.last(), Some(&ReadyNumber(100)));
    assert!(syncs >= 100, "{syncs} syncs");
}

/// Post-mortem: a thread that waited for room took no orders, so a node on a full disk could not be stopped.
#[test]
fn disk_loop_that_waits_for_room_ends_when_the_node_stops() {
    let disk = MemoryDisk::new();
    let Opened { writer, reader, .. } = open(&disk, Durability::Sync);
    disk.set_capacity(Some(0));
    let (orders, incoming) = channel();
    let ((preparer, _jobs), (remover, _removals)) = (channel(), channel());
    let mut position = Position::ZERO;
    let mut records = Vec::new();
    for index in 1..=40_000 {
        records.extend(task(index, &mut position).batch.records);
    }
    let batch = WriteBatch { vote: None, truncate_after: None, records, ..WriteBatch::default() };
    orders.send(DiskOrder::Task(DiskTask { number: ReadyNumber(1), batch })).unwrap();
    let stopping = Arc::new(AtomicBool::new(true));
    let reported = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&reported);
    let report = move |_report| noted.store(true, Ordering::Relaxed);
    let clock = Arc::new(Ticking::default());
    let durability = Durability::Sync;
    DiskLoop { writer, reader, durability, clock, stopping, orders: incoming, preparer, remover, report }.run();
    assert!(!reported.load(Ordering::Relaxed), "what found no room was not written");
}

/// Post-mortem: the disk thread removed what was purged by itself. On all nodes at once, for they purge at the same place,
/// each 64 MiB took as long as forty syncs, and every write waited.
#[test]
fn disk_loop_that_purges_leaves_the_files_to_the_remover() {
    let disk = MemoryDisk::new();
    let Opened { mut writer, reader, .. } = open(&disk, Durability::Sync);
    let segments = || disk.handle().list(Path::new("/log/log")).unwrap().iter().filter(|n| n.ends_with(".seg")).count();
    let mut position = Position::ZERO;
    let mut last = 0;
    while segments() < 4 {
        let records = (last + 1..=last + 1_000).flat_map(|index| task(index, &mut position).batch.records).collect();
        writer.write(&WriteBatch { records, ..WriteBatch::default() }).unwrap();
        last += 1_000;
    }
    let (orders, incoming) = channel();
    let ((preparer, _jobs), (remover, removals)) = (channel(), channel());
    orders.send(DiskOrder::Purge(Index(last))).unwrap();
    orders.send(DiskOrder::Task(task(last + 1, &mut position))).unwrap();
    orders.send(DiskOrder::Stop).unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&done);
    let report = move |report| {
        if let DiskReport::Done(number) = report {
            noted.store(number.0, Ordering::Relaxed);
        }
    };
    let (durability, clock, stopping) = (Durability::Sync, Arc::new(Ticking::default()), Arc::default());
    let shown = reader.clone();
    DiskLoop { writer, reader, durability, clock, stopping, orders: incoming, preparer, remover, report }.run();
    assert!(shown.first() > Index(1), "the front is gone");
    assert_eq!((done.load(Ordering::Relaxed), segments()), (last + 1, 4), "a write went on before the files were");
    let _removed = removals.recv().unwrap().run();
    assert_eq!(segments(), 1);
}
