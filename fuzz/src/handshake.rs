//! What both ends say before the first frame, and the verdicts on it.
//!
//! ```text
//!   flags (1) │ bytes of a hello or of an answer …
//!     bit 0: length and checksum are made right first    bit 1: this node belongs to a cluster
//! ```
//! Claims: what is understood reads the same when it is said again, and to the same bytes when it was said by a release of
//! this protocol; only a member, in the incarnation and cluster that are known, with the lower number, is admitted as a
//! peer; what is refused is told in words that can be read.

use std::collections::BTreeMap;

use bytes::Buf;
use dledger::transport::handshake::{
    self, Answer, Hello, MAX_HANDSHAKE_BYTES, PREFIX_BYTES, PROTOCOL_MAX, PROTOCOL_MIN, PeerHello, Prefix, Welcome,
};
use dledger::transport::{LocalIdentity, Refusal};
use dledger::types::{ClusterId, Incarnation, NodeId};

use crate::{Seed, golden, memory};

const ENOUGH_BYTES: usize = 64 << 10;

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let flags = data.try_get_u8().unwrap_or(0);
    let mut bytes = data.to_vec();
    if flags & 1 == 1 {
        forge(&mut bytes);
    }
    let Some((prefix, content)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return };
    let Ok(prefix) = handshake::read_prefix(prefix) else { return };
    assert!(PREFIX_BYTES + prefix.length <= MAX_HANDSHAKE_BYTES);
    let Some(content) = content.get(..prefix.length) else { return };
    let said = &bytes[..PREFIX_BYTES + prefix.length];
    let identity = identity(flags >> 1 & 1 == 1);
    memory::within(ENOUGH_BYTES, || {
        check_hello(&identity, prefix, content, said);
        check_answer(&identity, prefix, content, said);
    });
}

/// The node that listens: number 3 of three, as in the golden files.
fn identity(formed: bool) -> LocalIdentity {
    let member = |id: u64| (NodeId(id), (format!("h:{id}"), formed.then_some(Incarnation(100 + id))));
    LocalIdentity {
        cluster: formed.then_some(CLUSTER),
        node: NodeId(3),
        incarnation: Incarnation(103),
        members: (1..=3).map(member).collect::<BTreeMap<_, _>>(),
        settled: true,
        removed: Vec::new(),
        max_frame_bytes: 1000,
    }
}

const CLUSTER: ClusterId = ClusterId(0xabcd);

fn check_hello(identity: &LocalIdentity, prefix: Prefix, content: &[u8], said: &[u8]) {
    let (protocol, hello) = match handshake::decode_hello(prefix, content) {
        Ok(understood) => understood,
        Err(refusal) => return check_refusal(&refusal),
    };
    assert!((PROTOCOL_MIN..=PROTOCOL_MAX).contains(&protocol));
    let again = handshake::encode_hello(&hello);
    check_again(&again, said);
    let (prefix, content) = parts(&again);
    assert_eq!(handshake::decode_hello(prefix, content).as_ref(), Ok(&(PROTOCOL_MAX, hello.clone())));
    match handshake::judge_hello(identity, protocol, &hello) {
        Err(refusal) => check_refusal(&refusal),
        Ok(Answer::Welcome(welcome)) => {
            assert_eq!((welcome.node, welcome.incarnation), (identity.node, identity.incarnation));
            match &hello {
                Hello::Peer(peer) => check_admitted(identity, peer),
                Hello::Client(client) => assert!(client.cluster.is_none() || client.cluster == identity.cluster),
                Hello::Join(join) => panic!("{join:?} is welcomed"),
            }
        }
        Ok(Answer::Admission(admission)) => {
            let Hello::Join(join) = &hello else { panic!("{hello:?} is admitted") };
            assert_eq!(Some(admission.cluster), identity.cluster);
            let (_address, known) = &identity.members[&join.node];
            assert_eq!(*known, Some(join.incarnation));
        }
        Ok(Answer::Refusal(refusal)) => panic!("{refusal} is no error"),
    }
}

fn check_admitted(identity: &LocalIdentity, peer: &PeerHello) {
    let known = identity.members.contains_key(&peer.node);
    assert!(peer.receiver == identity.node && (peer.node < identity.node || !known) && !peer.node.is_zero());
    check_known(identity, peer.node, peer.incarnation, peer.cluster);
    assert!(peer.record_version >= 1 && peer.command_version >= 1);
}

