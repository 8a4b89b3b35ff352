//! Large frames, peers that do not read, and nodes that do not consume.

use super::admission::MAX_UNCONSUMED_BYTES;
use super::links::MAX_UNSENT_BYTES;
use super::*;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn pressure_of_a_large_record_does_not_delay_a_heartbeat() {
    let (mut two, address) = node_two();
    let mut bulk = Fake::dial(address, Channel::Bulk).await;
    let mut control = Fake::dial(address, Channel::Control).await;
    two.connected(1).await;
    two.transport.send(NodeId(1), Channel::Bulk, append(2, 1, 16 * MIB));
    two.transport.send(NodeId(1), Channel::Control, heartbeat(2, 1, 1));
    // Nobody reads the bulk connection yet, and no socket buffer holds so much: the record is stuck behind it.
    assert_eq!(control.receive().await, Some(Received::Frame(heartbeat(2, 1, 1))));
    assert_eq!(bulk.receive().await, Some(Received::Frame(append(2, 1, 16 * MIB))));
}

#[tokio::test]
async fn pressure_of_the_largest_frame_passes_between_transports() {
    let (mut one, mut two) = pair().await;
    one.transport.send(NodeId(2), Channel::Bulk, append(1, 2, 16 * MIB));
    for round in 0..20 {
        one.transport.send(NodeId(2), Channel::Control, heartbeat(1, 2, round));
    }
    let mut rounds = 0;
    let mut records = 0;
    while records == 0 || rounds < 20 {
        match two.frame().await {
            (Channel::Control, frame) => {
                assert_eq!(frame, heartbeat(1, 2, rounds));
                rounds += 1;
            }
            (Channel::Bulk, frame) => {
                assert_eq!(frame.attached.len(), 1, "one piece, never copied together by the receiver");
                records += frame.attached[0].len();
            }
        }
    }
    assert_eq!(records, 16 * MIB);
}

#[tokio::test]
async fn pressure_of_a_peer_that_does_not_read_ends_its_connection() {
    let (mut two, address) = node_two();
    let _bulk = Fake::dial(address, Channel::Bulk).await;
    let _control = Fake::dial(address, Channel::Control).await;
    two.connected(1).await;
    let fitting = MAX_UNSENT_BYTES / MIB - 1;
    for _megabyte in 0..fitting {
        two.transport.send(NodeId(1), Channel::Bulk, append(2, 1, MIB));
    }
    two.events.try_recv().expect_err("what fits is kept");
    for _beyond in 0..2 {
        two.transport.send(NodeId(1), Channel::Bulk, append(2, 1, MIB));
    }
    // At once, and not when the kernel has found out that nobody reads.
    let event = two.events.try_recv().unwrap();
    assert!(matches!(event, TransportEvent::Closed { peer: NodeId(1), channel: Channel::Bulk }), "{event:?}");
    two.events.try_recv().expect_err("the control connection stays");
}

#[tokio::test]
async fn pressure_of_one_frame_beyond_the_queue_passes_an_idle_connection() {
    let (listener, address) = bind();
    let large = u32::try_from(MAX_UNSENT_BYTES + 2 * MIB).unwrap();
    let identity = LocalIdentity { max_frame_bytes: large, ..identity(2, &[address, address]) };
    let mut two = Node::start(listener, identity);
    let hello = PeerHello { max_frame_bytes: large, ..fake_hello(Channel::Bulk) };
    let (_fake, _) = Fake::dial_as(address, &hello).await.unwrap();
    assert!(matches!(two.event().await, TransportEvent::Connected { .. }));
    two.transport.send(NodeId(1), Channel::Bulk, append(2, 1, MAX_UNSENT_BYTES + MIB));
    two.events.try_recv().expect_err("an idle connection takes a frame of any legal size");
    two.transport.send(NodeId(1), Channel::Bulk, append(2, 1, 1));
    assert!(matches!(two.events.try_recv().unwrap(), TransportEvent::Closed { .. }), "a busy one does not");
}

#[tokio::test]
async fn pressure_on_a_node_that_does_not_consume_stops_the_reading() {
    let (mut two, address) = node_two();
    let mut bulk = Fake::dial(address, Channel::Bulk).await;
    let mut control = Fake::dial(address, Channel::Control).await;
    two.connected(1).await;
    let total = 3 * MAX_UNCONSUMED_BYTES / MIB;
    let flood = tokio::spawn(async move {
        for _megabyte in 0..total {
            bulk.send(&append(1, 2, MIB)).await;
        }
        bulk
    });
    // Every heartbeat that comes through gives the bulk connection's reader a turn, in which it would read more.
    let mut held = Vec::new();
    let mut rounds = 0;
    while rounds < 200 {
        control.send(&heartbeat(1, 2, rounds)).await;
        loop {
            match two.event().await {
                TransportEvent::Frame { channel: Channel::Control, .. } => break,
                TransportEvent::Frame { channel: Channel::Bulk, frame, credit, .. } => held.push((frame, credit)),
                other => panic!("{other:?}"),
            }
        }
        rounds += 1;
    }
    let held_bytes: usize = held.iter().map(|(frame, _)| frame.attached[0].len()).sum();
    assert!(held_bytes <= MAX_UNCONSUMED_BYTES + 3 * MIB, "{held_bytes} bytes were read and not consumed");
    assert!(!flood.is_finished());
    let mut received = held.len();
    drop(held);
    while received < total {
        assert_eq!(two.frame().await.1, append(1, 2, MIB));
        received += 1;
    }
    soon("end of the flood", flood).await.unwrap();
}
