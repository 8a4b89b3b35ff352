//! A leader whose disk hangs gives its office away.
//!
//! Followers commit without the leader's disk, but a leader that cannot sync cannot survive its own restart as a
//! leader should, and holds every later vote and write on this node. When its oldest append has waited for two
//! election timeouts *and* a quorum of other voters has it durable, the leader hands over to the most advanced of
//! them. When no such quorum exists all disks hang together, and another leader would do no better: nobody steps
//! down.
//!
//! Afterwards this node does not campaign until its disk has completed something, and then only after a cool-down
//! that doubles with each such event, so that a disk which hangs now and then does not pull the office to and fro.

use std::time::Duration;

use crate::simulation::marks::{Mark, reach};
use crate::simulation::plants::Plant;
use crate::types::{Index, Monotonic};

use super::core::Raft;
use super::leadership::State;

/// Cool-downs grow no further than this many election timeouts.
const MOST_COOL_DOWN: u32 = 64;

/// What is remembered of hung disks.
#[derive(Debug, Default)]
pub(super) struct Stall {
    /// The disk has completed nothing since this node stepped down.
    hung: bool,
    /// No campaign before this time.
    not_before: Monotonic,
    /// Step-downs in a row.
    count: u32,
    last: Monotonic,
}

impl Stall {
    pub(super) fn allows_campaign(&self, now: Monotonic) -> bool {
        !self.hung && now >= self.not_before
    }

    fn begin(&mut self, now: Monotonic, election_timeout: Duration) {
        if now.since(self.last) > election_timeout * (2 * MOST_COOL_DOWN) {
            self.count = 0;
        }
        self.hung = true;
        self.last = now;
        self.count = self.count.saturating_add(1);
    }

    /// The disk completed a write.
    pub(super) fn disk_moved(&mut self, now: Monotonic, election_timeout: Duration) {
        if std::mem::take(&mut self.hung) {
            let factor = 1u32.checked_shl(self.count.saturating_sub(1)).unwrap_or(MOST_COOL_DOWN).min(MOST_COOL_DOWN);
            self.not_before = now.after(election_timeout * factor);
        }
    }
}

impl Raft {
    /// Steps down when this disk hangs and those of a quorum of others do not.
    pub(super) fn check_stall(&mut self) {
        let State::Leader(office) = &self.state else { return };
        let Some((last, since)) = self.writes.oldest_append() else { return };
        if self.now.since(since) < self.config.election_timeout * 2 || self.plants.has(Plant::NoStallHandOver) {
            return;
        }
        let matched = |node| office.peers.get(&node).map_or(Index::ZERO, |peer| peer.matched);
        let quorum = self.memberships.quorum();
        if quorum.agreed(|node| matched(node).get()) < last.get() {
            return;
        }
        // The first of the most advanced, so that the choice does not depend on anything else.
        let Some(target) = self.memberships.staying().max_by_key(|node| matched(*node)) else { return };
        tracing::warn!(node = %self.config.id, to = %target, index = %last, "this disk hangs, handing over");
        reach(Mark::StallHandOver);
        self.stall.begin(self.now, self.config.election_timeout);
        self.hand_over(target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(millis * 1000)
    }

    #[test]
    fn stall_forbids_campaigns_until_a_completion_and_its_cool_down() {
        let mut stall = Stall::default();
        assert!(stall.allows_campaign(at(0)));
        stall.begin(at(20_000), T);
        assert!(!stall.allows_campaign(at(90_000)));
        stall.disk_moved(at(90_000), T);
        assert!(!stall.allows_campaign(at(90_099)));
        assert!(stall.allows_campaign(at(90_100)));
    }

    #[test]
    fn stall_cool_down_doubles_up_to_its_bound_and_is_forgiven_after_a_long_quiet() {
        let mut stall = Stall::default();
        let mut waits = Vec::new();
        for step in 0..9u64 {
            let now = at(step * 10_000);
            stall.begin(now, T);
            stall.disk_moved(now, T);
            waits.push(stall.not_before.since(now).as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 6400, 6400]);
        let later = at(8 * 10_000 + 12_801);
        stall.begin(later, T);
        stall.disk_moved(later, T);
        assert_eq!(stall.not_before.since(later), T);
    }
}
