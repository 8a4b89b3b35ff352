//! What one client, and all clients together, may use of a node; and which connection speaks for a client.
//!
//! Pressure shows as waiting: a connection at its limit is not read from until answers have left. Only the number of
//! connections is refused, by name.
//!
//! # Fencing
//! A client names itself by a number in its handshake; 0 means that it does not care. When a connection of the same
//! client is admitted, the one before it is *fenced*: from that moment nothing more of its input is handed to the
//! store, however much has arrived. Whoever resumes on a new connection thereby knows that all of its former input
//! which will ever be proposed by this node has been handed over already, ahead of anything it sends now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub(crate) use super::protocol::ANONYMOUS;

/// Requests of one connection that may be under way at once.
pub(crate) const MAX_IN_FLIGHT: usize = 1024;
/// Bytes of requests of one connection that may be under way at once; a single larger one is taken alone.
pub(crate) const MAX_IN_FLIGHT_BYTES: usize = 8 << 20;
/// Requests that one connection hands over before answers leave and others run.
pub(crate) const MAX_TURN: usize = 256;
/// Bytes of keys and values after which a page of a scan is full. With the item that filled it and the bookkeeping of
/// all items, a page must fit a frame, which is 1 MiB larger than the largest record.
pub(crate) const MAX_PAGE_BYTES: u64 = 512 << 10;
/// What a piece of a snapshot may have: the longest chunk.
pub(crate) const MAX_PIECE_BYTES: usize = 1 << 20;
/// Items after which a page is full, give or take one step of the view: each costs some bytes of bookkeeping.
pub(crate) const MAX_PAGE_ITEMS: usize = 8 << 10;
/// Views of ranges that one connection may hold.
pub(crate) const MAX_VIEWS: usize = 16;
/// How long a view is held that nobody asks for.
pub(crate) const VIEW_IDLE: Duration = Duration::from_secs(30);
/// Watches that may wait on one connection.
pub(crate) const MAX_POLLS: usize = 1024;
/// Bytes of the range of keys that one of them asks for.
pub(crate) const MAX_POLL_BYTES: usize = 64 << 10;
/// Bytes of answers that are encoded before they are written.
pub(crate) const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// The longest a request may wait, whatever it asks for.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long a client may refuse to read its answers.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(30);
/// How long a connection that must close still waits for answers under way.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// The connections of one node.
#[derive(Debug)]
pub(crate) struct Registry {
    max_clients: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    current: HashMap<u128, Arc<Fence>>,
}

impl Registry {
    pub(crate) fn new(max_clients: usize) -> Arc<Self> {
        Arc::new(Self { max_clients, state: Mutex::default() })
    }

    /// Admits a connection, and fences the one that spoke for this client before. `None` when as many are open as
    /// may be; a client that comes back takes its own place.
    pub(crate) fn admit(self: &Arc<Self>, client: u128) -> Option<Admission> {
        let fence = Arc::new(Fence::default());
        let mut state = lock(&self.state);
        let former = state.current.get(&client).cloned();
        if former.is_none() && state.open >= self.max_clients {
            return None;
        }
        state.open += 1;
        if client != ANONYMOUS {
            state.current.insert(client, Arc::clone(&fence));
        }
        drop(state);
        if let Some(former) = former {
            former.close();
        }
        Some(Admission { registry: Arc::clone(self), client, fence })
    }

    pub(crate) fn max_clients(&self) -> usize {
        self.max_clients
    }
}

/// The right to be served; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    registry: Arc<Registry>,
    client: u128,
    fence: Arc<Fence>,
}

impl Admission {
    pub(crate) fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = lock(&self.registry.state);
        state.open -= 1;
        if state.current.get(&self.client).is_some_and(|current| Arc::ptr_eq(current, &self.fence)) {
            state.current.remove(&self.client);
        }
    }
}

/// Stands between a connection's input and the store.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    closed: Mutex<bool>,
    changed: Notify,
}

impl Fence {
    /// Runs `hand_over` unless the fence is closed. Nobody closes it meanwhile: what is handed over stands in line
    /// before anything that the closing connection will send.
    pub(crate) fn pass<T>(&self, hand_over: impl FnOnce() -> T) -> Option<T> {
        let closed = lock(&self.closed);
        (!*closed).then(hand_over)
    }

    /// Waits until the fence is closed. For one waiter.
    pub(crate) async fn closed(&self) {
        while !*lock(&self.closed) {
            self.changed.notified().await;
        }
    }

    fn close(&self) {
        *lock(&self.closed) = true;
        self.changed.notify_one();
    }
}

/// Locks; a panic elsewhere leaves these few fields as good as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_beyond_the_limit_is_refused_until_one_leaves() {
        let registry = Registry::new(2);
        let (first, _second) = (registry.admit(ANONYMOUS).unwrap(), registry.admit(ANONYMOUS).unwrap());
        assert!(registry.admit(ANONYMOUS).is_none());
        drop(first);
        assert!(registry.admit(ANONYMOUS).is_some());
    }

    #[test]
    fn admission_of_a_returning_client_fences_its_former_connection_only() {
        let registry = Registry::new(2);
        let (former, other) = (registry.admit(7).unwrap(), registry.admit(8).unwrap());
        let newer = registry.admit(7).unwrap();
        assert_eq!(former.fence().pass(|| ()), None);
        assert_eq!(other.fence().pass(|| ()), Some(()));
        assert_eq!(newer.fence().pass(|| ()), Some(()));
        drop(former);
        assert!(registry.admit(7).is_some());
        assert_eq!(newer.fence().pass(|| ()), None, "the newest speaks for the client, whatever was dropped");
    }

    #[test]
    fn admission_of_anonymous_clients_fences_nobody() {
        let registry = Registry::new(2);
        let first = registry.admit(ANONYMOUS).unwrap();
        let _second = registry.admit(ANONYMOUS).unwrap();
        assert_eq!(first.fence().pass(|| ()), Some(()));
    }
}
