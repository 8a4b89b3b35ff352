//! The blocks around the records: whether they can still be read, and what to write over those that cannot.
//!
//! | block | needed for | made again from |
//! |---|---|---|
//! | header | opening (R5 does without) | what this process has in memory |
//! | footer | opening without a scan (R10 does without) | the records, when all of them are good |
//! | slots of the last segment | telling a torn write from damage | the writer's progress |
//! | index file | finding a record | the records; done at once, nothing relies on it |
//! | vote | starting at all | the writer's vote |
//! | base | telling a dropped front from a lost one | what the writer knows |
//!
//! Found by whoever scrubs, on any thread; written by the writer ([`LogWriter::mend_block`]). Deliberately absent: the
//! records, which `examine` and `mend` look after.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::base;
use super::live::LiveSegment;
use super::meta;
use super::poison::{LogFault, broken};
use super::reader::{LogReader, Part};
use super::scrub::{BadBlock, Region};
use super::segment::header::SegmentHeader;
use super::segment::slots::Slot;
use super::segment::{BLOCK_BYTES, block_aligned};
use super::survey::read_footer;
use super::tail::SLOT_READ_BYTES;
use super::walk::{Limit, walk};
use super::writer::{Active, LogWriter};
use crate::env::OpenMode;
use crate::failure::is_full;

impl LogReader {
    /// What is bad around the records of a part. `next` is the header of the one behind it.
    pub(super) fn bad_blocks(&self, part: &Part, next: Option<&SegmentHeader>) -> Vec<BadBlock> {
        let segment = &*part.segment;
        let mut bad: Vec<BadBlock> = header(segment).into_iter().collect();
        match next {
            None => bad.extend(slots(segment)),
            // A footer vouches for every record, and bytes of a hole may read well again and not be this log's any more.
            Some(next) if self.has_hole(segment, next) => {}
            Some(next) => bad.extend(footer(segment, next)),
        }
        let disk = &*self.shared.disk;
        if segment.has_bad_index(disk) {
            let reason = match segment.renew_index(disk) {
                Ok(()) => "it does not match its checksum; it was made anew".to_owned(),
                Err(error) => format!("it does not match its checksum and cannot be made anew: {error}"),
            };
            let path = segment.index_path.clone();
            bad.push(BadBlock { path, offset: 0, region: Region::Index, reason, remedy: Vec::new() });
        }
        bad
    }

    /// Whether a hole is known in a segment before `next`.
    fn has_hole(&self, segment: &LiveSegment, next: &SegmentHeader) -> bool {
        self.shared.known.from(segment.header.first()).is_some_and(|hole| hole.first < next.first())
    }

    /// Whether a copy of term and vote is bad.
    pub(super) fn bad_vote(&self) -> Option<BadBlock> {
        let (path, offset) = meta::bad_copy(&*self.shared.disk, &self.group_dir()?)?;
        let reason = "a copy of term and vote cannot be read".to_owned();
        Some(BadBlock { path, offset, region: Region::Vote, reason, remedy: Vec::new() })
    }

    /// Whether a copy of where the log begins is bad, when it does not begin with index 1.
    pub(super) fn bad_base(&self) -> Option<BadBlock> {
        if self.shared.view.load().base.index.is_zero() {
            return None;
        }
        let (path, offset) = base::bad_copy(&*self.shared.disk, &self.group_dir()?)?;
        let reason = "a copy of where the log begins cannot be read".to_owned();
        Some(BadBlock { path, offset, region: Region::Base, reason, remedy: Vec::new() })
    }

    fn group_dir(&self) -> Option<PathBuf> {
        let view = self.shared.view.load();
        Some(view.parts.first()?.segment.path.parent()?.parent()?.to_owned())
    }
}

fn header(segment: &LiveSegment) -> Option<BadBlock> {
    let wanted = segment.header.encode();
    let mut found = vec![0; wanted.len()];
    let reason = match segment.file.read_exact_at(&mut found, 0) {
        Ok(()) if found == wanted => return None,
        Ok(()) => "it is not what it was".to_owned(),
        Err(error) => error.to_string(),
    };
    let remedy = vec![(0, Bytes::from(wanted))];
    Some(BadBlock { path: segment.path.clone(), offset: 0, region: Region::Header, reason, remedy })
}

fn slots(segment: &LiveSegment) -> Option<BadBlock> {
    // A slot that is being written now may look torn: it is read once more.
    let bad = |slot: u64| {
        let mut bytes = [0; SLOT_READ_BYTES];
        let read = |bytes: &mut [u8]| segment.file.read_exact_at(bytes, segment.header.slot_offset(slot)).ok();
        (0..2).all(|_again| read(&mut bytes).and_then(|()| Slot::decode(&bytes, segment.header.generation)).is_none())
    };
    let slot = (0..2).find(|slot| bad(*slot))?;
    let (path, offset) = (segment.path.clone(), segment.header.slot_offset(slot));
    let reason = "the progress slot cannot be read".to_owned();
    Some(BadBlock { path, offset, region: Region::Slot, reason, remedy: Vec::new() })
}

