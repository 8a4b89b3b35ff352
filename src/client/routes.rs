//! Whom to ask: the leader where it can be reached, another node where it cannot, nobody while there is none.
//!
//! A round asks every known address for its status at once: the endpoints, and the members that any answer names. The
//! first node that says it leads, in a term not below one already seen, is taken. A follower is taken only when the
//! leader it names has stayed out of reach for a while: in the moments of a failover the followers still name the
//! dead leader, and a write sent to one of them would end as unknown.
//!
//! After a recovery from one survivor (`node::recover`) nodes of two *epochs* may be reachable, both with a leader. Once a
//! client has met the later one it goes back to none of before, and what it knew of the cluster is void.
//!
//! Connections made here are anonymous: two addresses may lead to one node, and must not fence each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::server::kinds::NodeStatus;
use crate::server::protocol::{ANONYMOUS, Answer, RequestBody};
use crate::types::{ClusterId, Epoch, NodeId, Role, Term};

use super::error::ClientError;
use super::follow::follow;
use super::link::{Link, describe};

/// How long one node may take to be reached and to say how it is: a hung one, which still accepts connections, must
/// not hold up the search for much longer than an election takes.
const PROBE_WAIT: Duration = Duration::from_millis(500);
/// How often it is doubled, once for each round in which nobody answered in time: all nodes may have much to do, and to ask
/// them over and over and not hear them out would be more of it.
const MAX_DOUBLINGS: u32 = 3;
/// The first pause between two rounds; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two rounds: a small part of an election.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long a leader must stay out of reach before its followers are asked instead: longer than an election.
const DETOUR_AFTER: Duration = Duration::from_millis(1000);
/// Most addresses that are remembered: a cluster has far fewer members.
const MAX_ADDRESSES: usize = 64;

/// Why a node cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialError {
    /// It belongs to another cluster.
    WrongCluster(String),
    /// It speaks another protocol, or is none of ours.
    Protocol(String),
    /// It cannot be reached, or takes no more clients.
    Unreachable(String),
}

impl DialError {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::WrongCluster(text) | Self::Protocol(text) | Self::Unreachable(text) => text,
        }
    }
}

/// Makes connections. The seam between the client's decisions and sockets.
pub(crate) trait Dialer: Send + Sync + 'static {
    /// Connects to `address` as `client`, to a node of `cluster` where one is named.
    fn dial(
        &self,
        address: String,
        client: u128,
        cluster: Option<ClusterId>,
    ) -> BoxFuture<'static, Result<Link, DialError>>;
}

/// The node that requests go to at present.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) link: Arc<Link>,
    /// It said that it leads; else it is asked in the leader's place.
    pub(crate) leads: bool,
    found: Instant,
}

/// What one node said.
pub(crate) struct Asked {
    pub(crate) address: String,
    pub(crate) result: Result<(Arc<Link>, NodeStatus), DialError>,
}

/// Everything known about where the nodes are.
pub(crate) struct Routes {
    /// Itself, for the task that keeps it up to date.
    me: Weak<Self>,
    endpoints: Vec<String>,
    dialer: Box<dyn Dialer>,
    known: Mutex<Known>,
    /// Held by the one caller who looks for the leader; the others wait for what it finds.
    search: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The cluster asked for, or the first one met: one client never mixes two.
    cluster: Option<ClusterId>,
    /// The latest life of it that was met.
    epoch: Epoch,
    members: BTreeMap<NodeId, String>,
    /// The term of the leader who named them; zero while they come from anybody.
    named_in: Term,
    /// The highest term seen: whoever claims to lead in a lower one is not believed.
    term: Term,
    route: Option<Route>,
    /// For reads that need no leader.
    nearest: Option<Arc<Link>>,
    /// Rounds in a row that ended without anybody's answer, up to a few.
    slow_rounds: u32,
    /// Since when a leader is named that cannot be reached.
    hidden_leader: Option<(NodeId, Instant)>,
}

