use bytes::BufMut;
use proptest::prelude::*;

use super::*;

const LIMIT: u32 = 1 << 20;
const READ_BYTES: usize = 8 << 10;

fn head(tag: u8) -> Head {
    Head { group: GroupId(7), tag, version: 1 }
}

fn written(batch: &mut FrameBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put(batch);
    bytes
}

fn one(body: &[u8], attached: &[Bytes]) -> Vec<u8> {
    let mut batch = FrameBatch::default();
    batch.push(head(3), body, attached, LIMIT).unwrap();
    written(&mut batch)
}

/// Feeds `bytes` in pieces of the given sizes, as a socket would, and collects what comes out.
fn decode_in_pieces(bytes: &[u8], sizes: &[usize]) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(LIMIT, READ_BYTES);
    let mut frames = Vec::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let space = decoder.space();
        let room = space.capacity() - space.len();
        assert!(room > 0, "a reader must always have room");
        let step = sizes.next().unwrap_or(usize::MAX).clamp(1, room.min(rest.len()));
        space.extend_from_slice(&rest[..step]);
        rest = &rest[step..];
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(decoder.capacity() <= 2 * (bytes.len() * (GROWTH + 1) + READ_BYTES), "memory follows what arrived");
    }
    (frames, None)
}

fn decode_one(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let mut decoder = FrameDecoder::new(LIMIT, READ_BYTES);
    decoder.space().extend_from_slice(bytes);
    decoder.next_frame()
}

#[test]
fn frame_written_and_read_is_the_same() {
    let attached = [Bytes::from(vec![1; 700]), Bytes::from_static(b"tiny"), Bytes::new()];
    let frame = decode_one(&one(b"body", &attached)).unwrap().unwrap();
    assert_eq!((frame.group, frame.tag, frame.version), (GroupId(7), 3, 1));
    assert_eq!(frame.body, "body");
    assert_eq!(frame.attached, attached.concat());
    assert_eq!(frame.length(), HEADER_BYTES + 4 + 704);
}

#[test]
fn frame_layout_is_pinned() {
    let bytes = one(b"ab", &[Bytes::from_static(b"xyz")]);
    let (checksum, rest) = (bytes[4..8].to_vec(), [&bytes[..4], &bytes[8..]].concat());
    assert_eq!(rest, b"\x1d\0\0\0\x07\0\0\0\0\0\0\0\x02\0\0\0\x03\x01\0\0abxyz");
    assert_eq!(checksum, crc32fast::hash(&rest[..rest.len() - 3]).to_le_bytes());
}

#[test]
fn frame_attached_pieces_are_written_from_where_they_lie() {
    let piece = Bytes::from(vec![5; 4096]);
    let mut batch = FrameBatch::default();
    batch.push(head(1), b"first", std::slice::from_ref(&piece), LIMIT).unwrap();
    batch.push(head(1), b"second", &[], LIMIT).unwrap();
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(batch.chunks_vectored(&mut slices), 3, "head and body, piece, the next frame");
    assert_eq!(slices[1].as_ptr(), piece.as_ptr());
}

#[test]
fn frame_batch_can_be_written_in_steps_of_any_size() {
    let attached = [Bytes::from(vec![1; 700]), Bytes::from(vec![2; 600])];
    let whole = [one(b"abc", &attached), one(b"d", &[])].concat();
    for step in [1, 7, 23, 24, 600, 10_000] {
        let mut batch = FrameBatch::default();
        batch.push(head(3), b"abc", &attached, LIMIT).unwrap();
        batch.push(head(3), b"d", &[], LIMIT).unwrap();
        let mut bytes = Vec::new();
        while batch.has_remaining() {
            assert_eq!(batch.remaining(), whole.len() - bytes.len());
            let step = step.min(batch.chunk().len());
            bytes.extend_from_slice(&batch.chunk()[..step]);
            batch.advance(step);
        }
        assert_eq!(bytes, whole);
    }
}

#[test]
fn frame_over_the_limit_is_neither_written_nor_read() {
    let mut batch = FrameBatch::default();
    let fits = vec![0; 100 - HEADER_BYTES];
    batch.push(head(1), &fits, &[], 100).unwrap();
    let piece = Bytes::from_static(b"!");
    let refused = batch.push(head(1), &fits, &[piece], 100).unwrap_err();
    assert_eq!(refused, FrameError::TooLong { length: 101, limit: 100 });
    assert_eq!(batch.remaining(), 100);

    let bytes = written(&mut batch);
    let mut decoder = FrameDecoder::new(99, READ_BYTES);
    decoder.space().extend_from_slice(&bytes[..4]);
    assert_eq!(decoder.next_frame().unwrap_err(), FrameError::TooLong { length: 100, limit: 99 });
}

