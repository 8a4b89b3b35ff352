//! Gives peers the snapshots that they need and callers those that they back up, whatever this node's role is, no faster
//! than it may.
//!
//! A peer has one request open; a later one takes the place of an earlier. A chunk that is given pushes the next one off
//! by the time that it may take at `snapshot_send_rate`, whoever asks for it. While a peer fetches, the log behind its
//! snapshot stays: it will ask for that next.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::error::SnapshotRequestError;
use crate::simulation::marks::{Mark, reach};
use crate::state_machine::StateMachine;
use crate::transport::{Channel, PeerBody, PeerFrame, SnapshotRefusal, SnapshotRequest, SnapshotWant};
use crate::types::{EntryId, Monotonic, NodeId};

use super::effects::{Answer, Outbound, Ticket};
use super::replica::Replica;
use super::snapshot_worker::SnapshotOrder;
use super::snapshots::SnapshotKnobs;

/// How long after its last request a peer is taken to fetch still. Longer than it waits before it asks somebody else.
const PINNED: Duration = Duration::from_secs(30);

/// Who asks for a piece of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A peer, by its number for the request.
    Peer(NodeId, u64),
    /// A caller of this node.
    Caller(Ticket),
}

/// What is fetched from this node.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    waiting: VecDeque<(Asker, SnapshotWant)>,
    /// When the next chunk may be given.
    free_at: Monotonic,
    /// What each peer fetches, and until when it is taken to.
    pins: BTreeMap<NodeId, (EntryId, Monotonic)>,
    /// The same for what callers fetch, whoever they are.
    called_for: BTreeMap<EntryId, Monotonic>,
}

impl Serving {
    /// The snapshots that peers fetch: they will ask for the log behind them next.
    pub(crate) fn fetched_by_peers(&self) -> impl Iterator<Item = EntryId> {
        self.pins.values().map(|(id, _until)| *id)
    }

    /// The snapshots that anybody fetches.
    pub(crate) fn pinned(&self) -> impl Iterator<Item = EntryId> {
        self.fetched_by_peers().chain(self.called_for.keys().copied())
    }

    /// When something is to be done although nothing happens.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        let unpin = self.pins.values().map(|(_id, until)| *until).chain(self.called_for.values().copied()).min();
        let give = (!self.waiting.is_empty()).then_some(self.free_at);
        unpin.into_iter().chain(give).min()
    }

    /// Nobody is to be given anything on a connection that is gone. The snapshot stays: the peer will be back.
    pub(crate) fn closed(&mut self, peer: NodeId) {
        self.waiting.retain(|(asker, _want)| !matches!(asker, Asker::Peer(asking, _) if *asking == peer));
    }
}

impl<M: StateMachine> Replica<M> {
    /// A peer asks for a piece of a snapshot.
    pub(crate) fn serve_snapshot(&mut self, now: Monotonic, from: NodeId, request: SnapshotRequest) {
        self.serving.closed(from);
        self.serving.waiting.push_back((Asker::Peer(from, request.number), request.want));
        if let SnapshotWant::Chunk { snapshot, .. } = request.want {
            self.serving.pins.insert(from, (snapshot, now.after(PINNED)));
        }
        self.give_snapshots(now);
    }

    /// A caller asks for a piece of a snapshot.
    pub(crate) fn give_to_caller(&mut self, now: Monotonic, ticket: Ticket, want: SnapshotWant) {
        self.serving.waiting.push_back((Asker::Caller(ticket), want));
        if let SnapshotWant::Chunk { snapshot, .. } = want
            && self.snapshots().ids.contains(&snapshot)
        {
            self.serving.called_for.insert(snapshot, now.after(PINNED));
        }
        self.give_snapshots(now);
    }

    /// Orders what may be given now.
    pub(super) fn give_snapshots(&mut self, now: Monotonic) {
        self.serving.pins.retain(|_peer, (_id, until)| *until > now);
        self.serving.called_for.retain(|_id, until| *until > now);
        while self.serving.free_at <= now
            && let Some((to, want)) = self.serving.waiting.pop_front()
        {
            let SnapshotKnobs { send_rate: rate, chunk_bytes, .. } = self.snapshots.knobs;
            if matches!(want, SnapshotWant::Chunk { .. }) && rate > 0 {
                let pause = Duration::from_secs(u64::from(chunk_bytes)) / u32::try_from(rate).unwrap_or(u32::MAX);
                self.serving.free_at = self.serving.free_at.max(now).after(pause);
            }
            self.snapshot_orders.push(SnapshotOrder::Serve { to, want });
        }
    }

    /// The worker has read it.
    pub(super) fn served(&mut self, to: Asker, result: Result<Bytes, SnapshotRefusal>) {
        reach(match result {
            Ok(_) => Mark::SnapshotGiven,
            Err(SnapshotRefusal::Absent) => Mark::SnapshotAbsent,
            Err(SnapshotRefusal::Damaged) => Mark::SnapshotDamaged,
        });
        let (to, number) = match to {
            Asker::Peer(peer, number) => (peer, number),
            Asker::Caller(ticket) => {
                let piece = result.map_err(|refusal| SnapshotRequestError::Absent(format!("this node {refusal}")));
                return self.effects.answers.push((ticket, Answer::Piece(piece)));
            }
        };
        let (result, attached) = match result {
            Ok(bytes) => (Ok(()), vec![bytes]),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        let frame = PeerFrame { group: self.group, body: PeerBody::SnapshotAnswer { number, result }, attached };
        self.effects.send.push(Outbound { to, channel: Channel::Bulk, frame });
    }
}
