//! Transports over loopback. Waits have a bound that only a failure reaches; nothing sleeps to let things happen.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test that meets any other event prints it and fails")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::raft::message::Body;
use crate::types::{Epoch, Term};

use super::connection::{FrameReader, FrameWriter};
use super::dial::{HandshakeFault, read_content};
use super::frame::MAX_FRAME_BYTES;
use super::handshake::{Answer, Hello, PeerHello, Welcome, decode_answer, encode_hello, peer_hello};
use super::tcp::TcpTransport;
use super::wire::Received;
use super::*;

mod clients;
mod formation;
mod peers;
mod pressure;
mod strangers;

const CLUSTER: ClusterId = ClusterId(0xc1);
/// Reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
const LIMIT: u32 = 17 << 20;

/// Waits with a bound.
async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait).await.unwrap_or_else(|_elapsed| panic!("no {what} in time"))
}

fn bind() -> (std::net::TcpListener, SocketAddr) {
    bind_to("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn bind_to(address: SocketAddr) -> std::io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Node `node` of nodes 1 to 3, incarnations 101 to 103, all at the given addresses.
fn identity(node: u64, addresses: &[SocketAddr]) -> LocalIdentity {
    let members = (1..).zip(addresses).map(|(id, at)| (NodeId(id), (at.to_string(), Some(Incarnation(100 + id)))));
    LocalIdentity {
        cluster: Some(CLUSTER),
        epoch: Epoch::FIRST,
        node: NodeId(node),
        incarnation: Incarnation(100 + node),
        members: members.collect(),
        settled: true,
        removed: Vec::new(),
        max_frame_bytes: LIMIT,
    }
}

struct Node {
    transport: TcpTransport,
    events: UnboundedReceiver<TransportEvent>,
    clients: UnboundedReceiver<ClientConnection>,
    identity: LocalIdentity,
}

impl Node {
    fn start(listener: std::net::TcpListener, identity: LocalIdentity) -> Self {
        let (sender, events) = unbounded_channel();
        let (client_sender, clients) = unbounded_channel();
        let on_client = Box::new(move |connection| client_sender.send(connection).unwrap());
        let transport = TcpTransport::start(listener, identity.clone(), sender, on_client).unwrap();
        Self { transport, events, clients, identity }
    }

    async fn event(&mut self) -> TransportEvent {
        soon("event", self.events.recv()).await.unwrap()
    }

    /// Waits for both connections to `peer`; nothing else may come.
    async fn connected(&mut self, peer: u64) {
        let mut channels = Vec::new();
        while channels.len() < 2 {
            match self.event().await {
                TransportEvent::Connected { peer: who, channel, incarnation, formed: true } if who == NodeId(peer) => {
                    assert_eq!(incarnation, Incarnation(100 + peer));
                    channels.push(channel);
                }
                other => panic!("{other:?}"),
            }
        }
        channels.sort();
        assert_eq!(channels, Channel::ALL);
    }

    async fn frame(&mut self) -> (Channel, PeerFrame) {
        match self.event().await {
            TransportEvent::Frame { channel, frame, .. } => (channel, frame),
            other => panic!("{other:?}"),
        }
    }

    async fn closed(&mut self) -> (NodeId, Channel) {
        match self.event().await {
            TransportEvent::Closed { peer, channel } => (peer, channel),
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self) -> (Option<NodeId>, Refusal) {
        match self.event().await {
            TransportEvent::Refused { peer, reason, .. } => (peer, reason),
            other => panic!("{other:?}"),
        }
    }
}

/// Node 2 alone; tests play node 1, which dials it.
fn node_two() -> (Node, SocketAddr) {
    let (listener, address) = bind();
    let (_, nowhere) = bind();
    let node = Node::start(listener, identity(2, &[nowhere, address]));
    (node, address)
}

async fn pair() -> (Node, Node) {
    let ((one, at_one), (two, at_two)) = (bind(), bind());
    let addresses = [at_one, at_two];
    let mut one = Node::start(one, identity(1, &addresses));
    let mut two = Node::start(two, identity(2, &addresses));
    one.connected(2).await;
    two.connected(1).await;
    (one, two)
}

/// A peer played by the test, after its handshake.
struct Fake {
    reader: FrameReader,
    writer: FrameWriter,
}

impl Fake {
    /// Dials `address` as node 1 speaking to node 2.
    async fn dial(address: SocketAddr, channel: Channel) -> Self {
        Self::dial_as(address, &fake_hello(channel)).await.unwrap().0
    }

    async fn dial_as(address: SocketAddr, hello: &PeerHello) -> Result<(Self, Welcome), Refusal> {
        let mut stream = soon("connection", TcpStream::connect(address)).await.unwrap();
        stream.write_all(&encode_hello(&Hello::Peer(hello.clone()))).await.unwrap();
        let (prefix, content) = soon("answer", read_content(&mut stream)).await.unwrap();
        match decode_answer(prefix, &content).unwrap() {
            Answer::Welcome(welcome) => {
                let (read, write) = stream.into_split();
                let (reader, writer) = (FrameReader::new(read, LIMIT, 4096), FrameWriter::new(write, LIMIT));
                Ok((Self { reader, writer }, welcome))
            }
            Answer::Refusal(refusal) => Err(refusal),
            Answer::Admission(admission) => panic!("{admission:?}"),
        }
    }

    async fn send(&mut self, frame: &PeerFrame) {
        let mut body = Vec::new();
        let head = wire::encode(frame, &mut body).unwrap();
        self.writer.queue(head, &body, &frame.attached).unwrap();
        soon("writing", self.writer.flush()).await.unwrap();
    }

    async fn receive(&mut self) -> Option<Received> {
        soon("frame", self.reader.read_frame()).await.unwrap().map(|frame| wire::receive(frame).unwrap())
    }
}

fn fake_hello(channel: Channel) -> PeerHello {
    let Hello::Peer(hello) = peer_hello(&identity(1, &[]), NodeId(2), channel) else { panic!() };
    hello
}

fn message(from: u64, to: u64, body: Body) -> PeerFrame {
    let message = Message { from: NodeId(from), to: NodeId(to), term: Term(1), body };
    PeerFrame::new(GroupId::FIRST, PeerBody::Raft(message))
}

fn heartbeat(from: u64, to: u64, round: u64) -> PeerFrame {
    message(from, to, Body::Heartbeat { commit: Index(1), round })
}

fn append(from: u64, to: u64, bytes: usize) -> PeerFrame {
    let attached = vec![Bytes::from(vec![7; bytes])];
    PeerFrame {
        attached,
        ..message(from, to, Body::Append { prev: EntryId::ZERO, commit: Index(1), base: Index::ZERO })
    }
}

/// Binds an address whose last owner is being dropped.
async fn rebind(address: SocketAddr) -> std::net::TcpListener {
    soon("free port", async {
        loop {
            match bind_to(address) {
                Ok((listener, _)) => return listener,
                Err(_still_in_use) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

fn raw_frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut batch = frame::FrameBatch::default();
    let head = frame::Head { group: GroupId::FIRST, tag, version: 1 };
    batch.push(head, body, &[], MAX_FRAME_BYTES).unwrap();
    let mut bytes = Vec::new();
    bytes::BufMut::put(&mut bytes, batch);
    bytes
}

impl Fake {
    async fn send_raw(&mut self, bytes: &[u8]) {
        soon("writing", self.writer.write_raw(bytes)).await.unwrap();
    }
}

/// Both ends learn `text`, and the connection ends.
async fn assert_violation(node: &mut Node, fake: &mut Fake, text: &str) {
    let (peer, reason) = node.refused().await;
    assert_eq!((peer, reason.code), (Some(NodeId(1)), RefusalCode::Violation));
    assert!(reason.text.contains(text), "{reason}");
    node.closed().await;
    assert_eq!(fake.receive().await, Some(Received::Goodbye(reason.text)));
    assert_eq!(fake.receive().await, None);
}

#[test]
fn forward_refused_by_a_leader_that_stops_is_not_said_of_the_node_that_forwarded() {
    let ForwardError::Refused(wire) = WriteError::Stopped("it was shut down".to_owned()).into() else {
        panic!("it was certainly not proposed");
    };
    assert!(matches!(WriteError::from(wire), WriteError::Unavailable(_)));
}
