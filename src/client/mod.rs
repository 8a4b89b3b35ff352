//! A client of a cluster over the network: finds the leader, pipelines, retries only what is safe.
//!
//! ```text
//!   Client (clones) ─► call ─► routes ─► who leads? ─► link ─► one connection, many requests
//!                        ▲                               │
//!                        └── certainly not taken: again ─┘── anything else: said to the caller
//! ```
//!
//! # When a request is sent again
//! Single writes are numbered within a session (`numbering`), which the first of them opens: a copy that comes again
//! is not done again, but has the first answer. So they are repeated in any case. What is not numbered (batches, changes
//! of members, the writes of [`Client::unnumbered`]) is repeated only where that cannot do it twice:
//!
//! | what happened to a write | numbered | not numbered |
//! |---|---|---|
//! | no connection could be made, or it was not written, or the node said that it did not take it | again, until the timeout | the same |
//! | answer "unavailable": no leader, certainly not proposed | again, until the timeout | the same |
//! | answer "overloaded": certainly not proposed | again after a pause, until the timeout; then *refused* | the same |
//! | answer "too large", "disk full", "malformed", "unsupported", "no", "refused" | *refused* at once; *unknown* if a copy was lost before | *refused* at once |
//! | it was written, and then the connection broke, the node stopped, or the time passed | again, until the timeout; then *unknown* | *unknown* at once |
//! | answer "unknown" | again, until the timeout; then *unknown* | *unknown* at once |
//! | the session is gone | under a new session; *unknown* if a copy was lost before | |
//!
//! A read changes nothing: it is repeated until the timeout, whatever happened to it, and a node that lets it wait for
//! a good part of the timeout is given up. While there is no leader, requests wait until the timeout.
//!
//! # Which node is asked
//! Writes and linearizable reads, by a lease or not, go to the leader where it can be reached; any other node would serve
//! them too, by asking the leader itself. Changes of members and of the leader, and the question who the members are, are for the
//! leader alone. Stale reads go to the first endpoint, in the order given, that can be reached. So do those with a bound;
//! when that node cannot tell how old it is, the leader is asked next.
//!
//! Deliberately absent: caches; and a session for batches and imports, which have rules of their own (`import.rs`).

mod backup;
mod error;
mod follow;
mod import;
mod kv;
mod link;
mod members;
mod range;
mod routes;
mod status;
mod tcp;
#[cfg(test)]
mod tests;
mod watch;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::kv::limits::LONGEST;
use crate::numbering::Numbering;
use crate::server::kinds::{Consistency, KeyValue, Scan, ScanPage};
use crate::server::protocol::{Answer, Failure, RequestBody, Response};
use crate::types::{ClusterId, Epoch, Index, NodeId};

pub use crate::server::kinds::MemberList;
pub use backup::Backup;
pub use error::ClientError;
pub use import::{ImportError, ImportOptions, Importer};
pub use range::RangeReader;
pub use status::ClusterStatus;

use link::{Link, LinkError, describe};
use routes::{Dialer, Routes};

/// Pause before a request is sent again that a node refused for now.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How many nodes may be asked for what may be repeated within its timeout, if each of them hangs.
const READ_ATTEMPTS: u32 = 4;

/// Whom a client talks to, and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// `HOST:PORT` of some members. The others are learned from them.
    pub endpoints: Vec<String>,
    /// The time one operation may take, the search for the leader included.
    pub timeout: Duration,
    /// The cluster that the endpoints must belong to. Without it, the first one met.
    pub cluster: Option<ClusterId>,
}

