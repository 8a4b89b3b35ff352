//! Fetches a snapshot when this log cannot be continued, and puts it in the place of state and log.
//!
//! ```text
//!   the leader has purged what comes next ─┐
//!   a hole that peers have purged ─────────┼─► needed: an index ─► ask the leader, then others ─► manifest
//!   no own snapshot reaches the log ───────┘                                                       │
//!       ┌── the same chunk from the next peer, whatever broke off ◄── refused, silent, gone        ▼
//!       └────────────────────────────────────────────────────────────► chunk after chunk ─► on disk, verified
//!                                                                                              │ restored
//!   machine: the new state ◄── log: started anew, or kept when it goes on behind ◄── core ◄────┘
//! ```
//! All replicas take the same snapshots, so any of them may give the next chunk. A snapshot is durable before the log is
//! touched: a crash at any byte leaves the old state and log, or the snapshot from which the next start makes the new.
//! What arrives is believed as far as its checksums and the manifest go.
//!
//! Deliberately absent: clocks, threads, and going on with a copy that an earlier life of this node began.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::commitlog::WriteBatch;
use crate::raft::ready::Lack;
use crate::raft::{Installed, Membership};
use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::snapshot::Manifest;
use crate::state_machine::StateMachine;
use crate::transport::{Channel, PeerBody, SnapshotRefusal, SnapshotRequest, SnapshotWant};
use crate::types::{EntryId, Index, LogBase, Monotonic, NodeId};

use super::repair_order::first_uncovered;
use super::replica::Replica;
use super::snapshot_worker::{ChunkFault, Loaded, SnapshotOrder};
use super::tail::Tail;

/// How long a peer may take to answer before another is asked: a chunk may wait its turn at a low `snapshot_send_rate`.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nobody is asked once all have refused, or the disk has failed: something must change first.
const PAUSE: Duration = Duration::from_millis(500);

/// A snapshot on its way to this node.
pub(crate) struct Install<M: StateMachine> {
    /// What the leader said last.
    lack: Option<Lack>,
    state: Fetching,
    /// The manifest of the copy at hand, and the chunk that is needed next.
    copy: Option<(Manifest, u64)>,
    /// Whole and durable, to be restored as soon as the machine is here to say into what.
    to_load: Option<EntryId>,
    /// Whole, durable and restored; waits until the machine stands between two entries.
    loaded: Option<Loaded<M>>,
    last_number: u64,
    /// Who gave nothing, and why, since somebody last did.
    refused: BTreeMap<NodeId, String>,
    /// Why the last copy could not be written here, until another is begun.
    failure: Option<String>,
    /// Bytes of chunks that have arrived since this node was started.
    received: u64,
}

/// How far the fetching is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fetching {
    /// Somebody is to be asked as soon as there is somebody.
    #[default]
    Nobody,
    /// A peer has this request and time to answer.
    Asked(u64, NodeId, Monotonic),
    /// The worker is at what that peer gave, or at what is here already.
    Working(Option<NodeId>),
    /// The next round starts then.
    Pause(Monotonic),
}

impl<M: StateMachine> Default for Install<M> {
    fn default() -> Self {
        Self {
            lack: None,
            state: Fetching::default(),
            copy: None,
            to_load: None,
            loaded: None,
            last_number: 0,
            refused: BTreeMap::new(),
            failure: None,
            received: 0,
        }
    }
}

impl<M: StateMachine> Install<M> {
    /// The leader has purged what this log needs next.
    pub(super) fn lacks(&mut self, lack: Lack) {
        self.lack = Some(lack);
    }

