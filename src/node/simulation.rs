//! The process of one node without threads or sockets: what the simulator starts, kills and feeds.
//!
//! ```text
//!   Process::start ─► data_dir ─► commitlog::open ─► Replica::open
//!   propose, read, receive, tick ─► Replica ─► end_turn ─► Turn        carried by the simulator's queue
//!   take_write ─► (time passes) ─► perform ─► written                  what disk_thread.rs does with its thread
//! ```
//! Everything but the carrying is the production code. Deliberately absent: decisions of its own.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::commitlog::{
    Hole, LogFault, LogReader, LogWriter, Opened, PrepareDone, PrepareJob, RecoveryReport, WriteBatch,
};
use crate::config::{Config, Members};
use crate::error::{OpenError, ReadError, SnapshotRequestError, WriteError};
use crate::raft::{Change, Membership, Raft, ReadBy};
use crate::simulation::plants::{Plant, Plants};
use crate::snapshot::CHUNK_BYTES;
use crate::state_machine::StateMachine;
use crate::transport::frame::{FrameBatch, FrameDecoder};
use crate::transport::{Channel, LocalIdentity, PeerFrame, wire};
use crate::types::{ClusterId, EntryId, Epoch, Incarnation, Index, LogTime, Monotonic, NodeId, RoleChange};

use super::data_dir::{self, DataDir, Recovered};
use super::disk_batch::Gathered;
use super::effects::{Answer as Answered, DiskTask, Effects, Proposal, Proposed, Ticket};
use super::formation::Formation;
use super::fresh::Fresh;
use super::introduction::Introduction;
use super::members::{MembersError, TransferError};
use super::replica::Replica;
use super::scrub::Scrub;
use super::snapshot_service::Asker;
use super::snapshot_worker::{Loaded, SnapshotOrder, SnapshotReport, SnapshotWorker};
use super::{Environment, max_frame_bytes, replica_options};

mod admission;

pub use admission::{Forming, admits, still_admits};

/// What a caller is told.
#[derive(Debug)]
pub enum Answer {
    /// Of a write.
    Write(Result<Proposed, WriteError>),
    /// Of a read.
    Read(Result<Index, ReadError>),
    /// Of a snapshot: the last entry in it.
    Snapshot(Result<EntryId, SnapshotRequestError>),
    /// Of a change of members: who belongs to the cluster now.
    Members(Result<Membership, MembersError>),
    /// Of a transfer of leadership.
    Transfer(Result<(), TransferError>),
}

/// A frame to be carried to a peer.
#[derive(Debug)]
pub struct Sent {
    /// The receiver.
    pub to: NodeId,
    /// Which of its connections.
    pub channel: Channel,
    /// The frame.
    pub frame: PeerFrame,
}

/// What a turn led to, disk writes aside: those gather in the process.
#[derive(Debug, Default)]
pub struct Turn {
    /// For the network, in order.
    pub send: Vec<Sent>,
    /// For callers, under their tickets.
    pub answers: Vec<(u64, Answer)>,
    /// Role changes, oldest first.
    pub roles: Vec<RoleChange>,
    /// Peers whose connections are to be closed, with the reason.
    pub disconnect: Vec<(NodeId, String)>,
    /// There is more to apply: end another turn soon.
    pub more: bool,
}

impl From<Effects> for Turn {
    fn from(effects: Effects) -> Self {
        let answer = |(ticket, answer): (Ticket, Answered)| {
            let answer = match answer {
                Answered::Write(outcome) => Answer::Write(outcome),
                Answered::Read(outcome) => Answer::Read(outcome),
                Answered::Snapshot(outcome) => Answer::Snapshot(outcome),
                Answered::Members(outcome) => Answer::Members(outcome),
                Answered::Transfer(outcome) => Answer::Transfer(outcome),
                // Nobody simulated takes a backup.
                Answered::Piece(_) => return None,
            };
            Some((ticket.0, answer))
        };
        let sent = effects.send.into_iter().map(|out| Sent { to: out.to, channel: out.channel, frame: out.frame });
        Self {
            send: sent.collect(),
            answers: effects.answers.into_iter().filter_map(answer).collect(),
            roles: effects.roles,
            disconnect: effects.disconnect,
            more: effects.more,
        }
    }
}

/// A disk write under way.
#[derive(Debug)]
pub struct Write(Gathered);

