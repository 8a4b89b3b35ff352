//! Dropping the front of a log: what goes, what stays, and what a power cut leaves.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use bytes::Bytes;
    use dledger::commitlog::inspect::inspect;
    use dledger::commitlog::{LogFault, LogOptions, LogReader, Opened, Region, Rule, Space, WriteBatch, open_alone};
    use dledger::config::Durability;
    use dledger::env::OpenMode;
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::{OpenError, ReadError};
    use dledger::types::{EntryId, Index, Kind, LogTime, NodeId, Position, Term, Vote};
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    /// Term, vote, memberships 1 and 20, and a record in each segment that says where it is.
    fn with_members() -> (MemoryDisk, Vec<Index>, Vec<u8>) {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let vote = Some(Vote { term: Term(4), voted_for: NodeId(2) });
        opened.writer.write(&WriteBatch { vote, ..WriteBatch::default() }).unwrap();
        while segments(&memory).len() < 4 {
            let mut batch = maker.batch(1 + maker.last.index.get() / 40, 10, 3000);
            if [0, 20].contains(&(maker.last.index.get() - 10)) {
                let members = format!("members of {}", maker.last.index.next());
                batch.records.push(maker.of_kind(maker.last.term.get(), Kind::Membership, members.as_bytes()));
            }
            opened.writer.write(&batch).unwrap();
            prepare_all(&mut opened.writer);
        }
        opened.writer.idle(Index(5)).unwrap();
        let bytes = all_bytes(&opened.reader);
        memory.kill_process();
        let infos = inspect(&*memory.handle(), &group()).unwrap().segments();
        (memory, infos.iter().map(|info| info.first).collect(), bytes)
    }

    fn files(memory: &MemoryDisk) -> BTreeSet<String> {
        let names = memory.handle().list(&group().join("log")).unwrap();
        names.into_iter().filter(|name| !name.ends_with(".tmp")).collect()
    }

    fn file_bytes(memory: &MemoryDisk, path: &Path) -> u64 {
        memory.handle().open(path, OpenMode::Read).unwrap().len().unwrap()
    }

    /// Where the record of an index starts in the bytes of a log that begins with index 1.
    fn position_of(bytes: &[u8], index: Index) -> Position {
        let all = Bytes::copy_from_slice(bytes);
        let records = dledger::commitlog::split(&all, u32::MAX).map(Result::unwrap);
        let before = records.take_while(|record| record.header().id.index < index);
        Position(before.map(|record| record.bytes().len() as u64).sum())
    }

    /// The rest of those bytes from there on.
    fn from(bytes: &[u8], index: Index) -> Vec<u8> {
        bytes[position_of(bytes, index).get() as usize..].to_vec()
    }

    fn bounds(opened: &Opened) -> (EntryId, Position, EntryId, Position, Vote, LogTime) {
        let state = &opened.state;
        (state.base, state.base_position, state.last, state.end, state.vote, state.last_time)
    }

    #[test]
    fn purge_drops_the_segments_that_its_bound_covers_and_no_other() {
        let (memory, firsts, bytes) = with_members();
        let before = open_log(&memory.fork()).state;
        let last = before.last.index.get();
        let mut seen = BTreeSet::new();
        for upto in (0..=last + 3).chain([u64::MAX]) {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            let (paths, disk_bytes) = (segments(&fork), opened.reader.disk_bytes());
            let lengths: Vec<u64> = paths.iter().map(|path| file_bytes(&fork, path)).collect();
            let gone = firsts.iter().rposition(|first| first.get() <= upto.saturating_add(1)).unwrap();
            let first = firsts[gone];
            opened.writer.purge(Index(upto)).unwrap();
            assert_eq!(opened.reader.first(), first, "purged up to {upto}");
            assert_eq!(opened.reader.last().get(), last);
            assert_eq!(opened.reader.disk_bytes(), disk_bytes - lengths[..gone].iter().sum::<u64>());
            assert_eq!(segments(&fork), paths[gone..]);
            if !seen.insert(gone) {
                continue;
            }
            assert!(all_bytes(&opened.reader) == from(&bytes, first));
            assert!(matches!(
                opened.reader.read(first.prev()),
                Err(ReadError::OutOfRange { first: found, .. }) if found == first
            ));
            assert_eq!(opened.reader.end_of(first.prev()), Some(position_of(&bytes, first)));
            let base = opened.writer.base().clone();
            assert_eq!((base.entry.index, base.position), (first.prev(), position_of(&bytes, first)));
            assert_eq!(base.time, LogTime(if gone == 0 { 0 } else { 1000 + first.prev().get() }));
            let in_force = before.memberships.iter().rev().find(|(index, _)| *index < first);
            assert_eq!(base.membership, in_force.cloned().unwrap_or_default());
            let left: BTreeSet<String> = files(&fork);
            assert!(left.iter().all(|name| name[..20].parse::<u64>().unwrap() >= first.get()), "{left:?}");
            fork.power_cut(|_| Fate::Lost);
            let opened = open_log(&fork);
            assert!(!opened.report.rules.contains(&Rule::Dropped), "the removals are durable");
            assert!(all_bytes(&opened.reader) == from(&bytes, first));
            let state = &opened.state;
            assert_eq!((state.base, state.base_position), (base.entry, base.position));
            assert_eq!((state.last, state.end, state.vote), (before.last, before.end, before.vote));
            assert!(before.memberships.ends_with(&state.memberships));
            let known = Some(base.membership).filter(|(index, _)| !index.is_zero());
            let above = before.memberships.iter().filter(|(index, _)| *index >= first).cloned();
            assert_eq!(state.memberships, known.into_iter().chain(above).collect::<Vec<_>>());
            assert_eq!(opened.writer.base().entry, state.base);
        }
        assert_eq!(seen.len(), firsts.len(), "each number of segments was dropped once");
    }

    #[test]
    fn purge_of_nothing_changes_nothing() {
        let (memory, firsts, _) = with_members();
        let mut opened = open_log(&memory);
        opened.writer.purge(firsts[1]).unwrap();
        for upto in [Index(0), Index(1), firsts[1], firsts[2].prev().prev()] {
            let before = memory.counts();
            opened.writer.purge(upto).unwrap();
            assert_eq!(memory.counts(), before, "up to {upto}");
        }
        let empty = MemoryDisk::new();
        let mut opened = open_log(&empty);
        let before = empty.counts();
        opened.writer.purge(Index(u64::MAX)).unwrap();
        assert_eq!(empty.counts(), before, "of an empty log");
    }

    #[test]
    fn purge_up_to_an_empty_last_segment_leaves_a_log_that_knows_its_last_entry() {
        let (memory, _, _) = with_members();
        let mut opened = open_log(&memory);
        let kept = opened.reader.read(opened.reader.last().prev()).unwrap().header().id;
        // A cut begins a segment, which is empty without new records.
        opened.writer.write(&WriteBatch { truncate_after: Some(kept), ..WriteBatch::default() }).unwrap();
        opened.writer.purge(Index(u64::MAX)).unwrap();
        assert_eq!((opened.reader.first(), opened.reader.last()), (kept.index.next(), kept.index));
        memory.power_cut(|_| Fate::Lost);
        let mut opened = open_log(&memory);
        assert_eq!((opened.state.base, opened.state.last, opened.state.runs.len()), (kept, kept, 0));
        assert_eq!(opened.state.last_time, LogTime(1000 + kept.index.get()));
        assert!(opened.state.has(kept) && !opened.state.has(EntryId::new(kept.index, Term(99))));
        let mut maker = maker_of(&opened);
        opened.writer.write(&maker.batch(9, 3, 100)).unwrap();
        memory.power_cut(|_| Fate::Lost);
        let opened = open_log(&memory);
        assert_eq!((opened.state.last, opened.state.end), (maker.last, maker.end));
        assert!(opened.state.has(EntryId::new(kept.index.next(), Term(9))) && opened.state.has(kept));
        assert!(!opened.state.has(EntryId::new(kept.index.prev(), kept.term)), "it was dropped");
    }

    #[test]
    fn purge_again_and_again_under_writes_bounds_the_disk() {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let (mut maker, mut most) = (Maker::new(), 0);
        for _ in 0..100 {
            opened.writer.write(&maker.batch(1, 4, 3000)).unwrap();
            prepare_all(&mut opened.writer);
            opened.writer.purge(Index(maker.last.index.get().saturating_sub(10))).unwrap();
            most = most.max(opened.reader.disk_bytes());
        }
        assert!(most <= 5 * options().segment_bytes, "{most} bytes");
        assert!(segments(&memory).len() <= 2, "{:?}", segments(&memory));
        memory.power_cut(|_| Fate::Lost);
        let opened = open_log(&memory);
        assert_eq!((opened.state.last, opened.state.end), (maker.last, maker.end));
        assert!(opened.state.base.index > Index(300));
        all_bytes(&opened.reader);
    }

    #[test]
    fn purge_leaves_readers_what_they_hold_and_tells_the_others_where_the_log_begins() {
        let (memory, firsts, bytes) = with_members();
        let mut opened = open_log(&memory);
        let held = opened.reader.read_from(Index(1), u64::MAX).unwrap();
        let record = opened.reader.read(Index(2)).unwrap();
        let (reader, done) = (opened.reader.clone(), AtomicBool::new(false));
        let checked = std::thread::scope(|threads| {
            let iterating = threads.spawn(|| iterate(&reader, &bytes, &done));
            for first in &firsts[1..] {
                opened.writer.purge(first.prev()).unwrap();
                std::thread::yield_now();
            }
            done.store(true, Ordering::Release);
            iterating.join().unwrap()
        });
        assert!(checked > 0);
        assert!(held.concat() == bytes, "what was handed out stays as it was");
        assert_eq!(*record.bytes(), record_of(&bytes, Index(2)));
        assert_eq!(segments(&memory).len(), 1);
    }

    /// Reads from where the log begins, over and over: each record is the right one, or dropped meanwhile.
    fn iterate(reader: &LogReader, bytes: &[u8], done: &AtomicBool) -> u64 {
        let all = Bytes::copy_from_slice(bytes);
        let records: Vec<Bytes> =
            dledger::commitlog::split(&all, u32::MAX).map(|record| record.unwrap().bytes().clone()).collect();
        let mut checked = 0;
        loop {
            let last_round = done.load(Ordering::Acquire);
            let mut index = reader.first();
            while index <= reader.last() {
                match reader.read(index) {
                    Ok(read) => assert_eq!(*read.bytes(), records[index.get() as usize - 1]),
                    Err(ReadError::OutOfRange { first, .. }) => assert!(first > index, "{first} {index}"),
                    Err(error) => panic!("{error}"),
                }
                checked += 1;
                index = index.next().max(reader.first());
            }
            if last_round {
                return checked;
            }
        }
    }

    /// Purges with the power cut at each of its calls, and hands on what is found afterwards, with the base before and
    /// behind it.
    fn at_each_call(strike: impl Fn(&MemoryDisk, u64), settle: impl Fn(&MemoryDisk, u64)) {
        let (memory, firsts, bytes) = with_members();
        let (old, new) = (firsts[1], firsts[3]);
        let mut opened = open_log(&memory);
        opened.writer.purge(old.prev()).unwrap();
        memory.kill_process();
        let found = bounds(&open_log(&memory));
        memory.kill_process();
        let (mut olds, mut news) = (0, 0);
        for call in 1.. {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            strike(&fork, call);
            let purged = opened.writer.purge(new.prev());
            if purged.is_err() {
                assert!(matches!(opened.writer.purge(new.prev()), Err(LogFault::Poisoned { .. })), "for good");
            }
            drop(opened);
            settle(&fork, call);
            let mut opened = open_log(&fork);
            let first = opened.reader.first();
            assert!(first == new || purged.is_err() && first == old, "call {call}: begins at {first}");
            assert!(all_bytes(&opened.reader) == from(&bytes, first), "call {call}");
            let (.., last, end, vote, time) = found;
            assert_eq!(bounds(&opened), (opened.state.base, position_of(&bytes, first), last, end, vote, time));
            let left = files(&fork);
            assert!(left.iter().all(|name| name[..20].parse::<u64>().unwrap() >= first.get()), "{left:?}");
            if purged.is_ok() {
                assert!(olds > 3 && news > 3, "only {olds} and {news} calls can change the disk");
                return;
            }
            *(if first == old { &mut olds } else { &mut news }) += 1;
            // What recovery shows is durable, and the purge can be done again.
            let mut maker = maker_of(&opened);
            opened.writer.write(&maker.batch(7, 2, 50)).unwrap();
            opened.writer.purge(new.prev()).unwrap();
            fork.power_cut(|_| Fate::Lost);
            let opened = open_log(&fork);
            assert_eq!((opened.reader.first(), opened.state.last), (new, maker.last), "call {call}");
        }
    }

    #[test]
    fn purge_cut_off_by_a_power_failure_at_each_call_leaves_the_old_front_or_the_new_one() {
        for seed in 0..4 {
            at_each_call(MemoryDisk::cut_power_at, |disk, call| disk.power_cut(Fate::seeded(call * 4 + seed)));
        }
        at_each_call(MemoryDisk::cut_power_at, |disk, _call| disk.power_cut(|_| Fate::Lost));
        at_each_call(MemoryDisk::cut_power_at, |disk, _call| disk.power_cut(|_| Fate::Kept));
    }

    // A failed sync leaves in the cache what the disk may lack: what the next process shows of it, it makes durable.
    #[test]
    fn purge_whose_nth_sync_fails_is_poisoned_and_leaves_the_old_front_or_the_new_one() {
        let (memory, firsts, bytes) = with_members();
        let mut syncs = 0;
        loop {
            syncs += 1;
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            fork.fail_sync(syncs);
            let purged = opened.writer.purge(firsts[2].prev());
            if purged.is_ok() {
                assert_eq!(syncs, 4, "the base file, its directory, and that of the log");
                return;
            }
            assert!(matches!(purged, Err(LogFault::Poisoned { .. })));
            drop(opened);
            fork.kill_process();
            let seen = open_log(&fork).reader.first();
            fork.power_cut(|_| Fate::Lost);
            let opened = open_log(&fork);
            assert_eq!(opened.reader.first(), seen, "sync {syncs}");
            assert_eq!(seen, if syncs == 1 { Index(1) } else { firsts[2] }, "sync {syncs}");
            assert!(all_bytes(&opened.reader) == from(&bytes, seen));
        }
    }

    #[test]
    fn purge_then_a_cut_keeps_the_base_and_refuses_what_lies_before_it() {
        let (memory, firsts, _) = purged();
        let opened = open_log(&memory);
        let base = opened.state.base;
        assert_eq!(base.index.next(), firsts[0]);
        drop(opened);
        for keep in [0, 1, 5, firsts[1].get() - firsts[0].get() + 3] {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            let kept = base.index.plus(keep);
            let id = if keep == 0 { base } else { opened.reader.read(kept).unwrap().header().id };
            let mut maker = Maker::after(id, opened.reader.end_of(kept).unwrap());
            let mut cut = maker.batch(50, 2, 80);
            cut.truncate_after = Some(id);
            opened.writer.write(&cut).unwrap();
            let bytes = all_bytes(&opened.reader);
            assert_eq!((opened.reader.first(), opened.reader.last()), (firsts[0], kept.plus(2)));
            fork.power_cut(Fate::seeded(keep));
            let opened = open_log(&fork);
            assert_eq!((opened.state.base, opened.state.last, opened.state.end), (base, maker.last, maker.end));
            assert!(all_bytes(&opened.reader) == bytes);
        }
        let mut opened = open_log(&memory);
        let before = EntryId::new(base.index.prev(), base.term);
        let cut = WriteBatch { truncate_after: Some(before), ..WriteBatch::default() };
        assert!(matches!(opened.writer.write(&cut), Err(LogFault::Poisoned { .. })), "what was purged was committed");
    }

    #[test]
    fn purge_takes_holes_along_and_a_covered_one_blocks_nothing() {
        let (memory, firsts, bytes) = with_members();
        let paths = segments(&memory);
        // One record of the first segment and one of the last but one; without footers both are seen at opening.
        for place in [0, 2] {
            memory.flip_byte(&paths[place], RECORDS + 100).unwrap();
            memory.flip_byte(&paths[place], FOOTER as u64 + 8).unwrap();
        }
        let mut opened = open_log(&memory);
        let [first, second] = &opened.state.holes[..] else { panic!("{:?}", opened.state.holes) };
        assert_eq!((first.first, second.first), (Index(1), firsts[2]));
        assert!(first.is_covered(Index(1)) && !first.is_covered(Index(0)) && !second.is_covered(Index(1)));
        let (first, second) = (first.clone(), second.clone());
        opened.writer.purge(firsts[1].prev()).unwrap();
        assert_eq!(opened.reader.holes(), std::slice::from_ref(&second));
        assert_eq!(opened.reader.hole_at(first.first), None);
        memory.power_cut(|_| Fate::Lost);
        let alone = |covered: Index| {
            let fork = memory.fork();
            open_alone(fork.handle(), &group(), LogOptions { covered, ..options() }).map(|opened| opened.state.holes)
        };
        assert!(matches!(alone(second.last.prev()), Err(OpenError::Unmendable { index, .. }) if index == second.first));
        assert_eq!(alone(second.last).unwrap(), std::slice::from_ref(&second));
        let mut opened = open_log(&memory);
        assert_eq!(opened.state.holes, [second]);
        opened.writer.purge(Index(u64::MAX)).unwrap();
        assert_eq!(opened.reader.holes(), []);
        memory.power_cut(|_| Fate::Lost);
        let opened = open_log(&memory);
        assert_eq!(opened.state.holes, []);
        assert!(all_bytes(&opened.reader) == from(&bytes, firsts[3]));
    }

    #[test]
    fn purge_on_a_full_disk_gives_up_the_reserve_and_has_it_back_with_the_room_it_made() {
        let (memory, firsts, _) = with_members();
        let mut opened = open_log(&memory);
        let reserve = group().join("log").join("reserve.tmp");
        assert!(memory.handle().open(&reserve, OpenMode::Read).is_ok());
        memory.set_free(100);
        opened.writer.purge(firsts[2].prev()).unwrap();
        assert_eq!((opened.reader.first(), opened.reader.space()), (firsts[2], Space::Reserve));
        assert!(memory.handle().open(&reserve, OpenMode::Read).is_err(), "it was given up");
        prepare_all(&mut opened.writer);
        assert_eq!(opened.reader.space(), Space::Open);
        assert!(memory.handle().open(&reserve, OpenMode::Read).is_ok());
        memory.power_cut(|_| Fate::Lost);
        assert_eq!(open_log(&memory).reader.first(), firsts[2]);
    }

    #[test]
    fn purge_leaves_no_work_that_would_bring_a_file_of_a_dropped_segment_back() {
        for before in 0.. {
            let memory = MemoryDisk::new();
            let (mut opened, mut maker) = (open_log(&memory), Maker::new());
            while segments(&memory).len() < 4 {
                opened.writer.write(&maker.batch(1, 10, 3000)).unwrap();
            }
            for _ in 0..before {
                let Some(job) = opened.writer.prepare_job() else {
                    assert!(before > 3, "three indexes were due at least");
                    return;
                };
                opened.writer.prepared(job.run()).unwrap();
            }
            let held = opened.writer.prepare_job();
            opened.writer.purge(maker.last.index).unwrap();
            held.into_iter().for_each(|job| opened.writer.prepared(job.run()).unwrap());
            prepare_all(&mut opened.writer);
            let first = opened.reader.first();
            let left = files(&memory);
            assert!(left.iter().all(|name| name[..20].parse::<u64>().unwrap() >= first.get()), "{before}: {left:?}");
        }
    }

    #[test]
    fn purge_of_an_asynchronous_log_drops_only_what_is_durable() {
        let memory = MemoryDisk::new();
        let durability = Durability::Async { flush_every: Duration::from_secs(1) };
        let options = LogOptions { durability, ..options() };
        let mut opened = try_open(&memory, &options).unwrap();
        let mut maker = Maker::new();
        while segments(&memory).len() < 3 {
            opened.writer.write(&maker.batch(1, 10, 3000)).unwrap();
        }
        opened.writer.purge(maker.last.index).unwrap();
        let first = opened.reader.first();
        assert!(first > Index(1) && first <= opened.reader.last());
        memory.power_cut(|_| Fate::Lost);
        let opened = try_open(&memory, &options).unwrap();
        assert_eq!(opened.reader.first(), first);
        assert!(opened.state.last.index >= first.prev());
    }

    #[test]
    fn purged_log_is_sound_to_the_scrub_and_from_outside() {
        let (memory, firsts, bytes) = purged();
        let found = inspect(&*memory.handle(), &group()).unwrap();
        assert_eq!(found.base().index.next(), firsts[0]);
        for start in [Index(1), firsts[0].prev(), firsts[0]] {
            let verified = found.verify(start, Index(u64::MAX));
            assert_eq!(verified.damage, [], "from {start}");
            assert_eq!((verified.first, verified.bytes), (firsts[0], bytes.len() as u64));
            assert_eq!(found.records(start, Index(u64::MAX)).filter_map(Result::ok).count() as u64, verified.records);
        }
        assert_eq!(found.segments().first().map(|info| info.first), Some(firsts[0]));
        let mut opened = open_log(&memory);
        let round = |reader: &LogReader| reader.scrub(Index(1), u64::MAX);
        let scrubbed = round(&opened.reader);
        assert_eq!((scrubbed.at_end, scrubbed.next, scrubbed.bytes), (true, firsts[0], bytes.len() as u64));
        assert_eq!((scrubbed.holes, scrubbed.blocks), (Vec::new(), Vec::new()));
        // The scrub reads the base file too, and the writer makes a bad copy good.
        for copy in [0, 1] {
            memory.flip_byte(&group().join("base"), copy * 4096 + 40).unwrap();
            let bad = round(&opened.reader).blocks;
            assert_eq!(
                bad.iter().map(|bad| (bad.region, bad.offset)).collect::<Vec<_>>(),
                [(Region::Base, copy * 4096)]
            );
            opened.writer.mend_block(&bad[0]).unwrap();
            assert_eq!(round(&opened.reader).blocks, []);
        }
        memory.handle().remove(&group().join("base")).unwrap();
        let bad = round(&opened.reader).blocks;
        opened.writer.mend_block(&bad[0]).unwrap();
        memory.power_cut(|_| Fate::Lost);
        assert!(all_bytes(&open_log(&memory).reader) == bytes);
    }
}
