use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CLUSTER: ClusterId = ClusterId(0xabcd);

/// Node 2 of three, formed, with incarnations 101 to 103.
fn identity() -> LocalIdentity {
    LocalIdentity {
        cluster: Some(CLUSTER),
        epoch: Epoch::FIRST,
        node: NodeId(2),
        incarnation: Incarnation(102),
        members: (1..=3).map(|id| (NodeId(id), (format!("h:{id}"), Some(Incarnation(100 + id))))).collect(),
        settled: true,
        removed: Vec::new(),
        max_frame_bytes: 1000,
    }
}

fn unformed() -> LocalIdentity {
    let mut identity = identity();
    (identity.cluster, identity.epoch) = (None, Epoch::NONE);
    identity.members.values_mut().for_each(|(_, incarnation)| *incarnation = None);
    identity
}

/// What node 1 says to node 2.
fn hello() -> PeerHello {
    PeerHello {
        cluster: Some(CLUSTER),
        epoch: Epoch::FIRST,
        node: NodeId(1),
        incarnation: Incarnation(101),
        receiver: NodeId(2),
        channel: Channel::Bulk,
        record_version: RECORD_VERSION_READ,
        command_version: COMMAND_VERSION_READ,
        max_frame_bytes: 1000,
    }
}

fn welcome() -> Welcome {
    Welcome {
        protocol: PROTOCOL_MAX,
        cluster: Some(CLUSTER),
        epoch: Epoch::FIRST,
        node: NodeId(3),
        incarnation: Incarnation(103),
        record_version: RECORD_VERSION_READ,
        command_version: COMMAND_VERSION_READ,
        max_frame_bytes: 1000,
    }
}

fn judge(identity: &LocalIdentity, change: impl Fn(&mut PeerHello)) -> Result<Welcome, RefusalCode> {
    let mut hello = hello();
    change(&mut hello);
    match judge_hello(identity, PROTOCOL_MAX, &Hello::Peer(hello)) {
        Ok(Answer::Welcome(welcome)) => Ok(welcome),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => {
            assert!(!refusal.text.is_empty());
            Err(refusal.code)
        }
    }
}

fn cut(bytes: &[u8]) -> (Prefix, &[u8]) {
    let (prefix, content) = bytes.split_first_chunk::<PREFIX_BYTES>().unwrap();
    (read_prefix(prefix).unwrap(), content)
}

