//! Every byte of a small snapshot rots, one at a time; files are cut, grown, exchanged and made unreadable. It is never
//! taken for good: the one before it is used.

#[cfg(test)]
mod snapshot_support;

#[cfg(test)]
mod tests {
    use super::snapshot_support::*;
    use dledger::env::OpenMode;
    use dledger::env::memory::MemoryDisk;
    use dledger::snapshot::Manifest;
    use std::io::IoSlice;
    use std::path::PathBuf;

    /// Two snapshots, and the paths of the newer one's files.
    fn two() -> (MemoryDisk, [PathBuf; 2]) {
        let memory = MemoryDisk::new();
        let mut store = open(&memory);
        for index in [3, 7] {
            store.write(base(index), &list(index as usize, 20)).unwrap();
        }
        (memory, [file(7, "data"), file(7, "manifest")])
    }

    /// The newer one is passed over as damaged, and the older one is good.
    fn falls_back(memory: &MemoryDisk, what: &str) {
        let found = open(memory).newest().unwrap();
        assert_eq!(found.passed_over.len(), 1, "{what}");
        assert!(is_damage(&found.passed_over[0].1), "{what}: {found:?}");
        assert_eq!(found.good.as_ref().map(content), Some(list(3, 20)), "{what}");
    }

    #[test]
    fn rot_of_any_byte_is_noticed_and_the_snapshot_before_is_used() {
        let (memory, paths) = two();
        for path in paths {
            let length = read_file(&*memory.handle(), &path).len() as u64;
            assert!(length > 100);
            for offset in 0..length {
                memory.flip_byte(&path, offset).unwrap();
                falls_back(&memory, &format!("{} at {offset}", path.display()));
                memory.flip_byte(&path, offset).unwrap();
            }
        }
        assert_eq!(newest(&mut open(&memory)), Ok(Some((id(7), list(7, 20)))));
    }

    #[test]
    fn rot_that_cuts_or_grows_a_file_is_noticed() {
        let (memory, paths) = two();
        let disk = memory.handle();
        for path in paths {
            let whole = read_file(&*disk, &path);
            for length in 0..whole.len() {
                write_file(&*disk, &path, &whole[..length]);
                falls_back(&memory, &format!("{} cut to {length}", path.display()));
            }
            write_file(&*disk, &path, &[&whole[..], &[0]].concat());
            falls_back(&memory, &format!("{} with a byte more", path.display()));
            write_file(&*disk, &path, &whole);
        }
    }

    #[test]
    fn rot_of_a_whole_sector_that_cannot_be_read_is_noticed() {
        let (memory, paths) = two();
        for path in paths {
            let memory = memory.fork();
            memory.spoil_sector(&path, 0).unwrap();
            falls_back(&memory, &format!("{}", path.display()));
        }
    }

    #[test]
    fn rot_that_puts_other_chunks_in_place_is_noticed() {
        let (memory, [data, _manifest]) = two();
        let disk = memory.handle();
        let (chunk, head) = (200, 16);
        let whole = read_file(&*disk, &data);
        let other = read_file(&*disk, &file(3, "data"));
        assert!(whole.len() > head + 2 * chunk && other.len() > head + 2 * chunk);
        let mut exchanged = whole.clone();
        exchanged[head..head + 2 * chunk].rotate_left(chunk);
        let mut stale = whole.clone();
        stale[head..head + chunk].copy_from_slice(&other[head..head + chunk]);
        let without = [&whole[..head], &whole[head + chunk..]].concat();
        for (what, bytes) in [("exchanged", exchanged), ("stale", stale), ("left out", without), ("other", other)] {
            write_file(&*disk, &data, &bytes);
            falls_back(&memory, what);
        }
    }

    #[test]
    fn rot_that_puts_the_data_of_another_state_of_the_same_entry_in_place_is_noticed() {
        let (memory, [data, _manifest]) = two();
        let elsewhere = MemoryDisk::new();
        let List(mut items) = list(7, 20);
        items[5].reverse();
        assert_ne!(items, list(7, 20).0);
        open(&elsewhere).write(base(7), &List(items)).unwrap();
        write_file(&*memory.handle(), &data, &read_file(&*elsewhere.handle(), &data));
        falls_back(&memory, "the data of another state");
    }

