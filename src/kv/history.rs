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
#[cfg(feature = "simulation")]
use super::watch::WatchOptions;
use super::watch::{Changes, Event, EventKind, WatchAsk, WatchError, WatchPage};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

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
    /// A watch was told of it.
    told: AtomicBool,
    /// Made for the second watch that is told of it: a single one is quicker without.
    by_key: OnceLock<ByKey>,
}

/// Where in a page a watch has to look.
#[derive(Debug)]
struct ByKey {
    /// Step and change, in the order of the keys.
    changes: Vec<(usize, usize)>,
    /// The steps of which not all is known.
    lost: Vec<usize>,
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

    /// What a watch is told of these entries, which begin at `from` and are applied and visible, and from where on there may
    /// be more: for a simulation, which reads the log by itself.
    ///
    /// # Errors
    /// `Compacted` when too little is known of them.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn told(
        &self,
        options: &WatchOptions,
        from: Index,
        entries: &[Entry],
        max_bytes: usize,
    ) -> Result<(Vec<Changes>, Index), WatchError> {
        self.check(from, options.previous)?;
        let ask = WatchAsk { range: options.range.clone(), from, previous: options.previous };
        let page = self.page(entries, ask.previous, None)?.tell(&ask, max_bytes)?;
        Ok((page.changes, page.next))
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
        Ok(Page { last, steps, told: AtomicBool::new(false), by_key: OnceLock::new() })
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
        for step in self.steps_of(&ask.range, first) {
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

    /// The steps from one on that may concern a range, in order.
    fn steps_of(&self, range: &KeyRange, first: usize) -> impl Iterator<Item = &Step> {
        let is_shared = self.told.swap(true, Ordering::Relaxed);
        let some = is_shared.then(|| self.by_key.get_or_init(|| self.sorted()).places(self, range));
        let all = some.is_none().then_some(0..self.steps.len());
        let places = some.into_iter().flatten().chain(all.into_iter().flatten());
        places.filter(move |place| *place >= first).filter_map(|place| self.steps.get(place))
    }

    fn sorted(&self) -> ByKey {
        let numbered = || self.steps.iter().enumerate();
        let mut changes: Vec<(usize, usize)> =
            numbered().flat_map(|(place, step)| (0..step.changes.len()).map(move |change| (place, change))).collect();
        changes.sort_by(|one, other| self.key(*one).cmp(self.key(*other)));
        let lost = numbered().filter(|(_place, step)| step.lost.is_some()).map(|(place, _step)| place).collect();
        ByKey { changes, lost }
    }

    fn key(&self, (step, change): (usize, usize)) -> &[u8] {
        self.steps.get(step).and_then(|step| step.changes.get(change)).map_or(&[], |change| &change.key)
    }
}

impl ByKey {
    /// The steps that changed a key in the range, or keys that are not known, in order.
    fn places(&self, page: &Page, range: &KeyRange) -> Vec<usize> {
        let below = |bound: &[u8]| self.changes.partition_point(|change| page.key(*change) < bound);
        let start = below(&range.from);
        let end = range.to.as_ref().map_or(self.changes.len(), |to| below(to));
        let within = self.changes.get(start..end).unwrap_or_default();
        let mut places: Vec<usize> = within.iter().map(|(step, _change)| *step).chain(self.lost.clone()).collect();
        places.sort_unstable();
        places.dedup();
        places
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries 10 to 29, each of which changed up to three of the keys a to f; of two of them not all is known.
    fn page() -> Page {
        let step = |revision: u64| {
            let key = |of: u64| Bytes::from(vec![b'a' + u8::try_from((revision * 7 + of * 5) % 6).unwrap()]);
            let changes = (0..revision % 4).map(|of| Change::put(key(of), Bytes::from(vec![b'v'; 30]), LeaseId::ZERO));
            let lost = |from: &'static str, to: &'static str| KeyRange { from: from.into(), to: Some(to.into()) };
            let lost = [(17, lost("b", "c")), (23, lost("e", "z"))].into_iter().find(|(at, _)| *at == revision);
            Step { revision: Index(revision), changes: changes.collect(), lost: lost.map(|(_at, range)| range) }
        };
        let steps = (10..30).map(step).filter(|step| !step.changes.is_empty() || step.lost.is_some()).collect();
        Page { last: Index(29), steps, told: AtomicBool::new(false), by_key: OnceLock::new() }
    }

    #[test]
    fn history_tells_those_who_share_a_page_what_it_tells_one_alone() {
        let shared = page();
        let bounds = ["", "a", "b", "bb", "d", "f", "g"];
        let _first = shared.tell(&WatchAsk { range: KeyRange::default(), from: Index(10), previous: false }, 1 << 20);
        let (mut some, mut lost) = (0, 0);
        for from in bounds {
            for to in bounds.map(Some).into_iter().chain([None]) {
                for (revision, max_bytes) in [(10, 1 << 20), (10, 100), (15, 1 << 20), (18, 200), (29, 1), (30, 1)] {
                    let range = KeyRange { from: from.into(), to: to.map(Bytes::from) };
                    let ask = WatchAsk { range, from: Index(revision), previous: false };
                    let told = shared.tell(&ask, max_bytes);
                    some += told.as_ref().map_or(0, |told| told.changes.len());
                    lost += usize::from(told.is_err());
                    assert_eq!(told, page().tell(&ask, max_bytes), "{ask:?}");
                }
            }
        }
        assert!(some > 200 && lost > 3, "{some} {lost}");
    }
}
