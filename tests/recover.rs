//! Recovery from one survivor, offline: what an examination says, who is refused, and the power cut at every disk call.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test ends by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dledger::commitlog::layout::group_dir;
use dledger::commitlog::{
    Identity, LogOptions, Opened, WriteBatch, frame, load_identity, lock_data_dir, store_identity,
};
use dledger::config::{Config, Durability};
use dledger::env::Entropy;
use dledger::env::memory::{Fate, MemoryDisk};
use dledger::error::OpenError;
use dledger::ledger::Ledger;
use dledger::node::Environment;
use dledger::node::recover::{Examined, RecoverError, RecoverOptions, Recovered, Survivor, examine, recover};
use dledger::raft::{Member, Membership};
use dledger::snapshot::{SnapshotOptions, SnapshotStore};
use dledger::state_machine::{Capture, CaptureError};
use dledger::types::{
    ClusterId, EntryId, Epoch, GroupId, Incarnation, Index, Kind, LogBase, LogTime, NodeId, Position, Term, Vote,
};

const CLUSTER: ClusterId = ClusterId(0xc1);
const DATA: &str = "/data";

/// Numbers that never come twice.
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

fn machine(disk: &MemoryDisk) -> Environment {
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    let first = DRAWN.fetch_add(1_000_000, Ordering::Relaxed);
    Environment { disk: disk.handle(), entropy: Arc::new(Counter(AtomicU64::new(first))), ..Environment::real() }
}

fn group() -> PathBuf {
    group_dir(Path::new(DATA), GroupId::FIRST)
}

fn member(id: u64) -> Member {
    Member { id: NodeId(id), incarnation: Incarnation(100 + id), address: format!("127.0.0.1:{}", 7100 + id) }
}

fn members(count: u64) -> Membership {
    Membership::new(CLUSTER, (1..=count).map(member).collect())
}

fn open_log(disk: &MemoryDisk) -> Opened {
    let options = LogOptions {
        cluster: CLUSTER,
        group: GroupId::FIRST,
        segment_bytes: 64 << 10,
        max_record_bytes: 1 << 20,
        durability: Durability::Sync,
        wall_ms: 1_700_000_000_000,
        covered: Index::ZERO,
    };
    dledger::commitlog::open(disk.handle(), &group(), options).unwrap()
}

/// Appends entries of these terms behind the last one, the first of them with a payload of its own.
fn append(opened: &mut Opened, terms: &[u64], kind: Kind, payload: &[u8]) {
    let (mut last, mut end) = (opened.reader.last(), opened.reader.end());
    for term in terms {
        let mut record = Vec::new();
        last = last.next();
        frame(&mut record, EntryId::new(last, Term(*term)), end, LogTime(1_000), kind, 0, payload);
        end = end.plus(record.len() as u64);
        opened.writer.write(&WriteBatch { records: vec![record.into()], ..WriteBatch::default() }).unwrap();
    }
}

/// The directory of a stopped node: the membership in term 1, then entries of these terms, and a vote in `voted`.
fn survivor(id: u64, membership: &Membership, terms: &[u64], voted: u64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let lock = lock_data_dir(&*disk.handle(), Path::new(DATA)).unwrap();
    let spec: Vec<_> = membership.members().map(|member| format!("{}={}", member.id, member.address)).collect();
    let identity = Identity {
        node: NodeId(id),
        incarnation: Incarnation(100 + id),
        cluster: Some(CLUSTER),
        epoch: membership.epoch,
        joined: false,
        members: spec.join(",").parse().unwrap(),
    };
    store_identity(&*disk.handle(), Path::new(DATA), &identity).unwrap();
    let mut opened = open_log(&disk);
    let vote = Some(Vote { term: Term(voted), voted_for: NodeId(2) });
    opened.writer.write(&WriteBatch { vote, ..WriteBatch::default() }).unwrap();
    append(&mut opened, &[1], Kind::Membership, &membership.encode());
    append(&mut opened, terms, Kind::Data, b"acknowledged");
    opened.writer.close(Index(2)).unwrap();
    drop((opened, lock));
    disk
}

/// Every file with its bytes.
fn contents(disk: &MemoryDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let (disk, mut found, mut open) = (disk.handle(), Vec::new(), vec![PathBuf::from(DATA)]);
    while let Some(directory) = open.pop() {
        for name in disk.list(&directory).unwrap() {
            let path = directory.join(name);
            match disk.list(&path) {
                Ok(_names) => open.push(path),
                Err(_no_directory) => {
                    let file = disk.open(&path, dledger::env::OpenMode::Read).unwrap();
                    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
                    file.read_exact_at(&mut bytes, 0).unwrap();
                    found.push((path, bytes));
                }
            }
        }
    }
    found
}

fn examined(disk: &MemoryDisk) -> Examined {
    examine(&machine(disk), Path::new(DATA)).unwrap()
}

