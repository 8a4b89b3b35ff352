//! Holes: what is known of records that cannot be read back, and how they are mended.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use bytes::Bytes;
    use dledger::commitlog::{Hole, Opened, WriteBatch, open_alone};
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::{OpenError, ReadError};
    use dledger::types::{EntryId, Index, Kind, LogTime, Position, Term, TermRun};
    use std::path::PathBuf;

    /// A log in one segment, idle; each record has its own term and length.
    struct Log {
        memory: MemoryDisk,
        path: PathBuf,
        bytes: Vec<u8>,
        records: Vec<Bytes>,
        starts: Vec<u64>,
        maker: Maker,
    }

    fn log_of(records: &[(u64, usize)]) -> Log {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let (mut made, mut starts) = (Vec::new(), Vec::new());
        for (term, bytes) in records {
            starts.push(maker.end.get());
            made.push(maker.record(*term, *bytes));
        }
        opened.writer.write(&WriteBatch { records: made.clone(), ..WriteBatch::default() }).unwrap();
        opened.writer.idle(Index(1)).unwrap();
        drop(opened);
        memory.kill_process();
        let path = segments(&memory).remove(0);
        Log { memory, path, bytes: made.concat(), records: made, starts, maker }
    }

    impl Log {
        /// Where the record of an index stands in the file.
        fn at(&self, index: u64) -> u64 {
            RECORDS + self.starts[index as usize - 1]
        }

        fn spoil_header(&self, index: u64) {
            self.memory.flip_byte(&self.path, self.at(index) + 20).unwrap();
        }

        fn spoil_payload(&self, index: u64) {
            self.memory.flip_byte(&self.path, self.at(index) + 50).unwrap();
        }

        /// The records of some indexes, as a peer would send them.
        fn piece(&self, from: u64, to: u64) -> Bytes {
            self.records[from as usize - 1..to as usize].concat().into()
        }
    }

    fn mend(opened: &mut Opened, pieces: &[Bytes]) {
        opened.writer.write(&WriteBatch { mend: pieces.to_vec(), ..WriteBatch::default() }).unwrap();
    }

    fn ranges(holes: &[Hole]) -> Vec<(u64, u64)> {
        holes.iter().map(|hole| (hole.first.get(), hole.last.get())).collect()
    }

    fn run(first: u64, term: u64) -> TermRun {
        TermRun { first: Index(first), term: Term(term) }
    }

    #[test]
    fn hole_terms_come_from_headers_and_from_neighbours_that_agree() {
        let log = log_of(&[(1, 60), (1, 70), (1, 80), (2, 90), (3, 60), (3, 60)]);
        log.spoil_header(2);
        log.spoil_payload(4);
        let opened = open_log(&log.memory);
        assert_eq!(ranges(&opened.state.holes), [(2, 2), (4, 4)]);
        assert_eq!(opened.state.holes[0].terms, [run(2, 1)], "both neighbours are of term 1");
        assert_eq!(opened.state.holes[1].terms, [run(4, 2)], "its header is good");
        assert_eq!(opened.state.runs, [run(1, 1), run(4, 2), run(5, 3)]);
        assert!(opened.state.holes[1].reason.contains("does not match its checksum"));
    }

    #[test]
    fn hole_terms_that_neighbours_leave_open_are_unknown() {
        let log = log_of(&[(1, 60), (2, 70), (2, 80), (4, 60), (4, 60)]);
        log.spoil_header(2);
        log.spoil_header(3);
        let opened = open_log(&log.memory);
        assert_eq!(ranges(&opened.state.holes), [(2, 3)]);
        let hole = &opened.state.holes[0];
        assert!(hole.terms.is_empty() && hole.identity(Index(2)).is_none());
        assert_eq!((hole.position, hole.end), (Position(log.starts[1]), Position(log.starts[3])));
    }

    #[test]
    fn hole_of_neighbours_with_and_without_known_terms_is_two() {
        let log = log_of(&[(1, 60), (2, 70), (3, 80), (3, 60), (4, 60)]);
        log.spoil_header(2);
        log.spoil_payload(3);
        log.spoil_header(4);
        let opened = open_log(&log.memory);
        assert_eq!(ranges(&opened.state.holes), [(2, 2), (3, 3), (4, 4)]);
        let terms: Vec<usize> = opened.state.holes.iter().map(|hole| hole.terms.len()).collect();
        assert_eq!(terms, [0, 1, 0]);
    }

    #[test]
    fn hole_of_the_last_record_is_known_from_the_slot() {
        let log = log_of(&[(1, 60), (2, 70), (5, 80)]);
        log.spoil_header(3);
        let opened = open_log(&log.memory);
        assert_eq!(ranges(&opened.state.holes), [(3, 3)]);
        assert_eq!(opened.state.holes[0].terms, [run(3, 5)]);
        assert_eq!(opened.state.last, EntryId::new(Index(3), Term(5)));
        assert_eq!(opened.state.runs.last(), Some(&run(3, 5)));
        assert_eq!((opened.state.end, opened.reader.end()), (log.maker.end, log.maker.end));
    }

    /// Which entry the last one was, a slot says, or the next segment. That was forgotten when entries before it were lost as
    /// well: a peer's record of the same size and another term was written in its place, and the log did not open again.
    #[test]
    fn hole_that_ends_with_the_last_record_knows_that_one_and_takes_no_other() {
        let log = log_of(&[(1, 60), (2, 70), (5, 80)]);
        log.spoil_header(2);
        log.spoil_header(3);
        let mut opened = open_log(&log.memory);
        assert_eq!(ranges(&opened.state.holes), [(2, 3)]);
        let hole = opened.state.holes[0].clone();
        assert_eq!((&hole.terms[..], hole.unknown()), (&[run(3, 5)][..], Some((Index(2), Index(2)))));
        assert_eq!(opened.state.last, EntryId::new(Index(3), Term(5)));
        let inside = Position(log.starts[2]);
        assert_eq!([hole.position, inside, hole.end].map(|end| hole.may_end_unknown(end)), [false, true, false]);
        let mut other = Maker::after(EntryId::new(Index(1), Term(1)), Position(log.starts[1]));
        let other: Vec<u8> = [other.record(2, 70), other.record(6, 80)].concat();
        mend(&mut opened, &[other.into()]);
        assert_eq!(ranges(&opened.reader.holes()), [(2, 3)], "entry 3 of term 6 is another one");
        mend(&mut opened, &[log.piece(2, 3)]);
        assert_eq!(opened.reader.holes(), []);
    }

    /// The end of an entry that cannot be recognised is where the first cut behind it has put it. A second cut there found no
    /// end and poisoned the log: the tests cut once.
    #[test]
    fn hole_can_be_cut_again_behind_an_unknown_entry_that_a_cut_has_left_last() {
        let log = log_of(&[(1, 60), (2, 70), (3, 80)]);
        log.spoil_header(2);
        log.spoil_header(3);
        let mut opened = open_log(&log.memory);
        let (kept, end) = (EntryId::new(Index(2), Term(2)), Position(log.starts[2]));
        for term in [4, 5] {
            let records = vec![Maker::after(kept, end).record(term, 40)];
            let batch = WriteBatch { records, truncate_after: Some(kept), ..WriteBatch::default() };
            opened.writer.write(&batch).unwrap();
            assert_eq!(ranges(&opened.reader.holes()), [(2, 2)]);
            assert_eq!(opened.reader.read(Index(3)).unwrap().header().id.term, Term(term));
        }
        drop(opened);
        log.memory.kill_process();
        let opened = open_log(&log.memory);
        assert_eq!((opened.state.last, ranges(&opened.state.holes)), (EntryId::new(Index(3), Term(5)), vec![(2, 2)]));
    }

    #[test]
    fn hole_behind_a_bad_header_ends_at_the_next_record_and_not_at_one_inside_a_payload() {
        // The payload of the second record holds a whole record that claims the very place it stands at. What follows it
        // there is filling, or the third record, which has the same index.
        for filling in [40, 0] {
            let mut maker = Maker::new();
            let first = maker.record(1, 60);
            let inside = Maker::after(EntryId::new(Index(2), Term(1)), maker.end.plus(48 + 10)).record(1, 30);
            let second = maker.of_kind(1, Kind::Data, &[&[7; 10][..], &inside, &vec![7; filling]].concat());
            let third = maker.record(1, 60);
            let memory = MemoryDisk::new();
            let mut opened = open_log(&memory);
            let records = vec![first.clone(), second.clone(), third];
            opened.writer.write(&WriteBatch { records, ..WriteBatch::default() }).unwrap();
            opened.writer.idle(Index(1)).unwrap();
            let path = segments(&memory).remove(0);
            memory.flip_byte(&path, RECORDS + first.len() as u64 + 9).unwrap();
            memory.kill_process();
            let mut opened = open_log(&memory);
            assert_eq!(ranges(&opened.state.holes), [(2, 2)], "{filling}");
            assert_eq!(opened.state.holes[0].end.get(), (first.len() + second.len()) as u64, "{filling}");
            mend(&mut opened, &[second]);
            assert!(opened.reader.holes().is_empty(), "{filling}");
        }
    }

    #[test]
    fn hole_hides_itself_from_every_read_and_nothing_else() {
        let log = log_of(&[(1, 60), (1, 700), (1, 800), (1, 60), (1, 60)]);
        log.spoil_header(2);
        log.spoil_payload(3);
        let opened = open_log(&log.memory);
        let reader = &opened.reader;
        for index in [2, 3] {
            assert!(matches!(reader.read(Index(index)), Err(ReadError::Damaged { .. })));
            assert!(matches!(reader.read_from(Index(index), 9), Err(ReadError::Damaged { .. })));
        }
        assert_eq!(reader.read_from(Index(1), u64::MAX).unwrap(), [log.piece(1, 1)]);
        assert_eq!(reader.read_from(Index(4), u64::MAX).unwrap(), [log.piece(4, 5)]);
        assert!(matches!(reader.read_at(Position(log.starts[1] + 3)), Err(ReadError::Damaged { .. })));
        assert_eq!(reader.read_at(Position(log.starts[3])).unwrap().header().id.index, Index(4));
        assert_eq!(reader.end_of(Index(3)), Some(Position(log.starts[3])));
        assert!(matches!(reader.read(Index(6)), Err(ReadError::OutOfRange { .. })));
    }

    #[test]
    fn hole_or_doubt_of_a_node_without_peers_is_refused_with_the_way_out_and_nothing_changes() {
        let log = log_of(&[(1, 60), (1, 70), (1, 80)]);
        let no_slots = log.memory.fork();
        no_slots.flip_byte(&log.path, 4096).unwrap();
        no_slots.flip_byte(&log.path, 8192).unwrap();
        log.spoil_payload(2);
        for (memory, named) in [(&log.memory, "index 2"), (&no_slots, "progress slot")] {
            let before = (memory.counts().mutating, read_file(memory, &log.path));
            let refused = open_alone(memory.handle(), &group(), options()).map(|_opened| ()).unwrap_err();
            assert!(matches!(refused, OpenError::Unmendable { .. }), "{refused}");
            let text = refused.to_string();
            assert!(text.contains(named) && text.contains("kvcli log repair"), "{text}");
            assert_eq!((memory.counts().mutating, read_file(memory, &log.path)), before);
        }
        assert!(open_alone(log_of(&[(1, 60)]).memory.handle(), &group(), options()).is_ok());
    }

    #[test]
    fn mend_of_each_flipped_byte_brings_the_same_bytes_back() {
        let log = log_of(&[(1, 3), (1, 0), (2, 40), (2, 5)]);
        for offset in 0..log.bytes.len() as u64 {
            let fork = log.memory.fork();
            fork.flip_byte(&log.path, RECORDS + offset).unwrap();
            let mut opened = open_log(&fork);
            let holes = opened.state.holes.clone();
            assert_eq!(holes.len(), 1, "{offset}");
            mend(&mut opened, &[log.piece(holes[0].first.get(), holes[0].last.get())]);
            assert!(opened.reader.holes().is_empty(), "{offset}");
            assert!(all_bytes(&opened.reader) == log.bytes, "{offset}");
            fork.power_cut(|_| Fate::Lost);
            let opened = open_log(&fork);
            assert!(opened.state.holes.is_empty() && all_bytes(&opened.reader) == log.bytes, "{offset}");
        }
    }

    #[test]
    fn mend_of_parts_leaves_the_rest_of_the_hole() {
        let log = log_of(&[(1, 60), (1, 70), (1, 80), (1, 90), (1, 60), (1, 60)]);
        for index in 2..=5 {
            log.spoil_header(index);
        }
        for order in [[3, 2, 5, 4], [5, 4, 3, 2], [2, 3, 4, 5], [4, 2, 3, 5]] {
            let memory = log.memory.fork();
            let mut opened = open_log(&memory);
            assert_eq!(ranges(&opened.reader.holes()), [(2, 5)]);
            let mut left = vec![2, 3, 4, 5];
            for index in order {
                mend(&mut opened, &[log.piece(index, index)]);
                left.retain(|one| *one != index);
                let holes = opened.reader.holes();
                let still: Vec<u64> = holes.iter().flat_map(|hole| hole.first.get()..=hole.last.get()).collect();
                assert_eq!(still, left, "{order:?}");
                for hole in &holes {
                    assert_eq!(hole.position.get(), log.starts[hole.first.get() as usize - 1]);
                    assert_eq!(hole.end.get(), log.starts[hole.last.get() as usize]);
                    assert_eq!(hole.offset, log.at(hole.first.get()));
                    assert_eq!(hole.identity(hole.last), Some(EntryId::new(hole.last, Term(1))));
                }
                assert_eq!(opened.reader.read(Index(index)).unwrap().bytes(), &log.records[index as usize - 1]);
            }
            assert!(all_bytes(&opened.reader) == log.bytes);
        }
    }

    #[test]
    fn mend_that_does_not_fit_changes_no_byte() {
        let log = log_of(&[(1, 60), (2, 70), (2, 80), (2, 60), (2, 60)]);
        log.spoil_payload(3);
        let mut opened = open_log(&log.memory);
        let before = read_file(&log.memory, &log.path);
        let second = EntryId::new(Index(2), Term(2));
        let at = |end: u64| Maker::after(second, Position(end));
        let mut rotten = log.piece(3, 3).to_vec();
        rotten[60] ^= 1;
        let wrong = [
            ("another term", at(log.starts[2]).record(3, 80)),
            ("another position", at(log.starts[2] + 1).record(2, 80)),
            ("too short", at(log.starts[2]).record(2, 79)),
            ("too long", at(log.starts[2]).record(2, 81)),
            ("a bad checksum", rotten.into()),
            ("half a record", log.piece(3, 3).slice(..70)),
            ("garbage", Bytes::from_static(&[9; 100])),
            ("nothing", Bytes::new()),
            ("an index that is not in the log", Maker::after(log.maker.last, log.maker.end).record(2, 80)),
        ];
        for (what, piece) in wrong {
            mend(&mut opened, &[piece]);
            assert_eq!(ranges(&opened.reader.holes()), [(3, 3)], "{what}");
            assert!(read_file(&log.memory, &log.path) == before, "{what}");
        }
        mend(&mut opened, &[log.piece(2, 5)]);
        assert!(opened.reader.holes().is_empty(), "records that are good already are passed over");
        assert!(all_bytes(&opened.reader) == log.bytes);
    }

    #[test]
    fn mend_with_another_term_than_the_known_one_is_left_out_though_it_would_be_in_order() {
        let log = log_of(&[(1, 60), (2, 70), (3, 80)]);
        log.spoil_payload(2);
        let mut opened = open_log(&log.memory);
        let before = read_file(&log.memory, &log.path);
        for term in [1, 3] {
            let mut other = Maker::after(EntryId::new(Index(1), Term(1)), Position(log.starts[1]));
            mend(&mut opened, &[other.record(term, 70)]);
            assert_eq!(ranges(&opened.reader.holes()), [(2, 2)], "term {term}");
        }
        assert!(read_file(&log.memory, &log.path) == before);
    }

    #[test]
    fn mend_of_unknown_bounds_must_fill_the_hole_and_not_more() {
        let log = log_of(&[(1, 60), (1, 70), (1, 80), (1, 60)]);
        log.spoil_header(2);
        log.spoil_header(3);
        let mut opened = open_log(&log.memory);
        let before = read_file(&log.memory, &log.path);
        for (second, third) in [(70, 81), (70, 79), (300, 80)] {
            let mut other = Maker::after(EntryId::new(Index(1), Term(1)), Position(log.starts[1]));
            let other: Vec<u8> = [other.record(1, second), other.record(1, third)].concat();
            mend(&mut opened, &[other.into()]);
            let mut alone = Maker::after(EntryId::new(Index(1), Term(1)), Position(log.starts[1]));
            mend(&mut opened, &[alone.record(1, 300)]);
        }
        assert_eq!(ranges(&opened.reader.holes()), [(2, 3)]);
        assert!(read_file(&log.memory, &log.path) == before);
    }

    #[test]
    fn mend_of_the_last_record_brings_its_log_time_back() {
        let log = log_of(&[(1, 60), (1, 70), (1, 80)]);
        log.spoil_header(3);
        let mut opened = open_log(&log.memory);
        assert_eq!(opened.state.last_time, LogTime(1002), "the last time that can be read");
        mend(&mut opened, &[log.piece(3, 3)]);
        log.memory.kill_process();
        assert_eq!(open_log(&log.memory).state.last_time, LogTime(1003));
    }

    #[test]
    fn mend_of_unknown_terms_keeps_terms_in_order() {
        let log = log_of(&[(1, 60), (2, 70), (2, 80), (4, 60), (4, 60)]);
        log.spoil_header(2);
        log.spoil_header(3);
        let mut opened = open_log(&log.memory);
        let mut late = Maker::after(EntryId::new(Index(1), Term(1)), Position(log.starts[1]));
        let late: Vec<u8> = [late.record(5, 70), late.record(5, 80)].concat();
        mend(&mut opened, &[late.into()]);
        assert_eq!(ranges(&opened.reader.holes()), [(2, 3)], "term 5 cannot stand before term 4");
        mend(&mut opened, &[log.piece(2, 3)]);
        assert!(all_bytes(&opened.reader) == log.bytes);
    }

    #[test]
    fn mend_cut_at_each_call_leaves_the_hole_or_the_record() {
        let log = log_of(&[(1, 60), (1, 1700), (1, 900), (1, 60)]);
        log.spoil_header(2);
        log.spoil_payload(3);
        let mut mended = 0;
        for call in 1.. {
            for seed in 0..12 {
                let fork = log.memory.fork();
                let mut opened = open_log(&fork);
                fork.cut_power_at(call);
                let batch = WriteBatch { mend: vec![log.piece(2, 3)], ..WriteBatch::default() };
                let done = opened.writer.write(&batch).is_ok();
                if done && !fork.is_off() {
                    assert!(call > 6, "only {call} calls");
                    assert!(mended > 0, "no cut has kept the mended bytes");
                    return;
                }
                drop(opened);
                fork.power_cut(Fate::seeded(seed));
                let mut opened = open_log(&fork);
                let holes = ranges(&opened.state.holes);
                assert!(holes.is_empty() || !done, "call {call}, seed {seed}: acknowledged and gone");
                mended += usize::from(holes.is_empty());
                for index in 1..=4 {
                    match opened.reader.read(Index(index)) {
                        Ok(record) => assert_eq!(record.bytes(), &log.records[index as usize - 1]),
                        Err(_) => assert!(holes.iter().any(|(first, last)| (*first..=*last).contains(&index))),
                    }
                }
                mend(&mut opened, &[log.piece(1, 4)]);
                assert!(all_bytes(&opened.reader) == log.bytes, "call {call}, seed {seed}");
            }
        }
    }

    #[test]
    fn mend_of_an_unreadable_sector_writes_all_of_it() {
        // The last sector of the log ends in bytes that belong to no record.
        let log = log_of(&[(1, 460), (1, 400), (1, 400), (1, 400), (1, 300)]);
        for at in [log.at(1), log.at(3), log.at(4) + 300, log.at(5) + 340] {
            let memory = log.memory.fork();
            memory.spoil_sector(&log.path, at).unwrap();
            let mut opened = open_log(&memory);
            let holes = ranges(&opened.state.holes);
            assert_eq!(holes.len(), 1, "{at}: {holes:?}");
            let (first, last) = holes[0];
            if first < last {
                mend(&mut opened, &[log.piece(first, first)]);
                assert_eq!(ranges(&opened.reader.holes()), [(first + 1, last)], "what shares its sector was lost too");
                memory.kill_process();
                opened = open_log(&memory);
                assert_eq!(ranges(&opened.state.holes), [(first + 1, last)]);
            }
            mend(&mut opened, &[log.piece(first, last)]);
            assert!(all_bytes(&opened.reader) == log.bytes, "{at}");
            memory.power_cut(|_| Fate::Lost);
            assert!(all_bytes(&open_log(&memory).reader) == log.bytes, "{at}");
            assert_eq!(memory.counts().map_faults, 0);
        }
    }

    #[test]
    fn mend_of_a_membership_record_is_what_later_segments_carry() {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let member = maker.of_kind(1, Kind::Membership, b"one two three");
        let rest = maker.record(1, 60);
        let records = vec![member.clone(), rest];
        opened.writer.write(&WriteBatch { records, ..WriteBatch::default() }).unwrap();
        opened.writer.idle(Index(1)).unwrap();
        memory.flip_byte(&segments(&memory)[0], RECORDS + 5).unwrap();
        memory.kill_process();
        let mut opened = open_log(&memory);
        assert!(opened.state.memberships.is_empty());
        mend(&mut opened, &[member]);
        while segments(&memory).len() < 3 {
            opened.writer.write(&maker.batch(1, 10, 3000)).unwrap();
        }
        opened.writer.idle(Index(1)).unwrap();
        memory.kill_process();
        let opened = open_log(&memory);
        assert_eq!(opened.state.memberships, [(Index(1), Bytes::from_static(b"one two three"))]);
        let last = read_file(&memory, segments(&memory).last().unwrap());
        assert!(last[..4096].windows(13).any(|bytes| bytes == b"one two three"), "the new segment's header has it");
    }

    #[test]
    fn segment_made_behind_a_hole_does_not_name_an_older_membership_as_the_one_in_force() {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let records: Vec<Bytes> = [&b"the older one"[..], b"the newer one"]
            .iter()
            .flat_map(|members| [maker.of_kind(1, Kind::Membership, members), maker.record(1, 60)])
            .collect();
        let newer = u64::try_from(records[0].len() + records[1].len()).unwrap();
        opened.writer.write(&WriteBatch { records, ..WriteBatch::default() }).unwrap();
        opened.writer.idle(Index(1)).unwrap();
        memory.flip_byte(&segments(&memory)[0], RECORDS + newer + 5).unwrap();
        memory.kill_process();
        let mut opened = open_log(&memory);
        while segments(&memory).len() < 3 {
            opened.writer.write(&maker.batch(1, 10, 3000)).unwrap();
        }
        for path in &segments(&memory)[1..] {
            let header = &read_file(&memory, path)[..4096];
            assert!(!header.windows(9).any(|bytes| bytes == b"the older"), "{path:?}");
        }
    }

    #[test]
    fn hole_that_is_cut_away_is_gone_and_one_that_is_cut_into_ends_there() {
        let log = log_of(&[(1, 60), (1, 70), (1, 80), (1, 90), (1, 60)]);
        for index in 2..=4 {
            log.spoil_header(index);
        }
        for kept in 1..=5u64 {
            let memory = log.memory.fork();
            let mut opened = open_log(&memory);
            let id = EntryId::new(Index(kept), Term(1));
            let end = log.starts.get(kept as usize).copied().unwrap_or(log.maker.end.get());
            let mut maker = Maker::after(id, Position(end));
            let batch = WriteBatch { truncate_after: Some(id), ..maker.batch(2, 2, 50) };
            opened.writer.write(&batch).unwrap();
            let expected: Vec<(u64, u64)> = if kept == 1 { vec![] } else { vec![(2, kept.min(4))] };
            assert_eq!(ranges(&opened.reader.holes()), expected, "kept {kept}");
            memory.power_cut(|_| Fate::Lost);
            let mut opened = open_log(&memory);
            assert_eq!(ranges(&opened.state.holes), expected, "kept {kept}, opened again");
            assert_eq!((opened.state.last, opened.state.end), (maker.last, maker.end));
            if kept > 1 {
                mend(&mut opened, &[log.piece(2, kept.min(4))]);
            }
            let whole = [&log.bytes[..end as usize], &batch.records.concat()].concat();
            assert!(all_bytes(&opened.reader) == whole, "kept {kept}");
        }
    }

    #[test]
    fn log_with_a_hole_goes_on_and_opens_at_each_cut() {
        let log = log_of(&[(1, 60), (1, 700), (2, 80), (2, 90)]);
        log.spoil_header(2);
        for call in 1.. {
            for seed in 0..4 {
                let fork = log.memory.fork();
                fork.cut_power_at(call);
                let mut maker = log.maker;
                let batch = maker.batch(3, 2, 100);
                let done = try_open(&fork, options()).is_ok_and(|mut opened| opened.writer.write(&batch).is_ok());
                if done && !fork.is_off() {
                    assert!(call > 15, "only {call} calls");
                    return;
                }
                fork.power_cut(Fate::seeded(seed));
                let mut opened = open_log(&fork);
                assert_eq!(ranges(&opened.state.holes), [(2, 2)], "call {call}, seed {seed}");
                assert!(opened.state.last >= log.maker.last && opened.state.last_in_doubt.is_none());
                mend(&mut opened, &[log.piece(2, 2)]);
                let whole = [log.bytes.clone(), batch.records.concat()].concat();
                let found = all_bytes(&opened.reader);
                assert!(whole.starts_with(&found) && found.len() >= log.bytes.len(), "call {call}, seed {seed}");
            }
        }
    }

    /// A leader's cut stopped the log for good when the entry to keep had rotted and nobody had read it yet: only holes
    /// that were known already could be cut after, and the tests knew them all from opening.
    #[test]
    fn cut_after_a_record_whose_damage_nobody_has_seen_keeps_it_as_a_hole() {
        let log = log_of(&[(1, 60), (1, 70), (2, 80), (2, 60)]);
        let mut opened = open_log(&log.memory);
        log.spoil_payload(2);
        let kept = EntryId::new(Index(2), Term(1));
        let mut maker = Maker::after(kept, Position(log.starts[2]));
        let batch = WriteBatch { truncate_after: Some(kept), ..maker.batch(3, 2, 50) };
        opened.writer.write(&batch).unwrap();
        assert_eq!(ranges(&opened.reader.holes()), [(2, 2)]);
        mend(&mut opened, &[log.piece(2, 2)]);
        assert!(all_bytes(&opened.reader) == [log.piece(1, 2), batch.records.concat().into()].concat());
    }
}
