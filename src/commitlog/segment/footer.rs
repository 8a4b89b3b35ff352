//! The footer of a sealed segment: what opening needs to know of it without reading its records.
//!
//! The head stands in a block of its own before the records, the body (term runs, membership records) behind the
//! last byte that was ever written, so that bytes a reader may hold are never overwritten. Both go under one sync;
//! a footer that tears leaves an unsealed segment, which is scanned instead.

use bytes::Bytes;

use super::header::sealed_block;
use crate::fields::{Block, Fields};
use crate::types::{EntryId, Index, LogTime, Position, Term, TermRun};

/// Bytes of the head before its checksum.
const COVERED_BYTES: usize = 72;
/// Bytes of one term run in the body.
const RUN_BYTES: u64 = 16;
/// Bytes of one membership record in the body, before its payload.
const MEMBERSHIP_BYTES: u64 = 12;

/// What is known of a segment's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::commitlog) struct Summary {
    /// Number of records.
    pub(in crate::commitlog) count: u64,
    /// Where the last record ends.
    pub(in crate::commitlog) end: Position,
    /// The last record's entry; that before the segment when there is none.
    pub(in crate::commitlog) last: EntryId,
    /// The last record's log time; that before the segment when there is none.
    pub(in crate::commitlog) last_time: LogTime,
    /// The terms of the records, from the segment's first index on.
    pub(in crate::commitlog) runs: Vec<TermRun>,
    /// The membership records and their payloads.
    pub(in crate::commitlog) memberships: Vec<(Index, Bytes)>,
}

impl Summary {
    /// Bytes of the footer's body.
    pub(in crate::commitlog) fn body_bytes(&self) -> u64 {
        let memberships: u64 =
            self.memberships.iter().map(|(_, payload)| MEMBERSHIP_BYTES + payload.len() as u64).sum();
        self.runs.len() as u64 * RUN_BYTES + memberships
    }

    /// Forgets term runs and memberships above `last`, which is now the end.
    pub(in crate::commitlog) fn clip(&mut self, last: EntryId, last_time: LogTime, end: Position) {
        self.count -= self.last.index.get().saturating_sub(last.index.get()).min(self.count);
        self.runs.retain(|run| run.first <= last.index);
        self.memberships.retain(|(index, _)| *index <= last.index);
        (self.last, self.last_time, self.end) = (last, last_time, end);
    }

    /// The body's bytes.
    pub(in crate::commitlog) fn encode_body(&self) -> Vec<u8> {
        let body = Block::with_capacity(usize::try_from(self.body_bytes()).unwrap_or(0));
        let body = self.runs.iter().fold(body, |body, run| body.u64(run.first.get()).u64(run.term.get()));
        let memberships = self.memberships.iter();
        memberships
            .fold(body, |body, (index, payload)| {
                body.u64(index.get()).u32(u32::try_from(payload.len()).unwrap_or(u32::MAX)).raw(payload)
            })
            .done()
    }

    /// The head's bytes, for a body that stands at `body_offset`.
    pub(in crate::commitlog) fn encode_head(&self, generation: u64, body_offset: u64, body: &[u8]) -> Vec<u8> {
        Block::with_capacity(COVERED_BYTES + 4)
            .u64(generation)
            .u64(self.count)
            .u64(self.end.get())
            .entry_id(self.last)
            .u64(self.last_time.get())
            .u64(body_offset)
            .u32(u32::try_from(body.len()).unwrap_or(u32::MAX))
            .u32(crc32fast::hash(body))
            .u32(u32::try_from(self.runs.len()).unwrap_or(u32::MAX))
            .u32(u32::try_from(self.memberships.len()).unwrap_or(u32::MAX))
            .sealed_from(0)
            .done()
    }
}

/// A footer's head as read: it says where the body stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commitlog) struct FooterHead {
    summary: Summary,
    pub(in crate::commitlog) body_offset: u64,
    pub(in crate::commitlog) body_bytes: u32,
    body_crc: u32,
    runs: u32,
    memberships: u32,
}

impl FooterHead {
    /// Reads a head; `None` when the segment is not sealed, or its footer is torn or rotten.
    pub(in crate::commitlog) fn decode(bytes: &[u8], generation: u64) -> Option<Self> {
        let mut fields = sealed_block(bytes, COVERED_BYTES)?;
        let of_this_segment = fields.u64()? == generation;
        let summary = Summary {
            count: fields.u64()?,
            end: fields.position()?,
            last: fields.entry_id()?,
            last_time: fields.time()?,
            ..Summary::default()
        };
        let (body_offset, body_bytes) = (fields.u64()?, fields.u32()?);
        let (body_crc, runs, memberships) = (fields.u32()?, fields.u32()?, fields.u32()?);
        of_this_segment.then_some(Self { summary, body_offset, body_bytes, body_crc, runs, memberships })
    }

    /// Joins head and body; `None` when the body is not the one that the head names.
    pub(in crate::commitlog) fn with_body(mut self, body: &[u8]) -> Option<Summary> {
        if crc32fast::hash(body) != self.body_crc {
            return None;
        }
        let mut fields = Fields::new(body);
        for _run in 0..self.runs {
            let (first, term) = (fields.index()?, Term(fields.u64()?));
            self.summary.runs.push(TermRun { first, term });
        }
        for _membership in 0..self.memberships {
            let (index, length) = (fields.index()?, fields.u32()?);
            let payload = Bytes::copy_from_slice(fields.bytes(length as usize)?);
            self.summary.memberships.push((index, payload));
        }
        Some(self.summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            count: 9,
            end: Position(900),
            last: EntryId::new(Index(50), Term(4)),
            last_time: LogTime(70),
            runs: vec![TermRun { first: Index(42), term: Term(3) }, TermRun { first: Index(47), term: Term(4) }],
            memberships: vec![(Index(48), Bytes::from_static(b"members"))],
        }
    }

    #[test]
    fn footer_after_encode_reads_back() {
        let summary = summary();
        let body = summary.encode_body();
        assert_eq!(body.len() as u64, summary.body_bytes());
        let head = FooterHead::decode(&summary.encode_head(2, 8192, &body), 2).unwrap();
        assert_eq!((head.body_offset, u64::from(head.body_bytes)), (8192, summary.body_bytes()));
        assert_eq!(head.with_body(&body), Some(summary));
    }

    #[test]
    fn footer_with_any_flipped_bit_is_unreadable() {
        let summary = summary();
        let body = summary.encode_body();
        let head = summary.encode_head(2, 8192, &body);
        for bit in 0..head.len() * 8 {
            let mut flipped = head.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FooterHead::decode(&flipped, 2), None, "bit {bit}");
        }
        for bit in 0..body.len() * 8 {
            let mut flipped = body.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FooterHead::decode(&head, 2).unwrap().with_body(&flipped), None, "bit {bit}");
        }
        assert_eq!(FooterHead::decode(&[0; 512], 0), None);
    }

    #[test]
    fn footer_clip_forgets_what_is_cut() {
        let mut summary = summary();
        summary.clip(EntryId::new(Index(46), Term(3)), LogTime(60), Position(500));
        assert_eq!(summary.count, 5);
        assert_eq!(summary.runs, vec![TermRun { first: Index(42), term: Term(3) }]);
        assert!(summary.memberships.is_empty());
    }
}
