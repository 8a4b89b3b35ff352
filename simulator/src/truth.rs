//! What is true of a cluster, as only a simulator can know it: every record ever framed, what each disk has synced,
//! and which entries were committed.
//!
//! ```text
//!   records    (index, term) ──► the bytes' checksum, its predecessor        grows
//!   disks      per node: vote and entries whose write and sync have returned
//!   committed  by index, in the order in which some node first said so       grows
//! ```
//! The checkers compare with this what nodes claim. Nothing here decides.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use dledger::commitlog::{Record, WriteBatch, split};
use dledger::config::MAX_RECORD_BYTES_LIMIT;
use dledger::types::{EntryId, Index, LogTime, Position, Term, Vote};

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
    /// The entries from index 1 on.
    pub(crate) log: Vec<EntryId>,
}

impl DiskTruth {
    pub(crate) fn at(&self, index: Index) -> Option<EntryId> {
        let place = usize::try_from(index.get().checked_sub(1)?).ok()?;
        self.log.get(place).copied()
    }

    fn cut(&mut self, after: Index) {
        self.log.truncate(usize::try_from(after.get()).unwrap_or(usize::MAX));
    }
}

/// The truth about one run.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) records: HashMap<EntryId, Known>,
    pub(crate) disks: Vec<DiskTruth>,
    pub(crate) committed: Vec<EntryId>,
}

impl Truth {
    /// So many nodes that have formed: every disk holds entry 1, the membership, which is committed by that.
    pub(crate) fn formed(nodes: usize) -> Self {
        let first = EntryId::new(Index(1), Term(1));
        let vote = Vote { term: first.term, ..Vote::default() };
        let disk = DiskTruth { vote, vote_under_way: None, log: vec![first] };
        Self { records: HashMap::new(), disks: vec![disk; nodes], committed: vec![first] }
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

    /// How many disks hold an entry.
    pub(crate) fn disks_with(&self, id: EntryId) -> usize {
        self.disks.iter().filter(|disk| disk.at(id.index) == Some(id)).count()
    }

    /// Notes a record that stands in some log or is on its way there.
    ///
    /// # Errors
    /// Two records of one index and term differ: a sentence.
    pub(crate) fn note(&mut self, record: &Record, previous: Option<EntryId>) -> Result<(), String> {
        let (id, new) = (record.header().id, Known::of(record, previous));
        let Some(known) = self.records.get_mut(&id) else {
            self.records.insert(id, new);
            return Ok(());
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

    /// A write of `node` begins: what it cuts is no longer certain.
    ///
    /// # Errors
    /// As [`Truth::note`].
    pub(crate) fn writing(&mut self, node: usize, batch: &WriteBatch) -> Result<(), String> {
        let Some(disk) = self.disks.get_mut(node) else { return Ok(()) };
        if let Some(after) = batch.truncate_after {
            disk.cut(after.index);
        }
        disk.vote_under_way = batch.vote;
        let mut previous = match batch.truncate_after {
            Some(after) => Some(after),
            // One that rotted beyond recognition before anybody saw it has no term here.
            None => match disk.log.last() {
                Some(last) => Some(*last).filter(|last| last.term > Term::ZERO),
                None => Some(EntryId::ZERO),
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
        let Some(disk) = self.disks.get_mut(node) else { return };
        disk.vote_under_way = None;
        disk.vote = batch.vote.unwrap_or(disk.vote);
        for record in records(&batch.records) {
            let id = record.header().id;
            disk.cut(id.index.prev());
            disk.log.push(id);
        }
    }

    /// A node recovered: this is what its disk holds, all of it durable.
    pub(crate) fn recovered(&mut self, node: usize, vote: Vote, last: Index, term_at: impl Fn(Index) -> Option<Term>) {
        let Some(disk) = self.disks.get_mut(node) else { return };
        disk.vote = vote;
        disk.vote_under_way = None;
        // What rotted beyond recognition is what it was.
        let was = |index: Index| disk.at(index).unwrap_or(EntryId::new(index, Term::ZERO));
        let found = |index: Index| term_at(index).map_or_else(|| was(index), |term| EntryId::new(index, term));
        disk.log = (1..=last.get()).map(|index| found(Index(index))).collect();
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
