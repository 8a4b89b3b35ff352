//! The decision table of opening, the rows about damage: tests are named by their labels.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use dledger::commitlog::inspect::inspect;
    use dledger::commitlog::{Rule, WriteBatch};
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::{OpenError, ReadError};
    use dledger::types::{EntryId, Index, Term};

    #[test]
    fn r5_a_damaged_header_is_made_again_from_what_stands_around_it() {
        for offset in 0..116 {
            let (memory, _, bytes) = written(2, true);
            let path = segments(&memory).remove(0);
            let before = read_file(&memory, &path);
            memory.flip_byte(&path, offset).unwrap();
            let verified = inspect(&*memory.handle(), &group()).unwrap().verify(Index(1), Index(9));
            assert_eq!(verified.damage.iter().map(|damage| damage.offset).collect::<Vec<_>>(), [0], "{offset}");
            opens_with(&memory, &bytes, Rule::Header);
            let opened = open_log(&memory);
            assert!(!opened.report.rules.contains(&Rule::Header), "it was written again");
            assert!(read_file(&memory, &path)[..4096] == before[..4096], "byte {offset} is not as it was");
        }
    }

    /// The first block of a file whose others may not be readable.
    fn header_block(memory: &MemoryDisk, path: &std::path::Path) -> Vec<u8> {
        let file = memory.handle().open(path, dledger::env::OpenMode::Read).unwrap();
        let mut block = vec![0; 4096];
        file.read_exact_at(&mut block, 0).unwrap();
        block
    }

    #[test]
    fn r5_any_segment_is_opened_without_its_header_block_slots_or_first_record() {
        let (memory, firsts) = many_segments();
        let expected = all_bytes(&open_log(&memory).reader);
        for place in 0..firsts.len() {
            let last = place + 1 == firsts.len();
            for lost in [0..4096, 0..8192, 0..12288, 0..12600] {
                let fork = memory.fork();
                let path = segments(&fork).remove(place);
                for sector in lost.clone().step_by(512) {
                    fork.spoil_sector(&path, sector).unwrap();
                }
                let opened = open_log(&fork);
                // Without the newer slot what stands above the older one is copied, and the file may go.
                if !last || lost.end == 4096 {
                    assert!(header_block(&fork, &path) == header_block(&memory, &path), "{place}, {lost:?}");
                }
                assert!(opened.report.rules.contains(&Rule::Header), "{place}, {lost:?}");
                assert_eq!(opened.state.last_in_doubt.is_some(), last && lost.end >= 12288, "{place}, {lost:?}");
                assert!(opened.state.holes.is_empty());
                assert!(all_bytes(&opened.reader) == expected, "{place}, {lost:?}");
                assert_eq!(fork.counts().map_faults, 0);
                fork.power_cut(|_| Fate::Lost);
                assert!(all_bytes(&open_log(&fork).reader) == expected, "{place}, {lost:?}, again");
            }
            // The first record as well: the slots are left, or nothing is.
            let fork = memory.fork();
            let path = segments(&fork).remove(place);
            fork.flip_byte(&path, 50).unwrap();
            fork.flip_byte(&path, RECORDS + 10).unwrap();
            let opened = open_log(&fork);
            if last {
                assert_eq!(opened.state.holes.len(), 1);
            }
            assert_eq!(opened.reader.read(firsts[place].next()).unwrap().header().id.index, firsts[place].next());
            assert!(opened.reader.read(firsts[place]).is_err());
        }
    }

    /// A first segment whose slots had moved on was refused: where it starts was told from its first record alone, though
    /// a log starts at 0. In the test of all segments an empty slot, which no longer log has, told it too.
    #[test]
    fn r5_the_first_segment_is_opened_without_its_header_and_first_record_once_its_slots_have_moved_on() {
        let (memory, _, bytes) = written(40, true);
        let path = segments(&memory).remove(0);
        memory.flip_byte(&path, 50).unwrap();
        memory.flip_byte(&path, RECORDS + 10).unwrap();
        memory.kill_process();
        let mut opened = open_log(&memory);
        assert!(opened.report.rules.contains(&Rule::Header));
        let holes: Vec<_> = opened.state.holes.iter().map(|hole| (hole.first, hole.last, hole.terms.len())).collect();
        assert_eq!(holes, [(Index(1), Index(1), 1)]);
        let mend = vec![record_of(&bytes, Index(1))];
        opened.writer.write(&WriteBatch { mend, ..WriteBatch::default() }).unwrap();
        assert!(all_bytes(&opened.reader) == bytes);
    }

    #[test]
    fn r5_a_header_that_nothing_vouches_for_is_refused() {
        let (memory, ..) = written(2, true);
        let path = segments(&memory).remove(0);
        for at in [50, 4096 + 9, 8192 + 9, RECORDS + 10] {
            memory.flip_byte(&path, at).unwrap();
        }
        assert!(matches!(refusal(&memory), OpenError::Corrupt { path: found, .. } if found == path));
    }

    #[test]
    fn r5_a_segment_that_is_beaten_is_removed_without_its_header_too() {
        let (memory, firsts) = many_segments();
        let beaten = segments(&memory).pop().unwrap();
        let saved = read_file(&memory, &beaten);
        let mut opened = open_log(&memory);
        let kept = opened.reader.read(firsts[1]).unwrap().header().id;
        let mut maker = Maker::after(kept, opened.reader.end_of(kept.index).unwrap());
        let cut = WriteBatch { truncate_after: Some(kept), ..maker.batch(90, 1, 50) };
        opened.writer.write(&cut).unwrap();
        let expected = all_bytes(&opened.reader);
        write_file(&memory, &beaten, &saved);
        memory.flip_byte(&beaten, 30).unwrap();
        opens_with(&memory, &expected, Rule::Superseded);
    }

    #[test]
    fn r10_segments_without_a_footer_are_scanned_and_bad_records_in_them_are_holes() {
        let (memory, firsts) = many_segments();
        let expected = all_bytes(&open_log(&memory).reader);
        let path = segments(&memory).remove(1);
        memory.flip_byte(&path, FOOTER as u64).unwrap();
        memory.kill_process();
        let opened = open_log(&memory);
        assert!(opened.report.rules.contains(&Rule::Unsealed));
        assert!(all_bytes(&opened.reader) == expected);
        memory.flip_byte(&path, RECORDS + 3048 * 2 + 60).unwrap();
        memory.kill_process();
        let opened = open_log(&memory);
        assert!(opened.report.rules.contains(&Rule::Hole), "{:?}", opened.report);
        let wanted = firsts[1].plus(2);
        let [hole] = opened.state.holes.as_slice() else { panic!("{:?}", opened.state.holes) };
        assert_eq!((hole.first, hole.last, hole.offset), (wanted, wanted, RECORDS + 3048 * 2));
        assert_eq!(hole.identity(wanted), Some(EntryId::new(wanted, Term(1))));
        assert!(matches!(opened.reader.read(wanted), Err(ReadError::Damaged { .. })));
        assert_eq!(opened.reader.read(wanted.next()).unwrap().header().id.index, wanted.next());
    }

    #[test]
    fn r11_neighbours_that_do_not_fit_are_refused() {
        let (memory, _) = many_segments();
        let (other, _) = many_segments();
        let path = segments(&memory).remove(3);
        // The same log with other terms: its last segment follows an entry that this log does not have.
        let mut bytes = read_file(&other, &path);
        bytes[72 + 8..72 + 16].copy_from_slice(&77u64.to_le_bytes());
        let length = u32::from_le_bytes(bytes[20..24].try_into().unwrap()) as usize;
        let crc = crc32fast::hash(&bytes[20..length]).to_le_bytes();
        bytes[16..20].copy_from_slice(&crc);
        write_file(&memory, &path, &bytes);
        let refused = refusal(&memory);
        assert!(matches!(&refused, OpenError::Corrupt { reason, .. } if reason.contains("follows entry")), "{refused}");
    }

    #[test]
    fn r12_one_slot_is_enough() {
        let (memory, _, bytes) = written(40, true);
        let path = segments(&memory).remove(0);
        memory.flip_byte(&path, 4096).unwrap();
        memory.kill_process();
        let opened = open_log(&memory);
        assert_eq!(opened.state.last_in_doubt, None);
        assert!(all_bytes(&opened.reader) == bytes);
    }

    #[test]
    fn r12_an_unreadable_slot_does_not_keep_the_next_ones_from_being_written() {
        for slot in [4096, 8192] {
            let (memory, mut maker, mut bytes) = written(40, true);
            memory.spoil_sector(&segments(&memory)[0], slot).unwrap();
            memory.kill_process();
            let mut opened = open_log(&memory);
            for _ in 0..70 {
                let batch = maker.batch(1, 1, 20);
                opened.writer.write(&batch).unwrap();
                bytes.extend(batch.records.concat());
            }
            opened.writer.idle(Index(1)).unwrap();
            memory.power_cut(|_| Fate::Lost);
            let opened = open_log(&memory);
            assert!(opened.report.rules.contains(&Rule::CleanEnd) && all_bytes(&opened.reader) == bytes, "{slot}");
        }
    }

    #[test]
    fn r12_a_last_segment_without_slots_keeps_what_is_found_and_doubts_its_end_until_told() {
        let (memory, mut maker, mut bytes) = written(40, true);
        let path = segments(&memory).remove(0);
        memory.flip_byte(&path, 4096 + 9).unwrap();
        memory.flip_byte(&path, 8192 + 9).unwrap();
        // A bad record between good ones is a hole and not an end: what stands behind it was found.
        let hole = Index(31);
        memory.flip_byte(&path, RECORDS + 248 * 30 + 5).unwrap();
        memory.kill_process();
        let opened = open_log(&memory);
        assert!(opened.report.rules.contains(&Rule::NoSlot), "{:?}", opened.report);
        assert_eq!(opened.state.last, maker.last);
        assert!(opened.state.last_in_doubt.is_some());
        assert_eq!(opened.state.holes.iter().map(|hole| (hole.first, hole.last)).collect::<Vec<_>>(), [(hole, hole)]);
        for cut in [false, true] {
            if cut {
                memory.power_cut(|_| Fate::Lost);
            } else {
                memory.kill_process();
            }
            let opened = open_log(&memory);
            assert!(
                opened.state.last_in_doubt.is_some(),
                "the next opening has good slots and must doubt all the same"
            );
            assert_eq!(opened.state.last, maker.last);
        }
        let mut opened = open_log(&memory);
        opened.writer.write(&WriteBatch { mend: vec![record_of(&bytes, hole)], ..WriteBatch::default() }).unwrap();
        opened.writer.trust_last().unwrap();
        let batch = maker.batch(2, 2, 100);
        opened.writer.write(&batch).unwrap();
        bytes.extend(batch.records.concat());
        memory.power_cut(|_| Fate::Lost);
        let opened = open_log(&memory);
        assert_eq!(opened.state.last_in_doubt, None);
        assert!(all_bytes(&opened.reader) == bytes);
    }

    #[test]
    fn r13_any_flipped_byte_below_the_slot_is_a_hole_of_that_record_and_never_cut() {
        const RECORD: u64 = 48 + 20;
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        for _ in 0..2 {
            opened.writer.write(&maker.batch(1, 2, 20)).unwrap();
        }
        opened.writer.idle(Index(4)).unwrap();
        let path = segments(&memory).remove(0);
        for offset in 0..maker.end.get() {
            let fork = memory.fork();
            fork.flip_byte(&path, RECORDS + offset).unwrap();
            let record = offset / RECORD;
            let index = Index(record + 1);
            let verified = inspect(&*fork.handle(), &group()).unwrap().verify(Index(1), Index(100));
            assert_eq!(verified.damage.iter().map(|damage| damage.index).collect::<Vec<_>>(), [index], "{offset}");
            // The hole is the same however often the log is opened, and whatever the opening has changed before.
            for _ in 0..2 {
                let opened = open_log(&fork);
                let [hole] = opened.state.holes.as_slice() else { panic!("{offset}: {:?}", opened.state.holes) };
                assert_eq!((hole.first, hole.last, &hole.path), (index, index, &path), "{offset}");
                assert_eq!((hole.position.get(), hole.end.get()), (record * RECORD, (record + 1) * RECORD), "{offset}");
                assert_eq!(
                    (hole.offset, hole.identity(index)),
                    (RECORDS + record * RECORD, Some(EntryId::new(index, Term(1))))
                );
                assert_eq!((opened.state.last, opened.state.end), (maker.last, maker.end), "{offset}");
                for other in (1..=4).map(Index) {
                    assert_eq!(opened.reader.read(other).is_err(), other == index, "{offset}");
                }
                fork.power_cut(|_| Fate::Lost);
            }
        }
    }

    #[test]
    fn r13_a_file_cut_short_below_the_slot_is_a_hole_up_to_the_slot() {
        let (memory, maker, whole) = written(3, true);
        let path = segments(&memory).remove(0);
        let bytes = read_file(&memory, &path);
        for (end, first) in [(RECORDS, 1), (RECORDS + 100, 1), (RECORDS + maker.end.get() - 1, 6)] {
            write_file(&memory, &path, &bytes[..end as usize]);
            assert_eq!(inspect(&*memory.handle(), &group()).unwrap().verify(Index(1), Index(9)).damage.len(), 1);
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            let [hole] = opened.state.holes.as_slice() else { panic!("{end}: {:?}", opened.state.holes) };
            assert_eq!((hole.first, hole.last, hole.end), (Index(first), maker.last.index, maker.end), "{end}");
            assert_eq!((opened.state.last, opened.state.end, opened.reader.end()), (maker.last, maker.end, maker.end));
            let mend = whole[hole.position.get() as usize..].to_vec().into();
            opened.writer.write(&WriteBatch { mend: vec![mend], ..WriteBatch::default() }).unwrap();
            assert!(all_bytes(&opened.reader) == whole, "{end}");
            fork.power_cut(|_| Fate::Lost);
            assert!(all_bytes(&open_log(&fork).reader) == whole, "{end}");
        }
    }

    #[test]
    fn r17_an_unreadable_sector_is_a_hole_below_the_slot_and_a_torn_write_above() {
        let (memory, mut maker, bytes) = written(10, true);
        let path = segments(&memory).remove(0);
        memory.spoil_sector(&path, RECORDS + 1024).unwrap();
        let fork = memory.fork();
        let opened = open_log(&fork);
        // Records of 248 bytes: the third sector holds parts of the 5th to the 7th.
        assert_eq!(
            opened.state.holes.iter().map(|hole| (hole.first, hole.last)).collect::<Vec<_>>(),
            [(Index(5), Index(7))]
        );
        assert_eq!(opened.state.last, maker.last);
        assert_eq!(fork.counts().map_faults, 0);

        let (memory, _, _) = written(10, true);
        memory.kill_process();
        let mut opened = open_log(&memory);
        opened.writer.write(&maker.batch(1, 1, 600)).unwrap();
        memory.spoil_sector(&path, RECORDS + bytes.len() as u64 + 512).unwrap();
        opens_with(&memory, &bytes, Rule::TornTail);
        assert_eq!(memory.counts().map_faults, 0);
    }

    /// A slot that named a durable end far behind the file was believed, and all of that searched for records. Found by
    /// fuzzing once a hole no longer ended the opening.
    #[test]
    fn r23_good_bytes_that_contradict_each_other_are_refused() {
        let (memory, maker, _) = written(3, true);
        let path = segments(&memory).remove(0);
        let beyond = 1 << 62;
        let lies = [(16, maker.end.get() - 248), (16, beyond), (24, maker.last.index.get() - 1), (32, 7)];
        for (field, value) in lies {
            let fork = memory.fork();
            let mut bytes = read_file(&fork, &path);
            for slot in [4096, 8192] {
                bytes[slot + field..slot + field + 8].copy_from_slice(&u64::to_le_bytes(value));
                let crc = crc32fast::hash(&bytes[slot..slot + 48]).to_le_bytes();
                bytes[slot + 48..slot + 52].copy_from_slice(&crc);
            }
            write_file(&fork, &path, &bytes);
            assert!(matches!(refusal(&fork), OpenError::Corrupt { .. }), "{field}");
        }
    }

    #[test]
    fn r24_what_a_mend_left_in_the_cache_is_made_durable() {
        for fail_sync in [false, true] {
            let (memory, _, bytes) = written(3, true);
            let path = segments(&memory).remove(0);
            memory.flip_byte(&path, RECORDS + 300).unwrap();
            memory.kill_process();
            let mut opened = open_log(&memory);
            let batch = WriteBatch { mend: vec![record_of(&bytes, Index(2))], ..WriteBatch::default() };
            // The note is created, written, synced, and its name; then the record is written and synced.
            if fail_sync {
                memory.fail_sync(3);
            } else {
                memory.cut_power_at(7);
            }
            opened.writer.write(&batch).unwrap_err();
            memory.kill_process();
            let opened = open_log(&memory);
            assert!(opened.report.rules.contains(&Rule::Mending), "{:?}", opened.report);
            assert!(opened.state.holes.is_empty() && all_bytes(&opened.reader) == bytes);
            memory.power_cut(|_| Fate::Lost);
            assert!(all_bytes(&open_log(&memory).reader) == bytes);
        }
    }

    /// A log whose records had all been mended was refused at each opening, or stopped by a full segment: a lost sector
    /// behind the records was to take a part of the footer's body. Sectors were lost only where something stood.
    #[test]
    fn r17_an_unreadable_sector_behind_the_records_does_not_keep_a_segment_from_being_sealed() {
        for running in [false, true] {
            let (memory, mut maker, _) = written(2, true);
            let path = segments(&memory).remove(0);
            let behind = (RECORDS + maker.end.get()).next_multiple_of(4096);
            memory.kill_process();
            let mut opened = open_log(&memory);
            memory.spoil_sector(&path, behind).unwrap();
            if !running {
                memory.kill_process();
                opened = open_log(&memory);
            }
            let kept = opened.state.last;
            let cut = WriteBatch { truncate_after: Some(EntryId::new(Index(3), Term(1))), ..WriteBatch::default() };
            opened.writer.write(&cut).unwrap();
            assert_eq!((opened.reader.last(), kept), (Index(3), maker.last));
            maker = Maker::after(EntryId::new(Index(3), Term(1)), opened.reader.end());
            opened.writer.write(&maker.batch(2, 2, 100)).unwrap();
            memory.power_cut(|_| Fate::Lost);
            assert_eq!(open_log(&memory).state.last, maker.last);
        }
    }
}
