//! A snapshot on its way from peers, chunk by chunk: what fits is taken, from whomever; what does not is refused.

#[cfg(test)]
mod snapshot_support;

#[cfg(test)]
mod tests {
    use super::snapshot_support::*;
    use dledger::env::memory::MemoryDisk;
    use dledger::snapshot::{Manifest, Snapshot, SnapshotError, SnapshotOptions, SnapshotStore};
    use dledger::types::ClusterId;
    use std::path::Path;

    /// A peer's snapshot.
    fn peer(index: u64, state: &List) -> Snapshot {
        let mut store = open(&MemoryDisk::new());
        store.write(base(index), state).unwrap();
        store.get(id(index)).unwrap()
    }

    fn sent(manifest: &Manifest) -> Manifest {
        Manifest::decode(Path::new("from a peer"), &manifest.encode()).unwrap()
    }

    fn refusal(outcome: Result<impl std::fmt::Debug, SnapshotError>) -> String {
        match outcome {
            Err(SnapshotError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn copy_begun_from_one_peer_and_ended_by_another_is_the_same_snapshot() {
        let state = list(1, 40);
        let (one, two) = (peer(7, &state), peer(7, &state));
        let memory = MemoryDisk::new();
        // The size of chunks is the sender's.
        let own = SnapshotOptions { chunk_bytes: 999, ..options() };
        let mut store = SnapshotStore::open(memory.handle(), &group(), own).unwrap();
        let mut writer = store.begin_copy(sent(one.manifest())).unwrap();
        while writer.next() < one.manifest().chunks {
            let from = if writer.next() < 3 { &one } else { &two };
            writer.write(&from.chunk(writer.next()).unwrap()).unwrap();
        }
        assert_eq!(&writer.finish().unwrap(), one.manifest());
        assert_eq!(newest(&mut open(&memory)), Ok(Some((id(7), state))));
    }

    #[test]
    fn copy_takes_only_the_next_chunk_of_its_own_snapshot() {
        let (snapshot, other) = (peer(7, &list(1, 40)), peer(8, &list(1, 40)));
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        let mut writer = store.begin_copy(sent(snapshot.manifest())).unwrap();
        assert!(refusal(writer.write(&snapshot.chunk(1).unwrap())).contains("chunk 1 instead of 0"));
        assert!(refusal(writer.write(&other.chunk(0).unwrap())).contains("snapshot 8@3"));
        let mut flipped = snapshot.chunk(0).unwrap().to_vec();
        flipped[50] ^= 1;
        assert!(refusal(writer.write(&flipped)).contains("checksum"));
        assert!(refusal(writer.write(b"")).contains("header"));
        for number in 0..snapshot.manifest().chunks {
            writer.write(&snapshot.chunk(number).unwrap()).unwrap();
            refusal(writer.write(&snapshot.chunk(number).unwrap()));
        }
        writer.finish().unwrap();
        assert_eq!(newest(&mut store), Ok(Some((id(7), list(1, 40)))));
    }

    #[test]
    fn copy_without_its_end_or_of_other_data_than_announced_is_no_snapshot() {
        let (snapshot, other) = (peer(7, &list(1, 40)), peer(7, &list(2, 40)));
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        let mut writer = store.begin_copy(sent(snapshot.manifest())).unwrap();
        writer.write(&snapshot.chunk(0).unwrap()).unwrap();
        assert!(refusal(writer.finish()).contains("no end"));
        let mut writer = store.begin_copy(sent(snapshot.manifest())).unwrap();
        for number in 0..other.manifest().chunks {
            writer.write(&other.chunk(number).unwrap()).unwrap();
        }
        assert!(refusal(writer.finish()).contains("announced"));
        assert!(memory.handle().list(&dir()).unwrap().is_empty());
    }

    #[test]
    fn copy_of_chunks_of_another_size_is_refused() {
        let small = SnapshotOptions { chunk_bytes: 100, ..options() };
        let mut theirs = SnapshotStore::open(MemoryDisk::new().handle(), &group(), small).unwrap();
        theirs.write(base(7), &list(1, 40)).unwrap();
        let (small, large) = (theirs.get(id(7)).unwrap(), peer(7, &list(1, 40)));
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        let mut writer = store.begin_copy(sent(small.manifest())).unwrap();
        assert!(refusal(writer.write(&large.chunk(0).unwrap())).contains("size"));
        drop(writer);
        let mut writer = store.begin_copy(sent(large.manifest())).unwrap();
        writer.write(&small.chunk(0).unwrap()).unwrap();
        assert!(refusal(writer.write(&small.chunk(1).unwrap())).contains("size"));
    }

    #[test]
    fn copy_takes_nothing_behind_the_end() {
        // Items that fill their chunks, so that only the end says that nothing more may come.
        let (short, long) = (peer(7, &List(vec![vec![1; 156]])), peer(7, &List(vec![vec![1; 156]; 3])));
        let mut store = open(&MemoryDisk::new());
        let mut writer = store.begin_copy(sent(short.manifest())).unwrap();
        writer.write(&short.chunk(0).unwrap()).unwrap();
        writer.write(&short.chunk(1).unwrap()).unwrap();
        for number in [2, 3] {
            refusal(writer.write(&long.chunk(number).unwrap()));
        }
        writer.finish().unwrap();
    }

    #[test]
    fn copy_of_another_clusters_snapshot_is_refused() {
        let manifest = Manifest { cluster: ClusterId(9), ..peer(7, &list(1, 4)).manifest().clone() };
        let outcome = open(&MemoryDisk::new()).begin_copy(sent(&manifest));
        assert!(matches!(outcome, Err(SnapshotError::Foreign { .. })));
    }

    #[test]
    fn copy_after_a_failed_write_or_sync_takes_nothing_more() {
        let snapshot = peer(7, &list(1, 40));
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        let mut writer = store.begin_copy(sent(snapshot.manifest())).unwrap();
        memory.fail_write(1);
        let failed = writer.write(&snapshot.chunk(0).unwrap());
        assert!(matches!(failed, Err(SnapshotError::Io { .. })));
        assert!(refusal(writer.write(&snapshot.chunk(0).unwrap())).contains("earlier write"));
        drop(writer);
        assert!(memory.handle().list(&dir()).unwrap().is_empty());
    }

    #[test]
    fn copy_of_a_manifest_with_numbers_that_cannot_be_is_refused() {
        let good = peer(7, &list(1, 40)).manifest().clone();
        let decode = |manifest: &Manifest| Manifest::decode(Path::new("from a peer"), &manifest.encode());
        decode(&good).unwrap();
        for bad in [
            Manifest { chunk_bytes: 0, ..good.clone() },
            Manifest { chunk_bytes: u32::MAX, ..good.clone() },
            Manifest { chunks: 0, ..good.clone() },
            Manifest { chunks: u64::MAX, ..good.clone() },
            Manifest { chunks: good.chunks + 1, ..good.clone() },
            Manifest { data_bytes: 0, ..good.clone() },
            Manifest { data_bytes: u64::MAX, ..good.clone() },
        ] {
            assert!(is_damage(&decode(&bad).unwrap_err()), "{bad:?}");
        }
    }
}
