//! The log on the machine's own disk: maps are real here, so what readers hold must not change under them.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use dledger::commitlog::inspect::inspect;
    use dledger::commitlog::{LogReader, WriteBatch, lock_data_dir, open};
    use dledger::env::os::OsDisk;
    use dledger::error::OpenError;
    use dledger::types::{EntryId, Index, LogBase, Position, Term};
    use std::sync::Arc;

    #[test]
    fn log_on_real_files_is_written_read_cut_and_reopened() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let lock = lock_data_dir(&OsDisk, &data).unwrap();
        assert!(matches!(lock_data_dir(&OsDisk, &data), Err(OpenError::Locked { .. })));
        let dir = data.join("groups/1");
        let mut opened = open(Arc::new(OsDisk), &dir, options()).unwrap();
        let mut maker = Maker::new();
        for _ in 0..60 {
            opened.writer.write(&maker.batch(1, 5, 1000)).unwrap();
            prepare_all(&mut opened.writer);
        }
        let held: Vec<_> = (1..=300).map(|number| opened.reader.read(Index(number)).unwrap()).collect();
        let range = opened.reader.read_from(Index(1), u64::MAX).unwrap();
        let kept = held[289].header();
        let mut batch = Maker::after(kept.id, kept.end()).batch(2, 5, 500);
        batch.truncate_after = Some(kept.id);
        opened.writer.write(&batch).unwrap();
        for (place, record) in held.iter().enumerate() {
            assert_eq!(record.payload(), payload(place as u64 + 1, 1000), "what a reader holds stays as it was");
        }
        assert!(range.concat() == held.iter().flat_map(|record| record.bytes().to_vec()).collect::<Vec<_>>());
        let expected = all_bytes(&opened.reader);
        assert_eq!(opened.reader.last(), Index(295));
        let digest = inspect(&OsDisk, &dir).unwrap().verify(Index(1), Index(295));
        assert_eq!((digest.records, digest.bytes, digest.damage), (295, expected.len() as u64, Vec::new()));
        drop(opened);
        let again = open(Arc::new(OsDisk), &dir, options()).unwrap();
        assert!(all_bytes(&again.reader) == expected);
        drop(lock);
    }

    #[test]
    fn log_mended_under_a_map_is_read_right_and_what_readers_hold_stays() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("groups/1");
        let mut opened = open(Arc::new(OsDisk), &dir, options()).unwrap();
        let mut maker = Maker::new();
        while opened.reader.last() < Index(200) {
            opened.writer.write(&maker.batch(1, 5, 1000)).unwrap();
        }
        let expected = all_bytes(&opened.reader);
        let held: Vec<_> = (1..=200).map(|number| opened.reader.read(Index(number)).unwrap()).collect();
        // Through another handle into the page cache, which the map shows at once.
        let path = opened
            .reader
            .hole_at(Index(1))
            .map_or_else(|| dir.join("log/00000000000000000001-1.seg"), |hole| hole.path);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for number in [7u64, 8, 20] {
            let offset = 4 * 4096 + (number - 1) * 1048 + 500;
            std::os::unix::fs::FileExt::write_all_at(&file, b"rot", offset).unwrap();
        }
        let readers: Vec<_> = (0..2).map(|_| opened.reader.clone()).collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in &readers {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Acquire) {
                        for number in 1..=25 {
                            if let Ok(record) = reader.read(Index(number)) {
                                assert_eq!(record.payload(), payload(number, 1000));
                            }
                        }
                    }
                });
            }
            for number in [7, 8, 20] {
                let hole = opened.reader.hole_at(Index(number)).filter(|hole| hole.first == Index(number));
                let Some(hole) = hole else { continue };
                let piece = expected[hole.position.get() as usize..hole.end.get() as usize].to_vec();
                opened.writer.write(&WriteBatch { mend: vec![piece.into()], ..WriteBatch::default() }).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        assert!(opened.reader.holes().is_empty());
        assert!(all_bytes(&opened.reader) == expected);
        for (place, record) in held.iter().enumerate().filter(|(place, _)| ![6, 7, 19].contains(place)) {
            assert_eq!(record.payload(), payload(place as u64 + 1, 1000));
        }
    }

    #[test]
    fn log_purged_under_maps_and_reset_leaves_readers_what_they_hold() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("groups/1");
        let mut opened = open(Arc::new(OsDisk), &dir, options()).unwrap();
        let mut maker = Maker::new();
        while opened.reader.last() < Index(400) {
            opened.writer.write(&maker.batch(1, 5, 1000)).unwrap();
            prepare_all(&mut opened.writer);
        }
        let expected = all_bytes(&opened.reader);
        let held: Vec<_> = (1..=400).map(|number| opened.reader.read(Index(number)).unwrap()).collect();
        opened.writer.purge(Index(300)).unwrap();
        let first = opened.reader.first();
        assert!(first > Index(200) && first <= Index(301));
        assert!(expected.ends_with(&all_bytes(&opened.reader)));
        drop(opened);
        let mut opened = open(Arc::new(OsDisk), &dir, options()).unwrap();
        assert_eq!((opened.reader.first(), opened.state.last), (first, maker.last));
        let entry = EntryId::new(Index(900), Term(3));
        opened.writer.reset(LogBase { entry, position: Position(1 << 20), ..LogBase::default() }).unwrap();
        for (place, record) in held.iter().enumerate() {
            assert_eq!(record.payload(), payload(place as u64 + 1, 1000));
        }
        let mut maker = Maker::after(entry, Position(1 << 20));
        opened.writer.write(&maker.batch(3, 5, 1000)).unwrap();
        drop(opened);
        let opened = open(Arc::new(OsDisk), &dir, options()).unwrap();
        assert_eq!((opened.state.base, opened.state.last, opened.state.end), (entry, maker.last, maker.end));
        assert_eq!(all_bytes(&opened.reader).len(), 5 * 1048);
    }

    #[test]
    fn log_is_read_from_other_threads_while_it_is_written() {
        let home = tempfile::tempdir().unwrap();
        let mut opened = open(Arc::new(OsDisk), &home.path().join("groups/1"), options()).unwrap();
        let follow = |reader: LogReader| {
            let mut next = Index(1);
            while next <= Index(600) {
                if next > reader.last() {
                    std::thread::yield_now();
                    continue;
                }
                let record = reader.read(next).unwrap();
                assert_eq!(record.payload(), payload(next.get(), 700));
                let pieces = reader.read_from(next, 4000).unwrap();
                assert!(pieces.concat().starts_with(record.bytes()));
                assert_eq!(reader.read_at(record.header().position).unwrap(), record);
                next = next.next();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let reader = opened.reader.clone();
                scope.spawn(move || follow(reader));
            }
            let mut maker = Maker::new();
            for _ in 0..200 {
                opened.writer.write(&maker.batch(1, 3, 700)).unwrap();
                prepare_all(&mut opened.writer);
            }
        });
    }
}
