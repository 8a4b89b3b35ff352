//! What entries did that they do not say themselves: the small memory that lets a watch read changes from the log.
//!
//! The log has keys and values already. What an entry changed can still not always be read from it: which branch of a
//! transaction was taken and what its sums came to, whether a key to delete was there, the keys of a range or of a lease
//! that ended, whether a numbered command was done before. The machine notes that as it applies; nothing else.
//!
//! ```text
//!   event loop   apply ─► Effects: what the quantum did ──publish──► Told: the last few MiB ──► History (any thread)
//!                                                                    immutable, shares memory     history.rs
//!   log      … │ put │ put │ delete │ put │ txn │ no-op │ put │
//!   notes          ·     ·  "nothing"  ·  "else"  3 keys    ·       an entry without one did what it says
//! ```
//! So a put costs no note, and the history of a store of puts reaches back as far as its log. Beside the notes stands, for
//! each key that was changed, its value before: a window of its own, shorter, for watches that want it. Both are kept on
//! every node at all times, whether somebody watches or not: a watch that moves to another node finds them there.
//!
//! Invariants: notes and values are in the order of the log; what is known is that of all entries from `oldest` (or
//! `previous_from`) to `published`. Readers see nothing of an entry before all of it is applied and visible. Both are
//! bounded in bytes; the oldest go first, in bounded steps. History begins behind the state that this node started with or
//! installed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use imbl::Vector;

use crate::types::{Index, LeaseId};

use super::backend::Stored;
use super::txn::OpResult;

/// Bounds in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of the notes. One that would take more than half of it is not kept: what it says is lost.
    pub(super) notes: usize,
    /// Of the values before.
    pub(super) previous: usize,
}

/// What a node keeps.
pub(super) const BOUNDS: Bounds = Bounds { notes: 4 << 20, previous: 8 << 20 };

/// What each note and each value counts beside its content.
pub(super) const ITEM_BYTES: usize = 64;

/// Most of the oldest notes, and of the oldest values, that go with one quantum beyond as many as it added: freeing them is
/// work of the event loop.
const TRIM: usize = 1024;

/// What an entry did, when that is not what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Nothing: it was rejected, came again, or found nothing to delete.
    Nothing,
    /// A transaction that did not simply do all of its first branch.
    Txn(Arc<Branch>),
    /// These keys are gone, though the entry does not name them.
    Deleted(Keys),
    /// More than is kept.
    Lost,
}

impl Note {
    fn bytes(&self) -> usize {
        ITEM_BYTES
            + match self {
                Self::Nothing | Self::Lost => 0,
                Self::Txn(branch) => branch.sums.len() * size_of::<(i64, LeaseId)>() + branch.found.len() + ITEM_BYTES,
                Self::Deleted(keys) => keys.0.len(),
            }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// Whether what was compared held.
    pub(super) succeeded: bool,
    /// What each `Add` came to, and the lease that the key kept.
    pub(super) sums: Vec<(i64, LeaseId)>,
    /// Whether each `Delete` found its key.
    pub(super) found: Vec<bool>,
}

/// Keys, one behind the other: length (4 bytes), bytes. One piece of memory, which is let go in no time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys(Bytes);

impl Keys {
    /// The keys, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Bytes> {
        let mut rest = self.0.clone();
        std::iter::from_fn(move || {
            let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
            drop(rest.split_to(4));
            (length <= rest.len()).then(|| rest.split_to(length))
        })
    }
}

/// The value of a key before it was changed; `None` when there was no such key.
pub(super) type Before = Option<Arc<[u8]>>;

/// What the entries since the last publication did: the machine's end.
#[derive(Debug)]
pub(super) struct Effects {
    newest: Newest,
    bounds: Bounds,
    /// What is published next. The entry at hand may have added to it, and what it added is not told before it is done.
    told: Told,
    /// The keys that the entry at hand has deleted without naming them, as in [`Keys`].
    gone: Vec<u8>,
    /// They were more than is kept.
    lost: bool,
    /// What was known of the state before another was installed, on its way out.
    leaving: (Noted, Changed),
}

