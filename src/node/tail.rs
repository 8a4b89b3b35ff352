//! The newest records, in memory, as the batches they came in.
//!
//! ```text
//!   framed here (leader) ──┐
//!                          ├──► Tail ──► disk task, append to a follower, apply
//!   received (follower) ───┘
//! ```
//! A record is needed several times within a few milliseconds: by the disk, by each follower, by the applier. The
//! tail holds the very bytes, once, and every use is a cheap slice of them. It always holds what the disk has not
//! published yet; what is published it keeps up to [`MAX_TAIL_BYTES`], so that a follower a little behind is not
//! read from disk.
//!
//! Invariant: batches are contiguous and hold whole records.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::types::Index;

/// Bytes of published records that are kept; unpublished ones are kept whatever their size, bounded by the
/// replication window.
const MAX_TAIL_BYTES: u64 = 16 << 20;

/// Where a record says how long it is (docs/format.md).
const LENGTH_OFFSET: usize = 4;

/// Contiguous records in one piece of memory.
#[derive(Debug)]
struct Batch {
    first: Index,
    /// Where each record starts; the next start, or the end, is where it ends.
    starts: Vec<u32>,
    bytes: Bytes,
}

impl Batch {
    fn next(&self) -> Index {
        self.first.plus(self.starts.len() as u64)
    }

    /// Where the record of `index` starts; the end of the batch for the index after its last.
    fn offset(&self, index: Index) -> usize {
        let place = usize::try_from(index.get().saturating_sub(self.first.get())).unwrap_or(usize::MAX);
        self.starts.get(place).map_or(self.bytes.len(), |start| *start as usize)
    }
}

/// A run of whole records, as pieces to be written one behind the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// The pieces.
    pub(crate) pieces: Vec<Bytes>,
    /// Bytes in all pieces.
    pub(crate) bytes: u64,
    /// How many records.
    pub(crate) count: u64,
}

impl Run {
    /// The first `count` records of `pieces`, each of which holds whole records.
    pub(crate) fn of(pieces: Vec<Bytes>, count: u64) -> Self {
        let mut run = Self::default();
        for mut piece in pieces {
            let mut end = 0;
            while run.count < count
                && let Some(length) = record_length(&piece, end)
            {
                end += length;
                run.count += 1;
            }
            piece.truncate(end);
            run.bytes += end as u64;
            if end > 0 {
                run.pieces.push(piece);
            }
        }
        run
    }
}

/// Length of the record that starts at `offset`, when one does.
fn record_length(piece: &Bytes, offset: usize) -> Option<usize> {
    let field = piece.get(offset + LENGTH_OFFSET..offset + LENGTH_OFFSET + 4)?;
    let length = u32::from_le_bytes(field.try_into().ok()?) as usize;
    (length > 0 && offset + length <= piece.len()).then_some(length)
}

/// The newest records of the log.
#[derive(Debug)]
pub(crate) struct Tail {
    batches: VecDeque<Batch>,
    bytes: u64,
    next: Index,
}

impl Tail {
    /// An empty tail of a log whose next entry is `next`.
    pub(crate) fn new(next: Index) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, next }
    }

    /// Adds records behind the last; `starts` says where each begins in `bytes`.
    pub(crate) fn push(&mut self, first: Index, starts: Vec<u32>, bytes: Bytes) {
        debug_assert_eq!(first, self.next, "the tail is contiguous");
        if starts.is_empty() {
            return;
        }
        self.bytes += bytes.len() as u64;
        let batch = Batch { first, starts, bytes };
        self.next = batch.next();
        self.batches.push_back(batch);
    }

    /// Forgets everything above `index`.
    pub(crate) fn truncate_after(&mut self, index: Index) {
        while let Some(mut batch) = self.batches.pop_back() {
            if batch.next() <= index.next() {
                self.batches.push_back(batch);
                break;
            }
            self.bytes -= batch.bytes.len() as u64;
            if batch.first <= index {
                let end = batch.offset(index.next());
                batch.bytes.truncate(end);
                batch.starts.truncate(usize::try_from(index.next().get() - batch.first.get()).unwrap_or(usize::MAX));
                self.bytes += end as u64;
                self.batches.push_back(batch);
                break;
            }
        }
        self.next = self.next.min(index.next());
    }

    /// Drops the oldest batches that are published, while there are more bytes than are to be kept.
    pub(crate) fn evict(&mut self, published: Index) {
        while self.bytes > MAX_TAIL_BYTES {
            match self.batches.front() {
                Some(front) if front.next() <= published.next() => {
                    self.bytes -= front.bytes.len() as u64;
                    self.batches.pop_front();
                }
                _ => break,
            }
        }
    }

    /// The bytes of one record, when it is here.
    pub(crate) fn get(&self, index: Index) -> Option<Bytes> {
        let batch = self.batches.get(self.batch_of(index)?)?;
        Some(batch.bytes.slice(batch.offset(index)..batch.offset(index.next())))
    }

    /// Records `first ..= last`, as many as fit `max_bytes` and at least one; `None` when `first` is not here.
    pub(crate) fn run(&self, first: Index, last: Index, max_bytes: u64) -> Option<Run> {
        let place = self.batch_of(first)?;
        let mut run = Run::default();
        for batch in self.batches.iter().skip(place) {
            let from = first.max(batch.first);
            let wanted = last.next().min(batch.next());
            let start = batch.offset(from);
            let until = fitting(batch, from, wanted, max_bytes.saturating_sub(run.bytes), run.count == 0);
            if until == from {
                break;
            }
            let piece = batch.bytes.slice(start..batch.offset(until));
            run.bytes += piece.len() as u64;
            run.count += until.get() - from.get();
            run.pieces.push(piece);
            if until < batch.next() || until > last {
                break;
            }
        }
        Some(run)
    }

    /// The first index that is here.
    pub(crate) fn first(&self) -> Option<Index> {
        self.batches.front().map(|batch| batch.first)
    }

    fn batch_of(&self, index: Index) -> Option<usize> {
        let place = self.batches.partition_point(|batch| batch.next() <= index);
        self.batches.get(place).filter(|batch| batch.first <= index).map(|_batch| place)
    }
}

