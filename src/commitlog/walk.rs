//! Walking all records of a segment, good or bad, up to where they are known to end.
//!
//! ```text
//!   records   1  │ 2  │ ?  ?  ? │ 6  │ 7*  │ 8        ?  bad header: found again by searching (`resync`)
//!   ends      e1 │ e2 │ 0  0 e5 │ e6 │ e7  │ e8       *  bad payload: the header still says who it was
//!   holes                3 to 5        7
//! ```
//! Everything below the limit was durable once, so that nothing here is ever taken for an end: what cannot be read is
//! a hole. Its terms come from its own headers, from the limit, or from neighbours that agree; terms never fall, so
//! that equal ones on both sides leave no choice. Bytes with good checksums that contradict each other are no hole:
//! one of them was put there by somebody. Reads only.

use std::path::Path;

use super::format::{HEADER_BYTES, RecordError};
use super::gap::{Gap, identify, push};
use super::hole::Hole;
use super::resync::Search;
use super::scan::{ScanError, Scanner};
use super::segment::VERSION;
use super::segment::footer::Summary;
use super::segment::header::SegmentHeader;
use super::survey::{add, empty_summary};
use crate::env::File;
use crate::error::OpenError;
use crate::types::{EntryId, Index, Kind, Term, TermRun};

/// Where the records of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// The entry that ends there.
    pub(super) last: EntryId,
    /// The offset.
    pub(super) offset: u64,
}

/// What was found.
pub(super) struct Walked {
    /// All records below the limit, bad ones included as far as they are known.
    pub(super) summary: Summary,
    /// Where each record ends; 0 inside a hole where that is not known.
    pub(super) ends: Vec<u32>,
    /// In index order.
    pub(super) holes: Vec<Hole>,
    /// A hole may hold a membership record.
    pub(super) hides_membership: bool,
}

struct Walk<'a> {
    path: &'a Path,
    header: &'a SegmentHeader,
    walked: Walked,
    /// Bad records since the last good one.
    bad: Vec<Gap>,
}

/// Walks the records up to `limit`; without one, up to the last good record that can be found in `file_bytes`.
///
/// # Errors
/// `Unsupported` for an intact record of a later release, `Corrupt` where intact bytes contradict each other.
pub(super) fn walk(
    file: &dyn File,
    path: &Path,
    header: &SegmentHeader,
    limit: Option<Limit>,
    file_bytes: u64,
) -> Result<Walked, OpenError> {
    let end = limit.map_or(file_bytes, |limit| limit.offset);
    let walked =
        Walked { summary: empty_summary(header), ends: Vec::new(), holes: Vec::new(), hides_membership: false };
    let mut walk = Walk { path, header, walked, bad: Vec::new() };
    let mut scanner = Scanner::new(file, header, end);
    loop {
        let (offset, after) = (scanner.offset(), scanner.after());
        let error = match scanner.next() {
            Ok(Some(found)) => {
                walk.settle(Some(found.header.id.term), None)?;
                add(&mut walk.walked.summary, &found);
                let end = found.offset + u64::from(found.header.length);
                walk.walked.ends.push(u32::try_from(end).unwrap_or(u32::MAX));
                continue;
            }
            Ok(None) => break,
            Err(ScanError::Record(RecordError::Unsupported { .. })) => return Err(walk.unsupported()),
            Err(error) => error,
        };
        let reason = error.to_string();
        if let Some(passed) = scanner.passed() {
            walk.walked.hides_membership |= passed.kind == Kind::Membership;
            let (index, term) = (passed.id.index, Some(passed.id.term));
            walk.miss(Gap {
                first: index,
                last: index,
                start: offset,
                end: scanner.offset(),
                term,
                last_term: term,
                reason,
            });
            continue;
        }
        let last = limit.map(|limit| limit.last);
        let search = Search { file, segment: header, after, from: offset, limit: end, file_bytes, last };
        let found = search.run().map_err(|_later| walk.unsupported())?;
        let (next, last) = match (found, limit) {
            (Some((next, found)), _) => {
                let before = EntryId::new(found.id.index.prev(), after.term);
                scanner.jump(next, (before, found.position));
                (next, before.index)
            }
            (None, Some(limit)) => {
                scanner.jump(limit.offset, (limit.last, header.position_of(limit.offset)));
                (limit.offset, limit.last.index)
            }
            (None, None) => break,
        };
        let missing = last.get().saturating_sub(after.index.get());
        if missing == 0 || missing.saturating_mul(HEADER_BYTES as u64) > next - offset {
            return Err(walk.contradiction(offset, after.index.next(), &reason));
        }
        walk.walked.hides_membership = true;
        let first = after.index.next();
        walk.miss(Gap { first, last, start: offset, end: next, term: None, last_term: None, reason });
    }
    if let Some(limit) = limit
        && (scanner.offset(), scanner.after()) != (limit.offset, limit.last)
    {
        let reason = format!("entry {} ends where entry {} should", scanner.after(), limit.last);
        return Err(walk.contradiction(limit.offset, limit.last.index, &reason));
    }
    walk.settle(limit.map(|limit| limit.last.term), limit)?;
    Ok(walk.walked)
}

impl Walk<'_> {
    fn miss(&mut self, bad: Gap) {
        let inside = usize::try_from(bad.last.get() - bad.first.get()).unwrap_or(usize::MAX);
        self.walked.ends.extend(std::iter::repeat_n(0, inside));
        self.walked.ends.push(u32::try_from(bad.end).unwrap_or(u32::MAX));
        self.bad.push(bad);
    }

    /// Makes holes of the bad records before a good one of term `next`, or before the limit.
    fn settle(&mut self, next: Option<Term>, limit: Option<Limit>) -> Result<(), OpenError> {
        let mut bad = std::mem::take(&mut self.bad);
        let ends_at_limit = limit.filter(|limit| bad.last().is_some_and(|bad| bad.last == limit.last.index));
        if let (Some(limit), Some(last)) = (ends_at_limit, bad.last_mut()) {
            last.last_term = Some(limit.last.term);
            last.term = last.term.or(last.last_term.filter(|_term| last.first == last.last));
        }
        identify(&mut bad, self.walked.summary.last.term, next);
        for bad in bad {
            self.note(bad);
        }
        if let Some(limit) = ends_at_limit {
            self.walked.summary.last = limit.last;
            self.begin_run(limit.last.index, limit.last.term);
        }
        Ok(())
    }

    fn begin_run(&mut self, first: Index, term: Term) {
        let runs = &mut self.walked.summary.runs;
        if runs.last().is_none_or(|run| run.term != term) {
            runs.push(TermRun { first, term });
        }
    }

    /// Adds bad records to the summary and to the holes.
    fn note(&mut self, bad: Gap) {
        let end = self.header.position_of(bad.end);
        let term = bad.term.unwrap_or(self.walked.summary.last.term.max(Term(1)));
        self.begin_run(bad.first, term);
        let summary = &mut self.walked.summary;
        summary.count += bad.last.get() - bad.first.get() + 1;
        (summary.last, summary.end) = (EntryId::new(bad.last, term), end);
        push(&mut self.walked.holes, bad.hole(self.path, self.header));
    }

    fn unsupported(&self) -> OpenError {
        OpenError::Unsupported { path: self.path.to_owned(), found: VERSION + 1, supported: VERSION }
    }

    fn contradiction(&self, offset: u64, index: Index, reason: &str) -> OpenError {
        OpenError::Corrupt { path: self.path.to_owned(), offset, index, reason: reason.to_owned() }
    }
}
