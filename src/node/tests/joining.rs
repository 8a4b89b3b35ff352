//! The directory of a node that joins a cluster, and what a directory knows of the members once they have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Hand, machine};
use super::recorder::Recorder;
use crate::commitlog::layout::{VOTE_FILE, group_dir, log_dir};
use crate::commitlog::{WriteBatch, frame};
use crate::config::{Config, Members};
use crate::env::OpenMode;
use crate::env::memory::{Fate, MemoryDisk};
use crate::error::OpenError;
use crate::node::data_dir::{self, Recovered};
use crate::raft::{Change, Member, Membership};
use crate::simulation::plants::Plants;
use crate::types::{ClusterId, EntryId, Epoch, GroupId, Incarnation, Index, Kind, LogTime, NodeId, Term};

const CLUSTER: ClusterId = ClusterId(0xc1);

fn config() -> Config {
    let mut config = Config::joining(4, "n:1,n:2", "/data").unwrap();
    config.segment_bytes = 64 << 10;
    config
}

fn members() -> Members {
    "1=n:1,2=n:2,3=n:3,4=n:4".parse().unwrap()
}

/// Opens the directory and joins the cluster, unless that was done before; the answer is this life.
fn join(disk: &MemoryDisk, hand: &Arc<Hand>, seen: &mut Option<Incarnation>) -> Result<Incarnation, OpenError> {
    let (environment, config) = (machine(disk, hand), config());
    let mut directory = data_dir::open(&environment, &config, &Members::default())?;
    *seen = Some(directory.identity.incarnation);
    if directory.identity.cluster.is_none() {
        data_dir::join(&environment, &config, &mut directory, (CLUSTER, Epoch::FIRST), members())?;
    }
    Ok(directory.identity.incarnation)
}

fn recover(disk: &MemoryDisk, hand: &Arc<Hand>, config: &Config) -> Result<Recovered, OpenError> {
    let environment = machine(disk, hand);
    let directory = data_dir::open(&environment, config, &config.cluster)?;
    data_dir::recover(&environment, config, &directory.identity, &mut Recorder::default(), Plants::NONE)
}

#[test]
fn joined_node_begins_with_an_empty_log_and_goes_on_with_it() {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    let life = join(&disk, &hand, &mut None).unwrap();
    for _start in 0..3 {
        let recovered = recover(&disk, &hand, &config()).unwrap();
        assert_eq!(recovered.opened.state.last, EntryId::ZERO);
        assert_eq!(join(&disk, &hand, &mut None).unwrap(), life, "it is the life that was admitted");
    }
}

/// Joins with a power cut at a disk call, and then until it works. False when the call never came.
fn cut_at(call: u64, seed: u64) -> bool {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    disk.cut_power_at(call);
    let mut announced = None;
    let struck = join(&disk, &hand, &mut announced).is_err();
    disk.cut_power_at(0);
    disk.power_cut(Fate::seeded(seed));
    let life = join(&disk, &hand, &mut None).unwrap_or_else(|error| panic!("cut at {call}: {error}"));
    assert!(announced.is_none_or(|announced| announced == life), "cut at {call}: another life than was admitted");
    let recovered = recover(&disk, &hand, &config()).unwrap_or_else(|error| panic!("cut at {call}: {error}"));
    assert_eq!(recovered.opened.state.last, EntryId::ZERO, "cut at {call}");
    struck
}

#[test]
fn joining_node_after_a_power_cut_at_any_disk_call_is_nobody_or_the_member_that_was_admitted() {
    let mut call = 1;
    while (0..3).map(|seed| cut_at(call, call * 3 + seed)).fold(false, |any, struck| any | struck) {
        call += 1;
    }
    assert!(call > 25, "only {call} disk calls were cut");
}

#[test]
fn joined_node_whose_log_is_gone_is_refused_at_every_start() {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    join(&disk, &hand, &mut None).unwrap();
    let group = group_dir(Path::new("/data"), GroupId::FIRST);
    let log = log_dir(&group);
    for name in disk.handle().list(&log).unwrap() {
        disk.handle().remove(&log.join(name)).unwrap();
    }
    let refused = || recover(&disk, &hand, &config()).err();
    assert!(matches!(refused(), Some(OpenError::LostSegment { .. })), "{:?}", refused());
    disk.handle().remove(&group.join(VOTE_FILE)).unwrap();
    for _start in 0..2 {
        assert!(matches!(refused(), Some(OpenError::LostSegment { .. })), "{:?}", refused());
    }
}

#[test]
fn joined_directory_goes_on_with_join_or_its_members_and_refuses_others() {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    join(&disk, &hand, &mut None).unwrap();
    let of = |cluster: &str| Config { cluster: cluster.parse().unwrap(), join: "".parse().unwrap(), ..config() };
    recover(&disk, &hand, &Config { join: "elsewhere:1".parse().unwrap(), ..config() }).unwrap();
    recover(&disk, &hand, &of("1=n:1,2=n:2,3=n:3,4=n:4")).unwrap();
    for other in ["1=n:1,4=n:4", "4=n:4"] {
        assert!(matches!(recover(&disk, &hand, &of(other)), Err(OpenError::Identity { .. })), "{other}");
    }
}

