//! Dropping the front of the log, in whole segments.
//!
//! ```text
//!   before   │ 1..40 │ 41..90 │ 91..130 │ 131.. (active)        purge(100): 91..130 stays, 100 is inside it
//!   after                     │ 91..130 │ 131..                 the base is entry 90
//! ```
//! The base file is written first and durably (`base`): a power cut before that leaves the log as it was, one after it
//! leaves the new one, whichever of the removals have reached the disk; those are left to `removal`. Readers keep what
//! they hold: a file that was removed lives as long as its map. Deliberately absent: when to purge and how much; whoever
//! owns the log knows what its snapshots cover and what a slow follower may still ask for.

use super::base::{self, Start};
use super::layout::{RESERVE_FILE, SPARE_FILE};
use super::poison::{LogFault, broken};
use super::reader::{LogReader, View};
use super::removal::Removal;
use super::space::Space;
use super::writer::LogWriter;
use crate::failure::is_full;
use crate::types::{Index, LogBase};

impl LogWriter {
    /// Drops the segments from the front of the log of which every entry is at or below `upto`; never the one that
    /// takes records, and so never anything that is not durable. Holes in them go along. The caller vouches that
    /// entries up to `upto` are committed and that nobody needs them here. Durable when this returns;
    /// [`LogReader::first`] says how far it went. A full disk is no hindrance: the blank files kept for that make the
    /// room that it takes to say where the log begins.
    ///
    /// # Errors
    /// `Full`: nothing was dropped, it may be tried again. `Poisoned`: for good.
    pub fn purge(&mut self, upto: Index) -> Result<(), LogFault> {
        match self.drop_front(upto)? {
            Some(removal) => self.removed(removal.run()),
            None => Ok(()),
        }
    }

    /// As [`LogWriter::purge`], but leaves the slow part, the removal of the files, to any thread: from here on they are no
    /// part of the log, and durably so. `None` when nothing was dropped.
    ///
    /// # Errors
    /// As for [`LogWriter::purge`].
    pub fn drop_front(&mut self, upto: Index) -> Result<Option<Removal>, LogFault> {
        self.poison.check()?;
        let dropped = self.forget_front(upto);
        self.poison.note(dropped)
    }

    /// Where the log begins.
    #[must_use]
    pub fn base(&self) -> &LogBase {
        &self.start.base
    }

    fn forget_front(&mut self, upto: Index) -> Result<Option<Removal>, LogFault> {
        let view = self.shared.view.load_full();
        let closed = view.parts.len().saturating_sub(1);
        let count = view.parts.iter().take(closed).take_while(|part| part.last() <= upto).count();
        let Some(first) = view.parts.get(count).filter(|_first| count > 0) else { return Ok(None) };
        // It may be writing the index of a segment that is about to go.
        self.settle_index_job()?;
        let header = &first.segment.header;
        let start =
            Start { generation: header.generation, resetting: false, base: self.base_of(&base::base_of(header)) };
        self.store_start(&start)?;
        let parts = view.parts.iter().skip(count).cloned().collect();
        self.begin_at(start, View { base: header.previous, base_position: header.first_position, parts });
        self.count_bytes();
        Ok(Some(self.removal(Some(view))))
    }

    /// What is known of a base beside what a segment's header says: the header may have been made behind a hole.
    fn base_of(&self, told: &LogBase) -> LogBase {
        let reader = LogReader { shared: self.shared.clone() };
        let read = reader.read(told.entry.index).map(|record| record.header().time);
        let newest = self.memberships.iter().rev().find(|(index, _)| *index <= told.entry.index);
        let since = newest.map_or(Index::ZERO, |(index, _)| *index);
        let hole = self.shared.known.from(since.next());
        let hidden = hole.is_some_and(|hole| hole.first <= told.entry.index);
        let known = newest.filter(|_newest| !hidden).unwrap_or(&told.membership);
        LogBase { time: read.map_or(told.time, |read| read.max(told.time)), membership: known.clone(), ..told.clone() }
    }

    /// Writes the base file. On a full disk what is kept blank is given up for it; it is made again once there is room.
    pub(super) fn store_start(&mut self, start: &Start) -> Result<(), LogFault> {
        let group_dir = self.log_dir.parent().unwrap_or(&self.log_dir).to_owned();
        loop {
            match base::store(&*self.disk, &group_dir, self.owner(), start) {
                Ok(()) => return Ok(()),
                Err(error) if !is_full(&error) => return Err(broken("writing where the log begins", &error)),
                Err(_full) if self.give_up_blank_file() => {}
                Err(_full) => return Err(LogFault::Full { needed: base::file_bytes(start) }),
            }
        }
    }

    fn give_up_blank_file(&mut self) -> bool {
        let name = match (std::mem::take(&mut self.spare_bytes), self.reserve_bytes) {
            (0, 0) => return false,
            (0, _) => {
                self.reserve_bytes = 0;
                if self.shared.space.get() == Space::Open {
                    self.shared.space.set(Space::Reserve);
                }
                RESERVE_FILE
            }
            (_, _) => SPARE_FILE,
        };
        self.disk.remove(&self.log_dir.join(name)).is_ok()
    }

    /// Shows readers the log that begins at `start`.
    pub(super) fn begin_at(&mut self, start: Start, view: View) {
        let base = start.base.entry.index;
        {
            let known = self.shared.known.change();
            self.shared.view.store(std::sync::Arc::new(view));
            known.replace((Index::ZERO, base), Vec::new());
        }
        self.unindexed.retain(|segment| segment.header.generation >= start.generation);
        let in_force = Some(start.base.membership.clone()).filter(|(index, _)| !index.is_zero());
        let above = self.memberships.drain(..).filter(|(index, _)| *index > base);
        self.memberships = in_force.into_iter().chain(above).collect();
        self.start = start;
    }
}
