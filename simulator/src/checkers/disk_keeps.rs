//! What a disk said was synced is found again after any crash, byte for byte, and nothing is found that nobody wrote:
//! the log in memory and the log on disk are one (storage.md, recovery).

use dledger::commitlog::LogReader;
use dledger::raft::Raft;
use dledger::types::{EntryId, Index, NodeId};

use super::{Property, Verdict, holds};
use crate::truth::{DiskTruth, Truth, digest};

pub(crate) const PROPERTY: Property = Property {
    name: "disk_keeps",
    claim: "recovery finds every synced record and vote, and nothing that was not written (storage.md)",
};

/// What a disk may have lost that was written and, if the durability asks for it, synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losses {
    /// Nothing.
    None,
    /// Bytes rot or are others than were written: entries may be beyond recognition.
    Recognition,
    /// The log was not synced before it acknowledged, and the power failed: entries at its end.
    Unsynced,
}

/// A node has recovered, and may use these snapshots; `disk` still says what its disk held before.
pub(crate) fn recovered(
    (raft, log): (&Raft, &LogReader),
    snapshots: &[EntryId],
    disk: &DiskTruth,
    truth: &Truth,
    losses: Losses,
) -> Verdict {
    vote_kept(raft, disk)?;
    let newest = snapshots_kept(raft, snapshots, disk, truth, losses)?;
    let base = raft.base();
    // Another history than that of a durable snapshot is of no use, and what stands behind it was never committed. Where
    // rot leaves nothing that tells, this node says that it may have lost something.
    let unknown = losses == Losses::Recognition && raft.in_doubt();
    let started_over = base == newest && disk.at(base.index).is_some_and(|held| held != base || unknown);
    for id in disk.log.iter().filter(|id| id.index > base.index && !started_over) {
        let found = raft.term_at(id.index);
        let may_be_lost = match losses {
            Losses::None => false,
            // Where nobody knew the entry any more, the one that is committed there may stand by now.
            Losses::Recognition => match found {
                None => id.index <= raft.last().index,
                Some(term) => truth.committed_at(id.index) == Some(EntryId::new(id.index, term)),
            },
            Losses::Unsynced => id.index > raft.last().index,
        };
        holds(found == Some(id.term) || may_be_lost, || {
            let found = raft.term_at(id.index).map_or_else(|| "nothing".to_owned(), |term| format!("term {term}"));
            format!("entry {id} was synced, {found} was found in its place")
        })?;
    }
    nothing_else(raft, log, disk, truth, losses)
}

fn vote_kept(raft: &Raft, disk: &DiskTruth) -> Verdict {
    let found = raft.vote();
    let kept = found.term > disk.vote.term
        || found == disk.vote
        || disk.vote_under_way == Some(found)
        || (found.term == disk.vote.term && disk.vote.voted_for == NodeId::ZERO);
    holds(kept, || format!("the vote {:?} was synced, {found:?} was found", disk.vote))
}

/// A durable snapshot is found again unless a newer one is, it is of what is committed, and the log goes on behind it.
fn snapshots_kept(
    raft: &Raft,
    snapshots: &[EntryId],
    disk: &DiskTruth,
    truth: &Truth,
    losses: Losses,
) -> Result<EntryId, String> {
    let (before, newest) = (disk.newest_snapshot(), snapshots.first().copied().unwrap_or_default());
    let base = raft.base();
    let rots = losses == Losses::Recognition;
    holds(newest.index >= before.index || rots, || {
        format!("the snapshot of {before} was durable, {newest} is the newest that was found")
    })?;
    holds(newest.index.is_zero() || truth.committed_at(newest.index) == Some(newest), || {
        format!("a snapshot of {newest} was found, which is not committed")
    })?;
    holds(base.index <= newest.index || rots, || {
        format!("the log begins behind {base}, and {newest} is the newest snapshot that was found")
    })?;
    Ok(newest)
}

/// Nothing stands in the log that nobody wrote, in its order and with its bytes.
fn nothing_else(raft: &Raft, log: &LogReader, disk: &DiskTruth, truth: &Truth, losses: Losses) -> Verdict {
    let base = raft.base();
    let mut previous = Some(base).filter(|base| !base.index.is_zero());
    for index in base.index.next().get()..=raft.last().index.get() {
        let Some(term) = raft.term_at(Index(index)) else {
            previous = None;
            continue;
        };
        let id = EntryId::new(Index(index), term);
        let known = truth.records.get(&id);
        holds(known.is_some() || index == 1, || format!("entry {id} was found, and nobody wrote it"))?;
        let before = known.and_then(|known| known.previous);
        holds(before.is_none() || previous.is_none() || before == previous, || {
            format!("entry {id} follows {previous:?}, but was written behind {before:?}")
        })?;
        // What was certain is compared once, at the end of the run.
        let readable = losses != Losses::Recognition || log.read(id.index).is_ok();
        if let Some(known) = known.filter(|_known| disk.at(id.index).is_none() && readable) {
            let record =
                log.read(id.index).map_err(|error| format!("entry {id} was found and does not read: {error}"))?;
            let same = digest(record.bytes()) == known.digest;
            holds(same, || format!("entry {id} was found with other bytes than were written"))?;
        }
        previous = Some(id);
    }
    Ok(())
}
