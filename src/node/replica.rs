//! One replica: the consensus core, the log and the state machine joined, without threads, sockets or clocks.
//!
//! ```text
//!                     ┌────────────────────────── Replica ──────────────────────────┐
//!   propose ─────────►│ writes.rs ──► raft ──► Ready ──► perform.rs ─► tail, framing │──► disk tasks
//!   frames ──────────►│ incoming.rs ─►  ▲                     │                      │──► frames
//!   disk_done ───────►│ ────────────────┘                     ▼                      │──► answers
//!   tick ────────────►│                            apply.rs ─► machine               │──► role changes
//!                     └──────────────────────────────────────────────────────────────┘
//! ```
//! The runtime carries the effects with threads and sockets, the simulator with a queue and a seed; both drive this
//! very code. Inputs only note what is wanted; `end_turn` gathers it, so that everything that arrived together
//! shares one question to the leader, one disk write and one quantum of apply.
//!
//! Deliberately absent: waiting. No call blocks on a disk or a peer; reading a cold record from the map may fault a
//! page in.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::commitlog::{Hole, LogReader, LogState, Space};
use crate::raft::{Membership, Raft, RaftConfig, ReadBy, Restored};
use crate::simulation::plants::Plants;
use crate::state_machine::StateMachine;
use crate::transport::{Channel, PeerFrame};
use crate::types::{EntryId, GroupId, Index, LogBase, Monotonic, NodeId, Position, ReadyNumber, Term, TermRun};

use super::apply::Applier;
use super::effects::{Effects, Outbound, Proposal, Ticket};
use super::forwards::Forwards;
use super::fresh::Shown;
use super::install::Install;
use super::log_clock::LogClock;
use super::members::Requests;
use super::pending::{Origin, Pending};
use super::reads::Reads;
use super::repair::Repair;
use super::repair_order::first_uncovered;
use super::snapshot_service::Serving;
use super::snapshot_worker::{Kept, SnapshotOrder};
use super::snapshots::{SnapshotKnobs, Snapshots};
use super::tail::Tail;

/// How often callers past their deadline are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(20);

/// What a replica is made with.
#[derive(Debug)]
pub(crate) struct ReplicaOptions {
    /// The core's settings, this node's id among them.
    pub raft: RaftConfig,
    /// The group it serves.
    pub group: GroupId,
    /// Largest record in bytes, header included.
    pub max_record_bytes: u32,
    /// Which rule a simulation breaks.
    pub plants: Plants,
    /// When snapshots are taken, and how many are kept.
    pub snapshots: SnapshotKnobs,
}

/// Proposals that want to stand in the log one behind the other.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    pub(crate) origin: Origin,
    /// Only to be taken when this node leads in this term.
    pub(crate) term: Option<Term>,
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) deadline: Monotonic,
}

/// Records that the present Ready will name, with what framing or receiving them taught.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) first: Index,
    pub(crate) starts: Vec<u32>,
    pub(crate) bytes: Bytes,
}

/// One replica of one group.
pub(crate) struct Replica<M: StateMachine> {
    pub(crate) id: NodeId,
    pub(crate) group: GroupId,
    pub(crate) max_record_bytes: u32,
    pub(crate) plants: Plants,
    pub(crate) raft: Raft,
    pub(crate) log: LogReader,
    pub(crate) tail: Tail,
    pub(crate) clock: LogClock,
    /// Where the next record will stand.
    pub(crate) end: Position,
    pub(crate) staged: Option<Staged>,
    /// The last Ready given to the disk, and the last the disk reported.
    pub(crate) disk_asked: ReadyNumber,
    pub(crate) disk_done: ReadyNumber,
    /// Messages that wait until the disk has reported a Ready.
    pub(crate) held: VecDeque<(ReadyNumber, Outbound)>,
    pub(crate) applier: Applier<M>,
    pub(crate) pending: Pending,
    pub(crate) forwards: Forwards,
    pub(crate) reads: Reads,
    pub(crate) repair: Repair,
    pub(crate) snapshots: Snapshots,
    pub(crate) serving: Serving,
    pub(crate) install: Install<M>,
    pub(crate) requests: Requests,
    pub(crate) snapshot_orders: Vec<SnapshotOrder<M>>,
    /// Writes to be taken up at the end of the turn, or once there is a leader and a connection to it.
    pub(crate) waiting: VecDeque<WriteRequest>,
    pub(crate) connected: BTreeSet<(NodeId, Channel)>,
    /// The record that formed the cluster, for a member that has not heard of it.
    pub(crate) genesis: Option<Bytes>,
    pub(crate) effects: Effects,
    /// The last no-op that was appended because something was due.
    pub(crate) no_op: EntryId,
    next_sweep: Monotonic,
}

