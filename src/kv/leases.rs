//! Leases, and the keys that live with them.
//!
//! A lease has a deadline in log time; keeping it alive moves the deadline on. From the deadline on it is ended: nothing
//! can be bound to it and nothing revives it. Its keys are deleted by the next no-op, which a leader appends for this
//! purpose when its clock passes the deadline, in the order of (deadline, lease, key) and at most [`MAX_ENDED_KEYS`] with
//! one entry; so the last keys of a large lease go some entries later than the first. Only no-ops and the revocation of a
//! lease delete for this reason, so a revision never both deletes a key for its lease and writes it.
//!
//! Invariants: `of_key` and the keys of all leases say the same; `due` has every lease once, under its deadline.
//! Equal calls leave equal leases. A clone costs nothing: nodes of the maps are shared.

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};

use crate::types::{LeaseId, LogTime};

use super::side::{Side, SideName};

/// Keys that one entry deletes because leases have ended.
pub(super) const MAX_ENDED_KEYS: usize = 1024;

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    ttl_ms: u64,
    deadline: LogTime,
    keys: OrdSet<Bytes>,
}

/// What is known of a lease.
///
/// ```
/// use dledger::kv::LeaseStatus;
/// # dledger::doctest::run(|store| async move {
///
/// let lease = store.grant_lease(std::time::Duration::from_secs(60)).await?;
/// for LeaseStatus { lease, ttl_ms, keys, .. } in store.leases() {
///     println!("lease {lease} lives {ttl_ms} ms, with {keys} keys");
/// }
/// # assert_eq!(store.leases()[0].lease, lease);
/// # Ok(()) });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// The lease.
    pub lease: LeaseId,
    /// How long it lives without being kept alive, in milliseconds.
    pub ttl_ms: u64,
    /// When it ends, in log time.
    pub deadline: LogTime,
    /// How many keys live with it.
    pub keys: u64,
}

/// All leases.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    by_id: OrdMap<LeaseId, Lease>,
    due: OrdSet<(LogTime, LeaseId)>,
    of_key: OrdMap<Bytes, LeaseId>,
}

impl Leases {
    /// When the next lease ends.
    pub(super) fn next_deadline(&self) -> Option<LogTime> {
        self.due.get_min().map(|(deadline, _lease)| *deadline)
    }

    /// The lease that a key lives with; zero for none.
    pub(super) fn of_key(&self, key: &[u8]) -> LeaseId {
        self.of_key.get(key).copied().unwrap_or_default()
    }

    /// Whether no key lives with a lease.
    pub(super) fn bind_nothing(&self) -> bool {
        self.of_key.is_empty()
    }

    /// Whether keys can be bound to it.
    pub(super) fn is_alive(&self, lease: LeaseId, now: LogTime) -> bool {
        self.by_id.get(&lease).is_some_and(|it| it.deadline > now)
    }

    /// All leases that live at this time, in the order of their ids, from one on.
    pub(super) fn alive(&self, from: LeaseId, now: LogTime) -> impl Iterator<Item = LeaseStatus> {
        let alive = self.by_id.range(from..).filter(move |(_lease, it)| it.deadline > now);
        alive.map(|(lease, it)| LeaseStatus {
            lease: *lease,
            ttl_ms: it.ttl_ms,
            deadline: it.deadline,
            keys: it.keys.len() as u64,
        })
    }

    /// Makes a lease.
    pub(super) fn grant(&mut self, lease: LeaseId, ttl_ms: u64, now: LogTime, dirty: &mut Vec<SideName>) {
        self.insert(lease, ttl_ms, LogTime(now.get().saturating_add(ttl_ms)));
        dirty.push(SideName::Lease(lease));
    }

    fn insert(&mut self, lease: LeaseId, ttl_ms: u64, deadline: LogTime) {
        self.by_id.insert(lease, Lease { ttl_ms, deadline, keys: OrdSet::new() });
        self.due.insert((deadline, lease));
    }

