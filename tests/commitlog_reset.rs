//! Starting a log over at the base of a snapshot: the old log or the new one, never a mixture.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use dledger::commitlog::inspect::inspect;
    use dledger::commitlog::{LogFault, LogState, Rule, Space, WriteBatch, open_alone};
    use dledger::env::OpenMode;
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::ReadError;
    use dledger::types::{EntryId, Index, LogBase, LogTime, NodeId, Position, Term, Vote};

    const VOTE: Vote = Vote { term: Term(6), voted_for: NodeId(3) };

    fn base_at(index: u64, term: u64) -> LogBase {
        LogBase {
            entry: EntryId::new(Index(index), Term(term)),
            position: Position(index * 5_000),
            time: LogTime(70_000 + index),
            membership: (Index(index - 1), b"who was in force".as_slice().into()),
        }
    }

    /// Four segments, a vote, and two thirds of the records known as committed.
    fn written_log() -> (MemoryDisk, LogState, Vec<u8>) {
        let (memory, _) = many_segments();
        let mut opened = open_log(&memory);
        opened.writer.write(&WriteBatch { vote: Some(VOTE), ..WriteBatch::default() }).unwrap();
        opened.writer.idle(Index(80)).unwrap();
        memory.kill_process();
        let opened = open_log(&memory);
        let bytes = all_bytes(&opened.reader);
        memory.kill_process();
        (memory, opened.state, bytes)
    }

    fn assert_empty_at(state: &LogState, base: &LogBase) {
        assert_eq!((state.base, state.base_position), (base.entry, base.position));
        assert_eq!((state.last, state.end, state.last_time), (base.entry, base.position, base.time));
        assert_eq!((&state.runs[..], &state.holes[..]), (&[][..], &[][..]));
        assert_eq!((state.memberships.clone(), state.vote), (vec![base.membership.clone()], VOTE));
        assert_eq!(state.committed_hint, base.entry.index);
        assert!(state.has(base.entry));
    }

    #[test]
    fn reset_discards_everything_and_goes_on_behind_the_base() {
        let (memory, before, _) = written_log();
        // Behind the end, at it, and inside the log where another entry stands.
        let (last, conflict) = (before.last.index.get(), before.last.index.get() - 30);
        for base in [base_at(last + 500, 7), base_at(last, 7), base_at(conflict, 7)] {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            assert!(!before.has(base.entry));
            let held = opened.reader.read(Index(3)).unwrap();
            opened.writer.reset(base.clone()).unwrap();
            let reader = opened.reader.clone();
            assert_eq!((reader.first(), reader.last()), (base.entry.index.next(), base.entry.index));
            assert_eq!((reader.end(), opened.writer.vote()), (base.position, VOTE));
            assert!(matches!(reader.read(Index(3)), Err(ReadError::OutOfRange { .. })));
            assert_eq!(held.payload(), payload(3, 3000), "a reader keeps what it holds");
            let [only] = &segments(&fork)[..] else { panic!("{:?}", segments(&fork)) };
            assert_eq!(
                only.file_name().unwrap().to_str().unwrap(),
                format!("{:020}-5.seg", base.entry.index.get() + 1)
            );
            drop(opened);
            fork.power_cut(|_| Fate::Lost);
            let mut opened = open_log(&fork);
            assert_eq!(opened.report.rules, [Rule::Leftovers, Rule::CleanEnd]);
            assert_empty_at(&opened.state, &base);
            assert_eq!(inspect(&*fork.handle(), &group()).unwrap().verify(Index(1), Index(u64::MAX)).damage, []);
            // Positions go on at the base's, and segments roll as ever.
            let mut maker = maker_of(&opened);
            let mut bytes = Vec::new();
            while segments(&fork).len() < 3 {
                let batch = maker.batch(8, 10, 3000);
                opened.writer.write(&batch).unwrap();
                bytes.extend(batch.records.concat());
            }
            fork.power_cut(Fate::seeded(5));
            let opened = open_log(&fork);
            assert_eq!((opened.state.last, opened.state.end), (maker.last, maker.end));
            assert_eq!(opened.state.base, base.entry);
            assert!(all_bytes(&opened.reader) == bytes);
        }
    }

    #[test]
    fn reset_again_and_then_purged_and_cut_is_a_log_as_any_other() {
        let (memory, ..) = written_log();
        let mut opened = open_log(&memory);
        opened.writer.reset(base_at(1_000, 7)).unwrap();
        let base = base_at(2_000, 8);
        opened.writer.reset(base.clone()).unwrap();
        let mut maker = Maker::after(base.entry, base.position);
        while segments(&memory).len() < 3 {
            opened.writer.write(&maker.batch(8, 10, 3000)).unwrap();
            prepare_all(&mut opened.writer);
        }
        opened.writer.purge(maker.last.index).unwrap();
        let first = opened.reader.first();
        assert!(first > base.entry.index.next());
        let kept = opened.reader.read(first).unwrap();
        let mut maker = Maker::after(kept.header().id, kept.header().end());
        let mut cut = maker.batch(9, 3, 10);
        cut.truncate_after = Some(kept.header().id);
        opened.writer.write(&cut).unwrap();
        memory.power_cut(|_| Fate::Lost);
        let opened = open_log(&memory);
        assert_eq!((opened.state.base.index.next(), opened.state.last), (first, maker.last));
        assert_eq!(opened.state.memberships, [base.membership]);
        assert!(all_bytes(&opened.reader) == [kept.bytes().to_vec(), cut.records.concat()].concat());
    }

    /// The power fails at each call of a reset, of `log`, with this fate. Answers how often the old log was found, and
    /// how often the new one.
    fn cut_at_each_call(log: &(MemoryDisk, LogState, Vec<u8>), fate: impl Fn(u64, &MemoryDisk)) -> (u64, u64) {
        let (memory, before, bytes) = log;
        let base = base_at(before.last.index.get() + 77, 9);
        let (mut olds, mut news) = (0, 0);
        for call in 1.. {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            fork.cut_power_at(call);
            let reset = opened.writer.reset(base.clone());
            drop(opened);
            if reset.is_ok() && !fork.is_off() {
                return (olds, news);
            }
            fate(call, &fork);
            // Looking from outside finds no damage in either.
            let verified = inspect(&*fork.handle(), &group()).unwrap().verify(Index(1), Index(u64::MAX));
            assert_eq!(verified.damage, [], "call {call}");
            let opened = open_log(&fork);
            if opened.state.base == before.base && reset.is_err() {
                assert_eq!((opened.state.last, opened.state.end, opened.state.vote), (before.last, before.end, VOTE));
                assert!(all_bytes(&opened.reader) == *bytes, "call {call}");
                olds += 1;
            } else {
                assert_empty_at(&opened.state, &base);
                assert_eq!(segments(&fork).len(), 1, "call {call}");
                news += 1;
            }
            let seen = opened.state;
            let mut again = open_after(&fork);
            assert_eq!(
                (again.state.base, again.state.last),
                (seen.base, seen.last),
                "call {call}: shown, and not kept"
            );
            // What is written behind it is kept like anything else.
            let mut maker = maker_of(&again);
            again.writer.write(&maker.batch(10, 2, 700)).unwrap();
            let again = open_after(&fork);
            assert_eq!((again.state.base, again.state.last), (seen.base, maker.last), "call {call}");
        }
        unreachable!("a reset ends")
    }

    fn open_after(memory: &MemoryDisk) -> dledger::commitlog::Opened {
        memory.power_cut(|_| Fate::Lost);
        open_log(memory)
    }

    #[test]
    fn reset_cut_off_by_a_power_failure_at_each_call_leaves_the_old_log_or_the_new_one() {
        let log = written_log();
        let fates = [Fate::Lost, Fate::Kept, Fate::Garbled];
        for fate in fates {
            let (olds, news) = cut_at_each_call(&log, |_call, disk| disk.power_cut(|_| fate));
            assert!(olds > 3 && news > 10, "{olds} and {news}");
        }
        for seed in 0..4 {
            let (olds, news) = cut_at_each_call(&log, |call, disk| disk.power_cut(Fate::seeded(call * 4 + seed)));
            assert!(olds > 3 && news > 10, "{olds} and {news}");
        }
        // A process that dies leaves everything to be read, synced or not.
        let (olds, news) = cut_at_each_call(&log, |_call, disk| disk.kill_process());
        assert!(olds > 3 && news > 10, "{olds} and {news}");
    }

    #[test]
    fn reset_cut_off_and_cut_off_again_while_it_is_carried_out_ends_in_the_new_log() {
        let (memory, before, _) = written_log();
        let base = base_at(before.last.index.get() + 77, 9);
        let mut carried_out = 0;
        for call in 1.. {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            fork.cut_power_at(call);
            let reset = opened.writer.reset(base.clone());
            drop(opened);
            if reset.is_ok() && !fork.is_off() {
                break;
            }
            fork.power_cut(|_| Fate::Lost);
            let begun = fork.handle().open(&group().join("base"), OpenMode::Read).is_ok();
            for again in 1.. {
                let fork = fork.fork();
                fork.cut_power_at(again);
                if try_open(&fork, options()).is_ok() {
                    break;
                }
                fork.power_cut(Fate::seeded(call * 100 + again));
                let opened = open_log(&fork);
                carried_out += u64::from(opened.report.rules.contains(&Rule::Resetting));
                if begun {
                    assert_empty_at(&opened.state, &base);
                } else {
                    assert_eq!(opened.state.last, before.last);
                }
            }
        }
        assert!(carried_out > 50, "{carried_out}");
    }

    #[test]
    fn reset_whose_nth_sync_fails_is_poisoned_and_leaves_the_old_log_or_the_new_one() {
        let (memory, before, _) = written_log();
        let base = base_at(before.last.index.get() + 77, 9);
        for sync in 1.. {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            fork.fail_sync(sync);
            let reset = opened.writer.reset(base.clone());
            if reset.is_ok() {
                assert!(sync > 6, "only {sync} syncs");
                return;
            }
            assert!(matches!(opened.writer.reset(base.clone()), Err(LogFault::Poisoned { .. })), "for good");
            drop(opened);
            fork.kill_process();
            let seen = open_log(&fork).state;
            match seen.base == base.entry {
                true => assert_empty_at(&seen, &base),
                false => assert_eq!(seen.last, before.last),
            }
            assert_eq!(open_after(&fork).state.last, seen.last, "sync {sync}");
        }
    }

    #[test]
    fn reset_on_a_full_disk_changes_nothing_and_works_with_room() {
        let (memory, before, bytes) = written_log();
        let mut opened = open_log(&memory);
        let base = base_at(before.last.index.get() + 77, 9);
        memory.set_free(100);
        assert!(matches!(opened.writer.reset(base.clone()), Err(LogFault::Full { .. })));
        assert_eq!(opened.reader.last(), before.last.index);
        // The log still takes what fits into the space that it has.
        let mut maker = maker_of(&opened);
        let batch = maker.batch(6, 1, 10);
        opened.writer.write(&batch).unwrap();
        let fork = memory.fork();
        fork.set_capacity(None);
        assert!(all_bytes(&open_after(&fork).reader) == [bytes, batch.records.concat()].concat());
        memory.set_capacity(None);
        opened.writer.reset(base.clone()).unwrap();
        prepare_all(&mut opened.writer);
        assert_eq!(opened.reader.space(), Space::Open);
        assert_empty_at(&open_after(&memory).state, &base);
    }

    #[test]
    fn reset_that_would_lose_entries_of_its_own_history_is_refused() {
        let (memory, before, bytes) = written_log();
        let own = open_log(&memory.fork()).reader.read(Index(50)).unwrap();
        let own = LogBase { entry: own.header().id, position: own.header().end(), ..LogBase::default() };
        assert!(before.has(own.entry));
        let (mut purged, firsts) = (open_log(&memory.fork()), segments(&memory));
        purged.writer.purge(before.last.index).unwrap();
        let earlier = base_at(purged.reader.first().get() - 2, 9);
        assert!(firsts.len() > 1);
        for (mut opened, base) in [(open_log(&memory), own), (purged, earlier)] {
            let refused = opened.writer.reset(base);
            assert!(matches!(refused, Err(LogFault::Poisoned { .. })), "{refused:?}");
        }
        assert!(all_bytes(&open_after(&memory).reader) == bytes, "nothing was changed");
        // Its last entry may be the base: nothing behind it is lost.
        let mut opened = open_log(&memory);
        let base = LogBase { position: before.end, entry: before.last, ..base_at(9, 9) };
        opened.writer.reset(base.clone()).unwrap();
        assert_empty_at(&open_after(&memory).state, &base);
    }

    #[test]
    fn reset_ends_holes_and_doubts_what_may_have_stood_behind_an_unknown_entry() {
        let memory = MemoryDisk::new();
        let (mut opened, mut maker) = (open_log(&memory), Maker::new());
        for (term, count) in [(1, 3), (3, 1), (5, 3)] {
            opened.writer.write(&maker.batch(term, count, 200)).unwrap();
        }
        opened.writer.idle(Index(2)).unwrap();
        drop(opened);
        // The header of entry 4, between terms 1 and 5: nothing says which entry it was.
        memory.flip_byte(&segments(&memory)[0], RECORDS + 3 * 248 + 20).unwrap();
        memory.kill_process();
        let opened = open_log(&memory);
        let [hole] = &opened.state.holes[..] else { panic!("{:?}", opened.state.holes) };
        assert_eq!((hole.first, hole.last, hole.terms.len()), (Index(4), Index(4), 0));
        drop(opened);
        memory.kill_process();
        for (index, doubtful) in [(5, false), (30, false), (4, true)] {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            opened.writer.reset(base_at(index, 9)).unwrap();
            assert_eq!(opened.reader.holes(), []);
            let opened = open_after(&fork);
            assert_eq!(opened.state.last_in_doubt.is_some(), doubtful, "at {index}");
            assert_eq!(opened.state.holes, []);
            drop(opened);
            fork.kill_process();
            let alone = open_alone(fork.handle(), &group(), options());
            assert_eq!(alone.is_err(), doubtful);
        }
    }
}
