//! Frames of a peer's connection: a stream of bytes, cut anywhere.
//!
//! ```text
//!   flags (1) │ pieces (1) │ bytes …
//!     bit 0: checksums are made right first      bit 1: the limit on a frame is 64 bytes
//! ```
//! Claims: the frames are the same however the stream is cut; an accepted frame is written again to the same bytes, and so
//! is its body; memory grows with what has arrived and not with what is claimed.

use bytes::{Buf, BufMut, Bytes};
use dledger::transport::frame::{Frame, FrameBatch, FrameDecoder, FrameError, HEADER_BYTES, Head};
use dledger::transport::wire;

use crate::{Seed, forge, golden, memory};

const LIMITS: [u32; 2] = [1 << 20, 64];
/// Room that the decoder asks for at a time.
const READ_BYTES: usize = 4 << 10;
/// What one body may take: a structure for each few bytes of it, and what two lists may reserve (`codec`).
const BODY_FACTOR: usize = 64;
const BODY_FLOOR: usize = (2 << 20) + (8 << 10);

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let (flags, pieces) = (data.try_get_u8().unwrap_or(0), data.try_get_u8().unwrap_or(0));
    let limit = LIMITS[usize::from(flags >> 1 & 1)];
    let mut bytes = data.to_vec();
    if flags & 1 == 1 {
        forge_frames(&mut bytes);
    }
    let (frames, end) = decode_cut(&bytes, limit, bytes.len().max(1));
    let cut = decode_cut(&bytes, limit, usize::from(pieces) % 61 + 1);
    assert_eq!((&frames, &end), (&cut.0, &cut.1), "another cut, other frames");
    let mut at = 0;
    for frame in frames {
        let length = frame.length();
        let again = encode(&frame, limit);
        assert_eq!(again, bytes[at..at + length]);
        at += length;
        check_body(frame);
    }
}

/// The frames of a stream that arrives in pieces, and how it ended: an error, or how many bytes are left.
pub(crate) fn decode_cut(bytes: &[u8], limit: u32, piece: usize) -> (Vec<Frame>, Result<usize, FrameError>) {
    let mut decoder = FrameDecoder::new(limit, READ_BYTES);
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut rest = piece;
        while !rest.is_empty() {
            let arrived = decoder.buffered();
            let space = decoder.space();
            let room = (space.capacity() - space.len()).min(rest.len());
            assert!(room > 0, "no room to read into");
            space.put_slice(&rest[..room]);
            rest = &rest[room..];
            let most = 5 * (arrived + room) + 2 * READ_BYTES;
            assert!(decoder.capacity() <= most, "{} bytes of buffer for {} bytes", decoder.capacity(), arrived + room);
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(decoder.buffered()))
}

/// The bytes of a frame.
pub(crate) fn encode(frame: &Frame, limit: u32) -> Bytes {
    let head = Head { group: frame.group, tag: frame.tag, version: frame.version };
    let mut batch = FrameBatch::default();
    let pushed = batch.push(head, &frame.body, std::slice::from_ref(&frame.attached), limit);
    assert_eq!(pushed, Ok(()), "an accepted frame cannot be sent");
    batch.copy_to_bytes(batch.remaining())
}

fn check_body(frame: Frame) {
    let (body, attached) = (frame.body.clone(), frame.attached.clone());
    let head = Head { group: frame.group, tag: frame.tag, version: frame.version };
    let enough = BODY_FLOOR + BODY_FACTOR * frame.length();
    let Ok(decoded) = memory::within(enough, || wire::decode(frame)) else { return };
    let mut again = Vec::new();
    let head_again = wire::encode(&decoded, &mut again);
    assert!(matches!(head_again, Ok(again) if again == head), "{head_again:?}");
    assert_eq!(again, body, "{decoded:?}");
    assert_eq!(decoded.attached.concat(), attached);
}

/// Makes the checksums of frames right, as far as their lengths lead.
pub(crate) fn forge_frames(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= HEADER_BYTES {
        let (length, body) = (forge::u32_at(rest, 0) as usize, forge::u32_at(rest, 16) as usize);
        let end = HEADER_BYTES.saturating_add(body);
        let Some(covered) = rest.get(8..end) else { return };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&rest[0..4]);
        hasher.update(covered);
        let crc = hasher.finalize();
        rest[4..8].copy_from_slice(&crc.to_le_bytes());
        let Some((_frame, behind)) = rest.split_at_mut_checked(length.max(HEADER_BYTES)) else { return };
        rest = behind;
    }
}

/// Every golden frame, and all of them in one stream.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let frames = golden::named_lines("wire/v1.txt");
    let stream: Vec<u8> = frames.iter().flat_map(|(_name, bytes)| bytes.clone()).collect();
    let mut seeds: Vec<Seed> = frames.into_iter().map(|(name, bytes)| (name, [&[1, 7][..], &bytes].concat())).collect();
    seeds.push(("stream".to_owned(), [&[0, 3][..], &stream].concat()));
    seeds.push(("stream-limit".to_owned(), [&[2, 40][..], &stream].concat()));
    seeds
}
