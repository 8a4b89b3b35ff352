//! A client against fake stores behind queues: every fault is chosen by the test, and time is the test's own.

mod backups;
mod calls;
mod import_model;
mod imports;
mod members;
mod reads;
mod sessions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::{JoinHandle, yield_now};

use crate::server::dispatch;
use crate::server::fake::{FakeStore, queue};
use crate::server::kinds::MemberStatus;
use crate::server::limits::Registry;

use super::link::{Link, LinkInfo};
use super::routes::{DialError, Dialer};
use crate::types::{Epoch, NodeId};

use super::*;

/// What becomes of a connection to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Open,
    /// Refused by the machine.
    Refused,
    /// The machine does not answer.
    Silent,
}

struct Host {
    store: FakeStore,
    registry: Arc<Registry>,
    reach: Reach,
    cluster: u128,
    epoch: Epoch,
    /// What serves its connections.
    served: Vec<JoinHandle<()>>,
}

/// Nodes by address, as the client reaches them.
#[derive(Clone, Default)]
struct Net {
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
    dials: Arc<Mutex<Vec<String>>>,
}

impl Net {
    /// Three nodes of one cluster, the first leading in term 1. Each has a log of its own.
    fn three() -> (Self, [FakeStore; 3]) {
        Self::three_of([1, 2, 3].map(|_id| FakeStore::leader()))
    }

    /// The same with one log.
    fn three_of_one_log() -> (Self, [FakeStore; 3]) {
        let first = FakeStore::leader();
        let replica = || {
            let mut store = FakeStore::leader();
            store.follow_the_log_of(&first);
            store
        };
        let stores = [replica(), replica(), replica()];
        Self::three_of(stores)
    }

    fn three_of(stores: [FakeStore; 3]) -> (Self, [FakeStore; 3]) {
        let net = Self::default();
        let members: Vec<_> = (1..=3).map(|id| MemberStatus::voter(NodeId(id), address(id))).collect();
        for (id, store) in (1..).zip(&stores) {
            store.state().status.id = NodeId(id);
            store.state().status.members = members.clone();
            if id != 1 {
                store.follow(1, Some((1, &address(1))));
            }
            let host = Host {
                store: store.clone(),
                registry: Registry::new(16),
                reach: Reach::Open,
                cluster: 1,
                epoch: Epoch::FIRST,
                served: Vec::new(),
            };
            net.hosts().insert(address(id), host);
        }
        (net, stores)
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Host>> {
        self.hosts.lock().unwrap()
    }

    fn reach(&self, id: u64, reach: Reach) {
        self.hosts().get_mut(&address(id)).unwrap().reach = reach;
    }

    /// Breaks all connections to a node.
    async fn cut(&self, id: u64) {
        let served = std::mem::take(&mut self.hosts().get_mut(&address(id)).unwrap().served);
        served.iter().for_each(JoinHandle::abort);
        settle().await;
    }

    /// A client that numbers nothing.
    fn client(&self, endpoints: &[u64]) -> Client {
        self.numbered_client(endpoints, None).unnumbered()
    }

    fn client_of(&self, endpoints: &[u64], cluster: Option<ClusterId>) -> Client {
        self.numbered_client(endpoints, cluster).unnumbered()
    }

    fn numbered_client(&self, endpoints: &[u64], cluster: Option<ClusterId>) -> Client {
        let endpoints = endpoints.iter().map(|id| address(*id)).collect();
        let options = ClientOptions { endpoints, timeout: Duration::from_secs(5), cluster };
        Client::with_dialer(options, Box::new(self.clone())).unwrap()
    }

    fn dials_to(&self, id: u64) -> usize {
        self.dials.lock().unwrap().iter().filter(|dialled| **dialled == address(id)).count()
    }
}

impl Dialer for Net {
    fn dial(
        &self,
        address: String,
        client: u128,
        cluster: Option<ClusterId>,
    ) -> BoxFuture<'static, Result<Link, DialError>> {
        let net = self.clone();
        async move {
            net.dials.lock().unwrap().push(address.clone());
            let reach = net.hosts().get(&address).map_or(Reach::Refused, |host| host.reach);
            match reach {
                Reach::Open => {}
                Reach::Refused => return Err(DialError::Unreachable("connection refused".to_owned())),
                Reach::Silent => std::future::pending().await,
            }
            let mut hosts = net.hosts();
            let host = hosts.get_mut(&address).unwrap();
            if cluster.is_some_and(|cluster| cluster.0 != host.cluster) {
                return Err(DialError::WrongCluster("it belongs to another cluster".to_owned()));
            }
            let (sink, server_source) = queue();
            let (server_sink, source) = queue();
            let store = host.store.clone();
            match host.registry.admit(client) {
                Some(admission) => host.served.push(tokio::spawn(async move {
                    dispatch::run(store, admission.fence(), server_source, server_sink).await;
                })),
                None => {
                    let reason = Failure::Overloaded("16 client connections are open already".to_owned());
                    host.served.push(tokio::spawn(dispatch::refuse(reason, server_sink)));
                }
            }
            let (node, epoch) = (host.store.state().status.id, host.epoch);
            let info = LinkInfo { address, node, cluster: Some(ClusterId(host.cluster)), epoch };
            Ok(Link::start(info, source, sink))
        }
        .boxed()
    }
}

fn address(id: u64) -> String {
    format!("node:{id}")
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Lets every task go as far as it can without time passing.
async fn settle() {
    for _turn in 0..100 {
        yield_now().await;
    }
}
