//! Those who do not get through the handshake.

use super::accept::MAX_PENDING_HANDSHAKES;
use super::handshake::{MAGIC, MAX_HANDSHAKE_BYTES};
use super::*;

/// Reads until the other end closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match soon("end", stream.read_to_end(&mut bytes)).await {
        Ok(_) => bytes,
        // Closing with unread bytes resets the connection: as good an end as any for garbage.
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            bytes
        }
    }
}

#[tokio::test]
async fn stranger_is_refused_with_the_reason() {
    type Change = fn(&mut PeerHello);
    let cases: [(RefusalCode, Change); 8] = [
        (RefusalCode::Cluster, |hello| hello.cluster = Some(ClusterId(1))),
        (RefusalCode::UnknownNode, |hello| (hello.node, hello.cluster) = (NodeId(9), None)),
        (RefusalCode::Receiver, |hello| hello.receiver = NodeId(3)),
        (RefusalCode::Incarnation, |hello| hello.incarnation = Incarnation(1)),
        (RefusalCode::SelfConnection, |hello| hello.incarnation = Incarnation(102)),
        (RefusalCode::RecordVersion, |hello| hello.record_version = 0),
        (RefusalCode::CommandVersion, |hello| hello.command_version = 0),
        (RefusalCode::Incarnation, |hello| {
            hello.cluster = None;
            hello.incarnation = Incarnation(1);
        }),
    ];
    let (mut two, address) = node_two();
    for (code, change) in cases {
        let mut hello = fake_hello(Channel::Control);
        change(&mut hello);
        let Err(refusal) = Fake::dial_as(address, &hello).await else { panic!("{code:?} was welcomed") };
        assert_eq!(refusal.code, code);
        assert_eq!(two.refused().await, (None, refusal));
    }
}

#[tokio::test]
async fn stranger_who_speaks_otherwise_is_closed_without_an_answer() {
    let (mut two, address) = node_two();
    let too_long = [MAGIC.as_slice(), &u32::MAX.to_le_bytes(), &[0; 4]].concat();
    let one_too_long = [MAGIC.as_slice(), &4081u32.to_le_bytes(), &[0; 4]].concat();
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; MAX_HANDSHAKE_BYTES], too_long, one_too_long] {
        let mut stream = soon("connection", TcpStream::connect(address)).await.unwrap();
        stream.write_all(&garbage).await.unwrap();
        assert_eq!(two.refused().await.1.code, RefusalCode::Malformed);
        assert_eq!(rest(&mut stream).await, b"");
    }
    let _member = Fake::dial(address, Channel::Control).await;
    assert!(matches!(two.event().await, TransportEvent::Connected { .. }), "others are unharmed");
}

#[tokio::test]
async fn stranger_whose_hello_is_damaged_is_told() {
    let (mut two, address) = node_two();
    let mut bytes = encode_hello(&Hello::Peer(fake_hello(Channel::Control)));
    *bytes.last_mut().unwrap() ^= 1;
    let mut stream = soon("connection", TcpStream::connect(address)).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let (prefix, content) = soon("answer", read_content(&mut stream)).await.unwrap();
    let Answer::Refusal(refusal) = decode_answer(prefix, &content).unwrap() else { panic!("welcomed") };
    assert_eq!(refusal.code, RefusalCode::Malformed);
    assert_eq!(two.refused().await, (None, refusal));
    assert_eq!(rest(&mut stream).await, b"");
}

/// Time is virtual here: it moves on when nothing else can happen.
#[tokio::test(start_paused = true)]
async fn stranger_who_is_slow_is_closed_in_time() {
    let (mut two, address) = node_two();
    let start = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&MAGIC).await.unwrap();
    let event = two.events.recv().await.unwrap();
    let TransportEvent::Refused { reason, .. } = event else { panic!("{event:?}") };
    assert_eq!(reason.code, RefusalCode::Timeout);
    assert!(start.elapsed() >= Duration::from_secs(5) && start.elapsed() < Duration::from_secs(6));
    let mut bytes = Vec::new();
    assert_eq!(stream.read_to_end(&mut bytes).await.unwrap(), 0);
}

#[tokio::test]
async fn strangers_in_a_crowd_give_way_to_a_member() {
    let (mut two, address) = node_two();
    let mut crowd = Vec::new();
    for _stranger in 0..=MAX_PENDING_HANDSHAKES {
        crowd.push(soon("connection", TcpStream::connect(address)).await.unwrap());
    }
    let _member = Fake::dial(address, Channel::Control).await;
    assert!(matches!(two.event().await, TransportEvent::Connected { .. }));
    assert_eq!(rest(&mut crowd[0]).await, b"", "the one that has waited longest was closed");
    two.events.try_recv().expect_err("it was not the deadline that closed it");
}

#[tokio::test]
async fn stranger_who_leaves_within_the_handshake_leaves_nothing() {
    let (mut two, address) = node_two();
    let hello = encode_hello(&Hello::Peer(fake_hello(Channel::Control)));
    for length in [0, 1, 15, 16, 17, hello.len() - 1] {
        let mut stream = soon("connection", TcpStream::connect(address)).await.unwrap();
        stream.write_all(&hello[..length]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
    }
    two.events.try_recv().expect_err("nothing happened that a node must know");
}

#[tokio::test]
async fn stranger_behind_a_member_address_is_refused_by_the_dialler() {
    let ((one, at_one), (impostor, at_impostor)) = (bind(), bind());
    let mut one = Node::start(one, identity(1, &[at_one, at_impostor]));
    let impostor = tokio::net::TcpListener::from_std(impostor).unwrap();
    let welcome = Welcome {
        protocol: 1,
        cluster: Some(CLUSTER),
        node: NodeId(2),
        incarnation: Incarnation(999),
        record_version: 1,
        command_version: 1,
        max_frame_bytes: LIMIT,
    };
    let (mut stream, _) = soon("dial", impostor.accept()).await.unwrap();
    assert!(matches!(soon("hello", read_content(&mut stream)).await, Ok(_) | Err(HandshakeFault::Io(_))));
    stream.write_all(&handshake::encode_answer(&Answer::Welcome(welcome))).await.unwrap();
    let (peer, reason) = one.refused().await;
    assert_eq!((peer, reason.code), (Some(NodeId(2)), RefusalCode::Incarnation));
    assert_eq!(rest(&mut stream).await, b"");
}