impl Write {
    /// What is being written.
    #[must_use]
    pub fn batch(&self) -> &WriteBatch {
        &self.0.batch
    }
}

/// What a simulation chooses beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seams {
    /// Which rule is broken.
    pub plants: Plants,
    /// Bounds the bytes under way to one follower, when it is not to be what production takes.
    pub window: Option<u64>,
    /// Bytes of a full chunk of snapshots, when they are not to be what production takes.
    pub chunk_bytes: Option<u32>,
}

/// What work on snapshots is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotTask {
    /// To write down the state after an entry, and to remove older ones.
    Take(EntryId),
    /// To read for a peer, or for a caller of this node.
    Serve(Option<NodeId>),
    /// To begin a copy of a peer's.
    Begin(EntryId),
    /// To write a chunk of the copy.
    Chunk,
    /// To make the copy whole, restore it, and remove older ones.
    Load(EntryId),
    /// To free what is not needed.
    Free,
}

/// Work on snapshots that was ordered and not done.
pub struct SnapshotWork<M: StateMachine>(SnapshotOrder<M>);

impl<M: StateMachine> SnapshotWork<M> {
    /// What is to be done.
    #[must_use]
    pub fn task(&self) -> SnapshotTask {
        match &self.0 {
            SnapshotOrder::Take { base, .. } => SnapshotTask::Take(base.entry),
            SnapshotOrder::Serve { to: Asker::Peer(peer, _number), .. } => SnapshotTask::Serve(Some(*peer)),
            SnapshotOrder::Serve { to: Asker::Caller(_), .. } => SnapshotTask::Serve(None),
            SnapshotOrder::Begin(manifest) => SnapshotTask::Begin(manifest.id()),
            SnapshotOrder::Chunk(_) => SnapshotTask::Chunk,
            SnapshotOrder::Load { id, .. } => SnapshotTask::Load(*id),
            SnapshotOrder::GiveUp | SnapshotOrder::Drop(_) => SnapshotTask::Free,
        }
    }
}

/// What came of it.
pub struct SnapshotOutcome<M: StateMachine>(Option<SnapshotReport<M>>);

impl<M: StateMachine> SnapshotOutcome<M> {
    /// The last entries of the snapshots that are durable now, the newest first, when the work has seen to that.
    #[must_use]
    pub fn kept(&self) -> Option<&[EntryId]> {
        match &self.0 {
            Some(SnapshotReport::Taken(Ok(kept)) | SnapshotReport::Loaded(Ok(Loaded { kept, .. }))) => Some(&kept.ids),
            Some(_) | None => None,
        }
    }
}

/// A node's process.
pub struct Process<M: StateMachine> {
    replica: Replica<M>,
    fresh: Fresh,
    plants: Plants,
    writer: LogWriter,
    scrub: Scrub,
    tasks: VecDeque<DiskTask>,
    purge: Option<Index>,
    snapshots: SnapshotWorker,
    snapshot_orders: VecDeque<SnapshotOrder<M>>,
    report: RecoveryReport,
    data_dir: DataDir,
    config: Config,
    introduction: Introduction,
}

