//! Starts a node's threads and runs its event loop.
//!
//! ```text
//!   handles ──commands──┐                       ┌──► transport (tasks on this very thread)
//!   transport ──events──┼──► event loop: Replica┼──► disk thread ──► one write, one sync
//!   disk ──reports──────┘         ▲             └──► callers
//!                                 └── timer
//! ```
//! One thread runs network, Raft and the apply of the state machine; waking another core costs more than the work
//! (docs/decisions/0004). A second does nothing but write and sync; a third, mostly idle, zero-fills space ahead.
//! A turn takes everything that has arrived, then does what it led to, once.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::config::{Config, Members};
use crate::error::OpenError;
use crate::state_machine::StateMachine;
use crate::transport::{ClientConnection, LocalIdentity, tcp::TcpTransport};
use crate::types::{Index, Role, RoleChange, Term};

use super::data_dir::{self, DataDir};
use super::event_loop::{EventLoop, Inputs, Parts};
use super::fresh::Fresh;
use super::handle::{MemberStatus, NodeHandle, NodeStatus, Shared};
use super::news::News;
use super::read_thread::READ_THREADS;
use super::scrub::ScrubProgress;
use super::{Environment, max_frame_bytes};

/// What a node calls back.
pub struct Hooks {
    /// A client connected. Called on the node's thread, inside its runtime: may spawn tasks, must not block.
    pub on_client: Box<dyn Fn(NodeHandle, ClientConnection) + Send>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

impl Hooks {
    /// Closes every client connection: for a node that only its own process uses.
    #[must_use]
    pub fn none() -> Self {
        Self { on_client: Box::new(|_node, connection| drop(connection)) }
    }
}

impl NodeHandle {
    /// Starts a node: recovers its directory, listens, and joins its cluster in the background. Resolves once it
    /// has recovered and listens; blocks no async runtime.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn start<M: StateMachine>(
        environment: Environment,
        config: Config,
        machine: M,
        hooks: Hooks,
    ) -> Result<Self, OpenError> {
        let (ready, started) = oneshot::channel();
        let name = format!("dledger-{}", config.id);
        let path = config.data_dir.clone();
        thread::Builder::new()
            .name(name)
            .spawn(move || run_node(environment, config, machine, hooks, ready))
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        started.await.unwrap_or_else(|_died| {
            let source = std::io::Error::other("the node's thread died while opening");
            Err(OpenError::Io { path, source })
        })
    }
}

/// The body of the node's thread.
fn run_node<M: StateMachine>(
    environment: Environment,
    config: Config,
    machine: M,
    hooks: Hooks,
    ready: oneshot::Sender<Result<NodeHandle, OpenError>>,
) {
    let runtime =
        match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(READ_THREADS).build() {
            Ok(runtime) => runtime,
            Err(source) => {
                let _caller_gone = ready.send(Err(OpenError::Io { path: config.data_dir, source }));
                return;
            }
        };
    runtime.block_on(async move {
        match open(environment, config, machine, hooks) {
            Ok((handle, event_loop, inputs, stopped)) => {
                if ready.send(Ok(handle)).is_err() {
                    tracing::debug!("the caller went away while the node opened");
                }
                let reason = event_loop.run(inputs).await;
                let _nobody_listens = stopped.send(Some(reason));
            }
            Err(error) => {
                let _caller_gone = ready.send(Err(error));
            }
        }
    });
}

type Opening<M> = (NodeHandle, EventLoop<M>, Inputs<M>, watch::Sender<Option<String>>);

