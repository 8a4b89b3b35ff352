//! The client's half of exactly-once: numbers single writes, and sends one again under its number until it is answered.
//!
//! ```text
//!   write ─► session? ─no─► open one (unnumbered: one too many dies by itself)
//!              │ yes
//!              ▼
//!            number ─► attempt ─ answered ──────────────► the first answer, revision included
//!                       ▲   ├─── certainly not done ─┐
//!                       └───┴─── nobody knows ───────┴─ again, same number, until the time is up
//! ```
//! The store's half is `kv::sessions`. Both ways to a store go through here: a replica in this process, a client.
//!
//! # What is safe to do with a number
//! - A number stands for one command for ever: it is never used for another one, whatever became of it.
//! - It is *settled* when its caller was told the outcome, was told "unknown", or went away. The first number that is
//!   not settled is told with each command, and the store lets go of what it keeps below. A copy of a settled number may
//!   still be on its way; it is then refused as forgotten if it had not been done before. So a write that ended as unknown
//!   was done once or never, and is done no more once another of the session was that was sent when it and all before it
//!   were settled. (While an earlier number is not, the store does not know that this one is.)
//! - At most [`MAX_UNANSWERED`] numbers lie between the first that is not settled and the last: the store, which keeps
//!   an answer for each, never has to refuse one for lack of room. Callers beyond wait in line.
//!
//! # When the session is gone
//! A write of which no earlier copy can have been taken is done under a new session: the refusal itself says that this
//! copy changed nothing. One that was sent before ends as unknown, since nothing tells any more whether it was done.
//! A session is one history's: the cluster that was recovered without its last entries is another history, in which the
//! session's id may be somebody else's. So a session is bound to the epoch it was opened in.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::Rejection;
use crate::kv::answer::Answer;
use crate::kv::command::Command;
use crate::kv::done::{Done, ttl_ms};
use crate::kv::sessions::MAX_UNANSWERED;
use crate::types::{Epoch, SessionId};

/// How long a session outlives its last write, by log time: longer than any outage that is sat out, and short enough
/// for the sessions of programs that are gone to make room.
pub(crate) const SESSION_TTL: Duration = Duration::from_secs(600);
/// The pause before a write is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A way to a store.
pub(crate) trait Way: Sync {
    /// What callers are told.
    type Error: Send;

    /// Has a command done; to be tried in this epoch alone, if one is named. May take until the deadline.
    fn attempt(
        &self,
        command: Bytes,
        epoch: Option<Epoch>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Attempted, Miss<Self::Error>>> + Send;

    /// Waits.
    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()>;

    /// It may have happened.
    fn unknown(reason: String) -> Self::Error;

    /// It certainly did not happen in time.
    fn late(reason: &str) -> Self::Error;
}

/// An answer, and the history it is of.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) done: Done,
    pub(crate) epoch: Epoch,
}

/// Why an attempt has no answer.
#[derive(Debug)]
pub(crate) enum Miss<E> {
    /// Certainly not done, and it may be tried again.
    NotDone(E),
    /// Done or not, nobody knows.
    Lost(String),
    /// Certainly not done, and again would not help.
    Refused(E),
    /// Certainly not done: there is no node of this epoch.
    OtherEpoch,
}

/// The session of a handle and its clones. Opened by the first write.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    present: Mutex<Option<Arc<Session>>>,
    /// Held by the one caller that opens a session.
    opening: tokio::sync::Mutex<()>,
}

/// An open session.
#[derive(Debug)]
struct Session {
    id: SessionId,
    epoch: Epoch,
    /// Numbers that may yet be given out.
    window: Semaphore,
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    /// The lowest number that is not settled.
    first: u64,
    /// Of each number from there on that was given out, whether it is settled. Never begins with one that is.
    settled: VecDeque<bool>,
}

/// A number that was given out. Settled when dropped.
struct Number<'a> {
    session: &'a Session,
    number: u64,
}

/// How a write under one number ended.
enum Ended<E> {
    Done(Done),
    Failed(E),
    /// Certainly not done, for there is no such session.
    NoSession,
}

impl Numbering {
    /// Has a write done once, or says that it is not known whether it was.
    pub(crate) async fn write<W: Way>(
        &self,
        way: &W,
        command: &Command<'_>,
        deadline: Instant,
    ) -> Result<Done, W::Error> {
        loop {
            let session = self.session(way, deadline).await?;
            let number = session.give_out(way, deadline).await?;
            match number.write(way, command, deadline).await {
                Ended::Done(done) => return Ok(done),
                Ended::Failed(error) => return Err(error),
                Ended::NoSession => self.forget(&session),
            }
            if Instant::now() >= deadline {
                return Err(W::late("the session had ended, and no other could be opened in time"));
            }
        }
    }

    /// The id of the session, if one is open, which is given up: nothing is numbered with it any more.
    pub(crate) fn take(&self) -> Option<SessionId> {
        self.lock().take().map(|session| session.id)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, ended: &Arc<Session>) {
        let mut present = self.lock();
        if present.as_ref().is_some_and(|session| Arc::ptr_eq(session, ended)) {
            *present = None;
        }
    }