impl<M: StateMachine> Process<M> {
    /// Recovers the directory of a node that belongs to a cluster.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn start(environment: &Environment, config: &Config, mut machine: M, seams: Seams) -> Result<Self, OpenError> {
        let data_dir = data_dir::open(environment, config, &config.cluster)?;
        let directory = || config.data_dir.clone();
        let Seams { plants, window, chunk_bytes } = seams;
        let chunk_bytes = chunk_bytes.unwrap_or(CHUNK_BYTES);
        let recovered =
            data_dir::recover_in_chunks(environment, config, &data_dir.identity, &mut machine, (plants, chunk_bytes))?;
        let Recovered { opened, store, base, kept, genesis } = recovered;
        let Opened { writer, reader, state, report } = opened;
        let mut options = replica_options(config, environment.entropy.next_u64());
        options.plants = plants;
        options.snapshots.chunk_bytes = chunk_bytes;
        options.raft.max_inflight_bytes = window.unwrap_or(options.raft.max_inflight_bytes);
        let now = environment.clock.monotonic();
        let scrub = Scrub::new(reader.clone(), config.scrub_every, environment.entropy.next_u64(), now);
        let replica = Replica::open(options, &state, reader, (machine, &base, kept), genesis, now)
            .map_err(|reason| OpenError::Foreign { path: directory(), reason })?;
        let mut process = Self {
            replica,
            fresh: Fresh::default(),
            plants,
            writer,
            scrub,
            tasks: VecDeque::new(),
            purge: None,
            snapshots: SnapshotWorker::new(store),
            snapshot_orders: VecDeque::new(),
            report,
            data_dir,
            config: config.clone(),
            introduction: Introduction::default(),
        };
        process.introduces_itself();
        Ok(process)
    }

    /// What its handshakes say, as of its last turn.
    #[must_use]
    pub fn identity(&self) -> Option<&LocalIdentity> {
        self.introduction.told()
    }

    /// Says something else from now on, when the membership that it follows has changed; true when so.
    pub fn introduces_itself(&mut self) -> bool {
        self.introduction.renew(&self.config, &self.data_dir.identity, self.replica.raft()).is_some()
    }

    /// What recovery did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// A caller proposes entries.
    pub fn propose(&mut self, ticket: u64, proposals: Vec<Proposal>, deadline: Monotonic) {
        self.replica.propose(Ticket(ticket), None, proposals, deadline);
    }

    /// A caller asks for a read index.
    pub fn read(&mut self, ticket: u64, by: ReadBy, deadline: Monotonic) {
        self.replica.read_index(Ticket(ticket), by, deadline);
    }

    /// Whether a caller on a thread of its own may read by the leader's lease without asking.
    #[must_use]
    pub fn reads_by_lease(&self, now: Monotonic) -> bool {
        let shown = self.fresh.lease_shown().filter(|_until| self.plants.has(Plant::LeaseNotTimed));
        let now = shown.map_or(now, |until| Monotonic::from_micros(until.as_micros() - 1));
        self.fresh.leased(now).is_some_and(|index| index <= self.fresh.applied())
    }

    /// Whether one that is content with what is `bound` old may read without asking.
    #[must_use]
    pub fn reads_within(&self, bound: Duration, now: Monotonic) -> bool {
        self.fresh.within(bound, now).is_some_and(|index| index <= self.fresh.applied())
    }

    /// A frame came.
    pub fn receive(&mut self, now: Monotonic, from: NodeId, frame: PeerFrame) {
        self.replica.receive(now, from, frame);
    }

    /// A connection is ready.
    pub fn connected(&mut self, now: Monotonic, peer: NodeId, channel: Channel) {
        self.replica.peer_connected(now, peer, channel);
    }

    /// A connection is gone.
    pub fn closed(&mut self, now: Monotonic, peer: NodeId, channel: Channel) {
        self.replica.peer_closed(now, peer, channel);
    }

    /// When the process wants to be woken.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.replica.next_deadline()
    }

    /// Ends a turn as the event loop does: the timer when it is due, then everything that is wanted.
    pub fn end_turn(&mut self, now: Monotonic) -> Turn {
        if self.replica.next_deadline().is_some_and(|due| due <= now) {
            self.replica.tick(now);
        }
        let mut effects = self.replica.end_turn(now);
        self.fresh.show(self.replica.shown());
        self.tasks.extend(effects.disk.drain(..));
        self.purge = effects.purge.take().or(self.purge);
        self.snapshot_orders.extend(self.replica.take_snapshot_orders());
        if let Some(order) = self.replica.take_apply_order() {
            self.replica.machine_back(now, order.perform());
            effects.more = true;
        }
        effects.into()
    }

    /// The process stops: what callers are told.
    pub fn abandon(&mut self, reason: &str) -> Turn {
        self.replica.abandon(reason).into()
    }

    /// The next write: everything that has gathered, as far as it goes together.
    pub fn take_write(&mut self) -> Option<Write> {
        let mut gathered = Gathered::new(self.tasks.pop_front()?);
        while let Some(task) = self.tasks.pop_front() {
            if let Some(task) = gathered.add(task) {
                self.tasks.push_front(task);
                break;
            }
        }
        Some(Write(gathered))
    }

    /// Writes and syncs, all at once.
    ///
    /// # Errors
    /// `Full`: to be tried again. `Poisoned`: the process must stop.
    pub fn perform(&mut self, write: &Write) -> Result<(), LogFault> {
        self.writer.write(&write.0.batch)
    }

    /// The core hears that the write is done.
    pub fn written(&mut self, now: Monotonic, write: &Write) {
        self.replica.disk_done(now, write.0.number);
    }

    /// A caller asks for a snapshot.
    pub fn snapshot(&mut self, ticket: u64) {
        self.replica.ask_for_snapshot(Ticket(ticket));
    }

    /// A caller wants other members.
    pub fn change_members(&mut self, ticket: u64, change: Change, deadline: Monotonic) {
        self.replica.change_members(Ticket(ticket), change, deadline);
    }

    /// A caller wants another leader.
    pub fn transfer_leadership(&mut self, now: Monotonic, ticket: u64, to: NodeId) {
        self.replica.transfer_leadership(now, Ticket(ticket), to);
    }

    /// Drops the front of the log as far as it was ordered, between two writes. Whether anything was ordered.
    ///
    /// # Errors
    /// As [`Process::perform`].
    pub fn purge(&mut self, now: Monotonic) -> Result<bool, LogFault> {
        let Some(upto) = self.purge.take() else { return Ok(false) };
        match self.writer.purge(upto) {
            Ok(()) | Err(LogFault::Full { .. }) => self.replica.purged(now, self.writer.base().entry),
            Err(fault @ LogFault::Poisoned { .. }) => return Err(fault),
        }
        Ok(true)
    }

    /// The next piece of work on snapshots.
    pub fn take_snapshot_work(&mut self) -> Option<SnapshotWork<M>> {
        self.snapshot_orders.pop_front().map(SnapshotWork)
    }

    /// Does it, all at once.
    pub fn perform_snapshot_work(&mut self, work: SnapshotWork<M>) -> SnapshotOutcome<M> {
        SnapshotOutcome(self.snapshots.perform(work.0, &mut |_worker, _written| true))
    }

    /// The replica hears of it.
    pub fn snapshot_work_done(&mut self, now: Monotonic, outcome: SnapshotOutcome<M>) {
        if let Some(report) = outcome.0 {
            self.replica.snapshot_report(now, report);
        }
    }

    /// The last entries of the snapshots that may be used, the newest first.
    #[must_use]
    pub fn snapshots(&self) -> &[EntryId] {
        &self.replica.snapshots().ids
    }

    /// Bytes of snapshots that peers have sent since the start.
    #[must_use]
    pub fn snapshot_bytes_received(&self) -> u64 {
        self.replica.snapshot_bytes_received()
    }

    /// Space to be prepared ahead of the log's head.
    pub fn prepare_job(&mut self) -> Option<PrepareJob> {
        self.writer.prepare_job()
    }

    /// It was prepared.
    ///
    /// # Errors
    /// As [`Process::perform`].
    pub fn prepared(&mut self, done: PrepareDone) -> Result<(), LogFault> {
        self.writer.prepared(done)
    }

    /// The disk is idle: sync what is not, and say in the progress slot how far the log is durable.
    ///
    /// # Errors
    /// As [`Process::perform`].
    pub fn settle(&mut self, committed: Index) -> Result<(), LogFault> {
        self.writer.flush().and_then(|()| self.writer.idle(committed))
    }

    /// When the scrub's next step is due.
    #[must_use]
    pub fn next_scrub(&self) -> Option<Monotonic> {
        self.scrub.next_deadline()
    }

    /// The scrub takes its step, and the disk thread writes the blocks again that it found bad. How many those were.
    ///
    /// # Errors
    /// As [`Process::perform`].
    pub fn scrub(&mut self, now: Monotonic) -> Result<usize, LogFault> {
        let blocks = self.scrub.step(now).blocks;
        for block in &blocks {
            self.writer.mend_block(block)?;
        }
        Ok(blocks.len())
    }

    /// The last index that the newest progress slot names as durable.
    #[must_use]
    pub fn named_durable(&self) -> Index {
        self.writer.named_durable().index
    }

    /// The file that holds the record of an index, with the offsets of its first byte and behind its last.
    #[must_use]
    pub fn place_of(&self, index: Index) -> Option<(PathBuf, u64, u64)> {
        self.replica.log().place_of(index)
    }

    /// What of the log cannot be read back, as far as it is known.
    #[must_use]
    pub fn holes(&self) -> Vec<Hole> {
        self.replica.holes()
    }

    /// Records mended since the start.
    #[must_use]
    pub fn mended(&self) -> u64 {
        self.replica.mended()
    }

    /// The core, to look at.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        self.replica.raft()
    }

    /// The log, to read.
    #[must_use]
    pub fn log(&self) -> &LogReader {
        self.replica.log()
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.replica.applied()
    }

    /// Why a node that needs a snapshot has none, when so.
    #[must_use]
    pub fn missing_snapshot(&self) -> Option<String> {
        self.replica.missing_snapshot()
    }

    /// Why nothing more is applied, when so.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.replica.failure()
    }
}

