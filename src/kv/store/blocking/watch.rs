//! Watches for code without an async runtime.

use std::time::Duration;

use crate::types::Index;

use super::super::super::watch::{Changes, Watch, WatchError};
use super::block_on::{block_on, block_on_within};

/// A [`Watch`] for code without an async runtime: an iterator that blocks its thread until something changed. It ends behind an
/// error after which the watch cannot go on; behind `Unavailable`, the next call goes on where it was. Made by
/// [`BlockingKvStore::watch`](super::BlockingKvStore::watch); for an example see [`BlockingKvStore`](super::BlockingKvStore).
#[derive(Debug)]
pub struct BlockingWatch {
    watch: Watch,
    over: bool,
}

impl BlockingWatch {
    pub(super) fn new(watch: Watch) -> Self {
        Self { watch, over: false }
    }

    /// See [`Watch::begin`].
    ///
    /// # Errors
    /// See [`WatchError`].
    pub fn begin(&mut self) -> Result<Index, WatchError> {
        block_on(self.watch.begin())
    }

    /// The next changes, if there are some within this time; a later call misses none.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<Changes>, WatchError> {
        block_on_within(self.watch.next(), patience).transpose()
    }

    /// See [`Watch::resume_from`].
    #[must_use]
    pub fn resume_from(&self) -> Option<Index> {
        self.watch.resume_from()
    }
}

impl Iterator for BlockingWatch {
    type Item = Result<Changes, WatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = block_on(self.watch.next());
        self.over = matches!(&next, Err(error) if !matches!(error, WatchError::Unavailable(_)));
        Some(next)
    }
}