fn open<M: StateMachine>(
    environment: Environment,
    config: Config,
    machine: M,
    hooks: Hooks,
) -> Result<Opening<M>, OpenError> {
    config.validate()?;
    let (listener, address) = listen(&config)?;
    let members = members(&config, address);
    let data_dir = data_dir::open(&environment, &config, &members)?;
    let (commands_in, commands) = mpsc::unbounded_channel();
    let (events_in, events) = mpsc::unbounded_channel();
    let (reports_in, reports) = mpsc::unbounded_channel();
    let (snapshots_in, snapshots) = mpsc::unbounded_channel();
    let (applied_in, applied) = mpsc::unbounded_channel();
    let (stopped_in, stopped) = watch::channel(None);
    let role = RoleChange { term: Term::ZERO, role: Role::Follower, leader: None };
    let (roles_in, roles) = watch::channel(role);
    let limit = usize::try_from(config.max_pending_bytes).unwrap_or(Semaphore::MAX_PERMITS);
    let shared = Arc::new(Shared {
        status: Mutex::new(first_status(&config, address, &members)),
        address,
        commands: commands_in,
        budget: Arc::new(Semaphore::new(limit)),
        line: tokio::sync::Mutex::default(),
        runtime: tokio::runtime::Handle::current(),
        roles,
        stopped,
        committed: AtomicU64::new(0),
        fresh: Fresh::default(),
        clock: Arc::clone(&environment.clock),
        readable: AtomicU64::new(0),
        news: News::default(),
        log: arc_swap::ArcSwapOption::empty(),
        config: config.clone(),
    });
    let telling = Arc::clone(&shared);
    tokio::spawn(async move { telling.news.pass_on().await });
    let visiting = NodeHandle::visiting(Arc::clone(&shared));
    let on_client = Box::new(move |connection| (hooks.on_client)(visiting.clone(), connection));
    let local = local_identity(&config, &data_dir, &members);
    let transport = TcpTransport::start(listener, local, events_in, on_client)
        .map_err(|source| OpenError::Listen { address: config.listen.clone(), source })?;
    let handle = NodeHandle::owning(Arc::clone(&shared));
    let parts = Parts {
        environment,
        config,
        members,
        data_dir,
        transport,
        shared,
        roles: roles_in,
        reports: reports_in,
        snapshot_reports: snapshots_in,
        apply_reports: applied_in,
    };
    let event_loop = EventLoop::open(parts, machine)?;
    Ok((handle, event_loop, Inputs { commands, events, reports, snapshots, applied }, stopped_in))
}

/// Binds the listening address. Nothing is encrypted or authenticated yet, so an address beyond loopback is refused
/// unless the configuration says that it is meant.
fn listen(config: &Config) -> Result<(TcpListener, SocketAddr), OpenError> {
    let failed = |source| OpenError::Listen { address: config.listen.clone(), source };
    let addresses: Vec<SocketAddr> = config.listen.to_socket_addrs().map_err(failed)?.collect();
    if !config.insecure && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(OpenError::Config(format!(
            "listen `{}` is beyond loopback and nothing is encrypted or authenticated yet; set `insecure` if you mean it",
            config.listen
        )));
    }
    let listener = TcpListener::bind(addresses.as_slice()).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The members by the configuration; a node without any is a cluster of itself, or joins one of which it knows nothing yet.
fn members(config: &Config, address: SocketAddr) -> Members {
    if !config.join.0.is_empty() {
        return Members::default();
    }
    if config.cluster.0.is_empty() {
        let own = config.advertise.clone().unwrap_or_else(|| address.to_string());
        return Members([(config.id, own)].into());
    }
    config.cluster.clone()
}

/// What the handshake says of a node that has not formed yet, or that is about to read its members from its log.
pub(super) fn local_identity(config: &Config, data_dir: &DataDir, members: &Members) -> LocalIdentity {
    LocalIdentity {
        cluster: data_dir.identity.cluster,
        epoch: data_dir.identity.epoch,
        node: config.id,
        incarnation: data_dir.identity.incarnation,
        members: members.0.iter().map(|(id, address)| (*id, (address.clone(), None))).collect(),
        settled: false,
        removed: Vec::new(),
        max_frame_bytes: max_frame_bytes(config),
    }
}

fn first_status(config: &Config, address: SocketAddr, members: &Members) -> NodeStatus {
    let own = || config.advertise.clone().unwrap_or_else(|| address.to_string());
    NodeStatus {
        id: config.id,
        cluster: None,
        epoch: 0,
        address: members.0.get(&config.id).cloned().unwrap_or_else(own),
        role: Role::Follower,
        term: Term::ZERO,
        leader: None,
        first: Index::ZERO,
        last: Index::ZERO,
        durable: Index::ZERO,
        committed: Index::ZERO,
        applied: Index::ZERO,
        disk_bytes: 0,
        snapshot: Index::ZERO,
        snapshot_bytes_received: 0,
        damaged: 0,
        mended: 0,
        scrub: ScrubProgress::default(),
        members: members.0.iter().map(|(id, address)| MemberStatus::voter(*id, address.clone())).collect(),
        error: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
