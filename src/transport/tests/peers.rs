//! Two members, or one and a played one.

use std::sync::Arc;

use super::*;

#[tokio::test]
async fn peers_exchange_frames_on_both_channels() {
    let (mut one, mut two) = pair().await;
    one.transport.send(NodeId(2), Channel::Control, heartbeat(1, 2, 5));
    assert_eq!(two.frame().await, (Channel::Control, heartbeat(1, 2, 5)));
    two.transport.send(NodeId(1), Channel::Bulk, append(2, 1, 100_000));
    assert_eq!(one.frame().await, (Channel::Bulk, append(2, 1, 100_000)));
}

#[tokio::test]
async fn peers_receive_frames_in_the_order_sent() {
    let (mut one, mut two) = pair().await;
    for round in 0..500 {
        one.transport.send(NodeId(2), Channel::Control, heartbeat(1, 2, round));
    }
    for round in 0..500 {
        assert_eq!(two.frame().await.1, heartbeat(1, 2, round));
    }
}

#[tokio::test]
async fn peers_of_different_clusters_refuse_each_other_on_both_ends() {
    let ((one, at_one), (two, at_two)) = (bind(), bind());
    let mut foreign = identity(1, &[at_one, at_two]);
    foreign.cluster = Some(ClusterId(0xbad));
    let mut two = Node::start(two, identity(2, &[at_one, at_two]));
    let mut one = Node::start(one, foreign);
    let (peer, reason) = one.refused().await;
    assert_eq!((peer, reason.code), (Some(NodeId(2)), RefusalCode::Cluster));
    assert!(reason.text.contains(&CLUSTER.to_string()), "{reason}");
    assert_eq!(two.refused().await.1, reason);
}

#[tokio::test]
async fn peer_that_dials_itself_closes_with_a_reason() {
    let (listener, address) = bind();
    let mut one = Node::start(listener, identity(1, &[address, address]));
    for _both_ends_of_one_connection in 0..2 {
        assert_eq!(one.refused().await.1.code, RefusalCode::SelfConnection);
    }
}

#[tokio::test]
async fn peer_that_restarts_is_connected_again() {
    let (mut one, two) = pair().await;
    let identity = two.identity.clone();
    let at_two: SocketAddr = identity.members[&NodeId(2)].0.parse().unwrap();
    drop(two);
    let mut closed = [one.closed().await, one.closed().await];
    closed.sort();
    assert_eq!(closed, Channel::ALL.map(|channel| (NodeId(2), channel)));
    one.transport.send(NodeId(2), Channel::Control, heartbeat(1, 2, 1));
    let mut two = Node::start(rebind(at_two).await, identity);
    one.connected(2).await;
    two.connected(1).await;
    one.transport.send(NodeId(2), Channel::Control, heartbeat(1, 2, 2));
    assert_eq!(two.frame().await.1, heartbeat(1, 2, 2), "what was sent in between is gone");
}

#[tokio::test]
async fn peer_that_connects_anew_replaces_its_old_connection() {
    let (mut two, address) = node_two();
    let mut old = Fake::dial(address, Channel::Control).await;
    assert!(matches!(two.event().await, TransportEvent::Connected { .. }));
    let mut new = Fake::dial(address, Channel::Control).await;
    assert_eq!(two.closed().await, (NodeId(1), Channel::Control));
    assert!(matches!(two.event().await, TransportEvent::Connected { formed: true, .. }));
    assert_eq!(old.receive().await, None, "the old connection is closed");
    new.send(&heartbeat(1, 2, 3)).await;
    assert_eq!(two.frame().await.1, heartbeat(1, 2, 3));
    two.transport.send(NodeId(1), Channel::Control, heartbeat(2, 1, 4));
    assert_eq!(new.receive().await, Some(Received::Frame(heartbeat(2, 1, 4))));
}

