//! Ten thousand requests of all kinds at once, from two hundred connections: each is answered, none is lost.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use dledger::client::{Client, ClientOptions};
use dledger::config::Config;
use dledger::kv::{Consistency, Kv, KvStore, Scan, WatchOptions};
use tempfile::TempDir;
use tokio::task::JoinSet;

const CLIENTS: u64 = 200;
/// Of each client, so many of every kind but watches.
const ROUNDS: u64 = 8;
/// Watches of each client: with the other six kinds, fifty requests.
const WATCHES: u64 = 2;
const TIMEOUT: Duration = Duration::from_secs(120);

async fn start(nodes: u64) -> (Vec<KvStore>, Vec<String>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let listeners: Vec<_> = (0..nodes).map(|_node| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> = listeners.iter().map(|it| it.local_addr().unwrap().to_string()).collect();
    drop(listeners);
    let members: Vec<String> = (1..).zip(&addresses).map(|(id, address)| format!("{id}={address}")).collect();
    let mut stores = Vec::new();
    for id in 1..=nodes {
        let path = directory.path().join(id.to_string());
        let config = Config::member(id, &members.join(","), path).unwrap();
        // The load is the point here, and no leader is to be deposed by a machine that has more to do than it can.
        let config = Config { heartbeat: TIMEOUT / 400, election_timeout: TIMEOUT / 40, ..config };
        stores.push(KvStore::open(config).await.unwrap());
    }
    (stores, addresses, directory)
}

fn key(text: String) -> Bytes {
    text.into()
}

/// Starts one request of every kind but a watch. Those of all clients are under way together.
fn begin(all: &mut JoinSet<()>, client: &Client, number: u64, round: u64) {
    let name = format!("{number:03}/{round}");
    let spawn = |all: &mut JoinSet<()>, task: futures_util::future::BoxFuture<'static, ()>| {
        all.spawn(task);
    };
    let (it, put) = (client.clone(), key(format!("put/{name}")));
    spawn(
        all,
        Box::pin(async move {
            it.put(put, Bytes::from_static(b"v")).await.unwrap();
        }),
    );
    let it = client.clone();
    spawn(
        all,
        Box::pin(async move {
            it.get(key("seed".to_owned()), Consistency::Linearizable).await.unwrap();
        }),
    );
    let (it, ten) = (client.clone(), Scan { limit: Some(10), ..Scan::prefix("put/") });
    spawn(
        all,
        Box::pin(async move {
            it.scan(ten, Consistency::Linearizable).await.unwrap();
        }),
    );
    let (it, cas) = (client.clone(), key(format!("cas/{name}")));
    spawn(
        all,
        Box::pin(async move { assert!(it.put_if_absent(cas, Bytes::from_static(b"v")).await.unwrap().is_some()) }),
    );
    let it = client.clone();
    spawn(
        all,
        Box::pin(async move {
            it.increment(key("sum".to_owned()), 1).await.unwrap();
        }),
    );
    let it = client.clone();
    spawn(
        all,
        Box::pin(async move {
            let lease = it.grant_lease(TIMEOUT).await.unwrap();
            assert_eq!(it.keep_alive(lease).await.unwrap(), TIMEOUT);
        }),
    );
}

/// Starts a watch, which ends with the first change that it is told.
fn begin_watch(all: &mut JoinSet<()>, client: &Client) {
    let mut watch = client.watch(WatchOptions::key("last"));
    all.spawn(async move {
        watch.begin().await.unwrap();
        assert_eq!(watch.next().await.unwrap().events.len(), 1);
    });
}

async fn load(nodes: u64) {
    let (stores, addresses, _directory) = start(nodes).await;
    stores[0].with_timeout(TIMEOUT).put("seed", "v").await.unwrap();
    let client = |number: u64| {
        let mut endpoints = addresses.clone();
        endpoints.rotate_left((number % nodes) as usize);
        Client::new(ClientOptions { endpoints, timeout: TIMEOUT, cluster: None }).unwrap()
    };
    let clients: Vec<Client> = (0..CLIENTS).map(client).collect();
    let mut all = JoinSet::new();
    for round in 0..ROUNDS {
        for (number, client) in (0..).zip(&clients) {
            begin(&mut all, client, number, round);
        }
    }
    for client in clients.iter().flat_map(|client| [client; WATCHES as usize]) {
        begin_watch(&mut all, client);
    }
    // The watches hear of this one, over and over until each has begun and heard.
    let (watchers, last) = ((CLIENTS * WATCHES) as usize, clients[0].clone());
    let end = tokio::time::Instant::now() + 2 * TIMEOUT;
    while !all.is_empty() {
        while let Some(done) = all.try_join_next() {
            done.unwrap();
        }
        if all.len() <= watchers {
            last.put(key("last".to_owned()), Bytes::from_static(b"v")).await.unwrap();
        }
        assert!(tokio::time::Instant::now() < end, "{} still wait", all.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let writes = CLIENTS * ROUNDS;
    let count = |prefix| Scan { count_only: true, ..Scan::prefix(prefix) };
    for prefix in ["put/", "cas/"] {
        assert_eq!(last.scan(count(prefix), Consistency::Linearizable).await.unwrap().count, writes, "{prefix}");
    }
    let sum = last.get(key("sum".to_owned()), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!(sum.value, writes.to_string());
    assert_eq!(last.leases().await.unwrap().len() as u64, writes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_of_ten_thousand_mixed_requests_on_one_node_loses_none() {
    load(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_of_ten_thousand_mixed_requests_on_three_nodes_loses_none() {
    load(3).await;
}
