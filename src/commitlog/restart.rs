//! Where writing goes on after opening: in the last segment, or in a new one behind its durable end.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::create;
use super::layout::NEW_SEGMENT_FILE;
use super::live::LiveSegment;
use super::open::LogOptions;
use super::prepare::{self, FIRST_CHUNK_BYTES, MAX_CHUNK_BYTES};
use super::reader::Part;
use super::recovery::{RecoveryReport, Rule};
use super::roll::fresh;
use super::segment::footer::Summary;
use super::segment::header::SegmentHeader;
use super::segment::slots::Slot;
use super::survey::{Segment, end_offset};
use super::tail::{Behind, Tail, blank_again};
use super::writer::Active;
use crate::env::{Disk, File, OpenMode};
use crate::error::OpenError;
use crate::failure::{self, Blame};
use crate::simulation::plants::Plants;
use crate::types::TermRun;

/// How much is copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// The segment that takes records from now on; its generation is the highest there is.
pub(super) struct Restarted {
    /// The segment before it, when it was the last until now, and what it holds.
    pub(super) before: Option<(Part, Summary)>,
    pub(super) active: Active,
}

/// Makes the log ready for writing.
pub(super) fn restart(
    disk: &Arc<dyn Disk>,
    log_dir: &Path,
    options: &LogOptions,
    last: Segment,
    tail: Tail,
    report: &mut RecoveryReport,
) -> Result<Restarted, OpenError> {
    let path = last.paths.segment.clone();
    let file = disk.open(&path, OpenMode::Write).blame(&path)?;
    let end = end_offset(&last.header, tail.summary.end);
    let copied = tail.durable_count < tail.ends.len();
    let whole = tail.holes.is_empty() && tail.doubt.is_none() && slots_can_be_written(&last);
    if !tail.holes.is_empty() {
        report.note(Rule::Hole);
    }
    match &tail.behind {
        Behind::Blank if whole && !copied => {
            report.note(Rule::CleanEnd);
            blank_again(&*file, end, last.length).blame_room(&path, 0)?;
            return Ok(go_on_in_place(last, file, tail));
        }
        Behind::Blank => {}
        Behind::Torn(cut) => {
            report.note(Rule::TornTail);
            report.cut = Some(cut.clone());
        }
    }
    if copied {
        report.note(Rule::Copied);
    }
    if tail.doubt.is_some() {
        report.note(Rule::NoSlot);
        // Without a slot nothing of it is known to be synced.
        rewrite(&last, &*file, &tail).blame(&path)?;
    }
    let active = copy_tail(&**disk, log_dir, options, &last, &tail, report)?;
    let before = close_behind(&**disk, last, file, tail, report)?;
    Ok(Restarted { before, active })
}

/// A slot is a part of a sector, and of one that cannot be read no part can be written.
fn slots_can_be_written(last: &Segment) -> bool {
    let mut byte = [0; 1];
    (0..2).all(|slot| last.file.read_exact_at(&mut byte, last.header.slot_offset(slot)).is_ok())
}

fn go_on_in_place(last: Segment, file: Arc<dyn File>, tail: Tail) -> Restarted {
    let (summary, synced) = (tail.summary, (tail.durable.2, tail.durable.0));
    let live = LiveSegment::known(last.paths, last.header, file, last.length, tail.ends);
    let segment = Arc::new(live.with_terms(&summary.runs, &tail.holes));
    let active = Active {
        segment,
        summary,
        prepared: last.length,
        chunk: last.length.clamp(FIRST_CHUNK_BYTES, MAX_CHUNK_BYTES),
        slot: tail.slot,
        synced,
        batches_since_slot: 0,
    };
    Restarted { before: None, active }
}

/// R13, R15, R16: a new segment that starts at the durable end and holds every good record behind it.
fn copy_tail(
    disk: &dyn Disk,
    log_dir: &Path,
    options: &LogOptions,
    last: &Segment,
    tail: &Tail,
    report: &mut RecoveryReport,
) -> Result<Active, OpenError> {
    let (previous, previous_time, first_position) = tail.durable;
    let header = SegmentHeader {
        cluster: options.cluster,
        group: options.group,
        generation: last.header.generation + 1,
        first_position,
        previous,
        previous_time,
        wall_ms: options.wall_ms,
        membership: membership_at(last, tail),
    };
    let (from, to) = (end_offset(&last.header, first_position), end_offset(&last.header, tail.summary.end));
    let summary = above(&tail.summary, &tail.durable);
    let end = header.records_offset() + (to - from);
    let needed = create::bytes_needed(end, summary.body_bytes());
    let unfinished = log_dir.join(NEW_SEGMENT_FILE);
    let length = needed.max(FIRST_CHUNK_BYTES.min(options.segment_bytes));
    let file = prepare::make_blank(disk, &unfinished, length).blame_room(&unfinished, length)?;
    copy(last, &*file, from, to, header.records_offset()).blame_room(&unfinished, length)?;
    report.copied_bytes = to - from;
    let slot = Slot {
        sequence: 0,
        durable_end: summary.end,
        last: summary.last,
        committed: tail.slot.committed.min(summary.last.index),
    };
    let slot = create::finish(disk, log_dir, &unfinished, &file, &header, slot, Plants::NONE)
        .blame_room(&unfinished, length)?;
    let shift = |end: &u32| u32::try_from(u64::from(*end) - from + header.records_offset()).unwrap_or(u32::MAX);
    let ends = tail.ends.iter().skip(tail.durable_count).map(shift).collect();
    let paths = create::paths(log_dir, header.name());
    let synced = (summary.end, summary.last);
    let segment = Arc::new(LiveSegment::known(paths, header, file, length, ends).with_terms(&summary.runs, &[]));
    Ok(Active { summary, synced, ..fresh(segment, tail.durable, slot, length) })
}