impl<M: StateMachine> Replica<M> {
    /// Joins what recovery found: the log, and a machine that holds everything up to `base`, from its newest snapshot.
    ///
    /// # Errors
    /// When a membership record of the log does not decode: a sentence that says so.
    pub(crate) fn open(
        options: ReplicaOptions,
        state: &LogState,
        log: LogReader,
        (machine, base, kept): (M, &LogBase, Kept),
        genesis: Option<Bytes>,
        now: Monotonic,
    ) -> Result<Self, String> {
        let mut memberships = Vec::new();
        // A log that was purged with a hole in front does not know what was in force there. The snapshot does.
        let of_snapshot = Some(&base.membership)
            .filter(|(index, _)| !index.is_zero() && state.memberships.iter().all(|(later, _)| later > index));
        for (index, payload) in of_snapshot.into_iter().chain(&state.memberships) {
            let membership = Membership::decode(payload)
                .map_err(|error| format!("the membership at index {index} cannot be read: {error}"))?;
            memberships.push((*index, membership));
        }
        let restored = Restored {
            vote: state.vote,
            base: state.base,
            runs: state.runs.clone(),
            last: state.last,
            applied: base.entry.index,
            committed: state.committed_hint.max(state.base.index),
            memberships,
            hole: first_uncovered(&state.holes, base.entry.index),
            unknown: state.holes.iter().filter_map(Hole::unknown).collect(),
            in_doubt: state.last_in_doubt.is_some(),
        };
        let applier = Applier::new(machine, base);
        let knobs = options.snapshots.of_a_state(applier.on_disk());
        let (id, plants, forwards_from) = (options.raft.id, options.plants, options.raft.seed);
        let mut raft = Raft::new(options.raft, restored, now);
        raft.plant(plants);
        // The snapshot names its last entry where the log cannot read it any more.
        let named = TermRun { first: base.entry.index, term: base.entry.term };
        let _known_already = raft.identified(now, (&[named], base.entry.index), Vec::new());
        let mut replica = Self {
            id,
            group: options.group,
            max_record_bytes: options.max_record_bytes,
            raft,
            plants,
            log,
            tail: Tail::new(state.last.index.next()),
            clock: LogClock::new(state.last_time),
            end: state.end,
            staged: None,
            disk_asked: ReadyNumber::default(),
            disk_done: ReadyNumber::default(),
            held: VecDeque::new(),
            applier,
            pending: Pending::with(plants),
            forwards: Forwards::named_from(forwards_from),
            reads: Reads::with(plants),
            repair: Repair::default(),
            snapshots: Snapshots::new(knobs, kept),
            serving: Serving::default(),
            install: Install::default(),
            requests: Requests::default(),
            snapshot_orders: Vec::new(),
            waiting: VecDeque::new(),
            connected: BTreeSet::new(),
            genesis,
            effects: Effects::default(),
            no_op: EntryId::ZERO,
            next_sweep: now,
        };
        replica.set_places();
        replica.cover_begin_of_log(state.base.index);
        replica.drain(now);
        Ok(replica)
    }

    /// A caller proposes entries; it hears of them under `ticket`, by `deadline` at the latest (plus the sweep).
    pub(crate) fn propose(
        &mut self,
        ticket: Ticket,
        term: Option<Term>,
        proposals: Vec<Proposal>,
        deadline: Monotonic,
    ) {
        self.take_write(WriteRequest { origin: Origin::Local(ticket), term, proposals, deadline });
    }

    /// A caller asks for a linearizable read; it hears, under `ticket`, which index is applied that makes it so.
    pub(crate) fn read_index(&mut self, ticket: Ticket, by: ReadBy, deadline: Monotonic) {
        self.reads.insert(ticket, by, deadline);
    }

    /// The disk has done every task up to `number`, synced as the durability asks.
    pub(crate) fn disk_done(&mut self, now: Monotonic, number: ReadyNumber) {
        self.disk_done = self.disk_done.max(number);
        self.raft.persisted(now, number);
        self.release_held();
        self.drain(now);
        self.mends_done(number);
    }

    /// A connection to a peer is ready.
    pub(crate) fn peer_connected(&mut self, now: Monotonic, peer: NodeId, channel: Channel) {
        self.connected.insert((peer, channel));
        self.install.connected(peer);
        // A new bulk connection is told to the core as well: what was on its way on the old one is lost.
        if self.connected.contains(&(peer, Channel::Control)) {
            self.raft.peer_connected(now, peer);
            self.drain(now);
        }
    }

