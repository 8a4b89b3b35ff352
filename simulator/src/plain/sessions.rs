//! Sessions: which number was done, and what was answered to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use dledger::error::Rejection;
use dledger::kv::answer::Answer;
use dledger::types::{LogTime, SessionId};

use super::{Plain, number, record};

/// The largest answer that is kept, and the most answers of a session.
const MAX_KEPT_BYTES: usize = 64 << 10;
const MAX_UNANSWERED: usize = 1024;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    ttl_ms: u64,
    pub(super) deadline: LogTime,
    first_unanswered: u64,
    /// Revision and answer, by number.
    kept: BTreeMap<u64, (u64, Bytes)>,
}

/// What is to be done about a number.
pub(super) enum Numbered {
    New,
    Done(u64, Bytes),
    Rejected(Rejection),
}

impl Plain {
    pub(super) fn open(&mut self, session: SessionId, ttl_ms: u64) {
        let deadline = LogTime(self.now().get().saturating_add(ttl_ms));
        self.sessions.insert(session, Session { ttl_ms, deadline, first_unanswered: 1, kept: BTreeMap::new() });
    }

    pub(super) fn number(&mut self, id: SessionId, number: u64, first_unanswered: u64) -> Numbered {
        let now = self.now();
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.deadline > now) else {
            return Numbered::Rejected(Rejection::NoSession(id));
        };
        let deadline = LogTime(now.get().saturating_add(session.ttl_ms));
        if deadline.get() > session.deadline.get() + session.ttl_ms / 16 {
            session.deadline = deadline;
        }
        session.first_unanswered = session.first_unanswered.max(first_unanswered);
        let first = session.first_unanswered;
        session.kept.retain(|number, _answer| *number >= first);
        match session.kept.get(&number) {
            _ if number < first => Numbered::Rejected(Rejection::Forgotten(number)),
            Some((revision, answer)) => Numbered::Done(*revision, answer.clone()),
            None if session.kept.len() >= MAX_UNANSWERED => {
                Numbered::Rejected(Rejection::TooManyUnanswered(session.kept.len() as u64))
            }
            None => Numbered::New,
        }
    }

    pub(super) fn keep(&mut self, id: SessionId, number: u64, answer: &Bytes) {
        let index = self.index.get();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let small = answer.len() <= MAX_KEPT_BYTES;
        let answer = if small { answer.clone() } else { Answer::NotKept.encode() };
        session.kept.insert(number, (index, answer));
    }
}

impl Session {
    pub(super) fn records(&self, id: SessionId) -> Vec<Vec<u8>> {
        let id = number(id.get());
        let numbers = [id, number(self.ttl_ms), number(self.deadline.get()), number(self.first_unanswered)];
        let mut records = vec![record(4, &[&numbers.concat()])];
        for (of, (revision, answer)) in &self.kept {
            let numbers = [id, number(*of), number(*revision), number(answer.len() as u64)];
            records.push(record(5, &[&numbers.concat(), answer]));
        }
        records
    }
}
