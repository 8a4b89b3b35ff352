//! The scrub: what it finds while the log is open, and what is made good again.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use dledger::commitlog::{Hole, LogReader, Opened, Region, Rule, Scrubbed, WriteBatch};
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::ReadError;
    use dledger::types::{EntryId, Index, NodeId, Position, Term, Vote};

    /// Bytes of each record of [`three_segments`].
    const RECORD: u64 = 3048;

    /// An open log of three segments and their first indexes; terms change every 25 records.
    fn three_segments() -> (MemoryDisk, Opened, Vec<u8>, Vec<u64>) {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let vote = Some(Vote { term: Term(9), voted_for: NodeId(2) });
        opened.writer.write(&WriteBatch { vote, ..WriteBatch::default() }).unwrap();
        let mut maker = Maker::new();
        while segments(&memory).len() < 3 {
            opened.writer.write(&maker.batch(1 + maker.last.index.get() / 25, 5, 3000)).unwrap();
        }
        opened.writer.idle(Index(1)).unwrap();
        prepare_all(&mut opened.writer);
        let bytes = all_bytes(&opened.reader);
        let first_of = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap();
        let firsts = segments(&memory).iter().map(first_of).collect();
        (memory, opened, bytes, firsts)
    }

    /// A whole round in steps of `max_bytes`.
    fn round(reader: &LogReader, max_bytes: u64) -> Scrubbed {
        let mut all = Scrubbed { next: reader.first(), ..Scrubbed::default() };
        for _step in 0..10_000 {
            let step = reader.scrub(all.next, max_bytes);
            assert!(step.bytes <= max_bytes + RECORD, "a step is bounded");
            all.next = step.next;
            all.bytes += step.bytes;
            all.holes.extend(step.holes);
            all.blocks.extend(step.blocks);
            if step.at_end {
                assert_eq!(step.next, reader.first());
                return all;
            }
        }
        panic!("the round does not end");
    }

    fn ranges(holes: &[Hole]) -> Vec<(u64, u64)> {
        holes.iter().map(|hole| (hole.first.get(), hole.last.get())).collect()
    }

    #[test]
    fn scrub_of_a_sound_log_reads_every_byte_and_finds_nothing() {
        let (memory, opened, bytes, _) = three_segments();
        for max_bytes in [1, 10_000, 1 << 20] {
            let found = round(&opened.reader, max_bytes);
            assert_eq!(found.bytes, bytes.len() as u64);
            assert!(found.holes.is_empty() && found.blocks.is_empty(), "{found:?}");
        }
        memory.kill_process();
        let found = round(&open_log(&memory).reader, 100_000);
        assert!(found.bytes == bytes.len() as u64 && found.holes.is_empty() && found.blocks.is_empty(), "{found:?}");
        let empty = open_log(&MemoryDisk::new());
        let found = round(&empty.reader, 1);
        assert!(found.bytes == 0 && found.blocks.is_empty());
    }

    #[test]
    fn scrub_finds_bad_records_wherever_they_stand_and_they_can_be_mended() {
        let (memory, mut opened, bytes, firsts) = three_segments();
        let paths = segments(&memory);
        // A header and a payload side by side in a sealed segment, its last record, the first of the active one.
        let sealed_last = firsts[2] - 1;
        for (place, index, at) in [(0, 5, 9), (0, 6, 900), (1, sealed_last, 70), (2, firsts[2], 40)] {
            let offset = RECORDS + (index - firsts[place]) * RECORD + at;
            memory.flip_byte(&paths[place], offset).unwrap();
        }
        for again in [false, true] {
            let found = round(&opened.reader, 20_000);
            assert_eq!(ranges(&found.holes), [(5, 6), (sealed_last, sealed_last), (firsts[2], firsts[2])], "{again}");
            assert_eq!(found.holes, opened.reader.holes());
            for hole in &found.holes {
                let record = record_of(&bytes, hole.first);
                assert_eq!(hole.position.get(), (hole.first.get() - 1) * RECORD);
                assert_eq!(hole.identity(hole.first).unwrap().term.get(), 1 + (hole.first.get() - 1) / 25, "{hole:?}");
                assert!(matches!(opened.reader.read(hole.first), Err(ReadError::Damaged { .. })));
                assert_eq!(record.len() as u64, RECORD);
            }
        }
        for hole in opened.reader.holes() {
            let piece = bytes[hole.position.get() as usize..hole.end.get() as usize].to_vec().into();
            opened.writer.write(&WriteBatch { mend: vec![piece], ..WriteBatch::default() }).unwrap();
        }
        assert!(round(&opened.reader, 1 << 20).holes.is_empty());
        assert!(all_bytes(&opened.reader) == bytes);
        memory.power_cut(|_| Fate::Lost);
        assert!(all_bytes(&open_log(&memory).reader) == bytes);
    }

    #[test]
    fn hole_at_says_what_a_failed_read_met_and_nothing_of_a_good_record() {
        let (memory, opened, _, firsts) = three_segments();
        memory.flip_byte(&segments(&memory)[1], RECORDS + 3 * RECORD + 100).unwrap();
        let bad = Index(firsts[1] + 3);
        assert!(opened.reader.holes().is_empty());
        assert!(opened.reader.read(bad).is_err());
        let hole = opened.reader.hole_at(bad).unwrap();
        assert_eq!((hole.first, hole.last, hole.offset), (bad, bad, RECORDS + 3 * RECORD));
        assert_eq!(opened.reader.holes(), std::slice::from_ref(&hole));
        assert_eq!(opened.reader.hole_at(bad), Some(hole));
        assert_eq!(opened.reader.hole_at(bad.next()), None);
        assert_eq!(opened.reader.hole_at(Index(1_000)), None);
    }

    #[test]
    fn hole_at_a_change_of_terms_is_known_from_the_footer() {
        let (memory, opened, _, firsts) = three_segments();
        // 25 is the last index of its term, in the first, sealed segment.
        assert!(firsts[1] > 27);
        memory.flip_byte(&segments(&memory)[0], RECORDS + 24 * RECORD + 3).unwrap();
        let hole = opened.reader.hole_at(Index(25)).unwrap();
        assert_eq!(hole.identity(Index(25)), Some(EntryId::new(Index(25), Term(1))));
    }

    #[test]
    fn hole_of_an_unreadable_sector_leaves_its_neighbours_readable() {
        let (memory, _, bytes, firsts) = three_segments();
        let path = segments(&memory).remove(1);
        memory.spoil_sector(&path, RECORDS + 4 * RECORD + 1500).unwrap();
        memory.kill_process();
        // A sealed segment is not looked at when it is opened.
        let mut opened = open_log(&memory);
        assert!(opened.state.holes.is_empty());
        let bad = firsts[1] + 4;
        for index in firsts[1]..firsts[2] {
            let read = opened.reader.read(Index(index));
            assert_eq!(read.is_err(), index == bad, "{index}");
        }
        assert_eq!(ranges(&round(&opened.reader, 5_000).holes), [(bad, bad)]);
        let piece = record_of(&bytes, Index(bad));
        opened.writer.write(&WriteBatch { mend: vec![piece], ..WriteBatch::default() }).unwrap();
        assert!(all_bytes(&opened.reader) == bytes);
        assert_eq!(memory.counts().map_faults, 0);
    }

    #[test]
    fn scrub_forgets_a_hole_that_can_be_read_again() {
        let (memory, opened, bytes, _) = three_segments();
        let path = segments(&memory).remove(0);
        memory.flip_byte(&path, RECORDS + 100).unwrap();
        assert_eq!(ranges(&round(&opened.reader, 1 << 20).holes), [(1, 1)]);
        memory.flip_byte(&path, RECORDS + 100).unwrap();
        assert!(opened.reader.read(Index(1)).is_err());
        assert!(round(&opened.reader, 1 << 20).holes.is_empty());
        assert!(all_bytes(&opened.reader) == bytes);
    }

    #[test]
    fn scrub_finds_every_bad_block_and_the_writer_makes_it_good() {
        let (memory, ..) = three_segments();
        let paths = segments(&memory);
        let vote = group().join("vote");
        let cases = [
            (&paths[0], 40, Region::Header),
            (&paths[1], 70, Region::Header),
            (&paths[2], 12, Region::Header),
            (&paths[2], 4096 + 20, Region::Slot),
            (&paths[2], 8192 + 20, Region::Slot),
            (&paths[0], 12288 + 8, Region::Footer),
            (&paths[1], 12288 + 70, Region::Footer),
            (&vote, 8192 + 30, Region::Vote),
            (&vote, 12288 + 30, Region::Vote),
        ];
        for (path, offset, region) in cases {
            for unreadable in [false, true] {
                let fork = memory.fork();
                let mut opened = open_log(&fork);
                if region == Region::Vote {
                    // Opening has made the file anew; one more vote goes to the other pair.
                    let vote = Some(Vote { term: Term(10), voted_for: NodeId(2) });
                    opened.writer.write(&WriteBatch { vote, ..WriteBatch::default() }).unwrap();
                }
                let bytes = all_bytes(&opened.reader);
                let offset = if region == Region::Vote { newest_copy(&fork, offset) } else { offset };
                if unreadable {
                    fork.spoil_sector(path, offset).unwrap();
                } else {
                    fork.flip_byte(path, offset).unwrap();
                }
                let found = round(&opened.reader, 50_000);
                assert_eq!(found.blocks.len(), 1, "{path:?} {offset}: {found:?}");
                assert_eq!((&found.blocks[0].path, found.blocks[0].region), (path, region));
                for block in &found.blocks {
                    opened.writer.mend_block(block).unwrap();
                }
                assert!(round(&opened.reader, 50_000).blocks.is_empty(), "{path:?} {offset}, unreadable {unreadable}");
                fork.power_cut(|_| Fate::Lost);
                let opened = open_log(&fork);
                let fine =
                    [Rule::Header, Rule::Unsealed, Rule::NoSlot].iter().all(|rule| !opened.report.rules.contains(rule));
                assert!(fine && opened.state.holes.is_empty(), "{path:?} {offset}: {:?}", opened.report);
                assert!(all_bytes(&opened.reader) == bytes);
            }
        }
    }

    /// The offset as given, or in the other pair when that holds the newest vote.
    fn newest_copy(memory: &MemoryDisk, offset: u64) -> u64 {
        let bytes = read_file(memory, &group().join("vote"));
        let generation =
            |slot: usize| u64::from_le_bytes(bytes[slot * 4096 + 44..slot * 4096 + 52].try_into().unwrap());
        if generation(2) > generation(0) { offset } else { offset - 8192 }
    }

    #[test]
    fn scrub_saves_a_vote_that_has_lost_all_its_copies_while_the_log_is_open() {
        let (memory, mut opened, ..) = three_segments();
        for slot in 0..4 {
            memory.flip_byte(&group().join("vote"), slot * 4096 + 50).unwrap();
        }
        let found = round(&opened.reader, 1 << 20);
        assert_eq!(found.blocks.iter().map(|block| block.region).collect::<Vec<_>>(), [Region::Vote]);
        opened.writer.mend_block(&found.blocks[0]).unwrap();
        memory.power_cut(|_| Fate::Lost);
        assert_eq!(open_log(&memory).state.vote, Vote { term: Term(9), voted_for: NodeId(2) });
    }

    #[test]
    fn scrub_makes_a_bad_index_anew_and_no_record_is_lost_by_it() {
        let (memory, opened, bytes, firsts) = three_segments();
        let index = segments(&memory)[0].with_extension("idx");
        let good = read_file(&memory, &index);
        // Where the third record starts.
        memory.flip_byte(&index, 48 + 16).unwrap();
        let third = Index(firsts[0] + 2);
        if opened.reader.read(third).is_err() {
            assert_eq!(opened.reader.hole_at(third), None, "the record is good");
        }
        let found = round(&opened.reader, 1 << 20);
        assert!(found.holes.is_empty(), "{:?}", found.holes);
        assert!(all_bytes(&opened.reader) == bytes);
        assert!(read_file(&memory, &index) == good);
        memory.flip_byte(&index, 20).unwrap();
        let found = round(&opened.reader, 1 << 20);
        assert_eq!(found.blocks.iter().map(|block| block.region).collect::<Vec<_>>(), [Region::Index]);
        assert!(read_file(&memory, &index) == good);
    }

    #[test]
    fn segment_that_was_mended_is_sealed_by_the_next_round() {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        opened.writer.write(&maker.batch(1, 5, 100)).unwrap();
        opened.writer.idle(Index(1)).unwrap();
        let bytes = all_bytes(&opened.reader);
        memory.flip_byte(&segments(&memory)[0], RECORDS + 200).unwrap();
        memory.kill_process();
        let opened = open_log(&memory);
        let found = round(&opened.reader, 1 << 20);
        assert_eq!((found.blocks.len(), opened.reader.holes().len()), (0, 1), "it needs a record, not a footer");
        drop(opened);
        memory.kill_process();
        let mut opened = open_log(&memory);
        assert!(opened.report.rules.contains(&Rule::Unsealed), "a footer would vouch for what the hole hides");
        opened.writer.write(&WriteBatch { mend: vec![record_of(&bytes, Index(2))], ..WriteBatch::default() }).unwrap();
        let found = round(&opened.reader, 1 << 20);
        assert_eq!(found.blocks.iter().map(|block| block.region).collect::<Vec<_>>(), [Region::Footer]);
        opened.writer.mend_block(&found.blocks[0]).unwrap();
        memory.power_cut(|_| Fate::Lost);
        let opened = open_log(&memory);
        assert!(opened.report.rules.contains(&Rule::Sealed) && !opened.report.rules.contains(&Rule::Unsealed));
        assert!(all_bytes(&opened.reader) == bytes);
    }

    /// The next opening would have believed the vote before, and the node could have voted twice in one term: only the
    /// pair that looked newest on the disk was examined, and only one bad copy in it was ever tried.
    #[test]
    fn scrub_saves_the_newest_vote_when_both_its_copies_are_bad_and_the_one_before_is_good() {
        for unreadable in [false, true] {
            let (memory, mut opened, ..) = three_segments();
            let path = group().join("vote");
            let newest = Vote { term: Term(10), voted_for: NodeId(3) };
            opened.writer.write(&WriteBatch { vote: Some(newest), ..WriteBatch::default() }).unwrap();
            for offset in [8192 + 50, 12288 + 50].map(|offset| newest_copy(&memory, offset)) {
                match unreadable {
                    true => memory.spoil_sector(&path, offset).unwrap(),
                    false => memory.flip_byte(&path, offset).unwrap(),
                }
            }
            let found = round(&opened.reader, 1 << 20);
            assert_eq!(found.blocks.iter().map(|block| block.region).collect::<Vec<_>>(), [Region::Vote]);
            opened.writer.mend_block(&found.blocks[0]).unwrap();
            assert!(round(&opened.reader, 1 << 20).blocks.is_empty());
            memory.power_cut(|_| Fate::Lost);
            assert_eq!(open_log(&memory).state.vote, newest);
        }
    }

    /// A record of the leader's own term was mended into a hole of unknown terms and could not be read: the scrub had
    /// learnt other terms from bytes that read well again. Healing was tried for records, not for what stands around them.
    #[test]
    fn scrub_learns_no_terms_from_a_hole_of_unknown_terms_that_reads_well_again() {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let first = maker.record(1, 60);
        let (mut other, second, third) = (maker, maker.record(2, 70), maker.record(4, 80));
        let records = vec![first.clone(), second, third.clone()];
        opened.writer.write(&WriteBatch { records, ..WriteBatch::default() }).unwrap();
        opened.writer.idle(Index(1)).unwrap();
        let (path, header) = (segments(&memory).remove(0), RECORDS + first.len() as u64 + 20);
        memory.flip_byte(&path, header).unwrap();
        memory.kill_process();
        let mut opened = open_log(&memory);
        assert!(opened.state.holes[0].terms.is_empty());
        memory.flip_byte(&path, header).unwrap();
        let found = round(&opened.reader, 1 << 20);
        assert_eq!((ranges(&found.holes), found.blocks.len()), (vec![(2, 2)], 0), "{:?}", found.blocks);
        let leaders = other.record(3, 70);
        opened.writer.write(&WriteBatch { mend: vec![leaders.clone()], ..WriteBatch::default() }).unwrap();
        assert!(all_bytes(&opened.reader) == [first, leaders, third].concat());
    }

    /// Most of a large hole was forgotten when the record behind it rotted as well: what is looked at on each side is
    /// bounded, and no hole of a test was larger than that.
    #[test]
    fn hole_at_beside_a_large_hole_forgets_nothing_of_it() {
        const COUNT: usize = 3000;
        for neighbour in [1, COUNT as u64] {
            let memory = MemoryDisk::new();
            let mut opened = open_log(&memory);
            opened.writer.write(&Maker::new().batch(1, COUNT, 8)).unwrap();
            opened.writer.idle(Index(1)).unwrap();
            let path = segments(&memory).remove(0);
            let payload = |index: u64| RECORDS + (index - 1) * 56 + 50;
            for index in 2..COUNT as u64 {
                memory.flip_byte(&path, payload(index)).unwrap();
            }
            memory.kill_process();
            let opened = open_log(&memory);
            assert_eq!(ranges(&opened.reader.holes()), [(2, COUNT as u64 - 1)]);
            memory.flip_byte(&path, payload(neighbour)).unwrap();
            let hole = opened.reader.hole_at(Index(neighbour)).unwrap();
            assert_eq!((hole.first, hole.last), (Index(neighbour), Index(neighbour)));
            assert_eq!(hole.identity(hole.first), Some(EntryId::new(hole.first, Term(1))));
            let bad: u64 = opened.reader.holes().iter().map(|hole| hole.last.get() - hole.first.get() + 1).sum();
            assert_eq!(bad, COUNT as u64 - 1);
        }
    }

    /// A hole was forgotten for an older record of its index that the drive had put there: whether it had healed was told
    /// by the segment's terms, which are not known beside a hole of unknown ones, and not by its own.
    #[test]
    fn scrub_forgets_no_hole_for_a_sound_record_of_another_term() {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let mut records = vec![maker.record(1, 60), maker.record(2, 70), maker.record(3, 80)];
        let mut older = maker;
        records.extend([maker.record(5, 90), maker.record(6, 60)]);
        opened.writer.write(&WriteBatch { records: records.clone(), ..WriteBatch::default() }).unwrap();
        opened.writer.idle(Index(1)).unwrap();
        let path = segments(&memory).remove(0);
        let at = |index: usize| RECORDS + records[..index - 1].concat().len() as u64;
        memory.flip_byte(&path, at(2) + 20).unwrap();
        memory.flip_byte(&path, at(4) + 50).unwrap();
        memory.kill_process();
        let mut opened = open_log(&memory);
        assert_eq!(ranges(&opened.state.holes), [(2, 2), (4, 4)]);
        memory.replace_bytes(&path, at(4), &older.record(4, 90)).unwrap();
        assert_eq!(ranges(&round(&opened.reader, 1 << 20).holes), [(2, 2), (4, 4)]);
        let mend = vec![records[1].clone(), records[3].clone()];
        opened.writer.write(&WriteBatch { mend, ..WriteBatch::default() }).unwrap();
        assert!(all_bytes(&opened.reader) == records.concat());
    }

    /// What was left of a hole after a cut inside it was never found again by the next process, only by reads, and so never
    /// mended: nothing in its segment told where it ended. Tests opened unsealed segments, which are read up to the cut.
    #[test]
    fn scrub_finds_what_a_cut_has_left_of_a_hole_in_a_sealed_segment() {
        let (memory, opened, bytes, _) = three_segments();
        drop(opened);
        let path = segments(&memory).remove(0);
        for index in [5, 6, 7] {
            memory.flip_byte(&path, RECORDS + (index - 1) * RECORD + 20).unwrap();
        }
        memory.handle().remove(&path.with_extension("idx")).unwrap();
        memory.kill_process();
        let mut opened = open_log(&memory);
        assert_eq!(ranges(&round(&opened.reader, 1 << 20).holes), [(5, 7)]);
        let kept = EntryId::new(Index(6), Term(1));
        let mut maker = Maker::after(kept, Position(6 * RECORD));
        let batch = WriteBatch { truncate_after: Some(kept), ..maker.batch(7, 2, 50) };
        opened.writer.write(&batch).unwrap();
        memory.power_cut(|_| Fate::Lost);
        let mut opened = open_log(&memory);
        assert_eq!(ranges(&round(&opened.reader, 1 << 20).holes), [(5, 6)]);
        assert_eq!(opened.reader.end_of(kept.index), Some(Position(6 * RECORD)));
        let kept = &bytes[..6 * RECORD as usize];
        let mend = vec![kept.to_vec().into()];
        opened.writer.write(&WriteBatch { mend, ..WriteBatch::default() }).unwrap();
        assert!(all_bytes(&opened.reader) == [kept, &batch.records.concat()].concat());
    }
}
