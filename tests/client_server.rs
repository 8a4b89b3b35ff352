//! Clients of real nodes: three replicas in this process, each with its own log and sockets on loopback.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends by panicking")]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dledger::client::{Client, ClientError, ClientOptions, ImportOptions};
use dledger::config::Config;
use dledger::kv::recipes::Lock;
use dledger::kv::{Consistency, Kv, KvError, KvStore, Scan, Txn, TxnOp, WatchOptions};
use dledger::types::{ClusterId, NodeId, Role};
use tempfile::TempDir;
use tokio::sync::watch;

struct Cluster {
    configs: Vec<Config>,
    nodes: Vec<Option<KvStore>>,
    _directory: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = {
            let listeners: Vec<_> = (0..3).map(|_node| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
        };
        let members: Vec<String> =
            ports.iter().enumerate().map(|(at, port)| format!("{}=127.0.0.1:{port}", at + 1)).collect();
        let mut cluster = Self { configs: Vec::new(), nodes: Vec::new(), _directory: directory };
        for id in 1..=3 {
            let path = cluster._directory.path().join(id.to_string());
            let config = Config::member(id, &members.join(","), path).unwrap();
            cluster.nodes.push(Some(KvStore::open(config.clone()).await.unwrap()));
            cluster.configs.push(config);
        }
        cluster
    }

    fn endpoint(&self, id: u64) -> String {
        self.configs[id as usize - 1].listen.clone()
    }

    fn client(&self, endpoints: &[u64]) -> Client {
        self.client_with(endpoints, Duration::from_secs(20))
    }

    fn client_with(&self, endpoints: &[u64], timeout: Duration) -> Client {
        let endpoints = endpoints.iter().map(|id| self.endpoint(*id)).collect();
        Client::new(ClientOptions { endpoints, timeout, cluster: None }).unwrap()
    }

    /// The node that leads.
    async fn leader(&self) -> u64 {
        loop {
            for node in self.nodes.iter().flatten() {
                let status = node.status();
                if status.role == Role::Leader {
                    return status.id.get();
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(&mut self, id: u64) {
        if let Some(node) = self.nodes[id as usize - 1].take() {
            node.shutdown().await;
        }
    }

    async fn restart(&mut self, id: u64) {
        let config = self.configs[id as usize - 1].clone();
        self.nodes[id as usize - 1] = Some(KvStore::open(config).await.unwrap());
    }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Puts once more where an election in between leaves the outcome unknown: the same value again does no harm.
async fn put_until_known(client: &Client, name: &str, value: &Bytes) {
    let mut tries = 0;
    while let Err(error) = client.put(key(name), value.clone()).await {
        assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
        tries += 1;
        assert!(tries < 10, "{error:?}");
    }
}

/// Everything a client sees, page by page.
async fn content(client: &Client, consistency: Consistency) -> BTreeMap<Bytes, Bytes> {
    let mut content = BTreeMap::new();
    let mut scan = Some(Scan::default());
    while let Some(asked) = scan {
        let page = client.scan(asked.clone(), consistency).await.unwrap();
        content.extend(page.items.iter().map(|item| (item.key.clone(), item.value.clone())));
        scan = asked.after(&page);
    }
    content
}

#[tokio::test]
async fn client_server_every_node_serves_every_request() {
    let cluster = Cluster::start().await;
    for id in 1..=3 {
        let client = cluster.client(&[id]);
        let name = format!("k{id}");
        let revision = client.put(key(&name), key("v")).await.unwrap();
        let item = client.get(key(&name), Consistency::Linearizable).await.unwrap().unwrap();
        assert_eq!((item.mod_revision, item.version), (revision, 1));
    }
    let client = cluster.client(&[2]);
    client.put_batch(vec![(key("x1"), key("1")), (key("x2"), key("2"))]).await.unwrap();
    assert_eq!(client.delete(key("x1")).await.unwrap().count, 1);
    assert_eq!(client.delete_prefix(key("k")).await.unwrap().count, 3);
    assert_eq!(content(&client, Consistency::Linearizable).await, BTreeMap::from([(key("x2"), key("2"))]));
}

#[tokio::test]
async fn client_server_limits_are_told_and_nothing_else_is_lost() {
    let cluster = Cluster::start().await;
    let client = cluster.client(&[1]);
    let long_key = Bytes::from(vec![b'k'; (4 << 10) + 1]);
    let error = client.put(long_key, key("v")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(text) if text.contains("key")), "{error:?}");
    let value = Bytes::from(vec![b'v'; 8 << 20]);
    put_until_known(&client, "largest", &value).await;
    let error = client.put(key("larger"), Bytes::from(vec![b'v'; (8 << 20) + 1])).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(text) if text.contains("value")), "{error:?}");
    let txn = Txn { otherwise: vec![TxnOp::put("k", vec![b'v'; (8 << 20) + 1])], ..Txn::default() };
    let error = client.transact(txn).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(text) if text.contains("else[0]")), "{error:?}");
    let error = client.put(key("beyond"), Bytes::from(vec![b'v'; 40 << 20])).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error:?}");
    assert_eq!(content(&client, Consistency::Linearizable).await, BTreeMap::from([(key("largest"), value)]));
}

