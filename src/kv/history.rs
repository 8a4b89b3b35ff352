//! From entries of the log and what is noted of them to the changes that a watch tells. Pure: reads no log and waits for
//! nothing, so that a node and a simulator do it by the same code.
//!
//! ```text
//!   entries of the log ──┐
//!                        ├─► Page: every change of them ─► tell: those in the range of one watch ─► WatchPage
//!   notes (effects.rs) ──┘   shared by watches that stand at the same place
//! ```
//! All changes of one revision are in one page and are told as one, whatever their size.

use bytes::Bytes;

use crate::state_machine::Entry;
use crate::types::{Index, Kind, LeaseId};

use super::command::Command;
use super::effects::{Before, Branch, Newest, Note};
use super::range::KeyRange;
use super::txn::{Txn, TxnOp};
use super::watch::{Changes, Event, EventKind, WatchAsk, WatchError, WatchPage};

use std::sync::Arc;

/// What each event of a page counts beside its bytes.
const EVENT_OVERHEAD_BYTES: usize = 40;

/// What is known of the entries that a machine applied. Clones show the same; stays valid as the machine goes on.
#[derive(Clone, Debug)]
pub struct History {
    newest: Newest,
}

/// The changes of some entries, one behind the other in the log.
#[derive(Debug)]
pub(crate) struct Page {
    last: Index,
    /// Of the entries that changed something, in order.
    steps: Vec<Step>,
}

/// What one entry changed.
#[derive(Debug)]
struct Step {
    revision: Index,
    changes: Vec<Change>,
    /// In these keys it changed something that is not known any more.
    lost: Option<KeyRange>,
}

/// The change of one key.
#[derive(Debug)]
struct Change {
    key: Bytes,
    kind: EventKind,
    before: Before,
}

impl History {
    pub(super) fn new(newest: Newest) -> Self {
        Self { newest }
    }

    /// The last entry that is applied and visible: a watch is told nothing beyond it.
    #[must_use]
    pub fn published(&self) -> Index {
        self.newest.load().published
    }

    /// The first revision that a watch can begin with, as far as the notes go: the log may begin later.
    #[must_use]
    pub fn oldest(&self, previous: bool) -> Index {
        self.newest.load().oldest(previous)
    }

    /// Says when a watch cannot go on from a revision.
    ///
    /// # Errors
    /// `Compacted`.
    pub(crate) fn check(&self, from: Index, previous: bool) -> Result<(), WatchError> {
        let oldest = self.oldest(previous);
        if from < oldest { Err(WatchError::Compacted { oldest }) } else { Ok(()) }
    }

    /// The changes of these entries of the log, which are applied and visible, with values before when they are wanted; in
    /// memory of their own, which keeps no part of the log alive. Only those in a range, when there is one.
    ///
    /// # Errors
    /// `Compacted` when too little is known of them.
    pub(crate) fn page(&self, entries: &[Entry], previous: bool, range: Option<&KeyRange>) -> Result<Page, WatchError> {
        let index = |entry: Option<&Entry>| entry.map_or(Index::ZERO, |entry| entry.id.index);
        let (from, last) = (index(entries.first()), index(entries.last()));
        let told = self.newest.load();
        let oldest = told.oldest(previous);
        if from < oldest {
            return Err(WatchError::Compacted { oldest });
        }
        let mut notes = told.notes(from, last).peekable();
        let mut before = told.previous(from, if previous { last } else { Index::ZERO }).peekable();
        let mut steps = Vec::new();
        for entry in entries {
            let of = entry.id.index;
            let note = notes.next_if(|(noted, _note)| *noted == of).map(|(_of, note)| note);
            let (mut changes, lost) = changes(entry, note)?;
            for change in &mut changes {
                change.before = before.next_if(|(changed, _)| *changed == of).and_then(|(_of, before)| before.clone());
            }
            while before.next_if(|(changed, _)| *changed == of).is_some() {
                debug_assert!(lost.is_some(), "entry {of} changed more keys than it tells");
            }
            changes.retain(|change| range.is_none_or(|range| range.contains(&change.key)));
            changes.iter_mut().for_each(Change::own);
            if !changes.is_empty() || lost.is_some() {
                steps.push(Step { revision: of, changes, lost });
            }
        }
        Ok(Page { last, steps })
    }
}