/// A segment with a hole has no footer, and needs none before it is whole.
fn footer(segment: &LiveSegment, next: &SegmentHeader) -> Option<BadBlock> {
    let length = segment.file.len().ok()?;
    if read_footer(&*segment.file, &segment.header, length).is_some() {
        return None;
    }
    let remedy = new_footer(segment, next, length)?;
    let (path, offset) = (segment.path.clone(), segment.header.footer_offset());
    let reason = "the footer cannot be read".to_owned();
    Some(BadBlock { path, offset, region: Region::Footer, reason, remedy })
}

/// The footer of a segment whose records are all good. Its body goes behind everything that was ever written.
fn new_footer(segment: &LiveSegment, next: &SegmentHeader, length: u64) -> Option<Vec<(u64, Bytes)>> {
    let limit = Limit { last: next.previous, offset: segment.header.offset_of(next.first_position)? };
    let walked = walk(&*segment.file, &segment.path, &segment.header, Some(limit), length).ok()?;
    if !walked.holes.is_empty() || !segment.learn_terms(&walked.summary.runs, limit.last.index) {
        return None;
    }
    let body = walked.summary.encode_body();
    let body_offset = block_aligned(length);
    let mut head = walked.summary.encode_head(segment.header.generation, body_offset, &body);
    head.resize(BLOCK_BYTES, 0);
    Some(vec![(body_offset, body.into()), (segment.header.footer_offset(), head.into())])
}

impl LogWriter {
    /// Writes a block again that the scrub has found bad, durable when this returns. Does nothing when the block is of a
    /// segment that is gone, cannot be made again, or when the disk has no room: the next round of the scrub tells.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn mend_block(&mut self, block: &BadBlock) -> Result<(), LogFault> {
        self.poison.check()?;
        let mended = match block.region {
            Region::Index => Ok(()),
            Region::Vote => self.renew_vote(),
            Region::Slot => self.renew_slots(),
            Region::Base => self.renew_base(),
            Region::Header | Region::Footer => self.write_blocks(block),
        };
        self.poison.note(mended)
    }

    /// Over both pairs of copies in turn, each under a sync of its own.
    fn renew_vote(&mut self) -> Result<(), LogFault> {
        let vote = self.vote.vote();
        for _pair in 0..2 {
            self.vote.write(vote, self.plants).map_err(|error| broken("writing term and vote", &error))?;
        }
        Ok(())
    }

    fn renew_base(&self) -> Result<(), LogFault> {
        let group_dir = self.log_dir.parent().unwrap_or(&self.log_dir);
        match base::store(&*self.disk, group_dir, self.owner(), &self.start) {
            Err(error) if is_full(&error) => Ok(()),
            stored => stored.map_err(|error| broken("writing where the log begins", &error)),
        }
    }

    /// Each under a sync of its own, so that one of them is good at any time.
    fn renew_slots(&mut self) -> Result<(), LogFault> {
        for _slot in 0..2 {
            self.sync()?;
            self.next_slot();
            self.fill_slot()?;
            self.dirty = true;
        }
        self.sync()
    }

    /// Writes the rest of the newest slot's block too: a sector that cannot be read can only be written as a whole.
    fn fill_slot(&self) -> Result<(), LogFault> {
        let Active { segment, slot, .. } = &self.active;
        let mut block = slot.encode(segment.header.generation);
        block.resize(BLOCK_BYTES, 0);
        let written = segment.file.write_all_at(&[IoSlice::new(&block)], segment.header.slot_offset(slot.sequence));
        written.map_err(|error| broken(&segment.path.display().to_string(), &error))
    }

    fn write_blocks(&mut self, block: &BadBlock) -> Result<(), LogFault> {
        let view = self.shared.view.load_full();
        let part = view.parts.iter().find(|part| part.segment.path == block.path);
        let Some(segment) = part.map(|part| &part.segment) else { return Ok(()) };
        let active = Arc::ptr_eq(segment, &self.active.segment);
        if block.remedy.is_empty() || active && block.region == Region::Footer {
            return Ok(());
        }
        let failed = |error: &io::Error| broken(&segment.path.display().to_string(), error);
        let opened = if active { Ok(segment.file.clone()) } else { self.disk.open(&segment.path, OpenMode::Write) };
        let file = opened.map_err(|error| failed(&error))?;
        for (offset, bytes) in &block.remedy {
            match file.write_all_at(&[IoSlice::new(bytes)], *offset) {
                Err(error) if is_full(&error) => return Ok(()),
                written => written.map_err(|error| failed(&error))?,
            }
        }
        file.sync().map_err(|error| failed(&error))
    }
}
