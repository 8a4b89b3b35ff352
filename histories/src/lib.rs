//! Histories of clients, and whether they are linearizable: shared by the simulator and by tests of real processes.
//!
//! A history is the list of what clients asked, when, and what they were told. It is linearizable when all operations
//! can be put into one order in which each lies between its call and its answer and every read shows the write before
//! it (Herlihy and Wing, 1990). Keys are independent, so each is checked by itself.
//!
//! ```text
//!   put 1  |------|                       unknown outcome: no answer ever came; it may take effect at any
//!   put 2      |------------ …            time after its call, or never
//!   get            |---| = 1
//!   get                    |---| = 2      linearizable: put 1, get, put 2, get
//! ```
//! The search is that of Wing and Gong (1993) as Lowe (2017) has it; `check/search.rs` tells how it treats writes of
//! unknown outcome, and docs/decisions/0007 why it is our own. A read without an answer shows nothing and is left out.
//! Of a key that fails, the shortest failing beginning is handed back.
//!
//! Lists that are only appended to and counters that only count up need no search: what was read says in which order the
//! writes came, and what is left is whether that order fits the times ([`lists`], [`counters`]). A set is one register a
//! member.

mod check;
pub mod counters;
pub mod lists;
mod order;
mod recorder;

use std::fmt;

pub use check::check;
pub use recorder::{Call as Recorded, Recorder};

/// What a client asked of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Read it.
    Get,
    /// Set it. Values are taken for different writes when they differ: writers should never use one twice.
    Put(Vec<u8>),
    /// Delete it.
    Delete,
    /// Set it, or delete it, if it has this value; `None` stands for no value in both.
    CompareAndSet {
        /// What it must be.
        expected: Option<Vec<u8>>,
        /// What it becomes.
        value: Option<Vec<u8>>,
    },
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value read; `None` when there is none.
    Value(Option<Vec<u8>>),
    /// The write is done.
    Done,
    /// Whether what was compared held, and the key was set.
    Swapped(bool),
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: u64,
    /// Of which key.
    pub key: Vec<u8>,
    /// What.
    pub call: Call,
    /// Time of the call, in any unit, on one clock for the whole history.
    pub invoked: u64,
    /// Time and content of the answer; `None` when the outcome is unknown.
    pub answered: Option<(u64, Answer)>,
}

/// How much was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Operations, those without influence left out.
    pub operations: usize,
    /// Keys.
    pub keys: usize,
}

/// The operations of this key have no linearization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLinearizable {
    /// The key.
    pub key: Vec<u8>,
    /// Its operations up to the first that no order explains, by the time of their calls.
    pub operations: Vec<Operation>,
}

impl std::error::Error for NotLinearizable {}

impl fmt::Display for NotLinearizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        let skipped = self.operations.len().saturating_sub(SHOWN);
        writeln!(f, "the operations of key `{key}` are not linearizable:")?;
        if skipped > 0 {
            writeln!(f, "  ({skipped} earlier operations)")?;
        }
        self.operations.iter().skip(skipped).try_for_each(|operation| writeln!(f, "  {operation}"))
    }
}

/// No order explains what was told of a list or a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which one.
    pub key: Vec<u8>,
    /// What is wrong with it.
    pub what: String,
}

impl std::error::Error for Wrong {}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not linearizable: {}", String::from_utf8_lossy(&self.key), self.what)
    }
}

/// Operations that an error prints.
const SHOWN: usize = 24;
/// Bytes of a value that are printed.
const SHOWN_BYTES: usize = 24;

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |bytes: &[u8]| {
            let shown = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
            let more = if shown.len() < bytes.len() { "…" } else { "" };
            format!("`{}{more}`", String::from_utf8_lossy(shown))
        };
        match &self.answered {
            Some((at, _answer)) => write!(f, "{:>9} … {at:<9}", self.invoked)?,
            None => write!(f, "{:>9} …          ", self.invoked)?,
        }
        write!(f, " client {:<3} ", self.client)?;
        match &self.call {
            Call::Get => f.write_str("get")?,
            Call::Put(bytes) => write!(f, "put {}", value(bytes))?,
            Call::Delete => f.write_str("delete")?,
            Call::CompareAndSet { expected, value: new } => {
                let shown = |it: &Option<Vec<u8>>| it.as_deref().map_or_else(|| "nothing".to_owned(), value);
                write!(f, "set {} if {}", shown(new), shown(expected))?;
            }
        }
        match &self.answered {
            Some((_at, Answer::Value(Some(bytes)))) => write!(f, " = {}", value(bytes)),
            Some((_at, Answer::Value(None))) => f.write_str(" = nothing"),
            Some((_at, Answer::Done)) => f.write_str(" done"),
            Some((_at, Answer::Swapped(swapped))) => f.write_str(if *swapped { " done" } else { " not so" }),
            None => f.write_str(", outcome unknown"),
        }
    }
}