/// The life of a node's directory, which is made when it is absent: what a change of members admits.
///
/// # Errors
/// See [`OpenError`].
pub fn incarnation(environment: &Environment, config: &Config) -> Result<Incarnation, OpenError> {
    data_dir::open(environment, config, &Members::default()).map(|directory| directory.identity.incarnation)
}

/// Makes a node with an empty directory a member of a cluster that has admitted it, as the node itself does once it hears
/// of that. One that was interrupted may be made again; of one that belongs to a cluster already nothing is changed.
///
/// # Errors
/// See [`OpenError`].
pub fn join(
    environment: &Environment,
    config: &Config,
    cluster: ClusterId,
    members: &Members,
) -> Result<(), OpenError> {
    let mut directory = data_dir::open(environment, config, &Members::default())?;
    if directory.identity.cluster.is_some() {
        return Ok(());
    }
    data_dir::join(environment, config, &mut directory, (cluster, Epoch::FIRST), members.clone())
}

/// Forms the cluster of these nodes' empty directories, as if all had met at once. One that was interrupted may be
/// formed again.
///
/// # Errors
/// See [`OpenError`].
pub fn form(nodes: &[(Environment, Config)]) -> Result<(), OpenError> {
    let Some((first, config)) = nodes.first() else { return Ok(()) };
    let foreign = |reason| OpenError::Foreign { path: config.data_dir.clone(), reason };
    let mut directories = Vec::new();
    for (environment, config) in nodes {
        directories.push(data_dir::open(environment, config, &config.cluster)?);
    }
    let mut formation: Option<Formation> = None;
    for (directory, (_, config)) in directories.iter().zip(nodes) {
        let incarnation = directory.identity.incarnation;
        match &mut formation {
            None => {
                formation =
                    Some(Formation::new(config.id, incarnation, config.cluster.clone()).promising(config.read_lease))
            }
            Some(formation) => {
                let (members, read_lease) = (config.cluster.to_string(), config.read_lease);
                formation.hello(config.id, incarnation, &members, None, read_lease).map_err(foreign)?;
            }
        }
    }
    let random = u128::from(first.entropy.next_u64());
    let minted = formation.and_then(|formation| formation.mint(random, LogTime(first.clock.wall_ms())));
    let genesis = minted.ok_or_else(|| foreign("the first node does not mint the cluster".to_owned()))?;
    for (mut directory, (environment, config)) in directories.into_iter().zip(nodes) {
        data_dir::adopt(environment, config, &mut directory, &genesis)?;
    }
    Ok(())
}

/// A frame as it travels.
///
/// # Errors
/// When it cannot be encoded: a fault of the sender.
pub fn frame_bytes(config: &Config, frame: &PeerFrame) -> Result<Bytes, String> {
    let mut body = Vec::new();
    let head = wire::encode(frame, &mut body).map_err(|error| error.to_string())?;
    let mut batch = FrameBatch::default();
    batch.push(head, &body, &frame.attached, max_frame_bytes(config)).map_err(|error| error.to_string())?;
    let length = batch.remaining();
    Ok(batch.copy_to_bytes(length))
}

/// Reads a frame that has travelled.
///
/// # Errors
/// Why the connection is to be closed.
pub fn read_frame(config: &Config, bytes: &[u8]) -> Result<PeerFrame, String> {
    let mut decoder = FrameDecoder::new(max_frame_bytes(config), bytes.len());
    decoder.space().extend_from_slice(bytes);
    let frame = decoder.next_frame().map_err(|error| error.to_string())?;
    let frame = frame.ok_or_else(|| "the connection ended inside a frame".to_owned())?;
    wire::decode(frame).map_err(|error| error.to_string())
}
