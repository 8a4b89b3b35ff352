//! Items in the bodies of chunks: `length (4), bytes`, one behind the other, across the ends of chunks.

use bytes::Bytes;

/// The longest item, in bytes. No record of the log is as long; what claims to be is refused before it is gathered.
pub const MAX_ITEM_BYTES: usize = 64 << 20;

/// Bytes before an item.
const LENGTH_BYTES: usize = 4;

/// Takes items out of bodies. What lies in one body is not copied.
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    left: Bytes,
    /// An item, with its length, of which only the beginning has come.
    started: Vec<u8>,
}

impl Unpacker {
    /// Gives it the next body; the one before must have been used up: [`Unpacker::next`] answered `None`.
    pub(super) fn feed(&mut self, body: Bytes) {
        self.left = body;
    }

    /// The next item; `None` when it needs another body.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, &'static str> {
        if self.started.is_empty() {
            let length = item_length(&self.left)?;
            if let Some(length) = length.filter(|length| self.left.len() >= LENGTH_BYTES + length) {
                let mut item = self.left.split_to(LENGTH_BYTES + length);
                return Ok(Some(item.split_off(LENGTH_BYTES)));
            }
        }
        if !self.gather(LENGTH_BYTES) {
            return Ok(None);
        }
        let length = item_length(&self.started)?.unwrap_or_default();
        if !self.gather(LENGTH_BYTES + length) {
            return Ok(None);
        }
        Ok(Some(Bytes::from(std::mem::take(&mut self.started)).split_off(LENGTH_BYTES)))
    }

    /// True when no item has begun that has not ended.
    pub(super) fn is_between_items(&self) -> bool {
        self.left.is_empty() && self.started.is_empty()
    }

    /// Moves what has come over to the item that was started, up to `upto` bytes; true when it has them. Memory grows
    /// with the bytes that are there, never with a length that is claimed.
    fn gather(&mut self, upto: usize) -> bool {
        let missing = upto.saturating_sub(self.started.len());
        self.started.extend_from_slice(&self.left.split_to(missing.min(self.left.len())));
        self.started.len() >= upto
    }
}

fn item_length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let length = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    if length.is_some_and(|length| length > MAX_ITEM_BYTES) { Err("an item claims too many bytes") } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn items_that_claim_too_much_are_refused_before_they_are_gathered() {
        for cut in 1..8 {
            let claimed = [&(MAX_ITEM_BYTES as u32 + 1).to_le_bytes()[..], b"body"].concat();
            let mut unpacker = Unpacker::default();
            unpacker.feed(Bytes::copy_from_slice(&claimed[..cut]));
            let mut outcome = unpacker.next();
            if outcome == Ok(None) {
                unpacker.feed(Bytes::copy_from_slice(&claimed[cut..]));
                outcome = unpacker.next();
            }
            assert!(outcome.is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn items_cut_into_any_pieces_come_out_as_they_were(
            items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20),
            piece in 1usize..30,
        ) {
            let packed: Vec<u8> = items.iter().flat_map(|item| {
                [&(item.len() as u32).to_le_bytes()[..], item].concat()
            }).collect();
            let (mut unpacker, mut found) = (Unpacker::default(), Vec::new());
            for body in packed.chunks(piece) {
                unpacker.feed(Bytes::copy_from_slice(body));
                while let Some(item) = unpacker.next().unwrap() {
                    found.push(item.to_vec());
                }
            }
            prop_assert!(unpacker.is_between_items());
            prop_assert_eq!(found, items);
        }
    }
}
