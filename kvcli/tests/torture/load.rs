//! Clients at work while something is broken, and the history of what they were told.
//!
//! Every client reads, writes and deletes keys that all share, and adds keys of its own that nobody else writes. At the
//! end each node is looked at by itself: once all have applied the same, what they hold goes into the history as reads,
//! so that a lost write on a single node is a read that no order explains.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dledger::kv::Scan;
use dledger::{Client, ClientError, ClientOptions, Consistency};
use histories::{Answer, Call, Operation, Recorder};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::support::SOON;

/// Keys that all clients share. Few, so that operations meet; enough that the check is quick.
const SHARED_KEYS: u64 = 12;
/// What one operation of a client may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after an operation that failed: a client that cannot be served should not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// Pause after one that did not: enough of them happen, and the check has to read them all.
const AFTER_SUCCESS: Duration = Duration::from_millis(1);

/// A client of these nodes only. It learns of the others, and asks them when it has to.
pub(crate) fn client(endpoints: &[String], timeout: Duration) -> Client {
    Client::new(ClientOptions { endpoints: endpoints.to_vec(), timeout, cluster: None }).unwrap()
}

/// What is counted while clients are at work.
#[derive(Default)]
struct Shared {
    recorder: Recorder,
    /// How reads are asked for. Whichever it is, they must be linearizable.
    consistency: Consistency,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
}

/// Clients at work.
pub(crate) struct Load {
    runtime: Runtime,
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    endpoints: Vec<String>,
}

impl Load {
    /// Starts `clients` clients. Each knows all endpoints and begins at another one.
    pub(crate) fn start(endpoints: &[String], clients: u64) -> Self {
        Self::start_within(None, endpoints, clients)
    }

    /// The same, with reads that go by the leader's lease.
    pub(crate) fn reading_by_lease(endpoints: &[String], clients: u64) -> Self {
        let builder = tokio::runtime::Builder::new_multi_thread();
        Self::start_on(builder, Consistency::Lease, endpoints, clients)
    }

    /// As [`Load::start`], on threads within a network namespace.
    pub(crate) fn start_within(namespace: Option<PathBuf>, endpoints: &[String], clients: u64) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(path) = namespace {
            builder.on_thread_start(move || {
                let namespace = File::open(&path).unwrap();
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
                    .unwrap();
            });
        }
        Self::start_on(builder, Consistency::Linearizable, endpoints, clients)
    }

    fn start_on(
        mut builder: tokio::runtime::Builder,
        consistency: Consistency,
        endpoints: &[String],
        clients: u64,
    ) -> Self {
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let shared = Arc::new(Shared { consistency, ..Shared::default() });
        let mut load = Self { runtime, shared, clients: Vec::new(), endpoints: endpoints.to_vec() };
        for number in 0..clients {
            let mut known = endpoints.to_vec();
            known.rotate_left(usize::try_from(number).unwrap() % endpoints.len());
            let work = work(number, Arc::clone(&load.shared), known);
            let client = load.runtime.spawn(work);
            load.clients.push(client);
        }
        load
    }

    /// Writes that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more writes are acknowledged than now. Answers how long the first of them took.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: u64) -> Duration {
        let (begun, before) = (Instant::now(), self.acknowledged());
        let mut first = None;
        loop {
            let now = self.acknowledged();
            if now > before {
                first.get_or_insert_with(|| begun.elapsed());
            }
            if now >= before + more {
                return first.unwrap_or_default();
            }
            assert!(begun.elapsed() < SOON, "{} of {more} writes were acknowledged in {SOON:?}", now - before);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends `count` reads of shared keys through `client`, all at once. They are part of the history, answered or not.
    pub(crate) fn read_at_once(&self, client: &Client, count: u64) -> Vec<JoinHandle<bool>> {
        let read = |number| {
            let (shared, client) = (Arc::clone(&self.shared), client.clone());
            self.runtime.spawn(async move { read(&shared, 1_000 + number, &client, shared_key(number)).await })
        };
        (0..count).map(read).collect()
    }

    /// Waits for reads. Answers how many of them were answered.
    pub(crate) fn answered(&self, reads: Vec<JoinHandle<bool>>) -> usize {
        let all = reads.into_iter().map(|read| self.runtime.block_on(read).unwrap());
        all.filter(|answered| *answered).count()
    }

    /// A client within the load's own runtime.
    pub(crate) fn client(&self, endpoints: &[String], timeout: Duration) -> Client {
        let _within = self.runtime.enter();
        client(endpoints, timeout)
    }

    /// Runs to the end within the load's own runtime.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.block_on(self.runtime.spawn(work)).unwrap()
    }

    /// Ends the clients, looks at every node by itself, and checks the history.
    #[track_caller]
    pub(crate) fn finish(self) -> Outcome {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            self.runtime.block_on(client).unwrap();
        }
        let (shared, endpoints) = (Arc::clone(&self.shared), self.endpoints.clone());
        self.runtime.block_on(self.runtime.spawn(async move { look_at_each(&shared, &endpoints).await })).unwrap();
        let history = self.shared.recorder.history();
        let checked = histories::check(&history).unwrap_or_else(|wrong| panic!("{wrong}"));
        let outcome = Outcome {
            acknowledged: self.shared.acknowledged.load(Ordering::SeqCst),
            unknown: self.shared.unknown.load(Ordering::SeqCst),
            checked: checked.operations,
        };
        println!(
            "{} writes acknowledged, {} of unknown outcome, {} operations checked",
            outcome.acknowledged, outcome.unknown, outcome.checked
        );
        outcome
    }
}