/// Members `1..=count`, all voting.
fn cluster_of(count: u64) -> Membership {
    let member = |id| Member { id: NodeId(id), incarnation: Incarnation(id), address: format!("n:{id}") };
    Membership::new(CLUSTER, (1..=count).map(member).collect())
}

/// A directory of node 1 that formed a cluster of so many, whose log says that they are others by now, and in which one
/// record is bad.
fn damaged(formed: u64, now: &Membership) -> (MemoryDisk, Arc<Hand>, Config) {
    let (disk, hand, config, segment) = written(formed, now);
    let file = disk.handle().open(&segment, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let place = bytes.windows(4).position(|window| window == b"rots").unwrap();
    disk.flip_byte(&segment, place as u64).unwrap();
    (disk, hand, config)
}

/// The same with all records, and the segment that holds them.
fn written(formed: u64, now: &Membership) -> (MemoryDisk, Arc<Hand>, Config, PathBuf) {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    let mut directory = {
        let flags: Vec<String> = (1..=formed).map(|id| format!("{id}=n:{id}")).collect();
        Config::member(1, &flags.join(","), "/data").unwrap()
    };
    directory.segment_bytes = 64 << 10;
    let config = directory;
    let environment = machine(&disk, &hand);
    let mut directory = data_dir::open(&environment, &config, &config.cluster).unwrap();
    let mut formation = data_dir::formation(&directory, &config, config.cluster.clone());
    for id in 2..=formed {
        formation.hello(NodeId(id), Incarnation(id), &config.cluster.to_string(), None, Duration::ZERO).unwrap();
    }
    let genesis = formation.mint(CLUSTER.0, LogTime(5)).unwrap();
    data_dir::adopt(&environment, &config, &mut directory, &genesis).unwrap();
    let mut recovered =
        data_dir::recover(&environment, &config, &directory.identity, &mut Recorder::default(), Plants::NONE).unwrap();
    let mut records = Vec::new();
    let mut end = recovered.opened.state.end;
    for (index, kind, payload) in [(2, Kind::Data, b"rots".to_vec()), (3, Kind::Membership, now.encode())] {
        let mut record = Vec::new();
        frame(&mut record, EntryId::new(Index(index), Term(1)), end, LogTime(index), kind, 0, &payload);
        end = end.plus(record.len() as u64);
        records.push(Bytes::from(record));
    }
    let writer = &mut recovered.opened.writer;
    writer.write(&WriteBatch { records, ..WriteBatch::default() }).unwrap();
    writer.flush().unwrap();
    writer.idle(Index(3)).unwrap();
    drop(recovered);
    let log = log_dir(&group_dir(Path::new("/data"), GroupId::FIRST));
    let segment = disk.handle().list(&log).unwrap().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    (disk, hand, config, log.join(segment))
}

/// One voter and a learner.
fn with_learner() -> Membership {
    let learner = Member { id: NodeId(2), incarnation: Incarnation(2), address: "n:2".to_owned() };
    cluster_of(1).after(&Change::AddLearner { member: learner, promote: false }).unwrap()
}

/// A learner made the only voter take its doubt for one that an election settles. It elected itself, as everybody that
/// votes, wrote over what it had lost and acknowledged, and said nothing.
#[test]
fn doubt_is_refused_by_the_only_voter_whoever_else_has_its_log() {
    for (now, refused) in [(cluster_of(1), true), (with_learner(), true), (cluster_of(2), false)] {
        let (disk, hand, config, segment) = written(1, &now);
        for slot in [4096, 8192] {
            disk.flip_byte(&segment, slot).unwrap();
        }
        for _start in 0..2 {
            match recover(&disk, &hand, &config) {
                Ok(recovered) => assert!(!refused && recovered.opened.state.last_in_doubt.is_some(), "{now:?}"),
                Err(error) => assert!(refused && matches!(error, OpenError::Unmendable { .. }), "{now:?}: {error}"),
            }
        }
    }
}

#[test]
fn damage_is_left_to_the_peers_of_a_single_node_that_has_grown() {
    let (disk, hand, config) = damaged(1, &cluster_of(3));
    assert_eq!(recover(&disk, &hand, &config).unwrap().opened.state.holes.len(), 1);
    let (disk, hand, config) = damaged(1, &with_learner());
    assert_eq!(recover(&disk, &hand, &config).unwrap().opened.state.holes.len(), 1, "a learner has the record too");
}

#[test]
fn damage_is_refused_by_the_last_member_of_a_cluster_that_has_shrunk() {
    let (disk, hand, config) = damaged(3, &cluster_of(3));
    assert_eq!(recover(&disk, &hand, &config).unwrap().opened.state.holes.len(), 1);
    let (disk, hand, config) = damaged(3, &cluster_of(1));
    assert!(matches!(recover(&disk, &hand, &config), Err(OpenError::Unmendable { index: Index(2), .. })));
}
