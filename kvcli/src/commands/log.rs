//! `log ls|cat|verify`: looks into the log of a stopped node, or of a copy, without changing a byte.
//!
//! Damage does not end `cat` and `verify`: they go on as far as records can be told apart, and end with code 1.

use bytes::Bytes;

use crate::args::LogCommand;
use crate::exit::{Failure, Outcome};
use crate::run::Session;

/// Records that `cat` prints at once.
const PAGE_RECORDS: usize = 500;
/// Pages read ahead of the one that is printed.
const PAGES_AHEAD: usize = 2;

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub(crate) file: String,
    pub(crate) first: u64,
    /// The last index that counts; `None` for the segment that takes records.
    pub(crate) last: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) state: &'static str,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) position: u64,
    pub(crate) time_ms: u64,
    pub(crate) kind: &'static str,
    pub(crate) channel: u16,
    pub(crate) payload: Bytes,
}

/// A checked range. Two replicas with equal rows hold the same bytes in that range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: String,
}

/// Runs the command.
pub(crate) async fn run(_session: &Session, _action: LogCommand) -> Result<Outcome, Failure> {
    Err(Failure::new(crate::exit::Kind::Unavailable, "not part of this build"))
}
