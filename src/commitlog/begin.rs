//! The first steps of opening, and all of it when there is no segment: where the log begins, and the segment it begins with.
//!
//! A log is made like this (R1), and so is the empty one that a reset had begun (R27). Deliberately absent: logs that
//! hold something; that is `open`.

use std::path::Path;
use std::sync::Arc;

use super::base::{self, Start};
use super::chain::Front;
use super::create;
use super::layout::{self, NEW_SEGMENT_FILE, SegmentName};
use super::live::LiveSegment;
use super::meta::Owner;
use super::open::{LogOptions, Opened, Opening, Peers, refuse};
use super::prepare::{self, FIRST_CHUNK_BYTES};
use super::recovery::{RecoveryReport, Rule};
use super::restart::Restarted;
use super::roll::fresh;
use super::segment::slots::Slot;
use super::survey::Survey;
use crate::env::Disk;
use crate::error::OpenError;
use crate::failure::{self, Blame};
use crate::types::Vote;

/// What the directory and the caller say of where the log begins.
pub(super) fn front(disk: &dyn Disk, dir: &Path, options: &LogOptions) -> Result<Front, OpenError> {
    let owner = Owner { cluster: options.cluster, group: options.group };
    let covered = options.covered;
    match base::load(disk, dir, Some(owner)) {
        Ok(start) => Ok(Front { start: start.unwrap_or_default(), unreadable: None, covered }),
        Err(unreadable @ OpenError::Corrupt { .. }) => {
            Ok(Front { start: Start::default(), unreadable: Some(unreadable), covered })
        }
        Err(error) => Err(error),
    }
}

impl Opening {
    /// R1, R27: the first segment, then the vote file: a vote without a segment means a lost file, unless a reset was
    /// begun that had not made its segment yet.
    pub(super) fn make_first(
        self,
        survey: Survey,
        front: Front,
        vote: Option<Vote>,
        peers: Peers,
        mut report: RecoveryReport,
    ) -> Result<Opened, OpenError> {
        let Front { start, unreadable, .. } = front;
        if let Some(unreadable) = unreadable {
            return Err(unreadable);
        }
        match vote {
            // R19
            None if start.generation > 0 => return Err(OpenError::LostVote { path: self.dir.join(layout::VOTE_FILE) }),
            // R20
            Some(_) if !start.resetting => {
                return Err(OpenError::LostSegment { path: self.log_dir, index: start.base.first() });
            }
            None | Some(_) => {}
        }
        let doubt = super::doubt::load(&*self.disk, &self.dir)?;
        refuse(&self.log_dir, peers, &[], self.options.covered, doubt.as_ref())?;
        report.note(if start.resetting { Rule::Resetting } else { Rule::NewLog });
        failure::create_dir_durably(&*self.disk, &self.log_dir)?;
        let orphans = survey.indexes.iter().map(|name| name.index_file());
        self.remove(survey.unfinished.iter().cloned().chain(orphans).collect(), Rule::Leftovers, &mut report)?;
        // First, since it makes room. The base file, which alone says that these are dropped, is durable by now.
        self.remove_dropped(&survey.dropped, &mut report)?;
        let header = start.first_header(self.owner, self.options.wall_ms);
        let unfinished = self.log_dir.join(NEW_SEGMENT_FILE);
        let length =
            FIRST_CHUNK_BYTES.min(self.options.segment_bytes).max(create::bytes_needed(header.records_offset(), 0));
        let file = prepare::make_blank(&*self.disk, &unfinished, length).blame_room(&unfinished, length)?;
        let slot = Slot::empty(&header, 0, header.previous.index);
        let slot = create::finish(&*self.disk, &self.log_dir, &unfinished, &file, &header, slot, self.plants)
            .blame_room(&unfinished, length)?;
        let vote = self.renew_vote()?;
        let start = self.renew_start(start, Vec::new(), &mut report)?;
        let paths = create::paths(&self.log_dir, header.name());
        let segment = Arc::new(LiveSegment::known(paths, header, file, length, Vec::new()));
        let active = fresh(segment, (start.base.entry, start.base.time, start.base.position), slot, length);
        self.finish(start, Vec::new(), Restarted { before: None, active }, vote, (Vec::new(), doubt), report)
    }

    /// Writes the base file anew when the log begins elsewhere than it says, when a reset that it calls begun is done by
    /// now, or when one of its copies is bad (R29); then removes what only it speaks for. R22 has made its name durable,
    /// and a file that has it was synced before.
    pub(super) fn renew_start(
        &self,
        start: Start,
        dropped: Vec<SegmentName>,
        report: &mut RecoveryReport,
    ) -> Result<Start, OpenError> {
        if start.resetting {
            report.note(Rule::Resetting);
        }
        let start = Start { resetting: false, ..start };
        let stands = base::load(&*self.disk, &self.dir, None).ok().flatten().unwrap_or_default();
        if stands != start || start.generation > 0 && base::bad_copy(&*self.disk, &self.dir).is_some() {
            self.store_start(&start)?;
        }
        self.remove_dropped(&dropped, report)?;
        Ok(start)
    }

    fn store_start(&self, start: &Start) -> Result<(), OpenError> {
        let stored = base::store(&*self.disk, &self.dir, self.owner, start);
        stored.blame_room(&self.dir.join(layout::BASE_FILE), base::file_bytes(start))
    }

    /// R26
    fn remove_dropped(&self, dropped: &[SegmentName], report: &mut RecoveryReport) -> Result<(), OpenError> {
        self.remove(dropped.iter().map(|name| name.segment_file()).collect(), Rule::Dropped, report)
    }
}
