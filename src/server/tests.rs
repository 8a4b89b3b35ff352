//! Client and server over loopback sockets, with a fake store behind the server.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::client::{Client, ClientError, ClientOptions, ImportOptions};
use crate::config::Config;
use crate::error::WriteError;
use crate::kv::command::Command;
use crate::transport::dial::dial_client;
use crate::transport::frame::{FrameBatch, FrameDecoder, Head, MAX_FRAME_BYTES};
use crate::transport::handshake::{self, Hello};
use crate::transport::tcp::TcpTransport;
use crate::transport::{ClientHello, LocalIdentity};
use crate::types::{ClusterId, Epoch, GroupId, Incarnation, Index, NodeId};

use super::fake::{FakeStore, Mode};
use super::kinds::{Consistency, MemberStatus, Scan};
use super::protocol::{Answer, Goodbye, Message, Packet, RequestBody};
use super::wire::{PacketSink, PacketSource};
use super::*;

const FRAME_LIMIT: u32 = 1 << 20;

/// One node that serves clients on a free port.
struct Node {
    store: FakeStore,
    address: String,
    served: Arc<Mutex<Vec<JoinHandle<()>>>>,
    _transport: TcpTransport,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.served.lock().unwrap().iter().for_each(JoinHandle::abort);
    }
}

impl Node {
    fn start(max_clients: u32) -> Self {
        let store = FakeStore::leader();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        store.state().status.members = vec![MemberStatus::voter(NodeId(1), address.clone())];
        let identity = LocalIdentity {
            cluster: Some(ClusterId(1)),
            epoch: Epoch::FIRST,
            node: NodeId(1),
            incarnation: Incarnation(1),
            members: BTreeMap::new(),
            settled: true,
            removed: Vec::new(),
            max_frame_bytes: FRAME_LIMIT,
        };
        let (events, _unread) = mpsc::unbounded_channel();
        let server = Server::new(max_clients);
        let served = Arc::new(Mutex::new(Vec::new()));
        let on_client = {
            let (store, served) = (store.clone(), Arc::clone(&served));
            move |connection| served.lock().unwrap().push(server.serve_store(store.clone(), connection))
        };
        let transport = TcpTransport::start(listener, identity, events, Box::new(on_client)).unwrap();
        Self { store, address, served, _transport: transport }
    }

    fn client(&self, timeout: Duration) -> Client {
        let endpoints = vec![self.address.clone()];
        Client::new(ClientOptions { endpoints, timeout, cluster: None }).unwrap().unnumbered()
    }

    /// A connection without a client's rules.
    async fn raw(&self, client: u128) -> ClientConnection {
        dial_client(&self.address, ClientHello { client, cluster: None }).await.unwrap()
    }
}

const LONG: Duration = Duration::from_secs(20);

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(id: u64, text: &str) -> Packet {
    RequestBody::Command(Command::put(text.as_bytes(), b"v").encode()).encode(id, 5000).unwrap()
}

async fn hear(connection: &mut ClientConnection) -> Message {
    let packet = tokio::time::timeout(LONG, connection.reader.next()).await.unwrap().unwrap();
    Message::decode(&packet.expect("a message")).unwrap()
}

async fn goodbye(connection: &mut ClientConnection) -> Goodbye {
    match hear(connection).await {
        Message::Goodbye(goodbye) => goodbye,
        Message::Response(response) => panic!("{response:?}"),
    }
}

/// Waits until `done`; a test that never gets there is ended by its runner.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn server_serves_pipelined_calls_of_many_clones() {
    let node = Node::start(4);
    let client = node.client(LONG);
    let calls: Vec<_> = (0..500)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.put(key(&format!("k{number:03}")), key("v")).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let page = client.scan(Scan::default(), Consistency::Linearizable).await.unwrap();
    assert_eq!((page.items.len(), page.revision), (500, Index(500)));
    let status = client.status().await.unwrap();
    assert_eq!(status.cluster_id, Some(ClusterId(1)));
    assert_eq!(status.nodes.len(), 1);
}

