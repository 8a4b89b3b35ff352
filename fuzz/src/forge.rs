//! Makes checksums right, so that a fuzzer gets behind them. Written from `docs/format.md` and not from the code that is
//! under test.
//!
//! Every function works on bytes of any shape: what is too short to hold a field stays as it is.

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// Bytes of a record before its payload.
pub const RECORD_HEADER: usize = 48;
/// Bytes of a chunk before its body.
const CHUNK_HEADER: usize = 40;
/// Bytes of a segment between its header and its records: two slots and the head of the footer.
const BLOCKS_BEFORE_RECORDS: usize = 3;

/// The number of four bytes at `at`; 0 where there are none.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = at.checked_add(4).and_then(|end| bytes.get(at..end)).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

/// The number of eight bytes at `at`; 0 where there are none.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = at.checked_add(8).and_then(|end| bytes.get(at..end)).and_then(|field| field.try_into().ok());
    field.map_or(0, u64::from_le_bytes)
}

/// Writes the checksum of `from..to` to `at`, if all of it is there.
pub fn checksum(bytes: &mut [u8], at: usize, from: usize, to: usize) {
    if let Some(covered) = bytes.get(from..to) {
        let crc = crc32fast::hash(covered).to_le_bytes();
        if let Some(field) = bytes.get_mut(at..at + 4) {
            field.copy_from_slice(&crc);
        }
    }
}

/// Records, one behind the other, as far as their lengths lead.
pub fn records(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= RECORD_HEADER && rest[..RECORD_HEADER].iter().any(|byte| *byte != 0) {
        let length = u32_at(rest, 4) as usize;
        if (RECORD_HEADER..=rest.len()).contains(&length) {
            checksum(rest, 44, RECORD_HEADER, length);
        }
        checksum(rest, 0, 4, RECORD_HEADER);
        let Some((_record, behind)) = rest.split_at_mut_checked(length.max(RECORD_HEADER)) else { return };
        rest = behind;
    }
}

/// The prefix that every file starts with.
pub fn prefix(bytes: &mut [u8]) {
    checksum(bytes, 12, 0, 12);
}

/// A vote file: the prefix and the checksum of each slot.
pub fn vote(bytes: &mut [u8]) {
    for block in bytes.chunks_mut(BLOCK) {
        prefix(block);
        checksum(block, 16, 20, 68);
    }
}

/// An index file.
pub fn index(bytes: &mut [u8]) {
    prefix(bytes);
    let end = bytes.len();
    checksum(bytes, 16, 20, end);
}

/// The data of a snapshot: its prefix, and its chunks as far as their lengths lead.
pub fn snapshot_data(bytes: &mut [u8]) {
    prefix(bytes);
    let mut rest = bytes.get_mut(16..).unwrap_or_default();
    while rest.len() >= CHUNK_HEADER {
        let length = (u32_at(rest, 4) as usize).clamp(CHUNK_HEADER, rest.len());
        checksum(rest, 36, CHUNK_HEADER, length);
        checksum(rest, 0, 4, CHUNK_HEADER);
        rest = &mut rest[length..];
    }
}

/// The manifest of a snapshot with this data.
pub fn snapshot_manifest(bytes: &mut [u8], data: &[u8]) {
    prefix(bytes);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if let Some(fields) = bytes.get_mut(20..92) {
        fields[..4].copy_from_slice(&length.to_le_bytes());
        fields[60..68].copy_from_slice(&(data.len() as u64).to_le_bytes());
        fields[68..].copy_from_slice(&crc32fast::hash(data).to_le_bytes());
    }
    let end = bytes.len();
    checksum(bytes, 16, 20, end);
}

/// Where the records of a segment start.
#[must_use]
pub fn records_offset(segment: &[u8]) -> usize {
    (u32_at(segment, 20) as usize).div_ceil(BLOCK).max(1).saturating_add(BLOCKS_BEFORE_RECORDS).saturating_mul(BLOCK)
}

/// A segment: header, slots, footer and records.
pub fn segment(bytes: &mut [u8]) {
    prefix(bytes);
    let header = u32_at(bytes, 20) as usize;
    checksum(bytes, 16, 20, header);
    let records_at = records_offset(bytes);
    let Some((before, behind)) = bytes.split_at_mut_checked(records_at) else { return };
    let (slots, footer) = (records_at - BLOCKS_BEFORE_RECORDS * BLOCK, records_at - BLOCK);
    for slot in [slots, slots + BLOCK] {
        checksum(before, slot + 48, slot, slot + 48);
    }
    let (body_at, body_bytes) = (u64_at(before, footer + 48) as usize, u32_at(before, footer + 56) as usize);
    records(behind);
    let body = body_at.checked_add(body_bytes).and_then(|end| bytes.get(body_at..end)).map(crc32fast::hash);
    if let Some(crc) = body.filter(|_| body_bytes > 0) {
        bytes[footer + 60..footer + 64].copy_from_slice(&crc.to_le_bytes());
    }
    if bytes[footer..footer + BLOCK].iter().any(|byte| *byte != 0) {
        checksum(bytes, footer + 72, footer, footer + 72);
    }
}
