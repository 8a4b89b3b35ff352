//! The event loop: carries inputs into the replica and effects out of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::commitlog::Opened;
use crate::config::{Config, Members};
use crate::error::{OpenError, ReadError, SnapshotRequestError, WriteError};
use crate::raft::{Membership, ReadBy};
use crate::simulation::plants::Plants;
use crate::state_machine::StateMachine;
use crate::transport::{
    Channel, FormationMessage, PeerBody, PeerFrame, RefusalCode, Transport, TransportEvent, tcp::TcpTransport,
};
use crate::types::{EntryId, GroupId, Index, Monotonic, NodeId, RoleChange, Term};

use super::apply::ApplyReport;
use super::apply_thread::ApplyThread;
use super::data_dir::{self, DataDir, Recovered};
use super::disk_thread::{DiskOrder, DiskReport};
use super::effects::{Answer, Effects, Framed, Proposal, Proposed, Ticket};
use super::formation::Formation;
use super::handle::{Command, Reply, Shared};
use super::introduction::Introduction;
use super::members::{MembersError, TransferError};
use super::replica::Replica;
use super::scrub::{Scrub, ScrubProgress};
use super::snapshot_thread::SnapshotThread;
use super::snapshot_worker::{SnapshotReport, SnapshotWorker};
use super::threads::DiskThreads;
use super::{Environment, replica_options};

mod forming;
mod publish;

use publish::IN_DOUBT;

/// Inputs of each kind taken into one turn.
const TURN: usize = 4096;
/// How long a node that stops lets writes under way finish.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);
/// How often a node that is not formed looks whether it can, and for callers past their deadline.
const FORMING_TICK: Duration = Duration::from_millis(50);

/// Why a node that is still forming cannot do what only a member can.
const NO_CLUSTER: &str = "it does not belong to a cluster yet";

/// Where inputs come from.
pub(crate) struct Inputs<M: StateMachine> {
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) events: mpsc::UnboundedReceiver<TransportEvent>,
    pub(crate) reports: mpsc::UnboundedReceiver<DiskReport>,
    pub(crate) snapshots: mpsc::UnboundedReceiver<SnapshotReport<M>>,
    pub(crate) applied: mpsc::UnboundedReceiver<ApplyReport<M>>,
}

/// A caller who waits.
enum Caller {
    /// For a write; the permit is its share of the pending budget. Some want to know early where it stands.
    Write(Reply<Proposed, WriteError>, OwnedSemaphorePermit, Option<oneshot::Sender<Framed>>),
    /// For a read.
    Read(Reply<Index, ReadError>),
    /// For a snapshot.
    Snapshot(Reply<EntryId, SnapshotRequestError>),
    /// For a piece of one.
    Piece(Reply<Bytes, SnapshotRequestError>),
    /// For other members.
    Members(Reply<Membership, MembersError>),
    /// For another leader.
    Transfer(Reply<(), TransferError>),
}

/// What a caller asked before the cluster was formed.
enum Early {
    Write(Ticket, Option<Term>, Vec<Proposal>, Monotonic),
    Read(Ticket, ReadBy, Monotonic),
}

/// Whether the node belongs to a cluster yet.
enum Phase<M: StateMachine> {
    Forming {
        /// `None` for a node that joins a cluster which others have formed.
        formation: Option<Formation>,
        machine: M,
        early: Vec<Early>,
    },
    Running {
        replica: Box<Replica<M>>,
        disk: DiskThreads,
        snapshots: SnapshotThread<M>,
        /// Only for a machine on disk.
        apply: Option<ApplyThread<M>>,
    },
    /// In between, and after the end.
    Stopped,
}

/// The event loop of one node.
pub(crate) struct EventLoop<M: StateMachine> {
    environment: Environment,
    config: Config,
    data_dir: DataDir,
    phase: Phase<M>,
    transport: TcpTransport,
    callers: Slab<Caller>,
    shared: Arc<Shared>,
    roles: watch::Sender<RoleChange>,
    reports: mpsc::UnboundedSender<DiskReport>,
    snapshot_reports: mpsc::UnboundedSender<SnapshotReport<M>>,
    apply_reports: mpsc::UnboundedSender<ApplyReport<M>>,
    /// Set once the node is to stop: when it gives up waiting for writes under way.
    stopping: Option<Monotonic>,
    /// Why the node must stop at once.
    fatal: Option<String>,
    /// The last turn left entries to apply.
    more: bool,
    scrub: ScrubProgress,
    /// What the transport was told last.
    introduction: Introduction,
    /// Why the others do not take this node for one of them, as they say.
    refused: Option<String>,
    /// The entry of the membership that handles are shown.
    shown: Option<EntryId>,
}