/// Recomputes the checksum after `change` to the content.
fn resealed(mut bytes: Vec<u8>, change: impl Fn(&mut [u8])) -> Vec<u8> {
    change(&mut bytes[PREFIX_BYTES..]);
    let checksum = crc32fast::hash(&bytes[PREFIX_BYTES..]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn handshake_of_a_member_is_welcomed() {
    let accepted = judge(&identity(), |_| {}).unwrap();
    assert_eq!((accepted.node, accepted.cluster, accepted.protocol), (NodeId(2), Some(CLUSTER), PROTOCOL_MAX));
    judge_welcome(&identity(), NodeId(3), &welcome()).unwrap();
}

#[test]
fn handshake_refusals_name_their_reason() {
    let refused = |change: fn(&mut PeerHello)| judge(&identity(), change).unwrap_err();
    assert_eq!(refused(|hello| hello.cluster = Some(ClusterId(1))), RefusalCode::Cluster);
    assert_eq!(refused(|hello| hello.receiver = NodeId(3)), RefusalCode::Receiver);
    assert_eq!(refused(|hello| (hello.node, hello.cluster) = (NodeId(9), None)), RefusalCode::UnknownNode);
    assert_eq!(refused(|hello| hello.incarnation = Incarnation(7)), RefusalCode::Incarnation);
    assert_eq!(refused(|hello| hello.incarnation = Incarnation(102)), RefusalCode::SelfConnection);
    assert_eq!(refused(|hello| hello.node = NodeId(2)), RefusalCode::SelfConnection);
    assert_eq!(refused(|hello| hello.record_version = 0), RefusalCode::RecordVersion);
    assert_eq!(refused(|hello| hello.command_version = 0), RefusalCode::CommandVersion);
    let from_above = |hello: &mut PeerHello| {
        hello.node = NodeId(3);
        hello.incarnation = Incarnation(103);
    };
    assert_eq!(judge(&identity(), from_above).unwrap_err(), RefusalCode::Direction);
}

/// A leader that dialled a node which it had added told its operator that it was itself no member, "in the eyes of" that
/// node: one that knew nobody yet.
#[test]
fn handshake_with_a_node_that_waits_to_be_admitted_says_so_and_nothing_about_members() {
    let waits = LocalIdentity { members: BTreeMap::new(), ..unformed() };
    assert_eq!(judge(&waits, |_| {}).unwrap_err(), RefusalCode::NotFormed);
    let with_others = LocalIdentity { members: [(NodeId(3), ("h:3".to_owned(), None))].into(), ..unformed() };
    assert_eq!(judge(&with_others, |_| {}).unwrap_err(), RefusalCode::UnknownNode);
}

#[test]
fn handshake_of_a_wiped_node_with_a_formed_one_is_refused() {
    let wiped = |hello: &mut PeerHello| {
        hello.cluster = None;
        hello.incarnation = Incarnation(7);
    };
    assert_eq!(judge(&identity(), wiped).unwrap_err(), RefusalCode::Incarnation);
    let mut forgetful = identity();
    forgetful.members.insert(NodeId(1), ("h:1".to_owned(), None));
    assert_eq!(judge(&forgetful, wiped).unwrap_err(), RefusalCode::Incarnation, "whatever is known");
    judge(&forgetful, |_| {}).unwrap();
}

#[test]
fn handshake_of_another_epoch_is_refused_on_both_ends_and_says_who_was_left_behind() {
    let twice = |draw| Epoch::FIRST.after(draw);
    let mut recovered = LocalIdentity { epoch: twice(7), ..identity() };
    // A recovery leaves nobody but the survivor: the epoch is judged before the members are.
    recovered.members.clear();
    let told = |identity: &LocalIdentity, epoch| {
        let hello = PeerHello { epoch, ..hello() };
        let refused = judge_hello(identity, PROTOCOL_MAX, &Hello::Peer(hello)).unwrap_err();
        let welcome = Welcome { epoch, ..welcome() };
        let by_the_other = judge_welcome(identity, NodeId(3), &welcome).unwrap_err();
        assert_eq!((refused.code, by_the_other.code), (RefusalCode::Epoch, RefusalCode::Epoch));
        (refused.text, by_the_other.text)
    };
    let (one, three) = told(&recovered, Epoch::FIRST);
    assert!(one.contains("recovered (epoch 2) without node 1"), "{one}");
    assert!(three.contains("recovered (epoch 2) without node 3"), "{three}");
    let (by_one, by_three) = told(&identity(), twice(7));
    assert!(by_one.contains("without node 2, which is of epoch 1"), "{by_one}");
    assert!(by_three.contains("without node 2, which is of epoch 1"), "{by_three}");
    let (both, _) = told(&recovered, twice(8));
    assert!(both.contains("node 2 and node 1 were each made a cluster of their own"), "{both}");
    // Whoever belongs to no cluster yet is not of another life of this one.
    judge(&LocalIdentity { epoch: twice(7), ..unformed() }, |_| {}).unwrap();
    judge(&identity(), |hello| (hello.cluster, hello.epoch) = (None, Epoch::NONE)).unwrap();
}

#[test]
fn handshake_of_a_node_that_may_have_been_added_since_is_welcomed_from_both_sides() {
    for (node, life) in [(0, 7), (9, 102), (9, 101), (9, 7)] {
        let judged = judge(&identity(), |hello| (hello.node, hello.incarnation) = (NodeId(node), Incarnation(life)));
        assert_eq!(judged.is_ok(), node == 9 && life != 102, "{node} {life}: {judged:?}");
    }
    let stranger = |hello: &mut PeerHello| (hello.node, hello.incarnation) = (NodeId(9), Incarnation(7));
    judge(&identity(), stranger).expect("who is not known here cannot be dialled from here");
    let mut known = identity();
    known.members.insert(NodeId(9), ("h:9".to_owned(), Some(Incarnation(8))));
    assert_eq!(judge(&known, stranger).unwrap_err(), RefusalCode::Incarnation);
    known.members.insert(NodeId(9), ("h:9".to_owned(), Some(Incarnation(7))));
    assert_eq!(judge(&known, stranger).unwrap_err(), RefusalCode::Direction, "it is dialled from here");
}

#[test]
fn handshake_of_a_node_that_was_removed_is_refused_unless_it_still_has_to_speak() {
    let mut identity = identity();
    identity.removed = vec![(NodeId(4), NodeId(6)), (NodeId(1), NodeId(1))];
    for node in 4..=7 {
        let judged = judge(&identity, |hello| (hello.node, hello.incarnation) = (NodeId(node), Incarnation(7)));
        assert_eq!(judged.err(), (node < 7).then_some(RefusalCode::Removed), "{node}");
    }
    let wiped = |hello: &mut PeerHello| (hello.node, hello.cluster) = (NodeId(5), None);
    assert_eq!(judge(&identity, wiped).unwrap_err(), RefusalCode::Removed);
    judge(&identity, |_| {}).expect("a leader that leaves hands over");
}

#[test]
fn handshake_of_a_node_that_wants_to_join_is_answered_by_a_committed_membership_alone() {
    let judge = |identity: &LocalIdentity, node, life| {
        judge_join(identity, &JoinHello::new(NodeId(node), Incarnation(life))).map_err(|refusal| refusal.code)
    };
    let mut identity = identity();
    identity.removed = vec![(NodeId(6), NodeId(6))];
    let admission = judge(&identity, 3, 103).unwrap();
    let members = "1=h:1,2=h:2,3=h:3".parse().unwrap();
    assert_eq!(admission, Admission { cluster: CLUSTER, epoch: identity.epoch, members });
    assert_eq!(judge(&identity, 3, 7).unwrap_err(), RefusalCode::Incarnation);
    assert_eq!(judge(&identity, 9, 7).unwrap_err(), RefusalCode::UnknownNode);
    assert_eq!(judge(&identity, 6, 7).unwrap_err(), RefusalCode::Removed);
    assert_eq!(judge(&identity, 3, 102).unwrap_err(), RefusalCode::SelfConnection);
    assert_eq!(judge(&unformed(), 3, 103).unwrap_err(), RefusalCode::NotFormed);
    identity.settled = false;
    assert_eq!(judge(&identity, 3, 103).unwrap_err(), RefusalCode::NotFormed);
}

#[test]
fn handshake_admission_to_a_large_cluster_fits() {
    let mut identity = identity();
    let long = |id: u64| (NodeId(id), (format!("{}:{id}", "h".repeat(200)), Some(Incarnation(100 + id))));
    identity.members = (1..=256).map(long).collect();
    let admission = judge_join(&identity, &JoinHello::new(NodeId(200), Incarnation(300))).unwrap();
    assert!(admission.members.0.len() > 5);
    assert!(encode_answer(&Answer::Admission(admission)).len() <= MAX_HANDSHAKE_BYTES);
}

#[test]
fn handshake_during_formation_is_welcomed_in_all_combinations() {
    judge(&unformed(), |hello| hello.cluster = None).unwrap();
    judge(&unformed(), |_| {}).unwrap();
    judge(&identity(), |hello| hello.cluster = None).unwrap();
    assert!(!is_formed(None, None) && !is_formed(Some(CLUSTER), None) && !is_formed(None, Some(CLUSTER)));
    assert!(is_formed(Some(CLUSTER), Some(CLUSTER)) && !is_formed(Some(CLUSTER), Some(ClusterId(1))));
}

#[test]
fn handshake_welcome_of_another_node_is_refused() {
    let refused = |change: fn(&mut Welcome)| {
        let mut welcome = welcome();
        change(&mut welcome);
        judge_welcome(&identity(), NodeId(3), &welcome).unwrap_err().code
    };
    assert_eq!(refused(|welcome| welcome.node = NodeId(1)), RefusalCode::Receiver);
    assert_eq!(refused(|welcome| welcome.cluster = Some(ClusterId(1))), RefusalCode::Cluster);
    assert_eq!(refused(|welcome| welcome.incarnation = Incarnation(7)), RefusalCode::Incarnation);
    assert_eq!(refused(|welcome| welcome.incarnation = Incarnation(102)), RefusalCode::SelfConnection);
    assert_eq!(refused(|welcome| welcome.record_version = 0), RefusalCode::RecordVersion);
}

#[test]
fn handshake_of_a_client_compares_the_cluster_it_means() {
    let judge = |identity: &LocalIdentity, cluster| {
        let hello = Hello::Client(ClientHello { client: 5, cluster });
        judge_hello(identity, PROTOCOL_MAX, &hello).map(|_welcome| identity.node).map_err(|refusal| refusal.code)
    };
    assert_eq!(judge(&identity(), None), Ok(NodeId(2)));
    assert_eq!(judge(&identity(), Some(CLUSTER)), Ok(NodeId(2)));
    assert_eq!(judge(&identity(), Some(ClusterId(1))), Err(RefusalCode::Cluster));
    assert_eq!(judge(&unformed(), Some(CLUSTER)), Err(RefusalCode::NotFormed));
    assert_eq!(judge(&unformed(), None), Ok(NodeId(2)));
}

#[test]
fn handshake_messages_read_back_as_written() {
    for hello in [Hello::Peer(hello()), Hello::Client(ClientHello { client: 9, cluster: Some(CLUSTER) }), join()] {
        let bytes = encode_hello(&hello);
        let (prefix, content) = cut(&bytes);
        assert_eq!(decode_hello(prefix, content), Ok((PROTOCOL_MAX, hello)));
    }
    let refusal = Refusal::new(RefusalCode::Cluster, "no\nno");
    assert_eq!(refusal.text, "nono", "control characters never reach a log or a terminal");
    for answer in [Answer::Welcome(welcome()), Answer::Refusal(refusal), admission()] {
        let bytes = encode_answer(&answer);
        let (prefix, content) = cut(&bytes);
        assert_eq!(decode_answer(prefix, content), Ok(answer));
    }
}

fn join() -> Hello {
    Hello::Join(JoinHello::new(NodeId(4), Incarnation(104)))
}

fn admission() -> Answer {
    let members = "1=h:1,4=h:4".parse().unwrap();
    Answer::Admission(Admission { cluster: CLUSTER, epoch: Epoch::FIRST, members })
}

/// The fixture holds whole handshake messages in hexadecimal, as `name: hex`. Any two releases must understand the
/// prefix, the protocol range and the refusal of each other.
#[test]
fn handshake_messages_are_written_as_pinned() {
    let fixture = include_str!("../../../tests/fixtures/wire/handshake.txt");
    let actual = [
        ("hello_peer", encode_hello(&Hello::Peer(hello()))),
        ("hello_client", encode_hello(&Hello::Client(ClientHello { client: 9, cluster: Some(CLUSTER) }))),
        ("welcome", encode_answer(&Answer::Welcome(welcome()))),
        ("refusal", encode_answer(&Answer::Refusal(Refusal::new(RefusalCode::Cluster, "no")))),
        ("hello_join", encode_hello(&join())),
        ("admission", encode_answer(&admission())),
    ];
    let pinned: Vec<_> = fixture.lines().filter(|line| !line.starts_with('#')).collect();
    let written: Vec<_> = actual
        .iter()
        .map(|(name, bytes)| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name}: {hex}")
        })
        .collect();
    assert_eq!(pinned, written, "\n{}", written.join("\n"));
}

