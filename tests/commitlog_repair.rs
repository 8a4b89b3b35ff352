//! The way out of a node without peers: what is reported, what a cut keeps, and that nothing is thrown away.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use dledger::commitlog::repair::{CutAway, Examined, cut, examine};
    use dledger::commitlog::{Identity, Rule, WriteBatch, lock_data_dir, open_alone, store_identity};
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::error::OpenError;
    use dledger::types::{ClusterId, EntryId, Epoch, GroupId, Incarnation, Index, NodeId, Term};
    use std::path::{Path, PathBuf};

    /// Bytes of each record.
    const RECORD: u64 = 3048;

    /// The log of several segments of a node with an identity, its bytes, and the first index of each segment.
    fn node() -> (MemoryDisk, Vec<u8>, Vec<Index>) {
        let (memory, firsts) = many_segments();
        let members = "1=localhost:1".parse().unwrap();
        let identity = Identity {
            node: NodeId(1),
            incarnation: Incarnation(9),
            cluster: Some(ClusterId(0xc1)),
            epoch: Epoch::FIRST,
            joined: false,
            members,
        };
        store_identity(&*memory.handle(), Path::new(DATA_DIR), &identity).unwrap();
        let bytes = all_bytes(&open_log(&memory).reader);
        memory.kill_process();
        (memory, bytes, firsts)
    }

    fn look(memory: &MemoryDisk) -> Examined {
        examine(&*memory.handle(), &group()).unwrap()
    }

    fn try_cut(memory: &MemoryDisk) -> Result<Option<CutAway>, OpenError> {
        let disk = memory.handle();
        let lock = lock_data_dir(&*disk, Path::new(DATA_DIR))?;
        cut(&*disk, &lock, GroupId::FIRST)
    }

    /// All files with their bytes.
    fn files(memory: &MemoryDisk, directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let names = memory.handle().list(directory).unwrap();
        names
            .into_iter()
            .map(|name| directory.join(name))
            .map(|path| (path.clone(), read_file(memory, &path)))
            .collect()
    }

    fn spoil(memory: &MemoryDisk, firsts: &[Index], index: u64) -> PathBuf {
        let place = firsts.iter().rposition(|first| first.get() <= index).unwrap();
        let path = segments(memory).remove(place);
        memory.flip_byte(&path, RECORDS + (index - firsts[place].get()) * RECORD + 30).unwrap();
        path
    }

    #[test]
    fn repair_of_a_sound_log_finds_nothing_and_changes_nothing() {
        let (memory, bytes, _) = node();
        let log = group().join("log");
        let before = files(&memory, &log);
        let found = look(&memory);
        assert!(found.is_sound(), "{found:?}");
        assert_eq!((found.last.index.get(), found.committed), (bytes.len() as u64 / RECORD, Index(1)));
        assert_eq!(try_cut(&memory).unwrap(), None);
        assert!(files(&memory, &log) == before);
    }

    #[test]
    fn examine_names_every_hole_with_its_terms_and_changes_nothing() {
        let (memory, _, firsts) = node();
        let bad = [5, 6, firsts[1].get(), firsts[3].get() + 2];
        for index in bad {
            spoil(&memory, &firsts, index);
        }
        let before = files(&memory, &group().join("log"));
        let found = look(&memory);
        let ranges: Vec<(u64, u64)> = found.holes.iter().map(|hole| (hole.first.get(), hole.last.get())).collect();
        assert_eq!(ranges, [(5, 6), (bad[2], bad[2]), (bad[3], bad[3])]);
        assert!(found.holes.iter().all(|hole| hole.identity(hole.first).map(|id| id.term) == Some(Term(1))));
        assert_eq!(found.first_bad(), Some(Index(5)));
        assert!(files(&memory, &group().join("log")) == before);
    }

    /// Whether a survivor's log goes on from its snapshot was judged by other terms than at opening: the footer's were not
    /// used. Its log counted for nothing then, and a worse survivor could be chosen.
    #[test]
    fn examine_knows_the_same_entries_as_opening() {
        let memory = MemoryDisk::new();
        let (mut opened, mut maker) = (open_log(&memory), Maker::new());
        let mut ends = Vec::new();
        for term in [1, 1, 2, 4, 4] {
            opened.writer.write(&maker.batch(term, 1, 200)).unwrap();
            ends.push((maker.last, maker.end));
        }
        let (kept, end) = ends[3];
        let records = vec![Maker::after(kept, end).record(5, 40)];
        let batch = WriteBatch { records, truncate_after: Some(kept), ..WriteBatch::default() };
        opened.writer.write(&batch).unwrap();
        opened.writer.idle(Index(1)).unwrap();
        drop(opened);
        memory.kill_process();
        for index in [2, 3] {
            memory.flip_byte(&segments(&memory)[0], RECORDS + (index - 1) * 248 + 20).unwrap();
        }
        let (examined, opened) = (look(&memory.fork()), open_log(&memory));
        for (entry, there) in [(ends[2].0, true), (EntryId::new(Index(3), Term(1)), false), (kept, true)] {
            assert_eq!([examined.has(entry), opened.state.has(entry)], [there; 2], "{entry}");
        }
    }

    #[test]
    fn cut_keeps_everything_before_the_hole_and_the_files_as_they_were() {
        let (memory, bytes, firsts) = node();
        for index in [2, 20, firsts[1].get(), firsts[1].get() + 3, firsts[3].get(), firsts[3].get() + 4] {
            let fork = memory.fork();
            spoil(&fork, &firsts, index);
            let before = files(&fork, &group().join("log"));
            let last = look(&fork).last;
            let done = try_cut(&fork).unwrap().unwrap();
            assert_eq!((done.kept.index.get(), done.last, done.committed), (index - 1, last, Index(1)), "{index}");
            let aside = files(&fork, done.aside.as_ref().unwrap());
            assert!(!aside.is_empty());
            for (path, copied) in aside {
                let original = before.iter().find(|(file, _)| file.file_name() == path.file_name()).unwrap();
                assert!(original.1 == copied, "{index}: {path:?}");
            }
            fork.power_cut(|_| Fate::Lost);
            let mut opened = open_log(&fork);
            assert!(opened.state.holes.is_empty() && !opened.report.rules.contains(&Rule::Hole));
            assert_eq!((opened.state.last, opened.state.last_in_doubt), (done.kept, None));
            let kept = &bytes[..((index - 1) * RECORD) as usize];
            assert!(all_bytes(&opened.reader) == kept, "{index}");
            let mut maker = Maker::after(opened.state.last, opened.state.end);
            opened.writer.write(&maker.batch(9, 2, 40)).unwrap();
            fork.power_cut(|_| Fate::Lost);
            assert_eq!(open_log(&fork).state.last, maker.last);
            assert!(look(&fork).is_sound());
        }
    }

    #[test]
    fn cut_before_a_lost_segment_keeps_what_stands_before_it() {
        let (memory, bytes, firsts) = node();
        for place in [1, 2, 3] {
            let fork = memory.fork();
            fork.handle().remove(&segments(&fork)[place]).unwrap();
            assert!(matches!(try_open(&fork, options()), Err(OpenError::LostSegment { .. })));
            assert_eq!((look(&fork).lost, look(&fork).first_bad()), (Some(firsts[place]), Some(firsts[place])));
            try_cut(&fork).unwrap().unwrap();
            fork.power_cut(|_| Fate::Lost);
            assert!(all_bytes(&open_log(&fork).reader) == bytes[..((firsts[place].get() - 1) * RECORD) as usize]);
        }
    }

    #[test]
    fn cut_with_nothing_before_the_damage_is_refused_and_changes_nothing() {
        let (memory, _, firsts) = node();
        spoil(&memory, &firsts, 1);
        let before = files(&memory, &group().join("log"));
        let refused = try_cut(&memory).unwrap_err();
        assert!(matches!(&refused, OpenError::Corrupt { index: Index(1), .. }), "{refused}");
        assert!(files(&memory, &group().join("log")) == before);
    }

    #[test]
    fn cut_ends_the_doubt_about_the_last_entry() {
        let (memory, bytes, _) = node();
        let path = segments(&memory).pop().unwrap();
        memory.flip_byte(&path, 4096 + 9).unwrap();
        memory.flip_byte(&path, 8192 + 9).unwrap();
        assert!(look(&memory).last_in_doubt.is_some());
        assert!(open_log(&memory).state.last_in_doubt.is_some());
        memory.kill_process();
        let done = try_cut(&memory).unwrap().unwrap();
        assert_eq!((done.kept, done.aside), (done.last, None));
        let opened = open_log(&memory);
        assert_eq!(opened.state.last_in_doubt, None);
        assert!(all_bytes(&opened.reader) == bytes);
    }

    #[test]
    fn repair_is_refused_while_a_node_holds_the_directory() {
        let (memory, _, firsts) = node();
        spoil(&memory, &firsts, 3);
        let disk = memory.handle();
        let _node = lock_data_dir(&*disk, Path::new(DATA_DIR)).unwrap();
        assert!(matches!(try_cut(&memory), Err(OpenError::Locked { .. })));
    }

    #[test]
    fn cut_struck_by_a_power_cut_leaves_the_log_as_it_was_or_cut_with_its_copies() {
        let (memory, bytes, firsts) = node();
        let index = firsts[2].get() + 1;
        spoil(&memory, &firsts, index);
        let last = look(&memory).last;
        let mut outcomes = [0; 2];
        for call in 1.. {
            for seed in 0..3 {
                let fork = memory.fork();
                fork.cut_power_at(call);
                let done = try_cut(&fork).is_ok();
                if done && !fork.is_off() {
                    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
                    return;
                }
                fork.power_cut(Fate::seeded(call * 10 + seed));
                let found = look(&fork);
                let cut = found.is_sound();
                outcomes[usize::from(cut)] += 1;
                if cut {
                    assert_eq!(found.last.index.get(), index - 1);
                    let names = fork.handle().list(&group()).unwrap();
                    let aside = names.iter().find(|name| name.starts_with("damaged-")).unwrap();
                    let copies = files(&fork, &group().join(aside));
                    assert_eq!(copies.len(), 2, "call {call}, seed {seed}");
                    for (path, copy) in copies {
                        let original = group().join("log").join(path.file_name().unwrap());
                        assert!(copy == read_file(&memory, &original), "call {call}, seed {seed}: {path:?}");
                    }
                } else {
                    assert_eq!((found.last, found.first_bad()), (last, Some(Index(index))), "call {call}, seed {seed}");
                }
                try_cut(&fork).unwrap();
                assert!(all_bytes(&open_log(&fork).reader) == bytes[..((index - 1) * RECORD) as usize]);
            }
        }
    }

    /// A repaired log without slots was refused as before: the only test let a node with peers make the slots anew first,
    /// and a node without peers never gets that far.
    #[test]
    fn cut_of_a_log_without_slots_lets_a_node_without_peers_start() {
        let (memory, bytes, _) = node();
        let path = segments(&memory).pop().unwrap();
        memory.flip_byte(&path, 4096 + 9).unwrap();
        memory.flip_byte(&path, 8192 + 9).unwrap();
        assert!(open_alone(memory.handle(), &group(), options()).is_err());
        for call in 1.. {
            let fork = memory.fork();
            fork.cut_power_at(call);
            let struck = try_cut(&fork).is_err() || fork.is_off();
            fork.power_cut(Fate::seeded(call));
            assert!(look(&fork).is_sound() || struck, "call {call}");
            try_cut(&fork).unwrap();
            let opened = open_alone(fork.handle(), &group(), options()).unwrap();
            assert!(all_bytes(&opened.reader) == bytes, "call {call}");
            if !struck {
                assert!(call > 5, "only {call} calls");
                break;
            }
        }
        let done = try_cut(&memory).unwrap().unwrap();
        assert_eq!((done.kept, done.aside), (done.last, None));
        assert!(look(&memory).is_sound(), "{:?}", look(&memory));
        memory.power_cut(|_| Fate::Lost);
        let opened = open_alone(memory.handle(), &group(), options()).unwrap();
        assert_eq!((opened.state.last, opened.state.last_in_doubt), (done.kept, None));
        assert!(all_bytes(&opened.reader) == bytes);
    }
}