/// What an event loop is made of.
pub(crate) struct Parts<M: StateMachine> {
    pub(crate) environment: Environment,
    pub(crate) config: Config,
    pub(crate) members: Members,
    pub(crate) data_dir: DataDir,
    pub(crate) transport: TcpTransport,
    pub(crate) shared: Arc<Shared>,
    pub(crate) roles: watch::Sender<RoleChange>,
    pub(crate) reports: mpsc::UnboundedSender<DiskReport>,
    pub(crate) snapshot_reports: mpsc::UnboundedSender<SnapshotReport<M>>,
    pub(crate) apply_reports: mpsc::UnboundedSender<ApplyReport<M>>,
}

impl<M: StateMachine> EventLoop<M> {
    /// Recovers the log of a node that belongs to a cluster, or starts forming one.
    pub(crate) fn open(parts: Parts<M>, machine: M) -> Result<Self, OpenError> {
        let Parts { environment, config, members, data_dir, transport, shared, roles, .. } = parts;
        let Parts { reports, snapshot_reports, apply_reports, .. } = parts;
        let cluster = data_dir.identity.cluster;
        let formation = data_dir::formation(&data_dir, &config, members);
        let mut event_loop = Self {
            environment,
            config,
            data_dir,
            phase: Phase::Stopped,
            transport,
            callers: Slab::new(),
            shared,
            roles,
            reports,
            snapshot_reports,
            apply_reports,
            stopping: None,
            fatal: None,
            more: false,
            scrub: ScrubProgress::default(),
            introduction: Introduction::default(),
            refused: None,
            shown: None,
        };
        match cluster {
            Some(_cluster) => event_loop.start_replica(machine)?,
            None => {
                let formation = (!event_loop.ask_to_join()).then_some(formation);
                event_loop.phase = Phase::Forming { formation, machine, early: Vec::new() };
                event_loop.try_to_form()?;
            }
        }
        event_loop.publish();
        Ok(event_loop)
    }

    /// Runs until told to stop or unable to go on; the answer is the reason.
    pub(crate) async fn run(mut self, mut inputs: Inputs<M>) -> String {
        let mut commands = Vec::new();
        let mut events = Vec::new();
        let mut reports = Vec::new();
        let mut snapshots = Vec::new();
        let mut applied = Vec::new();
        loop {
            if self.more {
                tokio::task::yield_now().await;
            } else {
                let wake = self.next_wake();
                tokio::select! {
                    _count = inputs.commands.recv_many(&mut commands, TURN) => {}
                    _count = inputs.events.recv_many(&mut events, TURN) => {}
                    _count = inputs.reports.recv_many(&mut reports, TURN) => {}
                    _count = inputs.snapshots.recv_many(&mut snapshots, TURN) => {}
                    _count = inputs.applied.recv_many(&mut applied, TURN) => {}
                    () = tokio::time::sleep(wake) => {}
                }
            }
            take_rest(&mut inputs.reports, &mut reports);
            take_rest(&mut inputs.snapshots, &mut snapshots);
            take_rest(&mut inputs.applied, &mut applied);
            take_rest(&mut inputs.events, &mut events);
            take_rest(&mut inputs.commands, &mut commands);
            let now = self.environment.clock.monotonic();
            for report in reports.drain(..) {
                self.report(now, report);
            }
            for report in snapshots.drain(..) {
                if let Phase::Running { replica, .. } = &mut self.phase {
                    replica.snapshot_report(now, report);
                }
            }
            for report in applied.drain(..) {
                if let Phase::Running { replica, .. } = &mut self.phase {
                    replica.machine_back(now, report);
                }
            }
            for event in events.drain(..) {
                self.event(now, event);
            }
            // What commands are answered at once may speak of what is committed.
            self.show();
            for command in commands.drain(..) {
                self.command(now, command);
            }
            self.end_turn();
            if let Some(reason) = self.finished() {
                return self.close(reason);
            }
        }
    }

    fn next_wake(&self) -> Duration {
        let now = self.environment.clock.monotonic();
        let due = match &self.phase {
            Phase::Forming { .. } | Phase::Stopped => Some(now.after(FORMING_TICK)),
            Phase::Running { replica, .. } => replica.next_deadline(),
        };
        [due, self.stopping].into_iter().flatten().min().map_or(FORMING_TICK, |due| due.since(now))
    }

