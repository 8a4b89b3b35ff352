//! Starting over at the base of a snapshot: all entries go, term and vote stay.
//!
//! ```text
//!   base file: begun ─► an empty segment at the base, of the next generation ─► base file: done ─► the others go
//!        └── from here on a crash ends in the empty log: opening makes the segment when it is not there (R27)
//! ```
//! Why the file says *begun*: once it is done, entries are acknowledged in that segment, and a missing one is a loss.
//!
//! **Who decides.** The log does not know what a snapshot is. Its owner, who has a verified and durable one, asks
//! [`super::LogState::has`] about the snapshot's last entry. If the log has it, the log goes on from there, and may be
//! purged. If not, for it ends before or holds another entry there, nothing in it is of use any more: all that was ever
//! committed of it is in the snapshot. Then, and only with the snapshot durable, the owner resets it.

use std::sync::Arc;

use super::base::Start;
use super::create;
use super::live::LiveSegment;
use super::poison::{LogFault, broken};
use super::reader::{LogReader, Part, View};
use super::roll::fresh;
use super::segment::header::MAX_MEMBERSHIP_BYTES;
use super::segment::slots::Slot;
use super::writer::{LogWriter, rule_broken};
use crate::types::{EntryId, Index, LogBase};

impl LogWriter {
    /// Discards all entries and starts the log at `base`: the next record is the one behind it, at its position, in
    /// segments of higher generations. Term and vote stay. Durable when this returns; a crash leaves the old log or the
    /// new one. For a log that lacks `base.entry`, when a durable snapshot up to there takes its place.
    ///
    /// When entries behind the base go that may have belonged to its history, because the log's own entry there cannot
    /// be read, the last entry is in doubt from the next opening on ([`super::LogState::last_in_doubt`]).
    ///
    /// # Errors
    /// `Full`: nothing was changed, it may be tried again. `Poisoned`: for good; also when the caller broke a rule: the
    /// base lies before the one that the log has, or the log holds that entry and others behind it.
    pub fn reset(&mut self, base: LogBase) -> Result<(), LogFault> {
        self.poison.check()?;
        let reset = self.start_over(base);
        self.poison.note(reset)
    }

    pub(super) fn start_over(&mut self, base: LogBase) -> Result<(), LogFault> {
        self.settle_job()?;
        let doubtful = self.check_base(&base)?;
        let start = Start { generation: self.generation + 1, resetting: true, base };
        let header = start.first_header(self.owner(), self.options.wall_ms);
        let (file, unfinished, length) = self.blank_file(create::bytes_needed(header.records_offset(), 0))?;
        if doubtful {
            let index = start.base.entry.index;
            self.note_doubt(&format!("entries behind {index} were discarded with a damaged one at {index}"))?;
        }
        self.store_start(&start)?;
        let unfinished = self.log_dir.join(unfinished);
        let base = start.base.clone();
        let empty = Slot::empty(&header, 0, base.entry.index);
        let slot = create::finish(&*self.disk, &self.log_dir, &unfinished, &file, &header, empty, self.plants)
            .map_err(|error| broken("making a segment", &error))?;
        self.generation = header.generation;
        let start = Start { resetting: false, ..start };
        self.store_start(&start)?;
        let paths = create::paths(&self.log_dir, header.name());
        let segment = Arc::new(LiveSegment::known(paths, header, file, length, Vec::new()));
        self.active = fresh(segment.clone(), (base.entry, base.time, base.position), slot, length);
        self.dirty = false;
        self.committed = self.committed.max(base.entry.index);
        self.memberships.clear();
        let parts = vec![Part::whole(segment)];
        self.begin_at(start, View { base: base.entry, base_position: base.position, parts });
        self.shared.known.change().replace((Index::ZERO, Index(u64::MAX)), Vec::new());
        self.count_bytes();
        let removal = self.removal(None);
        self.removed(removal.run())
    }

    /// Refuses a base that would lose entries of its own history. True when nobody knows whether it does.
    fn check_base(&self, base: &LogBase) -> Result<bool, LogFault> {
        let (first, last) = (self.start.base.entry, self.active.summary.last);
        let at = base.entry;
        if at.index < first.index || (at.index == first.index && at != first) {
            return Err(rule_broken(format!("the log starts behind {first}, it cannot be reset to {at}")));
        }
        if base.membership.1.len() > MAX_MEMBERSHIP_BYTES {
            return Err(rule_broken(format!("a membership of {} bytes", base.membership.1.len())));
        }
        if at.index >= last.index {
            return Ok(false);
        }
        match self.identity_of(at.index) {
            Some(found) if found == at => {
                Err(rule_broken(format!("the log holds {at} and goes on to {last}: it is purged and not reset")))
            }
            found => Ok(found.is_none()),
        }
    }

    /// The entry of an index, when anything still tells.
    fn identity_of(&self, index: Index) -> Option<EntryId> {
        if index == self.start.base.entry.index {
            return Some(self.start.base.entry);
        }
        if let Some(hole) = self.shared.known.holding(index) {
            return hole.identity(index);
        }
        let reader = LogReader { shared: self.shared.clone() };
        reader.read(index).ok().map(|record| record.header().id)
    }
}
