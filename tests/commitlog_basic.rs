//! Writing, reading, cutting and reopening a log on a disk in memory.

#[cfg(test)]
mod commitlog_support;

use commitlog_support::*;
use dledger::commitlog::{LogFault, WriteBatch, split};
use dledger::config::Durability;
use dledger::env::memory::{Fate, MemoryDisk};
use dledger::error::ReadError;
use dledger::types::{EntryId, Index, Kind, NodeId, Position, Term, TermRun, Vote};

#[test]
fn log_on_an_absent_directory_is_empty() {
    let memory = MemoryDisk::new();
    let opened = open_log(&memory);
    assert_eq!(opened.state, dledger::commitlog::LogState::default());
    assert_eq!((opened.reader.first(), opened.reader.last(), opened.reader.end()), (Index(1), Index(0), Position(0)));
    assert!(matches!(opened.reader.read(Index(1)), Err(ReadError::OutOfRange { .. })));
    assert!(matches!(opened.reader.read_from(Index(1), 100), Err(ReadError::OutOfRange { .. })));
    assert!(matches!(opened.reader.read_at(Position(0)), Err(ReadError::OutOfRange { .. })));
}

#[test]
fn log_after_a_write_reads_back_by_index_position_and_range() {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    let batch = maker.batch(1, 50, 100);
    opened.writer.write(&batch).unwrap();
    let reader = &opened.reader;
    assert_eq!((reader.last(), reader.end()), (Index(50), maker.end));
    for number in 1..=50 {
        let record = reader.read(Index(number)).unwrap();
        assert_eq!(record.payload(), payload(number, 100));
        assert_eq!(record.bytes(), &batch.records[number as usize - 1]);
        assert_eq!(reader.read_at(record.header().position).unwrap(), record);
        assert_eq!(reader.end_of(Index(number)), Some(record.header().end()));
    }
    assert_eq!(reader.end_of(Index(0)), Some(Position(0)));
    assert_eq!(reader.end_of(Index(51)), None);
    reader.read_at(Position(1)).unwrap_err();
    let pieces = reader.read_from(Index(11), 148 * 10 + 147).unwrap();
    let records: Vec<_> = pieces.iter().flat_map(|piece| split(piece, 1 << 20)).map(Result::unwrap).collect();
    assert_eq!(records.len(), 10);
    assert_eq!(records[0].header().id.index, Index(11));
    let one = reader.read_from(Index(50), 1).unwrap();
    assert_eq!(one.concat(), batch.records[49]);
}

#[test]
fn log_after_a_power_cut_holds_everything_that_was_acknowledged() {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    let vote = Vote { term: Term(2), voted_for: NodeId(3) };
    let membership = maker.of_kind(1, Kind::Membership, b"members");
    opened.writer.write(&WriteBatch { vote: Some(vote), records: vec![membership], ..WriteBatch::default() }).unwrap();
    opened.writer.write(&maker.batch(1, 10, 300)).unwrap();
    opened.writer.write(&maker.batch(2, 10, 300)).unwrap();
    let before = all_bytes(&opened.reader);
    memory.power_cut(|_| Fate::Lost);
    let again = open_log(&memory);
    assert!(all_bytes(&again.reader) == before);
    assert_eq!(again.state.vote, vote);
    assert_eq!((again.state.last, again.state.end), (maker.last, maker.end));
    assert_eq!(again.state.last_time.get(), 1021);
    let runs = [TermRun { first: Index(1), term: Term(1) }, TermRun { first: Index(12), term: Term(2) }];
    assert_eq!(again.state.runs, runs);
    assert_eq!(again.state.memberships, [(Index(1), b"members".as_slice().into())]);
}

#[test]
fn log_over_many_segments_reads_and_reopens() {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    let mut expected = Vec::new();
    for round in 0..100 {
        let batch = maker.batch(1 + round / 25, 5, 1500);
        expected.extend(batch.records.concat());
        opened.writer.write(&batch).unwrap();
        prepare_all(&mut opened.writer);
    }
    assert!(segments(&memory).len() >= 3, "{:?}", segments(&memory));
    assert!(opened.reader.disk_bytes() > expected.len() as u64);
    assert!(all_bytes(&opened.reader) == expected);
    let across = opened.reader.read_from(Index(1), u64::MAX).unwrap();
    assert!(across.concat() == expected);
    for _ in 0..2 {
        memory.power_cut(|_| Fate::Lost);
        opened = open_log(&memory);
        assert!(all_bytes(&opened.reader) == expected);
        assert!(opened.reader.read_from(Index(1), u64::MAX).unwrap().concat() == expected);
        assert_eq!(opened.state.runs.len(), 4);
        assert_eq!(
            opened.reader.read_at(opened.reader.end_of(Index(300)).unwrap()).unwrap().header().id.index,
            Index(301)
        );
    }
}

