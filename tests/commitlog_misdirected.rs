//! Drives that lose a write or misdirect it, and report success: what stands in its place then has checksums that hold.
//! It is told by its index, position and term.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use bytes::Bytes;
    use dledger::commitlog::{LogWriter, Opened, Region, Rule, WriteBatch};
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::ReadError;
    use dledger::types::{EntryId, Index, NodeId, Term, Vote};
    use std::path::PathBuf;

    /// Bytes of each record of [`two_segments`].
    const RECORD: u64 = 3048;

    /// Two segments of records of equal length and several terms, the first one sealed, at rest.
    struct Two {
        memory: MemoryDisk,
        bytes: Vec<u8>,
        paths: Vec<PathBuf>,
        /// The first index of the second segment.
        second: u64,
        last: u64,
    }

    fn two_segments() -> Two {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        while segments(&memory).len() < 2 {
            opened.writer.write(&maker.batch(1 + maker.last.index.get() / 10, 2, 3000)).unwrap();
        }
        opened.writer.write(&maker.batch(9, 4, 3000)).unwrap();
        opened.writer.idle(Index(1)).unwrap();
        prepare_all(&mut opened.writer);
        let bytes = all_bytes(&opened.reader);
        memory.kill_process();
        let paths = segments(&memory);
        let second = paths[1].file_name().unwrap().to_str().unwrap()[..20].parse().unwrap();
        Two { memory, bytes, paths, second, last: maker.last.index.get() }
    }

    impl Two {
        /// The file and the offset of an index.
        fn place(&self, index: u64) -> (&PathBuf, u64) {
            let (path, first) = if index < self.second { (&self.paths[0], 1) } else { (&self.paths[1], self.second) };
            (path, RECORDS + (index - first) * RECORD)
        }

        fn put(&self, disk: &MemoryDisk, index: u64, bytes: &[u8]) {
            let (path, at) = self.place(index);
            disk.replace_bytes(path, at, bytes).unwrap();
        }

        fn record(&self, index: u64) -> Bytes {
            record_of(&self.bytes, Index(index))
        }

        fn id(&self, index: u64) -> EntryId {
            let term = u64::from_le_bytes(self.record(index)[16..24].try_into().unwrap());
            EntryId::new(Index(index), Term(term))
        }

        /// No read shows anything for an index; whoever asks is told where the hole is, and whose; then it is mended.
        fn is_a_hole_and_mended(&self, disk: &MemoryDisk, opened: &mut Opened, index: u64, what: &str) {
            let (reader, at) = (&opened.reader, Index(index));
            let position = dledger::types::Position((index - 1) * RECORD);
            let damaged = |error: ReadError| assert!(matches!(error, ReadError::Damaged { .. }), "{what}: {error}");
            damaged(reader.read(at).unwrap_err());
            damaged(reader.read_from(at, u64::MAX).unwrap_err());
            damaged(reader.read_at(position).unwrap_err());
            let before = reader.read_from(at.prev(), 2 * RECORD).unwrap().concat();
            assert!(before == self.record(index - 1), "{what}: what stands before it is shown, and no more");
            let hole = reader.hole_at(at).unwrap();
            assert_eq!((hole.first, hole.last, hole.position), (at, at, position), "{what}");
            assert!(hole.identity(at).is_none_or(|id| id == self.id(index)), "{what}: {hole:?}");
            assert_eq!(reader.scrub(Index(1), u64::MAX).holes, [hole], "{what}");
            opened.writer.write(&WriteBatch { mend: vec![self.record(index)], ..WriteBatch::default() }).unwrap();
            assert!(all_bytes(&opened.reader) == self.bytes, "{what}");
            let again = opened.reader.scrub(Index(1), u64::MAX);
            assert!(again.holes.is_empty(), "{what}: {again:?}");
            disk.power_cut(|_| Fate::Lost);
            let opened = open_log(disk);
            assert!(opened.state.holes.is_empty() && all_bytes(&opened.reader) == self.bytes, "{what}");
        }
    }

    #[test]
    fn misdirected_record_of_equal_length_is_a_hole_of_the_one_that_belongs_there_and_mended() {
        let log = two_segments();
        let last = log.last;
        let pairs = [(2, 3), (3, 2), (9, 2), (last - 1, 5), (5, last - 1), (last - 1, last), (last, last - 1)];
        for (from, to) in pairs {
            // At rest. The scan at opening sees it in the last segment; a sealed one is taken as its footer says.
            let what = format!("{from} over {to}");
            let fork = log.memory.fork();
            log.put(&fork, to, &log.record(from));
            let mut opened = open_log(&fork);
            assert_eq!(opened.report.rules.contains(&Rule::Hole), to >= log.second, "{what}");
            assert_eq!(opened.state.last, log.id(last), "{what}");
            log.is_a_hole_and_mended(&fork, &mut opened, to, &what);
            // While the log is open.
            let fork = log.memory.fork();
            let mut opened = open_log(&fork);
            log.put(&fork, to, &log.record(from));
            log.is_a_hole_and_mended(&fork, &mut opened, to, &what);
        }
    }

    #[test]
    fn misdirected_write_that_left_zeros_is_a_hole_and_mended() {
        let log = two_segments();
        for index in 2..=log.last {
            let fork = log.memory.fork();
            log.put(&fork, index, &vec![0; RECORD as usize]);
            let mut opened = open_log(&fork);
            log.is_a_hole_and_mended(&fork, &mut opened, index, &format!("{index}"));
        }
    }

    /// A read once compared the index and the position of a record with what it was asked for, and not its term: one that
    /// a conflict had replaced at the same place was handed out and applied. Nothing had put such a record back before.
    #[test]
    fn misdirected_record_of_the_term_that_was_replaced_is_a_hole_where_the_terms_are_known() {
        let log = two_segments();
        for index in [2, 10, 11, log.second + 1] {
            let id = log.id(index);
            for term in [id.term.get() - u64::from(id.term > Term(1)), id.term.get() + 1] {
                let before = EntryId::new(Index(index - 1), Term(1));
                let mut maker = Maker::after(before, dledger::types::Position((index - 1) * RECORD));
                let replaced = maker.record(term, 3000);
                if replaced == log.record(index) {
                    continue;
                }
                let what = format!("{index} of term {term}");
                // The process that wrote it knows; so does any other one of a sealed segment, by its footer.
                let fork = log.memory.fork();
                let mut opened = open_log(&fork);
                log.put(&fork, index, &replaced);
                log.is_a_hole_and_mended(&fork, &mut opened, index, &what);
                if index < log.second {
                    let fork = log.memory.fork();
                    log.put(&fork, index, &replaced);
                    log.is_a_hole_and_mended(&fork, &mut open_log(&fork), index, &what);
                }
            }
        }
    }

    #[test]
    fn misdirected_record_whose_term_changes_with_it_leaves_the_term_known_while_the_process_lives() {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let records = vec![maker.record(1, 60), maker.record(2, 60), maker.record(3, 60)];
        opened.writer.write(&WriteBatch { records: records.clone(), ..WriteBatch::default() }).unwrap();
        memory.replace_bytes(&segments(&memory)[0], RECORDS + 108, &records[0]).unwrap();
        let hole = opened.reader.hole_at(Index(2)).unwrap();
        assert_eq!(hole.identity(Index(2)), Some(EntryId::new(Index(2), Term(2))));
    }

    #[test]
    fn misdirected_footer_of_a_replaced_record_is_not_made_again() {
        let log = two_segments();
        let opened = open_log(&log.memory);
        // The footer is lost while a record of another term stands in the place of one: nobody vouches for that.
        let mut maker = Maker::after(EntryId::new(Index(9), Term(1)), dledger::types::Position(9 * RECORD));
        let replaced = maker.record(2, 3000);
        assert!(replaced != log.record(10));
        log.put(&log.memory, 10, &replaced);
        log.memory.replace_bytes(&log.paths[0], FOOTER as u64, &[0; 128]).unwrap();
        let Opened { mut writer, reader, .. } = opened;
        let footer_after_a_round = |writer: &mut LogWriter| {
            for block in reader.scrub(Index(1), u64::MAX).blocks {
                writer.mend_block(&block).unwrap();
            }
            read_file(&log.memory, &log.paths[0])[FOOTER..FOOTER + 128].to_vec()
        };
        assert_eq!(footer_after_a_round(&mut writer), [0; 128]);
        writer.write(&WriteBatch { mend: vec![log.record(10)], ..WriteBatch::default() }).unwrap();
        assert_ne!(footer_after_a_round(&mut writer), [0; 128]);
        assert!(reader.scrub(Index(1), u64::MAX).blocks.is_empty());
        assert!(all_bytes(&reader) == log.bytes);
    }

    #[test]
    fn lost_write_of_one_copy_of_the_vote_brings_no_older_vote_back() {
        let memory = MemoryDisk::new();
        let path = group().join("vote");
        let mut opened = open_log(&memory);
        let mut files = Vec::new();
        for term in 1..=4 {
            let vote = Some(Vote { term: Term(term), voted_for: NodeId(term) });
            opened.writer.write(&WriteBatch { vote, ..WriteBatch::default() }).unwrap();
            files.push(read_file(&memory, &path));
        }
        for copy in 0..4 {
            for earlier in &files {
                let at = copy * 4096;
                let fork = memory.fork();
                fork.replace_bytes(&path, at as u64, &earlier[at..at + 4096]).unwrap();
                let opened = open_log(&fork);
                assert_eq!(opened.state.vote, Vote { term: Term(4), voted_for: NodeId(4) }, "copy {copy}");
            }
        }
        // While a process runs: its scrub makes the newest pair good again, the older one does not matter.
        for copy in 0..4 {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            let before = read_file(&fork, &path);
            let vote = Vote { term: Term(5), voted_for: NodeId(5) };
            opened.writer.write(&WriteBatch { vote: Some(vote), ..WriteBatch::default() }).unwrap();
            let at = copy * 4096;
            let changed = read_file(&fork, &path)[at..at + 4096] != before[at..at + 4096];
            fork.replace_bytes(&path, at as u64, &before[at..at + 4096]).unwrap();
            let found = opened.reader.scrub(Index(1), u64::MAX).blocks;
            assert_eq!(found.len(), usize::from(changed), "copy {copy}");
            for block in &found {
                assert_eq!((block.region, block.offset), (Region::Vote, at as u64));
                opened.writer.mend_block(block).unwrap();
            }
            assert!(opened.reader.scrub(Index(1), u64::MAX).blocks.is_empty(), "copy {copy}");
            fork.power_cut(|_| Fate::Lost);
            assert_eq!(open_log(&fork).state.vote, vote, "copy {copy}");
        }
    }

    #[test]
    fn lost_writes_of_both_slots_cut_nothing_that_they_named() {
        let memory = MemoryDisk::new();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let path = segments(&memory).remove(0);
        let mut slots = vec![read_file(&memory, &path)[4096..3 * 4096].to_vec()];
        for _slot in 0..3 {
            opened.writer.write(&maker.batch(1, 2, 200)).unwrap();
            opened.writer.idle(Index(1)).unwrap();
            slots.push(read_file(&memory, &path)[4096..3 * 4096].to_vec());
        }
        let bytes = all_bytes(&opened.reader);
        assert_ne!(slots[0], slots[3]);
        for earlier in &slots {
            let fork = memory.fork();
            fork.replace_bytes(&path, 4096, earlier).unwrap();
            let opened = open_log(&fork);
            assert_eq!((opened.state.last, opened.state.last_in_doubt), (maker.last, None));
            assert!(opened.state.holes.is_empty() && all_bytes(&opened.reader) == bytes);
        }
    }
}
