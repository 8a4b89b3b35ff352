//! Questions for ranges of keys, as bytes.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::server::kinds::{Consistency, Scan};

use super::super::PacketError;
use super::super::raw::{Reader, Writer, length};
use super::RequestBody;

#[derive(Serialize, Deserialize)]
struct ScanFixed {
    consistency: WireConsistency,
    from: Option<u32>,
    to: Option<u32>,
    prefix: u32,
    limit: Option<u64>,
    max_bytes: u64,
    reverse: bool,
    keys_only: bool,
    count_only: bool,
}

#[derive(Serialize, Deserialize)]
struct RangeFixed {
    view: Option<u64>,
    scan: ScanFixed,
}

/// The order of the variants is part of the format.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum WireConsistency {
    Linearizable,
    Stale,
    Lease,
    StaleWithin { bound_us: u64 },
}

impl From<Consistency> for WireConsistency {
    fn from(consistency: Consistency) -> Self {
        match consistency {
            Consistency::Linearizable => Self::Linearizable,
            Consistency::Lease => Self::Lease,
            Consistency::StaleWithin(bound) => {
                Self::StaleWithin { bound_us: u64::try_from(bound.as_micros()).unwrap_or(u64::MAX) }
            }
            Consistency::Stale => Self::Stale,
        }
    }
}

impl From<WireConsistency> for Consistency {
    fn from(consistency: WireConsistency) -> Self {
        match consistency {
            WireConsistency::Linearizable => Self::Linearizable,
            WireConsistency::Lease => Self::Lease,
            WireConsistency::StaleWithin { bound_us } => Self::StaleWithin(Duration::from_micros(bound_us)),
            WireConsistency::Stale => Self::Stale,
        }
    }
}

/// Writes the question for a page of whatever view is newest.
pub(super) fn encode_scan(writer: Writer, consistency: Consistency, scan: &Scan) -> Result<Writer, PacketError> {
    Ok(keys_of(writer.fixed("scan", &fixed_of(consistency, scan)?)?, scan))
}

/// Writes the question for a page of one view.
pub(super) fn encode_range(
    writer: Writer,
    view: Option<u64>,
    consistency: Consistency,
    scan: &Scan,
) -> Result<Writer, PacketError> {
    let fixed = RangeFixed { view, scan: fixed_of(consistency, scan)? };
    Ok(keys_of(writer.fixed("range", &fixed)?, scan))
}

fn fixed_of(consistency: Consistency, scan: &Scan) -> Result<ScanFixed, PacketError> {
    let optional = |key: &Option<Bytes>| key.as_ref().map(|key| length("scan", key)).transpose();
    Ok(ScanFixed {
        consistency: consistency.into(),
        from: optional(&scan.from)?,
        to: optional(&scan.to)?,
        prefix: length("scan", &scan.prefix)?,
        limit: scan.limit,
        max_bytes: scan.max_bytes,
        reverse: scan.reverse,
        keys_only: scan.keys_only,
        count_only: scan.count_only,
    })
}

fn keys_of(mut writer: Writer, scan: &Scan) -> Writer {
    for key in scan.from.iter().chain(&scan.to).chain([&scan.prefix]) {
        writer.raw(key);
    }
    writer
}

pub(super) fn decode_scan(reader: &mut Reader) -> Result<RequestBody, PacketError> {
    let fixed: ScanFixed = reader.fixed()?;
    let (consistency, scan) = scan_of(reader, &fixed)?;
    Ok(RequestBody::Scan { consistency, scan })
}

pub(super) fn decode_range(reader: &mut Reader) -> Result<RequestBody, PacketError> {
    let RangeFixed { view, scan } = reader.fixed()?;
    let (consistency, scan) = scan_of(reader, &scan)?;
    Ok(RequestBody::Range { view, consistency, scan })
}

fn scan_of(reader: &mut Reader, fixed: &ScanFixed) -> Result<(Consistency, Scan), PacketError> {
    let mut optional = |length: Option<u32>| length.map(|length| reader.raw(length)).transpose();
    let scan = Scan {
        from: optional(fixed.from)?,
        to: optional(fixed.to)?,
        prefix: reader.raw(fixed.prefix)?,
        limit: fixed.limit,
        max_bytes: fixed.max_bytes,
        reverse: fixed.reverse,
        keys_only: fixed.keys_only,
        count_only: fixed.count_only,
    };
    Ok((fixed.consistency.into(), scan))
}
