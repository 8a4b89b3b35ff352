//! The segments of a log, fitted together: it begins where it must, and each segment ends where the next one starts.
//!
//! ```text
//!   base file ──► │ sealed │ sealed │ no footer │ last │        a gap or a wrong start: lost (R8), unless a snapshot
//!                 └ first  └─ R9    └─ R10      └ tail            covers everything before what is left (R28)
//! ```
//! Reads only. Deliberately absent: the records of the last segment; that is `tail`.

use std::path::Path;

use super::base::{self, Start};
use super::hole::Hole;
use super::layout::SegmentName;
use super::recovery::{RecoveryReport, Rule};
use super::roll::MAX_SEGMENT_BYTES;
use super::segment::footer::Summary;
use super::segment::header::SegmentHeader;
use super::survey::Segment;
use super::walk::{Limit, walk};
use crate::error::OpenError;
use crate::types::{EntryId, Index};

/// A segment that is not the last one: what is known of the records up to the next one.
pub(super) struct Closed {
    pub(super) segment: Segment,
    pub(super) summary: Summary,
    /// The entry after which the next segment starts.
    pub(super) limit: EntryId,
    /// Its records up to the next segment, when they had to be read.
    pub(super) scanned: Option<Scanned>,
}

/// What reading a closed segment has shown.
pub(super) struct Scanned {
    /// Where each record ends; 0 inside a hole where that is not known.
    pub(super) ends: Vec<u32>,
    pub(super) holes: Vec<Hole>,
}

/// The segments of a log, each fitted to its neighbours.
pub(super) struct Chain {
    /// Where the log begins, which is further on than it was told when `dropped` is not empty.
    pub(super) start: Start,
    pub(super) closed: Vec<Closed>,
    pub(super) last: Segment,
    /// Segments before a gap that nobody needs to be filled.
    pub(super) dropped: Vec<SegmentName>,
}

/// What is known of where a log begins.
pub(super) struct Front {
    /// What the base file says; without one a log begins with index 1.
    pub(super) start: Start,
    /// Why the base file cannot be read, when it cannot.
    pub(super) unreadable: Option<OpenError>,
    /// Entries up to this one are not needed: a verified snapshot holds what they made.
    pub(super) covered: Index,
}

/// Takes the segments apart into the closed ones, which are checked against their neighbours, and the last.
pub(super) fn chain(
    log_dir: &Path,
    segments: Vec<Segment>,
    front: Front,
    report: &mut RecoveryReport,
) -> Result<Chain, OpenError> {
    let lost = |index: Index| OpenError::LostSegment { path: log_dir.to_owned(), index };
    let covered = front.covered;
    let mut segments = segments.into_iter();
    let mut segment = segments.next().ok_or_else(|| lost(front.start.base.first()))?;
    let mut start = begin(log_dir, &segment, front, report)?;
    let (mut closed, mut dropped): (Vec<Closed>, Vec<SegmentName>) = (Vec::new(), Vec::new());
    for next in segments {
        match close(log_dir, &segment, &next.header, report) {
            // R28
            Err(OpenError::LostSegment { .. }) if next.header.previous.index <= covered => {
                report.note(Rule::Covered);
                let gone = closed.drain(..).map(|closed| closed.segment).chain([segment]);
                dropped.extend(gone.map(|segment| segment.header.name()));
                start = starting_with(&next.header);
            }
            closing => {
                let (summary, scanned) = closing?;
                closed.push(Closed { segment, summary, limit: next.header.previous, scanned });
            }
        }
        segment = next;
    }
    if closed.iter().filter_map(|closed| closed.scanned.as_ref()).any(|scanned| !scanned.holes.is_empty()) {
        report.note(Rule::Hole);
    }
    // R8: a segment is sealed only once its successor is durable.
    match &segment.footer {
        Some(footer) => Err(lost(footer.last.index.next())),
        None => Ok(Chain { start, closed, last: segment, dropped }),
    }
}

