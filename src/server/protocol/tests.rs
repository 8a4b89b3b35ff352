use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use proptest::prelude::*;

use crate::kv::command::Command;
use crate::server::kinds::{
    Consistency, KeyValue, LeaseStatus, MemberChange, MemberList, MemberStatus, NodeStatus, Scan, ScanPage,
    SnapshotWant, Standing,
};
use crate::types::{ClusterId, EntryId, Index, LeaseId, LogTime, NodeId, Role, Term};

use super::*;

fn requests() -> Vec<(&'static str, Request)> {
    let batch = vec![(Bytes::from("a"), Bytes::from("1")), (Bytes::from("b"), Bytes::new())];
    let scan = Scan {
        from: Some(Bytes::from("a")),
        to: Some(Bytes::from("z")),
        prefix: Bytes::from("pre"),
        limit: Some(10),
        max_bytes: 1 << 20,
        reverse: true,
        keys_only: false,
        count_only: true,
    };
    let (id, address) = (NodeId(4), "127.0.0.1:7104".to_owned());
    let bodies = [
        ("command", RequestBody::Command(Command::put(b"key", b"value").encode())),
        ("put_batch", RequestBody::PutBatch { term: None, pairs: batch.clone() }),
        ("put_batch_in_term", RequestBody::PutBatch { term: Some(Term(7)), pairs: batch }),
        ("leases", RequestBody::Leases { from: LeaseId(7) }),
        ("get", RequestBody::Get { consistency: Consistency::Linearizable, key: Bytes::from("key") }),
        ("get_stale", RequestBody::Get { consistency: Consistency::Stale, key: Bytes::from("key") }),
        ("get_lease", RequestBody::Get { consistency: Consistency::Lease, key: Bytes::from("key") }),
        (
            "get_stale_within",
            RequestBody::Get {
                consistency: Consistency::StaleWithin(Duration::from_millis(500)),
                key: Bytes::from("key"),
            },
        ),
        ("scan", RequestBody::Scan { consistency: Consistency::Stale, scan }),
        ("status", RequestBody::Status),
        ("snapshot", RequestBody::Snapshot),
        ("piece_manifest", RequestBody::Piece(SnapshotWant::Newest { at_least: Index(40) })),
        ("members", RequestBody::Members),
        ("members_add", RequestBody::ChangeMembers(MemberChange::Add { id, address: address.clone(), promote: true })),
        ("members_promote", RequestBody::ChangeMembers(MemberChange::Promote { id })),
        ("members_remove", RequestBody::ChangeMembers(MemberChange::Remove { id })),
        ("members_replace", RequestBody::ChangeMembers(MemberChange::Replace { old: NodeId(2), new: id, address })),
        ("members_prioritise", RequestBody::ChangeMembers(MemberChange::Prioritise { id, priority: 200 })),
        ("transfer", RequestBody::Transfer(id)),
        (
            "piece_chunk",
            RequestBody::Piece(SnapshotWant::Chunk { snapshot: EntryId::new(Index(40), Term(3)), chunk: 7 }),
        ),
    ];
    bodies.into_iter().map(|(name, body)| (name, Request { id: 3, deadline_ms: 5000, body })).collect()
}

fn item(key: &'static str) -> KeyValue {
    KeyValue {
        lease: LeaseId::ZERO,
        key: Bytes::from(key),
        value: Bytes::from("value"),
        create_revision: Index(4),
        mod_revision: Index(9),
        version: 2,
    }
}

fn status() -> NodeStatus {
    NodeStatus {
        id: NodeId(1),
        cluster: Some(ClusterId(0x0123_4567_89ab_cdef)),
        epoch: 6,
        address: "127.0.0.1:7101".to_owned(),
        role: Role::Follower,
        term: Term(3),
        leader: Some(NodeId(2)),
        first: Index(1),
        last: Index(20),
        durable: Index(19),
        committed: Index(18),
        applied: Index(17),
        disk_bytes: 4096,
        snapshot: Index(40),
        snapshot_bytes_received: 77,
        damaged: 3,
        mended: 5,
        scrub: crate::node::ScrubProgress { upto: Index(7), rounds: 2 },
        members: members(),
        error: None,
        version: "0.1.0".to_owned(),
    }
}

