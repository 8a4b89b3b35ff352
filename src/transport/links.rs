//! What the tasks of a transport share: the identity, and who is connected.
//!
//! ```text
//!   establish ──► Open ──send, deliver──► Open
//!                  │ part (identity changed, disconnect, violation) ──► Draining: write the rest, then close
//!                  └ drop (end of stream, replaced, peer does not drain) ──► Dead: close at once
//! ```
//!
//! # Invariants
//! - Every event leaves under the lock, and a frame only while its link is the current one: that gives the order
//!   that [`super::TransportEvent`] promises.
//! - `unsent` of a link counts the bytes queued or being written; beyond [`MAX_UNSENT_BYTES`] nothing is added, but
//!   an idle link takes one frame of any legal size.
//! - No lock is held while waiting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Buf;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::types::{ClusterId, Incarnation, NodeId};

use super::admission::Admission;
use super::frame::{FrameBatch, MAX_FRAME_BYTES};
use super::handshake::{self, Refusal, RefusalCode};
use super::{Channel, LocalIdentity, PeerBody, PeerFrame, TransportEvent, peer, wire};

/// Bytes that may wait for a peer on one connection. Four times what a leader keeps in flight: a peer that lets so
/// much wait is not reading.
pub(super) const MAX_UNSENT_BYTES: usize = 32 << 20;

/// A peer and one of its channels.
pub(super) type Key = (NodeId, Channel);

/// How a handshake ended, as far as the link needs it.
#[derive(Debug)]
pub(super) struct Handshaken {
    pub(super) peer: NodeId,
    pub(super) channel: Channel,
    pub(super) incarnation: Incarnation,
    /// The peer's cluster.
    pub(super) cluster: Option<ClusterId>,
    /// This node's cluster at the time.
    pub(super) own_cluster: Option<ClusterId>,
    /// Largest frame the peer accepts.
    pub(super) max_frame_bytes: u32,
    pub(super) address: String,
}

/// The life of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// In use.
    Open,
    /// Out of use; what is queued is still written.
    Draining,
    /// Out of use.
    Dead,
}

/// One connection to a peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) key: Key,
    pub(super) formed: bool,
    pub(super) address: String,
    pub(super) admission: Arc<Admission>,
    /// Largest frame this node accepts.
    pub(super) receive_limit: u32,
    incarnation: Incarnation,
    own_cluster: Option<ClusterId>,
    send_limit: u32,
    outbox: Mutex<FrameBatch>,
    unsent: AtomicUsize,
    wake: Notify,
    phase: watch::Sender<Phase>,
}

impl Link {
    /// Waits until something is queued and swaps it for the empty `batch`. Cancel safe.
    pub(super) async fn take(&self, batch: &mut FrameBatch) {
        while !self.try_take(batch) {
            self.wake.notified().await;
        }
    }

    /// The same without waiting; false when nothing is queued.
    pub(super) fn try_take(&self, batch: &mut FrameBatch) -> bool {
        let mut outbox = lock(&self.outbox);
        if outbox.has_remaining() {
            std::mem::swap(&mut *outbox, batch);
        }
        batch.has_remaining()
    }

    /// `bytes` taken from the outbox have reached the kernel.
    pub(super) fn written(&self, bytes: usize) {
        self.unsent.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Waits until the link is out of use and says how it is to end.
    pub(super) async fn ended(&self) -> Phase {
        let mut phase = self.phase.subscribe();
        phase.wait_for(|phase| *phase != Phase::Open).await.map_or(Phase::Dead, |phase| *phase)
    }

    /// False when the peer does not drain its connection.
    fn queue(&self, frame: &PeerFrame) -> bool {
        if !self.formed && !matches!(frame.body, PeerBody::Formation(_)) {
            return true;
        }
        let (peer, channel) = self.key;
        let mut body = Vec::new();
        let head = match wire::encode(frame, &mut body) {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(node = %self.node, %peer, ?channel, %error, "a frame could not be encoded; dropped");
                return true;
            }
        };
        let mut outbox = lock(&self.outbox);
        let before = outbox.remaining();
        if let Err(error) = outbox.push(head, &body, &frame.attached, self.send_limit) {
            tracing::error!(node = %self.node, %peer, ?channel, %error, "a frame was not sent");
            return true;
        }
        let added = outbox.remaining() - before;
        let waiting = self.unsent.fetch_add(added, Ordering::AcqRel);
        self.wake.notify_one();
        waiting == 0 || waiting.saturating_add(added) <= MAX_UNSENT_BYTES
    }