/// Whoever is let in is a member, with what is known of it, or names this cluster.
fn check_known(identity: &LocalIdentity, node: NodeId, incarnation: Incarnation, cluster: Option<ClusterId>) {
    let Some((_address, known)) = identity.members.get(&node) else {
        assert!(cluster.is_some() && cluster == identity.cluster && incarnation != identity.incarnation);
        return;
    };
    assert!(known.is_none_or(|known| known == incarnation) && incarnation != identity.incarnation);
    assert!(cluster.is_none() || identity.cluster.is_none() || cluster == identity.cluster);
    assert!(known.is_some() || identity.cluster.is_none());
}

fn check_answer(identity: &LocalIdentity, prefix: Prefix, content: &[u8], said: &[u8]) {
    let answer = match handshake::decode_answer(prefix, content) {
        Ok(answer) => answer,
        Err(refusal) => return check_refusal(&refusal),
    };
    let again = handshake::encode_answer(&answer);
    let (prefix, content) = parts(&again);
    assert_eq!(handshake::decode_answer(prefix, content).as_ref(), Ok(&answer));
    let welcome = match answer {
        Answer::Welcome(welcome) => welcome,
        Answer::Admission(_) => return check_again(&again, said),
        // A code that only a later release knows, and a text that is too long, are not said again as they were.
        Answer::Refusal(refusal) => return check_refusal(&refusal),
    };
    check_again(&again, said);
    let peer = NodeId(2);
    match handshake::judge_welcome(identity, peer, &welcome) {
        Err(refusal) => check_refusal(&refusal),
        Ok(()) => {
            let Welcome { node, incarnation, cluster, .. } = welcome;
            assert_eq!(node, peer);
            check_known(identity, node, incarnation, cluster);
        }
    }
}

/// A refusal of ours, or one that we pass on, can be sent: it fits a handshake and reads the same.
fn check_refusal(refusal: &Refusal) {
    assert!(!refusal.text.is_empty() && !refusal.text.chars().any(char::is_control), "{refusal:?}");
    let bytes = handshake::encode_answer(&Answer::Refusal(refusal.clone()));
    assert!(bytes.len() <= MAX_HANDSHAKE_BYTES, "a refusal of {} bytes", bytes.len());
    let (prefix, content) = parts(&bytes);
    assert_eq!(handshake::decode_answer(prefix, content), Ok(Answer::Refusal(refusal.clone())));
}

/// The range of protocols stands behind tag and version; a later release may have said another one.
fn check_again(again: &[u8], said: &[u8]) {
    let range = PREFIX_BYTES + 2..PREFIX_BYTES + 6;
    if again[range.clone()] == said[range] {
        assert_eq!(again, said);
    }
}

fn parts(bytes: &[u8]) -> (Prefix, &[u8]) {
    let (prefix, content) = bytes.split_first_chunk::<PREFIX_BYTES>().expect("a handshake has a prefix");
    (handshake::read_prefix(prefix).expect("its prefix reads"), content)
}

/// Makes magic, length and checksum right.
fn forge(bytes: &mut [u8]) {
    let Some((prefix, content)) = bytes.split_first_chunk_mut::<PREFIX_BYTES>() else { return };
    prefix[..8].copy_from_slice(&handshake::MAGIC);
    prefix[8..12].copy_from_slice(&(content.len() as u32).to_le_bytes());
    prefix[12..].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
}

/// The golden handshakes, before and after formation.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let golden = golden::named_lines("wire/handshake.txt");
    let with = |flags: u8, name: &str, bytes: &[u8]| (format!("{name}-{flags}"), [&[flags][..], bytes].concat());
    let mut seeds: Vec<Seed> =
        golden.iter().flat_map(|(name, bytes)| (0..4).map(move |flags| with(flags, name, bytes))).collect();
    let hello = |node: u64, cluster: Option<ClusterId>| {
        let peer = PeerHello {
            cluster,
            node: NodeId(node),
            incarnation: Incarnation(100 + node),
            receiver: NodeId(3),
            channel: dledger::transport::Channel::Bulk,
            record_version: 1,
            command_version: 1,
            max_frame_bytes: 1000,
        };
        handshake::encode_hello(&Hello::Peer(peer))
    };
    seeds.push(with(1, "peer-unformed", &hello(2, None)));
    seeds.push(with(3, "peer-formed", &hello(2, Some(CLUSTER))));
    seeds.push(with(3, "peer-higher", &hello(4, Some(CLUSTER))));
    seeds
}