    /// When something is to be done although nothing happens.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        match self.state {
            Fetching::Nobody | Fetching::Working(_) => None,
            Fetching::Asked(_, _, until) | Fetching::Pause(until) => Some(until),
        }
    }

    /// The bulk connection to a peer is gone, and with it every answer. It has not refused anything: when nobody else is in
    /// reach, the copy waits until somebody is.
    pub(super) fn closed(&mut self, peer: NodeId) {
        if matches!(self.state, Fetching::Asked(_, asked, _) if asked == peer) {
            self.state = Fetching::Nobody;
        }
    }

    /// A peer may be asked again: it has just connected.
    pub(super) fn connected(&mut self, peer: NodeId) {
        self.refused.remove(&peer);
    }

    fn give_up(&mut self) -> Option<SnapshotOrder<M>> {
        self.refused.clear();
        if !matches!(self.state, Fetching::Working(_)) {
            self.state = Fetching::Nobody;
        }
        self.copy.take().map(|_copy| SnapshotOrder::GiveUp)
    }
}

impl<M: StateMachine> Replica<M> {
    /// The first index that a snapshot must be of to be of use; `None` while the log will do.
    fn needed_snapshot(&self) -> Option<Index> {
        // What this log has at the leader's base may be another entry: only what is committed is the leader's.
        let lack = self.install.lack.map(|lack| lack.base).filter(|base| self.raft.committed() < *base);
        let detached = self.raft.is_detached().then(|| self.raft.base().index);
        lack.max(detached).max(self.purged_hole())
    }

    /// Whether a snapshot is about to take the place of the state.
    pub(super) fn is_installing(&self) -> bool {
        self.install.loaded.is_some()
    }

    /// Why a node that needs a snapshot has none, for a person.
    pub(crate) fn missing_snapshot(&self) -> Option<String> {
        let needed = self.needed_snapshot()?;
        let mut why: Vec<String> =
            self.install.refused.iter().map(|(peer, why)| format!("node {peer} {why}")).collect();
        why.extend(self.install.failure.clone());
        match (&self.install.copy, why.is_empty()) {
            (Some((manifest, next)), _) => {
                Some(format!("is being sent snapshot {}: chunk {next} of {}", manifest.id(), manifest.chunks))
            }
            (None, true) => Some(format!("needs a snapshot of index {needed} or later")),
            (None, false) => Some(format!("needs a snapshot of index {needed} or later; {}", why.join(", "))),
        }
    }

    /// Bytes of snapshots received since this node was started.
    pub(crate) fn snapshot_bytes_received(&self) -> u64 {
        self.install.received
    }

    /// Fetches what is needed, a step further; installs what has come.
    pub(super) fn look_after_install(&mut self, now: Monotonic) {
        self.load_whole();
        self.install_loaded(now);
        let Some(needed) = self.needed_snapshot() else {
            self.install.lack = None;
            self.snapshot_orders.extend(self.install.give_up());
            return;
        };
        if self.install.loaded.is_some() {
            return;
        }
        if self.install.copy.as_ref().is_some_and(|(manifest, _next)| manifest.id().index < needed) {
            tracing::info!(node = %self.id, %needed, "the snapshot that is being fetched is too old by now");
            self.snapshot_orders.extend(self.install.give_up());
        }
        match self.install.state {
            Fetching::Working(_) => return,
            Fetching::Asked(_, _, until) | Fetching::Pause(until) if now < until => return,
            Fetching::Asked(_, silent, _) => drop(self.install.refused.insert(silent, "did not answer".to_owned())),
            Fetching::Pause(_) => self.install.refused.clear(),
            Fetching::Nobody => {}
        }
        self.install.state = Fetching::Nobody;
        self.ask_for_piece(now, needed);
    }