    /// A connection to a peer is gone, and what was on it.
    pub(crate) fn peer_closed(&mut self, now: Monotonic, peer: NodeId, channel: Channel) {
        self.connected.remove(&(peer, channel));
        match channel {
            Channel::Control => {
                self.raft.peer_disconnected(now, peer);
                self.drain(now);
            }
            Channel::Bulk => {
                self.forwards.closed(peer, &mut self.effects.answers);
                self.repair.closed(peer);
                self.serving.closed(peer);
                self.install.closed(peer);
            }
        }
    }

    /// Time has passed: call at [`Replica::next_deadline`] at the latest.
    pub(crate) fn tick(&mut self, now: Monotonic) {
        self.raft.tick(now);
        self.drain(now);
        if now >= self.next_sweep {
            self.next_sweep = now.after(SWEEP_EVERY);
            self.expire(now);
        }
    }

    /// Does what this turn's inputs led to, and gives all effects since the last turn. `now` is a look at the clock after
    /// all of them were taken in: a lease that is over by then serves none of the reads among them. What readers go by
    /// ([`Replica::shown`]) is to be shown before the effects are carried out.
    pub(crate) fn end_turn(&mut self, now: Monotonic) -> Effects {
        self.turn_callers_away();
        self.take_up_waiting(now);
        while let Some((token, by)) = self.reads.ask(now) {
            self.raft.read_index(now, token, by);
            self.drain(now);
        }
        self.look_after_damage(now);
        self.look_after_install(now);
        self.look_after_members(now);
        self.give_snapshots(now);
        self.raft.room(now, self.log.space() == Space::Open && self.applier.failure().is_none());
        self.look_after_deadlines(now);
        self.apply(now);
        self.take_due_snapshot();
        self.tail.evict(self.raft.written());
        std::mem::take(&mut self.effects)
    }

    /// When [`Replica::tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        let idle = self.pending.is_empty() && self.forwards.is_empty() && self.waiting.is_empty();
        let sweep = (!idle || !self.reads.is_empty()).then_some(self.next_sweep);
        [
            self.raft.next_deadline(),
            self.reads.next_deadline(),
            self.repair.next_deadline(),
            self.install.next_deadline(),
            self.serving.next_deadline(),
            self.next_change_deadline(),
            self.next_no_op(),
            sweep,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The node stops: every caller hears that nobody will know more.
    pub(crate) fn abandon(&mut self, reason: &str) -> Effects {
        let mut settled = Vec::new();
        self.pending.abandon(reason, &mut settled);
        self.settle(settled);
        self.forwards.abandon(reason, &mut self.effects.answers);
        self.reads.abandon(reason, &mut self.effects.answers);
        self.refuse_waiting(reason);
        self.abandon_askers(reason);
        self.abandon_requests(reason);
        std::mem::take(&mut self.effects)
    }

    /// The consensus core, to look at.
    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    /// What readers may go by from now on.
    pub(crate) fn shown(&self) -> Shown {
        Shown {
            committed: self.raft.committed(),
            applied: self.applier.applied().index,
            lease_until: self.raft.read_lease_until(),
            confirmed: self.reads.confirmed(),
        }
    }

    /// The log, to read.
    pub(crate) fn log(&self) -> &LogReader {
        &self.log
    }

    /// The last entry that is applied and visible.
    pub(crate) fn applied(&self) -> EntryId {
        self.applier.applied()
    }

    /// Why nothing more is applied, when so.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.applier.failure()
    }

    /// Committed records from `from` on, verified, as pieces of whole records: at least one, and as many as reach
    /// `max_bytes`; from memory where they are newer than what the disk has published.
    ///
    /// # Errors
    /// Those of the log's reader; `OutOfRange` above the committed index.
    pub(crate) fn entries(&self, from: Index, max_bytes: u64) -> Result<Vec<Bytes>, crate::error::ReadError> {
        let committed = self.raft.committed();
        if from > committed {
            let first = self.log.first();
            return Err(crate::error::ReadError::OutOfRange { asked: from, first, last: committed });
        }
        self.pieces(from, committed, max_bytes)
    }

    fn expire(&mut self, now: Monotonic) {
        let mut settled = Vec::new();
        self.pending.expire(now, &mut settled);
        self.settle(settled);
        self.forwards.expire(now, &mut self.effects.answers);
        self.reads.expire(now, &mut self.effects.answers);
        self.expire_waiting(now);
    }

    pub(crate) fn outbound(&mut self, to: NodeId, channel: Channel, body: crate::transport::PeerBody) {
        let frame = PeerFrame { group: self.group, body, attached: Vec::new() };
        self.effects.send.push(Outbound { to, channel, frame });
    }
}