#[tokio::test]
async fn peer_frames_of_a_replaced_connection_are_not_delivered() {
    let (listener, address) = bind();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (sender, mut events) = unbounded_channel();
    let identity = identity(2, &[address, address]);
    let shared = Arc::new(links::Shared::new(identity, sender, tokio::runtime::Handle::current()));
    let mut peer_ends = Vec::new();
    let mut established = Vec::new();
    for _connection in 0..2 {
        peer_ends.push(TcpStream::connect(address).await.unwrap());
        let (stream, from) = listener.accept().await.unwrap();
        let done = links::Handshaken {
            peer: NodeId(1),
            channel: Channel::Control,
            incarnation: Incarnation(101),
            cluster: Some(CLUSTER),
            own_cluster: Some(CLUSTER),
            max_frame_bytes: LIMIT,
            address: from.to_string(),
        };
        established.push(shared.establish(stream, done).unwrap());
    }
    for (link, round) in established.iter().zip(1..) {
        shared.deliver(link, std::iter::once((heartbeat(1, 2, round), 1)));
    }
    shared.drop_link(&established[0]);
    shared.stop();
    let mut told = Vec::new();
    while let Some(event) = events.recv().await {
        told.push(match event {
            TransportEvent::Connected { .. } => "connected".to_owned(),
            TransportEvent::Closed { .. } => "closed".to_owned(),
            TransportEvent::Frame { frame, .. } if frame == heartbeat(1, 2, 2) => "frame of the second".to_owned(),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(told, ["connected", "closed", "connected", "frame of the second"]);
}

#[tokio::test]
async fn peer_that_is_disconnected_learns_why_and_dials_again() {
    let (mut one, mut two) = pair().await;
    two.transport.disconnect(NodeId(1), "for a test");
    two.closed().await;
    two.closed().await;
    let mut reasons = 0;
    let mut connections = 0;
    while connections < 2 {
        match one.event().await {
            TransportEvent::Refused { peer, reason, .. } => {
                assert_eq!((peer, reason.code), (Some(NodeId(2)), RefusalCode::Disconnected));
                assert_eq!(reason.text, "for a test");
                reasons += 1;
            }
            TransportEvent::Connected { .. } => connections += 1,
            TransportEvent::Closed { .. } => {}
            TransportEvent::Frame { frame, .. } => panic!("{frame:?}"),
        }
    }
    assert_eq!(reasons, 2);
    two.connected(1).await;
}

#[tokio::test]
async fn peer_that_breaks_a_rule_is_told_and_closed() {
    let mut unknown_tag = message(1, 2, Body::HandOver);
    unknown_tag.group = GroupId(9);
    let cases: [(&str, Vec<u8>); 3] = [
        ("tag 77, version 1", raw_frame(77, b"")),
        ("malformed raft message", raw_frame(wire::TAG_RAFT, b"short")),
        ("over the limit", u32::MAX.to_le_bytes().to_vec()),
    ];
    for (text, bytes) in cases {
        let (mut two, address) = node_two();
        let mut fake = Fake::dial(address, Channel::Bulk).await;
        assert!(matches!(two.event().await, TransportEvent::Connected { .. }));
        fake.send(&unknown_tag).await;
        assert_eq!(two.frame().await.1, unknown_tag, "what came before is delivered");
        // What nobody will read must not turn the close into a reset, which could swallow the reason.
        fake.send_raw(&[bytes, vec![0; 4 << 20]].concat()).await;
        assert_violation(&mut two, &mut fake, text).await;
    }
}

#[tokio::test]
async fn peer_that_speaks_for_another_node_is_closed() {
    for foreign in [heartbeat(3, 2, 1), heartbeat(1, 3, 1)] {
        let (mut two, address) = node_two();
        let mut fake = Fake::dial(address, Channel::Control).await;
        assert!(matches!(two.event().await, TransportEvent::Connected { .. }));
        fake.send(&foreign).await;
        assert_violation(&mut two, &mut fake, "a message from node").await;
    }
}

#[tokio::test]
async fn transport_that_is_dropped_closes_everything() {
    let (one, mut two) = pair().await;
    let at_one: SocketAddr = one.identity.members[&NodeId(1)].0.parse().unwrap();
    drop(one);
    two.closed().await;
    two.closed().await;
    rebind(at_one).await;
}

#[tokio::test]
async fn member_that_is_removed_is_closed_and_not_dialled_again() {
    let (mut one, mut two) = pair().await;
    let mut alone = one.identity.clone();
    alone.members.remove(&NodeId(2));
    alone.removed = vec![(NodeId(2), NodeId(2))];
    one.transport.set_identity(alone);
    for _connection in Channel::ALL {
        one.closed().await;
        let (peer, reason) = two.refused().await;
        assert_eq!((peer, reason.code), (Some(NodeId(1)), RefusalCode::Disconnected));
        assert!(reason.text.contains("node 2 was removed from the cluster"), "{reason}");
        two.closed().await;
    }
    let (peer, reason) = two.refused().await;
    assert_eq!((peer, reason.code), (Some(NodeId(1)), RefusalCode::Removed), "it dials in vain");
    one.transport.set_identity(one.identity.clone());
    for node in [&mut one, &mut two] {
        while !matches!(node.event().await, TransportEvent::Connected { .. }) {}
    }
}

/// Node 1 lags behind and does not know node 2, which waits in vain to be dialled.
#[tokio::test]
async fn member_that_a_lower_one_does_not_know_dials_it_after_a_while() {
    let ((one, at_one), (two, at_two)) = (bind(), bind());
    let addresses = [at_one, at_two];
    let mut lagging = identity(1, &addresses);
    lagging.members.remove(&NodeId(2));
    let mut one = Node::start(one, lagging);
    let mut two = Node::start(two, identity(2, &addresses));
    one.connected(2).await;
    two.connected(1).await;
    one.transport.set_identity(identity(1, &addresses));
    one.transport.send(NodeId(2), Channel::Control, heartbeat(1, 2, 7));
    assert_eq!(two.frame().await, (Channel::Control, heartbeat(1, 2, 7)), "what stands is kept");
}
