//! Nodes on file systems that are too small, by every size in small steps: so the room runs out at each file that a node
//! makes (identity, segment, vote, reserve, the next chunk, the next segment, its index).
//!
//! A node without room to start says so and ends; one that runs refuses writes and serves reads; both go on when there
//! is room, and neither is ever ended by a signal (a file that is shorter than its map would be SIGBUS).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dledger::{Client, ClientError, Consistency};
use tokio::runtime::Runtime;

use crate::load::{Load, client};
use crate::machine::{Tmpfs, in_parallel, or_skip};
use crate::process::{ConfigFile, Ended, Members, Process, member, single};
use crate::support::{Finished, SOON, eventually, free_ports, names, run};

const PAGE: u64 = 4 << 10;
/// Room for everything.
const ROOMY: u64 = 4 << 20;
/// A write that meets a full disk is refused at once; this is for busy machines.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Room for a few hundred writes of a cluster, the reserve, and the segments in use.
const FULL_UNDER_LOAD: u64 = 600 << 10;

/// Exit code of a node that does not start for lack of room, and of one that stops once it was ready.
const REFUSED: i32 = 4;
const STOPPED: i32 = 3;

/// Bytes of the values that fill a disk: less than a page, so that sizes a page apart differ.
const FILL_BYTES: usize = 3_000;

/// Asserts that a node ended with this code, said that there is no room, and what to do about it.
#[track_caller]
fn refused_for_room(ended: &Ended, code: i32, size: u64) {
    assert_eq!(ended.signal, None, "{size}: {ended:?}");
    assert_eq!(ended.code, Some(code), "{size}: {ended:?}");
    assert!(ended.stderr.contains("free some space and start again"), "{size}: {}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{size}: {}", ended.stderr);
}

/// One node and a client of it.
struct Single {
    disk: Tmpfs,
    address: String,
    config: ConfigFile,
    runtime: Runtime,
    client: Client,
}

