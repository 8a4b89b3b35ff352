//! The bytes of every file of the commitlog, pinned: what one release wrote, every later one must read.
//!
//! `DLEDGER_WRITE_FIXTURES=1 cargo test --test commitlog_golden` writes the fixtures anew. That is right only before
//! a format version is released; afterwards a change gets a version and fixtures of its own.

#[cfg(test)]
mod commitlog_support;
#[cfg(test)]
#[path = "support/fixtures.rs"]
mod fixtures;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use super::fixtures::{check, pinned};
    use dledger::commitlog::inspect::inspect;
    use dledger::commitlog::{HEADER_BYTES, Identity, WriteBatch, load_identity, lock_data_dir, store_identity};
    use dledger::env::memory::MemoryDisk;
    use dledger::types::{ClusterId, EntryId, Incarnation, Index, Kind, NodeId, Term, Vote};
    use std::path::Path;

    fn identity() -> Identity {
        let members = "1=127.0.0.1:7101,2=127.0.0.1:7102".parse().unwrap();
        Identity {
            node: NodeId(2),
            incarnation: Incarnation(0x1122_3344_5566_7788),
            cluster: Some(ClusterId(0xc1)),
            joined: false,
            members,
        }
    }

    /// A directory with everything in it: a membership, a cut, a sealed segment with its index, an active one.
    fn example() -> MemoryDisk {
        let memory = MemoryDisk::new();
        let disk = memory.handle();
        let lock = lock_data_dir(&*disk, Path::new(DATA_DIR)).unwrap();
        store_identity(&*disk, Path::new(DATA_DIR), &identity()).unwrap();
        let mut opened = open_log(&memory);
        let mut maker = Maker::new();
        let vote = Some(Vote { term: Term(1), voted_for: NodeId(2) });
        let genesis = maker.of_kind(1, Kind::Membership, b"the members");
        opened.writer.write(&WriteBatch { vote, records: vec![genesis], ..WriteBatch::default() }).unwrap();
        let no_op = maker.of_kind(1, Kind::NoOp, b"");
        opened
            .writer
            .write(&WriteBatch { records: vec![no_op], committed: Index(1), ..WriteBatch::default() })
            .unwrap();
        let kept = maker;
        opened.writer.write(&maker.batch(1, 2, 20)).unwrap();
        opened.writer.idle(Index(2)).unwrap();
        let mut cut = Maker::after(kept.last, kept.end).batch(3, 2, 30);
        cut.truncate_after = Some(kept.last);
        cut.vote = Some(Vote { term: Term(3), voted_for: NodeId(1) });
        cut.committed = Index(2);
        opened.writer.write(&cut).unwrap();
        prepare_all(&mut opened.writer);
        opened.writer.idle(Index(3)).unwrap();
        drop((opened, lock));
        memory
    }

    const FILES: [&str; 5] = [
        "identity",
        "groups/1/vote",
        "groups/1/log/00000000000000000001-1.seg",
        "groups/1/log/00000000000000000001-1.idx",
        "groups/1/log/00000000000000000003-2.seg",
    ];

    #[test]
    fn golden_files_are_written_as_pinned() {
        let memory = example();
        for file in FILES {
            check(&format!("{file}.hex"), &read_file(&memory, &Path::new(DATA_DIR).join(file)));
        }
        let names = memory.handle().list(&group().join("log")).unwrap();
        assert_eq!(names.iter().filter(|name| !name.ends_with(".tmp")).count(), 3, "{names:?}");
    }

    /// The same with its first segment dropped.
    fn purged_example() -> MemoryDisk {
        let memory = example();
        memory.kill_process();
        let mut opened = open_log(&memory);
        opened.writer.purge(Index(2)).unwrap();
        drop(opened);
        memory
    }

    #[test]
    fn golden_base_file_is_written_as_pinned_and_read() {
        let memory = purged_example();
        check("purged/base.hex", &read_file(&memory, &group().join("base")));
        let old = MemoryDisk::new();
        old.handle().create_dir_all(&group().join("log")).unwrap();
        for file in [FILES[1], FILES[4]] {
            write_file(&old, &Path::new(DATA_DIR).join(file), &pinned(&format!("{file}.hex")));
        }
        write_file(&old, &group().join("base"), &pinned("purged/base.hex"));
        let opened = open_log(&old);
        assert_eq!(
            (opened.state.base, opened.state.last),
            (EntryId::new(Index(2), Term(1)), EntryId::new(Index(4), Term(3)))
        );
        assert_eq!(opened.state.memberships, [(Index(1), b"the members".as_slice().into())]);
    }

    #[test]
    fn golden_records_are_framed_as_pinned() {
        let mut maker = Maker::new();
        let records = [
            maker.of_kind(1, Kind::Membership, b"members"),
            maker.of_kind(2, Kind::NoOp, b""),
            maker.of_kind(2, Kind::Data, b"payload"),
        ];
        assert_eq!(records[1].len(), HEADER_BYTES);
        check("records.hex", &records.concat());
    }

    #[test]
    fn golden_directory_still_opens() {
        let memory = MemoryDisk::new();
        memory.handle().create_dir_all(&group().join("log")).unwrap();
        for file in FILES {
            write_file(&memory, &Path::new(DATA_DIR).join(file), &pinned(&format!("{file}.hex")));
        }
        assert_eq!(load_identity(&*memory.handle(), Path::new(DATA_DIR)).unwrap(), Some(identity()));
        let verified = inspect(&*memory.handle(), &group()).unwrap().verify(Index(1), Index(u64::MAX));
        assert_eq!((verified.first, verified.last, verified.records), (Index(1), Index(4), 4));
        assert_eq!(verified.digest, "d2882a1c6bacc71b7a8e6372", "the digest of these records is part of the format");
        assert!(verified.damage.is_empty());
        let opened = open_log(&memory);
        assert_eq!(opened.state.vote, Vote { term: Term(3), voted_for: NodeId(1) });
        assert_eq!(opened.state.last, EntryId::new(Index(4), Term(3)));
        assert_eq!(opened.state.committed_hint, Index(3));
        assert_eq!(opened.state.memberships, [(Index(1), b"the members".as_slice().into())]);
        assert_eq!(opened.reader.read(Index(4)).unwrap().payload(), payload(4, 30));
    }
}
