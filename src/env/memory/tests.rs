//! What the disk in memory forgets, keeps and spoils.

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Fate, MemoryDisk, Pending, SECTOR_BYTES};
use crate::env::{Disk, File, OpenMode};

fn path(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

/// A disk with a durable file "f" of `len` bytes, all of them `byte`.
fn disk_with_file(byte: u8, len: usize) -> (MemoryDisk, Arc<dyn Disk>, Arc<dyn File>) {
    let memory = MemoryDisk::new();
    let disk = memory.handle();
    let file = disk.open(&path("f"), OpenMode::Create).unwrap();
    file.write_all_at(&[IoSlice::new(&vec![byte; len])], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(&path("")).unwrap();
    (memory, disk, file)
}

fn write(file: &Arc<dyn File>, bytes: &[u8], offset: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], offset).unwrap();
}

/// Keeps what fits and loses the rest.
fn kept_if(fits: impl Fn(&Pending<'_>) -> bool) -> impl FnMut(&Pending<'_>) -> Fate {
    move |pending| if fits(pending) { Fate::Kept } else { Fate::Lost }
}

/// All bytes of a file, as a process started now reads them.
fn contents(memory: &MemoryDisk, name: &str) -> Option<Vec<u8>> {
    let file = memory.handle().open(&path(name), OpenMode::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn power_cut_bytes_not_synced_are_lost_or_kept_by_sector() {
    let (memory, _disk, file) = disk_with_file(1, 3 * SECTOR_BYTES);
    write(&file, &[2; 3 * SECTOR_BYTES], 0);
    memory.power_cut(kept_if(|pending| matches!(pending, Pending::Sector { sector: 1, .. })));
    let bytes = contents(&memory, "f").unwrap();
    assert_eq!(bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect::<Vec<_>>(), [1, 2, 1]);
    memory.power_cut(|_| panic!("nothing is pending after a cut"));
    assert_eq!(contents(&memory, "f").unwrap(), bytes);
}

#[test]
fn power_cut_length_not_synced_has_its_own_fate() {
    let grow = |length: Fate, sectors: Fate| {
        let (memory, _disk, file) = disk_with_file(1, 700);
        write(&file, &[2; 900], 600);
        memory.power_cut(|pending| {
            if let Pending::Length { durable, written, .. } = pending {
                assert_eq!((*durable, *written), (700, 1500));
                length
            } else {
                sectors
            }
        });
        contents(&memory, "f").unwrap()
    };
    // Sectors without the length: the old length shows the old place of the sector, with the new bytes.
    let kept_sectors = grow(Fate::Lost, Fate::Kept);
    assert_eq!(kept_sectors, [vec![1; 600], vec![2; 100]].concat());
    // The length without the sectors: zeros.
    let kept_length = grow(Fate::Kept, Fate::Lost);
    assert_eq!(kept_length, [vec![1; 700], vec![0; 800]].concat());
    // Something between.
    let garbled = grow(Fate::Garbled, Fate::Kept);
    assert_eq!(garbled, [vec![1; 600], vec![2; 500]].concat());
}

#[test]
fn power_cut_length_lost_then_grown_reads_zeros() {
    let (memory, _disk, file) = disk_with_file(1, 100);
    write(&file, &[2; 1000], 100);
    memory.power_cut(kept_if(|pending| !matches!(pending, Pending::Length { .. })));
    let file = memory.handle().open(&path("f"), OpenMode::Write).unwrap();
    write(&file, &[3], 1099);
    let bytes = contents(&memory, "f").unwrap();
    assert_eq!(bytes, [vec![1; 100], vec![0; 999], vec![3]].concat());
}

#[test]
fn power_cut_garbled_sector_spoils_changed_bytes_only() {
    let (memory, _disk, file) = disk_with_file(1, SECTOR_BYTES);
    write(&file, &[2; 100], 200);
    memory.power_cut(|_| Fate::Garbled);
    let bytes = contents(&memory, "f").unwrap();
    for (at, byte) in bytes.iter().enumerate() {
        if (200..300).contains(&at) {
            assert!(*byte != 1 && *byte != 2, "byte {at} is {byte}");
        } else {
            assert_eq!(*byte, 1, "byte {at}");
        }
    }
}

#[test]
fn power_cut_names_not_synced_are_lost_with_their_synced_bytes() {
    let (memory, disk, _file) = disk_with_file(1, 10);
    let fresh = disk.open(&path("new"), OpenMode::Create).unwrap();
    write(&fresh, b"synced", 0);
    fresh.sync().unwrap();
    disk.remove(&path("f")).unwrap();
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(memory.handle().list(&path("")).unwrap(), ["f"], "the new name is lost, the removed one is back");
    assert_eq!(contents(&memory, "f").unwrap(), [1; 10]);
}

#[test]
fn power_cut_rename_not_synced_is_whole_or_nothing() {
    for (fate, left) in [(Fate::Lost, ["f", "tmp"].as_slice()), (Fate::Garbled, &["f", "tmp"]), (Fate::Kept, &["f"])] {
        let (memory, disk, _file) = disk_with_file(1, 10);
        let fresh = disk.open(&path("tmp"), OpenMode::Create).unwrap();
        write(&fresh, &[2; 10], 0);
        fresh.sync().unwrap();
        disk.sync_dir(&path("")).unwrap();
        disk.rename(&path("tmp"), &path("f")).unwrap();
        memory.power_cut(|_| fate);
        assert_eq!(memory.handle().list(&path("")).unwrap(), left);
        let first = contents(&memory, "f").unwrap()[0];
        assert_eq!(first, if fate == Fate::Kept { 2 } else { 1 });
    }
}

#[test]
fn power_cut_directory_not_synced_goes_with_all_it_holds() {
    let memory = MemoryDisk::new();
    let disk = memory.handle();
    disk.create_dir_all(&path("a/b")).unwrap();
    disk.open(&path("a/b/f"), OpenMode::Create).unwrap().sync().unwrap();
    disk.sync_dir(&path("a/b")).unwrap();
    disk.sync_dir(&path("")).unwrap();
    let mut asked = Vec::new();
    memory.power_cut(|pending| {
        asked.push(format!("{pending:?}"));
        Fate::Lost
    });
    assert_eq!(asked, [r#"Added { path: "/a/b" }"#], "what hangs on a lost name is not asked for");
    assert!(memory.handle().list(&path("a")).unwrap().is_empty());
}

#[test]
fn power_cut_directory_removed_without_sync_is_back_or_gone() {
    for fate in [Fate::Lost, Fate::Kept] {
        let memory = MemoryDisk::new();
        let disk = memory.handle();
        disk.create_dir_all(&path("d")).unwrap();
        write(&disk.open(&path("d/f"), OpenMode::Create).unwrap(), b"x", 0);
        disk.sync_dir(&path("d")).unwrap();
        disk.sync_dir(&path("")).unwrap();
        disk.remove(&path("d/f")).unwrap();
        disk.remove_dir(&path("d")).unwrap();
        memory.power_cut(kept_if(|pending| *pending == Pending::Removed { path: &path("d") } && fate == Fate::Kept));
        assert_eq!(memory.handle().list(&path("d")).ok(), (fate == Fate::Lost).then(|| vec!["f".to_owned()]));
    }
}

#[test]
fn power_cut_old_handles_fail_and_locks_are_free() {
    let (memory, disk, file) = disk_with_file(1, 10);
    let map = file.map(10).unwrap();
    let slice = map.slice(0, 10).unwrap();
    let lock = disk.lock(&path("LOCK")).unwrap();
    memory.power_cut(|_| Fate::Kept);
    assert!(disk.list(&path("")).is_err());
    assert!(disk.open(&path("f"), OpenMode::Read).is_err());
    assert!(file.len().is_err() && file.sync().is_err());
    assert!(file.write_all_at(&[IoSlice::new(b"x")], 0).is_err());
    assert!(map.slice(0, 1).is_err());
    assert_eq!(slice[..], [1; 10]);
    let held = memory.handle().lock(&path("LOCK")).unwrap();
    drop(lock);
    assert_eq!(memory.handle().lock(&path("LOCK")).err().unwrap().kind(), ErrorKind::WouldBlock, "still held");
    drop(held);
    assert_eq!(contents(&memory, "f").unwrap(), [1; 10]);
}

#[test]
fn kill_process_loses_nothing_and_makes_nothing_durable() {
    let (memory, disk, file) = disk_with_file(1, 10);
    write(&file, &[2; 10], 0);
    memory.kill_process();
    assert!(disk.list(&path("")).is_err());
    assert_eq!(contents(&memory, "f").unwrap(), [2; 10]);
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(contents(&memory, "f").unwrap(), [1; 10]);
}

#[test]
fn fork_copies_meet_their_fates_apart() {
    let (memory, _disk, file) = disk_with_file(1, 10);
    write(&file, &[2; 10], 0);
    let copy = memory.fork();
    copy.power_cut(|_| Fate::Kept);
    assert_eq!(contents(&copy, "f").unwrap(), [2; 10]);
    write(&file, &[3; 10], 0);
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(contents(&memory, "f").unwrap(), [1; 10]);
    assert_eq!(contents(&copy, "f").unwrap(), [2; 10]);
}

#[test]
fn cut_power_at_each_call_leaves_that_call_pending_and_fails_the_rest() {
    // What is left after a cut at each call when everything pending is lost, and when it is kept.
    for (call, lost, kept) in [(1, Some(1), Some(2)), (2, Some(1), Some(2)), (3, Some(2), None), (4, Some(2), None)] {
        for (fate, left) in [(Fate::Lost, lost), (Fate::Kept, kept)] {
            let (memory, disk, file) = disk_with_file(1, 10);
            memory.cut_power_at(call);
            let history: [&dyn Fn() -> std::io::Result<()>; 4] = [
                &|| file.write_all_at(&[IoSlice::new(&[2; 10])], 0),
                &|| file.sync(),
                &|| disk.remove(&path("f")),
                &|| disk.sync_dir(&path("")),
            ];
            for (number, step) in (1..).zip(history) {
                assert_eq!(step().is_ok(), number < call, "call {number}, cut at {call}");
                assert_eq!(memory.is_off(), number >= call);
            }
            assert!(file.len().is_err() && disk.list(&path("")).is_err(), "no reads without power");
            memory.power_cut(|_| fate);
            assert!(!memory.is_off());
            assert_eq!(contents(&memory, "f").map(|bytes| bytes[0]), left, "cut at {call}, {fate:?}");
        }
    }
}

#[test]
fn cut_power_at_a_create_or_lock_leaves_the_name_pending() {
    let memory = MemoryDisk::new();
    memory.cut_power_at(1);
    assert!(memory.handle().lock(&path("LOCK")).is_err());
    memory.power_cut(|_| Fate::Kept);
    drop(memory.handle().lock(&path("LOCK")).unwrap());
    memory.cut_power_at(1);
    assert!(memory.handle().open(&path("f"), OpenMode::Create).is_err());
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(memory.handle().list(&path("")).unwrap(), ["LOCK"]);
}

#[test]
fn fail_sync_bytes_look_written_until_the_power_goes() {
    let (memory, _disk, file) = disk_with_file(1, 2 * SECTOR_BYTES);
    write(&file, &[2; SECTOR_BYTES], 0);
    memory.fail_sync(1);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(contents(&memory, "f").unwrap()[0], 2, "the page cache shows them");
    memory.power_cut(|_| Fate::Kept);
    assert_eq!(contents(&memory, "f").unwrap()[0], 1, "the sync after the failed one wrote nothing");

    let file = memory.handle().open(&path("f"), OpenMode::Write).unwrap();
    write(&file, &[2; SECTOR_BYTES], 0);
    memory.fail_sync(1);
    assert!(file.sync().is_err());
    write(&file, &[2; SECTOR_BYTES], 0);
    file.sync().unwrap();
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(contents(&memory, "f").unwrap()[0], 2, "written again, they are durable");
}

#[test]
fn fail_sync_strikes_the_planned_call_directories_included() {
    let (memory, disk, file) = disk_with_file(1, 10);
    memory.fail_sync(2);
    file.sync().unwrap();
    drop(disk.open(&path("new"), OpenMode::Create).unwrap());
    assert!(disk.sync_dir(&path("")).is_err());
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(memory.handle().list(&path("")).unwrap(), ["f"]);
}

#[test]
fn fail_write_leaves_half_of_the_bytes() {
    let (memory, _disk, file) = disk_with_file(1, 10);
    memory.fail_write(1);
    assert!(file.write_all_at(&[IoSlice::new(&[2; 4]), IoSlice::new(&[3; 4])], 0).is_err());
    assert_eq!(contents(&memory, "f").unwrap(), [2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn drop_syncs_lies_about_files_and_drop_dir_syncs_about_names() {
    let (memory, disk, file) = disk_with_file(1, 10);
    memory.drop_syncs(true);
    write(&file, &[2; 10], 0);
    file.sync().unwrap();
    drop(disk.open(&path("new"), OpenMode::Create).unwrap());
    disk.sync_dir(&path("")).unwrap();
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(contents(&memory, "f").unwrap(), [1; 10]);
    assert_eq!(contents(&memory, "new").unwrap(), [0u8; 0], "names are not files");

    memory.drop_dir_syncs(true);
    let disk = memory.handle();
    disk.remove(&path("new")).unwrap();
    disk.sync_dir(&path("")).unwrap();
    memory.power_cut(|_| Fate::Lost);
    assert!(contents(&memory, "new").is_some());
}

#[test]
fn set_capacity_full_disk_refuses_new_sectors_only() {
    let (memory, disk, file) = disk_with_file(1, SECTOR_BYTES);
    memory.set_capacity(Some(3 * SECTOR_BYTES as u64));
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 2 * SECTOR_BYTES as u64);
    let refused = file.write_all_at(&[IoSlice::new(&[2; 4 * SECTOR_BYTES])], 0).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 0);
    assert_eq!(file.len().unwrap(), 3 * SECTOR_BYTES as u64, "what there was room for");
    write(&file, &[3; 3 * SECTOR_BYTES], 0);
    // Removed, but open: the bytes are still taken.
    disk.remove(&path("f")).unwrap();
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 0);
    drop(file);
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 3 * SECTOR_BYTES as u64);
    memory.set_capacity(None);
    assert_eq!(disk.free_bytes(&path("")).unwrap(), u64::MAX);
}

#[test]
fn flip_byte_survives_the_power_cut() {
    let (memory, _disk, file) = disk_with_file(1, 600);
    write(&file, &[2], 599);
    memory.flip_byte(&path("f"), 5).unwrap();
    memory.flip_byte(&path("f"), 599).unwrap();
    assert_eq!(contents(&memory, "f").unwrap()[599], !2);
    assert!(memory.flip_byte(&path("f"), 600).is_err() && memory.flip_byte(&path("none"), 0).is_err());
    memory.power_cut(|_| Fate::Lost);
    let bytes = contents(&memory, "f").unwrap();
    assert_eq!((bytes[4], bytes[5], bytes[599]), (1, !1, !1));
}

#[test]
fn counts_name_every_call_that_changes_the_disk() {
    let (memory, disk, file) = disk_with_file(1, 10);
    let before = memory.counts();
    assert_eq!((before.mutating, before.writes, before.syncs, before.dir_syncs), (4, 1, 1, 1));
    disk.create_dir_all(&path("d")).unwrap();
    disk.rename(&path("f"), &path("d/g")).unwrap();
    disk.remove(&path("d/g")).unwrap();
    drop(disk.lock(&path("LOCK")).unwrap());
    assert_eq!(disk.list(&path("d")).unwrap().len() as u64 + file.len().unwrap(), 10);
    assert_eq!(memory.counts().mutating, before.mutating + 4);
}

#[test]
fn fate_seeded_repeats_and_uses_every_fate() {
    let draw = |seed| {
        let mut fate = Fate::seeded(seed);
        (0..50).map(|sector| fate(&Pending::Sector { path: Path::new("/f"), sector })).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    for fate in [Fate::Lost, Fate::Kept, Fate::Garbled] {
        assert!(draw(3).contains(&fate));
    }
}

#[test]
fn replaced_bytes_are_shown_and_survive_the_power_cut() {
    let (memory, _disk, _file) = disk_with_file(1, 1200);
    memory.replace_bytes(&path("f"), 500, &[2; 600]).unwrap();
    for _cut in 0..2 {
        let bytes = contents(&memory, "f").unwrap();
        assert!(bytes[..500] == [1; 500] && bytes[500..1100] == [2; 600] && bytes[1100..] == [1; 100]);
        memory.power_cut(|_| Fate::Lost);
    }
    assert!(memory.replace_bytes(&path("f"), 601, &[2; 600]).is_err());
    assert!(memory.replace_bytes(&path("none"), 0, &[2]).is_err());
}

#[test]
fn spoiled_sector_is_an_error_until_all_of_it_is_written_and_synced() {
    let (memory, disk, file) = disk_with_file(1, 3 * SECTOR_BYTES);
    memory.spoil_sector(&path("f"), 600).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 511).unwrap();
    file.read_exact_at(&mut byte, 512).unwrap_err();
    file.write_all_at(&[IoSlice::new(&[2; 100])], 512).unwrap_err();
    assert_eq!(memory.counts().map_faults, 0);
    file.map(1500).unwrap().slice(500, 20).unwrap_err();
    assert_eq!(memory.counts().map_faults, 1);
    write(&file, &[2; SECTOR_BYTES], 512);
    file.read_exact_at(&mut byte, 512).unwrap();
    drop((disk, file));
    let kept = memory.fork();
    memory.power_cut(|_| Fate::Lost);
    let file = memory.handle().open(&path("f"), OpenMode::Write).unwrap();
    file.read_exact_at(&mut byte, 512).unwrap_err();
    kept.power_cut(|_| Fate::Kept);
    assert_eq!(contents(&kept, "f").unwrap()[512], 2);
    write(&file, &[3; SECTOR_BYTES], 512);
    file.sync().unwrap();
    memory.power_cut(|_| Fate::Lost);
    assert_eq!(contents(&memory, "f").unwrap()[512], 3);
}
