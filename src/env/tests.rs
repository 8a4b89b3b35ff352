//! What every [`Disk`] must do, run against the machine's and the one in memory; then what only the machine has.

use std::io::{ErrorKind, IoSlice};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::memory::MemoryDisk;
use super::os::{OsClock, OsDisk, OsEntropy};
use super::{Clock, Disk, Entropy, File, OpenMode};

/// Runs a check on an empty directory of each kind of disk.
fn on_each_disk(check: impl Fn(&dyn Disk, &Path)) {
    let scratch = tempfile::tempdir().unwrap();
    check(&OsDisk::new(), scratch.path());
    check(&*MemoryDisk::new().handle(), Path::new("/"));
}

fn write(file: &Arc<dyn File>, bytes: &[u8], offset: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], offset).unwrap();
}

fn read(file: &Arc<dyn File>, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0xAA; len];
    file.read_exact_at(&mut buffer, offset).unwrap();
    buffer
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("must fail"),
        Err(error) => error.kind(),
    }
}

#[test]
fn disk_names_create_list_rename_and_remove() {
    on_each_disk(|disk, root| {
        let dir = root.join("a/b");
        disk.create_dir_all(&dir).unwrap();
        disk.create_dir_all(&dir).unwrap();
        assert!(disk.list(&dir).unwrap().is_empty());
        for name in ["2", "10", "1"] {
            write(&disk.open(&dir.join(name), OpenMode::Create).unwrap(), name.as_bytes(), 0);
        }
        assert_eq!(disk.list(&dir).unwrap(), ["1", "10", "2"]);
        disk.rename(&dir.join("1"), &dir.join("2")).unwrap();
        disk.remove(&dir.join("10")).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["2"]);
        assert_eq!(read(&disk.open(&dir.join("2"), OpenMode::Read).unwrap(), 0, 1), b"1");
        assert_eq!(disk.list(root).unwrap(), ["a"]);
    });
}

#[test]
fn disk_directory_is_removed_only_once_it_is_empty() {
    on_each_disk(|disk, root| {
        let dir = root.join("dir");
        disk.create_dir_all(&dir.join("inner")).unwrap();
        drop(disk.open(&dir.join("file"), OpenMode::Create).unwrap());
        assert_eq!(kind(disk.remove_dir(&dir)), ErrorKind::DirectoryNotEmpty);
        assert_eq!(kind(disk.remove_dir(&dir.join("file"))), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.remove_dir(&dir.join("none"))), ErrorKind::NotFound);
        disk.remove_dir(&dir.join("inner")).unwrap();
        disk.remove(&dir.join("file")).unwrap();
        disk.remove_dir(&dir).unwrap();
        assert!(disk.list(root).unwrap().is_empty());
        disk.create_dir_all(&dir).unwrap();
        assert!(disk.list(&dir).unwrap().is_empty());
    });
}

#[test]
fn disk_missing_and_taken_names_are_told_apart() {
    on_each_disk(|disk, root| {
        let (some, none) = (root.join("some"), root.join("none"));
        drop(disk.open(&some, OpenMode::Create).unwrap());
        assert_eq!(kind(disk.open(&some, OpenMode::Create)), ErrorKind::AlreadyExists);
        assert_eq!(kind(disk.open(&none, OpenMode::Read)), ErrorKind::NotFound);
        assert_eq!(kind(disk.open(&none, OpenMode::Write)), ErrorKind::NotFound);
        assert_eq!(kind(disk.open(&none.join("x"), OpenMode::Create)), ErrorKind::NotFound);
        assert_eq!(kind(disk.list(&none)), ErrorKind::NotFound);
        assert_eq!(kind(disk.list(&some)), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.create_dir_all(&some.join("x"))), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.rename(&none, &some)), ErrorKind::NotFound);
        assert_eq!(kind(disk.remove(&none)), ErrorKind::NotFound);
        assert_eq!(kind(disk.sync_dir(&none)), ErrorKind::NotFound);
        assert_eq!(kind(disk.lock(&none.join("x"))), ErrorKind::NotFound);
        assert!(disk.open(&some, OpenMode::Read).unwrap().write_all_at(&[IoSlice::new(b"x")], 0).is_err());
    });
}