// A refusal of another release, or of a stranger, with no text or none that may be shown, was logged and printed as
// nothing at all. Unseen, since every refusal of ours has words.
#[test]
fn handshake_refusal_without_words_is_told_by_its_number() {
    for text in ["", "\n\0"] {
        let refusal = Refusal::from_wire((4711, text.to_owned()));
        assert_eq!(refusal.code, RefusalCode::Other);
        assert!(refusal.to_string().contains("code 4711"), "{refusal}");
    }
}

#[test]
fn handshake_refusal_codes_keep_their_numbers() {
    for (number, code) in (1..).zip(RefusalCode::KNOWN) {
        assert_eq!((code as u16, RefusalCode::from_number(number)), (number, code));
    }
    assert_eq!(RefusalCode::from_number(4711), RefusalCode::Other);
}

#[test]
fn handshake_refusal_of_any_length_fits() {
    let refusal = Refusal::new(RefusalCode::Violation, "ä".repeat(MAX_HANDSHAKE_BYTES));
    let bytes = encode_answer(&Answer::Refusal(refusal));
    assert!(bytes.len() <= MAX_HANDSHAKE_BYTES);
    let (prefix, content) = cut(&bytes);
    decode_answer(prefix, content).unwrap();
}

#[test]
fn handshake_of_another_protocol_is_refused_before_its_body_is_read() {
    let bytes = resealed(encode_hello(&Hello::Peer(hello())), |content| {
        content[1] = 99;
        content[2..6].copy_from_slice(&[200, 0, 201, 0]);
    });
    let (prefix, content) = cut(&bytes);
    let refusal = decode_hello(prefix, content).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Protocol);
    assert!(refusal.text.contains("200 to 201"), "{refusal}");
}

