//! A machine that keeps its state on disk by itself: where a start begins with it, what it is fed, what the log does for it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Hand, machine};
use crate::commitlog::{frame, load_identity};
use crate::config::Config;
use crate::env::memory::MemoryDisk;
use crate::error::WriteError;
use crate::node::data_dir::{self, DataDir, Recovered};
use crate::node::effects::{Answer, Proposal, Ticket};
use crate::node::formation::{Formation, Genesis};
use crate::node::recover::{RecoverOptions, recover};
use crate::node::replica::Replica;
use crate::node::snapshot_worker::SnapshotOrder;
use crate::node::{Environment, replica_options};
use crate::raft::Membership;
use crate::raft::message::{Body, Message};
use crate::simulation::plants::Plants;
use crate::state_machine::{
    Applied, ApplyError, Capture, CaptureError, Entry, Restore, RestoreError, StateError, StateMachine,
};
use crate::transport::{PeerBody, PeerFrame};
use crate::types::{EntryId, Epoch, GroupId, Index, Kind, LogBase, LogTime, NodeId, Position, Term};

/// What the machine's own disk holds, over restarts, and what it was given in this life.
#[derive(Clone, Default)]
struct Keeper {
    held: Arc<Mutex<LogBase>>,
    given: Arc<Mutex<Vec<u64>>>,
    /// Its disk has no room.
    full: Arc<Mutex<bool>>,
}

impl StateMachine for Keeper {
    type Capture = Nothing;
    type Restore = Whole;

    fn on_disk(&self) -> bool {
        true
    }

    fn open(&mut self, directory: &Path) -> Result<LogBase, StateError> {
        assert!(directory.ends_with("groups/1/state"));
        Ok(self.held.lock().unwrap().clone())
    }

    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        self.given.lock().unwrap().push(entry.id.index.get());
        Ok(Applied::Done(Bytes::new()))
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        unreachable!()
    }

    fn publish(&mut self) -> Result<(), ApplyError> {
        let refused = ApplyError { id: EntryId::ZERO, reason: "no room".to_owned() };
        if *self.full.lock().unwrap() { Err(refused) } else { Ok(()) }
    }

    fn capture(&self) -> Nothing {
        Nothing
    }

    fn restore(&self) -> Whole {
        Whole::default()
    }

    fn install(&mut self, state: Whole, last: EntryId) -> Whole {
        assert_eq!(state.0.entry, last, "installed before it was whole");
        *self.held.lock().unwrap() = state.0;
        Whole::default()
    }
}

/// A state that is always the same.
struct Nothing;

impl Capture for Nothing {
    fn items<E: From<CaptureError>>(&self, _each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        Ok(())
    }
}

/// What a restored state was said to be of when it was whole.
#[derive(Default)]
struct Whole(LogBase);

impl Restore for Whole {
    fn item(&mut self, _item: &[u8]) -> Result<(), RestoreError> {
        unreachable!()
    }

    fn finish(&mut self, base: &LogBase) -> Result<(), RestoreError> {
        self.0 = base.clone();
        Ok(())
    }
}

/// A node with a disk that has formed with others, or alone.
struct Node {
    environment: Environment,
    config: Config,
    directory: DataDir,
    genesis: Genesis,
    keeper: Keeper,
}

/// Node `id` of a cluster of so many that has just formed.
fn formed(id: u64, count: u64) -> Node {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    let environment = machine(&disk, &hand);
    let members: Vec<String> = (1..=count).map(|id| format!("{id}=n:{id}")).collect();
    let config = Config::member(id, &members.join(","), "/data").unwrap();
    let mut directory = data_dir::open(&environment, &config, &config.cluster).unwrap();
    let mut formation = Formation::new(NodeId(1), directory.identity.incarnation, config.cluster.clone());
    for other in 2..=count {
        let incarnation = directory.identity.incarnation;
        formation.hello(NodeId(other), incarnation, &config.cluster.to_string(), None, Duration::ZERO).unwrap();
    }
    let genesis = formation.mint(7, LogTime(1000)).unwrap();
    data_dir::adopt(&environment, &config, &mut directory, &genesis).unwrap();
    Node { environment, config, directory, genesis, keeper: Keeper::default() }
}

