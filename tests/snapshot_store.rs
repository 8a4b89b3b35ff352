//! The store of snapshots: what is written is found, what is damaged is passed over, what is old goes.

#[cfg(test)]
mod snapshot_support;

#[cfg(test)]
mod tests {
    use super::snapshot_support::*;
    use dledger::env::memory::MemoryDisk;
    use dledger::snapshot::{CHUNK_HEADER_BYTES, MAX_ITEM_BYTES, SnapshotError, SnapshotOptions, SnapshotStore};
    use dledger::state_machine::CaptureError;
    use dledger::types::{ClusterId, GroupId};
    use proptest::prelude::*;

    #[test]
    fn store_snapshot_that_was_written_is_found_with_its_items_and_its_base() {
        let memory = MemoryDisk::new();
        let written = open(&memory).write(base(7), &list(1, 40)).unwrap();
        let mut store = open(&memory);
        let found = store.newest().unwrap().good.unwrap();
        assert_eq!((found.manifest(), &found.manifest().base), (&written, &base(7)));
        assert_eq!((content(&found), found.manifest().items), (list(1, 40), 40));
        assert_eq!(store.list().unwrap(), [id(7)]);
    }

    #[test]
    fn store_without_snapshots_has_no_newest() {
        let memory = MemoryDisk::new();
        assert_eq!(newest(&mut open(&memory)), Ok(None));
    }

    #[test]
    fn store_items_of_awkward_sizes_come_back_as_they_were() {
        let body = 200 - CHUNK_HEADER_BYTES - 4;
        let sizes = [&[][..], &[0], &[body], &[body - 1, 5], &[body + 1], &[0, body - 4, 0], &[5000, 1]];
        for (number, sizes) in sizes.into_iter().enumerate() {
            let state = List(sizes.iter().map(|size| vec![9; *size]).collect());
            let memory = MemoryDisk::new();
            open(&memory).write(base(7), &state).unwrap();
            assert_eq!(newest(&mut open(&memory)), Ok(Some((id(7), state))), "sizes {number}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn store_any_items_in_chunks_of_any_size_come_back_as_they_were(
            items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..30),
            chunk_bytes in 0u32..600,
        ) {
            let memory = MemoryDisk::new();
            let options = SnapshotOptions { chunk_bytes, ..options() };
            let mut store = SnapshotStore::open(memory.handle(), &group(), options).unwrap();
            let manifest = store.write(base(7), &List(items.clone())).unwrap();
            prop_assert_eq!(newest(&mut store), Ok(Some((id(7), List(items)))));
            let snapshot = store.get(id(7)).unwrap();
            let chunks: Vec<usize> = (0..manifest.chunks).map(|number| snapshot.chunk(number).unwrap().len()).collect();
            let full = chunks.iter().rev().skip(2).all(|length| *length == manifest.chunk_bytes as usize);
            prop_assert!(full, "{chunks:?}");
            prop_assert_eq!(16 + chunks.iter().sum::<usize>() as u64, manifest.data_bytes);
            snapshot.chunk(manifest.chunks).unwrap_err();
        }
    }

    #[test]
    fn store_of_two_nodes_with_the_same_state_holds_the_same_bytes() {
        let (one, two) = (MemoryDisk::new(), MemoryDisk::new());
        for memory in [&one, &two] {
            open(memory).write(base(7), &list(1, 40)).unwrap();
        }
        for name in ["data", "manifest"] {
            let path = file(7, name);
            assert_eq!(read_file(&*one.handle(), &path), read_file(&*two.handle(), &path), "{name}");
        }
    }

    #[test]
    fn store_damaged_newest_is_passed_over_and_reported() {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        for index in [3, 5, 7] {
            store.write(base(index), &list(index as usize, 20)).unwrap();
        }
        memory.flip_byte(&file(7, "data"), 99).unwrap();
        memory.handle().remove(&file(5, "data")).unwrap();
        let found = store.newest().unwrap();
        assert_eq!(found.good.as_ref().map(content), Some(list(3, 20)));
        let passed: Vec<_> = found.passed_over.iter().map(|(id, error)| (*id, is_damage(error))).collect();
        assert_eq!(passed, [(id(7), true), (id(5), true)]);
        assert!(found.passed_over[0].1.to_string().contains("data is damaged at offset 16"), "{found:?}");
    }

