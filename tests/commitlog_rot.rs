//! Every byte of a small log rots, one at a time: it is noticed or provably harmless, nothing acknowledged is lost or
//! changed, and what was mended is byte for byte what it was.

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use super::commitlog_support::*;
    use bytes::Bytes;
    use dledger::commitlog::{LogOptions, LogReader, Opened, Rule, Scrubbed, WriteBatch};
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::types::{EntryId, Index, Kind, NodeId, Term, Vote};
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    /// Membership records in the small log.
    const MEMBERSHIPS: usize = 3;
    const VOTE: Vote = Vote { term: Term(7), voted_for: NodeId(3) };

    /// Segments with little room behind their records, so that thousands of openings are quick.
    fn small_options() -> LogOptions {
        LogOptions { segment_bytes: 20 << 10, ..options() }
    }

    fn open_small(memory: &MemoryDisk) -> Opened {
        try_open(memory, small_options()).unwrap()
    }

    /// What of a file a byte belongs to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Place {
        Header,
        Slot,
        FooterHead,
        FooterBody,
        Record,
        Index,
        Vote,
        Base,
    }

    struct Small {
        memory: MemoryDisk,
        /// From position 0 on, what was purged included.
        bytes: Vec<u8>,
        /// Where the log begins in them.
        base: usize,
        last: EntryId,
    }

    impl Small {
        /// Whether a log is byte for byte what it was.
        fn is(&self, reader: &LogReader) -> bool {
            all_bytes(reader) == self.bytes[self.base..]
        }
    }

    /// The same without its first segment.
    fn purged_small() -> Small {
        let small = small();
        let mut opened = open_small(&small.memory);
        opened.writer.purge(Index(3)).unwrap();
        assert_eq!(opened.reader.first(), Index(4));
        opened.writer.idle(Index(3)).unwrap();
        let base = opened.writer.base().position.get() as usize;
        drop(opened);
        small.memory.kill_process();
        Small { base, ..small }
    }

    /// Three segments, two of them cut short by a conflict and sealed, with several terms and two memberships.
    fn small() -> Small {
        let memory = MemoryDisk::new();
        let mut opened = open_small(&memory);
        let mut maker = Maker::new();
        for term in 1..=7 {
            let vote = Some(Vote { term: Term(term), ..VOTE });
            opened.writer.write(&WriteBatch { vote, ..WriteBatch::default() }).unwrap();
        }
        let member = maker.of_kind(1, Kind::Membership, b"1=a,2=b,3=c");
        let mut bytes = member.to_vec();
        let mut records = vec![member];
        for (term, length) in [(1, 13), (2, 30)] {
            records.push(maker.record(term, length));
            bytes.extend_from_slice(records.last().unwrap());
        }
        let kept = maker;
        records.push(maker.record(2, 40));
        opened.writer.write(&WriteBatch { records, ..WriteBatch::default() }).unwrap();
        let mut maker = kept;
        for term in [3, 4] {
            let truncate_after = Some(maker.last);
            let mut records = vec![maker.record(term, 20), maker.of_kind(term, Kind::Membership, b"1=a,2=b")];
            records.push(maker.record(term, 0));
            bytes.extend(records.concat());
            let kept = maker;
            // One more, which the next conflict cuts away; the last one stays.
            records.push(maker.record(term, 25));
            opened
                .writer
                .write(&WriteBatch { truncate_after, records: records.clone(), ..WriteBatch::default() })
                .unwrap();
            if term == 3 {
                maker = kept;
            } else {
                bytes.extend_from_slice(&records[3]);
            }
        }
        opened.writer.idle(Index(3)).unwrap();
        prepare_all(&mut opened.writer);
        assert!(all_bytes(&opened.reader) == bytes);
        memory.kill_process();
        assert_eq!(open_small(&memory).state.memberships.len(), MEMBERSHIPS);
        memory.kill_process();
        Small { memory, bytes, base: 0, last: maker.last }
    }

    /// Every byte that means something, with the file it is in.
    fn places(small: &Small) -> Vec<(PathBuf, u64, Place)> {
        let mut places = Vec::new();
        let mut add = |path: &PathBuf, from: u64, count: u64, place: Place| {
            places.extend((from..from + count).map(|offset| (path.clone(), offset, place)));
        };
        let paths = segments(&small.memory);
        assert_eq!(paths.len(), if small.base == 0 { 3 } else { 2 });
        for path in &paths {
            let file = read_file(&small.memory, path);
            let field = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            add(path, 0, u64::from(field(20)), Place::Header);
            add(path, 4096, 52, Place::Slot);
            add(path, 8192, 52, Place::Slot);
            let mut at = RECORDS as usize;
            let mut index = u64::from_le_bytes(file[56..64].try_into().unwrap());
            let next: u64 = paths
                .iter()
                .skip_while(|other| *other != path)
                .nth(1)
                .map_or(u64::MAX, |next| next.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap());
            while field(at + 4) > 0 && index < next {
                add(path, at as u64, u64::from(field(at + 4)), Place::Record);
                at += field(at + 4) as usize;
                index += 1;
            }
            if next < u64::MAX {
                add(path, FOOTER as u64, 76, Place::FooterHead);
                let body = u64::from_le_bytes(file[FOOTER + 48..FOOTER + 56].try_into().unwrap());
                add(path, body, u64::from(field(FOOTER + 56)), Place::FooterBody);
                let index = path.with_extension("idx");
                add(&index, 0, read_file(&small.memory, &index).len() as u64, Place::Index);
            }
        }
        for slot in 0..4 {
            add(&group().join("vote"), slot * 4096, 68, Place::Vote);
        }
        for copy in (0..2).filter(|_copy| small.base > 0) {
            add(&group().join("base"), copy * 4096, 93 + 11 + 4, Place::Base);
        }
        places
    }

    fn round(reader: &LogReader) -> Scrubbed {
        let found = reader.scrub(reader.first(), u64::MAX);
        assert!(found.at_end);
        found
    }

    /// Nothing is shown that was not written, what cannot be shown is a hole with the right identity.
    fn check_reads(small: &Small, reader: &LogReader, what: &str) {
        let whole = Bytes::from(small.bytes.clone());
        for record in dledger::commitlog::split(&whole, u32::MAX) {
            let record = record.unwrap();
            let id = record.header().id;
            if record.header().position.get() < small.base as u64 {
                continue;
            }
            match reader.read(id.index) {
                Ok(read) => assert_eq!(read.bytes(), record.bytes(), "{what}"),
                Err(_) => {
                    if let Some(hole) = reader.hole_at(id.index) {
                        assert!(hole.identity(id.index).is_none_or(|known| known == id), "{what}: {hole:?}");
                        assert!(hole.position <= record.header().position && record.header().end() <= hole.end);
                    }
                }
            }
        }
    }

    /// Mends everything that a round finds, from the intact copy; then the log is as it was.
    fn mend_all(small: &Small, opened: &mut Opened, what: &str) -> Scrubbed {
        let found = round(&opened.reader);
        for hole in &found.holes {
            let piece = small.bytes[hole.position.get() as usize..hole.end.get() as usize].to_vec();
            opened.writer.write(&WriteBatch { mend: vec![piece.into()], ..WriteBatch::default() }).unwrap();
        }
        // Blocks that a hole kept from being made again can be now.
        for block in round(&opened.reader).blocks.iter().chain(&found.blocks) {
            opened.writer.mend_block(block).unwrap();
        }
        let again = round(&opened.reader);
        assert!(again.holes.is_empty() && again.blocks.is_empty(), "{what}: {again:?}");
        assert!(small.is(&opened.reader), "{what}");
        found
    }

    /// Flips each byte of some places of a log that nobody has open; says for each place how many there were, and how
    /// many of them were noticed.
    fn rot_while_closed(small: &Small, wanted: impl Fn(Place) -> bool) -> BTreeMap<Place, (u32, u32)> {
        let mut noticed: BTreeMap<Place, (u32, u32)> = BTreeMap::new();
        for (path, offset, place) in places(small).into_iter().filter(|(_, _, place)| wanted(*place)) {
            let what = format!("{place:?} byte {offset} of {}", path.display());
            let fork = small.memory.fork();
            fork.flip_byte(&path, offset).unwrap();
            let mut opened = try_open(&fork, small_options()).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!((opened.state.last, opened.state.last_in_doubt.clone()), (small.last, None), "{what}");
            assert_eq!(opened.state.vote, VOTE, "{what}");
            if place != Place::Record {
                assert_eq!(opened.state.memberships.len(), MEMBERSHIPS, "{what}");
                assert!(opened.state.holes.is_empty(), "{what}");
            }
            check_reads(small, &opened.reader, &what);
            let told = [Rule::Header, Rule::Hole, Rule::Unsealed, Rule::Copied]
                .iter()
                .any(|rule| opened.report.rules.contains(rule));
            let found = mend_all(small, &mut opened, &what);
            let count = noticed.entry(place).or_default();
            count.0 += 1;
            count.1 += u32::from(told || !found.holes.is_empty() || !found.blocks.is_empty());
            assert_eq!(place == Place::Record, !found.holes.is_empty(), "{what}");
            fork.power_cut(|_| Fate::Lost);
            let opened = open_small(&fork);
            assert!(opened.state.holes.is_empty() && small.is(&opened.reader), "{what}");
            assert_eq!(opened.state.memberships.len(), MEMBERSHIPS, "{what}");
            assert!(!opened.report.rules.contains(&Rule::Header), "{what}");
        }
        noticed
    }

    #[test]
    fn rot_of_any_one_byte_of_a_record_is_a_hole_and_mended() {
        let noticed = rot_while_closed(&small(), |place| place == Place::Record);
        let (bytes, told) = noticed[&Place::Record];
        assert!(bytes > 500 && told == bytes, "{told} of {bytes}");
    }

    #[test]
    fn rot_of_any_one_byte_around_the_records_is_noticed_or_harmless_and_mended() {
        // What is not noticed is harmless: slots of sealed segments, which nobody reads; the copies of the vote, which
        // opening makes anew; an index file, which is made anew when it is asked for. Without the newer slot the older
        // one counts, and what stands above it is copied.
        for (place, (bytes, told)) in rot_while_closed(&small(), |place| place != Place::Record) {
            match place {
                Place::Header | Place::FooterHead | Place::FooterBody | Place::Record => {
                    assert_eq!(told, bytes, "{place:?}");
                }
                Place::Slot => assert_eq!((bytes, told), (3 * 104, 104)),
                Place::Index => assert!(bytes > 100),
                Place::Vote => assert_eq!((bytes, told), (4 * 68, 0)),
                Place::Base => panic!("nothing was purged"),
            }
        }
    }

    #[test]
    fn rot_of_any_one_byte_of_a_purged_log_is_noticed_or_harmless_and_mended() {
        // The base file stands in for what would have vouched for the first header; its own copies are made anew.
        for (place, (bytes, told)) in rot_while_closed(&purged_small(), |_all| true) {
            match place {
                Place::Header | Place::FooterHead | Place::FooterBody | Place::Record => {
                    assert_eq!(told, bytes, "{place:?}");
                }
                Place::Slot => assert_eq!((bytes, told), (2 * 104, 104)),
                Place::Index => assert!(bytes > 50),
                Place::Vote => assert_eq!((bytes, told), (4 * 68, 0)),
                Place::Base => assert_eq!((bytes, told), (2 * 108, 0)),
            }
        }
    }

    #[test]
    fn rot_of_every_fourth_byte_of_an_open_log_is_found_by_the_scrub_and_mended() {
        let small = small();
        for (path, offset, place) in places(&small).into_iter().step_by(4) {
            let what = format!("{place:?} byte {offset} of {}", path.display());
            let fork = small.memory.fork();
            let mut opened = open_small(&fork);
            fork.flip_byte(&path, offset).unwrap();
            check_reads(&small, &opened.reader, &what);
            let found = mend_all(&small, &mut opened, &what);
            assert_eq!(place == Place::Record, !found.holes.is_empty(), "{what}");
            if matches!(place, Place::Header | Place::FooterHead | Place::FooterBody) {
                assert_eq!(found.blocks.len(), 1, "{what}");
            }
            fork.power_cut(|_| Fate::Lost);
            let opened = open_small(&fork);
            assert_eq!((opened.state.last, opened.state.vote), (small.last, VOTE), "{what}");
            assert!(opened.state.holes.is_empty() && small.is(&opened.reader), "{what}");
        }
    }
}