#[tokio::test]
async fn server_carries_values_near_the_frame_limit_and_refuses_larger_ones() {
    let node = Node::start(4);
    let client = node.client(LONG);
    let value = Bytes::from(vec![7; FRAME_LIMIT as usize - 200]);
    client.put(key("large"), value.clone()).await.unwrap();
    let item = client.get(key("large"), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!(item.value, value);
    let error = client.put(key("larger"), Bytes::from(vec![7; FRAME_LIMIT as usize])).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error:?}");
    client.put(key("after"), key("v")).await.unwrap();
}

#[tokio::test]
async fn server_frame_over_the_limit_ends_the_connection_with_a_reason() {
    let node = Node::start(4);
    let mut stream = TcpStream::connect(&node.address).await.unwrap();
    let mut bytes = handshake::encode_hello(&Hello::Client(ClientHello { client: 0, cluster: None }));
    let mut frames = FrameBatch::default();
    let head = Head { group: GroupId::FIRST, tag: 1, version: 1 };
    frames.push(head, &put(1, "a").body, &[], MAX_FRAME_BYTES).unwrap();
    frames.push(head, &vec![0; FRAME_LIMIT as usize], &[], MAX_FRAME_BYTES).unwrap();
    bytes.extend_from_slice(&frames.copy_to_bytes(frames.remaining()));
    bytes.truncate(bytes.len() - FRAME_LIMIT as usize);
    stream.write_all(&bytes).await.unwrap();
    let mut said = Vec::new();
    let _closed = stream.read_to_end(&mut said).await;
    let (prefix, rest) = said.split_first_chunk::<{ handshake::PREFIX_BYTES }>().unwrap();
    let mut decoder = FrameDecoder::new(FRAME_LIMIT, 1 << 10);
    decoder.space().extend_from_slice(&rest[handshake::read_prefix(prefix).unwrap().length..]);
    let mut messages = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        messages.push(Message::decode(&Packet { tag: frame.tag, version: frame.version, body: frame.body }).unwrap());
    }
    let [Message::Response(answered), Message::Goodbye(goodbye)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((answered.id, goodbye.taken), (1, 1));
    assert!(matches!(&goodbye.reason, Failure::TooLarge(text) if text.contains("limit")), "{goodbye:?}");
}

#[tokio::test]
async fn server_frame_for_another_group_ends_the_connection_with_a_reason() {
    let node = Node::start(4);
    let mut connection = node.raw(0).await;
    connection.writer.queue(Head { group: GroupId(2), tag: 1, version: 1 }, b"", &[]).unwrap();
    connection.writer.flush().await.unwrap();
    let goodbye = goodbye(&mut connection).await;
    assert!(matches!(&goodbye.reason, Failure::Malformed(text) if text.contains("group 2")), "{goodbye:?}");
}