impl Routes {
    pub(crate) fn new(endpoints: Vec<String>, cluster: Option<ClusterId>, dialer: Box<dyn Dialer>) -> Arc<Self> {
        let known = Mutex::new(Known { cluster, ..Known::default() });
        let search = tokio::sync::Mutex::default();
        Arc::new_cyclic(|me| Self { me: Weak::clone(me), endpoints, dialer, known, search })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where writes and linearizable reads go. Waits for a leader until the deadline.
    ///
    /// # Errors
    /// `Unavailable` at the deadline; `WrongCluster` and `Protocol` when no endpoint can ever serve.
    pub(crate) async fn leader(&self, deadline: Instant) -> Result<Route, ClientError> {
        if let Some(route) = self.present() {
            return Ok(route);
        }
        let Ok(_searching) = timeout_at(deadline, self.search.lock()).await else {
            return Err(ClientError::Unavailable("no leader was found in time".to_owned()));
        };
        match self.present() {
            Some(route) => Ok(route),
            None => self.search(deadline).await,
        }
    }

    /// Where they go at present, if that is known.
    pub(crate) fn present(&self) -> Option<Route> {
        /// How long a follower is asked in the leader's place before the leader is looked for again.
        const DETOUR_FOR: Duration = Duration::from_secs(10);
        self.with(|known| {
            let route = known.route.as_ref()?;
            let current = known.is_current(&route.link);
            let usable = route.link.is_open() && current && (route.leads || route.found.elapsed() < DETOUR_FOR);
            if !usable {
                known.route = None;
            }
            known.route.clone()
        })
    }

    /// Forgets a route that did not serve.
    pub(crate) fn forget(&self, route: &Route) {
        self.with(|known| {
            if known.route.as_ref().is_some_and(|present| Arc::ptr_eq(&present.link, &route.link)) {
                known.route = None;
            }
        });
    }

    /// Takes note of what an answer says about the leader: it may be another node than the one that was asked.
    pub(crate) fn hear(&self, route: &Route, id: NodeId, address: &str) {
        let hidden = self.with(|known| {
            known.remember(id, address);
            known.hidden_leader.map(|(hidden, _since)| hidden)
        });
        if route.leads || hidden != Some(id) {
            self.forget(route);
        }
    }

    /// Where reads go that need no leader: the first endpoint that can be reached, in the order given.
    ///
    /// # Errors
    /// `Unavailable`, `WrongCluster` or `Protocol` when none can.
    pub(crate) async fn nearest(&self, deadline: Instant) -> Result<Arc<Link>, ClientError> {
        self.nearest_but(None, deadline).await
    }

    /// The same; another one than that which failed, as long as there is one in reach. Then any known member will do.
    pub(crate) async fn nearest_but(&self, failed: Option<&str>, deadline: Instant) -> Result<Arc<Link>, ClientError> {
        let usable = |link: &Arc<Link>| link.is_open() && failed != Some(&*link.info().address);
        if let Some(link) = self.with(|known| known.nearest.clone()).filter(usable) {
            return Ok(link);
        }
        let mut addresses = self.endpoints.clone();
        if let Some(failed) = failed {
            let members = self.with(|known| known.members.values().cloned().collect::<Vec<_>>());
            addresses.extend(members.into_iter().filter(|member| !self.endpoints.contains(member)));
            let behind = addresses.iter().position(|address| address == failed).map_or(0, |at| at + 1);
            addresses.rotate_left(behind);
        }
        let mut failures = Vec::new();
        for address in &addresses {
            match self.dial(address.clone(), ANONYMOUS, deadline).await {
                Ok(link) => {
                    let link = Arc::new(link);
                    self.with(|known| known.nearest = Some(Arc::clone(&link)));
                    return Ok(link);
                }
                Err(error) => failures.push((address.clone(), error)),
            }
        }
        Err(hopeless(&failures).unwrap_or_else(|| ClientError::Unavailable(describe_failures(&failures))))
    }

    /// Forgets the nearest node after it did not serve.
    pub(crate) fn forget_nearest(&self, link: &Arc<Link>) {
        self.with(|known| {
            if known.nearest.as_ref().is_some_and(|nearest| Arc::ptr_eq(nearest, link)) {
                known.nearest = None;
            }
        });
    }

    /// How long a node may take at present.
    fn probe_wait(&self) -> Duration {
        PROBE_WAIT * (1 << self.with(|known| known.slow_rounds))
    }

    /// Connects to an address, within the time that one node may take.
    pub(crate) async fn dial(&self, address: String, client: u128, deadline: Instant) -> Result<Link, DialError> {
        let link = self.reach(address, client, deadline).await?;
        if self.is_current(&link) { Ok(link) } else { Err(self.left_behind(&link)) }
    }

    /// The same, also to a node that a recovery has left behind: it may say how it is.
    async fn reach(&self, address: String, client: u128, deadline: Instant) -> Result<Link, DialError> {
        let deadline = deadline.min(Instant::now() + self.probe_wait());
        let cluster = self.with(|known| known.cluster);
        let dialing = self.dialer.dial(address, client, cluster);
        let slow = |_elapsed| DialError::Unreachable("it does not answer".to_owned());
        let link = timeout_at(deadline, dialing).await.map_err(slow)??;
        self.check_cluster(&link)?;
        self.with(|known| known.meet(link.info().epoch));
        Ok(link)
    }

    /// Whether a node is in the latest life of the cluster that was met.
    pub(crate) fn is_current(&self, link: &Link) -> bool {
        self.with(|known| known.is_current(link))
    }

    fn left_behind(&self, link: &Link) -> DialError {
        let (old, new) = (link.info().epoch, self.with(|known| known.epoch));
        DialError::Unreachable(format!(
            "the cluster was recovered (epoch {new}) without this node, which is of epoch {old}; stop it for good"
        ))
    }

    fn check_cluster(&self, link: &Link) -> Result<(), DialError> {
        let Some(met) = link.info().cluster else { return Ok(()) };
        match self.with(|known| *known.cluster.get_or_insert(met)) {
            expected if expected == met => Ok(()),
            expected => Err(DialError::WrongCluster(format!("it belongs to cluster {met}, not {expected}"))),
        }
    }

    /// Asks every known address how its node is, all at once; answers come as they arrive, and the addresses they name
    /// are asked too.
    pub(crate) fn ask_all(&self, deadline: Instant) -> Round<'_> {
        let mut round = Round { routes: self, deadline, asked: BTreeSet::new(), asking: FuturesUnordered::new() };
        self.endpoints.iter().for_each(|address| round.ask(address));
        let members: Vec<String> = self.with(|known| known.members.values().cloned().collect());
        members.iter().for_each(|address| round.ask(address));
        round
    }

