//! Records: bytes that claim to be some, one behind the other.
//!
//! ```text
//!   flags (1) │ place of a flipped bit (2) │ bytes …
//!     bit 0: checksums are made right first      bit 1: the limit on a record is 100 bytes
//! ```
//! Claims: the verdict on the first record is that of `docs/format.md`; an accepted one is framed again to the same
//! bytes; records that are split follow one another; no single flipped bit is accepted; nothing is copied.

use bytes::{Buf, Bytes};
use dledger::commitlog::{HEADER_BYTES, Record, RecordError, frame, split};
use dledger::types::Position;

use crate::{Seed, forge, golden, memory};

const LIMITS: [u32; 2] = [1 << 20, 100];
/// Handles of slices, and errors.
const ENOUGH_BYTES: usize = 256;

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let (flags, bit) = (data.try_get_u8().unwrap_or(0), data.try_get_u16_le().unwrap_or(0));
    let limit = LIMITS[usize::from(flags >> 1 & 1)];
    let mut bytes = data.to_vec();
    if flags & 1 == 1 {
        forge::records(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    let decoded = memory::within(ENOUGH_BYTES, || Record::decode(&bytes, limit));
    assert_eq!(decoded.as_ref().map(|_record| ()).map_err(kind), verdict(&bytes, limit), "{decoded:?}");
    if let Ok(record) = &decoded {
        check_record(record);
        check_flipped(record, bit, limit);
    }
    check_split(&bytes, limit, decoded.is_ok());
}

/// What is wrong, by the order in which the format lets it be found out.
fn verdict(bytes: &[u8], limit: u32) -> Result<(), &'static str> {
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Err("incomplete") };
    if header.iter().all(|byte| *byte == 0) {
        return Err("unwritten");
    }
    if forge::u32_at(header, 0) != crc32fast::hash(&header[4..]) {
        return Err("header checksum");
    }
    let length = forge::u32_at(header, 4);
    if length > limit || (length as usize) < HEADER_BYTES {
        return Err("length");
    }
    if !(1..=3).contains(&header[40]) || header[41] != 0 {
        return Err("unsupported");
    }
    let Some(payload) = bytes.get(HEADER_BYTES..length as usize) else { return Err("incomplete") };
    if forge::u32_at(header, 44) == crc32fast::hash(payload) { Ok(()) } else { Err("payload checksum") }
}

fn kind(error: &RecordError) -> &'static str {
    match error {
        RecordError::Unwritten => "unwritten",
        RecordError::Incomplete { .. } => "incomplete",
        RecordError::HeaderChecksum => "header checksum",
        RecordError::PayloadChecksum { .. } => "payload checksum",
        RecordError::Length { .. } => "length",
        RecordError::Unsupported { .. } => "unsupported",
        _ => "another",
    }
}

fn check_record(record: &Record) {
    let header = *record.header();
    let mut again = Vec::new();
    frame(&mut again, header.id, header.position, header.time, header.kind, header.channel, &record.payload());
    assert_eq!(&again, record.bytes());
    assert_eq!(header.encode(), record.bytes()[..HEADER_BYTES]);
    assert_eq!(header.end(), header.position.plus(record.bytes().len() as u64));
}

/// CRC-32 finds every flipped bit, wherever it is.
fn check_flipped(record: &Record, bit: u16, limit: u32) {
    let mut bytes = record.bytes().to_vec();
    let bit = usize::from(bit) % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    let decoded = Record::decode(&bytes.into(), limit);
    assert!(decoded.is_err(), "bit {bit} was flipped unseen: {decoded:?}");
}

fn check_split(bytes: &Bytes, limit: u32, first_is_good: bool) {
    let (mut at, mut before) = (0, None);
    let mut failed = false;
    for (place, taken) in split(bytes, limit).enumerate() {
        assert!(!failed, "a record behind an error");
        assert!(place > 0 || taken.is_ok() == first_is_good);
        let Ok(record) = taken else {
            failed = true;
            continue;
        };
        assert_eq!(bytes.get(at..at + record.bytes().len()), Some(&record.bytes()[..]));
        assert_eq!(record.bytes().as_ptr(), bytes[at..].as_ptr(), "a copy");
        at += record.bytes().len();
        let (id, position): (_, Position) = (record.header().id, record.header().position);
        if let Some((index, term, end)) = before {
            assert!(id.index.get() == index + 1 && id.term.get() >= term && position == end, "{id} at {position}");
        }
        before = Some((id.index.get(), id.term.get(), record.header().end()));
    }
    assert!(failed || at == bytes.len(), "bytes were passed over");
}

/// The golden records, whole, damaged, and to be made right.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let golden = golden::dump(&golden::text("format/v1/records.hex"));
    let with = |head: [u8; 3], bytes: &[u8]| [&head[..], bytes].concat();
    let mut seeds = vec![
        ("golden".to_owned(), with([0, 0, 0], &golden)),
        ("golden-forged".to_owned(), with([1, 77, 0], &golden)),
        ("golden-limit".to_owned(), with([3, 0, 0], &golden)),
        ("golden-short".to_owned(), with([0, 0, 0], &golden[..golden.len() - 1])),
        ("zeros".to_owned(), with([0, 0, 0], &[0; HEADER_BYTES])),
    ];
    let mut at = 0;
    while at < golden.len() {
        let length = (forge::u32_at(&golden, at + 4) as usize).max(HEADER_BYTES);
        let end = (at + length).min(golden.len());
        seeds.push((format!("golden-at-{at}"), with([1, at as u8, 0], &golden[at..end])));
        at = end;
    }
    seeds
}
