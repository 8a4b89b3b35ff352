//! The scrub: reads everything once in a while, a bounded step at a time, to find damage before it is needed.
//!
//! ```text
//!   scrub(from) ─► blocks of the segment, where a segment starts ─► records, verified by pread ─► next
//!                        └── bad: BadBlock, for LogWriter::mend_block    └── bad: Hole, for WriteBatch::mend
//! ```
//! Any thread may scrub beside readers and the writer. Deliberately absent: when to take the next step, and who has
//! the records that mend a hole. Limit: bytes that the machine holds in memory are verified there and not on the disk.

use std::path::PathBuf;

use bytes::Bytes;

use super::hole::Hole;
use super::reader::{LogReader, Part};
use super::scan::Scanner;
use crate::types::{EntryId, Index, Term};

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Region {
    /// The header of a segment.
    Header,
    /// A progress slot.
    Slot,
    /// The footer of a sealed segment.
    Footer,
    /// An index file.
    Index,
    /// Term and vote.
    Vote,
    /// Where the log begins.
    Base,
}

/// A block beside the records that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBlock {
    /// The file.
    pub path: PathBuf,
    /// Byte offset in it.
    pub offset: u64,
    /// What it is for.
    pub region: Region,
    /// What is wrong, for a person.
    pub reason: String,
    /// What makes it good again: bytes and where they go. Empty when the writer knows by itself, or nobody does.
    pub(super) remedy: Vec<(u64, Bytes)>,
}

/// What one step of the scrub has read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where the next step starts; the first index again when this one came to the end of the log.
    pub next: Index,
    /// This step came to the end of the log.
    pub at_end: bool,
    /// Bytes of records that were verified.
    pub bytes: u64,
    /// The holes in what was read, those known before included.
    pub holes: Vec<Hole>,
    /// Bad blocks beside the records.
    pub blocks: Vec<BadBlock>,
}

impl LogReader {
    /// Verifies the log from an index on, about `max_bytes` of it, and what stands around the records of each segment
    /// that starts there. What is found is known to readers from then on. Blocks on the disk.
    #[must_use]
    pub fn scrub(&self, from: Index, max_bytes: u64) -> Scrubbed {
        let view = self.shared.view.load_full();
        let first = view.base.index.next();
        let mut step = Scrubbed { next: from.max(first), ..Scrubbed::default() };
        if step.next == first {
            step.blocks.extend(self.bad_vote().into_iter().chain(self.bad_base()));
        }
        for (place, part) in view.parts.iter().enumerate() {
            let (starts, last) = (part.segment.header.first(), part.last());
            let behind = view.parts.get(place + 1);
            if last < step.next && !(behind.is_none() && starts == step.next) {
                continue;
            }
            if starts == step.next {
                step.blocks.extend(self.bad_blocks(part, behind.map(|part| &part.segment.header)));
            }
            self.scrub_part(part, &mut step, max_bytes);
            if step.next <= last {
                return step;
            }
        }
        Scrubbed { next: first, at_end: true, ..step }
    }

    /// Verifies records up to the end of the part, or until enough was read.
    fn scrub_part(&self, part: &Part, step: &mut Scrubbed, max_bytes: u64) {
        let segment = &*part.segment;
        let disk = &*self.shared.disk;
        let last = part.last();
        while step.next <= last && step.bytes < max_bytes {
            let hole = self.shared.known.from(step.next).filter(|hole| hole.first <= last);
            if let Some(hole) = hole.as_ref().filter(|hole| hole.holds(step.next)) {
                // Where the terms are not known a leader's records may have been put behind another's entry by now: only
                // whoever can prove that he has the same log mends that.
                if hole.unknown().is_some() || !self.has_healed(hole) {
                    step.holes.push(hole.clone());
                }
                step.next = hole.last.next();
                continue;
            }
            let until = hole.map_or(last, |hole| hole.first.prev());
            let (Some((start, _)), Some(end)) = (segment.bounds(disk, step.next), segment.end(disk, until)) else {
                self.look_closer(step);
                continue;
            };
            let after = (EntryId::new(step.next.prev(), Term(0)), segment.header.position_of(start));
            let mut scanner = Scanner::at(&*segment.file, end, start, after);
            while step.bytes < max_bytes {
                match scanner.next() {
                    // In order, and yet not what was written there: one that was replaced has come back.
                    Ok(Some(found)) if !segment.holds_at(found.offset, step.next, &found.header) => {
                        self.look_closer(step);
                        break;
                    }
                    Ok(Some(found)) => {
                        step.bytes += found.bytes.len() as u64;
                        step.next = found.header.id.index.next();
                    }
                    Ok(None) => break,
                    Err(_) => {
                        self.look_closer(step);
                        break;
                    }
                }
            }
            if step.next <= until && scanner.offset() >= end {
                self.look_closer(step);
            }
        }
    }

    /// One record cannot be read: it belongs to a hole, or it can be read after all.
    fn look_closer(&self, step: &mut Scrubbed) {
        match self.hole_at(step.next) {
            Some(hole) => {
                step.next = hole.last.next();
                step.holes.push(hole);
            }
            None => step.next = step.next.next(),
        }
    }
}
