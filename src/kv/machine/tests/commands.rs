//! Transactions, leases and sessions, as entries.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::apply::{MAX_KEEP_ALIVES, MAX_TXN_READ_BYTES};
use super::*;
use crate::error::Rejection;
use crate::kv::leases::MAX_ENDED_KEYS;
use crate::kv::{Compare, Comparison, Condition, OpResult, Txn, TxnOp};
use crate::types::SessionId;

/// A machine and the place in the log that it has reached.
struct Log {
    machine: KvMachine,
    index: u64,
    time: u64,
}

impl Log {
    fn new() -> Self {
        Self { machine: KvMachine::new(), index: 0, time: 1_000 }
    }

    fn entry(&mut self, kind: Kind, payload: Bytes) -> Bytes {
        self.index += 1;
        let entry = Entry { kind, time: LogTime(self.time), ..entry(self.index, payload) };
        let mut applied = self.machine.apply(&entry).unwrap();
        loop {
            match applied {
                Applied::Done(answer) => break self.machine.publish().map(|()| answer).unwrap(),
                Applied::More => applied = self.machine.resume().unwrap(),
            }
        }
    }

    fn bytes(&mut self, command: &Command<'_>) -> Bytes {
        self.entry(Kind::Data, command.encode())
    }

    fn does(&mut self, command: &Command<'_>) -> Answer {
        let answer = self.bytes(command);
        Answer::decode(&answer).unwrap()
    }

    fn no_op(&mut self) {
        assert_eq!(self.entry(Kind::NoOp, Bytes::new()), Bytes::new());
    }

    fn transact(&mut self, txn: Txn) -> (bool, Vec<OpResult>) {
        let answer = self.does(&Command::Txn(txn));
        let Answer::Txn { succeeded, results } = answer else { panic!("{answer:?}") };
        (succeeded, results)
    }

    fn rejected(&mut self, command: &Command<'_>) -> Rejection {
        let before = items(&self.machine);
        let answer = self.does(command);
        let Answer::Rejected(rejection) = answer else { panic!("{answer:?}") };
        assert_eq!(items(&self.machine), before, "nothing is changed");
        rejection
    }

    fn grant(&mut self, ttl_ms: u64) -> LeaseId {
        assert_eq!(self.does(&Command::GrantLease { ttl_ms }), Answer::Done);
        LeaseId(self.index)
    }

    fn put_leased(&mut self, key: &str, lease: LeaseId) {
        assert_eq!(self.does(&Command::Put { key: key.as_bytes(), value: b"v", lease }), Answer::Done);
    }

    fn open(&mut self, ttl_ms: u64) -> SessionId {
        assert_eq!(self.does(&Command::OpenSession { ttl_ms }), Answer::Done);
        SessionId(self.index)
    }

    fn numbered(&mut self, session: SessionId, number: u64, first_unanswered: u64, command: &Command<'_>) -> Answer {
        let command = command.encode();
        self.does(&Command::Numbered { session, number, first_unanswered, command: &command })
    }

    fn get(&self, key: &str) -> Option<KeyValue> {
        self.machine.reader().get(key.as_bytes()).unwrap()
    }

    fn value(&self, key: &str) -> Option<String> {
        self.get(key).map(|item| String::from_utf8(item.value.to_vec()).unwrap())
    }
}

fn first(revision: u64, answer: Answer) -> Answer {
    Answer::First { revision: Index(revision), answer: Box::new(answer) }
}

#[test]
fn txn_takes_one_branch_by_all_comparisons_and_does_it_under_one_revision() {
    let mut log = Log::new();
    log.does(&Command::put(b"a", b"1"));
    let txn = Txn {
        compare: vec![Compare::new("a", Condition::value_is("1")), Compare::new("b", Condition::Exists(false))],
        then: vec![TxnOp::put("b", "2"), TxnOp::get("b"), TxnOp::delete("a"), TxnOp::delete("c"), TxnOp::add("n", -7)],
        otherwise: vec![TxnOp::get("a"), TxnOp::put("d", "4")],
    };
    let (succeeded, results) = log.transact(txn.clone());
    let b = log.get("b").unwrap();
    assert_eq!((b.create_revision, b.mod_revision, b.version), (Index(2), Index(2), 1));
    let expected =
        [OpResult::Put, OpResult::Value(Some(b)), OpResult::Deleted(true), OpResult::Deleted(false), OpResult::Sum(-7)];
    assert_eq!((succeeded, &results[..]), (true, &expected[..]));
    assert_eq!((log.get("n").unwrap().mod_revision, log.get("a")), (Index(2), None));
    assert_eq!(log.transact(txn), (false, vec![OpResult::Value(None), OpResult::Put]));
    assert_eq!((log.value("n"), log.value("d")), (Some("-7".to_owned()), Some("4".to_owned())));
}

