//! What is true of a cluster, as only a simulator can know it: every record ever framed, what each disk has synced,
//! and which entries were committed.
//!
//! ```text
//!   records    (index, term) ──► the bytes' checksum, its predecessor        grows
//!   disks      per node: vote, entries and snapshots whose write and sync have returned
//!   committed  by index, in the order in which some node first said so       grows
//!   memberships by entry, as the records say                                 grows
//! ```
//! The checkers compare with this what nodes claim. Nothing here decides.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use dledger::commitlog::{Record, WriteBatch, split};
use dledger::config::MAX_RECORD_BYTES_LIMIT;
use dledger::raft::{Membership, Raft};
use dledger::types::{EntryId, Index, Kind, LogTime, Position, Term, Vote};

use crate::memberships::Memberships;

/// A record that somebody framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Digest of the whole record.
    pub(crate) digest: u64,
    /// Digest of the payload.
    pub(crate) payload: u64,
    pub(crate) position: Position,
    pub(crate) time: LogTime,
    /// The entry before it, where it was seen in its place.
    pub(crate) previous: Option<EntryId>,
}

impl Known {
    fn of(record: &Record, previous: Option<EntryId>) -> Self {
        let header = record.header();
        Self {
            digest: digest(record.bytes()),
            payload: digest(&record.payload()),
            position: header.position,
            time: header.time,
            previous,
        }
    }
}

/// What a node's disk holds for certain.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskTruth {
    pub(crate) vote: Vote,
    /// The vote of a write under way: after a crash the disk has this one or the one before.
    pub(crate) vote_under_way: Option<Vote>,
    /// The entry before the log's first: what stood there is purged, or was never here.
    pub(crate) base: EntryId,
    /// The entries behind that.
    pub(crate) log: Vec<EntryId>,
    /// The last entries of the snapshots that are durable, the newest first.
    pub(crate) snapshots: Vec<EntryId>,
    /// What the disk held that was wiped: what it said before that was true then.
    pub(crate) wiped: Option<Box<DiskTruth>>,
}

impl DiskTruth {
    /// The entry that the log has at `index`, or is known to begin behind.
    pub(crate) fn at(&self, index: Index) -> Option<EntryId> {
        if index == self.base.index && !index.is_zero() {
            return Some(self.base);
        }
        let place = usize::try_from(index.get().checked_sub(self.base.index.next().get())?).ok()?;
        self.log.get(place).copied()
    }

    /// Another entry stands in the place of the one that the log had at this index.
    fn replace(&mut self, id: EntryId) {
        let place = id.index.get().checked_sub(self.base.index.next().get());
        if let Some(held) = place.and_then(|place| self.log.get_mut(usize::try_from(place).ok()?)) {
            *held = id;
        }
    }

    /// The last entry of the newest durable snapshot: it vouches for all entries up to there.
    pub(crate) fn newest_snapshot(&self) -> EntryId {
        self.snapshots.first().copied().unwrap_or_default()
    }

    fn cut(&mut self, after: Index) {
        let kept = after.get().saturating_sub(self.base.index.get());
        self.log.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }
}

/// The truth about one run.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) records: HashMap<EntryId, Known>,
    pub(crate) disks: Vec<DiskTruth>,
    pub(crate) committed: Vec<EntryId>,
    pub(crate) memberships: Memberships,
}

impl Truth {
    /// So many nodes that have formed: every disk holds entry 1, the membership, which is committed by that.
    pub(crate) fn formed(nodes: usize) -> Self {
        let first = EntryId::new(Index(1), Term(1));
        let vote = Vote { term: first.term, ..Vote::default() };
        let disk = DiskTruth { vote, log: vec![first], ..DiskTruth::default() };
        let memberships = Memberships::default();
        Self { records: HashMap::new(), disks: vec![disk; nodes], committed: vec![first], memberships }
    }

    /// A machine with an empty disk.
    pub(crate) fn grow(&mut self) {
        self.disks.push(DiskTruth::default());
    }

    /// A disk is empty again.
    pub(crate) fn wiped(&mut self, node: usize) {
        if let Some(disk) = self.disks.get_mut(node) {
            let before = std::mem::take(disk);
            disk.wiped = Some(Box::new(before));
        }
    }

    /// The entry committed at `index`.
    pub(crate) fn committed_at(&self, index: Index) -> Option<EntryId> {
        let place = usize::try_from(index.get().checked_sub(1)?).ok()?;
        self.committed.get(place).copied()
    }

    /// The last committed index.
    pub(crate) fn last_committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// Whether a node's disk holds an entry, or did before it was wiped.
    pub(crate) fn has_held(&self, node: usize, id: EntryId) -> bool {
        let held = |disk: &DiskTruth| disk.at(id.index) == Some(id);
        self.disks.get(node).is_some_and(|disk| held(disk) || disk.wiped.as_deref().is_some_and(held))
    }

    /// Whether a node's disk has an entry: in its log, or in a snapshot, which holds what is committed.
    pub(crate) fn vouches(&self, disk: &DiskTruth, id: EntryId) -> bool {
        let covered = disk.newest_snapshot().index >= id.index && self.committed_at(id.index) == Some(id);
        disk.at(id.index) == Some(id) || covered
    }