#[tokio::test]
async fn server_answers_garbage_with_a_reason_and_serves_others_on() {
    let node = Node::start(4);
    let mut connection = node.raw(0).await;
    let garbage = Packet { tag: 1, version: 1, body: Bytes::from_static(b"\x01\0\0\0\0\0\0\0garbage") };
    connection.writer.send(vec![garbage]).await.unwrap();
    let goodbye = goodbye(&mut connection).await;
    assert!(goodbye.taken == 0 && matches!(goodbye.reason, Failure::Malformed(_)), "{goodbye:?}");
    let mut stranger = TcpStream::connect(&node.address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _closed = stranger.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    node.client(LONG).put(key("a"), key("v")).await.unwrap();
}

#[tokio::test]
async fn server_refuses_connections_over_the_limit_with_a_reason() {
    let node = Node::start(2);
    let (mut first, _second) = (node.raw(0).await, node.raw(0).await);
    let reason = goodbye(&mut node.raw(0).await).await;
    assert_eq!(reason.taken, 0);
    assert!(matches!(&reason.reason, Failure::Overloaded(text) if text.contains("2 client")), "{reason:?}");
    let error = node.client(Duration::from_millis(300)).put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    first.writer.send(vec![put(1, "served")]).await.unwrap();
    hear(&mut first).await;
    drop(first);
    node.client(LONG).put(key("b"), key("v")).await.unwrap();
}

#[tokio::test]
async fn server_fences_the_former_connection_of_a_client() {
    let node = Node::start(4);
    node.store.state().writes = Mode::Hold;
    let mut former = node.raw(7).await;
    former.writer.send(vec![put(1, "a")]).await.unwrap();
    until(|| node.store.state().proposed.len() == 1).await;
    let mut newer = node.raw(7).await;
    newer.writer.send(vec![put(1, "b")]).await.unwrap();
    until(|| node.store.state().proposed.len() == 2).await;
    let _gone_already = former.writer.send(vec![put(2, "late")]).await;
    let goodbye = goodbye(&mut former).await;
    assert!(goodbye.taken == 1 && matches!(goodbye.reason, Failure::Unavailable(_)), "{goodbye:?}");
    node.store.release();
    hear(&mut newer).await;
    assert_eq!(node.store.state().proposed, ["a", "b"]);
}

#[tokio::test]
async fn server_that_breaks_a_connection_leaves_its_writes_unknown_at_once() {
    let node = Node::start(4);
    node.store.state().writes = Mode::Hold;
    let client = node.client(LONG);
    let write = tokio::spawn(async move { client.put(key("a"), key("v")).await });
    let store = node.store.clone();
    until(|| store.state().proposed.len() == 1).await;
    drop(node);
    let error = write.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
}

#[tokio::test]
async fn server_of_a_stopped_node_says_so_and_closes() {
    let node = Node::start(4);
    let mut connection = node.raw(0).await;
    node.store.state().writes = Mode::Fail(WriteError::Stopped("asked to".to_owned()));
    connection.writer.send(vec![put(1, "a"), put(2, "b")]).await.unwrap();
    hear(&mut connection).await;
    hear(&mut connection).await;
    let goodbye = goodbye(&mut connection).await;
    assert_eq!(goodbye, Goodbye { taken: 2, reason: Failure::Stopped("asked to".to_owned()) });
}

#[tokio::test]
async fn server_deadline_of_a_call_ends_it_as_unknown() {
    let node = Node::start(4);
    node.store.state().writes = Mode::Hold;
    let error = node.client(Duration::from_millis(100)).put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
    assert!(node.store.state().waits[0] <= Duration::from_millis(100));
}

#[tokio::test]
async fn server_and_client_of_different_clusters_part_at_the_handshake() {
    let node = Node::start(4);
    let options = ClientOptions { endpoints: vec![node.address.clone()], timeout: LONG, cluster: Some(ClusterId(2)) };
    let error = Client::new(options).unwrap().put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongCluster(_)), "{error:?}");
    assert!(node.store.state().proposed.is_empty());
}

#[tokio::test]
async fn server_takes_an_import_of_many_lines() {
    let node = Node::start(4);
    let mut importer = node.client(LONG).import(ImportOptions::default(), |_count| {});
    for line in 0..5000 {
        importer.push(key(&format!("k{}", line % 3000)), key(&format!("v{line}"))).await.unwrap();
    }
    assert_eq!(importer.finish().await.unwrap(), 5000);
    assert_eq!(node.store.content().len(), 3000);
    assert_eq!(node.store.content()[&key("k10")], key("v3010"));
}

#[tokio::test]
async fn server_proposes_the_writes_of_a_connection_in_order_when_they_must_wait_for_room() {
    const WRITES: u64 = 5_000;
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::single(directory.path().join("1"));
    config.max_pending_bytes = 256 << 10;
    let node = KvStore::open(config).await.unwrap();
    let hello = ClientHello { client: 7, cluster: None };
    let connection = dial_client(&node.node().address().to_string(), hello).await.unwrap();
    let (mut reader, mut writer) = connection.split();
    let writing = async {
        let write = |number: u64| {
            let size = usize::try_from(1 + number * 7919 % 900).unwrap();
            let body = RequestBody::Command(Command::put(b"a", &vec![b'v'; size]).encode());
            body.encode(number + 1, 60_000).unwrap()
        };
        for first in (0..WRITES).step_by(200) {
            writer.send((first..first + 200).map(write).collect()).await.unwrap();
        }
    };
    let reading = async {
        let mut revisions = BTreeMap::new();
        while revisions.len() < usize::try_from(WRITES).unwrap() {
            let message = Message::decode(&reader.next().await.unwrap().expect("an answer")).unwrap();
            let Message::Response(response) = message else { panic!("{message:?}") };
            let Answer::Done(revision, _) = response.answer else { panic!("{response:?}") };
            revisions.insert(response.id, revision);
        }
        revisions
    };
    let ((), revisions) = tokio::join!(writing, reading);
    assert!(revisions.values().is_sorted(), "by id, revisions rise");
}
