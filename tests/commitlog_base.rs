//! Opening a log that does not begin with index 1: the rows of the decision table about its front.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use dledger::commitlog::inspect::inspect;
    use dledger::commitlog::repair::{cut, examine};
    use dledger::commitlog::{LogOptions, Opened, Rule, lock_data_dir};
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::OpenError;
    use dledger::types::{ClusterId, EntryId, GroupId, Index, LogBase, LogTime, Position, Term};
    use std::path::{Path, PathBuf};

    fn base_file() -> PathBuf {
        group().join("base")
    }

    fn open_covered(memory: &MemoryDisk, covered: Index) -> Result<Opened, OpenError> {
        memory.kill_process();
        try_open(memory, LogOptions { covered, ..options() })
    }

    /// Both copies of the base file are bad.
    fn spoil_base_file(memory: &MemoryDisk) {
        for copy in [0, 4096] {
            memory.flip_byte(&base_file(), copy + 50).unwrap();
        }
    }

    fn damage(memory: &MemoryDisk) -> Vec<Index> {
        let found = inspect(&*memory.handle(), &group()).unwrap().verify(Index(1), Index(u64::MAX));
        found.damage.iter().map(|damage| damage.index).collect()
    }

    #[test]
    fn r4_and_r6_a_base_file_of_a_later_release_or_another_log_is_refused_and_nothing_changed() {
        let (memory, ..) = purged();
        let good = read_file(&memory, &base_file());
        let mut later = good.clone();
        later[8..12].copy_from_slice(&2u32.to_le_bytes());
        let crc = crc32fast::hash(&later[..12]).to_le_bytes();
        later[12..16].copy_from_slice(&crc);
        write_file(&memory, &base_file(), &later);
        let before = memory.counts();
        assert!(matches!(refusal(&memory), OpenError::Unsupported { found: 2, supported: 1, .. }));
        assert_eq!(memory.counts(), before);

        let other = MemoryDisk::new();
        let strange = LogOptions { cluster: ClusterId(5), group: GroupId(5), ..options() };
        let mut opened = try_open(&other, &strange).unwrap();
        let entry = EntryId::new(Index(9), Term(1));
        opened.writer.reset(LogBase { entry, position: Position(99), time: LogTime(1), ..LogBase::default() }).unwrap();
        write_file(&memory, &base_file(), &read_file(&other, &base_file()));
        let before = memory.counts();
        assert!(matches!(refusal(&memory), OpenError::Identity { .. }));
        assert_eq!(memory.counts(), before);
    }

    #[test]
    fn r5_the_first_header_of_a_purged_log_is_made_again_from_the_base_file() {
        let (memory, _, bytes) = purged();
        let before = open_log(&memory.fork()).state;
        let path = segments(&memory).remove(0);
        let header = read_file(&memory, &path)[..4096].to_vec();
        memory.flip_byte(&path, 60).unwrap();
        opens_with(&memory, &bytes, Rule::Header);
        let found = read_file(&memory, &path)[..4096].to_vec();
        assert!(found == header, "the clock stands still in this test, so that it is the same to the last byte");
        assert_eq!(open_log(&memory).state, before);
    }

    #[test]
    fn r8_a_lost_front_is_told_from_a_purged_one() {
        let (memory, firsts, bytes) = purged();
        assert!(all_bytes(&open_log(&memory.fork()).reader) == bytes);
        let first = segments(&memory).remove(0);
        let saved = read_file(&memory, &first);
        memory.handle().remove(&first).unwrap();
        let refused = refusal(&memory);
        assert!(matches!(refused, OpenError::LostSegment { index, .. } if index == firsts[0]), "{refused}");
        assert!(
            matches!(examine(&*memory.handle(), &group()), Err(OpenError::LostSegment { index, .. }) if index == firsts[0])
        );
        assert_eq!(damage(&memory), [firsts[0]]);
        write_file(&memory, &first, &saved);
        // Without the base file a purged front looks like a lost one.
        memory.handle().remove(&base_file()).unwrap();
        assert!(matches!(refusal(&memory), OpenError::LostSegment { index: Index(1), .. }));
        assert_eq!(damage(&memory), [Index(1)]);
    }

    #[test]
    fn r8_and_r20_all_segments_lost_are_named_by_where_the_log_began() {
        let (memory, firsts, _) = purged();
        for path in segments(&memory) {
            memory.handle().remove(&path).unwrap();
        }
        for covered in [Index(0), Index(u64::MAX)] {
            let refused = open_covered(&memory, covered).map(drop).unwrap_err();
            assert!(matches!(refused, OpenError::LostSegment { index, .. } if index == firsts[0]), "{refused}");
        }
        memory.handle().remove(&group().join("vote")).unwrap();
        assert!(matches!(refusal(&memory), OpenError::LostVote { .. }), "a base file is no new log");
    }

    #[test]
    fn r23_a_base_file_that_contradicts_the_first_segment_is_refused() {
        let (memory, ..) = purged();
        let (other, firsts) = many_segments();
        let mut opened = open_log(&other);
        opened.writer.purge(firsts[1]).unwrap();
        write_file(&memory, &base_file(), &read_file(&other, &base_file()));
        // The other log began earlier: what stands between was lost from this one.
        assert!(matches!(refusal(&memory), OpenError::LostSegment { index, .. } if index == firsts[1]));
        // A third log began there too, behind an entry of another term.
        let strange = MemoryDisk::new();
        let mut opened = open_log(&strange);
        let entry = EntryId::new(firsts[2].prev(), Term(88));
        opened.writer.reset(LogBase { entry, position: Position(5), ..LogBase::default() }).unwrap();
        write_file(&memory, &base_file(), &read_file(&strange, &base_file()));
        let refused = refusal(&memory);
        assert!(matches!(&refused, OpenError::Corrupt { .. }), "{refused}");
        assert!(refused.to_string().contains("the base file says"), "{refused}");
    }

    #[test]
    fn r26_dropped_segments_that_came_back_are_removed_and_not_looked_at() {
        let (memory, firsts) = many_segments();
        let dropped: Vec<_> =
            segments(&memory).drain(..2).map(|path| (path.clone(), read_file(&memory, &path))).collect();
        let mut opened = open_log(&memory);
        opened.writer.purge(firsts[2]).unwrap();
        let bytes = all_bytes(&opened.reader);
        drop(opened);
        // Any of them may be back, whole or as garbage.
        write_file(&memory, &dropped[1].0, &dropped[1].1);
        write_file(&memory, &dropped[0].0, &[7; 9_000]);
        assert_eq!(damage(&memory), []);
        opens_with(&memory, &bytes, Rule::Dropped);
        assert_eq!(segments(&memory).len(), firsts.len() - 2);
        // The next purge takes along what an earlier one could not remove.
        let mut opened = open_log(&memory);
        write_file(&memory, &dropped[0].0, &dropped[0].1);
        opened.writer.purge(Index(u64::MAX)).unwrap();
        assert_eq!(segments(&memory).len(), 1);
    }

    #[test]
    fn r27_a_reset_that_was_begun_is_carried_out() {
        let (memory, _) = many_segments();
        let mut opened = open_log(&memory);
        let entry = EntryId::new(Index(5_000), Term(9));
        let base = LogBase { entry, position: Position(1 << 30), time: LogTime(9), ..LogBase::default() };
        // The first call of a reset after which the base file stands.
        let mut begun = None;
        for call in 1..20 {
            let fork = memory.fork();
            let mut opened = open_log(&fork);
            fork.cut_power_at(call);
            opened.writer.reset(base.clone()).unwrap_err();
            fork.power_cut(|_| Fate::Lost);
            if fork.handle().list(&group()).unwrap().contains(&"base".to_owned()) {
                begun = Some(fork);
                break;
            }
        }
        let begun = begun.unwrap();
        assert!(segments(&begun).len() >= 4, "nothing is removed yet");
        assert_eq!(damage(&begun), [], "what is discarded is no damage, and the empty log has none");
        assert!(examine(&*begun.handle(), &group()).unwrap().is_sound());
        let found = open_log(&begun);
        assert!(found.report.rules.contains(&Rule::Resetting) && found.report.rules.contains(&Rule::Dropped));
        assert_eq!((found.state.base, found.state.last, found.state.end), (entry, entry, base.position));
        drop(found);
        // Once it is done, the same directory without its segment is a loss.
        begun.handle().remove(&segments(&begun)[0]).unwrap();
        assert!(matches!(refusal(&begun), OpenError::LostSegment { index: Index(5_001), .. }));
        opened.writer.reset(base).unwrap();
        drop(opened);
        memory.handle().remove(&segments(&memory)[0]).unwrap();
        assert!(matches!(refusal(&memory), OpenError::LostSegment { index: Index(5_001), .. }));
    }

    #[test]
    fn r28_segments_missing_below_a_snapshot_block_nothing() {
        let (memory, firsts, bytes) = purged();
        let whole = open_log(&memory.fork()).state;
        let paths = segments(&memory);
        let needs = |memory: &MemoryDisk, lost: Index, covered: Index| {
            let before = memory.counts();
            let refused = open_covered(memory, covered.prev()).map(drop).unwrap_err();
            assert!(matches!(refused, OpenError::LostSegment { index, .. } if index == lost), "{refused}");
            assert_eq!(memory.counts(), before, "a refusal changes nothing");
            let opened = open_covered(memory, covered).unwrap();
            assert!(opened.report.rules.contains(&Rule::Covered));
            assert_eq!((opened.reader.first(), opened.state.last), (covered.next(), whole.last));
            assert!(bytes.ends_with(&all_bytes(&opened.reader)));
            drop(opened);
            // From then on the log itself says where it begins.
            memory.power_cut(|_| Fate::Lost);
            let again = open_log(memory);
            assert_eq!((again.reader.first(), again.state.last), (covered.next(), whole.last));
            assert!(!again.report.rules.contains(&Rule::Covered));
        };
        // The first is gone; one in the middle is, and takes those before it along; and the base file.
        let fork = memory.fork();
        fork.handle().remove(&paths[0]).unwrap();
        needs(&fork, firsts[0], firsts[1].prev());
        let (more, starts) = many_segments();
        more.handle().remove(&segments(&more)[1]).unwrap();
        needs(&more, starts[1], starts[2].prev());
        let fork = memory.fork();
        fork.handle().remove(&base_file()).unwrap();
        needs(&fork, Index(1), firsts[0].prev());
    }

    #[test]
    fn r28_survives_a_power_cut_at_each_of_its_own_steps() {
        let (memory, firsts) = many_segments();
        memory.handle().remove(&segments(&memory)[1]).unwrap();
        memory.handle().sync_dir(&group().join("log")).unwrap();
        let options = LogOptions { covered: firsts[2], ..options() };
        let last = try_open(&memory.fork(), &options).unwrap().state.last;
        for call in 1.. {
            for seed in 0..4 {
                let fork = memory.fork();
                fork.cut_power_at(call);
                if try_open(&fork, &options).is_ok() {
                    assert!(call > 10, "only {call} calls can change the disk");
                    return;
                }
                fork.power_cut(Fate::seeded(seed * 1_000 + call));
                // Without the snapshot the log is the one before, with its gap, or the one behind the gap.
                match try_open(&fork.fork(), LogOptions { covered: Index::ZERO, ..options.clone() }) {
                    Ok(opened) => assert_eq!(opened.reader.first(), firsts[2], "cut at call {call}"),
                    Err(OpenError::LostSegment { index, .. }) => assert_eq!(index, firsts[1], "cut at call {call}"),
                    Err(error) => panic!("cut at call {call}: {error}"),
                }
                let opened = try_open(&fork, &options).unwrap();
                assert_eq!((opened.reader.first(), opened.state.last), (firsts[2], last), "cut at call {call}");
            }
        }
    }

    #[test]
    fn r29_a_base_file_without_a_good_copy_is_refused_unless_a_snapshot_covers_the_front() {
        let (memory, firsts, bytes) = purged();
        memory.flip_byte(&base_file(), 50).unwrap();
        assert!(all_bytes(&open_log(&memory).reader) == bytes, "one copy is enough");
        memory.power_cut(|_| Fate::Lost);
        memory.flip_byte(&base_file(), 4096 + 50).unwrap();
        assert!(all_bytes(&open_log(&memory).reader) == bytes, "and the other was made anew");
        spoil_base_file(&memory);
        let before = memory.counts();
        let refused = refusal(&memory);
        assert!(matches!(&refused, OpenError::Corrupt { path, .. } if *path == base_file()), "{refused}");
        assert!(open_covered(&memory, firsts[0].prev().prev()).is_err());
        assert_eq!(memory.counts(), before);
        assert_eq!(damage(&memory).len(), 1, "the file, and no record");
        let opened = open_covered(&memory, firsts[0].prev()).unwrap();
        assert!(opened.report.rules.contains(&Rule::Covered) && all_bytes(&opened.reader) == bytes);
        memory.power_cut(|_| Fate::Lost);
        assert!(all_bytes(&open_log(&memory).reader) == bytes, "made anew");
    }

    #[test]
    fn repair_of_a_purged_log_keeps_what_stands_before_the_hole_down_to_the_base() {
        let (memory, firsts, bytes) = purged();
        assert!(examine(&*memory.handle(), &group()).unwrap().is_sound());
        for (place, kept) in [(0, firsts[0].prev()), (1, firsts[1].prev())] {
            let fork = memory.fork();
            fork.flip_byte(&segments(&fork)[place], RECORDS + 60).unwrap();
            write_file(&fork, &Path::new(DATA_DIR).join("identity"), &identity_bytes());
            let lock = lock_data_dir(&*fork.handle(), Path::new(DATA_DIR)).unwrap();
            let examined = examine(&*fork.handle(), &group()).unwrap();
            assert_eq!(examined.first_bad(), Some(firsts[place]));
            let away = cut(&*fork.handle(), &lock, GroupId::FIRST).unwrap().unwrap();
            assert_eq!(away.kept.index, kept);
            drop(lock);
            fork.power_cut(|_| Fate::Lost);
            let opened = open_log(&fork);
            assert_eq!((opened.state.base.index.next(), opened.state.last.index), (firsts[0], kept));
            assert!(bytes.starts_with(&all_bytes(&opened.reader)));
        }
    }

    /// The identity file of some node, as another disk has it.
    fn identity_bytes() -> Vec<u8> {
        use dledger::commitlog::{Identity, store_identity};
        let memory = MemoryDisk::new();
        let dir = Path::new(DATA_DIR);
        drop(lock_data_dir(&*memory.handle(), dir).unwrap());
        let members = "1=127.0.0.1:7101".parse().unwrap();
        let identity = Identity {
            node: dledger::types::NodeId(1),
            incarnation: dledger::types::Incarnation(5),
            cluster: Some(ClusterId(0xc1)),
            joined: false,
            members,
        };
        store_identity(&*memory.handle(), dir, &identity).unwrap();
        read_file(&memory, &dir.join("identity"))
    }
}
