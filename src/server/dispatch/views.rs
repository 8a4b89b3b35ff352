//! Views that a connection holds, so that a range is one view however many pages it takes.
//!
//! A view costs what has been overwritten since it was taken. So a connection holds a few, each until its last page was
//! given, the client lets go of it, it was not asked for a while, or the connection ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, sleep_until};

use crate::server::limits::{MAX_VIEWS, VIEW_IDLE};
use crate::server::protocol::Failure;

/// The views of one connection.
#[derive(Debug)]
pub(super) struct Views<V>(Mutex<State<V>>);

#[derive(Debug)]
struct State<V> {
    last_id: u64,
    /// By id, with the moment each was last asked for.
    held: BTreeMap<u64, (V, Instant)>,
}

impl<V> Default for Views<V> {
    fn default() -> Self {
        Self(Mutex::new(State { last_id: 0, held: BTreeMap::new() }))
    }
}

impl<V: Clone> Views<V> {
    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a view; the answer is its id.
    ///
    /// # Errors
    /// When as many are held as may be.
    pub(super) fn hold(&self, view: V) -> Result<u64, Failure> {
        let mut state = self.lock();
        if state.held.len() >= MAX_VIEWS {
            return Err(Failure::Overloaded(format!("this connection holds {MAX_VIEWS} views of ranges already")));
        }
        state.last_id += 1;
        let id = state.last_id;
        state.held.insert(id, (view, Instant::now()));
        Ok(id)
    }

    /// A view that is held.
    ///
    /// # Errors
    /// When it is not, or no longer.
    pub(super) fn get(&self, id: u64) -> Result<V, Failure> {
        match self.lock().held.get_mut(&id) {
            Some((view, asked)) => {
                *asked = Instant::now();
                Ok(view.clone())
            }
            None => Err(Failure::Refused("its view is not held any more; read the range from its start".to_owned())),
        }
    }

    /// Lets go of a view.
    pub(super) fn release(&self, id: u64) {
        self.lock().held.remove(&id);
    }

    /// Resolves when a view was not asked for a while, which is let go of. Never while none is held.
    pub(super) async fn idle(&self) {
        let oldest = self.lock().held.values().map(|(_view, asked)| *asked).min();
        match oldest {
            Some(asked) => sleep_until(asked + VIEW_IDLE).await,
            None => std::future::pending().await,
        }
        let now = Instant::now();
        self.lock().held.retain(|_id, (_view, asked)| now < *asked + VIEW_IDLE);
    }
}
