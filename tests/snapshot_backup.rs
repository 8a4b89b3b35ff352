//! A backup: the file that is made of a snapshot's pieces, and everything that must not be taken for one.

#[cfg(test)]
mod snapshot_support;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::snapshot_support::*;
    use dledger::env::memory::MemoryDisk;
    use dledger::snapshot::{BackupError, BackupWriter, Snapshot, SnapshotError, open_backup};
    use proptest::prelude::*;

    const PATH: &str = "/one.backup";

    fn snapshot() -> Snapshot {
        let mut store = open(&MemoryDisk::new());
        store.write(base(7), &list(7, 20)).unwrap();
        store.get(id(7)).unwrap()
    }

    fn look(bytes: &[u8]) -> Result<Snapshot, BackupError> {
        let memory = MemoryDisk::new();
        write_file(&*memory.handle(), Path::new(PATH), bytes);
        let found = open_backup(&*memory.handle(), Path::new(PATH))?;
        found.verify().map_err(|error| BackupError::of(Path::new(PATH), error))?;
        Ok(found)
    }

    #[test]
    fn backup_holds_what_the_snapshot_holds_and_is_as_long_as_announced() {
        let snapshot = snapshot();
        let (writer, head) = BackupWriter::begin(Path::new(PATH), &snapshot.manifest().encode()).unwrap();
        let bytes = backup_of(&snapshot);
        assert_eq!(bytes.len() as u64, head.len() as u64 + writer.data_left());
        let found = look(&bytes).unwrap();
        assert_eq!((found.manifest(), content(&found)), (snapshot.manifest(), list(7, 20)));
        assert_eq!(found.chunk(1).unwrap(), snapshot.chunk(1).unwrap());
    }

    #[test]
    fn backup_with_any_byte_flipped_is_refused() {
        let good = backup_of(&snapshot());
        for place in 0..good.len() {
            let mut flipped = good.clone();
            flipped[place] ^= 0x20;
            let refused = look(&flipped).unwrap_err();
            let damage = matches!(&refused, BackupError::Damaged { path, .. } if path == Path::new(PATH));
            assert!(damage, "at {place}: {refused}");
        }
    }

    #[test]
    fn backup_that_is_cut_or_longer_is_refused() {
        let good = backup_of(&snapshot());
        for length in 0..good.len() {
            look(&good[..length]).unwrap_err();
        }
        look(&[&good[..], &[0]].concat()).unwrap_err();
        assert!(matches!(look(b"").unwrap_err(), BackupError::Foreign { .. }));
    }

    #[test]
    fn backup_of_a_later_version_is_told_from_a_damaged_one() {
        let mut newer = backup_of(&snapshot());
        newer[8] = 2;
        let checksum = crc32fast::hash(&newer[..12]).to_le_bytes();
        newer[12..16].copy_from_slice(&checksum);
        let refused = look(&newer).unwrap_err();
        assert!(matches!(refused, BackupError::Unsupported { found: 2, supported: 1, .. }), "{refused}");
    }

    #[test]
    fn backup_takes_no_chunk_but_the_next_and_says_when_it_is_whole() {
        let (snapshot, mut other) = (snapshot(), open(&MemoryDisk::new()));
        other.write(base(9), &list(9, 20)).unwrap();
        let other = other.get(id(9)).unwrap();
        let (mut writer, _head) = BackupWriter::begin(Path::new(PATH), &snapshot.manifest().encode()).unwrap();
        let mut cut = snapshot.chunk(0).unwrap().to_vec();
        cut.pop();
        for wrong in [&snapshot.chunk(1).unwrap()[..], &other.chunk(0).unwrap(), &cut, b""] {
            assert!(matches!(writer.take(wrong), Err(SnapshotError::Refused { .. })));
        }
        assert_eq!(writer.next(), Some(0));
        for number in 0..snapshot.manifest().chunks {
            writer.take(&snapshot.chunk(number).unwrap()).unwrap();
        }
        assert_eq!((writer.next(), writer.data_left()), (None, 0));
        assert!(BackupWriter::begin(Path::new(PATH), b"no manifest").is_err());
    }

    #[test]
    fn backup_of_chunks_that_are_not_those_of_its_manifest_is_refused_at_the_end() {
        // The same entry and the same lengths, of another state: every chunk is good in itself.
        let with = |last: u8| {
            let mut store = open(&MemoryDisk::new());
            store.write(base(7), &List(vec![vec![1; 300], vec![last; 20]])).unwrap();
            store.get(id(7)).unwrap()
        };
        let (one, other) = (with(1), with(2));
        let (mut writer, _head) = BackupWriter::begin(Path::new(PATH), &one.manifest().encode()).unwrap();
        let last = one.manifest().chunks - 1;
        for number in 0..last {
            writer.take(&other.chunk(number).unwrap()).unwrap();
        }
        assert!(matches!(writer.take(&other.chunk(last).unwrap()), Err(SnapshotError::Refused { .. })));
    }

    proptest! {
        #[test]
        fn backup_of_random_bytes_is_refused_and_never_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            start in 0usize..200,
        ) {
            let good = backup_of(&snapshot());
            prop_assert!(look(&bytes).is_err());
            // The same behind the beginning of a good one.
            let mixed = [&good[..start], &bytes].concat();
            prop_assert!(mixed == good || look(&mixed).is_err());
        }
    }
}
