//! Puts a long list of pairs, in order, many under way at once, across failovers.
//!
//! ```text
//!   push ─► filling ─► waiting batches ─► written on ONE connection ─► answered in front ─► acknowledged
//!                          ▲                        │
//!                          └── connection lost: all that is not acknowledged is to be written again
//! ```
//!
//! # Why sending again is safe here
//! The list may hold a key several times, and the last line must win. Without sessions a line may be put twice; that
//! is harmless in itself, since putting the same value again changes nothing but the revision. What would harm is an
//! *old copy* of an earlier line that lands behind a later line of the same key. So:
//!
//! An **attempt** is everything written on one connection, in the order of the list, from the first line that is not
//! acknowledged. Let any two attempts be given. Claim: in the log, every surviving copy of the earlier attempt stands
//! before every copy of the later one. Then the last copy of a key is its last line: a line acknowledged in an
//! attempt is not in any later one, later attempts start at or before every line that is not acknowledged, and within
//! an attempt the order is that of the list (one connection, proposed as received).
//!
//! The claim holds because of three rules:
//! 1. Each batch names the **term** in which it may be proposed, and only the leader of that term proposes it; a
//!    node never forwards it. An attempt goes directly to the node that says it leads in that term.
//! 2. The next attempt is in a **higher term**, or again on the **same leader** in the same term; never in a lower
//!    one. In a higher term, its leader has already fixed which entries of the earlier term survive, all of them
//!    before its own first entry (Log Matching and Leader Completeness, Raft paper 5.3 and 5.4); what the old leader
//!    may still propose in its old term is never committed.
//! 3. In the same term it is the same node, and the new connection carries the same client number, which **fences**
//!    the former one: none of its input is handed to the log any more, and what was handed over stands in the log, or
//!    in the line for it, ahead of anything that comes by the new connection.
//!
//! Before an attempt's first batch one linearizable read is answered on its connection. It shows that the fence is
//! closed (the new connection is being served) and that a quorum follows this leader; so an attempt is not begun on a
//! leader that is already deposed.
//!
//! A batch that is refused in the middle of an attempt, with later ones already taken, is no exception: it ends the
//! attempt, and everything from it on is written again.
//!
//! Deliberately absent: importing through a follower (rule 1), and deduplication of what was put twice (sessions).

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use crate::env::Entropy;
use crate::env::os::OsEntropy;
use crate::server::kinds::Consistency;
use crate::server::protocol::{Answer, Failure, MAX_BATCH_PAIRS, RequestBody};
use crate::types::{Role, Term};

use super::error::ClientError;
use super::link::{Link, LinkError, Waiting, describe};
use super::{Client, RETRY_PAUSE};

/// How long a leader may leave an import without an answer before another attempt is made: it may hang, and the others
/// may have another leader by now. It doubles with each attempt in vain, since the disks may just be slow.
const FIRST_STALL: Duration = Duration::from_secs(2);

/// How an import is cut into batches, and how long it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// Bytes of keys and values after which a batch is sent. 64 KiB: one write and one sync carry it well.
    pub batch_bytes: usize,
    /// Lines after which a batch is sent. 512.
    pub batch_lines: usize,
    /// Batches under way at once. 8: they share the round trips and syncs of each other.
    pub window: usize,
    /// How long it goes on without any line being acknowledged, before it gives up. 30 s: many elections.
    pub patience: Duration,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { batch_bytes: 64 << 10, batch_lines: 512, window: 8, patience: Duration::from_secs(30) }
    }
}

/// An import that ended early.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{cause} (the first {acknowledged} lines are certain; lines after them may have been written)")]
pub struct ImportError {
    /// How many lines, counted from the first, certainly are in the store.
    pub acknowledged: u64,
    /// Why it ended.
    pub cause: ClientError,
}

/// A batch that is not acknowledged.
struct Batch {
    pairs: Vec<(Bytes, Bytes)>,
    /// Its answer, once written in the present attempt.
    waiting: Option<Waiting>,
}

/// The connection that an attempt uses.
struct Attempt {
    link: Link,
    term: Term,
}

