//! Pages of changes, as bytes.

use serde::{Deserialize, Serialize};

use crate::server::kinds::{Changes, Event, EventKind, WatchPage};
use crate::types::{Index, LeaseId};

use super::super::PacketError;
use super::super::raw::{Reader, Writer, length};

#[derive(Serialize, Deserialize)]
pub(super) struct WatchedFixed {
    changes: Vec<(Index, Vec<EventFixed>)>,
    next: Index,
}

#[derive(Serialize, Deserialize)]
struct EventFixed {
    key: u32,
    kind: WireKind,
    previous: Option<u32>,
}

/// The order of the variants is part of the format.
#[derive(Serialize, Deserialize)]
enum WireKind {
    Put { value: u32, lease: LeaseId },
    Delete,
}

/// Bytes of keys and values in a page.
pub(super) fn raw_bytes(page: &WatchPage) -> usize {
    let of = |event: &Event| {
        let value = if let EventKind::Put { value, .. } = &event.kind { value.len() } else { 0 };
        event.key.len() + value + event.previous.as_ref().map_or(0, |previous| previous.len())
    };
    page.changes.iter().flat_map(|changes| &changes.events).map(of).sum()
}

pub(super) fn watched_fixed(page: &WatchPage) -> Result<WatchedFixed, PacketError> {
    let event = |event: &Event| {
        let kind = match &event.kind {
            EventKind::Put { value, lease } => WireKind::Put { value: length("change", value)?, lease: *lease },
            EventKind::Delete => WireKind::Delete,
        };
        let previous = event.previous.as_ref().map(|previous| length("change", previous)).transpose()?;
        Ok(EventFixed { key: length("change", &event.key)?, kind, previous })
    };
    let all = |changes: &Changes| {
        let events = changes.events.iter().map(event).collect::<Result<Vec<_>, PacketError>>()?;
        Ok((changes.revision, events))
    };
    let changes = page.changes.iter().map(all).collect::<Result<Vec<_>, PacketError>>()?;
    Ok(WatchedFixed { changes, next: page.next })
}

pub(super) fn write_events(mut writer: Writer, page: &WatchPage) -> Writer {
    for event in page.changes.iter().flat_map(|changes| &changes.events) {
        writer.raw(&event.key);
        if let EventKind::Put { value, .. } = &event.kind {
            writer.raw(value);
        }
        event.previous.iter().for_each(|previous| writer.raw(previous));
    }
    writer
}

pub(super) fn read_events(reader: &mut Reader, fixed: WatchedFixed) -> Result<WatchPage, PacketError> {
    let mut event = |fixed: EventFixed| {
        let key = reader.raw(fixed.key)?;
        let kind = match fixed.kind {
            WireKind::Put { value, lease } => EventKind::Put { value: reader.raw(value)?, lease },
            WireKind::Delete => EventKind::Delete,
        };
        let previous = fixed.previous.map(|length| reader.raw(length)).transpose()?;
        Ok(Event { key, kind, previous })
    };
    let mut changes = Vec::with_capacity(fixed.changes.len());
    for (revision, events) in fixed.changes {
        let events = events.into_iter().map(&mut event).collect::<Result<Vec<_>, PacketError>>()?;
        changes.push(Changes { revision, events });
    }
    Ok(WatchPage { changes, next: fixed.next })
}
