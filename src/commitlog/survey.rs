//! The files of a log directory, and which of them are the log. Reads only.
//!
//! Segments are taken in the order of their generations, which is the order in which they were made: each one wins,
//! from its first index on, over all that came before it. What is left is in order of index. Segments of a lower
//! generation than the base file names are gone, whatever they hold. Deliberately absent: whether what is left fits
//! together; that is `chain`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::base::Start;
use super::create;
use super::derive;
use super::layout::{LogFile, SegmentName};
use super::live::Paths;
use super::meta::{Owner, read_owner};
use super::scan::ScanError;
use super::segment::footer::{FooterHead, Summary};
use super::segment::header::{HeaderError, SegmentHeader};
use super::segment::{BLOCK_BYTES, VERSION};
use crate::env::{Disk, File, OpenMode};
use crate::error::OpenError;
use crate::failure::Blame;
use crate::simulation::plants::{Plant, Plants};
use crate::types::{Index, Kind, Position, TermRun};

/// A segment file as found.
pub(super) struct Segment {
    pub(super) paths: Paths,
    pub(super) header: SegmentHeader,
    /// Why the header's block cannot be used, when the header was made again without it.
    pub(super) bad_header: Option<String>,
    pub(super) file: Arc<dyn File>,
    pub(super) length: u64,
    /// What its footer says, when it is sealed and the footer can be read.
    pub(super) footer: Option<Summary>,
}

/// All files of a log directory.
#[derive(Default)]
pub(super) struct Survey {
    /// In order of index.
    pub(super) segments: Vec<Segment>,
    /// Those that a higher generation wins over.
    pub(super) superseded: Vec<Segment>,
    /// Those of a generation that was dropped; they are not looked at.
    pub(super) dropped: Vec<SegmentName>,
    /// Names of blank and unfinished files.
    pub(super) unfinished: Vec<String>,
    /// Index files.
    pub(super) indexes: Vec<SegmentName>,
}

/// Lists and reads the headers and footers of a log directory whose log starts as `start` says.
pub(super) fn survey(disk: &dyn Disk, log_dir: &Path, start: &Start, plants: Plants) -> Result<Survey, OpenError> {
    let mut survey = Survey::default();
    let (mut found, mut live): (Vec<Found>, Vec<Found>) = (Vec::new(), Vec::new());
    for name in disk.list(log_dir).blame(log_dir)? {
        match LogFile::of(&name) {
            LogFile::Unfinished => survey.unfinished.push(name),
            LogFile::Index(name) => survey.indexes.push(name),
            // R26
            LogFile::Segment(name) if name.generation < start.generation => survey.dropped.push(name),
            LogFile::Segment(name) => found.push(read_segment(disk, log_dir, name)?),
            // R3
            LogFile::Foreign => {
                let reason = "no file of a log has such a name".to_owned();
                return Err(OpenError::Foreign { path: log_dir.join(name), reason });
            }
        }
    }
    found.sort_by_key(|segment| segment.name.generation);
    let good = found.iter().find_map(|segment| segment.header.as_ref().ok());
    let owner = good.map(|header| Owner { cluster: header.cluster, group: header.group });
    let owner = owner.or_else(|| read_owner(disk, log_dir.parent()?));
    let mut beaten = Vec::new();
    for segment in found {
        if plants.has(Plant::TruncatedResurrected)
            && live.last().is_some_and(|last| last.name.first == segment.name.first)
        {
            beaten.push(segment);
            continue;
        }
        // R7
        while let Some(last) = live.pop_if(|last| last.name.first >= segment.name.first) {
            beaten.push(last);
        }
        live.push(segment);
    }
    for found in live {
        let before = survey.segments.last();
        let segment =
            found.segment(owner, |file, name, owner| derive::header(file, name, (before, &start.base), owner))?;
        survey.segments.push(segment);
    }
    for found in beaten {
        survey.superseded.push(found.segment(owner, derive::beaten)?);
    }
    Ok(survey)
}

/// A segment file whose header may not be readable.
struct Found {
    name: SegmentName,
    paths: Paths,
    file: Arc<dyn File>,
    length: u64,
    header: Result<SegmentHeader, OpenError>,
}

