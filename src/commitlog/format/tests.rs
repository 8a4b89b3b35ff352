use super::*;
use crate::types::Index;

const LIMIT: u32 = 1 << 20;

fn record(index: u64, position: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, EntryId::new(Index(index), Term(3)), Position(position), LogTime(9), Kind::Data, 7, payload);
    out
}

#[test]
fn record_after_frame_reads_back() {
    let bytes = Bytes::from(record(5, 1000, b"payload"));
    assert_eq!(bytes.len(), framed_length(7) as usize);
    let record = Record::decode(&bytes, LIMIT).unwrap();
    assert_eq!(record.payload(), b"payload".as_slice());
    assert_eq!(record.bytes(), &bytes);
    assert_eq!(record.header().end(), Position(1055));
    let entry = record.to_entry();
    assert_eq!((entry.id, entry.position, entry.time), (EntryId::new(Index(5), Term(3)), Position(1000), LogTime(9)));
    assert_eq!((entry.kind, entry.channel, entry.payload), (Kind::Data, 7, Bytes::from_static(b"payload")));
}

#[test]
fn record_with_any_flipped_bit_is_refused_by_the_right_checksum() {
    let good = record(5, 1000, b"payload");
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = Record::decode(&bytes.into(), LIMIT).unwrap_err();
        if bit / 8 < HEADER_BYTES {
            assert_eq!(refused, RecordError::HeaderChecksum, "bit {bit}");
        } else {
            assert_eq!(refused, RecordError::PayloadChecksum { id: EntryId::new(Index(5), Term(3)) }, "bit {bit}");
        }
    }
}

#[test]
fn record_cut_short_anywhere_is_incomplete() {
    let good = record(5, 1000, b"payload");
    for length in 0..good.len() {
        let refused = Record::decode(&good[..length].to_vec().into(), LIMIT).unwrap_err();
        assert!(matches!(refused, RecordError::Incomplete { .. }), "length {length}: {refused}");
    }
}

/// A record with an intact header of this kind, these flags and this length.
fn odd(kind: u8, flags: u8, length: u32) -> Bytes {
    let mut bytes = record(5, 1000, b"payload");
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[40] = kind;
    bytes[41] = flags;
    let crc = crc32fast::hash(&bytes[4..HEADER_BYTES]).to_le_bytes();
    bytes[..4].copy_from_slice(&crc);
    bytes.into()
}

#[test]
fn record_of_a_later_release_is_unsupported_and_not_damaged() {
    for (kind, flags) in [(0, 0), (4, 0), (255, 0), (1, 1), (3, 128)] {
        let refused = Record::decode(&odd(kind, flags, 55), LIMIT).unwrap_err();
        assert_eq!(refused, RecordError::Unsupported { id: EntryId::new(Index(5), Term(3)), kind, flags });
    }
}

#[test]
fn record_length_is_checked_against_the_limit() {
    for length in [0, 47, LIMIT + 1, u32::MAX] {
        let refused = Record::decode(&odd(1, 0, length), LIMIT).unwrap_err();
        assert!(matches!(refused, RecordError::Length { .. }), "length {length}: {refused}");
    }
}

#[test]
fn record_of_zeros_is_unwritten() {
    assert_eq!(RecordHeader::decode(&[0; 100], LIMIT), Err(RecordError::Unwritten));
}

#[test]
fn split_gives_the_records_and_ends_after_the_first_error() {
    let mut bytes = record(5, 1000, b"payload");
    bytes.extend(record(6, 1055, b""));
    let whole: Vec<_> = split(&bytes.clone().into(), LIMIT).map(Result::unwrap).collect();
    assert_eq!(whole.iter().map(|record| record.header().id.index.get()).collect::<Vec<_>>(), [5, 6]);
    bytes.pop();
    let cut: Vec<_> = split(&bytes.into(), LIMIT).collect();
    assert_eq!(cut.len(), 2);
    assert!(matches!(cut[1], Err(RecordError::Incomplete { needed: 48, have: 47 })));
    assert_eq!(split(&Bytes::new(), LIMIT).count(), 0);
}

#[test]
fn split_refuses_records_that_do_not_follow_each_other() {
    for (index, position) in [(5, 1055), (7, 1055), (6, 1054), (6, 1056)] {
        let bytes = [record(5, 1000, b"payload"), record(index, position, b"")].concat();
        let split: Vec<_> = split(&bytes.into(), LIMIT).collect();
        assert!(matches!(split[1], Err(RecordError::Order { .. })), "{index} at {position}");
    }
}