/// A client of a cluster. Cheap to clone; clones share connections, and their requests travel together.
///
/// ```no_run
/// use std::time::Duration;
///
/// use dledger::{Client, ClientError, ClientOptions, Consistency, Scan};
///
/// #[tokio::main]
/// async fn main() -> Result<(), ClientError> {
///     let endpoints = vec!["127.0.0.1:7101".to_owned(), "127.0.0.1:7102".to_owned()];
///     let client = Client::new(ClientOptions { endpoints, timeout: Duration::from_secs(5), cluster: None })?;
///
///     let revision = client.put("user/1".into(), "ann".into()).await?;
///     println!("durable on a quorum, at {revision}");
///     let found = client.get("user/1".into(), Consistency::Linearizable).await?;
///     let page = client.scan(Scan::prefix("user/"), Consistency::Stale).await?;
///     println!("{found:?}, one of {}", page.count);
///     match client.delete_prefix("user/".into()).await {
///         Err(ClientError::Unknown(_)) => println!("perhaps deleted: look before you go on"),
///         deleted => println!("{} deleted", deleted?.count),
///     }
///     println!("{:?}", client.status().await?);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Whether single writes are numbered.
    numbered: bool,
}

struct Shared {
    routes: Arc<Routes>,
    timeout: Duration,
    /// The session of this client and its clones.
    numbering: Numbering,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("timeout", &self.shared.timeout).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that connects when it is first used, in the tokio runtime of the caller.
    ///
    /// # Errors
    /// `Usage` when there is no endpoint, an endpoint is not `HOST:PORT`, or the timeout is zero.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        Self::with_dialer(options, Box::new(tcp::TcpDialer))
    }

    fn with_dialer(options: ClientOptions, dialer: Box<dyn Dialer>) -> Result<Self, ClientError> {
        if options.endpoints.is_empty() {
            return Err(ClientError::Usage("no endpoint is given".to_owned()));
        }
        for endpoint in &options.endpoints {
            let port = endpoint.rsplit_once(':').filter(|(host, _port)| !host.is_empty());
            if port.is_none_or(|(_host, port)| port.parse::<u16>().is_err()) {
                return Err(ClientError::Usage(format!("`{endpoint}` is not an endpoint; write HOST:PORT")));
            }
        }
        if options.timeout.is_zero() {
            return Err(ClientError::Usage("the timeout must be above zero".to_owned()));
        }
        let routes = Routes::new(options.endpoints, options.cluster, dialer);
        let timeout = options.timeout.min(LONGEST);
        let shared = Shared { routes, timeout, numbering: Numbering::default() };
        Ok(Self { shared: Arc::new(shared), numbered: true })
    }

    /// The same client for writes that are sent once and never again: what is lost on the way ends as unknown at once. It
    /// spares the session: one entry for the first write, 26 bytes in each, and an answer that the cluster keeps until the
    /// next one.
    #[must_use]
    pub fn unnumbered(&self) -> Self {
        Self { numbered: false, ..self.clone() }
    }

    /// Reads a key; `None` when there is none.
    ///
    /// # Errors
    /// `Unavailable` when no node answered in time; reads are never `Unknown`.
    pub async fn get(&self, key: Bytes, consistency: Consistency) -> Result<Option<KeyValue>, ClientError> {
        let answer = self.call(RequestBody::Get { consistency, key }).await?;
        if let Answer::Value(item) = answer { Ok(item) } else { Err(answer.out_of_place()) }
    }

    /// Reads one page of a range: as much as `max_bytes` and the node's own bound allow. A page whose `next` is some
    /// key goes on there; each page is a consistent view, at its own revision.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn scan(&self, scan: Scan, consistency: Consistency) -> Result<ScanPage, ClientError> {
        let answer = self.call(RequestBody::Scan { consistency, scan }).await?;
        if let Answer::Page(page) = answer { Ok(page) } else { Err(answer.out_of_place()) }
    }

    /// Asks every known member how it is, all at once, each within a short bound; one that does not answer is listed
    /// with the reason.
    ///
    /// # Errors
    /// `Unavailable` when none answered, `WrongCluster` and `Protocol` when none ever could.
    pub async fn status(&self) -> Result<ClusterStatus, ClientError> {
        status::ask(&self.shared.routes, Instant::now() + self.shared.timeout).await
    }

    /// Has every known member write its state down, all at once, and waits for them up to the client's timeout: the last
    /// index in each one's snapshot, or why there is none.
    ///
    /// # Errors
    /// As for [`Client::status`].
    pub async fn snapshot(&self) -> Result<Vec<(NodeId, Result<Index, String>)>, ClientError> {
        status::snapshot(&self.shared.routes, Instant::now() + self.shared.timeout).await
    }

    /// Begins a backup: a snapshot of everything that was acknowledged before the call, in the form of one file. Taken from
    /// the first endpoint in reach, whatever its role; reads and writes go on meanwhile.
    ///
    /// # Errors
    /// `Unavailable` when no node took a snapshot, `WrongCluster` and `Protocol` when none ever could.
    pub async fn backup(&self) -> Result<Backup, ClientError> {
        Backup::begin(self.clone()).await
    }

    /// Starts an import: puts in order, many under way, with `progress` told the number of acknowledged lines.
    #[must_use]
    pub fn import(&self, options: ImportOptions, progress: impl FnMut(u64) + Send + 'static) -> Importer {
        Importer::new(self.clone(), options, Box::new(progress))
    }

    async fn call(&self, body: RequestBody) -> Result<Answer, ClientError> {
        let patience = if body.is_read() { Patience::Again } else { Patience::Once };
        self.call_by(body, Instant::now() + self.shared.timeout, patience).await
    }

    async fn call_by(&self, body: RequestBody, deadline: Instant, patience: Patience) -> Result<Answer, ClientError> {
        self.call_at(body, deadline, patience).await.map(|(answer, _link)| answer)
    }

    /// The answer, and the node that gave it.
    async fn call_at(
        &self,
        body: RequestBody,
        deadline: Instant,
        patience: Patience,
    ) -> Result<(Answer, Arc<Link>), ClientError> {
        let mut last: Option<ClientError> = None;
        loop {
            let nearest = body.needs_no_leader() || (last.is_none() && body.hardly_needs_a_leader());
            let step = match self.shared.attempt(&body, nearest, deadline, patience).await {
                Ok(answered) => return Ok(answered),
                Err(step) => step,
            };
            let doubt = matches!(last, Some(ClientError::Unknown(_)));
            match step {
                Step::Stop(error @ ClientError::Unavailable(_)) => return Err(last.unwrap_or(error)),
                Step::Stop(error) => return Err(last.filter(|_last| doubt).unwrap_or(error)),
                Step::Lost(reason) if patience == Patience::Once => return Err(ClientError::Unknown(reason)),
                Step::Lost(reason) if body.is_read() => last = Some(ClientError::Unavailable(reason)),
                Step::Lost(reason) => last = Some(ClientError::Unknown(reason)),
                Step::Again(error) if !doubt => last = Some(error),
                Step::Again(_) | Step::OtherEpoch => {}
            }
            let next = Instant::now() + RETRY_PAUSE;
            if next >= deadline {
                let late = || ClientError::Unavailable("the time is up".to_owned());
                return Err(last.unwrap_or_else(late));
            }
            sleep_until(next).await;
        }
    }
}

