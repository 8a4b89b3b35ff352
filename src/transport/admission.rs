//! How many received bytes may wait for the node: reading stops while too many are out.
//!
//! One `Admission` a connection, so that a flood on the bulk connection never stops the control connection.
//! `used` counts the bytes of all frames handed over whose [`Credit`] still lives;
//! `used < MAX_UNCONSUMED_BYTES + one reading turn + one frame` holds at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes of received frames that may be out on one connection before its reading stops. Twice what a leader keeps
/// in flight, so that a healthy peer never meets it.
pub(super) const MAX_UNCONSUMED_BYTES: usize = 16 << 20;

/// The count of one connection.
#[derive(Debug, Default)]
pub(super) struct Admission {
    used: AtomicUsize,
    freed: Notify,
}

impl Admission {
    /// Counts `bytes` until the answer is dropped.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize) -> Credit {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Credit { bytes, admission: Some(Arc::clone(self)) }
    }

    /// Waits until there is room. One waiter only: the connection's reader. Cancel safe.
    pub(super) async fn room(&self) {
        while self.used.load(Ordering::Acquire) >= MAX_UNCONSUMED_BYTES {
            self.freed.notified().await;
        }
    }
}

/// The bytes of one received frame; dropping it lets the connection read as many more.
#[derive(Debug, Default)]
pub struct Credit {
    bytes: usize,
    admission: Option<Arc<Admission>>,
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some(admission) = &self.admission {
            let before = admission.used.fetch_sub(self.bytes, Ordering::AcqRel);
            if before >= MAX_UNCONSUMED_BYTES {
                admission.freed.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_there_again_once_a_credit_is_dropped() {
        let admission = Arc::new(Admission::default());
        let held = admission.admit(MAX_UNCONSUMED_BYTES);
        let mut room = Box::pin(admission.room());
        tokio::select! {
            biased;
            () = &mut room => panic!("there is no room"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        room.await;
    }
}