impl Node {
    fn recover(&self) -> Recovered {
        let mut keeper = self.keeper.clone();
        data_dir::recover(&self.environment, &self.config, &self.directory.identity, &mut keeper, Plants::NONE).unwrap()
    }

    fn base(&self, index: u64, position: u64) -> LogBase {
        let membership = (Index(1), Bytes::from(self.genesis.membership.encode()));
        let entry = EntryId::new(Index(index), Term(1));
        LogBase { entry, position: Position(position), time: LogTime(1000), membership }
    }

    fn replica(&self, recovered: Recovered) -> (Replica<Keeper>, crate::commitlog::LogWriter) {
        let Recovered { opened, base, kept, genesis, .. } = recovered;
        let options = replica_options(&self.config, 1);
        let parts = (self.keeper.clone(), &base, kept);
        let now = self.environment.clock.monotonic();
        let replica = Replica::open(options, &opened.state, opened.reader, parts, genesis, now).unwrap();
        (replica, opened.writer)
    }
}

#[test]
fn on_disk_state_further_than_any_snapshot_is_where_a_start_begins() {
    let node = formed(1, 1);
    let end = node.recover().opened.state.end;
    *node.keeper.held.lock().unwrap() = node.base(1, end.get());
    let recovered = node.recover();
    assert_eq!((recovered.base, recovered.opened.state.base), (node.base(1, end.get()), EntryId::ZERO));
}

#[test]
fn on_disk_state_ahead_of_the_log_makes_the_log_go_on_behind_it_and_a_snapshot_follows() {
    let node = formed(1, 1);
    *node.keeper.held.lock().unwrap() = node.base(9, 5000);
    let recovered = node.recover();
    let state = &recovered.opened.state;
    let found = (&recovered.base, state.base.index, state.last.index, state.end);
    assert_eq!(found, (&node.base(9, 5000), Index(9), Index(9), Position(5000)));
    assert_eq!(node.recover().opened.state.base.index, Index(9), "and so it is at the next start");
    let (mut replica, _writer) = node.replica(recovered);
    replica.end_turn(node.environment.clock.monotonic());
    let orders = replica.take_snapshot_orders();
    let base = node.base(9, 5000);
    let taken = orders
        .iter()
        .find_map(|order| if let SnapshotOrder::Take { base, keep, .. } = order { Some((base, *keep)) } else { None });
    assert_eq!(taken, Some((&base, 1)), "nobody else could be helped with what only this machine has");
}

#[test]
fn on_disk_state_behind_a_snapshot_is_replaced_by_it() {
    let node = formed(1, 1);
    let mut recovered = node.recover();
    recovered.store.begin(node.base(5, 900)).unwrap().finish().unwrap();
    drop(recovered);
    *node.keeper.held.lock().unwrap() = node.base(3, 600);
    let recovered = node.recover();
    assert_eq!((recovered.base, node.keeper.held.lock().unwrap().clone()), (node.base(5, 900), node.base(5, 900)));
    *node.keeper.held.lock().unwrap() = node.base(6, 1100);
    assert_eq!(node.recover().base, node.base(6, 1100), "and not once it is further");
}

#[test]
fn on_disk_machine_is_fed_only_what_the_log_of_this_node_has_durable() {
    let node = formed(2, 3);
    let recovered = node.recover();
    let end = recovered.opened.state.end;
    let (mut replica, mut writer) = node.replica(recovered);
    let now = node.environment.clock.monotonic();
    let (mut record, id) = (Vec::new(), EntryId::new(Index(2), Term(2)));
    frame(&mut record, id, end, LogTime(1001), Kind::NoOp, 0, b"");
    let body = Body::Append { prev: node.genesis.id, commit: Index(2), base: Index(0) };
    let message = Message { from: NodeId(1), to: NodeId(2), term: Term(2), body };
    let frame = PeerFrame { group: GroupId::FIRST, body: PeerBody::Raft(message), attached: vec![record.into()] };
    replica.receive(now, NodeId(1), frame);
    let mut tasks = Vec::new();
    let mut turn = |replica: &mut Replica<Keeper>| {
        tasks.extend(replica.end_turn(now).disk);
        let order = replica.take_apply_order();
        order.into_iter().for_each(|order| replica.machine_back(now, order.perform()));
    };
    turn(&mut replica);
    turn(&mut replica);
    let given = || node.keeper.given.lock().unwrap().clone();
    assert_eq!((given(), replica.raft().committed()), (vec![1], Index(2)), "it is committed, but not on this disk");
    for task in std::mem::take(&mut tasks) {
        writer.write(&task.batch).unwrap();
        replica.disk_done(now, task.number);
    }
    replica.end_turn(now);
    let order = replica.take_apply_order().unwrap();
    replica.machine_back(now, order.perform());
    assert_eq!((given(), replica.applied().index), (vec![1, 2], Index(2)));
}