fn recover_with(disk: &MemoryDisk, others: &[&str]) -> Result<Recovered, RecoverError> {
    let others = others.iter().map(|text| text.parse::<Survivor>().unwrap()).collect();
    recover(&machine(disk), &RecoverOptions { data_dir: DATA.into(), others })
}

/// Refused, and not a byte was changed.
#[track_caller]
fn refused(disk: &MemoryDisk, others: &[&str]) -> RecoverError {
    let before = contents(disk);
    let refused = recover_with(disk, others).unwrap_err();
    assert!(contents(disk) == before, "{refused}");
    refused
}

#[track_caller]
fn assert_recovered(disk: &MemoryDisk, id: u64, was: &Examined) {
    let now = examined(disk);
    let expected = was.members.as_ref().unwrap().recovered_by(NodeId(id), now.epoch.draw).unwrap();
    assert_eq!((now.members.as_ref(), now.damage.as_ref()), (Some(&expected), None));
    assert_eq!(now.last.index, was.last.index.next(), "nothing before it is lost, nothing but it is new");
    assert!(now.last.term > was.last.term && now.last.term > was.vote.term, "{} after {was:?}", now.last);
    assert_eq!((now.vote.term, now.vote.voted_for), (now.last.term, NodeId(id)));
    let identity = load_identity(&*disk.handle(), Path::new(DATA)).unwrap().unwrap();
    assert_eq!((identity.epoch, identity.cluster), (now.epoch, Some(CLUSTER)));
    assert_eq!(identity.members.to_string(), format!("{id}={}", member(id).address));
}

#[test]
fn recover_examination_tells_what_the_survivors_are_compared_by_and_changes_nothing() {
    let disk = survivor(3, &members(3), &[1, 1, 4], 6);
    let before = contents(&disk);
    let found = examined(&disk);
    assert_eq!((found.node, found.cluster, found.epoch), (NodeId(3), CLUSTER, Epoch::FIRST));
    assert_eq!(found.members, Some(members(3)));
    assert_eq!((found.survivor().to_string(), found.committed, found.vote.term), ("3=4:4".into(), Index(2), Term(6)));
    assert_eq!((found.damage, found.snapshot), (None, None));
    assert!(contents(&disk) == before);
}

#[test]
fn recover_goes_on_with_the_best_survivor_and_no_other() {
    let (lagging, best) = (survivor(4, &members(5), &[1, 1], 3), survivor(5, &members(5), &[1, 1, 2], 2));
    let no = refused(&lagging, &["5=2:4"]);
    assert!(matches!(no, RecoverError::NotBest { better, .. } if better.id == NodeId(5)), "{no}");
    let was = examined(&best);
    let done = recover_with(&best, &["4=1:3"]).unwrap();
    assert_eq!((done.node, done.epoch.number, done.already), (NodeId(5), 2, false));
    assert_eq!((done.last, done.address), (EntryId::new(Index(5), Term(3)), member(5).address));
    assert_recovered(&best, 5, &was);
    assert_eq!(examined(&best).committed, done.last.index, "everything counts as committed");
}

#[test]
fn recover_of_a_longer_log_of_an_earlier_term_is_refused() {
    let longer = survivor(4, &members(5), &[1, 1, 1, 1, 1], 1);
    assert!(matches!(refused(&longer, &["5=2:3"]), RecoverError::NotBest { .. }));
}

#[test]
fn recover_among_equal_survivors_takes_the_lowest_number_alone() {
    let (four, five) = (survivor(4, &members(5), &[1, 2], 2), survivor(5, &members(5), &[1, 2], 2));
    assert!(matches!(refused(&five, &["4=2:3"]), RecoverError::NotBest { .. }));
    recover_with(&four, &["5=2:3"]).unwrap();
}

#[test]
fn recover_run_again_says_so_and_changes_nothing() {
    let disk = survivor(3, &members(3), &[1, 1], 9);
    let first = recover_with(&disk, &[]).unwrap();
    let before = contents(&disk);
    let again = recover_with(&disk, &[]).unwrap();
    assert_eq!(again, Recovered { already: true, ..first });
    assert!(contents(&disk) == before);
}

// Two survivors that an operator recovers both are two clusters: were they of one epoch, a third node could take entries of
// the one for entries of the other.
#[test]
fn recover_of_two_survivors_begins_two_epochs() {
    let epochs = [2, 3].map(|id| recover_with(&survivor(id, &members(3), &[1], 1), &[]).unwrap().epoch);
    assert_eq!(epochs.map(|epoch| epoch.number), [2, 2]);
    assert_ne!(epochs[0], epochs[1]);
}

