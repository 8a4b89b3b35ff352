//! The queue in which contenders stand, as keys of the store.
//!
//! ```text
//!   NAME/<lease, 16 hex digits>   value: what the contender says of itself; create revision: its place
//! ```
//! The first is the one with the lowest create revision. Keys below `NAME/` that are not of this form, or do not live with the
//! lease in their name, are nobody's place and are passed over.
//!
//! A read may be of several pages, each a view of its own. That is enough: a place that is ahead of ours is there until it is
//! given up for good, so one that no page shows was given up before it was looked for.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::types::{Index, LeaseId};

use super::super::api::{Kv, KvError};
use super::super::range::KeyRange;
use super::super::txn::{Compare, Comparison, Condition, OpResult, Txn, TxnOp};
use super::super::watch::{EventKind, Watch, WatchError, WatchOptions};
use super::super::{Consistency, KeyValue, Scan};

/// Pause before something is asked again that had no answer for now.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Digits of a lease in a key.
const LEASE_DIGITS: usize = 16;

/// Who holds a lock or leads, as the store says. Examples stand at [`Lock`](super::Lock) and [`Election`](super::Election).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its fencing token.
    pub token: Index,
    /// What it says of itself: the label of a lock's holder, the value that a leader proclaims.
    pub value: Bytes,
    /// The lease with which its tenure ends.
    pub lease: LeaseId,
}

/// A contender's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Bytes,
    pub(super) lease: LeaseId,
    /// The fencing token, once it is first.
    pub(super) created: Index,
}

impl Place {
    /// Holds as long as the place is kept.
    pub(super) fn condition(&self) -> Compare {
        Compare::new(self.key.clone(), Condition::CreateRevision(Comparison::Equal, self.created))
    }
}

/// Where a contender stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody is ahead, as of this revision.
    First(Index),
    /// This is the place right before, as of this revision.
    Behind(Place, Index),
    /// Its place is gone.
    Gone,
}

/// A queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// Ends with the slash.
    prefix: Bytes,
}

impl Queue {
    pub(super) fn new(name: &[u8]) -> Self {
        Self { prefix: [name, b"/"].concat().into() }
    }

    fn key(&self, lease: LeaseId) -> Bytes {
        [&self.prefix[..], format!("{:0LEASE_DIGITS$x}", lease.get()).as_bytes()].concat().into()
    }

    /// The place that a key stands for; `None` for one that is no contender's.
    fn place(&self, item: &KeyValue) -> Option<Place> {
        let ours = !item.lease.is_zero() && item.key == self.key(item.lease);
        ours.then(|| Place { key: item.key.clone(), lease: item.lease, created: item.create_revision })
    }

    /// Takes a place. Asked again after an outcome that is unknown, it gives the same place.
    pub(super) async fn enter<K: Kv>(&self, kv: &K, lease: LeaseId, value: Bytes) -> Result<Place, KvError> {
        let key = self.key(lease);
        let txn = Txn {
            compare: vec![Compare::new(key.clone(), Condition::Exists(false))],
            then: vec![TxnOp::put_leased(key.clone(), value, lease)],
            otherwise: vec![TxnOp::get(key.clone())],
        };
        let done = kv.transact(txn).await?;
        if done.succeeded {
            return Ok(Place { key, lease, created: done.revision });
        }
        let there = match done.results.first() {
            Some(OpResult::Value(Some(item))) => self.place(item),
            _ => None,
        };
        let taken = || KvError::Refused(format!("key `{}` was put by somebody else", key.escape_ascii()));
        there.ok_or_else(taken)
    }

    /// Where a contender stands.
    pub(super) async fn standing<K: Kv>(&self, kv: &K, own: &Place) -> Result<Standing, KvError> {
        let (places, seen) = self.places(kv).await?;
        if !places.contains(own) {
            return Ok(Standing::Gone);
        }
        let ahead = places.into_iter().filter(|place| place.created < own.created).max_by_key(|place| place.created);
        Ok(ahead.map_or(Standing::First(seen), |place| Standing::Behind(place, seen)))
    }