/// Copies the bytes from one offset of a segment to another to an offset of a file.
pub(super) fn copy(last: &Segment, to_file: &dyn File, mut from: u64, to: u64, mut at: u64) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while from < to {
        let chunk = (to - from).min(COPY_BYTES);
        buffer.resize(usize::try_from(chunk).unwrap_or(0), 0);
        last.file.read_exact_at(&mut buffer, from)?;
        to_file.write_all_at(&[IoSlice::new(&buffer)], at)?;
        from += chunk;
        at += chunk;
    }
    Ok(())
}

/// Writes the good records again as they are, and syncs them.
fn rewrite(last: &Segment, file: &dyn File, tail: &Tail) -> std::io::Result<()> {
    let mut from = last.header.records_offset();
    let end = end_offset(&last.header, tail.durable.2);
    let bad = tail.holes.iter().map(|hole| (hole.offset, end_offset(&last.header, hole.end)));
    for (bad_from, bad_to) in bad.chain([(end, end)]) {
        copy(last, file, from, bad_from, from)?;
        from = bad_to;
    }
    file.sync()
}

/// The membership in force at the durable end; none when a hole may hold another one.
fn membership_at(last: &Segment, tail: &Tail) -> (crate::types::Index, bytes::Bytes) {
    if tail.hides_membership {
        return (crate::types::Index::ZERO, bytes::Bytes::new());
    }
    let below = tail.summary.memberships.iter().rev().find(|(index, _)| *index <= tail.durable.0.index);
    below.unwrap_or(&last.header.membership).clone()
}

/// What of a summary lies above the durable end.
fn above(
    summary: &Summary,
    durable: &(crate::types::EntryId, crate::types::LogTime, crate::types::Position),
) -> Summary {
    let durable = durable.0.index;
    let first = durable.next();
    let continues = summary.runs.iter().rev().find(|run| run.first <= first).map(|run| run.term);
    let head = continues.filter(|_term| summary.last.index > durable).map(|term| TermRun { first, term });
    let later = summary.runs.iter().filter(|run| run.first > first).copied();
    Summary {
        count: summary.last.index.get().saturating_sub(durable.get()),
        runs: head.into_iter().chain(later).collect(),
        memberships: summary.memberships.iter().filter(|(index, _)| *index > durable).cloned().collect(),
        ..summary.clone()
    }
}

/// Seals the old last segment at its durable end; removes it when nothing stands below. One with a hole stays without a
/// footer, which would vouch for what is not known: it is scanned again at each opening, until it is whole.
fn close_behind(
    disk: &dyn Disk,
    last: Segment,
    file: Arc<dyn File>,
    tail: Tail,
    report: &mut RecoveryReport,
) -> Result<Option<(Part, Summary)>, OpenError> {
    let (durable, durable_time, durable_end) = tail.durable;
    let path = &last.paths.segment;
    if tail.durable_count == 0 {
        failure::remove_if_there(disk, path)?;
        report.removed.push(last.header.name().segment_file());
        return Ok(None);
    }
    let mut summary = tail.summary;
    summary.clip(durable, durable_time, durable_end);
    let mut ends = tail.ends;
    ends.truncate(tail.durable_count);
    if !tail.holes.is_empty() {
        let length = last.length;
        let live = LiveSegment::known(last.paths, last.header, file, length, ends);
        let live = live.with_terms(&summary.runs, &tail.holes);
        return Ok(Some((Part { segment: Arc::new(live), limit: durable.index }, summary)));
    }
    // Nobody reads what stands behind the durable end any more: the footer's body may take its place.
    let written_end = end_offset(&last.header, durable_end);
    let length = create::seal(&*file, &last.header, &summary, written_end).blame_room(path, summary.body_bytes())?;
    let live = LiveSegment::known(last.paths, last.header, file, last.length.max(length), ends);
    let live = live.with_terms(&summary.runs, &[]);
    Ok(Some((Part { segment: Arc::new(live), limit: durable.index }, summary)))
}