    /// Notes a record that stands in some log or is on its way there.
    ///
    /// # Errors
    /// Two records of one index and term differ: a sentence.
    pub(crate) fn note(&mut self, record: &Record, previous: Option<EntryId>) -> Result<(), String> {
        let (id, new) = (record.header().id, Known::of(record, previous));
        let Some(known) = self.records.get_mut(&id) else {
            self.records.insert(id, new);
            return self.note_membership(record);
        };
        if known.digest != new.digest {
            return Err(format!("two different records are entry {id}"));
        }
        match (known.previous, new.previous) {
            (Some(one), Some(two)) if one != two => {
                Err(format!("entry {id} follows {one} in one log and {two} in another"))
            }
            (None, Some(_)) => {
                known.previous = new.previous;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_membership(&mut self, record: &Record) -> Result<(), String> {
        let id = record.header().id;
        if record.header().kind != Kind::Membership {
            return Ok(());
        }
        match Membership::decode(&record.payload()) {
            Ok(membership) => self.memberships.note(id, &membership),
            Err(error) => Err(format!("entry {id} cannot be read: {error}")),
        }
    }

    /// A write of `node` begins: what it cuts is no longer certain.
    ///
    /// # Errors
    /// As [`Truth::note`].
    pub(crate) fn writing(&mut self, node: usize, batch: &WriteBatch) -> Result<(), String> {
        let Some(disk) = self.disks.get_mut(node) else { return Ok(()) };
        if let Some(base) = &batch.reset {
            // Found at the next start whether this returns or not: the snapshot up to there is durable.
            (disk.base, disk.log) = (base.entry, Vec::new());
        }
        if let Some(after) = batch.truncate_after {
            disk.cut(after.index);
        }
        disk.vote_under_way = batch.vote;
        let mut previous = match batch.truncate_after {
            Some(after) => Some(after),
            // One that rotted beyond recognition before anybody saw it has no term here.
            None => match disk.log.last() {
                Some(last) => Some(*last).filter(|last| last.term > Term::ZERO),
                None => Some(disk.base),
            },
        };
        for record in records(&batch.records) {
            let id = record.header().id;
            self.note(&record, previous)?;
            previous = Some(id);
        }
        Ok(())
    }

    /// That write, its sync included, has returned.
    pub(crate) fn written(&mut self, node: usize, batch: &WriteBatch) {
        // What mends an entry beyond recognition may be another one, when it is what is committed there.
        let certain = |id: &EntryId| self.committed_at(id.index) == Some(*id);
        let mended: Vec<_> = records(&batch.mend).map(|record| record.header().id).filter(certain).collect();
        let Some(disk) = self.disks.get_mut(node) else { return };
        mended.into_iter().for_each(|id| disk.replace(id));
        disk.vote_under_way = None;
        disk.vote = batch.vote.unwrap_or(disk.vote);
        for record in records(&batch.records) {
            let id = record.header().id;
            disk.cut(id.index.prev());
            disk.log.push(id);
        }
    }

    /// The front of a node's log is gone: it begins at `first`.
    pub(crate) fn purged(&mut self, node: usize, first: Index) {
        let Some(disk) = self.disks.get_mut(node) else { return };
        let Some(base) = disk.at(first.prev()).filter(|base| base.index > disk.base.index) else { return };
        let gone = usize::try_from(base.index.get() - disk.base.index.get()).unwrap_or(usize::MAX);
        disk.log.drain(..gone.min(disk.log.len()));
        disk.base = base;
    }

    /// These are the snapshots that a node has now, all of them durable.
    pub(crate) fn snapshots_kept(&mut self, node: usize, snapshots: &[EntryId]) {
        if let Some(disk) = self.disks.get_mut(node) {
            disk.snapshots = snapshots.to_vec();
        }
    }

    /// A node recovered: this is what its disk holds, all of it durable.
    pub(crate) fn recovered(&mut self, node: usize, raft: &Raft, snapshots: &[EntryId]) {
        let Some(disk) = self.disks.get_mut(node) else { return };
        let (base, last) = (raft.base(), raft.last().index);
        disk.vote = raft.vote();
        disk.vote_under_way = None;
        disk.snapshots = snapshots.to_vec();
        // What rotted beyond recognition is what it was.
        let was = |index: Index| disk.at(index).unwrap_or(EntryId::new(index, Term::ZERO));
        let found = |index: Index| raft.term_at(index).map_or_else(|| was(index), |term| EntryId::new(index, term));
        disk.log = (base.index.next().get()..=last.get()).map(|index| found(Index(index))).collect();
        disk.base = base;
    }
}

/// A number for bytes: 64 bits, since a checksum of 32 takes two of a run's thousands of writes for one now and then.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// The whole records of a batch; ends at the first that is bad.
pub(crate) fn records(pieces: &[Bytes]) -> impl Iterator<Item = Record> {
    pieces.iter().flat_map(|piece| split(piece, MAX_RECORD_BYTES_LIMIT).map_while(Result::ok))
}
