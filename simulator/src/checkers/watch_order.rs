//! Every watcher is told what the entries did, all of it, once, in their order, and all that one entry did together; or that
//! it cannot be told, when that is so (kv.md, watch; faults.md, row 20). What entries did says the plain reading of them.

use std::fmt::Debug;
use std::ops::Range;

use dledger::kv::{Changes, Event, EventKind, WatchOptions};
use dledger::types::Index;

use super::same_state::SameState;
use super::{Property, Verdict, holds};
use crate::plain::Change;

pub(crate) const PROPERTY: Property = Property {
    name: "watch_order",
    claim: "all watchers see the same changes in the order of the log, without gap or duplicate (faults.md, row 20)",
};

/// Values before a change are kept for a window of their own, of at least so many bytes.
const PREVIOUS_BYTES: usize = 4 << 20;

/// A watcher at entry `told.start` is told this, and to go on at `told.end`.
pub(crate) fn told(options: &WatchOptions, told: Range<Index>, changes: &[Changes], log: &SameState) -> Verdict {
    let (from, next) = (told.start, told.end);
    holds(from < next, || format!("a watch at {from} is told to go on at {next}"))?;
    let mut changes = changes.iter();
    for index in from.get()..next.get() {
        let revision = Index(index);
        let effect =
            log.effect(revision).ok_or_else(|| format!("a watch is told of {revision}, which nobody applied"))?;
        let watched = effect.changes.iter().filter(|change| options.range.contains(&change.key));
        let events: Vec<Event> = watched.map(|change| event(change, options.previous)).collect();
        if events.is_empty() {
            continue;
        }
        let expected = Changes { revision, events };
        let it = changes.next();
        holds(it == Some(&expected), || {
            format!("a watch from {from} is told {}, and what happened is {}", short(&it), short(&expected))
        })?;
    }
    let more = changes.next();
    holds(more.is_none(), || format!("a watch from {from} is told what did not happen: {}", short(&more)))
}

fn short(words: &impl Debug) -> String {
    let mut text = format!("{words:?}");
    text.truncate(400);
    text
}

fn event(change: &Change, previous: bool) -> Event {
    let kind = match &change.now {
        Some((value, lease)) => EventKind::Put { value: value.clone(), lease: *lease },
        None => EventKind::Delete,
    };
    Event { key: change.key.clone(), kind, previous: change.before.clone().filter(|_before| previous) }
}

/// A watcher at `from` is told that this is gone, by a node whose log begins at `first`, whose state began with a snapshot
/// of `restored`, and which has published what comes up to `published`.
pub(crate) fn compacted(
    options: &WatchOptions,
    from: Index,
    (first, restored, published): (Index, Index, Index),
    log: &SameState,
) -> Verdict {
    let before = (from.get()..=published.get()).filter_map(|index| log.effect(Index(index)));
    let bytes = |effect: &crate::plain::Effect| -> usize {
        effect.changes.iter().map(|change| change.before.as_ref().map_or(0, bytes::Bytes::len) + 64).sum()
    };
    let long = options.previous && before.map(bytes).sum::<usize>() > PREVIOUS_BYTES;
    holds(from < first || from <= restored || long, || {
        format!("a watch from {from} is refused, and the log begins at {first}, the state with {restored}")
    })
}

/// What a node shows to watches is what it shows to readers, up to the same entry.
pub(crate) fn published(published: Index, applied: Index) -> Verdict {
    holds(published <= applied, || format!("watches are told up to {published}, readers up to {applied}"))
}
