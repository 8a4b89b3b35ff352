//! Recovery from one survivor, with real nodes: what it serves, and what becomes of those that come back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test ends by panicking")]

mod replica_support;

use std::time::Duration;

use bytes::Bytes;
use dledger::ledger::{Ledger, is_appended};
use dledger::node::Environment;
use dledger::node::recover::{Examined, RecoverError, RecoverOptions, Survivor, examine, recover};
use dledger::transport::handshake::{self, Answer, Hello, PREFIX_BYTES, PeerHello};
use dledger::transport::{Channel, RefusalCode};
use dledger::types::{ClusterId, Epoch, Incarnation, Index, NodeId};
use dledger::{Config, Consistency, KvStore, Scan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than any election here takes.
const LONG: Duration = Duration::from_secs(20);

async fn open(config: &Config) -> KvStore {
    KvStore::open(config.clone()).await.unwrap().with_timeout(LONG)
}

async fn put_all(store: &KvStore, name: &str) {
    for number in 0..20 {
        store.put(format!("{name}-{number:02}"), "value").await.unwrap();
    }
}

async fn count(store: &KvStore, prefix: &'static str) -> usize {
    store.scan(Scan::prefix(prefix), Consistency::Linearizable).await.unwrap().items.len()
}

fn examined(config: &Config) -> Examined {
    examine(&Environment::real(), &config.data_dir).unwrap()
}

fn recover_with(config: &Config, others: &[Survivor]) -> Result<dledger::node::recover::Recovered, RecoverError> {
    let options = RecoverOptions { data_dir: config.data_dir.clone(), others: others.to_vec() };
    recover(&Environment::real(), &options)
}

/// The configuration of a node that was recovered.
fn alone(config: &Config) -> Config {
    Config::member(config.id.get(), &format!("{}={}", config.id, config.listen), &config.data_dir).unwrap()
}

/// What a node answers to a peer that says this of itself.
async fn answer(address: &str, cluster: ClusterId, epoch: Epoch, (from, to): (u64, u64)) -> Answer {
    let hello = Hello::Peer(PeerHello {
        cluster: Some(cluster),
        epoch,
        node: NodeId(from),
        incarnation: Incarnation(4711),
        receiver: NodeId(to),
        channel: Channel::Control,
        record_version: 1,
        command_version: 1,
        max_frame_bytes: 1 << 20,
    });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(&handshake::encode_hello(&hello)).await.unwrap();
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await.unwrap();
    let prefix = handshake::read_prefix(&prefix).unwrap();
    let mut content = vec![0; prefix.length];
    stream.read_exact(&mut content).await.unwrap();
    handshake::decode_answer(prefix, &content).unwrap()
}

#[track_caller]
fn assert_refused_by_epoch(answer: &Answer, left_behind: u64) {
    let Answer::Refusal(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.code, RefusalCode::Epoch);
    let told = format!("this cluster was recovered (epoch 2) without node {left_behind}");
    assert!(refusal.text.contains(&told), "{refusal}");
}

/// Five nodes, of which three are lost for good; of the two survivors one lags. Then the three come back.
#[tokio::test(flavor = "multi_thread")]
async fn recover_serves_all_that_a_survivor_had_and_refuses_the_old_majority_when_it_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let configs = replica_support::members(directory.path(), 5);
    let mut stores = Vec::new();
    for config in &configs {
        stores.push(open(config).await);
    }
    put_all(&stores[0], "early").await;
    stores.pop().unwrap().shutdown().await;
    put_all(&stores[3], "late").await;
    for store in &stores {
        store.shutdown().await;
    }
    drop(stores);

    let (best, lagging) = (examined(&configs[3]), examined(&configs[4]));
    assert!(best.survivor().is_better_than(lagging.survivor()), "{best:?} {lagging:?}");
    let refused = recover_with(&configs[4], &[best.survivor()]).unwrap_err();
    assert!(matches!(refused, RecoverError::NotBest { better, .. } if better.id == NodeId(4)), "{refused}");
    let done = recover_with(&configs[3], &[lagging.survivor()]).unwrap();
    assert_eq!((done.node, done.epoch.number), (NodeId(4), 2));

    let recovered = open(&alone(&configs[3])).await;
    assert_eq!((count(&recovered, "early").await, count(&recovered, "late").await), (20, 20));
    recovered.put("new", "1").await.unwrap();

    // The three that were lost, a majority of the five, and the survivor that lagged.
    let mut old = Vec::new();
    for place in [0, 1, 2, 4] {
        old.push(open(&configs[place]).await);
    }
    old[0].put("old", "1").await.unwrap();
    assert_eq!((count(&old[3], "old").await, count(&old[0], "new").await), (1, 0));
    assert_eq!(count(&recovered, "old").await, 0);
    let (now, then) = (recovered.status(), old[0].status());
    assert_eq!((now.epoch, now.leader, then.epoch), (2, Some(NodeId(4)), 1));
    assert!(then.leader.is_some_and(|leader| leader != NodeId(4)));
    assert_eq!(now.cluster, then.cluster, "only the epoch tells them apart");

    // Whoever asks is told, on either side.
    let cluster = now.cluster.unwrap();
    let behind = answer(&configs[3].listen, cluster, Epoch::FIRST, (1, 4)).await;
    assert_refused_by_epoch(&behind, 1);
    let ahead = answer(&configs[4].listen, cluster, done.epoch, (4, 5)).await;
    assert_refused_by_epoch(&ahead, 5);
    let term = recovered.status().term;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!((recovered.status().term, recovered.status().leader), (term, Some(NodeId(4))), "nobody deposes it");
    for store in old.iter().chain([&recovered]) {
        store.shutdown().await;
    }
}

/// One of three is left, of a log without a state machine.
#[tokio::test(flavor = "multi_thread")]
async fn recover_of_a_bare_ledger_keeps_every_entry_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let configs = replica_support::members(directory.path(), 3);
    let mut ledgers = Vec::new();
    for config in &configs {
        ledgers.push(Ledger::open(config.clone()).await.unwrap().with_timeout(LONG));
    }
    let mut appended = Vec::new();
    for number in 0..30 {
        appended.push(ledgers[2].append(format!("entry {number}")).await.unwrap());
    }
    for ledger in &ledgers {
        ledger.shutdown().await;
    }
    drop(ledgers);
    recover_with(&configs[2], &[]).unwrap();
    let ledger = Ledger::open(alone(&configs[2])).await.unwrap().with_timeout(LONG);
    let next = ledger.append("next").await.unwrap();
    for (number, place) in appended.iter().enumerate() {
        let entry = ledger.get(place.id.index).await.unwrap();
        assert_eq!((entry.payload, entry.id), (Bytes::from(format!("entry {number}")), place.id));
    }
    let entries = ledger.read(Index(1), 1 << 20).await.unwrap();
    assert_eq!(entries.iter().filter(|entry| is_appended(entry)).count(), 31);
    assert!(next.position > appended[29].position && ledger.status().epoch == 2);
    ledger.shutdown().await;
}
