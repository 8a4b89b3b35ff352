//! What is wrong around a record that a read could not give: from an error to a hole.
//!
//! The places of records come from the segment's table of offsets or its index file, so that bad records can be told
//! apart one by one. An index file that has rotted since it was verified is found out here and made anew; then the
//! record was good all along. Reads by `pread` only.

use super::format::{HEADER_BYTES, RecordHeader};
use super::gap::{Gap, identify, push};
use super::hole::Hole;
use super::known::Known;
use super::live::LiveSegment;
use super::reader::{LogReader, Part, View};
use super::segment::footer::Summary;
use super::survey::read_footer;
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::env::Disk;
use crate::types::{Index, Term};

/// Bad neighbours that are looked for on each side; a larger hole is found in several pieces.
const MAX_NEIGHBOURS: u64 = 1024;

/// A record as it is found.
enum State {
    Good(Term),
    Bad { term: Option<Term>, reason: String },
}

impl LogReader {
    /// The hole that an index lies in, to be asked after [`crate::error::ReadError::Damaged`]: what is bad around it is
    /// found out, and known from then on. `None` when the record can be read after all, or is not in the log. Blocks on
    /// the disk.
    #[must_use]
    pub fn hole_at(&self, index: Index) -> Option<Hole> {
        if let Some(hole) = self.shared.known.holding(index) {
            return Some(hole);
        }
        let change = self.shared.known.change();
        // Somebody else may have found it while this one waited for its turn.
        if let Some(hole) = self.shared.known.holding(index) {
            return Some(hole);
        }
        let view = self.shared.view.load();
        let part = view.part_of(index)?;
        let around = self.around(&view, part);
        let holes = around.holes(index)?;
        let (first, last) = (holes.first()?.first, holes.last()?.last);
        let found = holes.iter().find(|hole| hole.holds(index)).cloned();
        change.replace((first, last), holes);
        found
    }

    fn around<'a>(&'a self, view: &'a View, part: &'a Part) -> Around<'a> {
        Around { disk: &*self.shared.disk, known: &self.shared.known, view, part, segment: &part.segment }
    }

    /// Whether all records of a known hole, of known terms, can be read again; it is forgotten when so.
    pub(super) fn has_healed(&self, hole: &Hole) -> bool {
        let change = self.shared.known.change();
        let view = self.shared.view.load();
        let Some(part) = view.part_of(hole.first) else { return false };
        let around = self.around(&view, part);
        let mut index = hole.first;
        while index <= hole.last {
            let id = hole.identity(index);
            // A sound record of another term does not heal it: the segment's own terms may not be known here.
            if !matches!(around.look(index), State::Good(term) if id.is_some_and(|id| id.term == term)) {
                return false;
            }
            index = index.next();
        }
        if self.shared.known.holding(hole.first).as_ref() == Some(hole) {
            change.replace((hole.first, hole.last), Vec::new());
        }
        true
    }
}

/// A part of the log under examination.
struct Around<'a> {
    disk: &'a dyn Disk,
    known: &'a Known,
    view: &'a View,
    part: &'a Part,
    segment: &'a LiveSegment,
}

