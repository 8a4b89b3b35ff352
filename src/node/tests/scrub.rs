//! The scrub's pace, with the clock in the test's hand.

use std::path::Path;
use std::time::Duration;

use crate::commitlog::{self, LogOptions, LogReader, Opened, WriteBatch, frame};
use crate::config::Durability;
use crate::env::memory::MemoryDisk;
use crate::node::scrub::{Scrub, ScrubProgress};
use crate::types::{ClusterId, EntryId, GroupId, Index, Kind, LogTime, Monotonic, Position, Term};

const EVERY: Duration = Duration::from_secs(1_000);

/// A log of so many records of half a megabyte.
fn log(records: u64) -> LogReader {
    let options = LogOptions {
        cluster: ClusterId(1),
        group: GroupId::FIRST,
        segment_bytes: 4 << 20,
        max_record_bytes: 1 << 20,
        durability: Durability::Sync,
        wall_ms: 1,
        covered: Index::ZERO,
    };
    let Opened { mut writer, reader, .. } =
        commitlog::open(MemoryDisk::new().handle(), Path::new("/log"), options).unwrap();
    let mut end = Position::ZERO;
    for index in 1..=records {
        let mut record = Vec::new();
        frame(&mut record, EntryId::new(Index(index), Term(1)), end, LogTime(1), Kind::Data, 0, &[7; 500_000]);
        end = end.plus(record.len() as u64);
        writer.write(&WriteBatch { records: vec![record.into()], ..WriteBatch::default() }).unwrap();
    }
    reader
}

/// Takes steps until `rounds` are done: when each of them was.
fn rounds(scrub: &mut Scrub, rounds: u64) -> Vec<u64> {
    let mut done = Vec::new();
    while (done.len() as u64) < rounds {
        let now = scrub.next_deadline().unwrap();
        let step = scrub.step(now);
        assert!(step.holes.is_empty() && step.blocks.is_empty(), "{step:?}");
        if scrub.progress().rounds > done.len() as u64 {
            done.push(now.as_micros() / 1_000_000);
        }
    }
    done
}

#[test]
fn scrub_reads_the_whole_log_once_in_its_time_and_not_all_at_once() {
    let reader = log(12);
    let mut scrub = Scrub::new(reader.clone(), EVERY, 0, Monotonic::default());
    for quarter in 1..=4_u64 {
        let now = scrub.next_deadline().unwrap();
        scrub.step(now);
        assert_eq!(scrub.progress(), ScrubProgress { upto: Index(quarter * 3), rounds: quarter / 4 });
        let pause = scrub.next_deadline().unwrap().since(now);
        assert!(pause > EVERY / 12 && (pause < EVERY / 3 || quarter == 4), "{pause:?} for a quarter of the log");
    }
    let mut scrub = Scrub::new(reader, EVERY, 0, Monotonic::default());
    let done = rounds(&mut scrub, 3);
    assert!(done[0] < 1_000 && done[1] - done[0] <= 1_000 && done[2] - done[1] > 900, "{done:?}");
}

#[test]
fn scrub_of_a_small_log_reads_it_once_a_round() {
    let done = rounds(&mut Scrub::new(log(1), EVERY, 0, Monotonic::default()), 3);
    assert_eq!(done, [0, 1_000, 2_000]);
}

#[test]
fn scrub_that_begins_in_the_middle_counts_only_whole_rounds() {
    let mut scrub = Scrub::new(log(12), EVERY, 7, Monotonic::default());
    let first = scrub.next_deadline().unwrap();
    scrub.step(first);
    assert_eq!(scrub.progress(), ScrubProgress { upto: Index(10), rounds: 0 });
    scrub.step(first);
    assert_eq!(scrub.progress(), ScrubProgress { upto: Index(12), rounds: 0 });
    assert_eq!(rounds(&mut scrub, 1).len(), 1);
}

#[test]
fn scrub_that_is_switched_off_is_never_due() {
    assert_eq!(Scrub::new(log(1), Duration::ZERO, 0, Monotonic::default()).next_deadline(), None);
}
