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
//! `apply` runs on the node's event loop, between heartbeats. Work that grows with the state (a range delete) does
//! a bounded part, answers [`Applied::More`] and goes on in [`StateMachine::resume`]; the node lets other work run
//! in between and applies no later entry before it is done.

use bytes::Bytes;
use thiserror::Error;

use crate::types::{EntryId, Kind, LogTime, Position};

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

/// A deterministic machine fed by the log.
pub trait StateMachine: Send + 'static {
    /// Applies the entry, or starts to.
    ///
    /// # Errors
    /// Only when this build cannot know what the entry means. A command whose condition is false is an answer,
    /// not an error.
    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError>;

    /// Goes on with the entry whose last answer was [`Applied::More`].
    ///
    /// # Errors
    /// As for [`StateMachine::apply`].
    fn resume(&mut self) -> Result<Applied, ApplyError>;

    /// Makes what was applied so far visible to readers on other threads. Called once after each quantum of
    /// entries and never while one is half applied, before any caller is told "done". An entry that could not be
    /// applied is no part of it, but those before it are.
    fn publish(&mut self);
}

/// The machine of a bare log: keeps nothing, answers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMachine;

impl StateMachine for NoMachine {
    fn apply(&mut self, _entry: &Entry) -> Result<Applied, ApplyError> {
        Ok(Applied::Done(Bytes::new()))
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        Ok(Applied::Done(Bytes::new()))
    }

    fn publish(&mut self) {}
}
