//! Bytes of commands: pinned, and read back as they were.

use super::super::txn::{Compare, Comparison, Condition, TxnOp};
use super::*;
use crate::types::Index;
use proptest::prelude::*;

#[test]
fn command_bytes_are_pinned() {
    let golden = include_str!("../../../tests/fixtures/kv/commands-v1.txt");
    let inner = Command::put(b"k", b"v").encode();
    let commands = every(&inner);
    let lines: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
    let hex = |command: &Command<'_>| command.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(lines, commands.iter().map(hex).collect::<Vec<_>>());
    for command in commands {
        assert_eq!(Command::decode(&command.encode()).unwrap(), command);
    }
}

#[test]
fn command_of_a_later_version_is_unsupported_and_never_guessed() {
    assert!(matches!(Command::decode(&[PUT, 2]), Err(DecodeError::Unsupported { tag: PUT, version: 2, .. })));
    assert!(matches!(Command::decode(&[99, 1]), Err(DecodeError::Unsupported { tag: 99, .. })));
    assert!(matches!(Command::decode(&[PUT]), Err(DecodeError::Malformed { .. })));
    assert!(matches!(Command::decode(&[]), Err(DecodeError::Malformed { .. })));
}

#[test]
fn command_cut_short_or_continued_is_refused() {
    let inner = Command::put(b"k", b"v").encode();
    let numbered = |command: &Command<'_>| matches!(command, Command::Numbered { .. });
    for command in every(&inner).into_iter().filter(|command| !numbered(command)) {
        let whole = command.encode();
        for end in 2..whole.len() {
            let cut = Command::decode(&whole[..end]);
            assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{end}: {cut:?}");
        }
        let longer = [&whole, &b"x"[..]].concat();
        assert!(matches!(Command::decode(&longer), Err(DecodeError::Trailing { extra: 1, .. })));
    }
    for end in 2..NUMBER_BYTES {
        Command::decode(&[&[NUMBERED, VERSION][..], &[0; 24]].concat()[..end]).unwrap_err();
    }
}

#[test]
fn command_has_one_form() {
    let mut leased = Command::Put { key: b"k", value: b"v", lease: LeaseId(1) }.encode().to_vec();
    let lease = leased.len() - 8;
    leased[lease] = 0;
    assert!(Command::decode(&leased).unwrap_err().to_string().contains("its lease is zero"));
    let inner = Command::put(b"k", b"v").encode();
    let once = Command::Numbered { session: SessionId(1), number: 1, first_unanswered: 1, command: &inner }.encode();
    let twice = Command::Numbered { session: SessionId(1), number: 1, first_unanswered: 1, command: &once }.encode();
    assert!(Command::decode(&twice).unwrap_err().to_string().contains("numbered too"));
}

#[test]
fn command_that_claims_a_huge_length_is_refused() {
    let mut bytes = vec![PUT, VERSION];
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.extend(b"key");
    assert!(matches!(Command::decode(&bytes), Err(DecodeError::Malformed { .. })));
}

/// One of each, all parts of a transaction among them.
fn every(inner: &[u8]) -> Vec<Command<'_>> {
    let txn = Txn {
        compare: vec![
            Compare::new("a", Condition::Exists(true)),
            Compare::new("b", Condition::Value(Comparison::NotEqual, "v".into())),
            Compare::new("c", Condition::Version(Comparison::Less, 3)),
            Compare::new("d", Condition::CreateRevision(Comparison::Greater, Index(4))),
            Compare::new("e", Condition::ModRevision(Comparison::Equal, Index(5))),
        ],
        then: vec![TxnOp::put("f", "v"), TxnOp::put_leased("g", "w", LeaseId(6))],
        otherwise: vec![TxnOp::delete("h"), TxnOp::get("i"), TxnOp::add("j", -2)],
    };
    vec![
        Command::put(b"k", b"value"),
        Command::put(b"k", b""),
        Command::Delete { key: b"k" },
        Command::DeleteRange { from: b"ab", to: Some(b"ac") },
        Command::DeleteRange { from: b"", to: None },
        Command::Put { key: b"k", value: b"v", lease: LeaseId(7) },
        Command::Txn(txn),
        Command::GrantLease { ttl_ms: 10_000 },
        Command::KeepAlive { leases: vec![LeaseId(7), LeaseId(8)] },
        Command::RevokeLease { lease: LeaseId(7) },
        Command::OpenSession { ttl_ms: 3_600_000 },
        Command::CloseSession { session: SessionId(9) },
        Command::Numbered { session: SessionId(9), number: 3, first_unanswered: 2, command: inner },
    ]
}

proptest! {
    #[test]
    fn command_decode_of_any_bytes_never_panics(
        head in proptest::option::of((1u8..13, 1u8..3)),
        rest in proptest::collection::vec(prop_oneof![0u8..10, any::<u8>()], 0..64),
    ) {
        let bytes = [head.map_or(Vec::new(), |(tag, version)| vec![tag, version]), rest].concat();
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(&command.encode()[..], &bytes[..]);
        }
    }

    #[test]
    fn command_decode_after_encode_returns_it(
        one in proptest::collection::vec(any::<u8>(), 0..40),
        two in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
    ) {
        let value = two.as_deref().unwrap_or_default();
        let (put, delete) = (Command::put(&one, value), Command::Delete { key: &one });
        for command in [put, delete, Command::DeleteRange { from: &one, to: two.as_deref() }] {
            let bytes = command.encode();
            prop_assert_eq!(Command::decode(&bytes).unwrap(), command);
        }
    }
}
