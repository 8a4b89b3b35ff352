//! Clients on the same listening address.

use super::connection::{ConnectionError, OutFrame};
use super::dial::{DialError, dial_client};
use super::frame::{FrameError, Head};
use super::*;

const HELLO: ClientHello = ClientHello { client: 42, cluster: Some(CLUSTER) };

fn out(tag: u8, body: &'static [u8], attached: usize) -> OutFrame {
    let head = Head { group: GroupId::FIRST, tag, version: 1 };
    OutFrame { head, body: Bytes::from_static(body), attached: vec![Bytes::from(vec![tag; attached])] }
}

/// A client and the node's end of its connection.
async fn connected() -> (Node, ClientConnection, ClientConnection) {
    let (mut two, address) = node_two();
    let client = soon("dial", dial_client(&address.to_string(), HELLO)).await.unwrap();
    let served = soon("client", two.clients.recv()).await.unwrap();
    (two, client, served)
}

#[tokio::test]
async fn client_and_node_know_each_other_after_the_handshake() {
    let (_two, client, served) = connected().await;
    assert_eq!((client.welcome.node, client.welcome.cluster), (NodeId(2), Some(CLUSTER)));
    assert_eq!(served.hello, HELLO);
    assert_eq!(client.welcome, served.welcome);
}

#[tokio::test]
async fn client_frames_pass_both_ways_many_at_a_time() {
    let (_two, mut client, served) = connected().await;
    let (mut reader, mut writer) = served.split();
    let sent: Vec<_> = (0..100).map(|tag| out(tag, b"ask", usize::from(tag) * 40)).collect();
    soon("writing", client.writer.write_frames(&sent)).await.unwrap();
    let mut frames = Vec::new();
    while frames.len() < 100 {
        assert!(soon("frames", reader.read_frames(&mut frames)).await.unwrap() > 0);
    }
    assert_eq!(frames[99].attached, sent[99].attached[0]);
    for frame in &frames {
        let head = Head { group: frame.group, tag: frame.tag, version: 2 };
        writer.queue(head, b"answer", &[]).unwrap();
    }
    assert!(writer.queued_bytes() > 0);
    soon("writing", writer.flush()).await.unwrap();
    assert_eq!(writer.queued_bytes(), 0);
    let first = soon("answer", client.reader.read_frame()).await.unwrap().unwrap();
    assert_eq!((first.tag, first.version, first.body.as_ref()), (0, 2, b"answer".as_slice()));
    let mut tags = 1;
    while tags < 100 {
        match client.reader.buffered_frame().unwrap() {
            Some(frame) => assert_eq!(frame.tag, tags),
            None => assert_eq!(soon("answer", client.reader.read_frame()).await.unwrap().unwrap().tag, tags),
        }
        tags += 1;
    }
    drop((reader, writer));
    assert_eq!(soon("end", client.reader.read_frame()).await.unwrap(), None);
}

#[tokio::test]
async fn client_reading_that_is_cancelled_loses_nothing() {
    let (_two, mut client, mut served) = connected().await;
    let bytes = raw_frame(1, b"in two halves");
    let (first, second) = bytes.split_at(bytes.len() - 4);
    client.writer.write_raw(first).await.unwrap();
    soon("first half", async {
        while served.reader.arrived() < first.len() {
            tokio::select! {
                biased;
                frame = served.reader.read_frame() => panic!("{frame:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    client.writer.write_raw(second).await.unwrap();
    assert_eq!(soon("frame", served.reader.read_frame()).await.unwrap().unwrap().body, "in two halves");
}

#[tokio::test]
async fn client_frame_over_the_limit_is_not_sent_and_the_connection_stays_usable() {
    let (_two, mut client, mut served) = connected().await;
    assert_eq!(client.writer.max_frame_bytes(), LIMIT);
    let limit = usize::try_from(LIMIT).unwrap();
    let error = client.writer.write_frames(&[out(1, b"", limit)]).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Frame(FrameError::TooLong { limit: LIMIT, .. })), "{error}");
    soon("writing", client.writer.write_frames(&[out(2, b"", 1)])).await.unwrap();
    assert_eq!(soon("frame", served.reader.read_frame()).await.unwrap().unwrap().tag, 2);
}

#[tokio::test]
async fn client_frame_over_the_servers_own_limit_is_an_error_there() {
    let (_two, mut client, mut served) = connected().await;
    served.reader.set_max_frame_bytes(1000);
    soon("writing", client.writer.write_frames(&[out(1, b"", 900), out(2, b"", 1000)])).await.unwrap();
    assert_eq!(soon("frame", served.reader.read_frame()).await.unwrap().unwrap().tag, 1);
    let error = soon("error", served.reader.read_frame()).await.unwrap_err();
    assert_eq!(error.to_string(), "a frame of 1024 bytes is over the limit of 1000");
}

#[tokio::test]
async fn client_connection_that_ends_within_a_frame_is_cut_short() {
    let (_two, mut client, mut served) = connected().await;
    client.writer.write_raw(&raw_frame(1, b"body")[..20]).await.unwrap();
    drop(client);
    let error = soon("error", served.reader.read_frame()).await.unwrap_err();
    assert!(matches!(error, ConnectionError::CutShort), "{error}");
}

#[tokio::test]
async fn client_of_another_cluster_is_refused_with_the_reason() {
    let (mut two, address) = node_two();
    let hello = ClientHello { client: 1, cluster: Some(ClusterId(9)) };
    let error = soon("refusal", dial_client(&address.to_string(), hello)).await.unwrap_err();
    let DialError::Refused { refusal, .. } = error else { panic!("{error}") };
    assert_eq!(refusal.code, RefusalCode::Cluster);
    assert!(refusal.text.contains("check the endpoints"), "{refusal}");
    assert_eq!(two.refused().await, (None, refusal));
}

#[tokio::test]
async fn client_that_reaches_nobody_says_so() {
    let (listener, address) = bind();
    drop(listener);
    let error = soon("error", dial_client(&address.to_string(), HELLO)).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot reach {address}")), "{error}");
}

#[tokio::test]
async fn client_that_reaches_something_else_says_so() {
    let (listener, address) = bind();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let web = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    });
    let error = soon("error", dial_client(&address.to_string(), HELLO)).await.unwrap_err();
    let DialError::Refused { refusal, .. } = error else { panic!("{error}") };
    assert_eq!(refusal.code, RefusalCode::Malformed);
    web.await.unwrap();
}