/// Whether a request may be sent again when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// It may not: whoever has it is waited for.
    Once,
    /// It may: a node that hangs is given up after a part of the timeout.
    Again,
}

impl Shared {
    /// Asks once: the node that is nearest, or the leader.
    async fn attempt(
        &self,
        body: &RequestBody,
        nearest: bool,
        deadline: Instant,
        patience: Patience,
    ) -> Result<(Answer, Arc<Link>), Step> {
        if nearest {
            return self.attempt_nearest(body, deadline, patience).await;
        }
        self.attempt_in(body, None, deadline, patience).await
    }

    /// How long a node is waited for that is asked now.
    fn until(&self, deadline: Instant, patience: Patience) -> Instant {
        match patience {
            Patience::Again => deadline.min(Instant::now() + self.timeout / READ_ATTEMPTS),
            Patience::Once => deadline,
        }
    }

    async fn attempt_nearest(
        &self,
        body: &RequestBody,
        deadline: Instant,
        patience: Patience,
    ) -> Result<(Answer, Arc<Link>), Step> {
        let link = self.routes.nearest(deadline).await.map_err(|error| {
            if matches!(error, ClientError::Unavailable(_)) { Step::Again(error) } else { Step::Stop(error) }
        })?;
        let verdict = judge(link.call(body.clone(), self.until(deadline, patience)).await);
        if matches!(verdict, Err(Step::Lost(_))) {
            self.routes.forget_nearest(&link);
        }
        verdict.map(|answer| (answer, link))
    }