    fn report(&mut self, now: Monotonic, report: DiskReport) {
        match (report, &mut self.phase) {
            (DiskReport::Done(number), Phase::Running { replica, .. }) => replica.disk_done(now, number),
            (DiskReport::Purged(base), Phase::Running { replica, .. }) => replica.purged(now, base),
            (DiskReport::Done(_) | DiskReport::Purged(_), _) => {}
            (DiskReport::Failed(reason), _) => self.fatal = Some(reason),
            (DiskReport::Scrubbed(progress), _) => self.scrub = progress,
        }
    }

    fn event(&mut self, now: Monotonic, event: TransportEvent) {
        match event {
            TransportEvent::Connected { peer, channel, incarnation, formed } => {
                tracing::debug!(node = %self.config.id, %peer, ?channel, %incarnation, formed, "connected");
                match &mut self.phase {
                    Phase::Running { replica, .. } if formed => replica.peer_connected(now, peer, channel),
                    Phase::Forming { formation: Some(formation), .. } if channel == Channel::Control => {
                        let step = formation.connected(peer);
                        self.carry_out_formation(vec![step]);
                    }
                    // A peer that is still forming introduces itself, and is then sent record 1.
                    Phase::Running { .. } | Phase::Forming { .. } | Phase::Stopped => {}
                }
            }
            TransportEvent::Closed { peer, channel } => {
                tracing::debug!(node = %self.config.id, %peer, ?channel, "connection closed");
                if let Phase::Running { replica, .. } = &mut self.phase {
                    replica.peer_closed(now, peer, channel);
                }
            }
            TransportEvent::Refused { peer, address, reason, theirs } => {
                if theirs && is_about_membership(reason.code) {
                    self.refused = Some(reason.text.clone());
                }
                let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
                tracing::warn!(node = %self.config.id, peer, address, %reason, "connection refused");
            }
            TransportEvent::Frame { from, frame, credit: _read_on, .. } => self.frame(now, from, frame),
        }
    }

    fn frame(&mut self, now: Monotonic, from: NodeId, frame: PeerFrame) {
        if frame.group != GroupId::FIRST {
            return self.transport.disconnect(from, "it speaks of a group that this node does not have");
        }
        match (&mut self.phase, frame.body) {
            (Phase::Running { replica, .. }, body) => {
                replica.receive(now, from, PeerFrame { group: frame.group, body, attached: frame.attached });
            }
            (Phase::Forming { formation: Some(formation), .. }, PeerBody::Formation(message)) => {
                let outcome = match message {
                    FormationMessage::Hello { incarnation, members, backup, read_lease_us, .. } => {
                        let read_lease = Duration::from_micros(read_lease_us);
                        formation.hello(from, incarnation, &members, backup, read_lease).map(|()| None)
                    }
                    FormationMessage::Form => formation.form(frame.attached.concat().into()).map(Some),
                };
                self.formation_outcome(from, outcome);
            }
            (Phase::Forming { .. } | Phase::Stopped, _) => {}
        }
    }

    fn start_replica(&mut self, mut machine: M) -> Result<(), OpenError> {
        let on_disk = machine.on_disk();
        let recovered =
            data_dir::recover(&self.environment, &self.config, &self.data_dir.identity, &mut machine, Plants::NONE)?;
        let Recovered { opened, store, base, kept, genesis } = recovered;
        let Opened { writer, reader, state, .. } = opened;
        if let Some(reason) = &state.last_in_doubt {
            tracing::warn!(node = %self.config.id, last = %state.last, reason, "{IN_DOUBT}");
        }
        let now = self.environment.clock.monotonic();
        let options = replica_options(&self.config, self.environment.entropy.next_u64());
        let replica = Replica::open(options, &state, reader.clone(), (machine, &base, kept), genesis, now)
            .map_err(|reason| OpenError::Foreign { path: self.config.data_dir.clone(), reason })?;
        self.shared.log.store(Some(Arc::new(reader.clone())));
        let reports = self.reports.clone();
        let report = move |report| {
            let _loop_ended = reports.send(report);
        };
        let clock = Arc::clone(&self.environment.clock);
        let random = self.environment.entropy.next_u64();
        let scrub = Scrub::new(reader.clone(), self.config.scrub_every, random, now);
        let disk = DiskThreads::start(self.config.id, writer, reader, self.config.durability, scrub, clock, report)
            .map_err(|source| OpenError::Io { path: self.config.data_dir.clone(), source })?;
        let reports = self.snapshot_reports.clone();
        let report = move |report| {
            let _loop_ended = reports.send(report);
        };
        let snapshots =
            SnapshotThread::start(self.config.id, SnapshotWorker::new(store), self.config.snapshot_write_rate, report)
                .map_err(|source| OpenError::Io { path: self.config.data_dir.clone(), source })?;
        let apply = on_disk.then(|| ApplyThread::start(self.config.id, self.apply_reports.clone())).transpose();
        let apply = apply.map_err(|source| OpenError::Io { path: self.config.data_dir.clone(), source })?;
        self.phase = Phase::Running { replica: Box::new(replica), disk, snapshots, apply };
        self.introduce();
        Ok(())
    }