fn leases() -> Vec<LeaseStatus> {
    vec![LeaseStatus { lease: LeaseId(7), ttl_ms: 10_000, deadline: LogTime(77_000), keys: 3 }]
}

fn members() -> Vec<MemberStatus> {
    let joining = MemberStatus::voter(NodeId(2), "127.0.0.1:7102".to_owned());
    let joining =
        MemberStatus { standing: Standing::Joining, replaces: Some(NodeId(1)), snapshotting: true, ..joining };
    let matched = Some(Index(18));
    vec![MemberStatus { priority: 5, matched, ..MemberStatus::voter(NodeId(1), "127.0.0.1:7101".to_owned()) }, joining]
}

fn messages() -> Vec<(&'static str, Message)> {
    let page =
        ScanPage { items: vec![item("a"), item("b")], count: 2, next: Some(Bytes::from("c")), revision: Index(12) };
    let answers = [
        ("written", Answer::Written(Index(11))),
        ("done", Answer::Done(Index(12), crate::kv::answer::Answer::Deleted(2).encode())),
        ("leases_answer", Answer::Leases(leases())),
        ("value", Answer::Value(Some(item("a")))),
        ("value_absent", Answer::Value(None)),
        ("page", Answer::Page(page)),
        ("status_answer", Answer::Status(Box::new(status()))),
        ("snapshot_answer", Answer::Snapshot(Index(40))),
        ("piece_answer", Answer::Piece(Bytes::from("the bytes of a chunk"))),
        ("members_answer", Answer::Members(MemberList { leader: Some(NodeId(1)), members: members() })),
        ("transferred", Answer::Transferred),
        ("failed_no", Answer::Failed(Failure::No("node 4 is not a member".to_owned()))),
        ("failed_refused", Answer::Failed(Failure::Refused("node 1 is the last voter".to_owned()))),
        ("failed_unknown", Answer::Failed(Failure::Unknown("lost".to_owned()))),
        ("failed_unavailable", Answer::Failed(Failure::Unavailable("no leader".to_owned()))),
        ("failed_too_large", Answer::Failed(Failure::TooLarge("key".to_owned()))),
        ("failed_overloaded", Answer::Failed(Failure::Overloaded("queue".to_owned()))),
        ("failed_disk_full", Answer::Failed(Failure::DiskFull(NodeId(2)))),
        ("failed_malformed", Answer::Failed(Failure::Malformed("cut".to_owned()))),
        ("failed_stopped", Answer::Failed(Failure::Stopped("asked to".to_owned()))),
        ("failed_unsupported", Answer::Failed(Failure::Unsupported("tag 9".to_owned()))),
    ];
    let respond = |answer| Message::Response(Response { id: 3, leader: None, answer });
    let mut messages: Vec<_> = answers.into_iter().map(|(name, answer)| (name, respond(answer))).collect();
    let leader = Some(LeaderHint { id: NodeId(2), address: "127.0.0.1:7102".to_owned() });
    let moved = Response { id: 4, leader, answer: Answer::Written(Index(11)) };
    messages.push(("written_elsewhere", Message::Response(moved)));
    let goodbye = Goodbye { taken: 5, reason: Failure::Malformed("cut".to_owned()) };
    messages.push(("goodbye", Message::Goodbye(goodbye)));
    messages
}

/// Tag and version on the first line, then the body, 16 bytes a line.
fn hex(packet: &Packet) -> String {
    let mut text = format!("{:02x} {:02x}\n", packet.tag, packet.version);
    for line in packet.body.chunks(16) {
        let line: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{}", line.join(" ")).unwrap();
    }
    text
}

fn packet_of(hex: &str) -> Packet {
    let bytes: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    Packet { tag: bytes[0], version: bytes[1], body: Bytes::copy_from_slice(&bytes[2..]) }
}

