//! The trait a replicated state machine implements, and its contract.
//!
//! A node of this crate runs any state machine: it hands over committed entries in log order and completes the
//! callers that wait for their answers.
//!
//! # Determinism
//! Two replicas that applied the same entries must hold the same state and have given the same answers. So `apply`
//! reads nothing but the machine and the entry: no clock (the entry carries log time), no randomness, no
//! environment, no iteration over a hash map whose order differs between processes.
//!
//! # Bounded work
//! `apply` runs on the node's event loop, between heartbeats, unless the machine is on disk. Work that grows with the state (a range delete) does
//! a bounded part, answers [`Applied::More`] and goes on in [`StateMachine::resume`]; the node lets other work run
//! in between and applies no later entry before it is done.
//!
//! # Snapshots
//! The log before a snapshot is removed: a snapshot must hold all of the state that later entries build on, and nothing
//! that differs between replicas. It leaves and enters a machine as *items*, bytes that only the machine understands, in
//! one order that the state decides. Neither way stops the machine:
//!
//! ```text
//!   event loop       capture: a value, in no time                  install: a swap
//!                       │                                                ▲
//!   another thread      └─► Capture::items ──► disk … Restore::item ─────┘
//! ```
//! Both ends meet the machine between entries: never while one is half applied, for then the state is that of no index.
//!
//! # On disk
//! A machine may keep its state on disk by itself ([`StateMachine::on_disk`]). What it holds there is then that after some
//! entry, whole, however the process ended: data and [`LogBase`] are one atomic change. It need not be durable at once; the
//! log still has what is not. Such a machine may wait for the disk, and is applied on a thread of its own; and it is given
//! only entries that the log of this node has durable, so that it is not ahead of what the node has promised to keep.

use std::path::Path;

use bytes::Bytes;
use thiserror::Error;

use crate::types::{EntryId, Kind, LogBase, LogTime, Position, RECORD_HEADER_BYTES};

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index and term.
    pub id: EntryId,
    /// Byte offset of its record in the whole log.
    pub position: Position,
    /// When the leader took it, by the log's own clock.
    pub time: LogTime,
    /// What it is for. Machines see entries of every kind, so that log time reaches them.
    pub kind: Kind,
    /// A number free for the embedder.
    pub channel: u16,
    /// The bytes that were proposed; empty for a no-op.
    pub payload: Bytes,
}

impl Entry {
    /// Where its record ends: the position of the next.
    #[must_use]
    pub const fn end(&self) -> Position {
        self.position.plus((RECORD_HEADER_BYTES + self.payload.len()) as u64)
    }
}

/// How far a call of `apply` or `resume` came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The entry is applied; the bytes go to the caller who proposed it.
    Done(Bytes),
    /// The entry needs more turns: call `resume`.
    More,
}

/// Why a machine cannot apply an entry. It stops: the node applies nothing further and says so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot apply entry {id}: {reason}")]
pub struct ApplyError {
    /// The entry.
    pub id: EntryId,
    /// What is wrong with it, for example a command version that only a later release knows.
    pub reason: String,
}

/// Why a machine cannot open the state that it keeps on disk. The node does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot open the state: {0}")]
pub struct StateError(pub String);

/// Why a captured state cannot be read. The snapshot is given up; the machine goes on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot read the captured state: {0}")]
pub struct CaptureError(pub String);

/// Why a state cannot be made from the items of a snapshot: this build does not know them, or they are not a machine's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot restore the state: {0}")]
pub struct RestoreError(pub String);

/// The state of a machine at one entry. It stays as it is while the machine goes on, and is read on another thread.
pub trait Capture: Send + 'static {
    /// Hands every item to `each`, in order; stops at the first error and returns it. May block.
    ///
    /// Equal states have equal items in an equal order, whatever keeps them: nodes go on with each other's snapshots.
    /// An item says of what kind and version it is, for a later release must still read it. At most 64 MiB.
    ///
    /// # Errors
    /// Those of `each`, and a [`CaptureError`] when the state cannot be read.
    fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E>;
}

/// A state on its way out of a snapshot. It is filled on another thread than the machine's.
pub trait Restore: Send + 'static {
    /// Takes the next item. May block.
    ///
    /// # Errors
    /// When the item cannot be part of the state, for example of a version that only a later release knows. What was
    /// restored so far is of no use then.
    fn item(&mut self, item: &[u8]) -> Result<(), RestoreError>;

    /// There are no more items: they are the state after the last entry of `base`. May block. A state that is kept on disk
    /// is durable, with its base, when this returns.
    ///
    /// # Errors
    /// When it cannot be kept; it is of no use then.
    fn finish(&mut self, _base: &LogBase) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// The state of a machine that has none: no items, and none are taken.
impl Capture for () {
    fn items<E: From<CaptureError>>(&self, _each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        Ok(())
    }
}

impl Restore for () {
    fn item(&mut self, _item: &[u8]) -> Result<(), RestoreError> {
        Err(RestoreError("this machine has no state, and the snapshot has".to_owned()))
    }
}