#[tokio::test]
async fn client_server_of_another_cluster_is_told_apart() {
    let cluster = Cluster::start().await;
    cluster.client(&[1]).put(key("a"), key("v")).await.unwrap();
    let endpoints = vec![cluster.endpoint(1), cluster.endpoint(2), cluster.endpoint(3)];
    let timeout = Duration::from_secs(20);
    let client = Client::new(ClientOptions { endpoints, timeout, cluster: Some(ClusterId(1)) }).unwrap();
    let error = client.put(key("a"), key("w")).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongCluster(_)), "{error:?}");
}

#[tokio::test]
async fn client_server_status_and_stale_reads_survive_the_loss_of_the_quorum() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client_with(&[1, 2, 3], Duration::from_secs(20));
    client.put(key("a"), key("v")).await.unwrap();
    assert!(client.status().await.unwrap().nodes.iter().all(|(_id, _address, status)| status.is_ok()));
    let leader = cluster.leader().await;
    let left = if leader == 1 { 2 } else { 1 };
    for id in (1..=3).filter(|id| *id != left) {
        cluster.stop(id).await;
    }
    let status = client.status().await.unwrap();
    let answered: Vec<_> = status.nodes.iter().filter(|(_, _, status)| status.is_ok()).map(|(id, ..)| *id).collect();
    assert_eq!((status.nodes.len(), answered), (3, vec![NodeId(left)]));
    let waiting = cluster.client_with(&[left], Duration::from_millis(500));
    assert!(waiting.get(key("a"), Consistency::Stale).await.unwrap().is_some());
    let started = Instant::now();
    let error = waiting.get(key("a"), Consistency::Linearizable).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    let error = waiting.put(key("b"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn client_server_import_goes_on_over_a_lost_leader_and_every_replica_agrees() {
    const LINES: u64 = 20_000;
    let mut cluster = Cluster::start().await;
    let line = |line: u64| (key(&format!("k{:05}", line * 7919 % 12_000)), key(&format!("v{line}")));
    let mut importer = cluster.client(&[1, 2, 3]).import(ImportOptions::default(), |_count| {});
    let mut stopped = 0;
    for number in 0..LINES {
        let (key, value) = line(number);
        importer.push(key, value).await.unwrap();
        if number == LINES / 2 {
            stopped = cluster.leader().await;
            cluster.stop(stopped).await;
        }
    }
    assert_eq!(importer.finish().await.unwrap(), LINES);
    let expected: BTreeMap<_, _> = (0..LINES).map(line).collect();
    assert_eq!(content(&cluster.client(&[1, 2, 3]), Consistency::Linearizable).await, expected);
    cluster.restart(stopped).await;
    let node = cluster.nodes[stopped as usize - 1].clone().unwrap();
    node.with_timeout(Duration::from_secs(20)).get("k00000").await.unwrap();
    assert_eq!(content(&cluster.client(&[stopped]), Consistency::Stale).await, expected);
}

#[tokio::test]
async fn client_server_write_after_the_leader_is_lost_is_acknowledged_again() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client(&[1, 2, 3]);
    client.put(key("a"), key("1")).await.unwrap();
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    put_until_known(&client, "a", &key("2")).await;
    let item = client.get(key("a"), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!(item.value, key("2"));
}

/// Adds one, many times over, while leaders are lost; what came of each.
async fn add_while<F: Future<Output = Result<i64, KvError>>>(
    stopping: &watch::Receiver<bool>,
    add: impl Fn() -> F,
) -> u64 {
    let mut done = 0;
    while !*stopping.borrow() {
        add().await.unwrap();
        done += 1;
    }
    done
}

/// Stops the leader and starts it again, over and over, never the node `spare`.
async fn lose_leaders(cluster: &mut Cluster, times: usize, spare: u64) {
    let mut lost = 0;
    while lost < times {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let leader = cluster.leader().await;
        if leader == spare {
            let other = if spare == 1 { 2 } else { 1 };
            let node = cluster.nodes[spare as usize - 1].clone().unwrap();
            let _elected_meanwhile = node.transfer_leadership(NodeId(other)).await;
            continue;
        }
        cluster.stop(leader).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.restart(leader).await;
        lost += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_server_increments_over_lost_leaders_are_each_done_once() {
    let mut cluster = Cluster::start().await;
    let (stop, stopping) = watch::channel(false);
    let client = cluster.client(&[1, 2, 3]);
    let embedded = cluster.nodes[0].clone().unwrap().with_timeout(Duration::from_secs(20));
    let mut adding = tokio::task::JoinSet::new();
    for _caller in 0..4 {
        let (client, embedded) = (client.clone(), embedded.clone());
        let (one, other) = (stopping.clone(), stopping.clone());
        adding.spawn(async move { add_while(&one, || client.increment(key("n"), 1)).await });
        adding.spawn(async move { add_while(&other, || Kv::increment(&embedded, key("n"), 1)).await });
    }
    lose_leaders(&mut cluster, 4, 1).await;
    stop.send(true).unwrap();
    let done: u64 = adding.join_all().await.iter().sum();
    let item = client.get(key("n"), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!(item.value, done.to_string());
    assert!(done > 100, "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_server_watch_over_lost_nodes_tells_every_change_once_and_in_order() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client(&[3, 2, 1]);
    let mut watch = client.watch(WatchOptions::prefix("w/"));
    watch.begin().await.unwrap();
    let told = tokio::spawn(async move {
        let mut told = Vec::new();
        while told.last() != Some(&key("w/end")) {
            told.extend(watch.next().await.unwrap().events.into_iter().map(|event| event.key));
        }
        told
    });
    let (stop, stopping) = watch::channel(false);
    let writing = tokio::spawn(async move {
        let mut written = Vec::new();
        while !*stopping.borrow() {
            let name = key(&format!("w/{:06}", written.len()));
            client.put(name.clone(), key("v")).await.unwrap();
            written.push(name);
        }
        client.put(key("w/end"), key("v")).await.unwrap();
        written.push(key("w/end"));
        written
    });
    for id in [3, 2, 3] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.stop(id).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.restart(id).await;
    }
    stop.send(true).unwrap();
    assert_eq!(told.await.unwrap(), writing.await.unwrap());
}

#[tokio::test]
async fn client_server_range_of_many_pages_is_one_view_from_afar_and_embedded() {
    let cluster = Cluster::start().await;
    let client = cluster.client(&[1]);
    let value = Bytes::from(vec![b'v'; 4096]);
    let pairs = (0..600).map(|number| (key(&format!("k{number:04}")), value.clone())).collect();
    client.put_batch(pairs).await.unwrap();
    let mut remote = client.range(Scan::default(), Consistency::Linearizable);
    let scan = Scan { max_bytes: 100 << 10, ..Scan::default() };
    let mut embedded = cluster.nodes[1].as_ref().unwrap().range(scan, Consistency::Linearizable);
    let (mut afar, mut here) = (vec![remote.next_page().await.unwrap().unwrap()], Vec::new());
    here.push(embedded.next_page().await.unwrap().unwrap());
    client.delete_prefix(key("k")).await.unwrap();
    while let Some(page) = remote.next_page().await.unwrap() {
        afar.push(page);
    }
    while let Some(page) = embedded.next_page().await.unwrap() {
        here.push(page);
    }
    for pages in [afar, here] {
        assert!(pages.len() > 3);
        assert_eq!(pages.iter().map(|page| page.items.len()).sum::<usize>(), 600);
        assert!(pages.iter().all(|page| page.revision == pages[0].revision));
    }
}

#[tokio::test]
async fn client_server_lock_is_one_lock_from_afar_and_embedded() {
    let cluster = Cluster::start().await;
    let embedded = cluster.nodes[1].clone().unwrap().with_timeout(Duration::from_secs(20));
    let ttl = Duration::from_secs(60);
    let client = cluster.client(&[1, 2, 3]);
    let afar = Lock::new(&client, "lock").with_ttl(ttl).with_label("afar");
    let here = Lock::new(&embedded, "lock").with_ttl(ttl).with_label("here");

    let first = afar.acquire().await.unwrap();
    assert!(here.try_acquire().await.unwrap().is_none());
    assert_eq!(here.holder().await.unwrap().unwrap().value, "afar");
    let waiting = tokio::spawn(async move { here.acquire().await.unwrap() });
    let contenders = Scan { count_only: true, ..Scan::prefix("lock/") };
    while client.scan(contenders.clone(), Consistency::Linearizable).await.unwrap().count < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!waiting.is_finished());

    let token = first.token();
    first.release().await.unwrap();
    let second = waiting.await.unwrap();
    assert!(second.token() > token);
    assert!(afar.try_acquire().await.unwrap().is_none());
    assert_eq!(afar.holder().await.unwrap().unwrap().value, "here");
    second.release().await.unwrap();
    assert!(afar.try_acquire().await.unwrap().is_some());
}