/// The packet that a fixture pins. Set `BLESS_FIXTURES` to write new ones; never for bytes that were released.
fn fixture(name: &str, packet: &Packet) -> Packet {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/client").join(format!("{name}.hex"));
    if env::var_os("BLESS_FIXTURES").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, hex(packet)).unwrap();
    }
    packet_of(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn golden() -> Vec<Packet> {
    let asked = requests().into_iter().map(|(_name, request)| request.body.encode(3, 5000).unwrap());
    asked.chain(messages().into_iter().map(|(_name, message)| message.encode().unwrap())).collect()
}

#[test]
fn request_bytes_are_those_of_the_fixtures() {
    for (name, request) in requests() {
        let packet = request.body.encode(request.id, request.deadline_ms).unwrap();
        let pinned = fixture(&format!("request_{name}"), &packet);
        assert_eq!(hex(&packet), hex(&pinned), "{name}");
        assert_eq!(Request::decode(&pinned).unwrap(), request, "{name}");
    }
}

#[test]
fn response_bytes_are_those_of_the_fixtures() {
    for (name, message) in messages() {
        let packet = message.encode().unwrap();
        let pinned = fixture(&format!("response_{name}"), &packet);
        assert_eq!(hex(&packet), hex(&pinned), "{name}");
        assert_eq!(Message::decode(&pinned).unwrap(), message, "{name}");
    }
}

#[test]
fn packet_cut_short_anywhere_or_too_long_is_malformed() {
    for packet in golden() {
        for length in 0..packet.body.len() {
            let cut = Packet { body: packet.body.slice(..length), ..packet };
            let (asked, said) = (Request::decode(&cut), Message::decode(&cut));
            assert!(asked.is_err() && said.is_err(), "{length} bytes of {packet:?}");
        }
        let long = Packet { body: [&packet.body[..], &[0]].concat().into(), ..packet };
        assert!(Request::decode(&long).is_err() && Message::decode(&long).is_err(), "{packet:?}");
    }
}

#[test]
fn packet_of_a_later_release_is_unsupported_under_its_id() {
    let packet = RequestBody::Status.encode(77, 1).unwrap();
    for (tag, version) in [(packet.tag, VERSION + 1), (200, VERSION)] {
        let later = Packet { tag, version, ..packet.clone() };
        let answer = Request::decode(&later);
        assert!(matches!(answer, Err(PacketError::Unsupported { id: 77, .. })), "{answer:?}");
    }
}

#[test]
fn packet_that_claims_more_than_it_has_is_refused_before_allocation() {
    let mut packet = RequestBody::Get { consistency: Consistency::Stale, key: Bytes::from("k") }.encode(1, 1).unwrap();
    let mut body = packet.body.to_vec();
    let key_length = body.len() - 5..body.len() - 1;
    body[key_length].copy_from_slice(&u32::MAX.to_le_bytes());
    packet.body = body.into();
    assert!(matches!(Request::decode(&packet), Err(PacketError::Malformed(_))));
}

#[test]
fn packet_values_share_the_memory_they_arrived_in() {
    let value = Bytes::from(vec![7; 4096]);
    let packet = RequestBody::Command(Command::put(b"k", &value).encode()).encode(1, 1).unwrap();
    let body = Request::decode(&packet).unwrap().body;
    let RequestBody::Command(value) = body else { panic!("{body:?}") };
    assert!(packet.body.as_ptr_range().contains(&value.as_ptr()));
}

proptest! {
    #[test]
    fn packet_of_garbage_never_panics(tag: u8, version in 0u8..3, body: Vec<u8>) {
        let packet = Packet { tag, version, body: body.into() };
        let _asked = Request::decode(&packet);
        let _said = Message::decode(&packet);
    }

    #[test]
    fn packet_with_one_byte_changed_never_panics(which: prop::sample::Index, at: prop::sample::Index, byte: u8) {
        let packets = golden();
        let packet = which.get(&packets);
        let mut body = packet.body.to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let changed = Packet { body: body.into(), ..*packet };
        let _asked = Request::decode(&changed);
        let _said = Message::decode(&changed);
    }
}