/// What clients saw, once it was found to be linearizable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) checked: usize,
}

fn shared_key(number: u64) -> String {
    format!("shared-{}", number % SHARED_KEYS)
}

/// One client. It repeats itself from its number; what it meets does not.
async fn work(number: u64, shared: Arc<Shared>, endpoints: Vec<String>) {
    // Every other one sends a write again under its number. The rest do not, so that some outcomes are unknown: it shows
    // that something was under way when something broke, and a write that may have been done is part of the history.
    let numbered = client(&endpoints, TIMEOUT);
    let client = if number.is_multiple_of(2) { numbered } else { numbered.unnumbered() };
    let mut seed = number + 1;
    for turn in 0_u64.. {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // A linear congruential generator (Knuth's constants); its high bits are good enough to choose by.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (key, value) = (shared_key(seed >> 40), format!("{number}.{turn}"));
        let done = match (seed >> 33) % 10 {
            0..=3 => read(&shared, number, &client, key).await,
            4..=6 => put(&shared, number, &client, key, value).await,
            7 => delete(&shared, number, &client, key).await,
            _ => put(&shared, number, &client, format!("own-{number}/{turn}"), value).await,
        };
        tokio::time::sleep(if done { AFTER_SUCCESS } else { AFTER_FAILURE }).await;
    }
}

async fn read(shared: &Shared, number: u64, client: &Client, key: String) -> bool {
    let call = shared.recorder.invoke(number, key.as_bytes(), Call::Get);
    match client.get(Bytes::from(key), shared.consistency).await {
        Ok(found) => call.answered(Answer::Value(found.map(|pair| pair.value.to_vec()))),
        Err(ClientError::Unavailable(_)) => return false,
        Err(other) => panic!("a read ended with: {other}"),
    }
    true
}

async fn put(shared: &Shared, number: u64, client: &Client, key: String, value: String) -> bool {
    let call = shared.recorder.invoke(number, key.as_bytes(), Call::Put(value.clone().into_bytes()));
    let result = client.put(Bytes::from(key), Bytes::from(value)).await.map(|_revision| ());
    wrote(shared, call, result)
}

async fn delete(shared: &Shared, number: u64, client: &Client, key: String) -> bool {
    let call = shared.recorder.invoke(number, key.as_bytes(), Call::Delete);
    let result = client.delete(Bytes::from(key)).await.map(|_deleted| ());
    wrote(shared, call, result)
}

fn wrote(shared: &Shared, call: histories::Recorded<'_>, result: Result<(), ClientError>) -> bool {
    match result {
        Ok(()) => {
            call.answered(Answer::Done);
            shared.acknowledged.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        Err(ClientError::Unknown(_)) => {
            shared.unknown.fetch_add(1, Ordering::SeqCst);
        }
        // The client says that it certainly did not happen, and is taken by its word.
        Err(ClientError::Unavailable(_) | ClientError::Refused(_) | ClientError::DiskFull(_)) => call.refused(),
        Err(other) => panic!("a write ended with: {other}"),
    }
    false
}

/// Waits until all nodes have applied the same, and takes down what each of them holds. A write of unknown outcome may
/// still arrive meanwhile: then the nodes are looked at again.
async fn look_at_each(shared: &Shared, endpoints: &[String]) {
    let all = client(endpoints, SOON);
    let barrier = all.put(Bytes::from("barrier"), Bytes::from("1")).await.unwrap();
    let deadline = Instant::now() + SOON;
    let found = loop {
        let mut found = Vec::new();
        for endpoint in endpoints {
            found.push(look_at(endpoint).await);
        }
        let revisions: BTreeSet<_> = found.iter().flat_map(|(revisions, _pairs)| revisions).collect();
        if revisions.len() == 1 && revisions.iter().all(|revision| **revision >= barrier.get()) {
            break found;
        }
        assert!(Instant::now() < deadline, "the nodes do not come to the same: they are at {revisions:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let keys: BTreeSet<Vec<u8>> = shared.recorder.history().into_iter().map(|Operation { key, .. }| key).collect();
    for (number, (_revisions, pairs)) in found.iter().enumerate() {
        for key in &keys {
            let call = shared.recorder.invoke(2_000 + number as u64, key, Call::Get);
            call.answered(Answer::Value(pairs.get(key).cloned()));
        }
    }
}

/// What one node holds, and the revisions of the pages that told it.
async fn look_at(endpoint: &str) -> (Vec<u64>, BTreeMap<Vec<u8>, Vec<u8>>) {
    let client = client(&[endpoint.to_owned()], SOON);
    let (mut revisions, mut pairs, mut next) = (Vec::new(), BTreeMap::new(), Some(Scan::default()));
    while let Some(scan) = next {
        let page = client.scan(scan.clone(), Consistency::Stale).await.unwrap();
        revisions.push(page.revision.get());
        pairs.extend(page.items.iter().map(|item| (item.key.to_vec(), item.value.to_vec())));
        next = scan.after(&page);
    }
    (revisions, pairs)
}