/// Whether the log begins where it must. Segments of lower generations are set aside already.
fn begin(log_dir: &Path, first: &Segment, front: Front, report: &mut RecoveryReport) -> Result<Start, OpenError> {
    let Front { start, unreadable, covered } = front;
    let (found, told) = (base::base_of(&first.header), &start.base);
    let from = found.entry.index;
    let refused = match unreadable {
        // R29
        Some(unreadable) => Some(unreadable),
        // R8
        None if from > told.entry.index => {
            Some(OpenError::LostSegment { path: log_dir.to_owned(), index: told.first() })
        }
        // R23
        None if (found.entry, found.position) != (told.entry, told.position) => {
            let reason = format!(
                "it starts behind entry {} at position {}, the base file says that the log starts behind entry {} at \
                 position {}",
                found.entry, found.position, told.entry, told.position
            );
            let path = first.paths.segment.clone();
            return Err(OpenError::Corrupt { path, offset: 0, index: first.header.first(), reason });
        }
        None => None,
    };
    match refused {
        None => Ok(start),
        // R28
        Some(_) if from <= covered => {
            report.note(Rule::Covered);
            Ok(starting_with(&first.header))
        }
        Some(refused) => Err(refused),
    }
}

fn starting_with(first: &SegmentHeader) -> Start {
    Start { generation: first.generation, resetting: false, base: base::base_of(first) }
}

/// What a segment that is not the last holds up to the next one.
fn close(
    log_dir: &Path,
    segment: &Segment,
    next: &SegmentHeader,
    report: &mut RecoveryReport,
) -> Result<(Summary, Option<Scanned>), OpenError> {
    let limit = next.previous;
    let Some(summary) = segment.footer.clone() else {
        report.note(Rule::Unsealed);
        let (summary, scanned) = scan_closed(log_dir, segment, next)?;
        return Ok((summary, Some(scanned)));
    };
    report.note(Rule::Sealed);
    if summary.last.index < limit.index {
        return Err(OpenError::LostSegment { path: log_dir.to_owned(), index: summary.last.index.next() });
    }
    let end = segment.header.offset_of(next.first_position);
    let corrupt = |reason: String| OpenError::Corrupt {
        path: segment.paths.segment.clone(),
        offset: end.unwrap_or(0),
        index: limit.index,
        reason,
    };
    // R11
    let term = summary.runs.iter().rev().find(|run| run.first <= limit.index).map(|run| run.term);
    if term != Some(limit.term) {
        return Err(corrupt(format!("the next segment follows entry {limit}, this one has no such entry")));
    }
    if next.first_position > summary.end || (summary.last == limit && next.first_position != summary.end) {
        let reason = format!("it ends at position {}, the next one starts at {}", summary.end, next.first_position);
        return Err(corrupt(reason));
    }
    if end.is_none_or(|end| end > segment.length) {
        return Err(corrupt(format!("the file is cut short: it has {} bytes", segment.length)));
    }
    Ok((summary, None))
}

/// R10: all records up to the next segment were durable once, so what cannot be read there is a hole.
fn scan_closed(log_dir: &Path, segment: &Segment, next: &SegmentHeader) -> Result<(Summary, Scanned), OpenError> {
    let end = segment.header.offset_of(next.first_position).filter(|end| *end <= MAX_SEGMENT_BYTES);
    let lost = || OpenError::LostSegment { path: log_dir.to_owned(), index: next.first() };
    let limit = Limit { last: next.previous, offset: end.ok_or_else(lost)? };
    let path = &segment.paths.segment;
    let mut walked = walk(&*segment.file, path, &segment.header, Some(limit), segment.length)?;
    // The successor carries the membership in force where it starts: it may be the one that a hole hides.
    let (index, _) = &next.membership;
    let newer = walked.summary.memberships.last().is_none_or(|(known, _)| known < index);
    if newer && *index >= segment.header.first() {
        walked.summary.memberships.push(next.membership.clone());
    }
    Ok((walked.summary, Scanned { ends: walked.ends, holes: walked.holes }))
}
