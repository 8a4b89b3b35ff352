//! What is done with snapshots on the disk, one order after the other: written, kept, given to peers, taken from them.
//!
//! ```text
//!   event loop ──Take─────────────────────────► store: data, manifest ──► Taken: what there is now
//!              ──Serve────────────────────────► manifest or chunk ──────► Served ──► peer, caller
//!              ──Begin, Chunk … Chunk, Load───► copy, verified, restored ► Begun, Stored …, Loaded ──► machine
//! ```
//! Every order blocks on the disk. A snapshot may take minutes to be written; between two of its items what peers ask for
//! is given. Deliberately absent: threads (`snapshot_thread.rs`) and decisions (`snapshots.rs`, `install.rs`).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::simulation::marks::{Mark, reach};
use crate::snapshot::{ChunkWriter, Manifest, Snapshot, SnapshotError, SnapshotStore};
use crate::state_machine::{Capture, CaptureError, StateMachine};
use crate::transport::{SnapshotRefusal, SnapshotWant};
use crate::types::{EntryId, LogBase};

use super::snapshot_service::Asker;

/// Snapshots of which the files stay open for peers that fetch them, though they may be removed meanwhile.
const MAX_OPEN: usize = 4;

/// Work for the snapshot worker, done in the order it was given.
pub(crate) enum SnapshotOrder<M: StateMachine> {
    /// Write down the state after `base`, then remove what is older than the newest `keep` and not in `pinned`.
    Take {
        /// What the state is of.
        base: LogBase,
        /// The state.
        state: M::Capture,
        /// How many to keep.
        keep: usize,
        /// What peers are fetching.
        pinned: Vec<EntryId>,
    },
    /// Somebody asks for a piece.
    Serve {
        /// Who.
        to: Asker,
        /// For what.
        want: SnapshotWant,
    },
    /// Begin a copy of a peer's snapshot, in place of any that was begun before.
    Begin(Box<Manifest>),
    /// The next chunk of the copy.
    Chunk(Bytes),
    /// Make a snapshot whole when it is the copy at hand, and restore its state into this empty one.
    Load {
        /// Of which entry.
        id: EntryId,
        /// Where its items go.
        state: Box<M::Restore>,
        /// How many to keep afterwards.
        keep: usize,
    },
    /// Give up the copy.
    GiveUp,
    /// A state that is of no use any more: freeing a large one takes long.
    Drop(Box<M::Restore>),
}

/// What the worker says.
pub(crate) enum SnapshotReport<M: StateMachine> {
    /// To `Take`: what there is now, or why nothing was written.
    Taken(Result<Kept, String>),
    /// To `Serve`.
    Served {
        /// Whom to answer.
        to: Asker,
        /// The manifest or the chunk.
        result: Result<Bytes, SnapshotRefusal>,
    },
    /// To `Begin`: false when that snapshot is here already, and may be loaded.
    Begun(Result<bool, String>),
    /// To `Chunk`: how many chunks the copy has.
    Stored(Result<u64, ChunkFault>),
    /// To `Load`.
    Loaded(Result<Loaded<M>, String>),
}

/// Why a chunk was not stored.
#[derive(Debug)]
pub(crate) enum ChunkFault {
    /// It is not the next one; the right one may follow.
    Refused(String),
    /// The copy is given up.
    Failed(String),
}

/// A snapshot whose state is restored, and is durable here.
pub(crate) struct Loaded<M: StateMachine> {
    /// What it is of.
    pub(crate) base: LogBase,
    /// Its state.
    pub(crate) state: Box<M::Restore>,
    /// What there is now.
    pub(crate) kept: Kept,
}

/// The snapshots that a node has, as far as they may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The entries they are of, the newest first.
    pub(crate) ids: Vec<EntryId>,
    /// Bytes of the newest's data.
    pub(crate) newest_bytes: u64,
    /// Bytes of all.
    pub(crate) bytes: u64,
}

impl Kept {
    /// What a store has.
    pub(crate) fn of(store: &SnapshotStore) -> Result<Self, SnapshotError> {
        let usable = store.usable()?;
        Ok(Self {
            newest_bytes: usable.first().map_or(0, |(_id, bytes)| *bytes),
            bytes: usable.iter().map(|(_id, bytes)| *bytes).sum(),
            ids: usable.into_iter().map(|(id, _bytes)| id).collect(),
        })
    }
}

/// What lies between two items of a snapshot that is being written, of which so many bytes are; false gives it up.
pub(crate) type Between<'a> = &'a mut dyn FnMut(&mut SnapshotWorker, u64) -> bool;

/// Carries out orders.
pub(crate) struct SnapshotWorker {
    store: SnapshotStore,
    copy: Option<ChunkWriter>,
    /// Open for peers, the most recently asked for last.
    open: VecDeque<Snapshot>,
}

impl SnapshotWorker {
    pub(crate) fn new(store: SnapshotStore) -> Self {
        Self { store, copy: None, open: VecDeque::new() }
    }