#[test]
fn recover_of_a_recovered_cluster_that_lost_its_majority_again_begins_the_next_epoch() {
    let second = Membership { epoch: Epoch { number: 2, draw: 7 }, ..members(3) };
    let disk = survivor(1, &second, &[5, 5], 5);
    let was = examined(&disk);
    assert_eq!(recover_with(&disk, &[]).unwrap().epoch.number, 3);
    assert_recovered(&disk, 1, &was);
}

// A repair cuts the log of a recovered node back to the members of before. Recovered again, it drew an epoch of the number
// that its identity had already, and handshakes went on to name that of the identity: whom it left behind could connect.
#[test]
fn recover_of_a_log_that_was_cut_back_begins_an_epoch_later_than_that_of_the_identity() {
    let disk = survivor(1, &members(3), &[1], 1);
    let identity = || load_identity(&*disk.handle(), Path::new(DATA)).unwrap().unwrap();
    let used = Identity { epoch: Epoch { number: 2, draw: 7 }, ..identity() };
    store_identity(&*disk.handle(), Path::new(DATA), &used).unwrap();
    assert_eq!(recover_with(&disk, &[]).unwrap().epoch.number, 3);
    assert_eq!(Some(identity().epoch), examined(&disk).members.map(|members| members.epoch));
}

#[test]
fn recover_in_the_middle_of_a_change_of_members_leaves_nobody_else_a_member() {
    let joint = Membership {
        outgoing: vec![member(1), member(2), member(3)],
        learners: vec![member(5)],
        ..Membership::new(CLUSTER, vec![member(2), member(3), member(4)])
    };
    for id in [1, 5] {
        let disk = survivor(id, &joint, &[1], 1);
        let was = examined(&disk);
        recover_with(&disk, &[]).unwrap();
        assert_recovered(&disk, id, &was);
    }
}

#[test]
fn recover_is_refused_where_nothing_is_lost_or_the_survivors_do_not_fit() {
    let three = survivor(3, &members(3), &[1], 1);
    let no = refused(&three, &["1=1:1"]);
    assert!(matches!(no, RecoverError::NotLost { survivors: 2 }), "{no}");
    for (others, because) in
        [(&["3=1:2"][..], "is named twice"), (&["1=1:1", "1=1:1"], "is named twice"), (&["9=1:1"], "not a member")]
    {
        let no = refused(&three, others);
        assert!(matches!(no, RecoverError::Usage(_)) && no.to_string().contains(because), "{no}");
    }
    let alone = survivor(1, &members(1), &[1], 1);
    assert!(matches!(refused(&alone, &[]), RecoverError::Alone { .. }));
    let stranger = survivor(9, &members(3), &[1], 1);
    assert!(matches!(refused(&stranger, &[]), RecoverError::NotAMember { .. }));
}

#[test]
fn recover_of_a_log_with_a_hole_is_refused_and_names_it() {
    let disk = survivor(3, &members(3), &[1, 1, 1], 1);
    let (path, bytes) =
        contents(&disk).into_iter().find(|(path, _)| path.extension().is_some_and(|e| e == "seg")).unwrap();
    let place = bytes.windows(12).position(|window| window == b"acknowledged").unwrap();
    disk.flip_byte(&path, place as u64).unwrap();
    assert!(examined(&disk).damage.unwrap().contains("index 2"));
    let no = refused(&disk, &[]);
    assert!(matches!(no, RecoverError::Damaged { .. }) && no.to_string().contains("kvcli log repair"), "{no}");
}

#[test]
fn recover_of_a_directory_that_is_in_use_or_nobodys_or_never_formed_is_refused() {
    let disk = survivor(3, &members(3), &[1], 1);
    let lock = lock_data_dir(&*disk.handle(), Path::new(DATA)).unwrap();
    for outcome in [recover_with(&disk, &[]).map(drop), examine(&machine(&disk), Path::new(DATA)).map(drop)] {
        assert!(matches!(outcome, Err(RecoverError::Directory(OpenError::Locked { .. }))), "{outcome:?}");
    }
    drop(lock);
    let empty = MemoryDisk::new();
    assert!(matches!(recover_with(&empty, &[]), Err(RecoverError::Directory(OpenError::Io { .. }))));
    empty.handle().create_dir_all(Path::new(DATA)).unwrap();
    assert!(matches!(refused(&empty, &[]), RecoverError::NotFormed { .. }));
    empty.handle().create_dir_all(&Path::new(DATA).join("photos")).unwrap();
    assert!(matches!(refused(&empty, &[]), RecoverError::Directory(OpenError::Foreign { .. })));
    let unformed = MemoryDisk::new();
    drop(lock_data_dir(&*unformed.handle(), Path::new(DATA)).unwrap());
    let identity = load_identity(&*disk.handle(), Path::new(DATA)).unwrap().unwrap();
    let identity = Identity { cluster: None, epoch: Epoch::NONE, ..identity };
    store_identity(&*unformed.handle(), Path::new(DATA), &identity).unwrap();
    assert!(matches!(refused(&unformed, &[]), RecoverError::NotFormed { .. }));
}

