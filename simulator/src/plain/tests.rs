use dledger::kv::{Txn, TxnOp};

use super::*;

fn content(time: u64, kind: Kind, payload: Bytes) -> Content {
    Content { time: LogTime(time), kind, payload }
}

/// Takes the next entry at this log time.
fn next(plain: &mut Plain, time: u64, command: &Command<'_>) -> (Answer, Vec<Change>) {
    let index = plain.index.next();
    let effect = plain.take(index, &content(time, Kind::Data, command.encode()));
    (Answer::decode(&effect.answer).unwrap(), effect.changes)
}

fn no_op(plain: &mut Plain, time: u64) -> Effect {
    let index = plain.index.next();
    plain.take(index, &content(time, Kind::NoOp, Bytes::new()))
}

#[test]
fn plain_repeat_of_a_number_is_told_the_first_answer_and_changes_nothing() {
    let mut plain = Plain::default();
    next(&mut plain, 10, &Command::OpenSession { ttl_ms: 100 });
    let put = Command::put(b"k", b"v").encode();
    let numbered =
        |first_unanswered| Command::Numbered { session: SessionId(1), number: 1, first_unanswered, command: &put };
    let (answer, changes) = next(&mut plain, 20, &numbered(1));
    assert_eq!((&answer, changes.len()), (&Answer::First { revision: Index(2), answer: Box::new(Answer::Done) }, 1));
    let before = plain.sum();
    assert_eq!(next(&mut plain, 21, &numbered(1)), (answer, Vec::new()));
    assert_eq!(plain.sum(), before);
    let (answer, _changes) = next(&mut plain, 21, &numbered(2));
    assert_eq!(answer, Answer::Rejected(Rejection::Forgotten(1)));
    let (answer, _changes) = next(&mut plain, 500, &numbered(1));
    assert_eq!(answer, Answer::Rejected(Rejection::NoSession(SessionId(1))));
}

#[test]
fn plain_lease_takes_its_keys_with_it_by_a_no_op_and_no_sooner() {
    let mut plain = Plain::default();
    next(&mut plain, 10, &Command::GrantLease { ttl_ms: 100 });
    next(&mut plain, 10, &Command::Put { key: b"k", value: b"v", lease: LeaseId(1) });
    assert!(no_op(&mut plain, 109).changes.is_empty());
    let (answer, _changes) = next(&mut plain, 110, &Command::KeepAlive { leases: vec![LeaseId(1)] });
    assert_eq!(answer, Answer::KeptAlive(vec![None]), "nothing revives it");
    let effect = no_op(&mut plain, 110);
    assert_eq!((effect.changes.len(), effect.ended), (1, vec![LeaseId(1)]));
    assert_eq!(plain.sum(), 0);
}

#[test]
fn plain_transaction_that_one_part_forbids_does_nothing_of_it() {
    let mut plain = Plain::default();
    next(&mut plain, 1, &Command::put(b"word", b"x"));
    let before = plain.sum();
    let then = vec![TxnOp::put("k", "v"), TxnOp::add("word", 1)];
    let (answer, changes) = next(&mut plain, 1, &Command::Txn(Txn { then, ..Txn::default() }));
    assert_eq!(answer, Answer::Rejected(Rejection::NotANumber("word".into())));
    assert!(changes.is_empty() && plain.sum() == before);
}

/// The machine is asked here alone: that both read every command alike is what the simulator checks at every entry.
#[test]
fn plain_records_are_those_of_a_snapshot() {
    use dledger::kv::machine::KvMachine;
    use dledger::state_machine::{Entry, StateMachine};
    use dledger::types::{EntryId, Position, Term};

    let put = Command::Put { key: b"k", value: b"v", lease: LeaseId(1) }.encode();
    let commands = [
        Command::GrantLease { ttl_ms: 100 },
        Command::OpenSession { ttl_ms: 100 },
        Command::Numbered { session: SessionId(2), number: 3, first_unanswered: 2, command: &put },
    ];
    let (mut plain, mut machine) = (Plain::default(), KvMachine::new());
    for command in &commands {
        next(&mut plain, 1, command);
        let (id, time) = (EntryId::new(plain.index, Term(1)), LogTime(1));
        let payload = command.encode();
        machine.apply(&Entry { id, position: Position(0), time, kind: Kind::Data, channel: 0, payload }).unwrap();
    }
    machine.publish().unwrap();
    assert_eq!(plain.sum(), crate::machine::digest(&machine.reader(), &machine.capture()));
}