#[test]
fn handshake_with_a_wider_range_speaks_the_newest_common_protocol() {
    let bytes = resealed(encode_hello(&Hello::Peer(hello())), |content| content[4] = 9);
    let (prefix, content) = cut(&bytes);
    assert_eq!(decode_hello(prefix, content).unwrap().0, PROTOCOL_MAX);
}

#[test]
fn handshake_of_unknown_tag_or_version_is_refused() {
    for (place, value) in [(0, 77), (1, 77)] {
        let bytes = resealed(encode_hello(&Hello::Peer(hello())), |content| content[place] = value);
        let (prefix, content) = cut(&bytes);
        assert_eq!(decode_hello(prefix, content).unwrap_err().code, RefusalCode::Unsupported);
        let bytes = resealed(encode_answer(&Answer::Welcome(welcome())), |content| content[place] = value);
        let (prefix, content) = cut(&bytes);
        assert_eq!(decode_answer(prefix, content).unwrap_err().code, RefusalCode::Unsupported);
    }
}

#[test]
fn handshake_prefix_of_strangers_is_refused() {
    assert_eq!(read_prefix(b"GET / HTTP/1.1\r\n").unwrap_err(), PrefixError::Magic);
    let mut bytes = encode_hello(&Hello::Peer(hello()));
    bytes[8..12].copy_from_slice(&4081u32.to_le_bytes());
    assert_eq!(read_prefix(bytes.first_chunk().unwrap()).unwrap_err(), PrefixError::TooLong(4081));
}

#[test]
fn handshake_with_an_altered_byte_is_refused() {
    let bytes = encode_hello(&Hello::Peer(hello()));
    for place in 12..bytes.len() {
        let mut altered = bytes.clone();
        altered[place] ^= 0x10;
        let (prefix, content) = cut(&altered);
        assert_eq!(decode_hello(prefix, content).unwrap_err().code, RefusalCode::Malformed, "byte {place}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn handshake_soup_never_panics(tag in 0u8..6, soup in proptest::collection::vec(any::<u8>(), 0..400)) {
        let content = [&[tag, CONTENT_VERSION, 1, 0, 1, 0], soup.as_slice()].concat();
        let prefix = Prefix { length: content.len(), checksum: crc32fast::hash(&content) };
        drop(decode_hello(prefix, &content));
        drop(decode_answer(prefix, &content));
        let prefix = Prefix { length: soup.len(), checksum: crc32fast::hash(&soup) };
        drop(decode_hello(prefix, &soup));
    }
}