#[test]
fn txn_compares_what_is_there_with_what_is_given() {
    let mut log = Log::new();
    log.does(&Command::put(b"k", b"m"));
    log.does(&Command::put(b"k", b"m"));
    use Comparison::{Equal, Greater, Less, NotEqual};
    let holding = |how: Comparison, ordering: std::cmp::Ordering| how.holds(&ordering, &std::cmp::Ordering::Equal);
    for how in [Equal, NotEqual, Less, Greater] {
        for (given, ordering) in
            [("a", std::cmp::Ordering::Greater), ("m", std::cmp::Ordering::Equal), ("z", std::cmp::Ordering::Less)]
        {
            let compare = vec![Compare::new("k", Condition::Value(how, given.into()))];
            let (succeeded, _) = log.transact(Txn { compare, ..Txn::default() });
            assert_eq!(succeeded, holding(how, ordering), "m {how:?} {given}");
        }
        for (there, condition) in [
            (2, Condition::Version as fn(Comparison, u64) -> Condition),
            (1, |how, given| Condition::CreateRevision(how, Index(given))),
            (2, |how, given| Condition::ModRevision(how, Index(given))),
        ] {
            for given in 0..4u64 {
                let compare = vec![Compare::new("k", condition(how, given))];
                let (succeeded, _) = log.transact(Txn { compare, ..Txn::default() });
                assert_eq!(succeeded, how.holds(&there, &given), "{there} {how:?} {given}");
            }
        }
        // An absent key: numbers are zero, and it has no value to compare with.
        let compare = vec![Compare::new("absent", Condition::Value(how, "".into()))];
        assert_eq!(log.transact(Txn { compare, ..Txn::default() }).0, how == NotEqual);
        let compare = vec![Compare::new("absent", Condition::ModRevision(how, Index::ZERO))];
        assert_eq!(log.transact(Txn { compare, ..Txn::default() }).0, how == Equal);
    }
}

#[test]
fn txn_that_cannot_be_done_whole_changes_nothing_and_says_why() {
    let mut log = Log::new();
    log.does(&Command::put(b"text", b"seven"));
    log.does(&Command::put(b"most", i64::MAX.to_string().as_bytes()));
    log.does(&Command::put(b"large", &vec![b'x'; MAX_TXN_READ_BYTES]));
    let before = |ops: Vec<TxnOp>| {
        let then = [vec![TxnOp::put("first", "1"), TxnOp::delete("text")], ops].concat();
        Command::Txn(Txn { then, ..Txn::default() })
    };
    assert_eq!(
        log.rejected(&Command::Txn(Txn { then: vec![TxnOp::put("a", "1"), TxnOp::add("text", 1)], ..Txn::default() })),
        Rejection::NotANumber("text".into())
    );
    assert_eq!(log.rejected(&before(vec![TxnOp::add("most", 1)])), Rejection::Overflow("most".into()));
    let leased = TxnOp::put_leased("k", "v", LeaseId(99));
    assert_eq!(log.rejected(&before(vec![leased])), Rejection::NoLease(LeaseId(99)));
    let twice = before(vec![TxnOp::put("first", "2")]);
    assert!(matches!(log.rejected(&twice), Rejection::Malformed(reason) if reason.starts_with("then[2]")));
    let much = Txn { then: vec![TxnOp::get("large"), TxnOp::get("most")], ..Txn::default() };
    assert!(matches!(log.rejected(&Command::Txn(much)), Rejection::TooMuchRead(_)));
    let written = TxnOp::put("new", vec![b'x'; MAX_TXN_READ_BYTES]);
    let much = Txn { then: vec![written, TxnOp::get("new"), TxnOp::get("new")], ..Txn::default() };
    assert!(matches!(log.rejected(&Command::Txn(much)), Rejection::TooMuchRead(_)));
    let one = Txn { then: vec![TxnOp::get("large")], ..Txn::default() };
    assert!(log.transact(one).0, "one value alone may be as large as values are");
}

