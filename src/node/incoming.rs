//! Records that came with an append, verified.
//!
//! Everything the core learns of received entries (terms, indexes, memberships) is derived here from record headers
//! whose checksums hold, never from separate fields of the message (raft.md). A record that fails any check makes
//! the whole append void.

use bytes::{Bytes, BytesMut};

use crate::commitlog::{HEADER_BYTES, frame, split, walk_trusted};
use crate::raft::{Appended, Membership};
use crate::types::{EntryId, Index, Kind, LogTime, Position, TermRun};

/// Records, what they are, and where each starts.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// For the core.
    pub(crate) appended: Appended,
    /// Where the first record claims to stand; `None` without records.
    pub(crate) position: Option<Position>,
    /// Where the next record will stand; of use only with records.
    pub(crate) end: Position,
    /// The stamp of the last record.
    pub(crate) last_time: LogTime,
    /// Where each record starts in `bytes`.
    pub(crate) starts: Vec<u32>,
    /// The records, one behind the other.
    pub(crate) bytes: Bytes,
}

impl Incoming {
    /// Where the record of an index ends, when these records tell.
    pub(crate) fn end_of(&self, index: Index) -> Option<Position> {
        let first = self.position?;
        if index == self.appended.last {
            return Some(self.end);
        }
        let place = index.next().get().checked_sub(self.appended.prev.index.next().get())?;
        let start = self.starts.get(usize::try_from(place).ok()?)?;
        Some(first.plus(u64::from(*start)))
    }

    /// The records from index `from` on: their starts, counted from their own first byte, and their bytes.
    pub(crate) fn from(&self, from: Index) -> (Vec<u32>, Bytes) {
        let skip = from.get().saturating_sub(self.appended.prev.index.next().get());
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let Some(cut) = self.starts.get(skip).copied() else { return (Vec::new(), Bytes::new()) };
        let starts = self.starts.iter().skip(skip).map(|start| start - cut).collect();
        (starts, self.bytes.slice(cut as usize..))
    }
}

/// Verifies the records behind `prev`: [`split`] both checksums and that each follows the one before, and this that the
/// first follows `prev`. `commit` and `base` are the leader's word.
///
/// # Errors
/// What is wrong, as a sentence; nothing of the append is to be used.
pub(crate) fn verify(
    prev: EntryId,
    (commit, base): (Index, Index),
    pieces: Vec<Bytes>,
    max_record_bytes: u32,
) -> Result<Incoming, String> {
    let bytes = join(pieces);
    let mut incoming = Incoming {
        appended: Appended {
            prev,
            commit,
            base,
            runs: Vec::new(),
            last: prev.index,
            memberships: Vec::new(),
            refutes: None,
        },
        position: None,
        end: Position::ZERO,
        last_time: LogTime::ZERO,
        starts: Vec::new(),
        bytes: bytes.clone(),
    };
    let mut term = prev.term;
    let mut offset = 0u32;
    for record in split(&bytes, max_record_bytes) {
        let record = record.map_err(|error| format!("record behind index {}: {error}", incoming.appended.last))?;
        let header = record.header();
        let appended = &mut incoming.appended;
        if header.id.index != appended.last.next() {
            return Err(format!("record {} follows index {}", header.id, appended.last));
        }
        if header.id.term < term {
            return Err(format!("record {} follows term {term}", header.id));
        }
        if header.id.term > term || appended.runs.is_empty() {
            term = header.id.term;
            appended.runs.push(TermRun { first: header.id.index, term });
        }
        if header.kind == Kind::Membership {
            let membership = Membership::decode(&record.payload()).map_err(|error| error.to_string())?;
            appended.memberships.push((header.id.index, membership));
        }
        appended.last = header.id.index;
        incoming.position = incoming.position.or(Some(header.position));
        incoming.end = header.position.plus(u64::from(header.length));
        incoming.last_time = header.time;
        incoming.starts.push(offset);
        offset = offset.saturating_add(header.length);
    }
    Ok(incoming)
}

/// Records as they came, with checksums that fit them: what a receiver would take that does not verify.
pub(crate) fn believed(pieces: Vec<Bytes>) -> Vec<Bytes> {
    let bytes = join(pieces);
    let mut out = Vec::with_capacity(bytes.len());
    for (header, record) in walk_trusted(&bytes) {
        let payload = record.get(HEADER_BYTES..).unwrap_or_default();
        frame(&mut out, header.id, header.position, header.time, header.kind, header.channel, payload);
    }
    vec![out.into()]
}

/// One piece as it is; several, which only a receiver without a stream meets, copied together.
fn join(pieces: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([piece]) => piece,
        Err(pieces) => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            for piece in &pieces {
                whole.extend_from_slice(piece);
            }
            whole.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commitlog::frame;
    use crate::types::Term;

    const MAX: u32 = 1 << 20;

    /// Records `(index, term)` one behind the other from position 1000 on.
    fn records(ids: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, term) in ids {
            let position = Position(1000 + bytes.len() as u64);
            let id = EntryId::new(Index(*index), Term(*term));
            frame(&mut bytes, id, position, LogTime(*index), Kind::Data, 0, b"payload");
        }
        bytes
    }

    fn verify_after(prev: (u64, u64), bytes: Vec<u8>) -> Result<Incoming, String> {
        verify(EntryId::new(Index(prev.0), Term(prev.1)), (Index::ZERO, Index::ZERO), vec![bytes.into()], MAX)
    }

    #[test]
    fn incoming_records_give_runs_and_starts() {
        let incoming = verify_after((4, 2), records(&[(5, 2), (6, 3), (7, 3)])).unwrap();
        let runs: Vec<_> = incoming.appended.runs.iter().map(|run| (run.first.get(), run.term.get())).collect();
        assert_eq!(runs, [(5, 2), (6, 3)]);
        assert_eq!(incoming.appended.last, Index(7));
        assert_eq!(incoming.starts, [0, 55, 110]);
        assert_eq!((incoming.position, incoming.end), (Some(Position(1000)), Position(1165)));
        let ends: Vec<_> = (3..=8).map(|index| incoming.end_of(Index(index)).map(Position::get)).collect();
        assert_eq!(ends, [None, Some(1000), Some(1055), Some(1110), Some(1165), None]);
        let (starts, bytes) = incoming.from(Index(6));
        assert_eq!((starts, bytes.len()), (vec![0, 55], 110));
    }

    #[test]
    fn incoming_without_records_is_a_probe() {
        let incoming = verify_after((4, 2), Vec::new()).unwrap();
        assert_eq!((incoming.appended.last, incoming.position), (Index(4), None));
    }

    #[test]
    fn incoming_gaps_falling_terms_and_flipped_bytes_void_the_append() {
        assert!(verify_after((4, 2), records(&[(6, 2)])).unwrap_err().contains("follows index 4"));
        assert!(verify_after((4, 2), records(&[(5, 1)])).unwrap_err().contains("follows term 2"));
        let mut gap = records(&[(5, 2)]);
        gap.extend(records(&[(6, 2)]));
        assert!(verify_after((4, 2), gap).unwrap_err().contains("1000"));
        let good = records(&[(5, 2), (6, 2)]);
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x40;
            verify_after((4, 2), bad).unwrap_err();
        }
        verify_after((4, 2), good[..good.len() - 1].to_vec()).unwrap_err();
    }
}
