//! The bytes of a snapshot, pinned: what one release wrote, every later one must read.
//!
//! `DLEDGER_WRITE_FIXTURES=1 cargo test --test snapshot_golden` writes the fixtures anew. That is right only before a
//! format version is released; afterwards a change gets a version and fixtures of its own.

#[cfg(test)]
#[path = "support/fixtures.rs"]
mod fixtures;
#[cfg(test)]
mod snapshot_support;

#[cfg(test)]
mod tests {
    use super::fixtures::{check, pinned};
    use super::snapshot_support::*;
    use dledger::env::memory::MemoryDisk;
    use dledger::snapshot::{SnapshotOptions, SnapshotStore, open_backup};
    use std::path::Path;

    const FILES: [&str; 2] = ["data", "manifest"];

    /// Items in full chunks, across their ends, and an empty one.
    fn example() -> List {
        List(vec![b"first".to_vec(), vec![7; 90], Vec::new(), b"last".to_vec()])
    }

    fn store(memory: &MemoryDisk) -> SnapshotStore {
        let options = SnapshotOptions { chunk_bytes: 96, ..options() };
        SnapshotStore::open(memory.handle(), &group(), options).unwrap()
    }

    fn fixture(name: &str) -> String {
        format!("groups/1/snapshot/00000000000000000007-3/{name}.hex")
    }

    #[test]
    fn golden_snapshot_is_written_as_pinned() {
        let memory = MemoryDisk::new();
        store(&memory).write(base(7), &example()).unwrap();
        for name in FILES {
            check(&fixture(name), &read_file(&*memory.handle(), &file(7, name)));
        }
    }

    #[test]
    fn golden_backup_is_written_as_pinned() {
        let memory = MemoryDisk::new();
        let mut store = store(&memory);
        store.write(base(7), &example()).unwrap();
        check("backup.hex", &backup_of(&store.get(id(7)).unwrap()));
    }

    #[test]
    fn golden_backup_still_opens() {
        let memory = MemoryDisk::new();
        let path = Path::new("/backup");
        write_file(&*memory.handle(), path, &pinned("backup.hex"));
        let found = open_backup(&*memory.handle(), path).unwrap();
        found.verify().unwrap();
        assert_eq!((&found.manifest().base, content(&found)), (&base(7), example()));
    }

    #[test]
    fn golden_snapshot_still_opens() {
        let memory = MemoryDisk::new();
        let disk = memory.handle();
        disk.create_dir_all(file(7, "data").parent().unwrap()).unwrap();
        for name in FILES {
            write_file(&*disk, &file(7, name), &pinned(&fixture(name)));
        }
        let mut store = store(&memory);
        let found = store.newest().unwrap().good.unwrap();
        assert_eq!((&found.manifest().base, content(&found)), (&base(7), example()));
        assert_eq!((found.manifest().chunks, found.manifest().items), (4, 4));
    }
}