/// The newest that is told: written by the machine, read by everybody.
pub(super) type Newest = Arc<ArcSwap<Told>>;
type Noted = Vector<(Index, Note)>;
type Changed = Vector<(Index, Before)>;

/// What is known as of one publication. A clone costs nothing.
#[derive(Clone, Debug)]
pub(super) struct Told {
    notes: Noted,
    notes_bytes: usize,
    previous: Changed,
    previous_bytes: usize,
    /// What each entry from here on did is known.
    oldest: Index,
    /// So are the values before, from here on.
    previous_from: Index,
    /// The last entry that is applied and visible.
    pub(super) published: Index,
}

impl Default for Effects {
    fn default() -> Self {
        Self::bounded(BOUNDS)
    }
}

impl Effects {
    pub(super) fn bounded(bounds: Bounds) -> Self {
        let told = Told::behind(Index::ZERO);
        let newest = Arc::new(ArcSwap::from_pointee(told.clone()));
        Self { newest, bounds, told, gone: Vec::new(), lost: false, leaving: Default::default() }
    }

    /// What others read.
    pub(super) fn newest(&self) -> Newest {
        Arc::clone(&self.newest)
    }

    fn note(&mut self, revision: Index, note: Note) {
        self.told.notes_bytes += note.bytes();
        self.told.notes.push_back((revision, note));
    }

    /// A key was changed that was this before. Called once for each, in the order in which the entry did it.
    pub(super) fn changed(&mut self, revision: Index, before: Option<&Stored>) {
        let before = before.map(|stored| Arc::clone(&stored.value));
        self.told.previous_bytes += bytes_of(&before);
        self.told.previous.push_back((revision, before));
    }

    /// A key was deleted that the entry does not name.
    pub(super) fn gone(&mut self, revision: Index, key: &[u8], before: &Stored) {
        self.changed(revision, Some(before));
        if self.lost || self.gone.len() + key.len() > self.bounds.notes / 2 {
            self.lost = true;
            self.gone = Vec::new();
            return;
        }
        self.gone.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.gone.extend_from_slice(key);
    }

    /// The entry that deleted keys without naming them is done.
    pub(super) fn all_gone(&mut self, revision: Index) {
        let keys = std::mem::take(&mut self.gone).into_boxed_slice();
        if std::mem::take(&mut self.lost) {
            self.note(revision, Note::Lost);
        } else if !keys.is_empty() {
            self.note(revision, Note::Deleted(Keys(keys.into())));
        }
    }

    /// The entry changed nothing, though it says something else.
    pub(super) fn nothing(&mut self, revision: Index) {
        self.note(revision, Note::Nothing);
    }

    /// The entry is a transaction that did this, and these are the leases of the keys that it added to.
    pub(super) fn transacted(&mut self, revision: Index, succeeded: bool, results: &[OpResult], kept: Vec<LeaseId>) {
        let (mut sums, mut found, mut kept) = (Vec::new(), Vec::new(), kept.into_iter());
        let mut changes = false;
        for result in results {
            changes |= match result {
                OpResult::Put => true,
                OpResult::Deleted(there) => {
                    found.push(*there);
                    *there
                }
                OpResult::Value(_) => false,
                OpResult::Sum(sum) => {
                    sums.push((*sum, kept.next().unwrap_or_default()));
                    true
                }
            };
        }
        if !changes {
            return self.nothing(revision);
        }
        if !succeeded || !sums.is_empty() || found.contains(&false) {
            self.note(revision, Note::Txn(Arc::new(Branch { succeeded, sums, found })));
        }
    }