    /// Carries out an order; `between` is called between the items of a snapshot that is being written. Blocks.
    pub(crate) fn perform<M: StateMachine>(
        &mut self,
        order: SnapshotOrder<M>,
        between: Between<'_>,
    ) -> Option<SnapshotReport<M>> {
        Some(match order {
            SnapshotOrder::Take { base, state, keep, pinned } => {
                let id = base.entry;
                let taken = self.take(base, &state, between).and_then(|()| self.retain(keep, &pinned));
                drop(state);
                SnapshotReport::Taken(taken.map_err(|error| {
                    tracing::warn!(%error, snapshot = %id, "a snapshot was not taken; the log before it stays");
                    error.to_string()
                }))
            }
            SnapshotOrder::Serve { to, want } => self.serve(to, want),
            SnapshotOrder::Begin(manifest) => SnapshotReport::Begun(self.begin(*manifest)),
            SnapshotOrder::Chunk(bytes) => SnapshotReport::Stored(self.chunk(&bytes)),
            SnapshotOrder::Load { id, state, keep } => {
                SnapshotReport::Loaded(self.load(id, state, keep).map_err(|error| error.to_string()))
            }
            SnapshotOrder::GiveUp => {
                self.copy = None;
                return None;
            }
            SnapshotOrder::Drop(state) => {
                drop(state);
                return None;
            }
        })
    }

    fn take(&mut self, base: LogBase, state: &impl Capture, between: Between<'_>) -> Result<(), SnapshotError> {
        let id = base.entry;
        let mut writer = match self.store.begin(base) {
            Err(SnapshotError::Exists { .. }) => return Ok(()),
            begun => begun?,
        };
        state.items(&mut |item| {
            if !between(self, writer.written()) {
                return Err(CaptureError("the node stops".to_owned()).into());
            }
            writer.item(item)
        })?;
        let manifest = writer.finish()?;
        tracing::info!(snapshot = %id, bytes = manifest.data_bytes, items = manifest.items, "snapshot taken");
        Ok(())
    }

    fn retain(&mut self, keep: usize, pinned: &[EntryId]) -> Result<Kept, SnapshotError> {
        for id in self.store.retain(keep, pinned)? {
            // Its data becomes shorter while it is removed: who asks for it hears that it is gone.
            self.open.retain(|open| open.manifest().id() != id);
            tracing::debug!(snapshot = %id, "an older snapshot was removed");
        }
        Kept::of(&self.store)
    }

    /// Gives what is asked for.
    pub(crate) fn serve<M: StateMachine>(&mut self, to: Asker, want: SnapshotWant) -> SnapshotReport<M> {
        let result = match want {
            SnapshotWant::Newest { at_least } => {
                let newest = self.store.usable().ok().and_then(|usable| usable.first().map(|(id, _bytes)| *id));
                let newest = newest.filter(|id| id.index >= at_least).ok_or(SnapshotRefusal::Absent);
                newest.and_then(|id| self.opened(id)).map(|snapshot| snapshot.manifest().encode())
            }
            SnapshotWant::Chunk { snapshot, chunk } => self.opened(snapshot).and_then(|opened| {
                opened.chunk(chunk).map_err(|error| {
                    tracing::error!(%error, "a snapshot that somebody fetches is damaged");
                    self.store.disregard(snapshot);
                    self.open.retain(|open| open.manifest().id() != snapshot);
                    SnapshotRefusal::Damaged
                })
            }),
        };
        SnapshotReport::Served { to, result }
    }

    fn opened(&mut self, id: EntryId) -> Result<Snapshot, SnapshotRefusal> {
        let snapshot = match self.open.iter().position(|open| open.manifest().id() == id) {
            Some(place) => self.open.remove(place).ok_or(SnapshotRefusal::Absent)?,
            None => self.store.get(id).map_err(|error| {
                let damaged = matches!(error, SnapshotError::Damaged { .. });
                if damaged { SnapshotRefusal::Damaged } else { SnapshotRefusal::Absent }
            })?,
        };
        self.open.push_back(snapshot.clone());
        if self.open.len() > MAX_OPEN {
            self.open.pop_front();
        }
        Ok(snapshot)
    }

    fn begin(&mut self, manifest: Manifest) -> Result<bool, String> {
        self.copy = None;
        match self.store.begin_copy(manifest) {
            Ok(copy) => {
                self.copy = Some(copy);
                Ok(true)
            }
            Err(SnapshotError::Exists { .. }) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<u64, ChunkFault> {
        let Some(copy) = &mut self.copy else {
            return Err(ChunkFault::Failed("no copy of a snapshot is under way".to_owned()));
        };
        match copy.write(bytes) {
            Ok(()) => {
                reach(Mark::SnapshotChunk);
                Ok(copy.next())
            }
            Err(error @ SnapshotError::Refused { .. }) => Err(ChunkFault::Refused(error.to_string())),
            Err(error) => {
                self.copy = None;
                Err(ChunkFault::Failed(error.to_string()))
            }
        }
    }

    fn load<M: StateMachine>(
        &mut self,
        id: EntryId,
        mut state: Box<M::Restore>,
        keep: usize,
    ) -> Result<Loaded<M>, SnapshotError> {
        if let Some(copy) = self.copy.take_if(|copy| copy.id() == id) {
            copy.finish()?;
        }
        let snapshot = self.store.get(id)?;
        snapshot.restore(&mut *state).inspect_err(|error| {
            if matches!(error, SnapshotError::Damaged { .. }) {
                self.store.disregard(id);
            }
        })?;
        let kept = self.retain(keep, &[])?;
        Ok(Loaded { base: snapshot.manifest().base.clone(), state, kept })
    }
}