#[test]
fn lease_ends_with_a_no_op_at_its_deadline_and_takes_its_keys_with_it() {
    let mut log = Log::new();
    let lease = log.grant(500);
    log.put_leased("a", lease);
    log.put_leased("b", lease);
    log.does(&Command::put(b"b", b"kept"));
    assert_eq!((log.get("a").unwrap().lease, log.get("b").unwrap().lease), (lease, LeaseId::ZERO));
    assert_eq!(log.machine.next_deadline(), Some(LogTime(1_500)));
    log.time = 1_499;
    log.no_op();
    assert!(log.get("a").is_some() && log.machine.reader().view().leases().count() == 1);
    log.time = 1_500;
    assert_eq!(log.rejected(&Command::Put { key: b"c", value: b"v", lease }), Rejection::NoLease(lease));
    assert_eq!(log.does(&Command::KeepAlive { leases: vec![lease] }), Answer::KeptAlive(vec![None]));
    assert!(log.get("a").is_some(), "a command ends nothing but what it says");
    assert_eq!(log.machine.reader().view().leases().count(), 0);
    log.no_op();
    assert_eq!((log.get("a"), log.value("b"), log.machine.next_deadline()), (None, Some("kept".to_owned()), None));
}

#[test]
fn lease_kept_alive_lives_on_from_then() {
    let mut log = Log::new();
    let lease = log.grant(500);
    log.put_leased("a", lease);
    log.time = 1_400;
    let kept = log.does(&Command::KeepAlive { leases: vec![lease, LeaseId(77)] });
    assert_eq!(kept, Answer::KeptAlive(vec![Some(500), None]));
    log.time = 1_899;
    log.no_op();
    assert!(log.get("a").is_some());
    log.time = 1_900;
    log.no_op();
    assert_eq!(log.get("a"), None);
    let many = Command::KeepAlive { leases: vec![lease; MAX_KEEP_ALIVES + 1] };
    assert!(matches!(log.rejected(&many), Rejection::Malformed(_)));
}

#[test]
fn lease_revoked_ends_at_once_and_a_large_one_in_parts() {
    let mut log = Log::new();
    let lease = log.grant(60_000);
    for number in 0..MAX_ENDED_KEYS + 2 {
        log.put_leased(&format!("k{number:05}"), lease);
    }
    assert_eq!(log.does(&Command::RevokeLease { lease }), Answer::Deleted(MAX_ENDED_KEYS as u64));
    assert_eq!(log.rejected(&Command::RevokeLease { lease }), Rejection::NoLease(lease));
    assert_eq!(whole(&log.machine).count, 2);
    assert_eq!(log.machine.next_deadline(), Some(LogTime(1_000)), "the rest is due");
    log.no_op();
    assert_eq!((whole(&log.machine).count, log.machine.next_deadline()), (0, None));
}

#[test]
fn lease_of_a_number_stays_when_it_is_added_to() {
    let mut log = Log::new();
    let lease = log.grant(500);
    log.put_leased("other", lease);
    log.does(&Command::Put { key: b"n", value: b"1", lease });
    log.transact(Txn::add("n", 1));
    assert_eq!((log.value("n"), log.get("n").unwrap().lease), (Some("2".to_owned()), lease));
    log.does(&Command::DeleteRange { from: b"n", to: None });
    log.does(&Command::put(b"n", b"new life"));
    log.time = 2_000;
    log.no_op();
    assert_eq!((log.value("n"), log.get("other")), (Some("new life".to_owned()), None));
}