    /// The entry could not be applied, nor can any behind it.
    pub(super) fn abandon(&mut self, revision: Index) {
        (self.gone, self.lost) = (Vec::new(), false);
        let told = &mut self.told;
        while let Some((_of, note)) = told.notes.last().filter(|(of, _note)| *of >= revision) {
            told.notes_bytes -= note.bytes();
            told.notes.pop_back();
        }
        while let Some((_of, before)) = told.previous.last().filter(|(of, _before)| *of >= revision) {
            told.previous_bytes -= bytes_of(before);
            told.previous.pop_back();
        }
    }

    /// Everything up to this entry is applied and visible.
    pub(super) fn publish(&mut self, upto: Index) {
        let before = self.newest.load();
        self.told.trim(self.bounds, &before);
        self.told.published = upto;
        self.newest.store(Arc::new(self.told.clone()));
        let (notes, previous) = &mut self.leaving;
        for _step in 0..TRIM {
            if notes.pop_front().is_none() && previous.pop_front().is_none() {
                break;
            }
        }
    }

    /// The state is another one, that after this entry: nothing is known of what led to it.
    pub(super) fn restart(&mut self, at: Index) {
        (self.gone, self.lost) = (Vec::new(), false);
        let Told { notes, previous, .. } = std::mem::replace(&mut self.told, Told::behind(at));
        self.leaving.0.append(notes);
        self.leaving.1.append(previous);
        self.newest.store(Arc::new(self.told.clone()));
    }
}

fn bytes_of(before: &Before) -> usize {
    ITEM_BYTES + before.as_ref().map_or(0, |value| value.len())
}

impl Told {
    /// Nothing is known of what led to the state after this entry.
    fn behind(at: Index) -> Self {
        Self {
            notes: Vector::new(),
            notes_bytes: 0,
            previous: Vector::new(),
            previous_bytes: 0,
            oldest: at.next(),
            previous_from: at.next(),
            published: at,
        }
    }

    /// Lets the oldest go that are over the bounds. An entry may change a thousand keys: of what grows by any number at once,
    /// that many and some more must go, or it would grow without a bound.
    fn trim(&mut self, bounds: Bounds, before: &Self) {
        let more = |now: usize, then: usize| TRIM + now.saturating_sub(then);
        for _step in 0..more(self.notes.len(), before.notes.len()) {
            if self.notes_bytes <= bounds.notes {
                break;
            }
            let Some((revision, note)) = self.notes.pop_front() else { break };
            self.notes_bytes -= note.bytes();
            self.oldest = revision.next();
        }
        for _step in 0..more(self.previous.len(), before.previous.len()) {
            if self.previous_bytes <= bounds.previous {
                break;
            }
            let Some((revision, before)) = self.previous.pop_front() else { break };
            self.previous_bytes -= bytes_of(&before);
            self.previous_from = revision.next();
        }
        self.previous_from = self.previous_from.max(self.oldest);
    }

    /// The first revision whose changes are known, with values before or without.
    pub(super) const fn oldest(&self, previous: bool) -> Index {
        if previous { self.previous_from } else { self.oldest }
    }

    /// What is noted of the entries `from ..= last`.
    pub(super) fn notes(&self, from: Index, last: Index) -> impl Iterator<Item = &(Index, Note)> {
        between(&self.notes, from, last)
    }

    /// What the keys that they changed were before, in order.
    pub(super) fn previous(&self, from: Index, last: Index) -> impl Iterator<Item = &(Index, Before)> {
        between(&self.previous, from, last)
    }
}

/// Those of some entries.
fn between<T: Clone>(all: &Vector<(Index, T)>, from: Index, last: Index) -> impl Iterator<Item = &(Index, T)> {
    let start = first_from(all, from);
    let end = first_from(all, last.next()).max(start);
    all.focus().narrow(start..end).into_iter()
}

/// The place of the first that is of this entry or a later one.
fn first_from<T: Clone>(all: &Vector<(Index, T)>, from: Index) -> usize {
    let (mut low, mut high) = (0, all.len());
    while low < high {
        let middle = low.midpoint(high);
        if all.get(middle).is_some_and(|(of, _)| *of < from) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests;