/// An import under way. Feed it with [`Importer::push`] and end it with [`Importer::finish`]; dropping it abandons
/// what is not acknowledged, which may or may not be written.
pub struct Importer {
    client: Client,
    options: ImportOptions,
    progress: Box<dyn FnMut(u64) + Send>,
    /// This import's number on the nodes: its connections fence each other.
    identity: u128,
    filling: Vec<(Bytes, Bytes)>,
    filling_bytes: usize,
    /// In order; the written ones are in front.
    batches: VecDeque<Batch>,
    attempt: Option<Attempt>,
    /// The term of the last attempt; 0 before the first.
    term: Term,
    acknowledged: u64,
    /// When a line was last acknowledged, or the present wait began.
    last_progress: Instant,
    /// How long the present attempt may go without an answer; grows with every attempt that brought none.
    stall: Duration,
}

impl fmt::Debug for Importer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Importer").field("acknowledged", &self.acknowledged).finish_non_exhaustive()
    }
}

impl Importer {
    pub(super) fn new(client: Client, options: ImportOptions, progress: Box<dyn FnMut(u64) + Send>) -> Self {
        Self {
            client,
            options,
            progress,
            identity: random_identity(),
            filling: Vec::new(),
            filling_bytes: 0,
            batches: VecDeque::new(),
            attempt: None,
            term: Term::ZERO,
            acknowledged: 0,
            last_progress: Instant::now(),
            stall: FIRST_STALL,
        }
    }

    /// Takes the next line. Waits while as many batches are under way as may be. Cancel safe: a line whose call was
    /// dropped while it waited has been taken.
    ///
    /// # Errors
    /// When the import cannot go on; no further line is taken then.
    pub async fn push(&mut self, key: Bytes, value: Bytes) -> Result<(), ImportError> {
        self.filling_bytes += key.len() + value.len();
        self.filling.push((key, value));
        let lines = self.options.batch_lines.clamp(1, MAX_BATCH_PAIRS);
        if self.filling_bytes >= self.options.batch_bytes || self.filling.len() >= lines {
            self.close_batch();
        }
        self.last_progress = Instant::now();
        while self.batches.len() > self.options.window.max(1) {
            self.advance().await?;
        }
        Ok(())
    }

    /// Waits until every line is acknowledged. Answers how many there were.
    ///
    /// # Errors
    /// When the import cannot go on.
    pub async fn finish(mut self) -> Result<u64, ImportError> {
        self.close_batch();
        self.last_progress = Instant::now();
        while !self.batches.is_empty() {
            self.advance().await?;
        }
        Ok(self.acknowledged)
    }

