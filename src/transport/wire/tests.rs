//! The fixtures hold whole frames in hexadecimal, as `kind: hex`, one a line. They bind: a frame that this build
//! writes differently breaks running clusters. A new version of a kind gets new lines and leaves the old ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::BufMut;
use proptest::prelude::*;

use crate::raft::message::{AppendOutcome, Body};
use crate::transport::frame::{FrameBatch, FrameDecoder, MAX_FRAME_BYTES};
use crate::transport::{BackupId, SnapshotWant, WireWriteError};
use crate::types::{ClusterId, EntryId, Incarnation, NodeId, Position, Term, TermRun};

use super::*;

const FIXTURES: &str = include_str!("../../../tests/fixtures/wire/v1.txt");

fn raft(body: Body) -> PeerFrame {
    let message = Message { from: NodeId(1), to: NodeId(2), term: Term(3), body };
    PeerFrame::new(GroupId::FIRST, PeerBody::Raft(message))
}

fn formation(message: FormationMessage) -> PeerFrame {
    PeerFrame::new(GroupId::FIRST, PeerBody::Formation(message))
}

fn answer(result: Result<Forwarded, ForwardError>) -> PeerFrame {
    PeerFrame::new(GroupId::FIRST, PeerBody::ForwardAnswer { number: 7, commit: Index(12), result })
}

fn raft_frames() -> Vec<(&'static str, PeerFrame)> {
    let entry = EntryId::new(Index(9), Term(2));
    let index = Some(Index(11));
    let append = raft(Body::Append { prev: entry, commit: Index(8), base: Index(5) });
    let accepted = AppendOutcome::Accepted { durable: Index(9), verified: Index(10) };
    let rejected = AppendOutcome::Rejected { prev: entry, hint: EntryId::new(Index(5), Term(1)) };
    vec![
        ("raft_pre_vote", raft(Body::PreVote { next: Term(4), last: entry })),
        ("raft_pre_vote_answer", raft(Body::PreVoteAnswer { next: Term(4), granted: true })),
        ("raft_vote", raft(Body::Vote { last: entry, handed_over: false })),
        ("raft_vote_answer", raft(Body::VoteAnswer { granted: true })),
        ("raft_append", PeerFrame { attached: vec![Bytes::from_static(b"records")], ..append }),
        ("raft_append_accepted", raft(Body::AppendAnswer { outcome: accepted })),
        ("raft_append_rejected", raft(Body::AppendAnswer { outcome: rejected })),
        ("raft_heartbeat", raft(Body::Heartbeat { commit: Index(8), round: 6 })),
        (
            "raft_heartbeat_answer",
            raft(Body::HeartbeatAnswer {
                round: 6,
                durable: Index(9),
                verified: Index(10),
                written: Index(11),
                full: true,
            }),
        ),
        ("raft_read_index", raft(Body::ReadIndex { token: 5, by_lease: false })),
        ("raft_read_index_by_lease", raft(Body::ReadIndex { token: 5, by_lease: true })),
        ("raft_read_index_answer", raft(Body::ReadIndexAnswer { token: 5, index })),
        ("raft_hand_over", raft(Body::HandOver)),
        ("raft_pre_vote_in_doubt", raft(Body::PreVoteInDoubt { next: Term(4) })),
        ("raft_vote_in_doubt", raft(Body::VoteInDoubt)),
    ]
}

fn repair_frames() -> Vec<(&'static str, PeerFrame)> {
    let request = RepairRequest {
        number: 7,
        first: Index(11),
        last: Index(12),
        position: Position(640),
        terms: vec![TermRun { first: Index(11), term: Term(3) }],
        before: Some(EntryId::new(Index(10), Term(2))),
        behind: None,
        max_bytes: 4096,
    };
    let answer = |result| PeerFrame::new(GroupId::FIRST, PeerBody::RepairAnswer { number: 7, result });
    let refused = |refusal| answer(Err(refusal));
    vec![
        ("repair", PeerFrame::new(GroupId::FIRST, PeerBody::Repair(request))),
        ("repair_answer", PeerFrame { attached: vec![Bytes::from_static(b"records")], ..answer(Ok(Index(12))) }),
        ("repair_absent", refused(RepairRefusal::Absent)),
        ("repair_damaged", refused(RepairRefusal::Damaged)),
        ("repair_others", refused(RepairRefusal::Others)),
        ("repair_unproven", refused(RepairRefusal::Unproven)),
        ("repair_purged", refused(RepairRefusal::Purged)),
    ]
}