    /// Moves a lease's deadline on; the answer is its time to live, `None` when it has ended.
    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: LogTime, dirty: &mut Vec<SideName>) -> Option<u64> {
        let ttl_ms = self.by_id.get(&lease).filter(|it| it.deadline > now)?.ttl_ms;
        self.set_deadline(lease, LogTime(now.get().saturating_add(ttl_ms)), dirty);
        Some(ttl_ms)
    }

    fn set_deadline(&mut self, lease: LeaseId, deadline: LogTime, dirty: &mut Vec<SideName>) {
        let Some(it) = self.by_id.get_mut(&lease) else { return };
        self.due.remove(&(it.deadline, lease));
        it.deadline = deadline;
        self.due.insert((deadline, lease));
        dirty.push(SideName::Lease(lease));
    }

    /// A key was written: from now on it lives with this lease, or with none.
    pub(super) fn bind(&mut self, key: &[u8], lease: LeaseId, dirty: &mut Vec<SideName>) {
        if lease == self.of_key(key) {
            return;
        }
        self.unbind(key, dirty);
        if let Some(it) = self.by_id.get_mut(&lease) {
            let key = Bytes::copy_from_slice(key);
            it.keys.insert(key.clone());
            self.of_key.insert(key.clone(), lease);
            dirty.push(SideName::Bound(key));
        }
    }

    /// A key is gone, or lives without a lease.
    pub(super) fn unbind(&mut self, key: &[u8], dirty: &mut Vec<SideName>) {
        let Some((key, lease)) = self.of_key.remove_with_key(key) else { return };
        if let Some(it) = self.by_id.get_mut(&lease) {
            it.keys.remove(&key);
        }
        dirty.push(SideName::Bound(key));
    }

    /// Ends a lease before its deadline. False when there is none that lives.
    pub(super) fn end(&mut self, lease: LeaseId, now: LogTime, dirty: &mut Vec<SideName>) -> bool {
        let alive = self.is_alive(lease, now);
        if alive {
            self.set_deadline(lease, now, dirty);
        }
        alive
    }

    /// The next keys to go of this lease, which has ended; it is forgotten with its last keys.
    pub(super) fn take_keys(&mut self, lease: LeaseId, limit: usize, dirty: &mut Vec<SideName>) -> Vec<Bytes> {
        let Some(it) = self.by_id.get(&lease) else { return Vec::new() };
        let keys: Vec<Bytes> = it.keys.iter().take(limit).cloned().collect();
        for key in &keys {
            self.unbind(key, dirty);
        }
        if let Some(it) = self.by_id.get(&lease).filter(|it| it.keys.is_empty()) {
            self.due.remove(&(it.deadline, lease));
            self.by_id.remove(&lease);
            dirty.push(SideName::Lease(lease));
        }
        keys
    }

    /// The next keys to go of all leases that have ended by now.
    pub(super) fn take_ended(&mut self, now: LogTime, dirty: &mut Vec<SideName>) -> Vec<Bytes> {
        let mut keys = Vec::new();
        // A lease without keys counts for one: an entry's work is bounded whatever the leases hold.
        let mut left = MAX_ENDED_KEYS;
        while left > 0
            && let Some((_deadline, lease)) = self.due.get_min().filter(|(deadline, _lease)| *deadline <= now).copied()
        {
            let taken = self.take_keys(lease, left, dirty);
            left = left.saturating_sub(taken.len().max(1));
            keys.extend(taken);
        }
        keys
    }

    /// The record of this name, as it is now; `None` when there is none.
    pub(super) fn record(&self, name: &SideName) -> Option<Side> {
        match name {
            SideName::Lease(lease) => {
                let it = self.by_id.get(lease)?;
                Some(Side::Lease { lease: *lease, ttl_ms: it.ttl_ms, deadline: it.deadline })
            }
            SideName::Bound(key) => {
                let lease = *self.of_key.get(key)?;
                Some(Side::Bound { key: key.clone(), lease })
            }
            SideName::Session(_) | SideName::Answer(..) => None,
        }
    }

    /// All records, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = Side> {
        let leases = self.by_id.keys().copied().map(SideName::Lease);
        let bound = self.of_key.keys().cloned().map(SideName::Bound);
        leases.chain(bound).filter_map(|name| self.record(&name))
    }

    /// Takes a record in, leases ahead of their keys. False when it cannot be part of a state.
    pub(super) fn load(&mut self, side: &Side) -> bool {
        match side {
            Side::Lease { lease, ttl_ms, deadline } => {
                self.insert(*lease, *ttl_ms, *deadline);
                true
            }
            Side::Bound { key, lease } => {
                let Some(it) = self.by_id.get_mut(lease) else { return false };
                it.keys.insert(key.clone());
                self.of_key.insert(key.clone(), *lease);
                true
            }
            Side::Session { .. } | Side::Answer { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: LeaseId = LeaseId(5);
    const TWO: LeaseId = LeaseId(6);

    fn leases() -> Leases {
        let mut leases = Leases::default();
        leases.grant(ONE, 100, LogTime(1_000), &mut Vec::new());
        leases.grant(TWO, 100, LogTime(1_000), &mut Vec::new());
        leases
    }

    fn reloaded(leases: &Leases) -> Leases {
        let mut copy = Leases::default();
        assert!(leases.records().all(|side| copy.load(&side)));
        copy
    }

    #[test]
    fn lease_lives_up_to_its_deadline_and_nothing_revives_it() {
        let (mut leases, dirty) = (leases(), &mut Vec::new());
        assert!(leases.is_alive(ONE, LogTime(1_099)) && !leases.is_alive(ONE, LogTime(1_100)));
        assert_eq!(leases.keep_alive(ONE, LogTime(1_099), dirty), Some(100));
        assert!(leases.is_alive(ONE, LogTime(1_198)));
        assert_eq!(leases.keep_alive(ONE, LogTime(1_199), dirty), None);
        assert_eq!(leases.next_deadline(), Some(LogTime(1_100)), "of the other");
    }

    #[test]
    fn lease_takes_its_keys_with_it_in_order_and_a_bounded_number_at_once() {
        let (mut leases, dirty) = (leases(), &mut Vec::new());
        let key = |number: usize| format!("k{number:05}");
        for number in (0..MAX_ENDED_KEYS + 3).rev() {
            leases.bind(key(number).as_bytes(), ONE, dirty);
        }
        leases.bind(b"other", TWO, dirty);
        assert!(leases.take_ended(LogTime(1_099), dirty).is_empty());
        let first = leases.take_ended(LogTime(1_100), dirty);
        assert_eq!((first.len(), &first[0][..]), (MAX_ENDED_KEYS, key(0).as_bytes()));
        assert_eq!(leases.next_deadline(), Some(LogTime(1_100)), "there is more to do at once");
        assert!(leases.of_key(b"k01025") == ONE && !leases.is_alive(ONE, LogTime(1_100)));
        let rest = leases.take_ended(LogTime(1_100), dirty);
        assert_eq!(rest.last().unwrap(), "other");
        assert_eq!((rest.len(), leases.next_deadline()), (4, None));
        assert!(leases.bind_nothing() && leases.records().next().is_none());
    }

    #[test]
    fn lease_of_a_key_is_that_of_its_last_write() {
        let (mut leases, dirty) = (leases(), &mut Vec::new());
        leases.bind(b"k", ONE, dirty);
        leases.bind(b"k", TWO, dirty);
        assert_eq!(leases.of_key(b"k"), TWO);
        assert!(leases.take_keys(ONE, 9, dirty).is_empty());
        leases.bind(b"k", LeaseId::ZERO, dirty);
        assert!(leases.bind_nothing());
        assert!(leases.end(TWO, LogTime(1_001), dirty) && !leases.end(TWO, LogTime(1_001), dirty));
        assert!(leases.take_keys(TWO, 9, dirty).is_empty() && leases.records().next().is_none());
    }

    #[test]
    fn lease_records_make_the_same_leases_again() {
        let (mut leases, dirty) = (leases(), &mut Vec::new());
        leases.bind(b"k", ONE, dirty);
        leases.keep_alive(TWO, LogTime(1_050), dirty);
        let copy = reloaded(&leases);
        assert!(copy.by_id == leases.by_id && copy.due == leases.due && copy.of_key == leases.of_key);
        assert!(!Leases::default().load(&Side::Bound { key: "k".into(), lease: ONE }), "no such lease");
        dirty.sort();
        dirty.dedup();
        assert_eq!(dirty.iter().filter_map(|name| leases.record(name)).count(), 2, "what was changed is named");
    }
}