impl Single {
    fn on(disk: Tmpfs) -> Self {
        let address = format!("127.0.0.1:{}", free_ports(1));
        let config = ConfigFile::small();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async { client(std::slice::from_ref(&address), TIMEOUT) });
        Self { disk, address, config, runtime, client }
    }

    fn start(&self) -> Result<Process, Ended> {
        Process::start(&mut single(&self.address, &self.disk.data_dir(), &self.config)).ready()
    }

    fn put(&self, key: &str, bytes: usize) -> Result<(), ClientError> {
        let put = self.client.put(Bytes::from(key.to_owned()), Bytes::from(vec![b'v'; bytes]));
        self.runtime.block_on(put).map(|_revision| ())
    }

    fn delete(&self, key: &str) -> Result<(), ClientError> {
        self.runtime.block_on(self.client.delete(Bytes::from(key.to_owned()))).map(|_deleted| ())
    }

    fn bytes_of(&self, key: &str) -> Option<usize> {
        let found = self.runtime.block_on(self.client.get(Bytes::from(key.to_owned()), Consistency::Linearizable));
        found.unwrap().map(|pair| pair.value.len())
    }

    /// Puts until it is acknowledged again, as nothing but room is lacking.
    #[track_caller]
    fn resumes(&self, size: u64) {
        let deadline = Instant::now() + SOON;
        while let Err(error) = self.put("resumed", 10) {
            assert!(matches!(error, ClientError::DiskFull(_)), "{size}: {error}");
            assert!(Instant::now() < deadline, "{size}: still refused: {error}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A file system with so many free pages, none included.
fn with_free_pages(pages: u64) -> Tmpfs {
    let disk = Tmpfs::mount((pages + 1) * PAGE).unwrap();
    // A size of zero would mean none at all. The file stands beside the data directory.
    std::fs::write(disk.path().join("filler"), vec![1; PAGE as usize]).unwrap();
    disk
}

/// The file that a refusal names.
fn named(ended: &Ended) -> String {
    let path = ended.stderr.split(" has no room").next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

#[test]
fn disk_full_at_the_start_is_refused_at_every_size_and_leaves_nothing_behind() {
    let Some(_works) = or_skip(Tmpfs::mount(ROOMY)) else { return };
    let (refused, started) = (Mutex::new(BTreeMap::new()), Mutex::new(0));
    in_parallel(0..72, |pages| {
        let node = Single::on(with_free_pages(pages));
        let process = node.start().or_else(|ended| {
            refused_for_room(&ended, REFUSED, pages);
            *refused.lock().unwrap().entry(named(&ended)).or_insert(0) += 1;
            node.disk.resize(ROOMY);
            node.start()
        });
        let process = process.unwrap_or_else(|ended| panic!("{pages}: does not start with room: {ended:?}"));
        *started.lock().unwrap() += 1;
        node.disk.resize(ROOMY);
        node.resumes(pages);
        assert_eq!(node.bytes_of("resumed"), Some(10), "{pages}");
        process.stop();
    });
    let refused = refused.into_inner().unwrap();
    println!("refused: {refused:?}");
    let sites: Vec<&str> = refused.keys().map(String::as_str).collect();
    assert_eq!(sites, ["genesis.tmp", "identity.tmp", "segment.tmp", "vote.tmp"], "the sizes do not meet every file");
}

#[test]
fn disk_full_on_one_node_while_a_cluster_forms_is_refused_and_it_forms_with_room() {
    let Some(_works) = or_skip(Tmpfs::mount(ROOMY)) else { return };
    let config = ConfigFile::small();
    in_parallel([0, 1, 8, 17, 19, 21, 24].into_iter(), |pages| {
        let (members, scratch) = (Members::on_loopback(3), tempfile::tempdir().unwrap());
        let others: Vec<Process> = (1..=2)
            .map(|id| Process::start(&mut member(id, &members.spec, &scratch.path().join(id.to_string()), &config)))
            .map(|process| process.ready().unwrap())
            .collect();
        let small = with_free_pages(pages);
        let start = || Process::start(&mut member(3, &members.spec, &small.data_dir(), &config)).ready();
        // Until it has met the others it only needs room for its identity; what forming needs, it finds out later.
        match start() {
            Ok(process) => refused_for_room(&process.ended(), STOPPED, pages),
            Err(ended) => refused_for_room(&ended, REFUSED, pages),
        }
        small.resize(ROOMY);
        let third = start().unwrap_or_else(|ended| panic!("{pages}: does not start with room: {ended:?}"));
        members.run(&["put", "a", "1"]).ended(0);
        others.into_iter().chain([third]).for_each(Process::stop);
    });
}

/// Puts values until one is refused. Answers how many were acknowledged.
fn fill(node: &Single, size: u64) -> usize {
    for number in 0..1_000 {
        match node.put(&format!("fill-{number}"), FILL_BYTES) {
            Ok(()) => {}
            Err(ClientError::DiskFull(_)) => return number,
            Err(other) => panic!("{size}: a write to a full disk ended with: {other}"),
        }
    }
    panic!("{size}: the disk does not become full");
}

#[test]
fn disk_full_under_writes_is_refused_at_every_size_while_reads_go_on_and_ends_with_room() {
    let Some(_works) = or_skip(Tmpfs::mount(ROOMY)) else { return };
    in_parallel((60..120).step_by(2), |pages| {
        let node = Single::on(with_free_pages(pages));
        let mut process = node.start().unwrap_or_else(|ended| panic!("{pages}: {ended:?}"));
        let written = fill(&node, pages);
        assert!(written > 0, "{pages}: nothing was written");
        let all_there = || (0..written).all(|number| node.bytes_of(&format!("fill-{number}")) == Some(FILL_BYTES));
        assert!(all_there(), "{pages}: an acknowledged write cannot be read on a full disk");
        // Deletes may use the reserve, which is how room is made.
        node.delete("fill-0").unwrap_or_else(|error| panic!("{pages}: a delete on a full disk: {error}"));
        assert_eq!(node.bytes_of("fill-0"), None, "{pages}");
        node.put("fill-0", FILL_BYTES).unwrap_err();
        // A start needs room for a vote file, and for what it writes anew.
        if pages % 4 == 0 {
            process.kill();
            process = node.start().unwrap_or_else(|ended| {
                refused_for_room(&ended, REFUSED, pages);
                node.disk.resize(ROOMY);
                node.start().unwrap_or_else(|ended| panic!("{pages}: does not start with room: {ended:?}"))
            });
        }
        assert!(process.is_running(), "{pages}: a full disk ended the node");
        node.disk.resize(ROOMY);
        node.resumes(pages);
        node.put("fill-0", FILL_BYTES).unwrap_or_else(|error| panic!("{pages}: {error}"));
        assert!(all_there(), "{pages}: an acknowledged write is lost");
        process.stop();
    });
}

/// Three nodes, each on a file system of its own.
struct Three {
    members: Members,
    disks: Vec<Tmpfs>,
    nodes: Vec<Option<Process>>,
    config: ConfigFile,
}

impl Three {
    fn start(sizes: [u64; 3]) -> Result<Self, String> {
        let disks = sizes.into_iter().map(Tmpfs::mount).collect::<Result<Vec<_>, String>>()?;
        let config = ConfigFile::small();
        let mut three = Self { members: Members::on_loopback(3), disks, nodes: Vec::new(), config };
        let nodes: Vec<_> = (0..3).map(|place| Some(three.node(place))).collect();
        three.nodes = nodes;
        Ok(three)
    }

    fn node(&self, place: usize) -> Process {
        let (id, data_dir) = (u16::try_from(place + 1).unwrap(), self.disks[place].data_dir());
        Process::start(&mut member(id, &self.members.spec, &data_dir, &self.config)).ready().unwrap()
    }

    /// Everything on this disk is taken.
    fn is_full(&self, place: usize) -> bool {
        rustix::fs::statvfs(self.disks[place].path()).unwrap().f_bavail < 8
    }

    fn stop(mut self) {
        assert!(self.nodes.iter_mut().flatten().all(Process::is_running), "a full disk ended a node");
        self.nodes.into_iter().flatten().for_each(Process::stop);
    }
}

#[test]
fn disk_full_on_all_nodes_under_load_leaves_reads_and_elections_and_ends_with_room() {
    let Some(mut three) = or_skip(Three::start([FULL_UNDER_LOAD; 3])) else { return };
    let load = Load::start(&three.members.addresses, 4);
    let client = load.client(&three.members.addresses, TIMEOUT);
    let put = || {
        let client = client.clone();
        load.run(async move { client.put(Bytes::from("big"), Bytes::from(vec![b'v'; FILL_BYTES])).await })
    };
    eventually("the leader's disk is full", || matches!(put(), Err(ClientError::DiskFull(_))).then_some(()));
    let get = || three.members.run(&["get", "big"]);
    get().ended(0);
    let refused = three.members.run(&["put", "big", "1"]).ended(4);
    assert!(refused.stderr.contains("free some space, service resumes by itself"), "{}", refused.stderr);
    let leader = three.members.leader();
    three.nodes[leader].take().unwrap().kill();
    let killed = Instant::now();
    three.members.run(&["get", "big"]).ended(0);
    println!("a read was answered {} ms after the leader of a full cluster was killed", killed.elapsed().as_millis());
    three.disks.iter().for_each(|disk| disk.resize(ROOMY));
    println!("a write was acknowledged {} ms after there was room", load.goes_on(50).as_millis());
    three.nodes[leader] = Some(three.node(leader));
    load.finish();
    three.stop();
}

#[test]
fn disk_full_on_one_follower_holds_nobody_up_and_it_catches_up_with_room() {
    let Some(mut three) = or_skip(Three::start([ROOMY, ROOMY, FULL_UNDER_LOAD])) else { return };
    // The small one must not lead: a full leader refuses writes.
    while three.members.leader() == 2 {
        three.nodes[2].take().unwrap().kill();
        three.members.run(&["put", "a", "1"]).ended(0);
        three.nodes[2] = Some(three.node(2));
    }
    let load = Load::start(&three.members.addresses, 4);
    let client = load.client(&three.members.addresses, TIMEOUT);
    for number in 0..FULL_UNDER_LOAD as usize * 2 / FILL_BYTES {
        let client = client.clone();
        let key = Bytes::from(format!("big-{number}"));
        load.run(async move { client.put(key, Bytes::from(vec![b'v'; FILL_BYTES])).await }).unwrap();
    }
    assert!(three.is_full(2), "the third disk has room left");
    load.goes_on(50);
    three.disks[2].resize(ROOMY);
    // It looks at every node, the third one too, and waits until all hold the same.
    load.finish();
    three.stop();
}

/// What `kvcli` says to a restore into a directory on a disk.
fn restore(file: &Path, disk: &Tmpfs, address: &str) -> Finished {
    let (file, data, spec) = (file.to_str().unwrap(), disk.data_dir(), format!("1={address}"));
    run(&["restore", file, "--data-dir", data.to_str().unwrap(), "--id", "1", "--cluster", &spec])
}

#[test]
fn disk_full_during_a_backup_or_a_restore_is_refused_and_leaves_nothing_that_is_in_the_way() {
    let Some(disk) = or_skip(Tmpfs::mount(ROOMY)) else { return };
    let node = Single::on(disk);
    let process = node.start().unwrap();
    (0..200).for_each(|number| node.put(&format!("key-{number}"), FILL_BYTES).unwrap());
    let (small, roomy) = (Tmpfs::mount(100 * PAGE).unwrap(), tempfile::tempdir().unwrap());
    let backup = |file: &Path| run(&["--endpoints", &node.address, "backup", file.to_str().unwrap()]);
    let refused = backup(&small.path().join("one.backup")).ended(REFUSED);
    assert!(refused.stderr.contains("no backup was made"), "{}", refused.stderr);
    assert_eq!(names(small.path()), [""; 0]);
    let file = roomy.path().join("one.backup");
    backup(&file).ended(0);
    drop(process);
    let bytes = std::fs::metadata(&file).unwrap().len();
    for pages in [2, 3, 5, 40] {
        small.resize(pages * PAGE);
        let refused = restore(&file, &small, &node.address).ended(REFUSED);
        assert!(refused.stderr.contains("has no room"), "{}", refused.stderr);
    }
    // Room for the copy, and none for the state that is made of it.
    small.resize(bytes + 20 * PAGE);
    restore(&file, &small, &node.address).ended(0);
    let started = Process::start(&mut single(&node.address, &small.data_dir(), &node.config)).ready();
    refused_for_room(&started.err().unwrap(), REFUSED, bytes);
    small.resize(ROOMY);
    let _process = Process::start(&mut single(&node.address, &small.data_dir(), &node.config)).ready().unwrap();
    let count = run(&["--endpoints", &node.address, "scan", "--count"]).ended(0).text();
    assert_eq!(count, "200\n");
}
