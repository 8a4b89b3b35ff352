//! `log ls|cat|verify`: looks into the log of a stopped node, or of a copy, without changing a byte.

use bytes::Bytes;

use crate::args::LogCommand;
use crate::exit::{Failure, Kind, Outcome};
use crate::run::Session;

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub(crate) file: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) bytes: u64,
    pub(crate) state: String,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) position: u64,
    pub(crate) time_ms: u64,
    pub(crate) kind: String,
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
    Err(Failure::new(Kind::Unavailable, "the commitlog is not part of this build"))
}