#[test]
fn frame_that_claims_the_limit_costs_no_more_than_what_arrived() {
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES, READ_BYTES);
    let mut claim = one(&[], &[]);
    claim[..4].copy_from_slice(&MAX_FRAME_BYTES.to_le_bytes());
    let checksum = crc32fast::hash(&[&claim[..4], &claim[8..]].concat());
    claim[4..8].copy_from_slice(&checksum.to_le_bytes());
    decoder.space().extend_from_slice(&claim);
    let mut arrived = claim.len();
    for _reading in 0..5 {
        assert_eq!(decoder.next_frame(), Ok(None));
        let space = decoder.space();
        let room = space.capacity() - space.len();
        assert!(room <= 2 * (READ_BYTES + arrived * GROWTH), "{room} bytes of room after {arrived}");
        space.resize(space.len() + room, 0);
        arrived += room;
    }
}

#[test]
fn frame_of_the_largest_size_is_read_with_little_copying() {
    let bytes = one(b"b", &[Bytes::from(vec![9; (LIMIT as usize) - HEADER_BYTES - 1])]);
    let (frames, error) = decode_in_pieces(&bytes, &[usize::MAX]);
    assert_eq!((frames.len(), error), (1, None));
    assert_eq!(frames[0].attached.len(), LIMIT as usize - HEADER_BYTES - 1);
}

#[test]
fn frame_with_any_altered_bit_of_header_or_body_is_refused() {
    let bytes = one(b"body", &[Bytes::from_static(b"attached")]);
    for bit in 0..(HEADER_BYTES + 4) * 8 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        // A longer claimed length waits for more bytes; whatever follows, no frame comes out.
        altered.extend_from_slice(&bytes);
        altered.resize(altered.len() + LIMIT as usize, 0);
        assert!(decode_one(&altered).is_err(), "bit {bit}");
    }
}

#[test]
fn frame_with_contradicting_lengths_is_refused() {
    let mut short = one(b"", &[]);
    short[0] = 23;
    assert_eq!(decode_one(&short[..4]).unwrap_err(), FrameError::Lengths { length: 23, body: 0 });
    let mut body = one(b"ab", &[]);
    body[16] = 3;
    assert_eq!(decode_one(&body).unwrap_err(), FrameError::Lengths { length: 26, body: 3 });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frame_soup_never_panics_and_never_claims_memory(
        bytes in proptest::collection::vec(any::<u8>(), 0..4096),
        sizes in proptest::collection::vec(1usize..700, 1..8),
    ) {
        decode_in_pieces(&bytes, &sizes);
    }

    #[test]
    fn frame_soup_behind_a_plausible_start_never_panics(
        length in 0u32..2 * LIMIT, body in 0u32..4096,
        bytes in proptest::collection::vec(any::<u8>(), 0..2048),
    ) {
        let start = [length.to_le_bytes().as_slice(), &[0; 12], &body.to_le_bytes(), &[1, 1, 0, 0]].concat();
        decode_in_pieces(&[start, bytes].concat(), &[500]);
    }

    #[test]
    fn frames_come_out_alike_however_the_stream_is_cut(
        shapes in proptest::collection::vec((0usize..300, proptest::collection::vec(0usize..9000, 0..3)), 1..12),
        sizes in proptest::collection::vec(1usize..5000, 1..16),
    ) {
        let mut batch = FrameBatch::default();
        for (place, (body, pieces)) in shapes.iter().enumerate() {
            let fill = u8::try_from(place).unwrap();
            let attached: Vec<_> = pieces.iter().map(|length| Bytes::from(vec![fill; *length])).collect();
            batch.push(head(fill), &vec![fill; *body], &attached, LIMIT).unwrap();
        }
        let (frames, error) = decode_in_pieces(&written(&mut batch), &sizes);
        prop_assert_eq!(error, None);
        prop_assert_eq!(frames.len(), shapes.len());
        for (place, (frame, (body, pieces))) in frames.iter().zip(&shapes).enumerate() {
            let fill = u8::try_from(place).unwrap();
            prop_assert_eq!(frame.tag, fill);
            prop_assert_eq!(&frame.body, &vec![fill; *body]);
            prop_assert_eq!(&frame.attached, &vec![fill; pieces.iter().sum()]);
        }
    }
}