    async fn session<W: Way>(&self, way: &W, deadline: Instant) -> Result<Arc<Session>, W::Error> {
        if let Some(session) = self.lock().clone() {
            return Ok(session);
        }
        let turn = within(way, deadline, self.opening.lock()).await;
        let _turn = turn.ok_or_else(|| W::late("no session was opened in time"))?;
        if let Some(session) = self.lock().clone() {
            return Ok(session);
        }
        let session = Arc::new(Session::open(way, deadline).await?);
        *self.lock() = Some(Arc::clone(&session));
        Ok(session)
    }
}

impl Session {
    async fn open<W: Way>(way: &W, deadline: Instant) -> Result<Self, W::Error> {
        let command = Command::OpenSession { ttl_ms: ttl_ms(SESSION_TTL) }.encode();
        let mut last = None;
        loop {
            match way.attempt(command.clone(), None, deadline).await {
                Ok(Attempted { done, epoch }) => {
                    let id = SessionId(done.revision.get());
                    return Ok(Self { id, epoch, window: Semaphore::new(MAX_UNANSWERED), numbers: Mutex::default() });
                }
                Err(Miss::Refused(error)) => return Err(error),
                Err(Miss::NotDone(error)) if last.is_none() || Instant::now() < deadline => last = Some(error),
                // What the caller wants was not even sent.
                Err(Miss::NotDone(_) | Miss::Lost(_) | Miss::OtherEpoch) => {}
            }
            if !pause(way, deadline).await {
                return Err(last.unwrap_or_else(|| W::late("no session was opened in time")));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn give_out<W: Way>(&self, way: &W, deadline: Instant) -> Result<Number<'_>, W::Error> {
        let permit = match self.window.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_none_left) => within(way, deadline, self.window.acquire()).await.and_then(Result::ok),
        };
        let late = || W::late("as many writes as a session may have are under way");
        permit.ok_or_else(late)?.forget();
        let mut numbers = self.lock();
        numbers.settled.push_back(false);
        let number = numbers.first + numbers.settled.len() as u64 - 1;
        Ok(Number { session: self, number })
    }

    /// The number was answered or given up.
    fn settle(&self, number: u64) {
        let mut numbers = self.lock();
        let at = usize::try_from(number - numbers.first).unwrap_or(usize::MAX);
        if let Some(settled) = numbers.settled.get_mut(at) {
            *settled = true;
        }
        let mut freed = 0;
        while numbers.settled.front() == Some(&true) {
            numbers.settled.pop_front();
            freed += 1;
        }
        numbers.first += freed as u64;
        drop(numbers);
        self.window.add_permits(freed);
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self { first: 1, settled: VecDeque::new() }
    }
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        self.session.settle(self.number);
    }
}

impl Number<'_> {
    /// Sends the write until it is answered.
    async fn write<W: Way>(&self, way: &W, command: &Command<'_>, deadline: Instant) -> Ended<W::Error> {
        let session = self.session;
        // Why an earlier copy may have been done.
        let mut doubt: Option<String> = None;
        let mut last = None;
        loop {
            let first_unanswered = session.lock().first;
            let numbered = command.encode_numbered(session.id, self.number, first_unanswered);
            match way.attempt(numbered, Some(session.epoch), deadline).await {
                Ok(Attempted { done, .. }) => match of_session(&done.answer) {
                    None => return Ended::Done(done),
                    Some(Rejection::NoSession(_)) => return gone::<W>(doubt),
                    // That cannot be while one handle alone numbers with the session.
                    Some(_) => return Ended::Failed(W::unknown("others write with its session".to_owned())),
                },
                Err(Miss::OtherEpoch) => return gone::<W>(doubt),
                Err(Miss::Lost(reason)) => doubt = Some(reason),
                Err(Miss::Refused(error)) => {
                    return Ended::Failed(doubt.map_or(error, W::unknown));
                }
                Err(Miss::NotDone(error)) if last.is_none() || Instant::now() < deadline => last = Some(error),
                Err(Miss::NotDone(_)) => {}
            }
            if !pause(way, deadline).await {
                let late = || last.unwrap_or_else(|| W::late("the time is up"));
                return Ended::Failed(doubt.map_or_else(late, W::unknown));
            }
        }
    }
}

/// A rejection that is of the number and not of the command.
fn of_session(answer: &Answer) -> Option<&Rejection> {
    let Answer::Rejected(rejection) = answer else { return None };
    match rejection {
        Rejection::NoSession(_) | Rejection::Forgotten(_) | Rejection::TooManyUnanswered(_) => Some(rejection),
        Rejection::NoLease(_)
        | Rejection::NotANumber(_)
        | Rejection::Overflow(_)
        | Rejection::TooMuchRead(_)
        | Rejection::Malformed(_) => None,
    }
}

/// What the end of its session means for a write.
fn gone<W: Way>(doubt: Option<String>) -> Ended<W::Error> {
    match doubt {
        None => Ended::NoSession,
        Some(reason) => Ended::Failed(W::unknown(format!("{reason}, and its session has ended since"))),
    }
}

/// Waits a little before the next attempt. False when there is no time for one.
async fn pause<W: Way>(way: &W, deadline: Instant) -> bool {
    let next = Instant::now() + RETRY_PAUSE;
    if next >= deadline {
        return false;
    }
    way.sleep_until(next).await;
    true
}

/// What a future gives before the deadline.
async fn within<W: Way, T>(way: &W, deadline: Instant, future: impl Future<Output = T> + Send) -> Option<T> {
    match select(std::pin::pin!(future), way.sleep_until(deadline)).await {
        Either::Left((value, _sleeping)) => Some(value),
        Either::Right(((), _late)) => None,
    }
}