#[test]
fn file_vectored_write_across_sectors_reads_back() {
    on_each_disk(|disk, root| {
        let file = disk.open(&root.join("f"), OpenMode::Create).unwrap();
        assert!(file.is_empty().unwrap());
        // More parts than one system call takes, empty ones among them, over three sectors and not aligned.
        let bytes: Vec<u8> = (0..1500_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut parts = vec![IoSlice::new(&[])];
        for byte in bytes.chunks(1) {
            parts.extend([IoSlice::new(byte), IoSlice::new(&[])]);
        }
        file.write_all_at(&parts, 300).unwrap();
        assert_eq!(file.len().unwrap(), 1800);
        assert_eq!(read(&file, 300, 1500), bytes);
        assert_eq!(read(&file, 0, 300), [0; 300]);
        write(&file, b"over", 510);
        file.sync().unwrap();
        let again = disk.open(&root.join("f"), OpenMode::Write).unwrap();
        assert_eq!(read(&again, 509, 6), [bytes[209], b'o', b'v', b'e', b'r', bytes[214]]);
        assert_eq!(again.len().unwrap(), 1800);
    });
}

#[test]
fn file_reads_beyond_its_end_are_refused() {
    on_each_disk(|disk, root| {
        let file = disk.open(&root.join("f"), OpenMode::Create).unwrap();
        write(&file, b"0123456789", 0);
        let mut two = [0; 2];
        for offset in [9, 10, 11, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert_eq!(kind(file.read_exact_at(&mut two, offset)), ErrorKind::UnexpectedEof, "at {offset}");
            file.read_exact_at(&mut [], offset).unwrap();
        }
        file.read_exact_at(&mut two, 8).unwrap();
        assert_eq!(&two, b"89");
    });
}

#[test]
fn file_huge_offsets_are_sparse_or_refused() {
    on_each_disk(|disk, root| {
        let file = disk.open(&root.join("f"), OpenMode::Create).unwrap();
        for offset in [u64::MAX, u64::MAX / 2, u64::MAX / 2 + 1] {
            assert_eq!(kind(file.write_all_at(&[IoSlice::new(b"xy")], offset)), ErrorKind::FileTooLarge);
            file.write_all_at(&[IoSlice::new(b"")], offset).unwrap();
            file.write_all_at(&[], offset).unwrap();
        }
        assert_eq!(file.len().unwrap(), 0);
        let far = 1 << 40;
        write(&file, b"far", far);
        assert_eq!(file.len().unwrap(), far + 3);
        assert_eq!(read(&file, far - 2, 5), b"\0\0far");
        assert_eq!(read(&file, 1 << 30, 3), [0; 3]);
    });
}

#[test]
fn map_shows_later_writes_and_keeps_slices() {
    on_each_disk(|disk, root| {
        let path = root.join("f");
        let file = disk.open(&path, OpenMode::Create).unwrap();
        write(&file, &[0; 5000], 0);
        let map = file.map(4500).unwrap();
        write(&file, b"later", 4090);
        let slice = map.slice(4090, 5).unwrap();
        assert_eq!(&slice[..], b"later");
        assert_eq!(map.slice(4500, 0).unwrap().len(), 0);
        for (offset, len) in [(4500, 1), (0, 4501), (u64::MAX, 2), (u64::MAX, 0), (1, usize::MAX)] {
            assert_eq!(kind(map.slice(offset, len)), ErrorKind::UnexpectedEof, "{len} at {offset}");
        }
        assert_eq!(kind(file.map(5001)), ErrorKind::UnexpectedEof);
        // Neither the name nor the handles need to last.
        disk.remove(&path).unwrap();
        drop((file, map));
        assert_eq!(&slice.slice(1..)[..], b"ater");
    });
}

#[test]
fn map_of_nothing_has_only_the_empty_slice() {
    on_each_disk(|disk, root| {
        let map = disk.open(&root.join("f"), OpenMode::Create).unwrap().map(0).unwrap();
        assert_eq!(map.slice(0, 0).unwrap().len(), 0);
        assert_eq!(kind(map.slice(0, 1)), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn file_removed_while_open_keeps_its_bytes() {
    on_each_disk(|disk, root| {
        let path = root.join("f");
        let old = disk.open(&path, OpenMode::Create).unwrap();
        write(&old, b"old", 0);
        let map = old.map(3).unwrap();
        disk.remove(&path).unwrap();
        let new = disk.open(&path, OpenMode::Create).unwrap();
        write(&new, b"new", 0);
        assert_eq!(read(&old, 0, 3), b"old");
        drop(old);
        assert_eq!(&map.slice(0, 3).unwrap()[..], b"old");
        assert_eq!(read(&new, 0, 3), b"new");
    });
}

#[test]
fn lock_held_refuses_a_second_holder_until_dropped() {
    on_each_disk(|disk, root| {
        let path = root.join("LOCK");
        let held = disk.lock(&path).unwrap();
        assert_eq!(disk.list(root).unwrap(), ["LOCK"]);
        assert_eq!(kind(disk.lock(&path)), ErrorKind::WouldBlock);
        let other = disk.lock(&root.join("OTHER")).unwrap();
        assert_eq!(kind(disk.lock(&path)), ErrorKind::WouldBlock);
        drop(held);
        let again = disk.lock(&path).unwrap();
        assert_eq!(kind(disk.lock(&path)), ErrorKind::WouldBlock);
        drop((again, other));
    });
}

#[test]
fn disk_free_bytes_need_a_directory() {
    on_each_disk(|disk, root| {
        assert!(disk.free_bytes(root).unwrap() > 0);
        assert_eq!(kind(disk.free_bytes(&root.join("none"))), ErrorKind::NotFound);
    });
}

#[test]
fn os_disk_new_files_and_directories_are_the_owners_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = OsDisk::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = scratch.path().join("a/b");
    disk.create_dir_all(&dir).unwrap();
    drop(disk.open(&dir.join("f"), OpenMode::Create).unwrap());
    drop(disk.lock(&dir.join("LOCK")).unwrap());
    assert_eq!(mode(&scratch.path().join("a")), 0o700);
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("f")), 0o600);
    assert_eq!(mode(&dir.join("LOCK")), 0o600);
}

#[test]
fn os_disk_full_device_is_storage_full() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return; // only Linux has this device
    }
    // It cannot be written at an offset by all kernels, but it always says that there is no room.
    let file = OsDisk::new().open(full, OpenMode::Write).unwrap();
    assert_eq!(kind(file.write_all_at(&[IoSlice::new(b"x")], 0)), ErrorKind::StorageFull);
}

#[test]
fn os_clock_and_entropy_move() {
    let clock = OsClock::new();
    let start = clock.monotonic();
    assert!(start.since(super::Monotonic::default()) < Duration::from_secs(60));
    while clock.monotonic() == start {
        std::hint::spin_loop();
    }
    assert!(clock.monotonic() > start);
    assert!(clock.wall_ms() > 1_700_000_000_000, "milliseconds since 1970");
    let entropy = OsEntropy::new();
    assert_ne!(entropy.next_u64(), entropy.next_u64());
}