impl Found {
    /// R5: a header that cannot be read is made again by `derive`.
    fn segment(
        self,
        owner: Option<Owner>,
        derive: impl Fn(&dyn File, SegmentName, Owner) -> Option<SegmentHeader>,
    ) -> Result<Segment, OpenError> {
        let Self { name, paths, file, length, header } = self;
        let (header, bad_header) = match header {
            Ok(header) => (header, None),
            Err(error @ (OpenError::Corrupt { .. } | OpenError::Foreign { .. } | OpenError::Io { .. })) => {
                match owner.and_then(|owner| derive(&*file, name, owner)) {
                    Some(header) => (header, Some(error.to_string())),
                    None => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let footer = read_footer(&*file, &header, length);
        Ok(Segment { paths, header, bad_header, file, length, footer })
    }
}

fn read_segment(disk: &dyn Disk, log_dir: &Path, name: SegmentName) -> Result<Found, OpenError> {
    let paths = create::paths(log_dir, name);
    let path = &paths.segment;
    let file = disk.open(path, OpenMode::Read).blame(path)?;
    let length = file.len().blame(path)?;
    let header = read_header(&*file, path, length);
    if let Ok(header) = &header
        && header.name() != name
    {
        let reason = format!("its header names it {}", header.name().segment_file());
        return Err(OpenError::Foreign { path: path.clone(), reason });
    }
    Ok(Found { name, header, file, length, paths })
}

fn read_header(file: &dyn File, path: &Path, length: u64) -> Result<SegmentHeader, OpenError> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(BLOCK_BYTES)];
    file.read_exact_at(&mut bytes, 0).blame(path)?;
    let mut header = SegmentHeader::decode(&bytes);
    if let Err(HeaderError::Longer(needed)) = header
        && needed as u64 <= length
    {
        bytes.resize(needed, 0);
        file.read_exact_at(&mut bytes, 0).blame(path)?;
        header = SegmentHeader::decode(&bytes);
    }
    let path = path.to_owned();
    header.map_err(|error| match error {
        // R3
        HeaderError::Foreign => OpenError::Foreign { path, reason: error.to_string() },
        // R4
        HeaderError::Version(found) => OpenError::Unsupported { path, found, supported: VERSION },
        // R5
        HeaderError::Damaged | HeaderError::Longer(_) => {
            OpenError::Corrupt { path, offset: 0, index: Index::ZERO, reason: error.to_string() }
        }
    })
}

/// The footer, when there is one that can be read: one that cannot is as good as none (R10).
pub(super) fn read_footer(file: &dyn File, header: &SegmentHeader, length: u64) -> Option<Summary> {
    let mut block = [0; 128];
    file.read_exact_at(&mut block, header.footer_offset()).ok()?;
    let head = FooterHead::decode(&block, header.generation)?;
    let body_end = head.body_offset.checked_add(u64::from(head.body_bytes)).filter(|end| *end <= length)?;
    let mut body = vec![0; usize::try_from(body_end - head.body_offset).ok()?];
    file.read_exact_at(&mut body, head.body_offset).ok()?;
    head.with_body(&body)
}

/// R6
pub(super) fn check_owner(group_dir: &Path, header: &SegmentHeader, owner: Owner) -> Result<(), OpenError> {
    if (header.cluster, header.group) == (owner.cluster, owner.group) {
        return Ok(());
    }
    let reason = format!(
        "its log is of cluster {}, group {}, not of cluster {}, group {}",
        header.cluster, header.group, owner.cluster, owner.group
    );
    Err(OpenError::Identity { path: group_dir.to_owned(), reason })
}

/// The summary of a segment before its first record.
pub(super) fn empty_summary(header: &SegmentHeader) -> Summary {
    Summary { last: header.previous, last_time: header.previous_time, end: header.first_position, ..Summary::default() }
}

/// Adds a record to a summary.
pub(super) fn add(summary: &mut Summary, found: &super::scan::Found<'_>) {
    let header = &found.header;
    if summary.runs.last().is_none_or(|run| run.term != header.id.term) {
        summary.runs.push(TermRun { first: header.id.index, term: header.id.term });
    }
    if header.kind == Kind::Membership {
        let payload = found.bytes.get(super::format::HEADER_BYTES..).unwrap_or_default();
        summary.memberships.push((header.id.index, bytes::Bytes::copy_from_slice(payload)));
    }
    summary.count += 1;
    (summary.last, summary.last_time, summary.end) = (header.id, header.time, header.end());
}

/// The error of a record behind those of `summary`, where a good one must stand.
pub(super) fn bad_record(path: &Path, summary: &Summary, header: &SegmentHeader, error: ScanError) -> OpenError {
    let path: PathBuf = path.to_owned();
    match error {
        // R17
        ScanError::Io(source) => OpenError::Io { path, source },
        // R18
        ScanError::Record(super::format::RecordError::Unsupported { .. }) => {
            OpenError::Unsupported { path, found: VERSION + 1, supported: VERSION }
        }
        ScanError::Record(error) => OpenError::Corrupt {
            path,
            offset: header.offset_of(summary.end).unwrap_or(0),
            index: summary.last.index.next(),
            reason: error.to_string(),
        },
    }
}

/// Where a segment's records end, as an offset.
pub(super) fn end_offset(header: &SegmentHeader, end: Position) -> u64 {
    header.offset_of(end).unwrap_or_else(|| header.records_offset())
}
