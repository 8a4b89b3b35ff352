//! The transport over TCP: the connections of one node.
//!
//! The lower node of two dials, the higher accepts, so that two nodes never make two connections at once for the same
//! purpose. A lower node that lags behind may not know the higher one yet, which dials it then after a while: a node
//! accepts that from one that it does not know. Tasks run on the runtime in which [`TcpTransport::start`] was called and end when the transport is
//! dropped: one that accepts, one dialer for each channel of each other member, one for each connection.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use crate::types::{Incarnation, NodeId};

use super::connection::ClientConnection;
use super::dial::{self, HandshakeFault};
use super::handshake::{Refusal, RefusalCode};
use super::links::{Handshaken, Key, Shared};
use super::{Channel, LocalIdentity, PeerFrame, Transport, TransportEvent, accept};

/// First wait before a peer is dialled again. It doubles up to the longest.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(20);
/// Longest such wait: a restarted node is found again within it.
const LONGEST_BACKOFF: Duration = Duration::from_millis(200);
/// Longest such wait after a refusal: somebody has to mend something first, and each attempt is a line in a log.
const LONGEST_BACKOFF_REFUSED: Duration = Duration::from_secs(2);

/// How long a higher node waits for a lower one to dial.
const PATIENCE: Duration = Duration::from_secs(1);

/// Called with each client connection that has shaken hands; spawns what serves it and returns at once.
pub type OnClient = Box<dyn Fn(ClientConnection) + Send>;

/// The connections of one node, over TCP. Dropping it closes them and ends their tasks.
pub struct TcpTransport {
    shared: Arc<Shared>,
}

impl TcpTransport {
    /// Starts to accept on `listener` and to dial the other members. The caller has bound the listener
    /// and set it nonblocking, and calls this within a tokio runtime with I/O and time enabled.
    ///
    /// Received frames wait in `events` until the node takes them; each connection stops reading while too many
    /// bytes of its frames are out (see [`super::Credit`]).
    ///
    /// # Errors
    /// There is no runtime, or it cannot watch the listener.
    pub fn start(
        listener: TcpListener,
        identity: LocalIdentity,
        events: UnboundedSender<TransportEvent>,
        on_client: OnClient,
    ) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared::new(identity.clone(), events, runtime));
        shared.spawn(accept::accept_all(Arc::clone(&shared), listener, on_client));
        let mut transport = Self { shared };
        transport.set_identity(identity);
        Ok(transport)
    }
}

impl Transport for TcpTransport {
    fn send(&mut self, to: NodeId, channel: Channel, frame: PeerFrame) {
        self.shared.send((to, channel), &frame);
    }

    fn set_identity(&mut self, identity: LocalIdentity) {
        self.shared.set_identity(identity, dial_on);
    }

    fn disconnect(&mut self, peer: NodeId, reason: &str) {
        self.shared.disconnect(peer, reason);
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Keeps one connection to a peer: dials, waits until it is out of use, waits a little, dials again. One that the peer made
/// will do. The same refusal is told once until a connection succeeds in between.
async fn dial_on(shared: Arc<Shared>, (peer, channel): Key) {
    let mut attempt: u32 = 0;
    let mut told: Option<Refusal> = None;
    loop {
        if let Some(link) = shared.link((peer, channel)) {
            link.ended().await;
        }
        let identity = shared.identity();
        if peer < identity.node {
            sleep(PATIENCE).await;
            if shared.link((peer, channel)).is_some() || shared.identity().cluster.is_none() {
                continue;
            }
        }
        let identity = shared.identity();
        let Some((address, _)) = identity.members.get(&peer) else { return };
        let mut longest = LONGEST_BACKOFF;
        match dial::dial_peer(&identity, peer, channel, address).await {
            Ok((stream, welcome)) => {
                let done = Handshaken {
                    peer,
                    channel,
                    incarnation: welcome.incarnation,
                    cluster: welcome.cluster,
                    own_cluster: identity.cluster,
                    max_frame_bytes: welcome.max_frame_bytes,
                    address: address.clone(),
                };
                if let Some(link) = shared.establish(stream, done) {
                    link.ended().await;
                    attempt = 0;
                    told = None;
                }
            }
            Err(HandshakeFault::Io(error)) => {
                tracing::trace!(node = %identity.node, %peer, ?channel, address, %error, "not connected");
            }
            Err(HandshakeFault::Refused(refusal)) if peer < identity.node && refusal.code == RefusalCode::Direction => {
                // It knows this node and dials it.
            }
            Err(fault @ (HandshakeFault::Stranger(_) | HandshakeFault::Refused(_) | HandshakeFault::Judged(_))) => {
                let theirs = matches!(fault, HandshakeFault::Refused(_));
                let Some(refusal) = fault.refusal() else { continue };
                longest = LONGEST_BACKOFF_REFUSED;
                if told.as_ref() != Some(&refusal) {
                    shared.refused(Some(peer), address.clone(), refusal.clone(), theirs);
                    told = Some(refusal);
                }
            }
        }
        sleep(backoff(identity.incarnation, (peer, channel), attempt, longest)).await;
        attempt = attempt.saturating_add(1);
    }
}

/// Between half of and the whole of a wait that doubles with each attempt. The spread comes from the node's life, so
/// that nodes which lost a peer together do not all come back at once.
fn backoff(incarnation: Incarnation, (peer, channel): Key, attempt: u32, longest: Duration) -> Duration {
    let doubled = SHORTEST_BACKOFF.saturating_mul(1 << attempt.min(16));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&incarnation.get().to_le_bytes());
    hasher.update(&peer.get().to_le_bytes());
    hasher.update(&[channel as u8]);
    hasher.update(&attempt.to_le_bytes());
    let spread = f64::from(hasher.finalize()) / f64::from(u32::MAX);
    doubled.min(longest).mul_f64(0.5 + spread / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_the_longest_and_differs_between_nodes() {
        let wait = |life, attempt| backoff(Incarnation(life), (NodeId(2), Channel::Bulk), attempt, LONGEST_BACKOFF);
        for (attempt, whole) in [(0, 20), (1, 40), (3, 160), (4, 200), (u32::MAX, 200)] {
            let whole = Duration::from_millis(whole);
            for life in 0..100 {
                assert!((whole / 2..=whole).contains(&wait(life, attempt)), "attempt {attempt}");
            }
            assert_ne!(wait(1, attempt), wait(2, attempt));
        }
    }
}