    async fn ask(&self, address: String, deadline: Instant) -> Asked {
        let result = self.ask_at(address.clone(), deadline).await;
        Asked { address, result }
    }

    async fn ask_at(&self, address: String, deadline: Instant) -> Result<(Arc<Link>, NodeStatus), DialError> {
        let deadline = deadline.min(Instant::now() + self.probe_wait());
        let link = Arc::new(self.reach(address, ANONYMOUS, deadline).await?);
        let response = link.call(RequestBody::Status, deadline).await;
        let response = response.map_err(|error| DialError::Unreachable(error.to_string()))?;
        match response.answer {
            Answer::Status(status) => Ok((link, *status)),
            Answer::Failed(failure) => Err(DialError::Unreachable(describe(&failure))),
            Answer::Written(_)
            | Answer::Done(..)
            | Answer::Leases(_)
            | Answer::Value(_)
            | Answer::Page(_)
            | Answer::Part(..)
            | Answer::Released
            | Answer::Watched(_)
            | Answer::Snapshot(_)
            | Answer::Piece(_)
            | Answer::Members(_)
            | Answer::Transferred => {
                Err(DialError::Protocol("it answered another question than the one asked".to_owned()))
            }
        }
    }

    async fn search(&self, deadline: Instant) -> Result<Route, ClientError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let failures = match self.search_once(deadline).await? {
                Ok(route) => {
                    self.with(|known| known.route = Some(route.clone()));
                    tokio::spawn(follow(Weak::clone(&self.me), Arc::downgrade(&route.link)));
                    return Ok(route);
                }
                Err(failures) => failures,
            };
            let next = Instant::now() + pause;
            if next >= deadline {
                let known = describe_failures(&failures);
                return Err(ClientError::Unavailable(format!("no leader was found in time ({known})")));
            }
            sleep_until(next).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One round: a route, or what each address said instead.
    async fn search_once(&self, deadline: Instant) -> Result<Result<Route, Vec<(String, DialError)>>, ClientError> {
        let mut failures = Vec::new();
        let mut follower: Option<(Arc<Link>, NodeStatus)> = None;
        let mut reached = BTreeSet::new();
        let (started, wait) = (Instant::now(), self.probe_wait());
        let mut round = self.ask_all(deadline);
        while let Some(asked) = round.next().await {
            let (link, status) = match asked.result {
                Ok(answer) => answer,
                Err(error) => {
                    failures.push((asked.address, error));
                    continue;
                }
            };
            if !self.is_current(&link) {
                failures.push((asked.address, self.left_behind(&link)));
                continue;
            }
            reached.insert(status.id);
            let outdated = self.with(|known| {
                known.term = known.term.max(status.term);
                status.term < known.term
            });
            if status.role == Role::Leader && !outdated {
                self.with(|known| (known.hidden_leader, known.slow_rounds) = (None, 0));
                return Ok(Ok(Route { link, leads: true, found: Instant::now() }));
            }
            let named = status.leader.map_or("none".to_owned(), |leader| leader.to_string());
            failures.push((asked.address, DialError::Unreachable(format!("{}, leader {named}", status.role))));
            let later = follower.as_ref().is_none_or(|(_link, best)| best.term < status.term);
            if status.leader.is_some_and(|leader| leader != status.id) && later && !outdated {
                follower = Some((link, status));
            }
        }
        let slow = reached.is_empty() && started.elapsed() >= wait;
        self.with(|known| known.slow_rounds = if slow { (known.slow_rounds + 1).min(MAX_DOUBLINGS) } else { 0 });
        match hopeless(&failures) {
            Some(error) => Err(error),
            None => Ok(self.detour(follower, &reached).ok_or(failures)),
        }
    }