    fn ask_for_piece(&mut self, now: Monotonic, needed: Index) {
        let bulk = self.connected.iter().filter(|(_peer, channel)| *channel == Channel::Bulk).map(|(peer, _)| *peer);
        let untried: Vec<NodeId> = bulk.filter(|peer| !self.install.refused.contains_key(peer)).collect();
        let leader = self.raft.leader().filter(|leader| untried.contains(leader));
        let Some(peer) = leader.or_else(|| untried.first().copied()) else {
            if !self.install.refused.is_empty() {
                // Nobody has the rest of this one any more: another must do.
                let given_up = self.install.copy.take().map(|_copy| SnapshotOrder::GiveUp);
                self.snapshot_orders.extend(given_up);
                self.install.state = Fetching::Pause(now.after(PAUSE));
            }
            return;
        };
        let want = match &self.install.copy {
            Some((manifest, next)) => SnapshotWant::Chunk { snapshot: manifest.id(), chunk: *next },
            None => SnapshotWant::Newest { at_least: needed },
        };
        self.install.last_number += 1;
        let number = self.install.last_number;
        self.install.state = Fetching::Asked(number, peer, now.after(PATIENCE));
        self.outbound(peer, Channel::Bulk, PeerBody::Snapshot(SnapshotRequest { number, want }));
    }

    /// A peer answers.
    pub(crate) fn take_snapshot_answer(
        &mut self,
        from: NodeId,
        number: u64,
        result: Result<(), SnapshotRefusal>,
        attached: &[Bytes],
    ) {
        if !matches!(self.install.state, Fetching::Asked(asked, peer, _) if (asked, peer) == (number, from)) {
            return;
        }
        self.install.state = Fetching::Nobody;
        let order = result.map_err(|refusal| refusal.to_string()).and_then(|()| {
            let piece = Bytes::from(attached.concat());
            match &self.install.copy {
                Some(_copy) => {
                    self.install.received += piece.len() as u64;
                    Ok(SnapshotOrder::Chunk(piece))
                }
                None => {
                    let manifest = Manifest::decode(Path::new("its manifest"), &piece).map_err(|e| e.to_string())?;
                    self.membership_of(&manifest.base)?;
                    let useful = self.needed_snapshot().is_some_and(|needed| manifest.id().index >= needed);
                    self.install.copy = useful.then(|| (manifest.clone(), 0));
                    if useful { Ok(SnapshotOrder::Begin(Box::new(manifest))) } else { Err("has an older one".into()) }
                }
            }
        });
        match order {
            Ok(order) => {
                self.install.refused.clear();
                self.install.state = Fetching::Working(Some(from));
                self.snapshot_orders.push(order);
            }
            Err(why) => drop(self.install.refused.insert(from, why)),
        }
    }

    /// The worker has begun the copy, or has that snapshot already.
    pub(super) fn copy_begun(&mut self, now: Monotonic, begun: Result<bool, String>) {
        self.install.state = Fetching::Nobody;
        let Some((manifest, _next)) = &self.install.copy else { return };
        let id = manifest.id();
        match begun {
            Ok(true) => {
                tracing::info!(node = %self.id, snapshot = %id, bytes = manifest.data_bytes, "fetching a snapshot");
                self.install.failure = None;
                if self.plants.has(Plant::ResetBeforeSnapshot) {
                    let reset = Some(manifest.base.clone());
                    let number = self.raft.reserve_number();
                    self.order_write(number, WriteBatch { reset, ..WriteBatch::default() });
                }
            }
            Ok(false) => self.load(id),
            Err(reason) => self.copy_failed(now, &reason),
        }
    }

    /// The worker has verified and written a chunk.
    pub(super) fn chunk_stored(&mut self, now: Monotonic, stored: Result<u64, ChunkFault>) {
        let giver = std::mem::take(&mut self.install.state);
        let Some((manifest, next)) = &mut self.install.copy else { return };
        match stored {
            Ok(stored) => {
                *next = stored;
                if stored == manifest.chunks {
                    let id = manifest.id();
                    self.load(id);
                }
            }
            Err(ChunkFault::Refused(reason)) => {
                reach(Mark::SnapshotChunkBad);
                tracing::warn!(node = %self.id, reason, "a chunk of a snapshot is not what it should be");
                if let Fetching::Working(Some(peer)) = giver {
                    self.install.refused.insert(peer, "gave a bad chunk".to_owned());
                }
            }
            Err(ChunkFault::Failed(reason)) => self.copy_failed(now, &reason),
        }
    }

