//! Dialling: connect, say hello, judge the answer. For clients as a public function, for peers from the dialers.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::types::NodeId;

use super::connection::ClientConnection;
use super::handshake::{
    self, Admission, Answer, ClientHello, Hello, JoinHello, PREFIX_BYTES, Prefix, Refusal, RefusalCode, Welcome,
};
use super::{Channel, LocalIdentity};

/// Longest wait for a connection. Members are near each other; a lost SYN is sent again after one second.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Longest wait for the other end's part of the handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that has not acknowledged bytes for so long is gone.
const PEER_SILENCE: Duration = Duration::from_secs(2);
/// Keep-alive probes of an idle peer connection: first after this, then at this distance.
const PEER_PROBE: Duration = Duration::from_secs(1);
/// The same for clients, who may be far away and slow.
const CLIENT_PROBE: Duration = Duration::from_secs(15);
/// Unanswered probes after which a connection is lost.
const PROBES: u32 = 3;

/// Why a node could not be dialled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// No connection.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The node refuses, or its answer is refused here.
    #[error("{address} refused the connection: {refusal}")]
    Refused {
        /// What was dialled.
        address: String,
        /// Why.
        refusal: Refusal,
    },
}

/// Connects to a node as a client. Waits for name lookup, connection and handshake for some seconds at most; the
/// caller may set a shorter deadline around it. Cancel safe: a cancelled call closes what it has opened.
///
/// # Errors
/// The address cannot be reached, or the node refuses: another cluster, no common protocol, not a node at all.
pub async fn dial_client(address: &str, hello: ClientHello) -> Result<ClientConnection, DialError> {
    let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
    let refused = |refusal| DialError::Refused { address: address.to_owned(), refusal };
    let mut stream = connect(address).await.map_err(unreachable)?;
    configure(&stream, Kind::Client).map_err(unreachable)?;
    let peer_addr = stream.peer_addr().map_err(unreachable)?;
    let welcome = match ask(&mut stream, &Hello::Client(hello.clone())).await {
        Ok(welcome) => welcome,
        Err(HandshakeFault::Io(source)) => return Err(unreachable(source)),
        Err(fault) => return Err(refused(fault.refusal().unwrap_or_else(Refusal::out_of_place))),
    };
    Ok(ClientConnection::new(stream, peer_addr, hello, welcome))
}

/// Connects to a peer.
pub(super) async fn dial_peer(
    identity: &LocalIdentity,
    peer: NodeId,
    channel: Channel,
    address: &str,
) -> Result<(TcpStream, Welcome), HandshakeFault> {
    let mut stream = connect(address).await?;
    configure(&stream, Kind::Peer)?;
    let welcome = ask(&mut stream, &handshake::peer_hello(identity, peer, channel)).await?;
    handshake::judge_welcome(identity, peer, &welcome).map_err(HandshakeFault::Judged)?;
    Ok((stream, welcome))
}

/// Asks a member whether the cluster has admitted a node that wants to join. Waits for some seconds at most.
///
/// # Errors
/// The address cannot be reached, or the node there refuses: it is no member of a cluster, or that has not admitted this
/// life of the node.
pub async fn ask_to_join(address: &str, hello: JoinHello) -> Result<Admission, DialError> {
    let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
    let refused = |refusal| DialError::Refused { address: address.to_owned(), refusal };
    let mut stream = connect(address).await.map_err(unreachable)?;
    configure(&stream, Kind::Peer).map_err(unreachable)?;
    match exchange(&mut stream, &Hello::Join(hello)).await {
        Ok(Answer::Admission(admission)) => Ok(admission),
        Ok(Answer::Welcome(_)) => Err(refused(Refusal::out_of_place())),
        Ok(Answer::Refusal(refusal)) => Err(refused(refusal)),
        Err(HandshakeFault::Io(source)) => Err(unreachable(source)),
        Err(fault) => Err(refused(fault.refusal().unwrap_or_else(Refusal::out_of_place))),
    }
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(super) enum HandshakeFault {
    /// The connection failed.
    Io(io::Error),
    /// The other end does not speak this protocol, or too slowly: nothing is answered.
    Stranger(Refusal),
    /// A refusal by the other end, or of what it said.
    Refused(Refusal),
    /// A refusal of the other end's welcome.
    Judged(Refusal),
}

impl HandshakeFault {
    /// Why the connection is refused, unless it failed.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Io(_) => None,
            Self::Stranger(refusal) | Self::Refused(refusal) | Self::Judged(refusal) => Some(refusal),
        }
    }
}

impl From<io::Error> for HandshakeFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a connection is for, as far as the socket is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Dead links must be noticed fast.
    Peer,
    /// May rest for long, and may read slowly.
    Client,
}

/// Socket options: no waiting to fill packets, and dead links noticed.
pub(super) fn configure(stream: &TcpStream, kind: Kind) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probe = match kind {
        Kind::Peer => PEER_PROBE,
        Kind::Client => CLIENT_PROBE,
    };
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(probe).with_interval(probe).with_retries(PROBES))?;
    #[cfg(target_os = "linux")]
    if kind == Kind::Peer {
        socket.set_tcp_user_timeout(Some(PEER_SILENCE))?;
    }
    Ok(())
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
    }
}

async fn ask(stream: &mut TcpStream, hello: &Hello) -> Result<Welcome, HandshakeFault> {
    match exchange(stream, hello).await? {
        Answer::Welcome(welcome) => Ok(welcome),
        Answer::Admission(_) => Err(HandshakeFault::Stranger(Refusal::out_of_place())),
        Answer::Refusal(refusal) => Err(HandshakeFault::Refused(refusal)),
    }
}

async fn exchange(stream: &mut TcpStream, hello: &Hello) -> Result<Answer, HandshakeFault> {
    let exchange = async {
        stream.write_all(&handshake::encode_hello(hello)).await?;
        let (prefix, content) = read_content(stream).await?;
        handshake::decode_answer(prefix, &content).map_err(HandshakeFault::Judged)
    };
    match timeout(HANDSHAKE_TIMEOUT, exchange).await {
        Ok(answered) => answered,
        Err(_elapsed) => Err(HandshakeFault::Stranger(Refusal::timeout())),
    }
}

/// Reads one handshake message, and not a byte more: frames may stand right behind it. Allocates only once the
/// length is known to be within the limit.
pub(super) async fn read_content(stream: &mut TcpStream) -> Result<(Prefix, Vec<u8>), HandshakeFault> {
    let mut bytes = [0; PREFIX_BYTES];
    stream.read_exact(&mut bytes).await?;
    let prefix = handshake::read_prefix(&bytes)
        .map_err(|error| HandshakeFault::Stranger(Refusal::new(RefusalCode::Malformed, error)))?;
    let mut content = vec![0; prefix.length];
    stream.read_exact(&mut content).await?;
    Ok((prefix, content))
}