    /// A follower in the leader's place, once that leader has been out of reach for long enough.
    fn detour(&self, follower: Option<(Arc<Link>, NodeStatus)>, reached: &BTreeSet<NodeId>) -> Option<Route> {
        let now = Instant::now();
        self.with(|known| {
            let (link, status) = follower.filter(|(link, _status)| known.is_current(link))?;
            let leader = status.leader.filter(|leader| !reached.contains(leader))?;
            let since = match known.hidden_leader {
                Some((hidden, since)) if hidden == leader => since,
                Some(_) | None => now,
            };
            known.hidden_leader = Some((leader, since));
            let long_enough = now.duration_since(since) >= DETOUR_AFTER;
            long_enough.then_some(Route { link, leads: false, found: now })
        })
    }

    /// Takes note of the members that a node has named. A leader knows who has left, too.
    pub(crate) fn learn(&self, status: &NodeStatus) {
        self.with(|known| {
            if status.term < known.named_in {
                return;
            }
            if status.role == Role::Leader {
                known.named_in = status.term;
                known.members.clear();
            }
            status.members.iter().for_each(|member| known.remember(member.id, &member.address));
        });
    }

    /// The cluster asked for, or the one that was met.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.with(|known| known.cluster)
    }
}

impl Known {
    /// Takes note of the life of the cluster that a node is in.
    fn meet(&mut self, epoch: Epoch) {
        if self.epoch == Epoch::NONE {
            self.epoch = epoch;
        } else if epoch.number > self.epoch.number {
            *self = Self { cluster: self.cluster, epoch, ..Self::default() };
        }
    }

    fn is_current(&self, link: &Link) -> bool {
        link.info().epoch == Epoch::NONE || link.info().epoch == self.epoch
    }

    fn remember(&mut self, id: NodeId, address: &str) {
        if self.members.len() < MAX_ADDRESSES || self.members.contains_key(&id) {
            self.members.insert(id, address.to_owned());
        }
    }
}

/// One question to all known addresses.
pub(crate) struct Round<'a> {
    routes: &'a Routes,
    deadline: Instant,
    asked: BTreeSet<String>,
    asking: FuturesUnordered<BoxFuture<'a, Asked>>,
}

impl Round<'_> {
    fn ask(&mut self, address: &str) {
        if self.asked.len() < MAX_ADDRESSES && self.asked.insert(address.to_owned()) {
            self.asking.push(Box::pin(self.routes.ask(address.to_owned(), self.deadline)));
        }
    }

    /// The next answer; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Asked> {
        let asked = self.asking.next().await?;
        if let Ok((link, status)) = &asked.result
            && self.routes.is_current(link)
        {
            self.routes.learn(status);
            status.members.iter().for_each(|member| self.ask(&member.address));
        }
        Some(asked)
    }
}

/// The error that more patience cannot cure: every address is of another cluster, or does not speak our language.
pub(crate) fn hopeless(failures: &[(String, DialError)]) -> Option<ClientError> {
    let mut first = None;
    for (address, error) in failures {
        let error = match error {
            DialError::WrongCluster(text) => ClientError::WrongCluster(format!("{address}: {text}")),
            DialError::Protocol(text) => ClientError::Protocol(format!("{address}: {text}")),
            DialError::Unreachable(_) => return None,
        };
        first.get_or_insert(error);
    }
    first
}

/// What each address said, in one line.
pub(crate) fn describe_failures(failures: &[(String, DialError)]) -> String {
    let texts: Vec<String> = failures.iter().map(|(address, error)| format!("{address}: {}", error.text())).collect();
    texts.join("; ")
}
