//! Frames between a client and a node: requests as a node reads them, answers as a client does.
//!
//! ```text
//!   flags (1) │ bytes of one frame …
//!     bit 0: checksums are made right first    bit 1: answers, not requests
//! ```
//! Claims: an accepted message is written again to the same bytes; what is refused is refused with words; a count or a
//! length that is claimed costs no memory before its bytes are there.

use bytes::Buf;
use dledger::fuzzing;
use dledger::transport::frame::{FrameBatch, HEADER_BYTES, Head};
use dledger::types::GroupId;

use crate::peer_frame::{decode_cut, encode, forge_frames};
use crate::{Seed, golden, memory};

const LIMIT: u32 = 1 << 20;
/// A pair of a batch takes eight bytes in a frame and two handles in memory, some of them twice while vectors grow; and
/// a list may reserve some space (`codec`).
const MEMORY_FACTOR: usize = 128;
const MEMORY_FLOOR: usize = (1 << 20) + (8 << 10);

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let flags = data.try_get_u8().unwrap_or(0);
    let mut bytes = data.to_vec();
    if flags & 1 == 1 {
        forge_frames(&mut bytes);
    }
    let (frames, _end) = decode_cut(&bytes, LIMIT, bytes.len().max(1));
    let again = if flags >> 1 & 1 == 0 { fuzzing::request_again } else { fuzzing::response_again };
    for frame in frames {
        let whole = encode(&frame, LIMIT);
        match memory::within(MEMORY_FLOOR + MEMORY_FACTOR * whole.len(), || again(frame)) {
            Err(reason) => assert!(!reason.is_empty()),
            Ok(out) => {
                let mut batch = FrameBatch::default();
                assert_eq!(batch.push(out.head, &out.body, &out.attached, LIMIT), Ok(()));
                assert_eq!(batch.copy_to_bytes(batch.remaining()), whole);
            }
        }
    }
}

/// Every golden message, in a frame.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let golden = golden::directory("client").into_iter().map(|(name, text)| (name, golden::hex(&text)));
    let framed = golden.map(|(name, packet)| {
        let (head, body) = packet.split_at(2);
        let head = Head { group: GroupId::FIRST, tag: head[0], version: head[1] };
        let mut batch = FrameBatch::default();
        assert_eq!(batch.push(head, body, &[], LIMIT), Ok(()));
        let frame = batch.copy_to_bytes(batch.remaining());
        assert!(frame.len() > HEADER_BYTES);
        let flags = if name.starts_with("request") { 1 } else { 3 };
        (name.trim_end_matches(".hex").to_owned(), [&[flags][..], &frame].concat())
    });
    framed.collect()
}