    #[test]
    fn rot_that_puts_other_chunks_in_place_after_opening_is_noticed_by_reads() {
        let (memory, [data, _manifest]) = two();
        let snapshot = open(&memory).newest().unwrap().good.unwrap();
        let (first, second) = (snapshot.chunk(0).unwrap(), snapshot.chunk(1).unwrap());
        let stale = open(&memory).get(id(3)).unwrap().chunk(0).unwrap();
        let file = memory.handle().open(&data, OpenMode::Write).unwrap();
        for (what, chunk) in [("of another place", &second), ("of another snapshot", &stale)] {
            file.write_all_at(&[IoSlice::new(chunk)], 16).unwrap();
            assert!(is_damage(&snapshot.chunk(0).unwrap_err()), "{what}");
            assert!(snapshot.items().any(|item| item.is_err()), "{what}");
        }
        file.write_all_at(&[IoSlice::new(&first)], 16).unwrap();
        snapshot.verify().unwrap();
    }

    /// Changes bytes of the data and makes every checksum right again, as a writer with a bug would.
    fn forge(memory: &MemoryDisk, chunk_at: usize, length: usize, change: impl FnOnce(&mut [u8])) {
        let disk = memory.handle();
        let mut data = read_file(&*disk, &file(7, "data"));
        let chunk = &mut data[chunk_at..chunk_at + length];
        change(&mut chunk[40..]);
        let body = crc32fast::hash(&chunk[40..]);
        chunk[36..40].copy_from_slice(&body.to_le_bytes());
        let header = crc32fast::hash(&chunk[4..40]);
        chunk[..4].copy_from_slice(&header.to_le_bytes());
        let path = file(7, "manifest");
        let mut manifest = Manifest::decode(&path, &read_file(&*disk, &path)).unwrap();
        manifest.data_crc = crc32fast::hash(&data);
        manifest.items = u64::from_le_bytes(data[data.len() - 8..].try_into().unwrap());
        write_file(&*disk, &file(7, "data"), &data);
        write_file(&*disk, &path, &manifest.encode());
    }

    #[test]
    fn rot_behind_right_checksums_is_noticed_when_items_do_not_add_up() {
        let (memory, [data, _manifest]) = two();
        let end = read_file(&*memory.handle(), &data).len() - 48;
        let forged = |chunk_at, length, change: fn(&mut [u8])| {
            let memory = memory.fork();
            forge(&memory, chunk_at, length, change);
            memory
        };
        assert!(newest(&mut open(&forged(end, 48, |_body| ()))).is_ok(), "the forgery itself");
        falls_back(&forged(end, 48, |body| body[0] += 1), "an item too few");
        falls_back(&forged(end, 48, |body| body[0] -= 1), "an item too many");
        falls_back(&forged(16, 200, |body| body[0] += 1), "lengths that lead astray");
        let snapshot = open(&memory).get(id(7)).unwrap();
        let last = snapshot.chunk(snapshot.manifest().chunks - 2).unwrap().len();
        let cut_short = forged(end - last, last, |body| body[body.len() - 8] += 1);
        forge(&cut_short, end, 48, |body| body[0] -= 1);
        falls_back(&cut_short, "an item that begins and does not end");
        falls_back(&forged(16, 200, |body| body[3] = 0x7f), "an item that claims too much");
    }

    #[test]
    fn rot_of_every_snapshot_leaves_none() {
        let (memory, [data, manifest]) = two();
        memory.flip_byte(&data, 0).unwrap();
        memory.flip_byte(&file(3, "manifest"), 20).unwrap();
        let found = open(&memory).newest().unwrap();
        assert!(found.good.is_none() && found.passed_over.len() == 2);
        memory.handle().remove(&manifest).unwrap();
        assert_eq!(open(&memory).list().unwrap(), [id(3)], "without a manifest it is none");
    }
}
