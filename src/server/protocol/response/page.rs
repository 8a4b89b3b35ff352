//! Keys and values, and pages of them, as bytes.

use serde::{Deserialize, Serialize};

use crate::server::kinds::{KeyValue, ScanPage};
use crate::types::{Index, LeaseId};

use super::super::PacketError;
use super::super::raw::{Reader, Writer, length};

#[derive(Serialize, Deserialize)]
pub(super) struct ItemFixed {
    key: u32,
    value: u32,
    create_revision: Index,
    mod_revision: Index,
    version: u64,
    lease: LeaseId,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PageFixed {
    items: Vec<ItemFixed>,
    count: u64,
    next: Option<u32>,
    revision: Index,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PartFixed {
    pub(super) view: Option<u64>,
    pub(super) page: PageFixed,
}

pub(super) fn item_fixed(what: &'static str, item: &KeyValue) -> Result<ItemFixed, PacketError> {
    Ok(ItemFixed {
        key: length(what, &item.key)?,
        value: length(what, &item.value)?,
        create_revision: item.create_revision,
        mod_revision: item.mod_revision,
        version: item.version,
        lease: item.lease,
    })
}

pub(super) fn write_item(writer: &mut Writer, item: &KeyValue) {
    writer.raw(&item.key);
    writer.raw(&item.value);
}

pub(super) fn read_item(reader: &mut Reader, fixed: &ItemFixed) -> Result<KeyValue, PacketError> {
    Ok(KeyValue {
        key: reader.raw(fixed.key)?,
        value: reader.raw(fixed.value)?,
        create_revision: fixed.create_revision,
        mod_revision: fixed.mod_revision,
        version: fixed.version,
        lease: fixed.lease,
    })
}

pub(super) fn page_fixed(page: &ScanPage) -> Result<PageFixed, PacketError> {
    Ok(PageFixed {
        items: page.items.iter().map(|item| item_fixed("page", item)).collect::<Result<_, _>>()?,
        count: page.count,
        next: page.next.as_ref().map(|key| length("page", key)).transpose()?,
        revision: page.revision,
    })
}

pub(super) fn write_page(mut writer: Writer, page: &ScanPage) -> Writer {
    page.items.iter().for_each(|item| write_item(&mut writer, item));
    page.next.iter().for_each(|key| writer.raw(key));
    writer
}

pub(super) fn read_page(reader: &mut Reader, fixed: &PageFixed) -> Result<ScanPage, PacketError> {
    let items = fixed.items.iter().map(|item| read_item(reader, item)).collect::<Result<_, _>>()?;
    let next = fixed.next.map(|length| reader.raw(length)).transpose()?;
    Ok(ScanPage { items, count: fixed.count, next, revision: fixed.revision })
}
