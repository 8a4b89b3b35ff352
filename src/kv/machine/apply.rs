//! What each command does to the state.
//!
//! A command either does all of what it says or is rejected and changes nothing; a rejection is an answer. Time is that
//! of the entry.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::Rejection;
use crate::simulation::plants::Plant;
use crate::state_machine::Applied;
use crate::types::{Index, LeaseId, LogTime, SessionId};

use super::super::answer::{self, Answer};
use super::super::backend::{Backend, BackendError, Leaving, Stored};
use super::super::command::Command;
use super::super::leases::MAX_ENDED_KEYS;
use super::super::limits::MAX_KEEP_ALIVES;
use super::super::range::KeyRange;
use super::super::sessions::Numbered;
use super::super::txn::{Compare, Comparison, Condition, OpResult, Txn, TxnOp};
use super::super::view::item;
use super::KvMachine;

/// Bytes of values that a transaction reads at most, unless it reads one alone: they stand in its answer.
pub(in super::super) const MAX_TXN_READ_BYTES: usize = 1 << 20;

/// Why an entry cannot be applied.
pub(super) enum Stop {
    /// The backend fails.
    Broken(BackendError),
    /// The entry is not one of this release.
    Unreadable(String),
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Self::Broken(error)
    }
}

impl<B: Backend> KvMachine<B> {
    fn now(&self) -> LogTime {
        self.base.time
    }

    fn revision(&self) -> Index {
        self.base.entry.index
    }

    /// A command, numbered or not.
    pub(super) fn command(&mut self, command: Command<'_>) -> Result<Applied, Stop> {
        let Command::Numbered { session, number, first_unanswered, command } = command else {
            return self.plain(command, None);
        };
        let inner = Command::decode(command).map_err(|error| Stop::Unreadable(error.to_string()))?;
        let (now, beside) = (self.now(), &mut self.beside);
        let first_unanswered = if self.plants.has(Plant::AnswersLetGoEarly) { number } else { first_unanswered };
        let numbered = beside.sessions.number(session, number, first_unanswered, now, &mut beside.dirty);
        match numbered {
            Numbered::New => self.plain(inner, Some((session, number))),
            Numbered::Done(..) if self.plants.has(Plant::RepeatDoneAgain) => self.plain(inner, Some((session, number))),
            Numbered::Rejected(Rejection::NoSession(_)) if self.plants.has(Plant::SessionReopened) => {
                self.beside.sessions.open(session, 60_000, now, &mut self.beside.dirty);
                self.plain(inner, Some((session, number)))
            }
            Numbered::Done(revision, answer) => {
                let own = self.plants.has(Plant::RepeatUnderOwnRevision).then(|| self.revision());
                let revision = own.unwrap_or(revision);
                if !self.plants.has(Plant::WatchRepeats) {
                    self.effects.nothing(self.revision());
                }
                Ok(Applied::Done(answer::first(revision, &answer)))
            }
            Numbered::Rejected(rejection) => {
                self.effects.nothing(self.revision());
                Ok(Applied::Done(Answer::Rejected(rejection).encode()))
            }
        }
    }

    fn plain(&mut self, command: Command<'_>, asked: Option<(SessionId, u64)>) -> Result<Applied, Stop> {
        let answer = match command {
            Command::Put { key, value, lease } => self.put(key, value, lease)?,
            Command::Delete { key } => {
                let there = self.delete(key)?;
                if !there {
                    self.effects.nothing(self.revision());
                }
                Answer::Deleted(u64::from(there))
            }
            Command::DeleteRange { from, to } => {
                let range = KeyRange { from: Bytes::copy_from_slice(from), to: to.map(Bytes::copy_from_slice) };
                self.deleting = Some(Leaving { range, count: 0, asked });
                return Ok(self.turn()?);
            }
            Command::Txn(txn) => self.transact(&txn)?,
            Command::GrantLease { ttl_ms } => {
                let (lease, now) = (LeaseId(self.revision().get()), self.now());
                self.beside.leases.grant(lease, ttl_ms, now, &mut self.beside.dirty);
                Answer::Done
            }
            Command::KeepAlive { leases } if leases.len() > MAX_KEEP_ALIVES => {
                Answer::Rejected(Rejection::Malformed(format!("{} leases to keep alive at once", leases.len())))
            }
            Command::KeepAlive { leases } if self.plants.has(Plant::LeaseNotRenewed) => {
                let alive = |lease| self.beside.leases.is_alive(lease, self.now()).then_some(1);
                Answer::KeptAlive(leases.into_iter().map(alive).collect())
            }
            Command::KeepAlive { leases } => {
                let (now, beside) = (self.now(), &mut self.beside);
                let keep = |lease| beside.leases.keep_alive(lease, now, &mut beside.dirty);
                Answer::KeptAlive(leases.into_iter().map(keep).collect())
            }
            Command::RevokeLease { lease } => self.revoke(lease)?,
            Command::OpenSession { ttl_ms } => {
                let (session, now) = (SessionId(self.revision().get()), self.now());
                self.beside.sessions.open(session, ttl_ms, now, &mut self.beside.dirty);
                Answer::Done
            }
            Command::CloseSession { session } => {
                self.beside.sessions.close(session, &mut self.beside.dirty);
                Answer::Done
            }
            // Decoding lets no number stand in another.
            Command::Numbered { .. } => Answer::Rejected(Rejection::Malformed("a number in a number".to_owned())),
        };
        if matches!(answer, Answer::Rejected(_)) {
            self.effects.nothing(self.revision());
        }
        Ok(Applied::Done(self.answered(asked, answer.encode())))
    }

