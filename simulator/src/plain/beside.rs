//! Leases, and which keys live with them; the records beside the keys.

use bytes::Bytes;
use dledger::error::Rejection;
use dledger::kv::answer::Answer;
use dledger::types::{LeaseId, LogTime};

use super::{MAX_ENDED, MAX_ENDED_SESSIONS, Plain, number, record};

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) ttl_ms: u64,
    pub(crate) deadline: LogTime,
}

impl Plain {
    pub(super) fn grant(&mut self, lease: LeaseId, ttl_ms: u64) {
        let deadline = LogTime(self.now().get().saturating_add(ttl_ms));
        self.leases.insert(lease, Lease { ttl_ms, deadline });
    }

    fn is_alive(&self, lease: LeaseId) -> bool {
        self.leases.get(&lease).is_some_and(|it| it.deadline > self.now())
    }

    /// Whether a key may be written under it.
    pub(super) fn takes(&self, lease: LeaseId) -> bool {
        lease.is_zero() || self.is_alive(lease)
    }

    pub(super) fn lease_of(&self, key: &[u8]) -> LeaseId {
        self.bound.get(key).copied().unwrap_or_default()
    }

    pub(super) fn bind(&mut self, key: &Bytes, lease: LeaseId) {
        if lease.is_zero() {
            self.bound.remove(key);
        } else {
            self.bound.insert(key.clone(), lease);
        }
    }

    pub(super) fn keep_alive(&mut self, lease: LeaseId) -> Option<u64> {
        if !self.is_alive(lease) {
            return None;
        }
        let now = self.now();
        let it = self.leases.get_mut(&lease)?;
        it.deadline = LogTime(now.get().saturating_add(it.ttl_ms));
        Some(it.ttl_ms)
    }

    pub(super) fn revoke(&mut self, lease: LeaseId) -> Answer {
        if !self.is_alive(lease) {
            return Answer::Rejected(Rejection::NoLease(lease));
        }
        let now = self.now();
        if let Some(it) = self.leases.get_mut(&lease) {
            it.deadline = now;
        }
        Answer::Deleted(self.end(lease, MAX_ENDED) as u64)
    }

    /// Deletes at most so many keys of a lease, and forgets it with the last of them.
    fn end(&mut self, lease: LeaseId, most: usize) -> usize {
        let of_it = self.bound.iter().filter(|(_key, of)| **of == lease).map(|(key, _of)| key);
        let keys: Vec<Bytes> = of_it.take(most).cloned().collect();
        let deleted = self.remove_all(&keys);
        if !self.bound.values().any(|of| *of == lease) {
            self.leases.remove(&lease);
            self.effect.ended.push(lease);
        }
        usize::try_from(deleted).unwrap_or(most)
    }

    /// A no-op ends what has lived its time: by deadline, then by id, a bounded part of it.
    pub(super) fn end_due(&mut self) {
        let now = self.now();
        let sessions = self.sessions.iter().filter(|(_id, it)| it.deadline <= now).map(|(id, it)| (it.deadline, *id));
        let mut sessions: Vec<_> = sessions.collect();
        sessions.sort_unstable();
        for (_deadline, session) in sessions.iter().take(MAX_ENDED_SESSIONS) {
            self.sessions.remove(session);
        }
        let leases = self.leases.iter().filter(|(_id, it)| it.deadline <= now).map(|(id, it)| (it.deadline, *id));
        let mut leases: Vec<_> = leases.collect();
        leases.sort_unstable();
        let mut left = MAX_ENDED;
        for (_deadline, lease) in leases {
            if left == 0 {
                return;
            }
            left -= self.end(lease, left).clamp(1, left);
        }
    }

    /// The records beside the keys.
    pub(super) fn records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for (id, lease) in &self.leases {
            let numbers = [number(id.get()), number(lease.ttl_ms), number(lease.deadline.get())];
            records.push(record(2, &[&numbers.concat()]));
        }
        for (key, lease) in &self.bound {
            records.push(record(3, &[&number(key.len() as u64), key, &number(lease.get())]));
        }
        for (id, session) in &self.sessions {
            records.extend(session.records(*id));
        }
        records
    }
}