    #[test]
    fn store_snapshot_that_rots_after_it_was_opened_is_noticed_by_reads() {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        store.write(base(7), &list(1, 40)).unwrap();
        let snapshot = store.newest().unwrap().good.unwrap();
        memory.flip_byte(&file(7, "data"), 300).unwrap();
        assert!(is_damage(&snapshot.chunk(1).unwrap_err()));
        snapshot.chunk(0).unwrap();
        let restored = snapshot.restore(&mut List::default());
        assert!(is_damage(&restored.unwrap_err()));
        let mut items = snapshot.items();
        assert!(items.by_ref().any(|item| item.is_err()) && items.next().is_none());
    }

    #[test]
    fn store_snapshot_of_a_later_format_stops_the_search() {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        store.write(base(3), &list(3, 5)).unwrap();
        for name in ["manifest", "data"] {
            store.write(base(7), &list(7, 5)).unwrap();
            let mut bytes = read_file(&*memory.handle(), &file(7, name));
            bytes[8] = 2;
            let crc = crc32fast::hash(&bytes[..12]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            write_file(&*memory.handle(), &file(7, name), &bytes);
            let error = store.newest().unwrap_err();
            assert!(matches!(error, SnapshotError::Unsupported { found: 2, supported: 1, .. }), "{error}");
            assert_eq!(store.retain(1, &[]).unwrap(), [] as [dledger::types::EntryId; 0], "{name}");
            memory.handle().remove(&file(7, "manifest")).unwrap();
            store = open(&memory);
        }
    }

    #[test]
    fn store_snapshot_of_another_cluster_group_or_entry_is_foreign() {
        let memory = MemoryDisk::new();
        open(&memory).write(base(7), &list(1, 5)).unwrap();
        for options in
            [SnapshotOptions { cluster: ClusterId(2), ..options() }, SnapshotOptions { group: GroupId(2), ..options() }]
        {
            let mut store = SnapshotStore::open(memory.handle(), &group(), options).unwrap();
            let found = store.newest().unwrap();
            assert!(found.good.is_none());
            assert!(matches!(found.passed_over[..], [(_, SnapshotError::Foreign { .. })]), "{found:?}");
            store.write(base(9), &list(1, 5)).unwrap();
            assert!(store.retain(1, &[]).unwrap().is_empty(), "another group's are not removed");
            memory.handle().remove(&file(9, "manifest")).unwrap();
        }
        let disk = memory.handle();
        disk.create_dir_all(file(8, "data").parent().unwrap()).unwrap();
        for name in ["data", "manifest"] {
            write_file(&*disk, &file(8, name), &read_file(&*disk, &file(7, name)));
        }
        let error = open(&memory).get(id(8)).unwrap_err();
        assert!(error.to_string().contains("entry 7@3"), "{error}");
    }

    #[test]
    fn store_entry_that_has_a_snapshot_is_refused_unless_that_is_damaged() {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        store.write(base(7), &list(1, 5)).unwrap();
        assert!(matches!(store.begin(base(7)), Err(SnapshotError::Exists { .. })));
        let writer = store.begin(base(9)).unwrap();
        assert!(matches!(store.begin(base(9)), Err(SnapshotError::Exists { .. })), "while it is written");
        drop(writer);
        memory.flip_byte(&file(7, "manifest"), 30).unwrap();
        assert!(store.newest().unwrap().good.is_none());
        store.write(base(7), &list(2, 5)).unwrap();
        assert_eq!(newest(&mut store), Ok(Some((id(7), list(2, 5)))));
    }

    #[test]
    fn store_retain_keeps_the_newest_and_whoever_reads_an_old_one_goes_on() {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        for index in [3, 5, 7, 9] {
            store.write(base(index), &list(index as usize, 20)).unwrap();
        }
        let old = store.get(id(3)).unwrap();
        assert_eq!(store.retain(2, &[]).unwrap(), [id(5), id(3)]);
        assert_eq!(store.list().unwrap(), [id(9), id(7)]);
        assert_eq!(content(&old), list(3, 20));
        assert_eq!(store.retain(0, &[]).unwrap(), [id(7)], "one always stays");
        assert_eq!(memory.handle().list(&dir()).unwrap(), ["00000000000000000009-3"]);
    }

    #[test]
    fn store_retain_counts_no_damaged_one_and_keeps_it_until_a_newer_good_one_is_there() {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        for index in [3, 5, 7] {
            store.write(base(index), &list(index as usize, 20)).unwrap();
        }
        memory.flip_byte(&file(7, "data"), 99).unwrap();
        store.newest().unwrap();
        assert_eq!(store.retain(1, &[]).unwrap(), [id(3)]);
        assert_eq!(store.list().unwrap(), [id(7), id(5)]);
        store.write(base(9), &list(9, 20)).unwrap();
        assert_eq!(store.retain(2, &[]).unwrap(), [id(7)]);
        memory.flip_byte(&file(9, "manifest"), 99).unwrap();
        assert!(store.retain(1, &[]).unwrap().is_empty(), "a bad manifest is seen without a search");
    }

    #[test]
    fn store_unfinished_snapshot_is_none_and_leaves_nothing() {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        let mut writer = store.begin(base(7)).unwrap();
        writer.item(&[1; 500]).unwrap();
        assert!(store.list().unwrap().is_empty());
        drop(writer);
        assert!(memory.handle().list(&dir()).unwrap().is_empty(), "dropped");
        let mut writer = store.begin(base(7)).unwrap();
        writer.item(&[1; 500]).unwrap();
        memory.kill_process();
        drop(writer);
        assert_eq!(memory.handle().list(&dir()).unwrap().len(), 1);
        assert!(open(&memory).list().unwrap().is_empty());
        assert!(memory.handle().list(&dir()).unwrap().is_empty(), "removed at opening");
    }

    #[test]
    fn store_opening_leaves_alone_what_is_not_its_own() {
        let memory = MemoryDisk::new();
        let disk = memory.handle();
        disk.create_dir_all(&dir().join("notes")).unwrap();
        disk.create_dir_all(file(7, "").as_path()).unwrap();
        for path in [dir().join("notes.txt"), dir().join("notes/manifest"), file(7, "notes.txt"), file(7, "data")] {
            write_file(&*disk, &path, b"notes");
        }
        let store = open(&memory);
        assert!(store.list().unwrap().is_empty());
        assert_eq!(disk.list(&dir()).unwrap(), ["00000000000000000007-3", "notes", "notes.txt"]);
        assert_eq!(disk.list(file(7, "").as_path()).unwrap(), ["notes.txt"]);
    }

    #[test]
    fn store_full_disk_is_named_and_leaves_the_earlier_snapshot_and_no_litter() {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        store.write(base(3), &list(3, 20)).unwrap();
        let mut refused = 0;
        for free in (0..).map(|sectors| sectors * 512) {
            memory.set_free(free);
            match store.write(base(7), &list(7, 100)) {
                Ok(_) => break,
                Err(error) => assert!(matches!(error, SnapshotError::DiskFull { .. }), "{free}: {error}"),
            }
            refused += 1;
            assert_eq!(memory.handle().list(&dir()).unwrap(), ["00000000000000000003-3"], "{free}");
            assert_eq!(newest(&mut store), Ok(Some((id(3), list(3, 20)))), "{free}");
        }
        assert!(refused > 5, "{refused}");
        assert_eq!(newest(&mut store), Ok(Some((id(7), list(7, 100)))));
    }

    #[test]
    fn store_state_that_cannot_be_read_is_given_up() {
        struct Broken;
        impl dledger::state_machine::Capture for Broken {
            fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
                each(b"item")?;
                Err(CaptureError("its disk is gone".to_owned()).into())
            }
        }
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        let error = store.write(base(7), &Broken).unwrap_err();
        assert!(matches!(&error, SnapshotError::Capture(_)) && error.to_string().contains("its disk is gone"));
        assert!(memory.handle().list(&dir()).unwrap().is_empty());
        let too_large = vec![0; MAX_ITEM_BYTES + 1];
        assert!(matches!(store.begin(base(7)).unwrap().item(&too_large), Err(SnapshotError::TooLarge { .. })));
        store.write(base(8), &List(vec![b"refused".to_vec()])).unwrap();
        let restored = store.get(id(8)).unwrap().restore(&mut List::default());
        assert!(matches!(restored, Err(SnapshotError::Restore(_))));
    }
}