    fn queue_goodbye(&self, reason: &str) {
        let mut body = Vec::new();
        if let Ok(head) = wire::encode_goodbye(reason, &mut body)
            && let Err(error) = lock(&self.outbox).push(head, &body, &[], self.send_limit)
        {
            tracing::debug!(node = %self.node, %error, "no goodbye");
        }
    }

    fn end(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Whether a handshake under `identity` would have admitted this link in the same way.
    fn suits(&self, identity: &LocalIdentity) -> bool {
        handshake::suits(identity, self.own_cluster, (self.key.0, self.incarnation), self.formed)
    }
}

struct State {
    identity: Arc<LocalIdentity>,
    links: BTreeMap<Key, Arc<Link>>,
    dialers: BTreeMap<Key, AbortHandle>,
    tasks: JoinSet<()>,
    /// `None` once the transport is dropped.
    events: Option<UnboundedSender<TransportEvent>>,
}

impl State {
    /// A receiver that is gone is a node that is stopping; nobody is left to tell.
    fn tell(&self, event: TransportEvent) {
        if let Some(events) = &self.events {
            drop(events.send(event));
        }
    }

    fn is_current(&self, link: &Arc<Link>) -> bool {
        self.links.get(&link.key).is_some_and(|current| Arc::ptr_eq(current, link))
    }

    /// Takes a link out of use; false when it already was.
    fn remove(&mut self, link: &Arc<Link>, phase: Phase) -> bool {
        if !self.is_current(link) {
            return false;
        }
        self.links.remove(&link.key);
        link.end(phase);
        let (peer, channel) = link.key;
        self.tell(TransportEvent::Closed { peer, channel });
        true
    }

    fn spawn(&mut self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        self.events.as_ref()?;
        while self.tasks.try_join_next().is_some() {}
        Some(self.tasks.spawn_on(task, runtime))
    }
}

/// What the tasks of a transport share.
pub(super) struct Shared {
    state: Mutex<State>,
    runtime: Handle,
}

impl Shared {
    pub(super) fn new(identity: LocalIdentity, events: UnboundedSender<TransportEvent>, runtime: Handle) -> Self {
        let state = State {
            identity: Arc::new(identity),
            links: BTreeMap::new(),
            dialers: BTreeMap::new(),
            tasks: JoinSet::new(),
            events: Some(events),
        };
        Self { state: Mutex::new(state), runtime }
    }

    /// Who this node is just now.
    pub(super) fn identity(&self) -> Arc<LocalIdentity> {
        Arc::clone(&self.lock().identity)
    }

    /// The connection in use.
    pub(super) fn link(&self, key: Key) -> Option<Arc<Link>> {
        self.lock().links.get(&key).map(Arc::clone)
    }

    /// Runs a task for as long as the transport lives.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.lock().spawn(&self.runtime, task);
    }

    /// Brings a handshaken connection into use, in place of an older one. `None` when the identity has changed since
    /// the handshake, or the transport is gone: the connection is closed.
    pub(super) fn establish(self: &Arc<Self>, stream: TcpStream, done: Handshaken) -> Option<Arc<Link>> {
        let mut state = self.lock();
        let formed = handshake::is_formed(done.own_cluster, done.cluster);
        if !handshake::suits(&state.identity, done.own_cluster, (done.peer, done.incarnation), formed) {
            return None;
        }
        let key = (done.peer, done.channel);
        let own_limit = state.identity.max_frame_bytes.min(MAX_FRAME_BYTES);
        let link = Arc::new(Link {
            node: state.identity.node,
            key,
            formed,
            address: done.address,
            admission: Arc::default(),
            receive_limit: own_limit,
            incarnation: done.incarnation,
            own_cluster: done.own_cluster,
            send_limit: own_limit.min(done.max_frame_bytes),
            outbox: Mutex::default(),
            unsent: AtomicUsize::new(0),
            wake: Notify::new(),
            phase: watch::Sender::new(Phase::Open),
        });
        state.spawn(&self.runtime, peer::run(Arc::clone(self), Arc::clone(&link), stream))?;
        if let Some(old) = state.links.get(&key).map(Arc::clone) {
            state.remove(&old, Phase::Dead);
        }
        state.links.insert(key, Arc::clone(&link));
        let (peer, channel) = key;
        state.tell(TransportEvent::Connected { peer, channel, incarnation: done.incarnation, formed });
        Some(link)
    }