fn snapshot_frames() -> Vec<(&'static str, PeerFrame)> {
    let request = |want| PeerFrame::new(GroupId::FIRST, PeerBody::Snapshot(SnapshotRequest { number: 7, want }));
    let answer = |result| PeerFrame::new(GroupId::FIRST, PeerBody::SnapshotAnswer { number: 7, result });
    let snapshot = EntryId::new(Index(11), Term(3));
    vec![
        ("snapshot_newest", request(SnapshotWant::Newest { at_least: Index(9) })),
        ("snapshot_chunk", request(SnapshotWant::Chunk { snapshot, chunk: 4 })),
        ("snapshot_answer", PeerFrame { attached: vec![Bytes::from_static(b"chunk")], ..answer(Ok(())) }),
        ("snapshot_absent", answer(Err(SnapshotRefusal::Absent))),
        ("snapshot_damaged", answer(Err(SnapshotRefusal::Damaged))),
    ]
}

/// One frame of every shape there is.
fn frames() -> Vec<(&'static str, PeerFrame)> {
    let members = "1=a:1,2=b:2".to_owned();
    let proposals = vec![
        ForwardedProposal { channel: 0, reserve: false, bytes: 3 },
        ForwardedProposal { channel: 4, reserve: true, bytes: 2 },
    ];
    let forward = PeerBody::Forward { number: 7, wait_ms: 500, proposals };
    let forwarded = Forwarded {
        first: EntryId::new(Index(11), Term(3)),
        answer_lengths: vec![1, 0],
        positions: vec![Position(640), Position(704)],
    };
    let refused = |error| answer(Err(ForwardError::Refused(error)));
    let text = || "text".to_owned();
    let hello = |backup| FormationMessage::Hello {
        incarnation: Incarnation(77),
        empty: true,
        members: members.clone(),
        backup,
        read_lease_us: 0x0203,
    };
    let backup = BackupId { cluster: ClusterId(0xc1), entry: EntryId::new(Index(70), Term(4)), checksum: 0x0bad_cafe };
    let mut frames = raft_frames();
    frames.extend([
        ("formation_hello", formation(hello(None))),
        ("formation_hello_restored", formation(hello(Some(backup)))),
        (
            "formation_form",
            PeerFrame { attached: vec![Bytes::from_static(b"genesis")], ..formation(FormationMessage::Form) },
        ),
        (
            "forward",
            PeerFrame { attached: vec![Bytes::from_static(b"abcde")], ..PeerFrame::new(GroupId::FIRST, forward) },
        ),
        ("forward_answer", PeerFrame { attached: vec![Bytes::from_static(b"x")], ..answer(Ok(forwarded)) }),
        ("forward_not_leader", answer(Err(ForwardError::NotLeader { leader: Some(NodeId(3)) }))),
        ("forward_unknown", answer(Err(ForwardError::Unknown(text())))),
        ("forward_unavailable", refused(WireWriteError::Unavailable(text()))),
        ("forward_too_large", refused(WireWriteError::TooLarge(text()))),
        ("forward_overloaded", refused(WireWriteError::Overloaded(text()))),
        ("forward_disk_full", refused(WireWriteError::DiskFull(NodeId(3)))),
        ("forward_stopped", refused(WireWriteError::Stopped(text()))),
    ]);
    frames.extend(repair_frames());
    frames.extend(snapshot_frames());
    frames
}

fn bytes_of(head: Head, body: &[u8], attached: &[Bytes]) -> Vec<u8> {
    let mut batch = FrameBatch::default();
    batch.push(head, body, attached, MAX_FRAME_BYTES).unwrap();
    let mut bytes = Vec::new();
    bytes.put(batch);
    bytes
}

fn encoded(frame: &PeerFrame) -> Vec<u8> {
    let mut body = Vec::new();
    let head = encode(frame, &mut body).unwrap();
    bytes_of(head, &body, &frame.attached)
}

fn goodbye() -> Vec<u8> {
    let mut body = Vec::new();
    let head = encode_goodbye("farewell", &mut body).unwrap();
    bytes_of(head, &body, &[])
}

fn framed(bytes: &[u8]) -> Frame {
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES, 4096);
    decoder.space().extend_from_slice(bytes);
    decoder.next_frame().unwrap().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|place| u8::from_str_radix(&text[place..place + 2], 16).unwrap()).collect()
}

fn fixtures() -> BTreeMap<&'static str, Vec<u8>> {
    FIXTURES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, text)| (name, unhex(text)))
        .collect()
}

