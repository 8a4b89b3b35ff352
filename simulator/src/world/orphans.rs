//! A leader is cut off, and at the same moment everybody else starts anew: what they have promised it they no longer know.

use super::{Event, World};
use crate::faults::Fault;
use crate::profile::Theme;

impl World {
    /// Strikes where leases are the matter, in the place of some partitions; false when it does not.
    pub(super) fn orphan_leader(&mut self) -> bool {
        let fits = self.profile.theme == Theme::Lease && self.profile.has(Fault::Kill);
        let leader = self.nodes.iter().position(super::node::Node::leads);
        let Some(leader) = leader.filter(|_leader| fits && self.nemesis.random.chance(500)) else { return false };
        self.marks.met("fault: leader cut off while all others restart");
        let others: Vec<usize> = (0..self.nodes.len()).filter(|node| *node != leader).collect();
        self.cut(others.iter().flat_map(|other| [(leader, *other), (*other, leader)]).collect());
        for node in others {
            self.kill(node);
            let wait = self.nemesis.random.within(2_000..30_000);
            self.schedule(wait, Event::Start { node });
        }
        true
    }
}
