//! Torn tails, rot and garbage: what a disk may hand back, and what must never come of it.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use dledger::commitlog::inspect::inspect;
    use dledger::commitlog::{LogOptions, layout, load_identity, lock_data_dir};
    use dledger::config::Durability;
    use dledger::env::memory::{Fate, MemoryDisk, Pending};
    use dledger::error::ReadError;
    use dledger::types::Index;
    use proptest::prelude::*;
    use std::path::Path;

    fn small() -> LogOptions {
        LogOptions { segment_bytes: 64 << 10, ..options() }
    }

    /// The fate of the `nth` pending sector, as a digit of `code` to base 3.
    fn digit(code: u64, nth: u32) -> Fate {
        match code / 3u64.pow(nth) % 3 {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Garbled,
        }
    }

    /// Cuts the power during the sync of a last batch and tries every fate of every sector of it. Answers how many
    /// sectors there were.
    fn every_fate(batches_before: usize, last_batch: (usize, usize)) -> u32 {
        let memory = MemoryDisk::new();
        let mut opened = try_open(&memory, small()).unwrap();
        let mut maker = Maker::new();
        for _ in 0..batches_before {
            opened.writer.write(&maker.batch(1, 1, 150)).unwrap();
        }
        let acknowledged = all_bytes(&opened.reader);
        let batch = maker.batch(1, last_batch.0, last_batch.1);
        let writes = if batches_before % 32 == 31 { 2 } else { 1 };
        memory.cut_power_at(writes + 1);
        opened.writer.write(&batch).unwrap_err();
        assert!(memory.is_off());
        let whole = [acknowledged.clone(), batch.records.concat()].concat();
        let mut sectors = 0;
        let mut code = 0;
        while code < 3u64.pow(sectors) {
            let fork = memory.fork();
            sectors = 0;
            fork.power_cut(|pending| match pending {
                Pending::Sector { .. } => {
                    sectors += 1;
                    digit(code, sectors - 1)
                }
                Pending::Added { .. } | Pending::Removed { .. } | Pending::Renamed { .. } | Pending::Length { .. } => {
                    Fate::Kept
                }
            });
            let again = try_open(&fork, small()).unwrap();
            let found = all_bytes(&again.reader);
            assert!(found.len() >= acknowledged.len(), "an acknowledged batch is lost: fates {code}");
            assert!(whole.starts_with(&found), "something else than was written: fates {code}");
            code += 1;
        }
        sectors
    }

    #[test]
    fn torn_batch_with_every_fate_of_its_sectors_loses_nothing_acknowledged() {
        assert_eq!(every_fate(3, (4, 480)), 5);
    }

    #[test]
    fn torn_batch_with_a_torn_slot_loses_nothing_acknowledged() {
        assert_eq!(every_fate(63, (3, 300)), 4);
    }

    #[test]
    fn torn_batch_of_one_sector_shared_with_acknowledged_records_loses_nothing() {
        assert_eq!(every_fate(1, (1, 20)), 1);
    }

    /// Segments fill, chunks and spares are prepared, the log is cut; the power fails during the `call`-th disk call.
    /// Everything that was synced must be there afterwards. Answers whether the life ended before that call.
    fn life_cut_at(call: u64, seed: u64, durability: Durability) -> bool {
        let options = LogOptions { durability, ..small() };
        let memory = MemoryDisk::new();
        let mut opened = try_open(&memory, &options).unwrap();
        let (mut maker, mut synced, mut tried) = (Maker::new(), Vec::new(), Vec::new());
        memory.cut_power_at(call);
        let mut cut = false;
        for round in 1..=16 {
            let mut batch = maker.batch(round, 4, 2500);
            cut = round % 7 == 0;
            if cut {
                let kept = Index(round * 2);
                let end = opened.reader.end_of(kept).unwrap();
                let Ok(record) = opened.reader.read(kept) else { break };
                maker = Maker::after(record.header().id, end);
                batch = maker.batch(round, 4, 2400);
                batch.truncate_after = Some(record.header().id);
                synced.truncate(end.get() as usize);
                tried.truncate(end.get() as usize);
            }
            tried.extend(batch.records.concat());
            let mut result = opened.writer.write(&batch);
            if durability == Durability::Sync || round % 5 == 0 {
                result = result.and_then(|()| opened.writer.flush());
                if result.is_ok() {
                    synced = tried.clone();
                }
            }
            while result.is_ok() {
                let Some(job) = opened.writer.prepare_job() else { break };
                result = opened.writer.prepared(job.run());
            }
            if result.is_err() {
                break;
            }
        }
        let finished = !memory.is_off();
        memory.power_cut(Fate::seeded(seed));
        let again = try_open(&memory, &options).unwrap_or_else(|error| panic!("call {call}, seed {seed}: {error}"));
        let found = all_bytes(&again.reader);
        assert!(found.starts_with(&synced), "call {call}: {} of {}", found.len(), synced.len());
        // A cut that was asked for may have happened or not; else what is there is what was tried.
        assert!(cut || tried.starts_with(&found), "call {call}");
        finished
    }

    #[test]
    fn power_cut_at_each_step_of_a_long_life_loses_nothing_acknowledged() {
        let calls = (1..).find(|call| life_cut_at(*call, *call, Durability::Sync));
        assert!(calls > Some(70), "{calls:?}");
    }

    #[test]
    fn power_cut_at_each_step_of_an_asynchronous_life_loses_nothing_synced() {
        let durability = Durability::Async { flush_every: std::time::Duration::from_millis(10) };
        let calls = (1..).find(|call| life_cut_at(*call, 1000 + *call, durability));
        assert!(calls > Some(50), "{calls:?}");
    }

    #[test]
    fn torn_asynchronous_writes_are_cut_and_never_called_corrupt() {
        let durability = Durability::Async { flush_every: std::time::Duration::from_millis(10) };
        let options = LogOptions { durability, ..small() };
        for seed in 0..20 {
            let memory = MemoryDisk::new();
            let mut opened = try_open(&memory, &options).unwrap();
            let mut maker = Maker::new();
            let mut synced = 0;
            for round in 0..100 {
                opened.writer.write(&maker.batch(1, 1, 100)).unwrap();
                if round % 40 == 0 {
                    opened.writer.flush().unwrap();
                    synced = round + 1;
                }
            }
            memory.power_cut(Fate::seeded(seed));
            let again = try_open(&memory, &options).unwrap();
            assert!(again.state.last.index >= Index(synced), "seed {seed}: {}", again.state.last);
        }
    }

    /// A data directory with a log in it, as bytes of its files.
    fn files_of_a_log() -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let memory = MemoryDisk::new();
        let mut opened = try_open(&memory, small()).unwrap();
        let mut maker = Maker::new();
        for _ in 0..20 {
            opened.writer.write(&maker.batch(1, 3, 1000)).unwrap();
        }
        let mut paths = segments(&memory);
        paths.push(group().join("vote"));
        paths.into_iter().map(|path| (path.clone(), read_file(&memory, &path))).collect()
    }

    // An index file whose checksum holds and that gives a record no bytes made `read_from` answer "no records" instead
    // of an error, on which a leader asks again for ever. Unseen, since such files were only tried damaged, not lying.
    #[test]
    fn index_file_that_gives_a_record_no_bytes_is_an_error_of_reading() {
        const CHECKSUM: std::ops::Range<usize> = 16..20;
        const FIRST_SLOT: std::ops::Range<usize> = 48..56;
        let memory = MemoryDisk::new();
        let mut opened = try_open(&memory, small()).unwrap();
        let mut maker = Maker::new();
        for _ in 0..4 {
            opened.writer.write(&maker.batch(1, 1, 20_000)).unwrap();
            prepare_all(&mut opened.writer);
        }
        drop(opened);
        memory.kill_process();
        let index = segments(&memory)[0].with_extension("idx");
        let mut bytes = read_file(&memory, &index);
        // The first record is empty, and the last one ends before it.
        bytes[FIRST_SLOT.start + 4..].fill(0);
        let crc = crc32fast::hash(&bytes[CHECKSUM.end..]);
        bytes[CHECKSUM].copy_from_slice(&crc.to_le_bytes());
        write_file(&memory, &index, &bytes);
        let opened = try_open(&memory, small()).unwrap();
        let read = opened.reader.read_from(Index(1), 100);
        assert!(matches!(read, Err(ReadError::Damaged { .. })), "{read:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn garbage_in_any_file_never_panics_and_never_changes_a_record(
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 1..600),
            keep in any::<prop::sample::Index>(),
            shorten in any::<bool>(),
        ) {
            let mut files = files_of_a_log();
            let place = which.index(files.len());
            let bytes = &mut files[place].1;
            let start = at.index(bytes.len());
            for (byte, noise) in bytes.iter_mut().skip(start).zip(&noise) {
                *byte = *noise;
            }
            if shorten {
                bytes.truncate(keep.index(bytes.len()));
            }
            let memory = MemoryDisk::new();
            memory.handle().create_dir_all(&layout::log_dir(&group())).unwrap();
            for (path, bytes) in &files {
                write_file(&memory, path, bytes);
            }
            if let Ok(inspection) = inspect(&*memory.handle(), &group()) {
                drop(inspection.verify(Index(1), Index(u64::MAX)));
            }
            if let Ok(opened) = try_open(&memory, small()) {
                let mut maker = Maker::new();
                for number in 1..=opened.reader.last().get() {
                    let written = maker.record(1, 1000);
                    if let Ok(record) = opened.reader.read(Index(number)) {
                        prop_assert_eq!(record.bytes(), &written);
                    }
                }
            }
        }

        #[test]
        fn garbage_as_a_data_directory_never_panics(
            names in prop::collection::vec("(LOCK|identity|vote|[0-9]{20}-[0-9]\\.(seg|idx)|[a-z]{1,4}\\.tmp)", 0..4),
            bytes in prop::collection::vec(any::<u8>(), 0..9000),
            magic in prop::sample::select(vec!["", "DLEDGSEG", "DLEDGVOT", "DLEDG-ID"]),
        ) {
            let memory = MemoryDisk::new();
            memory.handle().create_dir_all(&layout::log_dir(&group())).unwrap();
            let bytes = [magic.as_bytes(), &bytes].concat();
            for name in names {
                let dir = match name.as_str() {
                    "LOCK" | "identity" => Path::new(DATA_DIR).to_owned(),
                    "vote" => group(),
                    _ => layout::log_dir(&group()),
                };
                write_file(&memory, &dir.join(&name), &bytes);
            }
            drop(lock_data_dir(&*memory.handle(), Path::new(DATA_DIR)));
            drop(load_identity(&*memory.handle(), Path::new(DATA_DIR)));
            drop(inspect(&*memory.handle(), &group()).map(|log| log.verify(Index(1), Index(9))));
            drop(try_open(&memory, small()));
        }
    }
}
