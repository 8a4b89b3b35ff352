//! Election priority: a leader gives its office to a voter that is preferred to it.
//!
//! The wish is part of the membership ([`super::membership::Priority`]). It decides no election: the best log wins, and
//! a leader that serves is worth more than one that is preferred. So it is the leader who looks around, at each
//! heartbeat, and hands over when a voter of higher priority answers, has caught up, can read its log and has room.
//!
//! What makes a preferred node lose its office again may come back: a bad link, a disk that hangs. Each hand-over is
//! followed by a cool-down that doubles, so that the office is not pulled to and fro, and a long quiet forgives it.

use std::time::Duration;

use crate::simulation::marks::{Mark, reach};
use crate::types::{Monotonic, NodeId};

use super::core::Raft;
use super::leadership::State;
use super::transfer::Purpose;

/// A leader looks around for the first time after so many election timeouts in office.
const SETTLING: u32 = 2;
/// The first cool-down, in election timeouts.
const FIRST_COOL_DOWN: u32 = 8;
/// Cool-downs grow no further than this many times the first one.
const MOST_DOUBLED: u32 = 64;

/// What this node remembers of offices that it gave to a preferred node.
#[derive(Debug, Default)]
pub(super) struct Preference {
    not_before: Monotonic,
    /// Hand-overs in a row.
    count: u32,
    last: Monotonic,
}

impl Preference {
    /// This node leads from now on.
    pub(super) fn take_office(&mut self, now: Monotonic, election_timeout: Duration) {
        self.not_before = self.not_before.max(now.after(election_timeout * SETTLING));
    }

    fn allows(&self, now: Monotonic) -> bool {
        now >= self.not_before
    }

    /// The office is given away.
    fn hand_over(&mut self, now: Monotonic, election_timeout: Duration) {
        if now.since(self.last) > election_timeout * (2 * FIRST_COOL_DOWN * MOST_DOUBLED) {
            self.count = 0;
        }
        let doubled = 1u32.checked_shl(self.count).unwrap_or(MOST_DOUBLED).min(MOST_DOUBLED);
        self.not_before = now.after(election_timeout * (FIRST_COOL_DOWN * doubled));
        self.last = now;
        self.count = self.count.saturating_add(1);
    }
}

impl Raft {
    /// Hands over to a voter that is preferred to this one, when it could lead now.
    pub(super) fn check_preference(&mut self) {
        let (State::Leader(office), Some(latest)) = (&self.state, self.memberships.latest()) else { return };
        let (now, patience) = (self.now, self.config.election_timeout);
        if latest.priorities.is_empty() || !self.preference.allows(now) || self.transfer.is_some() {
            return;
        }
        // A change of members is carried on first: its leader knows best how far it has come.
        if self.change_under_way().is_some() || self.committed < office.first_own {
            return;
        }
        let mine = latest.priority(self.config.id);
        let fit = |id: &NodeId| office.peers.get(id).is_some_and(|peer| peer.is_fit(patience, now));
        let preferred = self.memberships.staying().filter(|id| latest.priority(*id) > mine && fit(id));
        let Some(to) = preferred.max_by_key(|id| latest.priority(*id)) else { return };
        reach(Mark::PreferredHandedOver);
        self.preference.hand_over(now, patience);
        self.begin_transfer(to, Purpose::Preferred);
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
    fn preference_cool_down_doubles_up_to_its_bound_and_is_forgiven_after_a_long_quiet() {
        let mut preference = Preference::default();
        let mut waits = Vec::new();
        for step in 0..9u64 {
            let now = at(1 + step * 60_000);
            preference.hand_over(now, T);
            waits.push(preference.not_before.since(now).as_millis());
        }
        assert_eq!(waits, [800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 51_200, 51_200]);
        let later = at(1 + 8 * 60_000 + 102_401);
        preference.hand_over(later, T);
        assert_eq!(preference.not_before.since(later).as_millis(), 800);
    }

    #[test]
    fn preference_waits_until_a_new_leader_has_settled_and_never_forgets_a_cool_down() {
        let mut preference = Preference::default();
        preference.take_office(at(1000), T);
        assert!(!preference.allows(at(1199)) && preference.allows(at(1200)));
        preference.hand_over(at(1200), T);
        preference.take_office(at(1300), T);
        assert!(!preference.allows(at(1999)) && preference.allows(at(2000)));
    }
}