/// A deterministic machine fed by the log.
///
/// ```
/// use bytes::Bytes;
/// use dledger::state_machine::{
///     Applied, ApplyError, Capture, CaptureError, Entry, Restore, RestoreError, StateMachine,
/// };
/// use dledger::types::{EntryId, Kind};
///
/// /// Counts the bytes of all entries.
/// #[derive(Clone, Default)]
/// struct Counter(u64);
///
/// impl StateMachine for Counter {
///     type Capture = Self;
///     type Restore = Self;
///
///     fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
///         if entry.kind == Kind::Data {
///             self.0 += entry.payload.len() as u64;
///         }
///         Ok(Applied::Done(Bytes::copy_from_slice(&self.0.to_le_bytes())))
///     }
///
///     fn resume(&mut self) -> Result<Applied, ApplyError> {
///         Ok(Applied::Done(Bytes::new())) // never asked for: no entry takes two turns
///     }
///
///     fn publish(&mut self) -> Result<(), ApplyError> {
///         Ok(())
///     }
///
///     fn capture(&self) -> Self {
///         self.clone()
///     }
///
///     fn restore(&self) -> Self {
///         Self::default()
///     }
///
///     fn install(&mut self, state: Self, _last: EntryId) -> Self {
///         std::mem::replace(self, state)
///     }
/// }
///
/// impl Capture for Counter {
///     fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
///         each(&[&[1][..], &self.0.to_le_bytes()].concat()) // version 1
///     }
/// }
///
/// impl Restore for Counter {
///     fn item(&mut self, item: &[u8]) -> Result<(), RestoreError> {
///         match item {
///             [1, count @ ..] if count.len() == 8 => {
///                 self.0 = count.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
///                 Ok(())
///             }
///             _ => Err(RestoreError("not a count".to_owned())),
///         }
///     }
/// }
///
/// let mut items = Vec::new();
/// Counter(300).capture().items(&mut |item| {
///     items.push(item.to_vec());
///     Ok::<(), CaptureError>(())
/// })?;
/// let mut machine = Counter::default();
/// let mut state = machine.restore();
/// items.iter().try_for_each(|item| state.item(item))?;
/// machine.install(state, EntryId::ZERO);
/// assert_eq!(machine.0, 300);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait StateMachine: Send + 'static {
    /// The state at one entry, to be written down. `()` for a machine without state.
    type Capture: Capture;
    /// A state that is being restored. `()` for a machine without state.
    type Restore: Restore;

    /// Whether the machine keeps its state on disk by itself, and may wait for the disk while it applies. Always the same.
    fn on_disk(&self) -> bool {
        false
    }

    /// Opens the state that is kept in `directory`, which is the machine's own and may be empty; the answer says what it is
    /// of, the default when there is none. Called once, before everything else, when the node has found out to which
    /// cluster it belongs. A machine that keeps nothing on disk has nothing to do.
    ///
    /// # Errors
    /// When what is there can neither be used nor be done without.
    fn open(&mut self, _directory: &Path) -> Result<LogBase, StateError> {
        Ok(LogBase::default())
    }

    /// Applies the entry, or starts to.
    ///
    /// # Errors
    /// When this build cannot know what the entry means, or when the state cannot be read or written. A command whose
    /// condition is false is an answer, not an error.
    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError>;

    /// Goes on with the entry whose last answer was [`Applied::More`].
    ///
    /// # Errors
    /// As for [`StateMachine::apply`].
    fn resume(&mut self) -> Result<Applied, ApplyError>;

    /// Makes what was applied so far visible to readers on other threads. Called once after each quantum of
    /// entries and never while one is half applied, before any caller is told "done". An entry that could not be
    /// applied is no part of it, but those before it are.
    ///
    /// # Errors
    /// When a state on disk cannot be written: nothing of the quantum counts as applied.
    fn publish(&mut self) -> Result<(), ApplyError>;

    /// The log time at which the state changes by itself, should no entry come before: for a machine whose entries die of
    /// age. The leader appends a no-op once log time has reached it, and again as long as it stays in the past; so that
    /// what is due is done by an entry, at the same place on every replica. Asked after each `publish` and `install`.
    /// A machine that wraps another must hand this on, or nothing in it ever ends.
    fn next_deadline(&self) -> Option<LogTime> {
        None
    }

    /// The state after the last entry that was applied. Called on the event loop, after a `publish` and before the next
    /// `apply`: never while an entry is half applied, nor after one could not be applied. Must not take longer for a
    /// larger state: share it, do not copy it.
    fn capture(&self) -> Self::Capture;

    /// A state without anything in it, to be filled from a snapshot and then installed in this machine.
    fn restore(&self) -> Self::Restore;

    /// Whether a snapshot of this machine takes the place of the log before it. False for a machine that keeps nothing:
    /// its log is the data, and is neither written down nor purged.
    fn covers_log(&self) -> bool {
        true
    }

    /// Replaces the state by a restored one, which is that after entry `last`, and makes it visible to readers as
    /// `publish` does. Called on the event loop, where `capture` may be, also before the first entry. The next `apply` is
    /// of the entry behind `last`.
    ///
    /// The answer is the state as it was, or a state without anything in it: the caller drops it on another thread, for
    /// freeing a large state takes long.
    fn install(&mut self, state: Self::Restore, last: EntryId) -> Self::Restore;
}

/// The machine of a bare log: keeps nothing, answers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMachine;

impl StateMachine for NoMachine {
    type Capture = ();
    type Restore = ();

    fn apply(&mut self, _entry: &Entry) -> Result<Applied, ApplyError> {
        Ok(Applied::Done(Bytes::new()))
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        Ok(Applied::Done(Bytes::new()))
    }

    fn publish(&mut self) -> Result<(), ApplyError> {
        Ok(())
    }

    fn capture(&self) {}

    fn restore(&self) {}

    fn covers_log(&self) -> bool {
        false
    }

    fn install(&mut self, _state: (), _last: EntryId) {}
}
