//! A lease that this process keeps alive, and until when it may rely on it.
//!
//! Invariant: the lease has not ended before [`KeptLease::until`], if this machine's monotonic clock runs at the pace of the
//! leader's: the time is counted from when the last confirmed keep-alive was *sent*, and the cluster counts from when it was
//! written. Log time that stands, while there is no leader, only lengthens the lease. Log time counts whole milliseconds, from
//! the beginning of the one in which the keep-alive was written: so the last one of the time to live is not relied on.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::types::LeaseId;

use super::super::api::{Kv, KvError};
use super::super::done::ttl_ms;
use super::queue::RETRY_PAUSE;
use super::tenure::Lost;

/// Keep-alives in the time to live: two may be lost.
const KEEP_ALIVES: u32 = 3;

/// A lease.
#[derive(Debug)]
pub(super) struct KeptLease {
    pub(super) id: LeaseId,
    ttl: Duration,
    /// When the last keep-alive that was confirmed was sent.
    confirmed: Instant,
}

impl KeptLease {
    /// Has a lease granted. Repeated for as long as it would live: one that was granted without our knowing ends by itself.
    pub(super) async fn grant<K: Kv>(kv: &K, ttl: Duration) -> Result<Self, KvError> {
        // One that is to live for longer than can be counted is refused at once.
        let give_up = Instant::now().checked_add(ttl);
        let in_time = || give_up.is_none_or(|give_up| Instant::now() < give_up);
        loop {
            let confirmed = Instant::now();
            match kv.grant_lease(ttl).await {
                Ok(id) => return Ok(Self { id, ttl, confirmed }),
                Err(KvError::Unknown(_) | KvError::Unavailable(_)) if in_time() => sleep(RETRY_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// From then on it may have ended.
    pub(super) fn until(&self) -> Instant {
        self.confirmed + Duration::from_millis(ttl_ms(self.ttl).saturating_sub(1))
    }

    /// Keeps it alive until that fails; `confirmed` is told each new [`KeptLease::until`]. May be dropped and called again.
    pub(super) async fn keep<K: Kv>(&mut self, kv: &K, confirmed: impl Fn(Instant)) -> Lost {
        let turn = self.ttl / KEEP_ALIVES;
        loop {
            sleep_until(self.confirmed + turn).await;
            let sent = Instant::now();
            if sent >= self.until() {
                return Lost::Unconfirmed;
            }
            // One that hangs, at a leader that is gone, leaves time for another.
            let patience = turn.min(self.until() - sent);
            match timeout(patience, kv.keep_alive(self.id)).await {
                Ok(Ok(_ttl)) => {
                    self.confirmed = sent;
                    confirmed(self.until());
                }
                Ok(Err(KvError::Rejected(_))) => return Lost::Ended,
                Ok(Err(KvError::Stopped(_))) => return Lost::Stopped,
                Ok(Err(_)) | Err(_) => sleep_until((Instant::now() + RETRY_PAUSE).min(self.until())).await,
            }
        }
    }

    /// Ends it, as long as it may be relied on. That it has ended already is good news only if it may have been us.
    pub(super) async fn revoke<K: Kv>(&self, kv: &K) -> Result<(), Lost> {
        let mut asked_before = false;
        loop {
            match timeout_at(self.until(), kv.revoke_lease(self.id)).await {
                Ok(Ok(_keys)) => return Ok(()),
                Ok(Err(KvError::Rejected(_))) if asked_before => return Ok(()),
                Ok(Err(KvError::Rejected(_))) => return Err(Lost::Ended),
                Ok(Err(KvError::Stopped(_))) => return Err(Lost::Stopped),
                Ok(Err(error)) => asked_before |= matches!(error, KvError::Unknown(_)),
                Err(_late) => return Err(Lost::Unconfirmed),
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests;