impl Page {
    /// What a watch is told of it: about `max_bytes`, one revision at least.
    ///
    /// # Errors
    /// `Compacted` when what the watch would be told first is not known any more.
    pub(crate) fn tell(&self, ask: &WatchAsk, max_bytes: usize) -> Result<WatchPage, WatchError> {
        let (mut told, mut room) = (WatchPage { changes: Vec::new(), next: self.last.next() }, max_bytes);
        let first = self.steps.partition_point(|step| step.revision < ask.from);
        for step in self.steps.iter().skip(first) {
            let revision = step.revision;
            let lost = step.lost.as_ref().is_some_and(|lost| !lost.and(&ask.range).is_empty());
            if lost && told.changes.is_empty() {
                return Err(WatchError::Compacted { oldest: revision.next() });
            }
            let watched = step.changes.iter().filter(|change| ask.range.contains(&change.key));
            let events: Vec<Event> = watched.map(|change| change.event(ask.previous)).collect();
            let bytes = events.iter().map(bytes_of).sum::<usize>();
            if lost || (bytes > room && !told.changes.is_empty()) {
                told.next = revision;
                break;
            }
            room = room.saturating_sub(bytes);
            if !events.is_empty() {
                told.changes.push(Changes { revision, events });
            }
        }
        Ok(told)
    }
}

fn bytes_of(event: &Event) -> usize {
    let value = match &event.kind {
        EventKind::Put { value, .. } => value.len(),
        EventKind::Delete => 0,
    };
    event.key.len() + value + event.previous.as_ref().map_or(0, Bytes::len) + EVENT_OVERHEAD_BYTES
}

impl Change {
    fn put(key: Bytes, value: Bytes, lease: LeaseId) -> Self {
        Self { key, kind: EventKind::Put { value, lease }, before: None }
    }

    fn delete(key: Bytes) -> Self {
        Self { key, kind: EventKind::Delete, before: None }
    }

    fn own(&mut self) {
        self.key = Bytes::copy_from_slice(&self.key);
        if let EventKind::Put { value, .. } = &mut self.kind {
            *value = Bytes::copy_from_slice(value);
        }
    }

    fn event(&self, previous: bool) -> Event {
        let previous = self.before.as_ref().filter(|_before| previous).map(|it| Bytes::from_owner(Arc::clone(it)));
        Event { key: self.key.clone(), kind: self.kind.clone(), previous }
    }
}

type Told = (Vec<Change>, Option<KeyRange>);

/// What an entry changed, by what it says and what is noted of it; and where it changed what is not known any more.
fn changes(entry: &Entry, note: Option<&Note>) -> Result<Told, WatchError> {
    let command = match entry.kind {
        Kind::Membership => return Ok((Vec::new(), None)),
        // Leases end in these.
        Kind::NoOp => return Ok(unnamed(KeyRange::default(), note)),
        Kind::Data => Command::decode(&entry.payload),
    };
    let plain = match command {
        Ok(Command::Numbered { command, .. }) => Command::decode(command),
        other => other,
    };
    let command = plain.map_err(|error| {
        WatchError::Unavailable(format!("entry {} cannot be read by this release: {error}", entry.id))
    })?;
    if note == Some(&Note::Nothing) {
        return Ok((Vec::new(), None));
    }
    let copy = |bytes: &[u8]| entry.payload.slice_ref(bytes);
    let named = match command {
        Command::Put { key, value, lease } => vec![Change::put(copy(key), copy(value), lease)],
        Command::Delete { key } => vec![Change::delete(copy(key))],
        Command::Txn(txn) => match note {
            Some(Note::Txn(branch)) => transacted(txn, branch),
            _ => transacted(txn, &Branch { succeeded: true, sums: Vec::new(), found: Vec::new() }),
        },
        Command::DeleteRange { from, to } => {
            return Ok(unnamed(KeyRange { from: copy(from), to: to.map(copy) }, note));
        }
        Command::RevokeLease { .. } => return Ok(unnamed(KeyRange::default(), note)),
        Command::GrantLease { .. }
        | Command::KeepAlive { .. }
        | Command::OpenSession { .. }
        | Command::CloseSession { .. }
        | Command::Numbered { .. } => Vec::new(),
    };
    Ok((named, None))
}

/// The changes of an entry that deleted keys without naming them, all of them in this range.
fn unnamed(range: KeyRange, note: Option<&Note>) -> Told {
    match note {
        Some(Note::Deleted(keys)) => (keys.iter().map(Change::delete).collect(), None),
        Some(Note::Lost) => (Vec::new(), Some(range)),
        Some(Note::Nothing | Note::Txn(_)) | None => (Vec::new(), None),
    }
}

fn transacted(txn: Txn, branch: &Branch) -> Vec<Change> {
    let (mut sums, mut found) = (branch.sums.iter(), branch.found.iter());
    let ops = if branch.succeeded { txn.then } else { txn.otherwise };
    let change = |op| match op {
        TxnOp::Put { key, value, lease } => Some(Change::put(key, value, lease)),
        TxnOp::Delete { key } => found.next().copied().unwrap_or(true).then(|| Change::delete(key)),
        TxnOp::Get { .. } => None,
        TxnOp::Add { key, .. } => sums.next().map(|(sum, lease)| Change::put(key, sum.to_string().into(), *lease)),
    };
    ops.into_iter().filter_map(change).collect()
}
