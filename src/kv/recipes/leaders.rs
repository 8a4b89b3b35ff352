//! Who leads, as it changes.
//!
//! A watch says that something changed among the candidates; who leads is then read anew. So what is told was true, in the
//! order of the log, and a slow observer sees the newest and not each. Nothing is kept but what was told last.

use std::fmt;

use crate::types::Index;

use super::super::api::{Kv, KvError};
use super::super::watch::WatchError;
use super::queue::{Holder, Queue};

/// Who leads, and each change of that: another leader, another value, nobody. Made by [`Election::observe`], where an example
/// stands.
///
/// [`Election::observe`]: super::Election::observe
pub struct Leaders<K> {
    kv: K,
    queue: Queue,
    /// What was told last; `None` before the first time.
    told: Option<Option<Holder>>,
    /// Changes up to here are looked at; `None` when who leads is to be read before anything is waited for.
    seen: Option<Index>,
}

impl<K: Kv> Leaders<K> {
    pub(super) fn new(kv: K, queue: Queue) -> Self {
        Self { kv, queue, told: None, seen: None }
    }

    /// Who leads: at first at once, and then when that is another one, or shows another value. May be dropped and called again.
    ///
    /// # Errors
    /// Those of a read and of a watch. After `Unavailable` it may be called again, and misses nothing but what was of no
    /// account any more.
    pub async fn next(&mut self) -> Result<Option<Holder>, KvError> {
        loop {
            if let Some(seen) = self.seen {
                match self.queue.watch(&self.kv, seen).next().await {
                    Ok(_changes) => {}
                    Err(WatchError::Compacted { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let (holder, seen) = self.queue.holder(&self.kv).await?;
            self.seen = Some(seen);
            if self.told.as_ref() != Some(&holder) {
                self.told = Some(holder.clone());
                return Ok(holder);
            }
        }
    }
}

impl<K> fmt::Debug for Leaders<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaders").field("told", &self.told).field("seen", &self.seen).finish_non_exhaustive()
    }
}
