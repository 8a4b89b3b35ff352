//! Watchers: each follows some keys from a revision on, at one node after another, over restarts and installs, mostly close
//! behind and now and then far. What it is told is compared with the log (checkers/watch_order.rs).

use dledger::ReadError;
use dledger::kv::{WatchError, WatchOptions};
use dledger::types::Index;

use super::super::{Event, World};
use crate::checkers::watch_order;
use crate::random::Random;

/// Pages that are read at the end, at most: nobody is that far behind.
const LAST_PAGES: usize = 20_000;

/// A watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    options: WatchOptions,
    next: Index,
    node: usize,
}

impl Watcher {
    /// Three watchers: of all keys, of all with values before, and of some.
    pub(super) fn some(random: &mut Random) -> Vec<Self> {
        let prefix = random.pick(&["lease/", "set/", "lock/", "key"]).unwrap_or("key");
        let all = || WatchOptions::prefix("");
        let options = [all(), all().with_previous(), WatchOptions::prefix(prefix)];
        options.into_iter().map(|options| Self { options, next: Index(1), node: 0 }).collect()
    }
}

impl World {
    /// A watcher asks for what changed.
    pub(in crate::world) fn watch(&mut self, watcher: usize) {
        self.watch_some(watcher);
        let random = &mut self.workers.random;
        let mean = if random.chance(20) { 1_000_000 } else { 20_000 };
        let wait = random.around(mean).max(1_000);
        self.schedule(wait, Event::Watch { watcher });
    }

    /// One page; true when there was something to look at.
    fn watch_some(&mut self, watcher: usize) -> bool {
        let moves = self.workers.random.chance(50);
        let bytes = self.workers.random.pick(&[1, 300, 4_000, 64_000]).unwrap_or(300);
        let nodes = self.nodes.len();
        let Some(it) = self.workers.watchers.get_mut(watcher) else { return false };
        let up = |node: usize| self.nodes.get(node).is_some_and(|it| it.process.is_some());
        if moves || !up(it.node) {
            it.node = (it.node + 1) % nodes;
            self.marks.met("seen: watch moved to another node");
        }
        let (options, from, node) = (it.options.clone(), it.next, it.node);
        let Some(at) = self.nodes.get(node) else { return false };
        let (Some(process), Some(watch)) = (&at.process, &at.watch) else { return false };
        let (published, applied) = (watch.history.published(), watch.reader.view().applied());
        if from > published {
            return false;
        }
        let entries = process.entries(from, published, 16_000);
        let told = entries.map(|entries| watch.history.told(&options, from, &entries, bytes));
        // One that has just started has not ended a turn yet.
        let restored = watch.just_restored().map_or(at.restored, |id| id.index);
        let known = (process.log().first(), restored, published);
        let order = watch_order::published(published, applied);
        self.judge(watch_order::PROPERTY, order);
        let (verdict, next) = match told {
            Ok(Ok((changes, next))) => {
                if changes.iter().any(|changes| changes.events.len() > 1) {
                    self.marks.met("seen: watch told several changes of one revision");
                }
                (watch_order::told(&options, from..next, &changes, &self.same_state), next)
            }
            Ok(Err(WatchError::Compacted { oldest })) => {
                self.marks.met("seen: watch refused, changes are gone");
                (watch_order::compacted(&options, from, known, &self.same_state), oldest.max(from.next()))
            }
            Err(ReadError::OutOfRange { first, .. }) if from < first => {
                self.marks.met("seen: watch refused, changes are gone");
                (watch_order::compacted(&options, from, known, &self.same_state), first)
            }
            // A log with a hole is mended, or another node is asked.
            Ok(Err(_)) | Err(_) => (Ok(()), from),
        };
        self.trace.event(self.now, node + 1, "watched", &[watcher as u64, from.get(), next.get()], String::new);
        self.judge(watch_order::PROPERTY, verdict);
        if let Some(it) = self.workers.watchers.get_mut(watcher) {
            it.next = next;
        }
        next > from
    }

    /// Everybody is told the rest.
    pub(super) fn watch_to_the_end(&mut self) {
        for watcher in 0..self.workers.watchers.len() {
            let mut pages = 0;
            while pages < LAST_PAGES && self.violation.is_none() && self.watch_some(watcher) {
                pages += 1;
            }
        }
    }
}