    /// Hands frames to the node, if their link is still in use.
    pub(super) fn deliver(&self, link: &Arc<Link>, frames: impl Iterator<Item = (PeerFrame, usize)>) {
        let state = self.lock();
        if !state.is_current(link) {
            return;
        }
        let (from, channel) = link.key;
        for (frame, bytes) in frames {
            state.tell(TransportEvent::Frame { from, channel, frame, credit: link.admission.admit(bytes) });
        }
    }

    /// Tells of a refused connection; `theirs` when the other end refused it.
    pub(super) fn refused(&self, peer: Option<NodeId>, address: String, reason: Refusal, theirs: bool) {
        let state = self.lock();
        tracing::debug!(node = %state.identity.node, ?peer, address, %reason, "connection refused");
        state.tell(TransportEvent::Refused { peer, address, reason, theirs });
    }

    /// Takes a link out of use at once.
    pub(super) fn drop_link(&self, link: &Arc<Link>) {
        self.lock().remove(link, Phase::Dead);
    }

    /// The peer has broken a rule: tells both ends and takes the link out of use.
    pub(super) fn violated(&self, link: &Arc<Link>, reason: Refusal) {
        let mut state = self.lock();
        if !state.is_current(link) {
            return;
        }
        link.queue_goodbye(&reason.text);
        let peer = Some(link.key.0);
        state.tell(TransportEvent::Refused { peer, address: link.address.clone(), reason, theirs: false });
        state.remove(link, Phase::Draining);
    }

    /// The peer closes the link and says why.
    pub(super) fn goodbye(&self, link: &Arc<Link>, text: &str) {
        let mut state = self.lock();
        if !state.is_current(link) {
            return;
        }
        let reason = Refusal::new(RefusalCode::Disconnected, text);
        let peer = Some(link.key.0);
        state.tell(TransportEvent::Refused { peer, address: link.address.clone(), reason, theirs: true });
        state.remove(link, Phase::Dead);
    }

    /// Queues a frame; a peer that does not drain loses the link.
    pub(super) fn send(&self, key: Key, frame: &PeerFrame) {
        let mut state = self.lock();
        let Some(link) = state.links.get(&key).map(Arc::clone) else { return };
        if !link.queue(frame) {
            let (peer, channel) = key;
            tracing::warn!(node = %link.node, %peer, ?channel, "the peer does not read; connection closed");
            state.remove(&link, Phase::Dead);
        }
    }

    /// Closes a peer's links and tells it why.
    pub(super) fn disconnect(&self, peer: NodeId, reason: &str) {
        let mut state = self.lock();
        for channel in Channel::ALL {
            if let Some(link) = state.links.get(&(peer, channel)).map(Arc::clone) {
                link.queue_goodbye(reason);
                state.remove(&link, Phase::Draining);
            }
        }
    }

    /// Changes the identity, closes what does not suit it, and keeps one dialer for each channel of each other member.
    /// `dialer` makes the task.
    pub(super) fn set_identity<F>(self: &Arc<Self>, identity: LocalIdentity, dialer: impl Fn(Arc<Self>, Key) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.lock();
        state.identity = Arc::new(identity);
        let identity = Arc::clone(&state.identity);
        let unsuited: Vec<_> = state.links.values().filter(|link| !link.suits(&identity)).map(Arc::clone).collect();
        for link in unsuited {
            if identity.has_removed(link.key.0) {
                link.queue_goodbye(&Refusal::removed(identity.node, link.key.0).text);
            }
            state.remove(&link, Phase::Draining);
        }
        let is_dialled = |peer: NodeId| peer != identity.node && identity.members.contains_key(&peer);
        state.dialers.retain(|(peer, _), task| {
            let keep = is_dialled(*peer);
            if !keep {
                task.abort();
            }
            keep
        });
        for peer in identity.members.keys().copied().filter(|peer| is_dialled(*peer)) {
            for key in Channel::ALL.map(|channel| (peer, channel)) {
                if !state.dialers.contains_key(&key)
                    && let Some(task) = state.spawn(&self.runtime, dialer(Arc::clone(self), key))
                {
                    state.dialers.insert(key, task);
                }
            }
        }
    }

    /// Ends every task and every link, without events.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.events = None;
        state.links.clear();
        state.dialers.clear();
        state.tasks.abort_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// No code panics under these locks; were one to, the state would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
