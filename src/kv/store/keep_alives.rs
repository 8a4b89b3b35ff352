//! Gathers what keeps leases alive: whatever comes while one entry of it is under way goes together into the next.
//!
//! ```text
//!   keep ──┐                       ┌─ entry under way ─┐
//!   keep ──┼─► waiting ─(one task)─┤                   ├─► each caller gets its leases' part of the answer
//!   keep ──┘        ▲              └───────────────────┘
//!                   └── comes meanwhile: the next entry
//! ```
//! No timer holds the first one back, and ten thousand leases cost as many entries as there are round trips. The task is
//! the node's own: no caller who goes away takes the others' entry with it. It ends when nobody waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::WriteError;
use crate::node::{NodeHandle, Proposal};
use crate::types::{Index, LeaseId};

use super::super::answer::Answer;
use super::super::command::Command;
use super::super::done::Done;
use super::super::limits::MAX_KEEP_ALIVES;
use super::DEFAULT_TIMEOUT;

/// Callers that may wait; each has at most [`MAX_KEEP_ALIVES`] leases.
const MAX_WAITING: usize = 1 << 16;

/// The entry that kept leases alive, and the time to live of each; `None` for one that has ended.
type Kept = (Index, Vec<Option<u64>>);

#[derive(Debug, Default)]
pub(super) struct KeepAlives(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Caller>,
    /// Whether the task runs.
    under_way: bool,
}

#[derive(Debug)]
struct Caller {
    leases: Vec<LeaseId>,
    reply: oneshot::Sender<Result<Kept, WriteError>>,
}

impl KeepAlives {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps leases alive with the next entry.
    pub(super) async fn keep(
        self: &Arc<Self>,
        node: &NodeHandle,
        leases: Vec<LeaseId>,
        within: Duration,
    ) -> Result<Kept, WriteError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.waiting.len() >= MAX_WAITING {
                return Err(WriteError::Overloaded(format!("{MAX_WAITING} wait to keep leases alive")));
            }
            state.waiting.push(Caller { leases, reply });
            if !std::mem::replace(&mut state.under_way, true) {
                node.runtime().spawn(Task { gathered: Arc::clone(self), ended: false }.run(node.visitor()));
            }
        }
        let waiting = {
            let _context = node.runtime().enter();
            timeout(within, answer)
        };
        match waiting.await {
            Ok(Ok(kept)) => kept,
            Ok(Err(_gone)) => Err(WriteError::Stopped("it was shut down".to_owned())),
            Err(_elapsed) => Err(WriteError::Unknown("no answer came in time".to_owned())),
        }
    }

    /// Those who go into the next entry; `None`, and the task ends, when nobody waits.
    fn next(&self) -> Option<Vec<Caller>> {
        let mut state = self.lock();
        state.waiting.retain(|caller| !caller.reply.is_closed());
        let (mut leases, mut callers) = (0, 0);
        for caller in &state.waiting {
            leases += caller.leases.len();
            if leases > MAX_KEEP_ALIVES {
                break;
            }
            callers += 1;
        }
        state.under_way = callers > 0;
        (callers > 0).then(|| state.waiting.drain(..callers).collect())
    }
}

/// Proposes as long as somebody waits. One that is dropped, with the node's runtime, lets nobody wait in vain.
struct Task {
    gathered: Arc<KeepAlives>,
    ended: bool,
}

impl Task {
    async fn run(mut self, node: NodeHandle) {
        while let Some(callers) = self.gathered.next() {
            let leases = callers.iter().flat_map(|caller| &caller.leases).copied().collect();
            match propose(&node, leases).await {
                Ok((revision, answers)) => {
                    let mut answers = answers.into_iter();
                    for caller in callers {
                        let part = answers.by_ref().take(caller.leases.len()).collect();
                        let _caller_gone = caller.reply.send(Ok((revision, part)));
                    }
                }
                Err(error) => callers.into_iter().for_each(|caller| {
                    let _caller_gone = caller.reply.send(Err(error.clone()));
                }),
            }
        }
        self.ended = true;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.ended {
            *self.gathered.lock() = State::default();
        }
    }
}

async fn propose(node: &NodeHandle, leases: Vec<LeaseId>) -> Result<Kept, WriteError> {
    let payload = Command::KeepAlive { leases }.encode();
    let proposal = Proposal { channel: 0, payload, reserve: true };
    let mut done = node.propose(vec![proposal], DEFAULT_TIMEOUT).await?;
    let answer = done.answers.pop().unwrap_or_default();
    match Done::read(done.last(), &answer) {
        Ok(Done { revision, answer: Answer::KeptAlive(answers) }) => Ok((revision, answers)),
        Ok(_) | Err(_) => Err(WriteError::Unknown("it is done, but the answer cannot be read".to_owned())),
    }
}
