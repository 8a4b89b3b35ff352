//! Every byte of a small snapshot rots, one at a time; files are cut, grown, exchanged and made unreadable. It is never
//! taken for good: the one before it is used.

#[cfg(test)]
mod snapshot_support;

#[cfg(test)]
mod tests {
    use super::snapshot_support::*;
    use dledger::env::memory::MemoryDisk;
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