/// A leader whose machine had stopped for want of room took writes on, for nobody to be answered, and stayed in office.
/// Each part was tested by itself: the machine that stops, and the leader whose log is full.
#[test]
fn on_disk_machine_that_stops_turns_callers_away_with_the_reason() {
    let node = formed(1, 1);
    let (mut replica, mut writer) = node.replica(node.recover());
    let (mut now, mut answers) = (node.environment.clock.monotonic(), Vec::new());
    let mut turns = |replica: &mut Replica<Keeper>| {
        for _turn in 0..8 {
            now = now.after(node.config.election_timeout);
            replica.tick(now);
            let effects = replica.end_turn(now);
            answers.extend(effects.answers);
            for task in effects.disk {
                writer.write(&task.batch).unwrap();
                replica.disk_done(now, task.number);
            }
            let order = replica.take_apply_order();
            order.into_iter().for_each(|order| replica.machine_back(now, order.perform()));
        }
        std::mem::take(&mut answers)
    };
    let never = node.environment.clock.monotonic().after(Duration::from_secs(86_400));
    let proposal = || Proposal { channel: 0, payload: Bytes::from_static(b"x"), reserve: true };
    turns(&mut replica);
    replica.propose(Ticket(1), None, vec![proposal()], never);
    assert!(matches!(&turns(&mut replica)[..], [(Ticket(1), Answer::Write(Ok(_)))]));
    *node.keeper.full.lock().unwrap() = true;
    replica.propose(Ticket(2), None, vec![proposal()], never);
    let answers = turns(&mut replica);
    let [(Ticket(2), Answer::Write(Err(WriteError::Unknown(reason))))] = &answers[..] else { panic!("{answers:?}") };
    assert!(reason.contains("no room"), "{reason}");
    let last = replica.raft().last();
    replica.propose(Ticket(3), None, vec![proposal()], never);
    replica.read_index(Ticket(4), crate::raft::ReadBy::Round, never);
    let answers = turns(&mut replica);
    let [(Ticket(4), Answer::Read(Err(read))), (Ticket(3), Answer::Write(Err(WriteError::Unavailable(write))))] =
        &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert!(read.to_string().contains("no room") && write.contains("no room"), "{read}; {write}");
    assert_eq!(replica.raft().last(), last, "and nothing of it is in the log");
}

/// A state that was ahead of a log which had lost its end with the power, and was recovered, made the log start over behind it:
/// without a word the recovery was undone. Recovery was tested with the one kind of state that is never ahead.
#[test]
fn on_disk_state_ahead_of_a_recovered_log_is_refused_with_what_to_do() {
    let node = formed(1, 3);
    *node.keeper.held.lock().unwrap() = node.base(9, 5000);
    let Node { environment, config, directory, mut keeper, .. } = node;
    let held = Arc::clone(&keeper.held);
    drop(directory);
    let options = RecoverOptions { data_dir: config.data_dir.clone(), others: Vec::new() };
    recover(&environment, &options).unwrap();
    let identity = load_identity(&*environment.disk, &config.data_dir).unwrap().unwrap();
    let mut start = || data_dir::recover(&environment, &config, &identity, &mut keeper, Plants::NONE);
    let refused = start().err().unwrap().to_string();
    assert!(refused.contains("groups/1/state") && refused.contains("remove that directory"), "{refused}");
    *held.lock().unwrap() = LogBase::default();
    let recovered = start().unwrap();
    let (_index, members) = recovered.opened.state.memberships.last().unwrap();
    assert!(Membership::decode(members).unwrap().epoch.number > Epoch::FIRST.number, "the recovery is still there");
}
