//! Questions for changes, as bytes.

use serde::{Deserialize, Serialize};

use crate::server::kinds::{KeyRange, WatchAsk};
use crate::types::Index;

use super::super::PacketError;
use super::super::raw::{Reader, Writer, length};

#[derive(Serialize, Deserialize)]
struct WatchFixed {
    from: u32,
    to: Option<u32>,
    revision: Index,
    previous: bool,
}

pub(super) fn encode_watch(writer: Writer, ask: &WatchAsk) -> Result<Writer, PacketError> {
    let KeyRange { from, to } = &ask.range;
    let fixed = WatchFixed {
        from: length("watch", from)?,
        to: to.as_ref().map(|to| length("watch", to)).transpose()?,
        revision: ask.from,
        previous: ask.previous,
    };
    let mut writer = writer.fixed("watch", &fixed)?;
    writer.raw(from);
    to.iter().for_each(|to| writer.raw(to));
    Ok(writer)
}

pub(super) fn decode_watch(reader: &mut Reader) -> Result<WatchAsk, PacketError> {
    let fixed: WatchFixed = reader.fixed()?;
    let from = reader.raw(fixed.from)?;
    let to = fixed.to.map(|length| reader.raw(length)).transpose()?;
    Ok(WatchAsk { range: KeyRange { from, to }, from: fixed.revision, previous: fixed.previous })
}
