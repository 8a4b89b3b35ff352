//! What goes wrong while writing, and that the first time is the last.
//!
//! After a failed write or sync nobody knows what the disk holds, and a second sync may wrongly succeed: the kernel
//! has forgotten the pages it could not write. So the first such error poisons the log for good; only opening it
//! again, which reads back and rewrites what was not known to be synced, makes it usable.

use std::io;

use thiserror::Error;

use crate::simulation::marks::{Mark, reach};

/// Why a write did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LogFault {
    /// The disk is full. No record was written and nothing was cut; a vote of the same batch is durable. The same
    /// batch may be tried again, and works once there is room.
    #[error("the disk is full: {needed} bytes are needed; free some space, service resumes by itself")]
    Full {
        /// Bytes that could not be prepared.
        needed: u64,
    },
    /// A write or a sync failed, or the caller broke a rule. Nothing written since the last success is known to be
    /// durable, and nothing will be written any more.
    #[error("the log has stopped: {reason}; restart this node, and replace its disk if that does not help")]
    Poisoned {
        /// What failed, and where.
        reason: String,
    },
}

/// Remembers the first failure.
#[derive(Default)]
pub(super) struct Poison(Option<String>);

impl Poison {
    /// The fault that every call answers with once there was a failure.
    pub(super) fn check(&self) -> Result<(), LogFault> {
        match &self.0 {
            None => Ok(()),
            Some(reason) => Err(LogFault::Poisoned { reason: reason.clone() }),
        }
    }

    /// Passes a result on, and remembers its failure.
    pub(super) fn note<T>(&mut self, result: Result<T, LogFault>) -> Result<T, LogFault> {
        if let Err(LogFault::Poisoned { reason }) = &result {
            if self.0.is_none() {
                reach(Mark::Poisoned);
            }
            self.0.get_or_insert_with(|| reason.clone());
        }
        result
    }
}

/// The fault of an operation that failed on the machine.
pub(super) fn broken(what: &str, error: &io::Error) -> LogFault {
    LogFault::Poisoned { reason: format!("{what}: {error}") }
}