    fn command(&mut self, now: Monotonic, command: Command) {
        match command {
            Command::Propose { reply, .. } if self.stopping.is_some() => {
                let _caller_gone = reply.send(Err(WriteError::Stopped("it is shutting down".to_owned())));
            }
            Command::Propose { term, proposals, timeout, reply, permit, framed } => {
                let ticket = self.caller(Caller::Write(reply, permit, framed));
                match &mut self.phase {
                    Phase::Running { replica, .. } => replica.propose(ticket, term, proposals, now.after(timeout)),
                    Phase::Forming { early, .. } => {
                        early.push(Early::Write(ticket, term, proposals, now.after(timeout)))
                    }
                    Phase::Stopped => {}
                }
            }
            Command::Read { by, timeout, reply } => {
                let ticket = self.caller(Caller::Read(reply));
                match &mut self.phase {
                    Phase::Running { replica, .. } => replica.read_index(ticket, by, now.after(timeout)),
                    Phase::Forming { early, .. } => early.push(Early::Read(ticket, by, now.after(timeout))),
                    Phase::Stopped => {}
                }
            }
            Command::Snapshot { reply } => {
                let ticket = self.caller(Caller::Snapshot(reply));
                match &mut self.phase {
                    Phase::Running { replica, .. } => replica.ask_for_snapshot(ticket),
                    Phase::Forming { .. } | Phase::Stopped => {
                        let error = SnapshotRequestError::Failed(NO_CLUSTER.to_owned());
                        self.answer(ticket, Answer::Snapshot(Err(error)));
                    }
                }
            }
            Command::Piece { want, reply } => {
                let ticket = self.caller(Caller::Piece(reply));
                if let Phase::Running { replica, .. } = &mut self.phase {
                    return replica.give_to_caller(now, ticket, want);
                }
                self.answer(ticket, Answer::Piece(Err(SnapshotRequestError::Absent(NO_CLUSTER.to_owned()))));
            }
            Command::ChangeMembers { change, timeout, reply } => {
                let ticket = self.caller(Caller::Members(reply));
                if let Phase::Running { replica, .. } = &mut self.phase {
                    return replica.change_members(ticket, change, now.after(timeout));
                }
                self.answer(ticket, Answer::Members(Err(MembersError::Unavailable(NO_CLUSTER.to_owned()))));
            }
            Command::Transfer { to, reply } => {
                let ticket = self.caller(Caller::Transfer(reply));
                if let Phase::Running { replica, .. } = &mut self.phase {
                    return replica.transfer_leadership(now, ticket, to);
                }
                self.answer(ticket, Answer::Transfer(Err(TransferError::Unavailable(NO_CLUSTER.to_owned()))));
            }
            Command::Entries { from, max_bytes, reply } => {
                let _caller_gone = reply.send(self.entries(from, max_bytes));
            }
            Command::Join(outcome) => self.joined(outcome),
            Command::Shutdown => {
                if let Phase::Running { replica, .. } = &mut self.phase {
                    replica.step_aside(now);
                }
                self.stopping.get_or_insert(now.after(STOP_PATIENCE));
            }
        }
    }

    fn entries(&mut self, from: Index, max_bytes: u64) -> Result<Vec<Bytes>, ReadError> {
        match &mut self.phase {
            Phase::Running { replica, .. } => {
                replica.entries(from, max_bytes).inspect_err(|error| replica.note_damage(error))
            }
            Phase::Forming { .. } | Phase::Stopped => {
                Err(ReadError::OutOfRange { asked: from, first: Index(1), last: Index::ZERO })
            }
        }
    }

    fn caller(&mut self, caller: Caller) -> Ticket {
        Ticket(self.callers.insert(caller) as u64)
    }

    fn end_turn(&mut self) {
        let now = self.environment.clock.monotonic();
        match &mut self.phase {
            Phase::Running { replica, .. } => {
                if replica.next_deadline().is_some_and(|due| due <= now) {
                    replica.tick(now);
                }
                let effects = replica.end_turn(now);
                self.more = effects.more;
                self.show();
                self.carry_out(effects);
                self.introduce();
            }
            Phase::Forming { .. } => self.expire_early(now),
            Phase::Stopped => {}
        }
        self.publish();
    }

