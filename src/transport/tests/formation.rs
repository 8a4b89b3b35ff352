//! Connections before and while a cluster forms.

use super::*;

fn unformed(mut identity: LocalIdentity) -> LocalIdentity {
    (identity.cluster, identity.epoch) = (None, Epoch::NONE);
    identity.members.values_mut().for_each(|(_, incarnation)| *incarnation = None);
    identity
}

fn formed_news() -> PeerFrame {
    let attached = vec![Bytes::from_static(b"record 1")];
    PeerFrame { attached, ..PeerFrame::new(GroupId::FIRST, PeerBody::Formation(FormationMessage::Form)) }
}

async fn forming(node: &mut Node) {
    for _channel in Channel::ALL {
        assert!(matches!(node.event().await, TransportEvent::Connected { formed: false, .. }));
    }
}

#[tokio::test]
async fn formation_passes_between_nodes_without_a_cluster_and_nothing_else_does() {
    let ((one, at_one), (two, at_two)) = (bind(), bind());
    let addresses = [at_one, at_two];
    let mut one = Node::start(one, unformed(identity(1, &addresses)));
    let mut two = Node::start(two, unformed(identity(2, &addresses)));
    forming(&mut one).await;
    forming(&mut two).await;
    one.transport.send(NodeId(2), Channel::Control, heartbeat(1, 2, 1));
    one.transport.send(NodeId(2), Channel::Control, formed_news());
    assert_eq!(two.frame().await, (Channel::Control, formed_news()), "the heartbeat was not sent");

    // Node 2 forms first: what it said before is still delivered, then the connections are made anew, for formation
    // still; when node 1 has formed too they are made once more, for everything.
    two.transport.send(NodeId(1), Channel::Control, formed_news());
    two.transport.set_identity(identity(2, &addresses));
    let mut news = Vec::new();
    while news.len() < 5 {
        match one.event().await {
            TransportEvent::Frame { channel, frame, .. } => {
                assert_eq!((channel, frame), (Channel::Control, formed_news()));
                let closed = |(channel, event)| channel == Channel::Control && event == "closed";
                assert!(!news.iter().copied().any(closed), "the news comes before the close");
                news.push((channel, "formed"));
            }
            TransportEvent::Closed { channel, .. } => news.push((channel, "closed")),
            TransportEvent::Connected { channel, formed: false, .. } => news.push((channel, "connected")),
            other => panic!("{other:?}"),
        }
    }
    one.transport.set_identity(identity(1, &addresses));
    one.closed().await;
    one.closed().await;
    one.connected(2).await;
    one.transport.send(NodeId(2), Channel::Control, heartbeat(1, 2, 1));
    while !matches!(two.event().await, TransportEvent::Frame { frame, .. } if frame == heartbeat(1, 2, 1)) {}
}

#[tokio::test]
async fn formation_connection_that_carries_anything_else_is_closed() {
    let (mut two, address) = node_two();
    let hello = PeerHello { cluster: None, ..fake_hello(Channel::Control) };
    let (mut fake, welcome) = Fake::dial_as(address, &hello).await.unwrap();
    assert_eq!(welcome.cluster, Some(CLUSTER));
    assert!(matches!(two.event().await, TransportEvent::Connected { formed: false, .. }));
    fake.send(&formed_news()).await;
    assert_eq!(two.frame().await.1, formed_news());
    fake.send(&heartbeat(1, 2, 1)).await;
    assert_violation(&mut two, &mut fake, "for formation only").await;
}