    /// Asks whoever leads; with an epoch, no node of another one.
    async fn attempt_in(
        &self,
        body: &RequestBody,
        epoch: Option<Epoch>,
        deadline: Instant,
        patience: Patience,
    ) -> Result<(Answer, Arc<Link>), Step> {
        let routes = &self.routes;
        let route = routes.leader(deadline).await.map_err(Step::Stop)?;
        if epoch.is_some_and(|epoch| epoch != route.link.info().epoch) {
            return Err(Step::OtherEpoch);
        }
        if Instant::now() >= deadline {
            // Sent now, it could only end as unknown.
            return Err(Step::Stop(ClientError::Unavailable("the time is up".to_owned())));
        }
        let outcome = route.link.call(body.clone(), self.until(deadline, patience)).await;
        if let Ok(Response { leader: Some(leader), .. }) = &outcome {
            routes.hear(&route, leader.id, &leader.address);
        }
        let verdict = judge(outcome);
        if matches!(verdict, Err(Step::Again(ClientError::Unavailable(_)) | Step::Lost(_))) {
            routes.forget(&route);
        }
        verdict.map(|answer| (answer, route.link))
    }
}

/// What to do about a request that has no answer.
enum Step {
    /// Certainly not done: again, and this error when time is up.
    Again(ClientError),
    /// Done or not, nobody knows.
    Lost(String),
    /// Again would not help.
    Stop(ClientError),
    /// Not sent: the node is of another epoch.
    OtherEpoch,
}

impl Step {
    fn into_error(self) -> ClientError {
        match self {
            Self::Again(error) | Self::Stop(error) => error,
            Self::Lost(reason) => ClientError::Unknown(reason),
            Self::OtherEpoch => ClientError::Unavailable("the cluster was recovered".to_owned()),
        }
    }
}

/// Applies the table of the module's head.
fn judge(outcome: Result<Response, LinkError>) -> Result<Answer, Step> {
    let failure = match outcome {
        Ok(Response { answer: Answer::Failed(failure), .. }) | Err(LinkError::Rejected(failure)) => failure,
        Ok(response) => return Ok(response.answer),
        Err(LinkError::NotSent(reason)) => return Err(Step::Again(ClientError::Unavailable(reason))),
        Err(LinkError::Broken(reason)) => {
            return Err(Step::Lost(format!("the connection was lost before an answer came ({reason})")));
        }
        Err(LinkError::TimedOut) => return Err(Step::Lost("no answer came in time".to_owned())),
    };
    let text = describe(&failure);
    Err(match failure {
        Failure::Unknown(_) => Step::Lost(text),
        Failure::Stopped(_) => Step::Lost(format!("the node has stopped: {text}")),
        Failure::Unavailable(_) => Step::Again(ClientError::Unavailable(text)),
        Failure::Overloaded(_) => Step::Again(ClientError::Refused(text)),
        Failure::TooLarge(_) => Step::Stop(ClientError::Refused(text)),
        Failure::DiskFull(_) => Step::Stop(ClientError::DiskFull(text)),
        Failure::No(_) => Step::Stop(ClientError::No(text)),
        Failure::Refused(_) | Failure::Compacted(_) => Step::Stop(ClientError::Refused(text)),
        Failure::Malformed(_) | Failure::Unsupported(_) => Step::Stop(ClientError::Protocol(text)),
    })
}

impl Answer {
    fn out_of_place(&self) -> ClientError {
        let kind = match self {
            Self::Written(_) => "written",
            Self::Done(..) => "done",
            Self::Leases(_) => "leases",
            Self::Value(_) => "a value",
            Self::Page(_) | Self::Part(..) => "a page",
            Self::Released => "released",
            Self::Watched(_) => "changes",
            Self::Status(_) => "a status",
            Self::Snapshot(_) => "a snapshot",
            Self::Piece(_) => "a piece of a snapshot",
            Self::Members(_) => "the members",
            Self::Transferred => "transferred",
            Self::Failed(_) => "a failure",
        };
        ClientError::Protocol(format!("the node answered \"{kind}\" to another kind of request"))
    }
}