    /// Shows readers what they may go by, before anything leaves that says more.
    fn show(&self) {
        if let Phase::Running { replica, .. } = &self.phase {
            self.shared.fresh.show(replica.shown());
        }
    }

    /// Tells the transport whom to talk to, when that has changed.
    fn introduce(&mut self) {
        let Phase::Running { replica, .. } = &self.phase else { return };
        if let Some(told) = self.introduction.renew(&self.config, &self.data_dir.identity, replica.raft()) {
            self.transport.set_identity(told.clone());
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        if let Phase::Running { replica, disk, snapshots, apply } = &mut self.phase {
            for task in effects.disk {
                disk.order(DiskOrder::Task(task));
            }
            if let Some(upto) = effects.purge {
                disk.order(DiskOrder::Purge(upto));
            }
            for order in replica.take_snapshot_orders() {
                snapshots.order(order);
            }
            let order = replica.take_apply_order();
            if apply.as_ref().is_some_and(|thread| !thread.order(order)) {
                self.fatal = Some("the thread that applies entries has died; start the node again".to_owned());
            }
        }
        for outbound in effects.send {
            self.transport.send(outbound.to, outbound.channel, outbound.frame);
        }
        for (peer, reason) in effects.disconnect {
            tracing::warn!(node = %self.config.id, %peer, reason, "closing the connections to a peer");
            self.transport.disconnect(peer, &reason);
        }
        for change in effects.roles {
            tracing::info!(node = %self.config.id, term = %change.term, role = %change.role, "role changed");
            let _nobody_listens = self.roles.send(change);
        }
        for (ticket, framed) in effects.framed {
            let place = usize::try_from(ticket.0).unwrap_or(usize::MAX);
            if let Some(Caller::Write(_, _, tell)) = self.callers.get_mut(place)
                && let Some(tell) = tell.take()
            {
                let _caller_gone = tell.send(framed);
            }
        }
        for (ticket, answer) in effects.answers {
            self.answer(ticket, answer);
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let place = usize::try_from(ticket.0).unwrap_or(usize::MAX);
        // A caller that went away is not waited for; its reply has nowhere to go.
        match (self.callers.try_remove(place), answer) {
            (Some(Caller::Write(reply, _permit, _framed)), Answer::Write(outcome)) => drop(reply.send(outcome)),
            (Some(Caller::Read(reply)), Answer::Read(outcome)) => drop(reply.send(outcome)),
            (Some(Caller::Snapshot(reply)), Answer::Snapshot(outcome)) => drop(reply.send(outcome)),
            (Some(Caller::Piece(reply)), Answer::Piece(outcome)) => drop(reply.send(outcome)),
            (Some(Caller::Members(reply)), Answer::Members(outcome)) => drop(reply.send(outcome)),
            (Some(Caller::Transfer(reply)), Answer::Transfer(outcome)) => drop(reply.send(outcome)),
            (caller, answer) => {
                debug_assert!(false, "answer {answer:?} for another kind of caller: {}", caller.is_some());
            }
        }
    }

    /// Whether the loop is to end, and why.
    fn finished(&mut self) -> Option<String> {
        if let Some(reason) = self.fatal.take() {
            return Some(reason);
        }
        let patience = self.stopping?;
        let hands_over =
            matches!(&self.phase, Phase::Running { replica, .. } if replica.raft().transfer_target().is_some());
        let idle = self.callers.is_empty() && !hands_over;
        (idle || self.environment.clock.monotonic() >= patience).then(|| "it was shut down".to_owned())
    }

    /// Answers everybody who still waits, syncs, and closes.
    fn close(mut self, reason: String) -> String {
        match std::mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::Running { mut replica, disk, snapshots, apply } => {
                let effects = replica.abandon(&reason);
                self.carry_out(effects);
                snapshots.stop();
                disk.stop();
                apply.into_iter().for_each(ApplyThread::stop);
            }
            Phase::Forming { early, .. } => {
                for question in early {
                    self.refuse_early(question, &reason);
                }
            }
            Phase::Stopped => {}
        }
        self.shared.budget.close();
        reason
    }
}

/// Whether a refusal says that this node does not belong where it wants to.
const fn is_about_membership(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::Removed | RefusalCode::Incarnation | RefusalCode::UnknownNode | RefusalCode::Cluster)
}

/// Takes what has arrived without waiting.
fn take_rest<T>(from: &mut mpsc::UnboundedReceiver<T>, into: &mut Vec<T>) {
    while into.len() < TURN
        && let Ok(item) = from.try_recv()
    {
        into.push(item);
    }
}
