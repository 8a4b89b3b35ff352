//! The segment file: what stands around the records.
//!
//! ```text
//!   0          header      4 KiB blocks as many as it needs: who, which generation, what came before
//!   h          slot A      4 KiB: durable end, last entry there, committed hint
//!   h +  4 Ki  slot B      4 KiB: the same, written in turn with A
//!   h +  8 Ki  footer      4 KiB: zero until sealed; then counts and where the footer's body stands
//!   h + 12 Ki  records     one behind the other; zeros up to the end of the file
//!              ……          footer body, once sealed, behind the last byte ever written
//! ```
//! A record with position `p` stands at `records + (p - first position)`: position and offset differ by a constant
//! in one segment. Each block is written alone or not at all, so that what tears is one block and never two.
//! Deliberately absent: files. These modules turn blocks into values and back.

pub(super) mod footer;
pub(super) mod header;
pub(super) mod slots;

/// Blocks are written and read in this size, so that no sector of a disk holds two of them.
pub(super) const BLOCK_BYTES: usize = 4096;

/// [`BLOCK_BYTES`] as an offset.
pub(super) const BLOCK: u64 = 4096;

/// First bytes of every segment.
pub(super) const MAGIC: &[u8; 8] = b"DLEDGSEG";

/// The format version this release writes and the newest it reads.
pub(super) const VERSION: u32 = 1;

/// `offset`, or the next start of a block.
pub(super) fn block_aligned(offset: u64) -> u64 {
    offset.div_ceil(BLOCK).saturating_mul(BLOCK)
}
