//! Index files: what an untrusted file may do to reading.
//!
//! ```text
//!   0 │ offset (2) │ bytes (up to 4)      one damage
//!   1 │ bytes …                           a whole file of these bytes
//!   2 │ bytes …                           the same, checksums made right
//!   3 │ repeated: offset (2) │ bytes (8)  edits, then checksums are made right
//! ```
//! Claims: opening never refuses for an index file; a damaged one is as good as none, so that every record is read; one
//! that lies under right checksums makes a read fail, and never gives another record.

use bytes::Buf;
use dledger::error::ReadError;
use dledger::types::{Index, Position};

use crate::sample_log::{self, sample};
use crate::{Seed, forge, golden};

const MAX_EDITS: usize = 16;
const BURST_BYTES: usize = 4;

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let sample = sample();
    let mode = data.try_get_u8().unwrap_or(0) % 4;
    let original = sample_log::read_file(&sample.disk, &sample.index_file);
    let (bytes, lies) = match mode {
        0 => (damaged(original, data), false),
        // The fuzzer finds right checksums by itself.
        1 => (data.to_vec(), true),
        2 => (forged(data.to_vec()), true),
        _ => (forged(edited(original, data)), true),
    };
    let disk = sample.disk.fork();
    sample_log::write_file(&disk, &sample.index_file, &bytes);
    let opened = sample_log::open(&disk).unwrap_or_else(|error| panic!("refused for an index file: {error}"));
    assert_eq!((opened.state.last, opened.state.vote), (sample.last, sample.vote));
    let mut position = Position::ZERO;
    for (index, record) in (1..).zip(&sample.records) {
        match opened.reader.read(Index(index)) {
            Ok(read) => assert_eq!(read.bytes(), record, "another record at {index}"),
            Err(ReadError::Damaged { .. }) if lies => {}
            Err(error) => panic!("record {index} is lost: {error}"),
        }
        // By position no index file is asked.
        let read = opened.reader.read_at(position);
        assert!(read.as_ref().is_ok_and(|read| read.bytes() == record), "at {position}: {read:?}");
        position = position.plus(record.len() as u64);
        check_from(&opened.reader, index, lies);
    }
}

/// Records from an index on, in pieces: each is the one that belongs there.
fn check_from(reader: &dledger::commitlog::LogReader, index: u64, lies: bool) {
    let pieces = match reader.read_from(Index(index), 1500) {
        Ok(pieces) => pieces,
        Err(error) => return assert!(lies, "{error}"),
    };
    let found = pieces.concat();
    let expected = sample().records[index as usize - 1..].concat();
    assert!(!found.is_empty() && expected.starts_with(&found), "{} bytes from {index} on", found.len());
}

fn damaged(mut bytes: Vec<u8>, mut data: &[u8]) -> Vec<u8> {
    let offset = usize::from(data.try_get_u16_le().unwrap_or(0)) % bytes.len();
    let burst = data.len().min(BURST_BYTES).min(bytes.len() - offset);
    bytes[offset..offset + burst].copy_from_slice(&data[..burst]);
    bytes
}

fn edited(mut bytes: Vec<u8>, mut data: &[u8]) -> Vec<u8> {
    for _ in 0..MAX_EDITS {
        let Ok(offset) = data.try_get_u16_le() else { break };
        let offset = usize::from(offset) % bytes.len();
        let length = data.len().min(8).min(bytes.len() - offset);
        bytes[offset..offset + length].copy_from_slice(&data[..length]);
        data.advance(length);
    }
    bytes
}

fn forged(mut bytes: Vec<u8>) -> Vec<u8> {
    forge::index(&mut bytes);
    bytes
}

/// The index as it is, the golden one, and a lie about each field.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let own = sample_log::read_file(&sample().disk, &sample().index_file);
    let golden = golden::dump(&golden::text("format/v1/groups/1/log/00000000000000000001-1.idx.hex"));
    let mut seeds = vec![
        ("own".to_owned(), [&[1][..], &own].concat()),
        ("golden".to_owned(), [&[2][..], &golden].concat()),
        ("empty".to_owned(), vec![1]),
    ];
    for at in (0..own.len() as u16).step_by(4) {
        let [low, high] = at.to_le_bytes();
        seeds.push((format!("damage-{at}"), vec![0, low, high, 1, 2, 3, 4]));
        seeds.push((format!("lie-{at}"), vec![3, low, high, 9, 0, 0, 0, 1, 0, 0, 0]));
    }
    seeds
}