impl Around<'_> {
    /// The hole around an index, or the neighbouring ones that differ in what is known of them. One that is known already
    /// stays as it is, and is where these end.
    fn holes(&self, index: Index) -> Option<Vec<Hole>> {
        if matches!(self.look(index), State::Bad { term: None, .. }) {
            self.segment.reload_offsets(self.disk);
        }
        let mut gaps = vec![self.gap(index, self.look(index))?];
        let mut before = Term(0);
        while let Some(first) = gaps.first().map(|gap| gap.first) {
            if first == self.segment.header.first() {
                before = self.segment.header.previous.term;
                break;
            }
            if let Some(hole) = self.known.holding(first.prev()) {
                before = hole.identity(first.prev()).map_or(Term(0), |id| id.term);
                break;
            }
            match self.look(first.prev()) {
                State::Good(term) => {
                    before = term;
                    break;
                }
                bad => gaps.insert(0, self.gap(first.prev(), bad)?),
            }
            if index.get() - first.get() > MAX_NEIGHBOURS && self.start(first.prev()).is_some() {
                break;
            }
        }
        let mut next = None;
        while let Some(last) = gaps.last().map(|gap| gap.last).filter(|last| *last < self.part.last()) {
            if let Some(hole) = self.known.holding(last.next()) {
                next = hole.identity(last.next()).map(|id| id.term);
                break;
            }
            match self.look(last.next()) {
                State::Good(term) => {
                    next = Some(term);
                    break;
                }
                bad => gaps.push(self.gap(last.next(), bad)?),
            }
            if last.get() - index.get() > MAX_NEIGHBOURS && self.end(last.next()).is_some() {
                break;
            }
        }
        let mut gaps = self.join(gaps)?;
        identify(&mut gaps, before, next);
        for gap in gaps.iter_mut().filter(|gap| gap.term.is_none()) {
            gap.term = self.segment.term_of(gap.first).filter(|term| self.segment.term_of(gap.last) == Some(*term));
        }
        self.ask_footer(&mut gaps);
        let mut holes = Vec::new();
        for gap in gaps {
            push(&mut holes, gap.hole(&self.segment.path, &self.segment.header));
        }
        Some(holes)
    }

    fn gap(&self, index: Index, state: State) -> Option<Gap> {
        let State::Bad { term, reason } = state else { return None };
        let (start, end) = (self.start(index).unwrap_or(0), self.end(index).unwrap_or(0));
        Some(Gap { first: index, last: index, start, end, term, last_term: term, reason })
    }

    /// Joins neighbours between which no bound is known.
    fn join(&self, gaps: Vec<Gap>) -> Option<Vec<Gap>> {
        let mut joined: Vec<Gap> = Vec::new();
        for gap in gaps {
            match joined.last_mut() {
                Some(last) if last.end == 0 => {
                    (last.last, last.end, last.last_term) = (gap.last, gap.end, gap.last_term);
                }
                _ => joined.push(gap),
            }
        }
        joined.iter().all(|gap| gap.start > 0 && gap.end > gap.start).then_some(joined)
    }

    fn start(&self, index: Index) -> Option<u64> {
        if index == self.segment.header.first() {
            return Some(self.segment.header.records_offset());
        }
        self.end(index.prev())
    }

    fn end(&self, index: Index) -> Option<u64> {
        self.segment.header.offset_of(self.view.end_of(self.disk, index)?)
    }

    /// Reads one record where it should stand.
    fn look(&self, index: Index) -> State {
        let bad = |term: Option<Term>, reason: String| State::Bad { term, reason };
        let Some((start, end)) = self.segment.bounds(self.disk, index) else {
            return bad(None, "a damaged record before it hides where it stands".to_owned());
        };
        let mut bytes = vec![0; HEADER_BYTES];
        if let Err(error) = self.segment.file.read_exact_at(&mut bytes, start) {
            return bad(None, error.to_string());
        }
        let header = match RecordHeader::decode(&bytes, MAX_RECORD_BYTES_LIMIT) {
            Ok(header) => header,
            Err(error) => return bad(None, error.to_string()),
        };
        let placed = self.segment.holds_at(start, index, &header) && start + u64::from(header.length) == end;
        if !placed {
            return bad(None, format!("entry {} stands there instead", header.id));
        }
        bytes.resize(header.length as usize, 0);
        let read = self.segment.file.read_exact_at(&mut bytes, start);
        let verified = read.map_err(|error| error.to_string());
        let verified = verified.and_then(|()| header.verify_payload(&bytes).map_err(|error| error.to_string()));
        match verified {
            Ok(()) => State::Good(header.id.term),
            Err(reason) => bad(Some(header.id.term), reason),
        }
    }

    /// What neighbours leave open a footer may know.
    fn ask_footer(&self, gaps: &mut [Gap]) {
        if gaps.iter().all(|gap| gap.term.is_some()) {
            return;
        }
        let length = self.segment.length();
        let Some(footer) = read_footer(&*self.segment.file, &self.segment.header, length) else { return };
        for gap in gaps.iter_mut().filter(|gap| gap.term.is_none()) {
            gap.term = term_at(&footer, gap.first).filter(|term| term_at(&footer, gap.last) == Some(*term));
        }
    }
}

fn term_at(footer: &Summary, index: Index) -> Option<Term> {
    footer.runs.iter().rev().find(|run| run.first <= index).map(|run| run.term)
}
