//! A state machine of your own: named counters, replicated, with linearizable reads and snapshots.
//!
//! ```text
//!   add("tea", 2) ──► an entry ──► committed ──► Counters::apply on every replica ──► the new count, to the caller
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dledger::Config;
use dledger::node::{Environment, Hooks, NodeHandle, Proposal};
use dledger::state_machine::{Applied, ApplyError, Capture, CaptureError, Entry, Restore, RestoreError, StateMachine};
use dledger::types::{EntryId, Kind, Role};
use imbl::OrdMap;

/// The counts by name. A clone shares the map, so that a snapshot costs nothing to begin.
type Counts = OrdMap<String, u64>;

/// The machine, and what readers on other threads see of it.
#[derive(Default)]
struct Counters {
    counts: Counts,
    published: Arc<Mutex<Counts>>,
}

impl StateMachine for Counters {
    type Capture = Items;
    type Restore = Items;

    fn apply(&mut self, entry: &Entry) -> Result<Applied, ApplyError> {
        if entry.kind != Kind::Data {
            return Ok(Applied::Done(Bytes::new()));
        }
        // What this release does not know stops the machine; it is never skipped.
        let (name, amount) = decode(&entry.payload).ok_or_else(|| unknown(entry.id))?;
        let count = self.counts.entry(name).or_default();
        *count = count.saturating_add(amount);
        Ok(Applied::Done(Bytes::copy_from_slice(&count.to_le_bytes())))
    }

    fn resume(&mut self) -> Result<Applied, ApplyError> {
        Ok(Applied::Done(Bytes::new())) // never asked for: no entry takes two turns
    }

    fn publish(&mut self) -> Result<(), ApplyError> {
        self.show();
        Ok(())
    }

    fn capture(&self) -> Items {
        Items(self.counts.clone())
    }

    fn restore(&self) -> Items {
        Items::default()
    }

    fn install(&mut self, state: Items, _last: EntryId) -> Items {
        let before = std::mem::replace(&mut self.counts, state.0);
        self.show();
        Items(before)
    }
}

impl Counters {
    fn show(&self) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = self.counts.clone();
    }
}

/// The counts on their way into a snapshot, or out of one: an item for each, in the order of their names.
#[derive(Default)]
struct Items(Counts);

impl Capture for Items {
    fn items<E: From<CaptureError>>(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.0.iter().try_for_each(|(name, count)| each(&encode(name, *count)))
    }
}

impl Restore for Items {
    fn item(&mut self, item: &[u8]) -> Result<(), RestoreError> {
        let (name, count) = decode(item).ok_or_else(|| RestoreError("not a counter".to_owned()))?;
        self.0.insert(name, count);
        Ok(())
    }
}

/// The version of commands and items, a number, and a name.
fn encode(name: &str, number: u64) -> Vec<u8> {
    [&[1][..], &number.to_le_bytes(), name.as_bytes()].concat()
}

fn decode(bytes: &[u8]) -> Option<(String, u64)> {
    let (number, name) = bytes.strip_prefix(&[1])?.split_first_chunk::<8>()?;
    Some((String::from_utf8(name.to_vec()).ok()?, u64::from_le_bytes(*number)))
}

fn unknown(id: EntryId) -> ApplyError {
    ApplyError { id, reason: "not a command that this release knows".to_owned() }
}

/// A replica of the counters inside this process.
struct Replica {
    node: NodeHandle,
    published: Arc<Mutex<Counts>>,
}

const WAIT: Duration = Duration::from_secs(5);
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

impl Replica {
    async fn open(config: Config) -> Outcome<Self> {
        let machine = Counters::default();
        let published = Arc::clone(&machine.published);
        let node = NodeHandle::start(Environment::real(), config, machine, Hooks::none()).await?;
        Ok(Self { node, published })
    }

    /// Adds to a counter, once; the answer is the new count. Through any replica.
    async fn add(&self, name: &str, amount: u64) -> Outcome<u64> {
        let proposal = Proposal { channel: 0, payload: encode(name, amount).into(), reserve: false };
        let proposed = self.node.propose(vec![proposal], WAIT).await?;
        let answer = proposed.answers.first().and_then(|answer| answer.first_chunk::<8>()).ok_or("no answer")?;
        Ok(u64::from_le_bytes(*answer))
    }

    /// Reads a counter, with everything that was added anywhere before.
    async fn count(&self, name: &str) -> Outcome<u64> {
        self.node.read_index(WAIT).await?;
        let counts = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(counts.get(name).copied().unwrap_or_default())
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let cluster = "1=127.0.0.1:7221,2=127.0.0.1:7222,3=127.0.0.1:7223";
    let directory = tempfile::tempdir()?;
    let open = async |id: u64| Replica::open(Config::member(id, cluster, directory.path().join(id.to_string()))?).await;
    let (one, two, three) = tokio::try_join!(open(1), open(2), open(3))?;

    one.add("tea", 2).await?;
    println!("tea is {} after the second cup", two.add("tea", 1).await?);
    assert_eq!(three.count("tea").await?, 3);

    // A follower writes its state down and starts again from there. What is on its way to a leader that stops would have
    // an unknown outcome.
    let mut replicas = [one, two, three];
    replicas.sort_by_key(|replica| replica.node.status().role == Role::Leader);
    let [follower, other, leader] = replicas;
    let (id, snapshot) = (follower.node.config().id, follower.node.snapshot().await?);
    follower.node.shutdown().await;
    other.add("coffee", 1).await?;
    let follower = open(id.get()).await?;
    assert_eq!((follower.count("tea").await?, follower.count("coffee").await?), (3, 1));
    println!("node {id} goes on behind its snapshot of entry {}", snapshot.index);
    for replica in [follower, other, leader] {
        replica.node.shutdown().await;
    }
    Ok(())
}
