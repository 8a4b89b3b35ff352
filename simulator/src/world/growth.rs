//! Machines that come later: each with an empty disk, a number that nobody had, and a process once the members know it.
//!
//! ```text
//!   machine ─► its directory, and the life of it ─► wish to add it ─► some membership names it ─► joins, and runs
//! ```
//! Whether the membership is committed by then is left to chance: the node is told by a member, and a member follows what
//! stands in its log.

use dledger::OpenError;
use dledger::config::Members;
use dledger::raft::{Change, Member, Membership};
use dledger::simulation::{incarnation, join};
use dledger::types::{Incarnation, NodeId};

use super::node::Node;
use super::{Event, World};
use crate::checkers::disk_keeps;
use crate::memberships::place;

/// Machines of a run, at most: those at the start and those that come later.
const MOST_MACHINES: usize = 12;
/// Members that the operator goes up to.
const MOST_MEMBERS: usize = 8;

impl World {
    /// A wish for one more member, or for one in the place of another.
    pub(super) fn growth(&mut self, members: &Membership) -> Option<Change> {
        if self.operator.random.chance(100) {
            return self.growth_with_a_used_number(members);
        }
        let full = self.nodes.len() >= MOST_MACHINES || members.members().count() >= MOST_MEMBERS;
        let old = self.pick_replaced(members);
        let replaces = old.is_some() && self.operator.random.chance(400);
        if full {
            return None;
        }
        let new = self.add_machine()?;
        match old.filter(|_old| replaces) {
            Some(old) => Some(Change::Replace { old, new }),
            None => Some(Change::AddLearner { member: new, promote: self.operator.random.chance(700) }),
        }
    }

    /// Whoever lost its disk rather than others.
    fn pick_replaced(&mut self, members: &Membership) -> Option<NodeId> {
        let voters: Vec<NodeId> = members.voters.iter().map(|voter| voter.id).collect();
        let wiped = voters.iter().copied().find(|id| self.nodes.get(place(*id)).is_some_and(|it| it.wiped));
        let picked = self.operator.random.pick(&voters);
        wiped.filter(|_id| self.operator.random.chance(800)).or(picked)
    }

    /// What an operator tries who has not understood that a number is for one life: a member's, or a former member's.
    fn growth_with_a_used_number(&mut self, members: &Membership) -> Option<Change> {
        let was_removed = |id: &NodeId| members.removed.contains(*id);
        let used: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let removed: Vec<NodeId> = used.iter().copied().filter(was_removed).collect();
        // The number of a machine that nobody took in is still to be had.
        let used: Vec<NodeId> =
            used.into_iter().filter(|id| was_removed(id) || members.member(*id).is_some()).collect();
        let among = if removed.is_empty() || self.operator.random.chance(400) { used } else { removed };
        let id = self.operator.random.pick(&among)?;
        let member = Member { id, incarnation: Incarnation(self.operator.random.number() | 1), address: address(id) };
        Some(Change::AddLearner { member, promote: true })
    }

    /// A machine whose directory is made, and which waits to be admitted.
    fn add_machine(&mut self) -> Option<Member> {
        let node = self.nodes.len();
        let it = Node::new(self.seed, node + 1, &self.profile).joining(&self.profile);
        it.pace.show(self.now, &it.machine);
        let life = incarnation(&it.environment(), &it.config);
        it.disk.kill_process();
        let id = it.id;
        self.nodes.push(it);
        self.network.grow(node);
        self.truth.grow();
        self.marks.met("seen: machine added");
        match life {
            Ok(incarnation) => Some(Member { id, incarnation, address: address(id) }),
            Err(error) => {
                self.judge(disk_keeps::PROPERTY, Err(format!("node {id} does not make its directory: {error}")));
                None
            }
        }
    }

    /// Machines that some member has heard of start.
    pub(super) fn start_joiners(&mut self) {
        for node in 0..self.nodes.len() {
            let waits = self.nodes.get(node).is_some_and(|it| it.waits_to_join);
            let id = NodeId(node as u64 + 1);
            if !waits || !self.truth.in_force().iter().any(|members| members.member(id).is_some()) {
                continue;
            }
            if let Some(it) = self.nodes.get_mut(node) {
                it.waits_to_join = false;
            }
            let wait = self.operator.random.within(1_000..100_000);
            self.schedule(wait, Event::Start { node });
        }
    }

    /// Makes a machine that came later a member, unless that was done before.
    pub(super) fn join_first(&self, node: usize) -> Result<(), OpenError> {
        let Some(it) = self.nodes.get(node).filter(|it| !it.config.join.0.is_empty()) else { return Ok(()) };
        let Some((_id, membership)) = self.truth.settled() else { return Ok(()) };
        let members = membership.members().map(|member| (member.id, member.address.clone())).collect();
        join(&it.environment(), &it.config, membership.cluster, &Members(members))
    }
}

fn address(id: NodeId) -> String {
    format!("n{id}:1")
}