    /// The answer to a command as the caller gets it; that to a numbered one is kept.
    pub(super) fn answered(&mut self, asked: Option<(SessionId, u64)>, answer: Bytes) -> Bytes {
        let Some((session, number)) = asked else { return answer };
        let (revision, beside) = (self.revision(), &mut self.beside);
        beside.sessions.keep(session, number, revision, &answer, &mut beside.dirty);
        answer::first(revision, &answer)
    }

    fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Result<Answer, BackendError> {
        if !self.takes(lease) {
            return Ok(Answer::Rejected(Rejection::NoLease(lease)));
        }
        self.write(key, value, lease)?;
        Ok(Answer::Done)
    }

    /// Whether a key may be written under this lease, which may be none.
    fn takes(&self, lease: LeaseId) -> bool {
        let planted = self.plants.has(Plant::DeadLeaseTaken);
        lease.is_zero() || planted || self.beside.leases.is_alive(lease, self.now())
    }

    fn write(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Result<(), BackendError> {
        let revision = self.revision();
        let before = self.map.put(key, value, revision)?;
        self.effects.changed(revision, before.as_ref());
        let keeps = lease.is_zero() && self.plants.has(Plant::PutKeepsLease);
        if (!lease.is_zero() || !self.beside.leases.bind_nothing()) && !keeps {
            self.beside.leases.bind(key, lease, &mut self.beside.dirty);
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool, BackendError> {
        let before = self.map.delete(key)?;
        if before.is_some() {
            self.effects.changed(self.revision(), before.as_ref());
        }
        self.beside.unbind(before.is_some().then_some(key).into_iter());
        Ok(before.is_some())
    }

    /// Deletes keys that the entry does not name, all that it deletes.
    fn end(&mut self, keys: &[Bytes]) -> Result<(), BackendError> {
        let revision = self.revision();
        for key in keys {
            if let Some(before) = self.map.delete(key)?.filter(|_before| !self.plants.has(Plant::WatchMissesExpiry)) {
                self.effects.gone(revision, key, &before);
            }
        }
        self.effects.all_gone(revision);
        Ok(())
    }

    fn revoke(&mut self, lease: LeaseId) -> Result<Answer, BackendError> {
        let (now, beside) = (self.now(), &mut self.beside);
        if !beside.leases.end(lease, now, &mut beside.dirty) {
            return Ok(Answer::Rejected(Rejection::NoLease(lease)));
        }
        let keys = beside.leases.take_keys(lease, MAX_ENDED_KEYS, &mut beside.dirty);
        self.end(&keys)?;
        Ok(Answer::Deleted(keys.len() as u64))
    }

    /// Ends what has lived its time.
    pub(super) fn end_due(&mut self) -> Result<Applied, Stop> {
        let (now, beside) = (self.now(), &mut self.beside);
        beside.sessions.end_due(now, &mut beside.dirty);
        let mut keys = beside.leases.take_ended(now, &mut beside.dirty);
        if self.plants.has(Plant::ExpirySkipsKeys) {
            keys.pop();
        }
        self.end(&keys)?;
        Ok(Applied::Done(Bytes::new()))
    }

    fn transact(&mut self, txn: &Txn) -> Result<Answer, BackendError> {
        if let Err(error) = txn.check() {
            return Ok(Answer::Rejected(Rejection::Malformed(error.to_string())));
        }
        let mut succeeded = true;
        for compare in &txn.compare {
            let (there, lease) = (self.map.read(&compare.key)?, self.beside.leases.of_key(&compare.key));
            let over = self.plants.has(Plant::EndedKeyCountsAsAbsent) && !self.takes(lease);
            succeeded = succeeded && holds(compare, there.filter(|_stored| !over).as_ref());
        }
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let sums = match self.foresee(ops)? {
            Ok(sums) => sums,
            Err(rejection) => {
                if let Some(TxnOp::Put { key, value, .. }) =
                    ops.first().filter(|_| self.plants.has(Plant::TxnHalfApplied))
                {
                    self.write(key, value, LeaseId::ZERO)?;
                }
                return Ok(Answer::Rejected(rejection));
            }
        };
        let mut sums = sums.into_iter();
        let (mut results, mut kept) = (Vec::with_capacity(ops.len()), Vec::new());
        for op in ops {
            results.push(match op {
                TxnOp::Put { key, value, lease } => {
                    self.write(key, value, *lease)?;
                    OpResult::Put
                }
                TxnOp::Delete { key } => OpResult::Deleted(self.delete(key)?),
                TxnOp::Get { key } => {
                    let lease = self.beside.leases.of_key(key);
                    OpResult::Value(self.map.read(key)?.map(|stored| item(key, &stored, lease, false)))
                }
                TxnOp::Add { key, .. } => {
                    let sum = sums.next().unwrap_or_default();
                    let lease = self.beside.leases.of_key(key);
                    self.write(key, sum.to_string().as_bytes(), lease)?;
                    kept.push(lease);
                    OpResult::Sum(sum)
                }
            });
        }
        let noted = succeeded || self.plants.has(Plant::WatchTakesFirstBranch);
        self.effects.transacted(self.revision(), noted, &results, kept);
        Ok(Answer::Txn { succeeded, results })
    }

    /// Looks whether a branch can be done, before any of it is: the sums that it will come to, or why not. A branch
    /// writes no key twice, so what it adds to is what is there now.
    fn foresee(&self, ops: &[TxnOp]) -> Result<Result<Vec<i64>, Rejection>, BackendError> {
        let mut sums = Vec::new();
        let mut written = BTreeMap::new();
        let (mut reads, mut bytes) = (0, 0);
        for op in ops {
            match op {
                TxnOp::Put { lease, .. } if !self.takes(*lease) => return Ok(Err(Rejection::NoLease(*lease))),
                TxnOp::Add { key, by } => match add(self.map.read(key)?.as_ref(), *by) {
                    Some(Some(sum)) => sums.push(sum),
                    Some(None) => return Ok(Err(Rejection::Overflow(key.clone()))),
                    None => return Ok(Err(Rejection::NotANumber(key.clone()))),
                },
                TxnOp::Put { key, value, .. } => drop(written.insert(key, value.len())),
                TxnOp::Delete { .. } => {}
                TxnOp::Get { key } => {
                    let there = self.map.read(key)?.map_or(0, |stored| stored.value.len());
                    bytes += written.get(key).copied().unwrap_or(there);
                    reads += 1;
                }
            }
        }
        if reads > 1 && bytes > MAX_TXN_READ_BYTES {
            return Ok(Err(Rejection::TooMuchRead(bytes as u64)));
        }
        Ok(Ok(sums))
    }
}

/// The sum; `Some(None)` when it does not fit, `None` when what is there is no number.
fn add(there: Option<&Stored>, by: i64) -> Option<Option<i64>> {
    let number: i64 = match there {
        Some(stored) => std::str::from_utf8(&stored.value).ok()?.parse().ok()?,
        None => 0,
    };
    Some(number.checked_add(by))
}

/// Whether a comparison holds of what is there.
fn holds(compare: &Compare, there: Option<&Stored>) -> bool {
    let number = |of: fn(&Stored) -> u64| there.map_or(0, of);
    match &compare.condition {
        Condition::Exists(expected) => there.is_some() == *expected,
        Condition::Value(how, given) => match there {
            Some(stored) => how.holds(&stored.value[..], &given[..]),
            None => *how == Comparison::NotEqual,
        },
        Condition::Version(how, given) => how.holds(&number(|it| it.version), given),
        Condition::CreateRevision(how, given) => how.holds(&number(|it| it.create_revision.get()), &given.get()),
        Condition::ModRevision(how, given) => how.holds(&number(|it| it.mod_revision.get()), &given.get()),
    }
}
