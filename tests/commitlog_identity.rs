//! Lock and identity of a data directory.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use dledger::commitlog::{Identity, load_identity, lock_data_dir, renew_identity, store_identity};
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::OpenError;
    use dledger::types::{ClusterId, Incarnation, NodeId};
    use std::path::Path;

    fn data() -> &'static Path {
        Path::new(DATA_DIR)
    }

    fn identity(cluster: Option<ClusterId>) -> Identity {
        let members = "1=127.0.0.1:7101,2=[::1]:7102".parse().unwrap();
        Identity { node: NodeId(2), incarnation: Incarnation(99), cluster, joined: false, members }
    }

    #[test]
    fn identity_is_absent_then_stored_then_replaced() {
        let memory = MemoryDisk::new();
        let disk = memory.handle();
        let lock = lock_data_dir(&*disk, data()).unwrap();
        assert_eq!(lock.path(), data());
        assert_eq!(load_identity(&*disk, data()).unwrap(), None);
        for cluster in [None, Some(ClusterId(7))] {
            store_identity(&*memory.handle(), data(), &identity(cluster)).unwrap();
            memory.power_cut(|_| Fate::Lost);
            assert_eq!(load_identity(&*memory.handle(), data()).unwrap(), Some(identity(cluster)));
        }
    }

    #[test]
    fn identity_write_that_loses_power_leaves_the_old_or_the_new_one() {
        for call in 1.. {
            let memory = MemoryDisk::new();
            drop(lock_data_dir(&*memory.handle(), data()).unwrap());
            store_identity(&*memory.handle(), data(), &identity(None)).unwrap();
            memory.cut_power_at(call);
            if store_identity(&*memory.handle(), data(), &identity(Some(ClusterId(7)))).is_ok() {
                assert!(call > 4);
                return;
            }
            memory.power_cut(Fate::seeded(call));
            let found = load_identity(&*memory.handle(), data()).unwrap().unwrap();
            assert!(found == identity(None) || found == identity(Some(ClusterId(7))));
        }
    }

    #[test]
    fn identity_with_any_flipped_byte_is_read_from_its_other_copy_and_made_anew() {
        let memory = MemoryDisk::new();
        drop(lock_data_dir(&*memory.handle(), data()).unwrap());
        store_identity(&*memory.handle(), data(), &identity(None)).unwrap();
        let path = data().join("identity");
        let whole = read_file(&memory, &path);
        let copy = whole.len() as u64 / 2;
        let used = whole.iter().take(copy as usize).rposition(|byte| *byte != 0).unwrap() as u64 + 1;
        for offset in (0..used).chain(copy..copy + used) {
            memory.flip_byte(&path, offset).unwrap();
            assert_eq!(load_identity(&*memory.handle(), data()).unwrap(), Some(identity(None)), "{offset}");
            renew_identity(&*memory.handle(), data()).unwrap();
            assert_eq!(read_file(&memory, &path), whole, "{offset}");
        }
        for offset in 0..used {
            memory.flip_byte(&path, offset).unwrap();
            memory.flip_byte(&path, copy + offset).unwrap();
            let refused = load_identity(&*memory.handle(), data());
            assert!(matches!(refused, Err(OpenError::Corrupt { .. })), "{offset}: {refused:?}");
            memory.flip_byte(&path, offset).unwrap();
            memory.flip_byte(&path, copy + offset).unwrap();
        }
    }

    #[test]
    fn lock_is_held_until_dropped() {
        let memory = MemoryDisk::new();
        let lock = lock_data_dir(&*memory.handle(), data()).unwrap();
        assert!(matches!(lock_data_dir(&*memory.handle(), data()), Err(OpenError::Locked { .. })));
        drop(lock);
        lock_data_dir(&*memory.handle(), data()).unwrap();
    }

    #[test]
    fn lock_on_a_foreign_directory_is_refused_and_writes_nothing() {
        let memory = MemoryDisk::new();
        memory.handle().create_dir_all(data()).unwrap();
        write_file(&memory, &data().join("notes.txt"), b"mine");
        assert!(matches!(lock_data_dir(&*memory.handle(), data()), Err(OpenError::Foreign { .. })));
        assert_eq!(memory.handle().list(data()).unwrap(), ["notes.txt"]);
    }

    #[test]
    fn lock_on_a_directory_that_lost_its_identity_is_refused() {
        let memory = MemoryDisk::new();
        drop(open_log(&memory));
        assert!(matches!(lock_data_dir(&*memory.handle(), data()), Err(OpenError::Identity { .. })));
    }
}