#[test]
fn session_repeat_gets_the_first_answer_and_revision_and_does_nothing() {
    let mut log = Log::new();
    let session = log.open(60_000);
    let add = Command::Txn(Txn::add("n", 5));
    let sum = Answer::Txn { succeeded: true, results: vec![OpResult::Sum(5)] };
    assert_eq!(log.numbered(session, 1, 1, &add), first(2, sum.clone()));
    assert_eq!(log.numbered(session, 1, 1, &add), first(2, sum));
    assert_eq!(log.value("n"), Some("5".to_owned()));
    let delete = Command::DeleteRange { from: b"", to: None };
    for number in 0..600 {
        log.does(&Command::put(format!("k{number}").as_bytes(), b"v"));
    }
    let at = log.index + 1;
    assert_eq!(log.numbered(session, 2, 1, &delete), first(at, Answer::Deleted(601)));
    log.does(&Command::put(b"later", b"v"));
    assert_eq!(log.numbered(session, 2, 1, &delete), first(at, Answer::Deleted(601)));
    assert!(log.get("later").is_some());
    let text = Command::Txn(Txn::add("later", 1));
    let at = log.index + 1;
    let refused = first(at, Answer::Rejected(Rejection::NotANumber("later".into())));
    assert_eq!(log.numbered(session, 3, 3, &text), refused);
    log.does(&Command::put(b"later", b"1"));
    assert_eq!(log.numbered(session, 3, 3, &text), refused, "a rejection is an answer too");
    assert_eq!(log.numbered(session, 2, 3, &delete), Answer::Rejected(Rejection::Forgotten(2)));
}

#[test]
fn session_that_ended_or_never_was_is_refused() {
    let mut log = Log::new();
    let session = log.open(500);
    let put = Command::put(b"k", b"v");
    for unknown in [SessionId(77), SessionId::ZERO] {
        let refused = Answer::Rejected(Rejection::NoSession(unknown));
        assert_eq!(log.numbered(unknown, 1, 1, &put), refused);
    }
    log.time = 1_500;
    assert_eq!(log.numbered(session, 1, 1, &put), Answer::Rejected(Rejection::NoSession(session)));
    log.no_op();
    assert_eq!((log.get("k"), items(&log.machine).len()), (None, 0));
    let session = log.open(500);
    assert_eq!(log.does(&Command::CloseSession { session }), Answer::Done);
    assert_eq!(log.numbered(session, 1, 1, &put), Answer::Rejected(Rejection::NoSession(session)));
}

#[test]
fn session_number_around_what_is_no_command_stops_as_the_bare_command_does() {
    let mut log = Log::new();
    let session = log.open(500);
    let numbered = Command::Numbered { session, number: 1, first_unanswered: 1, command: &[77, 1] }.encode();
    let error = log.machine.apply(&entry(2, numbered)).unwrap_err();
    assert!(error.reason.contains("tag 77"), "{error}");
}

/// A step of the log in a form that proptest can make and print. Leases and sessions are named by their order.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, Option<usize>),
    Delete(u8),
    DeleteRange(u8, u8),
    Txn(u8, bool, u8, Option<usize>),
    Grant(u64),
    KeepAlive(usize),
    Revoke(usize),
    Open(u64),
    Close(usize),
    Numbered(usize, u64, u64, u8),
    NoOp,
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = 0u8..12;
    let lease = proptest::option::of(0usize..4);
    prop_oneof![
        6 => (key.clone(), lease.clone()).prop_map(|(key, lease)| Step::Put(key, lease)),
        2 => key.clone().prop_map(Step::Delete),
        1 => (key.clone(), key.clone()).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        3 => (key.clone(), any::<bool>(), key.clone(), lease).prop_map(|(a, there, b, lease)| Step::Txn(a, there, b, lease)),
        2 => (1u64..400).prop_map(Step::Grant),
        2 => (0usize..4).prop_map(Step::KeepAlive),
        1 => (0usize..4).prop_map(Step::Revoke),
        1 => (1u64..400).prop_map(Step::Open),
        1 => (0usize..4).prop_map(Step::Close),
        6 => (0usize..4, 1u64..9, 0u64..6, key).prop_map(|(session, number, first, key)| Step::Numbered(session, number, first, key)),
        3 => Just(Step::NoOp),
        3 => (1u64..120).prop_map(Step::Pass),
    ]
}

