//! The listening side: accepts, shakes hands, and hands the connection to the links or to the server.
//!
//! A stranger costs one socket, one task and [`MAX_PENDING_HANDSHAKES`] bounds how many; when there are more, the
//! one that has waited longest gives way, so that a crowd of silent connections cannot keep a peer out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::connection::ClientConnection;
use super::dial::{self, HANDSHAKE_TIMEOUT, HandshakeFault, Kind};
use super::handshake::{self, Answer, Hello, Refusal};
use super::links::{Handshaken, Shared};
use super::tcp::OnClient;

/// Connections that may be between accept and the end of their handshake.
pub(super) const MAX_PENDING_HANDSHAKES: usize = 128;
/// Pause after the operating system refused to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection after its handshake.
enum Greeted {
    Peer(TcpStream, Handshaken),
    Client(ClientConnection),
}

/// Accepts for as long as the transport lives.
pub(super) async fn accept_all(shared: Arc<Shared>, listener: TcpListener, on_client: OnClient) {
    let mut handshakes = JoinSet::new();
    let mut pending: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    pending.retain(|task| !task.is_finished());
                    if pending.len() >= MAX_PENDING_HANDSHAKES
                        && let Some(oldest) = pending.pop_front()
                    {
                        oldest.abort();
                    }
                    pending.push_back(handshakes.spawn(greet(Arc::clone(&shared), stream, address)));
                }
                Err(error) => {
                    tracing::warn!(node = %shared.identity().node, %error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(done) = handshakes.join_next() => match done {
                Ok(Some(Greeted::Peer(stream, done))) => drop(shared.establish(stream, done)),
                Ok(Some(Greeted::Client(connection))) => on_client(connection),
                Ok(None) | Err(_) => {}
            },
        }
    }
}

/// Shakes hands within the time allowed; tells of refusals.
async fn greet(shared: Arc<Shared>, mut stream: TcpStream, address: SocketAddr) -> Option<Greeted> {
    let fault = match timeout(HANDSHAKE_TIMEOUT, answer(&shared, &mut stream, address)).await {
        Ok(Ok(Hand::Peer(done))) => return Some(Greeted::Peer(stream, done)),
        Ok(Ok(Hand::Told)) => return None,
        Ok(Ok(Hand::Client(hello, welcome))) => {
            return Some(Greeted::Client(ClientConnection::new(stream, address, hello, welcome)));
        }
        Ok(Err(fault)) => fault,
        Err(_elapsed) => HandshakeFault::Stranger(Refusal::timeout()),
    };
    match fault {
        HandshakeFault::Io(error) => tracing::debug!(%address, %error, "a connection ended in its handshake"),
        HandshakeFault::Stranger(reason) | HandshakeFault::Refused(reason) | HandshakeFault::Judged(reason) => {
            shared.refused(None, address.to_string(), reason, false);
        }
    }
    None
}

/// Who shook hands.
enum Hand {
    Peer(Handshaken),
    Client(handshake::ClientHello, handshake::Welcome),
    /// A node that wants to join, which has its answer.
    Told,
}

async fn answer(shared: &Shared, stream: &mut TcpStream, address: SocketAddr) -> Result<Hand, HandshakeFault> {
    let (prefix, content) = dial::read_content(stream).await?;
    let identity = shared.identity();
    let verdict = handshake::decode_hello(prefix, &content)
        .and_then(|(protocol, hello)| handshake::judge_hello(&identity, protocol, &hello).map(|ok| (hello, ok)));
    let (hello, accepted) = match verdict {
        Ok(accepted) => accepted,
        Err(refusal) => {
            stream.write_all(&handshake::encode_answer(&Answer::Refusal(refusal.clone()))).await?;
            stream.shutdown().await?;
            return Err(HandshakeFault::Refused(refusal));
        }
    };
    let kind = if matches!(hello, Hello::Peer(_)) { Kind::Peer } else { Kind::Client };
    dial::configure(stream, kind)?;
    stream.write_all(&handshake::encode_answer(&accepted)).await?;
    Ok(match (hello, accepted) {
        (Hello::Peer(peer), _) => Hand::Peer(Handshaken {
            peer: peer.node,
            channel: peer.channel,
            incarnation: peer.incarnation,
            cluster: peer.cluster,
            own_cluster: identity.cluster,
            max_frame_bytes: peer.max_frame_bytes,
            address: address.to_string(),
        }),
        (Hello::Client(client), Answer::Welcome(welcome)) => Hand::Client(client, welcome),
        (Hello::Client(_) | Hello::Join(_), _) => {
            stream.shutdown().await?;
            Hand::Told
        }
    })
}