    /// How many lines, counted from the first, certainly are in the store.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    fn close_batch(&mut self) {
        if self.filling.is_empty() {
            return;
        }
        self.filling_bytes = 0;
        self.batches.push_back(Batch { pairs: std::mem::take(&mut self.filling), waiting: None });
    }

    /// Writes what is not written and waits for the first batch's answer, or for the next attempt to be possible.
    async fn advance(&mut self) -> Result<(), ImportError> {
        let deadline = self.last_progress + self.options.patience;
        let error = match self.advance_until(deadline).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        self.attempt = None;
        self.batches.iter_mut().for_each(|batch| batch.waiting = None);
        let hopeless = match &error {
            ClientError::Unavailable(_) | ClientError::Unknown(_) => Instant::now() + RETRY_PAUSE >= deadline,
            ClientError::Refused(_)
            | ClientError::DiskFull(_)
            | ClientError::No(_)
            | ClientError::Rejected(_)
            | ClientError::WrongCluster(_)
            | ClientError::Protocol(_)
            | ClientError::Usage(_) => true,
        };
        if hopeless {
            return Err(ImportError { acknowledged: self.acknowledged, cause: error });
        }
        sleep(RETRY_PAUSE).await;
        Ok(())
    }

    async fn advance_until(&mut self, deadline: Instant) -> Result<(), ClientError> {
        if self.attempt.is_none() {
            self.attempt = Some(self.begin(deadline).await?);
        }
        let Some(attempt) = &self.attempt else { return Ok(()) };
        for batch in self.batches.iter_mut().take(self.options.window.max(1)) {
            if batch.waiting.is_none() {
                let body = RequestBody::PutBatch { term: Some(attempt.term), pairs: batch.pairs.clone() };
                batch.waiting = Some(attempt.link.submit(body, deadline).await.map_err(failed)?);
            }
        }
        let Some(first) = self.batches.front_mut() else { return Ok(()) };
        let Some(waiting) = &mut first.waiting else { return Ok(()) };
        let response = match timeout(self.stall, waiting.answer()).await {
            Ok(outcome) => outcome.map_err(failed)?,
            Err(_elapsed) => {
                self.stall *= 2;
                return Err(ClientError::Unknown("the leader does not answer".to_owned()));
            }
        };
        match response.answer {
            Answer::Written(_) => {}
            Answer::Failed(failure) => return Err(failed(LinkError::Rejected(failure))),
            Answer::Done(..)
            | Answer::Leases(_)
            | Answer::Value(_)
            | Answer::Page(_)
            | Answer::Status(_)
            | Answer::Snapshot(_)
            | Answer::Piece(_)
            | Answer::Members(_)
            | Answer::Transferred => {
                return Err(response.answer.out_of_place());
            }
        }
        self.acknowledged += first.pairs.len() as u64;
        self.batches.pop_front();
        self.last_progress = Instant::now();
        self.stall = FIRST_STALL;
        (self.progress)(self.acknowledged);
        Ok(())
    }

    /// Connects to the leader of this term or of a later one than before, as the rules above demand.
    async fn begin(&mut self, deadline: Instant) -> Result<Attempt, ClientError> {
        let routes = &self.client.shared.routes;
        let route = routes.leader(deadline).await?;
        let address = route.link.info().address.clone();
        let unusable = |reason: String| {
            routes.forget(&route);
            ClientError::Unavailable(format!("{address}: {reason}"))
        };
        if !route.leads {
            return Err(unusable(
                "the leader itself cannot be reached, and an import must go to it directly".to_owned(),
            ));
        }
        let link = match routes.dial(address.clone(), self.identity, deadline).await {
            Ok(link) => link,
            Err(error) => return Err(unusable(error.text().to_owned())),
        };
        // A leader that hangs is given up here as it is in the middle of an attempt.
        let deadline = deadline.min(Instant::now() + self.stall);
        let answer = link.call(RequestBody::Status, deadline).await.map(|response| response.answer);
        let answer = answer.map_err(|error| unusable(error.to_string()))?;
        let Answer::Status(status) = answer else { return Err(answer.out_of_place()) };
        if status.role != Role::Leader || status.term < self.term {
            return Err(unusable(format!("it does not lead in term {} or later", self.term.get().max(1))));
        }
        let barrier = RequestBody::Get { consistency: Consistency::Linearizable, key: Bytes::new() };
        let answer = link.call(barrier, deadline).await.map(|response| response.answer);
        match answer.map_err(|error| unusable(error.to_string()))? {
            Answer::Value(_) => {}
            Answer::Failed(failure) => return Err(unusable(describe(&failure))),
            other @ (Answer::Written(_)
            | Answer::Done(..)
            | Answer::Leases(_)
            | Answer::Page(_)
            | Answer::Status(_)
            | Answer::Snapshot(_)
            | Answer::Piece(_)
            | Answer::Members(_)
            | Answer::Transferred) => {
                return Err(other.out_of_place());
            }
        }
        self.term = status.term;
        Ok(Attempt { link, term: status.term })
    }
}

/// What the end of an attempt means for the import: another attempt after `Unavailable` and `Unknown`, else its end.
fn failed(error: LinkError) -> ClientError {
    let failure = match error {
        LinkError::Rejected(failure) => failure,
        LinkError::NotSent(reason) => return ClientError::Unavailable(reason),
        LinkError::Broken(reason) => return ClientError::Unknown(reason),
        LinkError::TimedOut => return ClientError::Unknown("no answer came in time".to_owned()),
    };
    let text = describe(&failure);
    match failure {
        Failure::Unavailable(_) | Failure::Overloaded(_) => ClientError::Unavailable(text),
        Failure::Unknown(_) | Failure::Stopped(_) => ClientError::Unknown(text),
        Failure::TooLarge(_) | Failure::Refused(_) => ClientError::Refused(text),
        Failure::No(_) => ClientError::No(text),
        Failure::DiskFull(_) => ClientError::DiskFull(text),
        Failure::Malformed(_) | Failure::Unsupported(_) => ClientError::Protocol(text),
    }
}

/// A number that no other client has, and not that of an anonymous one.
fn random_identity() -> u128 {
    let entropy = OsEntropy::new();
    (u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64())) | 1
}
