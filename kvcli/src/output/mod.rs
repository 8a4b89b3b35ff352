//! Answers on stdout.
//!
//! ```text
//!   command ──► Answer ──► plain.rs | table.rs | json.rs ──► Printer ──► stdout
//! ```
//! The printer is the only writer of stdout. A command prints as many answers as it has pages and the printer
//! flushes when the command ends. A closed pipe is a failure of kind `Closed`, which ends the program quietly.

mod json;
mod plain;
mod table;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(test)]
pub(crate) use self::json::bytes_value;

use dledger::kv::{Event, LeaseStatus, TxnDone};

use crate::args::Format;
use crate::commands::backup::BackedUp;
use crate::commands::bench::Report;
use crate::commands::log::repair::{CutRow, HoleRow};
use crate::commands::log::{RecordRow, SegmentRow, Verified};
use crate::commands::recover::{RecoveredRow, SurvivorRow};
use crate::commands::restore::Restored;
use crate::escape::append_visible;
use crate::exit::Failure;
use crate::store::{Deleted, KeyValue, MemberList, Nodes, SnapshotRow};

/// What a command has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer<'a> {
    /// A put is done at this revision.
    Put(u64),
    /// The pair that `get` found.
    Got(&'a KeyValue),
    /// Pairs of a scan.
    Pairs {
        /// The pairs.
        pairs: &'a [KeyValue],
        /// Whether values were left out.
        keys_only: bool,
        /// Whether this is the first page.
        first: bool,
    },
    /// How many keys were deleted.
    Deleted(Deleted),
    /// The number that a key holds now.
    Sum {
        /// The number.
        value: i64,
        /// The entry that made it so.
        revision: u64,
    },
    /// What a transaction did.
    Txn(&'a TxnDone),
    /// The changes of a revision.
    Events {
        /// The revision.
        revision: u64,
        /// The changes.
        events: &'a [Event],
        /// Whether these are the first.
        first: bool,
    },
    /// A lease that lives.
    Lease {
        /// Its id.
        id: u64,
        /// How long, without being kept alive.
        ttl_ms: u64,
    },
    /// All leases that live.
    Leases(&'a [LeaseStatus]),
    /// How many keys there are.
    Count(u64),
    /// How many lines of an import are certain.
    Acknowledged(u64),
    /// How all nodes are.
    Nodes(&'a Nodes),
    /// Who belongs to the cluster.
    Members(&'a MemberList),
    /// Who belongs to it after a change.
    MembersChanged(&'a MemberList),
    /// The node leads now.
    Leads(u64),
    /// What became of snapshots.
    Snapshots(&'a [SnapshotRow]),
    /// A backup that was written.
    BackedUp(&'a BackedUp),
    /// A survivor of a lost majority.
    Survivor(&'a SurvivorRow),
    /// A survivor that goes on alone.
    Recovered(&'a RecoveredRow),
    /// A directory that was restored.
    Restored(&'a Restored),
    /// What a benchmark measured.
    Bench(&'a Report),
    /// Segments of a log.
    Segments(&'a [SegmentRow]),
    /// Records of a log.
    Records {
        /// The records.
        records: &'a [RecordRow],
        /// Whether this is the first page.
        first: bool,
    },
    /// A checked range of a log.
    Verified(&'a Verified),
    /// Holes in a log.
    Holes(&'a [HoleRow]),
    /// What a cut of a log gave up.
    CutAway(&'a CutRow),
}

/// How bytes of users are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As they are.
    Raw,
    /// Control bytes as `\xNN`.
    Visible,
}

impl Style {
    /// Appends `bytes` to `out` in this style.
    pub(crate) fn append(self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self {
            Self::Raw => out.extend_from_slice(bytes),
            Self::Visible => append_visible(out, bytes),
        }
    }
}

type Sink = Arc<Mutex<Box<dyn Write + Send>>>;

/// The way to stdout.
#[derive(Clone)]
pub(crate) struct Printer {
    sink: Sink,
    style: Style,
    format: Format,
}

impl Printer {
    /// Prints to this process's stdout.
    pub(crate) fn stdout(format: Format) -> Self {
        let style = if io::stdout().is_terminal() { Style::Visible } else { Style::Raw };
        Self { sink: Arc::new(Mutex::new(Box::new(BufWriter::new(io::stdout())))), style, format }
    }

    /// Prints to `sink`.
    #[cfg(test)]
    pub(crate) fn to(sink: impl Write + Send + 'static, format: Format, style: Style) -> Self {
        Self { sink: Arc::new(Mutex::new(Box::new(sink))), style, format }
    }

    /// The same sink in another format.
    pub(crate) fn with_format(&self, format: Format) -> Self {
        Self { format, ..self.clone() }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// How this sink shows bytes of users.
    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Prints an answer.
    pub(crate) fn print(&self, answer: Answer<'_>) -> Result<(), Failure> {
        let mut out = Vec::new();
        match self.format {
            Format::Plain => plain::render(answer, self.style, &mut out),
            Format::Table => table::render(answer, &mut out),
            Format::Json => json::render(answer, &mut out),
        }
        self.write(&out)
    }

    /// Writes bytes that are already in their final form.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Hands everything to the operating system.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.flush().map_err(|error| Failure::output(&error))
    }
}

#[cfg(test)]
pub(crate) mod tests;