    fn load(&mut self, id: EntryId) {
        self.install.state = Fetching::Working(None);
        self.install.to_load = Some(id);
        self.load_whole();
    }

    fn load_whole(&mut self) {
        let Some(state) = self.install.to_load.and_then(|_whole| self.applier.restore()) else { return };
        let Some(id) = self.install.to_load.take() else { return };
        let keep = self.snapshots.knobs.keep;
        self.snapshot_orders.push(SnapshotOrder::Load { id, state: Box::new(state), keep });
    }

    fn copy_failed(&mut self, now: Monotonic, reason: &str) {
        tracing::warn!(node = %self.id, reason, "a snapshot could not be fetched; trying again");
        self.install.failure = Some(reason.to_owned());
        self.install.copy = None;
        self.install.state = Fetching::Pause(now.after(PAUSE));
    }

    /// The snapshot is durable and restored.
    pub(super) fn loaded(&mut self, now: Monotonic, loaded: Result<Loaded<M>, String>) {
        self.install.state = Fetching::Nobody;
        match loaded {
            Ok(loaded) => {
                self.install.copy = None;
                self.install.loaded = Some(loaded);
                self.install_loaded(now);
            }
            Err(reason) => self.copy_failed(now, &reason),
        }
    }

    /// Puts the state that was restored in the place of the machine's, once that stands between two entries.
    fn install_loaded(&mut self, now: Monotonic) {
        let Some(loaded) = self.install.loaded.take_if(|_loaded| self.applier.can_be_replaced()) else { return };
        let Loaded { base, state, kept } = loaded;
        let installed = match self.membership_of(&base) {
            Ok(membership) => self.raft.install(now, base.entry, membership),
            Err(reason) => {
                tracing::error!(node = %self.id, snapshot = %base.entry, reason, "a snapshot cannot be installed");
                Installed::Refused
            }
        };
        if installed == Installed::Refused {
            self.snapshot_orders.push(SnapshotOrder::Drop(state));
            self.install.state = Fetching::Pause(now.after(PAUSE));
        } else {
            reach(Mark::SnapshotInstalled);
            tracing::info!(node = %self.id, snapshot = %base.entry, ?installed, "snapshot installed");
            let before = self.applier.install(*state, &base);
            self.snapshot_orders.push(SnapshotOrder::Drop(Box::new(before)));
            if installed == Installed::StartedOver {
                self.tail = Tail::new(base.first());
                self.end = base.position;
                self.clock.follow(base.time);
                let number = self.raft.reserve_number();
                self.order_write(number, WriteBatch { reset: Some(base.clone()), ..WriteBatch::default() });
                self.repair.cut(number, Index::ZERO);
            }
            let mut settled = Vec::new();
            let gone = if installed == Installed::StartedOver { Index(u64::MAX) } else { base.entry.index };
            self.pending.installed(gone, &mut settled);
            self.settle(settled);
            self.now_kept(kept);
            // Before anything leaves: what may be vouched for ends at the next hole.
            let next = first_uncovered(&self.holes(), base.entry.index);
            self.raft.holes(now, next);
        }
        self.drain(now);
    }

    /// The members in force at the end of a snapshot. One without them is of no use to a node that knows who they are:
    /// starting over behind it, it would not know whom to vote with. It is what the log of a restored cluster begins with,
    /// and the record behind it names them; a node that joins gets it like any other record, and does not vote before.
    fn membership_of(&self, base: &LogBase) -> Result<Option<(Index, Membership)>, String> {
        let (index, payload) = &base.membership;
        if index.is_zero() {
            let nobody = self.raft.membership().is_none();
            return if nobody { Ok(None) } else { Err("its snapshot does not say who the members are".to_owned()) };
        }
        Membership::decode(payload).map(|membership| Some((*index, membership))).map_err(|error| error.to_string())
    }
}