#[test]
fn wire_frames_are_written_as_pinned() {
    let mut actual: Vec<_> = frames().into_iter().map(|(name, frame)| (name, encoded(&frame))).collect();
    actual.push(("goodbye", goodbye()));
    let fixtures = fixtures();
    let different: String = actual
        .iter()
        .filter(|(name, bytes)| fixtures.get(name) != Some(bytes))
        .map(|(name, bytes)| format!("{name}: {}\n", hex(bytes)))
        .collect();
    assert!(different.is_empty(), "written otherwise than pinned:\n{different}");
    assert_eq!(fixtures.len(), actual.len(), "every fixture has its frame");
}

#[test]
fn wire_frames_as_pinned_are_read() {
    let fixtures = fixtures();
    for (name, frame) in frames() {
        assert_eq!(receive(framed(&fixtures[name])).unwrap(), Received::Frame(frame), "{name}");
    }
    assert_eq!(receive(framed(&fixtures["goodbye"])).unwrap(), Received::Goodbye("farewell".to_owned()));
}

#[test]
fn wire_frame_of_unknown_tag_or_version_is_unsupported() {
    let (_, frame) = frames().swap_remove(0);
    let known = framed(&encoded(&frame));
    for (tag, version) in [(0, 1), (10, 1), (255, 1), (TAG_RAFT, 0), (TAG_RAFT, 2), (TAG_GOODBYE, 2)] {
        let error = receive(Frame { tag, version, ..known.clone() }).unwrap_err();
        assert!(matches!(error, DecodeError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(&format!("tag {tag}, version {version}")), "{error}");
    }
}

#[test]
fn wire_frame_cut_short_or_too_long_is_malformed() {
    for (name, frame) in frames() {
        let whole = framed(&encoded(&frame));
        let shorter = whole.body.slice(..whole.body.len() - 1);
        let longer = Bytes::from([whole.body.as_ref(), &[0]].concat());
        decode(Frame { body: shorter, ..whole.clone() }).expect_err(name);
        decode(Frame { body: longer, ..whole }).expect_err(name);
    }
}

#[test]
fn wire_attached_bytes_must_be_as_many_as_named() {
    for (name, frame) in frames().into_iter().filter(|(name, _)| name.starts_with("forward")) {
        let whole = framed(&encoded(&frame));
        let attached = Bytes::from([whole.attached.as_ref(), b"!"].concat());
        decode(Frame { attached: attached.clone(), ..whole }).expect_err(name);
        encode(&PeerFrame { attached: vec![attached], ..frame }, &mut Vec::new()).expect_err(name);
    }
}

/// A flipped bit in a forwarded payload was framed by the leader with a good checksum, committed, and stopped the
/// state machine of every node for good. No test had damaged attached bytes: records were thought to be all of them.
#[test]
fn wire_attached_bytes_of_forwards_with_a_flipped_bit_are_malformed() {
    for (name, frame) in frames().into_iter().filter(|(name, _)| ["forward", "forward_answer"].contains(name)) {
        let whole = framed(&encoded(&frame));
        for place in 0..whole.attached.len() {
            let mut damaged = whole.attached.to_vec();
            damaged[place] ^= 1;
            let error = decode(Frame { attached: damaged.into(), ..whole.clone() }).expect_err(name);
            assert!(error.to_string().contains("checksum"), "{error}");
        }
    }
}

#[test]
fn wire_records_are_attached_to_a_repair_answer_that_gives_some_and_to_nothing_else() {
    for (name, frame) in repair_frames() {
        let attached = if frame.attached.is_empty() { vec![Bytes::from_static(b"!")] } else { Vec::new() };
        let whole = Frame { attached: attached.concat().into(), ..framed(&encoded(&frame)) };
        decode(whole).expect_err(name);
        encode(&PeerFrame { attached, ..frame }, &mut Vec::new()).expect_err(name);
    }
}

#[test]
fn wire_attached_bytes_are_split_without_copying() {
    let whole = Bytes::from_static(b"abcde");
    let parts = split_attached(std::slice::from_ref(&whole), [3, 0, 2]).unwrap();
    assert_eq!(parts, ["abc", "", "de"]);
    assert_eq!(parts[2].as_ptr(), whole[3..].as_ptr());
    assert_eq!(split_attached(std::slice::from_ref(&whole), [3, 1]), None);
    assert_eq!(split_attached(&[whole], [6]), None);
    assert_eq!(split_attached(&[], [0, 0]), Some(vec![Bytes::new(); 2]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wire_soup_never_panics(tag in 0u8..10, body in proptest::collection::vec(any::<u8>(), 0..200), attached in 0usize..9) {
        let attached = Bytes::from(vec![0; attached]);
        drop(receive(Frame { group: GroupId(1), tag, version: VERSION, body: body.into(), attached }));
    }
}