/// A state of one item.
struct State;

impl Capture for State {
    fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        each(b"all of the state")
    }
}

/// The directory of a node whose install was cut off: the snapshot is durable, the log not yet reset.
fn cut_off_install(at: EntryId) -> MemoryDisk {
    let disk = survivor(3, &members(3), &[1, 1, 1], 5);
    let whose = SnapshotOptions { cluster: CLUSTER, group: GroupId::FIRST, chunk_bytes: 300 };
    let membership = (at.index.prev(), members(4).encode().into());
    let base = LogBase { entry: at, position: Position(9_000), time: LogTime(2_000), membership };
    SnapshotStore::open(disk.handle(), &group(), whose).unwrap().write(base, &State).unwrap();
    disk
}

#[test]
fn recover_of_a_snapshot_that_is_ahead_of_its_log_goes_on_behind_the_snapshot() {
    for at in [EntryId::new(Index(70), Term(4)), EntryId::new(Index(3), Term(4))] {
        let disk = cut_off_install(at);
        let was = examined(&disk);
        assert_eq!((was.last, was.members.clone()), (at, Some(members(4))), "nothing else in the log counts");
        assert_eq!(recover_with(&disk, &[]).unwrap().last, EntryId::new(at.index.next(), Term(6)));
        assert_recovered(&disk, 3, &was);
    }
}

/// Recovers with a power cut at a disk call. False when the call never came.
fn cut_at(disk: &MemoryDisk, call: u64, seed: u64) -> bool {
    let was = examined(disk);
    disk.cut_power_at(call);
    let struck = recover_with(disk, &[]).is_err();
    disk.cut_power_at(0);
    disk.power_cut(Fate::seeded(seed));
    let between = examined(disk);
    if between.last == was.last {
        assert!(struck, "cut at {call}: a recovery that was reported done was forgotten");
        assert_eq!((between.members.as_ref(), between.epoch), (was.members.as_ref(), Epoch::FIRST));
        assert!(between.damage.is_none(), "cut at {call}: {between:?}");
    } else {
        assert!(between.is_alone() && between.epoch.number == 2, "cut at {call}: {between:?}");
        let again = recover_with(disk, &[]).unwrap();
        assert!(again.already && again.epoch == between.epoch, "cut at {call}: a second recovery of one");
    }
    if between.last == was.last {
        recover_with(disk, &[]).unwrap_or_else(|error| panic!("cut at {call}: {error}"));
    }
    // The term may have been noted before the power went, and is then passed by the second attempt.
    assert_recovered(disk, 3, &was);
    struck
}

#[test]
fn recover_with_the_power_cut_at_any_disk_call_leaves_the_old_node_or_the_recovered_one() {
    let plain = survivor(3, &members(3), &[1, 1, 2], 7);
    let behind_its_snapshot = cut_off_install(EntryId::new(Index(70), Term(4)));
    for prepared in [plain, behind_its_snapshot] {
        let mut call = 1;
        while cut_at(&prepared.fork(), call, call) {
            call += 1;
        }
        assert!(call > 30, "only {call} disk calls were cut");
    }
}

// A crash between log and identity, and the operator starts the node as before instead of running the recovery again.
#[tokio::test]
async fn recover_that_came_as_far_as_the_log_is_completed_by_the_next_start() {
    let disk = survivor(3, &members(3), &[1, 1], 1);
    let old = load_identity(&*disk.handle(), Path::new(DATA)).unwrap().unwrap();
    let was = examined(&disk);
    recover_with(&disk, &[]).unwrap();
    store_identity(&*disk.handle(), Path::new(DATA), &old).unwrap();
    let config = |cluster: &str| {
        let mut config = Config::member(3, cluster, DATA).unwrap();
        config.listen = "127.0.0.1:0".to_owned();
        config
    };
    let before = config(&old.members.to_string());
    let node = Ledger::open_in(machine(&disk), before.clone()).await.unwrap();
    let appended = node.append("served").await.unwrap();
    assert!(appended.id.index > was.last.index.next() && node.status().epoch == 2, "{appended:?}");
    node.shutdown().await;
    let identity = load_identity(&*disk.handle(), Path::new(DATA)).unwrap().unwrap();
    assert_eq!((identity.epoch.number, identity.members.0.len()), (2, 1));
    let refused = Ledger::open_in(machine(&disk), before).await.unwrap_err().to_string();
    assert!(refused.contains("its cluster has the members `3="), "{refused}");
    let alone = Ledger::open_in(machine(&disk), config(&identity.members.to_string())).await.unwrap();
    assert_eq!(&alone.get(Index(2)).await.unwrap().payload[..], b"acknowledged");
    alone.shutdown().await;
}