#[test]
fn log_cut_anywhere_goes_on_from_there() {
    for keep in [0, 1, 105, 106, 107, 150, 299] {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let mut kept = maker;
        for _ in 0..10 {
            for _ in 0..30 {
                let record = maker.record(1, 1000);
                opened.writer.write(&WriteBatch { records: vec![record], ..WriteBatch::default() }).unwrap();
                if maker.last.index.get() == keep {
                    kept = maker;
                }
            }
        }
        let held = opened.reader.read(Index(300)).unwrap();
        let old: Vec<u8> = all_bytes(&opened.reader)[..kept.end.get() as usize].to_vec();
        let mut batch = kept.batch(2, 3, 10);
        batch.truncate_after = Some(EntryId::new(Index(keep), Term(u64::from(keep > 0))));
        opened.writer.write(&batch).unwrap();
        assert_eq!(held.payload(), payload(300, 1000), "a record that a reader holds outlives the cut");
        let expected = [old, batch.records.concat()].concat();
        assert!(all_bytes(&opened.reader) == expected, "keep {keep}");
        for _ in 0..2 {
            memory.power_cut(|_| Fate::Lost);
            opened = open_log(&memory);
            assert!(all_bytes(&opened.reader) == expected, "keep {keep}");
            assert_eq!(opened.state.last, EntryId::new(Index(keep + 3), Term(2)));
            assert_eq!(opened.state.runs.last(), Some(&TermRun { first: Index(keep + 1), term: Term(2) }));
        }
    }
}

#[test]
fn log_cut_with_another_term_than_stored_is_refused_for_good() {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    opened.writer.write(&maker.batch(1, 5, 10)).unwrap();
    let cut = Some(EntryId::new(Index(3), Term(9)));
    let refused = opened.writer.write(&WriteBatch { truncate_after: cut, ..WriteBatch::default() });
    assert!(matches!(refused, Err(LogFault::Poisoned { .. })));
    assert!(matches!(opened.writer.write(&maker.batch(1, 1, 10)), Err(LogFault::Poisoned { .. })));
    assert_eq!(opened.reader.last(), Index(5));
}

#[test]
fn log_batch_costs_one_write_and_one_sync() {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    let before = memory.counts();
    for _ in 0..20 {
        opened.writer.write(&maker.batch(1, 8, 64)).unwrap();
    }
    let after = memory.counts();
    assert_eq!(after.syncs - before.syncs, 20);
    assert_eq!(after.writes - before.writes, 20);
    assert_eq!(after.mutating - before.mutating, 40);
}

#[test]
fn log_batch_with_a_slot_costs_one_sync_still() {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    let before = memory.counts();
    for _ in 0..200 {
        opened.writer.write(&maker.batch(1, 1, 64)).unwrap();
    }
    let after = memory.counts();
    assert_eq!(after.syncs - before.syncs, 200);
    assert_eq!(after.writes - before.writes, 200 + 200 / 32);
}

#[test]
fn log_idle_writes_one_slot_and_then_nothing() {
    let memory = MemoryDisk::new();
    let mut opened = open_log(&memory);
    let mut maker = Maker::new();
    opened.writer.write(&maker.batch(1, 3, 64)).unwrap();
    let before = memory.counts();
    opened.writer.idle(Index(2)).unwrap();
    opened.writer.idle(Index(2)).unwrap();
    let after = memory.counts();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(open_log(&memory).state.committed_hint, Index(2));
}

#[test]
fn log_with_async_durability_syncs_only_when_told_and_votes_at_once() {
    let memory = MemoryDisk::new();
    let durability = Durability::Async { flush_every: std::time::Duration::from_millis(10) };
    let options = dledger::commitlog::LogOptions { durability, ..options() };
    let mut opened = try_open(&memory, &options).unwrap();
    let mut maker = Maker::new();
    let before = memory.counts();
    opened.writer.write(&maker.batch(1, 3, 600)).unwrap();
    assert_eq!(memory.counts().syncs, before.syncs);
    assert_eq!(opened.reader.last(), Index(3));
    opened.writer.flush().unwrap();
    opened.writer.flush().unwrap();
    assert_eq!(memory.counts().syncs, before.syncs + 1);
    let vote = Vote { term: Term(4), voted_for: NodeId(1) };
    let batch = WriteBatch { vote: Some(vote), ..maker.batch(4, 3, 600) };
    opened.writer.write(&batch).unwrap();
    memory.power_cut(|_| Fate::Lost);
    let again = try_open(&memory, &options).unwrap();
    assert_eq!((again.state.last.index, again.state.vote), (Index(3), vote));
}