    /// The first, and a revision all changes behind which are yet to be looked at.
    pub(super) async fn holder<K: Kv>(&self, kv: &K) -> Result<(Option<Holder>, Index), KvError> {
        loop {
            let (places, seen) = self.places(kv).await?;
            let Some(first) = places.into_iter().min_by_key(|place| place.created) else { return Ok((None, seen)) };
            let item = kv.get(first.key, Consistency::Linearizable).await?;
            // Gone since: another one is first.
            if let Some(item) = item.filter(|item| item.create_revision == first.created) {
                let holder = Holder { token: first.created, value: item.value, lease: first.lease };
                return Ok((Some(holder), seen));
            }
        }
    }

    /// Watches all contenders, from behind a revision.
    pub(super) fn watch<K: Kv>(&self, kv: &K, seen: Index) -> Watch {
        kv.watch(WatchOptions::prefix(self.prefix.clone()).from_revision(seen.next()))
    }

    /// All places, and the revision up to which every change is in them.
    async fn places<K: Kv>(&self, kv: &K) -> Result<(Vec<Place>, Index), KvError> {
        let (mut places, mut seen) = (Vec::new(), None);
        let mut next = Some(Scan { keys_only: true, ..Scan::prefix(self.prefix.clone()) });
        while let Some(scan) = next {
            let page = kv.scan(scan.clone(), Consistency::Linearizable).await?;
            places.extend(page.items.iter().filter_map(|item| self.place(item)));
            seen.get_or_insert(page.revision);
            next = scan.after(&page);
        }
        Ok((places, seen.unwrap_or_default()))
    }
}

/// Resolves once a place is given up; what happened up to `seen` is known not to have ended it.
///
/// # Errors
/// What makes asking again useless.
pub(super) async fn given_up<K: Kv>(kv: &K, place: &Place, mut seen: Index) -> Result<(), KvError> {
    let options = WatchOptions::key(place.key.clone());
    loop {
        match deletion(kv.watch(options.clone().from_revision(seen.next()))).await {
            Ok(()) => return Ok(()),
            Err(WatchError::Compacted { .. }) => {}
            Err(WatchError::Unavailable(_)) => sleep(RETRY_PAUSE).await,
            Err(error) => return Err(error.into()),
        }
        // What happened since cannot be told; what is left can.
        let KeyRange { from, to } = options.range.clone();
        let scan = Scan { from: Some(from), to, keys_only: true, ..Scan::default() };
        match kv.scan(scan, Consistency::Linearizable).await {
            Ok(page) if page.items.iter().all(|item| item.create_revision != place.created) => return Ok(()),
            Ok(page) => seen = page.revision,
            Err(KvError::Unavailable(_)) => sleep(RETRY_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// Resolves once a watch has told of a deletion.
async fn deletion(mut watch: Watch) -> Result<(), WatchError> {
    loop {
        let changes = watch.next().await?;
        if changes.events.iter().any(|event| event.kind == EventKind::Delete) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, lease: u64) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::new(),
            create_revision: Index(30),
            mod_revision: Index(31),
            version: 2,
            lease: LeaseId(lease),
        }
    }

    #[test]
    fn queue_place_is_a_key_that_lives_with_the_lease_in_its_name() {
        let queue = Queue::new(b"jobs");
        let key = "jobs/00000000000000ff";
        let place = Place { key: key.into(), lease: LeaseId(255), created: Index(30) };
        assert_eq!(queue.place(&item(key, 255)), Some(place));
    }

    #[test]
    fn queue_passes_over_keys_that_are_nobodys_place() {
        let queue = Queue::new(b"jobs");
        let foreign = [
            ("jobs/00000000000000ff", 0),
            ("jobs/00000000000000ff", 254),
            ("jobs/00000000000000FF", 255),
            ("jobs/ff", 255),
            ("jobs/nightly/00000000000000ff", 255),
            ("jobs/", 0),
        ];
        for (key, lease) in foreign {
            assert_eq!(queue.place(&item(key, lease)), None, "{key} with lease {lease}");
        }
    }
}