/// What a step is as an entry; `None` when only time passes.
fn step(log: &mut Log, leases: &mut Vec<LeaseId>, sessions: &mut Vec<SessionId>, step: &Step) -> Option<Bytes> {
    let name = |key: u8| vec![b'a' + key];
    let lease = |order: Option<usize>| order.and_then(|order| leases.get(order).copied()).unwrap_or_default();
    let nth = |order: usize| sessions.get(order).copied().unwrap_or_default();
    let next = log.index + 1;
    Some(match step {
        Step::Put(key, order) => log.bytes(&Command::Put { key: &name(*key), value: b"v", lease: lease(*order) }),
        Step::Delete(key) => log.bytes(&Command::Delete { key: &name(*key) }),
        Step::DeleteRange(from, to) => log.bytes(&Command::DeleteRange { from: &name(*from), to: Some(&name(*to)) }),
        Step::Txn(asked, there, key, order) => {
            let then = vec![TxnOp::put_leased(name(*key), "w", lease(*order)), TxnOp::add("n", 1)];
            let compare = vec![Compare::new(name(*asked), Condition::Exists(*there))];
            log.bytes(&Command::Txn(Txn { compare, then, otherwise: vec![TxnOp::delete(name(*key))] }))
        }
        Step::Grant(ttl_ms) => {
            leases.insert(0, LeaseId(next));
            log.bytes(&Command::GrantLease { ttl_ms: *ttl_ms })
        }
        Step::KeepAlive(order) => log.bytes(&Command::KeepAlive { leases: vec![lease(Some(*order))] }),
        Step::Revoke(order) => log.bytes(&Command::RevokeLease { lease: lease(Some(*order)) }),
        Step::Open(ttl_ms) => {
            sessions.insert(0, SessionId(next));
            log.bytes(&Command::OpenSession { ttl_ms: *ttl_ms })
        }
        Step::Close(order) => log.bytes(&Command::CloseSession { session: nth(*order) }),
        Step::Numbered(order, number, first_unanswered, key) => {
            let command = Command::Txn(Txn::add(name(*key), 1)).encode();
            let (session, first_unanswered) = (nth(*order), *first_unanswered);
            log.bytes(&Command::Numbered { session, number: *number, first_unanswered, command: &command })
        }
        Step::NoOp => log.entry(Kind::NoOp, Bytes::new()),
        Step::Pass(millis) => {
            log.time += millis;
            return None;
        }
    })
}

proptest! {
    #[test]
    fn machine_with_leases_and_sessions_restored_from_its_items_goes_on_equally(
        before in proptest::collection::vec(any_step(), 0..120),
        after in proptest::collection::vec(any_step(), 0..60),
    ) {
        let (mut log, mut leases, mut sessions) = (Log::new(), Vec::new(), Vec::new());
        for made in &before {
            step(&mut log, &mut leases, &mut sessions, made);
        }
        let taken = items(&log.machine);
        let mut copy = Log { machine: KvMachine::new(), index: log.index, time: log.time };
        let mut state = restored(&copy.machine, &taken);
        let entry = EntryId::new(Index(log.index), Term(1));
        state.finish(&LogBase { entry, time: LogTime(log.time), ..LogBase::default() }).unwrap();
        copy.machine.install(state, entry);
        prop_assert_eq!(items(&copy.machine), taken);
        let (mut leases_too, mut sessions_too) = (leases.clone(), sessions.clone());
        for made in &after {
            let one = step(&mut log, &mut leases, &mut sessions, made);
            prop_assert_eq!(step(&mut copy, &mut leases_too, &mut sessions_too, made), one);
            prop_assert_eq!(copy.machine.next_deadline(), log.machine.next_deadline());
            prop_assert_eq!(whole(&copy.machine), whole(&log.machine));
        }
        prop_assert_eq!(items(&copy.machine), items(&log.machine));
        // Keys and leases say the same of each other.
        let alive: BTreeSet<LeaseId> = log.machine.reader().view().leases().map(|it| it.lease).collect();
        let bound = whole(&log.machine).items.into_iter().filter(|item| !item.lease.is_zero());
        let bound: Vec<LeaseId> = bound.map(|item| item.lease).collect();
        for status in log.machine.reader().view().leases() {
            prop_assert_eq!(status.keys, bound.iter().filter(|lease| **lease == status.lease).count() as u64);
        }
        // Those of a lease that has ended go with the next no-op.
        log.no_op();
        let bound = whole(&log.machine).items.into_iter().filter(|item| !item.lease.is_zero());
        prop_assert!(bound.map(|item| item.lease).all(|lease| alive.contains(&lease)));
    }
}