/// The index up to which (exclusive) records from `from` on fit `room` bytes; one at least when `force` is set.
fn fitting(batch: &Batch, from: Index, wanted: Index, room: u64, force: bool) -> Index {
    let start = batch.offset(from);
    if (batch.offset(wanted) - start) as u64 <= room {
        return wanted;
    }
    let mut until = from;
    while until < wanted && (batch.offset(until.next()) - start) as u64 <= room {
        until = until.next();
    }
    if until == from && force { from.next() } else { until }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three batches: 1–3, 4, 5–6; each record is two bytes, its index twice.
    fn tail() -> Tail {
        let mut tail = Tail::new(Index(1));
        tail.push(Index(1), vec![0, 2, 4], Bytes::from_static(b"112233"));
        tail.push(Index(4), vec![0], Bytes::from_static(b"44"));
        tail.push(Index(5), vec![0, 2], Bytes::from_static(b"5566"));
        tail
    }

    fn text(run: &Run) -> String {
        run.pieces.iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
    }

    #[test]
    fn tail_get_finds_each_record_and_no_other() {
        let tail = tail();
        assert_eq!(tail.get(Index(0)), None);
        for index in 1..=6u64 {
            assert_eq!(tail.get(Index(index)).unwrap(), format!("{index}{index}"));
        }
        assert_eq!(tail.get(Index(7)), None);
    }

    #[test]
    fn tail_run_is_bounded_by_bytes_and_last_but_never_empty() {
        let tail = tail();
        assert_eq!(text(&tail.run(Index(2), Index(6), 100).unwrap()), "2233445566");
        assert_eq!(text(&tail.run(Index(2), Index(4), 100).unwrap()), "223344");
        assert_eq!(text(&tail.run(Index(2), Index(6), 5).unwrap()), "2233");
        assert_eq!(text(&tail.run(Index(4), Index(6), 4).unwrap()), "4455");
        let forced = tail.run(Index(2), Index(6), 0).unwrap();
        assert_eq!((text(&forced).as_str(), forced.count, forced.bytes), ("22", 1, 2));
        assert_eq!(tail.run(Index(7), Index(7), 9), None);
    }

    #[test]
    fn tail_truncated_inside_a_batch_goes_on_from_there() {
        let mut tail = tail();
        tail.truncate_after(Index(2));
        assert_eq!((tail.get(Index(2)).is_some(), tail.get(Index(3)), tail.bytes), (true, None, 4));
        tail.push(Index(3), vec![0], Bytes::from_static(b"xx"));
        assert_eq!(text(&tail.run(Index(1), Index(3), 100).unwrap()), "1122xx");
        tail.truncate_after(Index(0));
        assert_eq!((tail.bytes, tail.next), (0, Index(1)));
    }

    #[test]
    fn tail_evict_keeps_what_is_not_published() {
        let mut tail = Tail::new(Index(1));
        let half = usize::try_from(MAX_TAIL_BYTES).unwrap() / 2 + 1;
        for index in 1..=3 {
            tail.push(Index(index), vec![0], Bytes::from(vec![0; half]));
        }
        tail.evict(Index(1));
        assert!(tail.get(Index(1)).is_none() && tail.get(Index(2)).is_some());
        tail.evict(Index(1));
        assert!(tail.get(Index(2)).is_some(), "2 is not published yet");
        tail.evict(Index(3));
        assert!(tail.get(Index(2)).is_none() && tail.get(Index(3)).is_some());
    }
}
