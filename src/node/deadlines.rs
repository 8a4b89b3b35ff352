//! What dies of age dies by an entry: the leader appends a no-op once log time has reached the machine's next deadline.
//!
//! So leases and sessions end without traffic, at the same place of the log on every replica, and no machine's clock ends
//! them early: log time goes at the pace of the leader's monotonic clock, and stands while there is no leader. One such
//! no-op is under way at a time; when what was due is more than an entry may do, its application asks for the next.

use crate::commitlog::Space;
use crate::simulation::plants::Plant;
use crate::state_machine::StateMachine;
use crate::types::{Kind, Monotonic, Role};

use super::replica::Replica;

impl<M: StateMachine> Replica<M> {
    /// When a no-op is due; `None` when this node leads nobody or hands over, or one is under way.
    pub(crate) fn next_no_op(&self) -> Option<Monotonic> {
        let leads = self.raft.role() == Role::Leader && self.raft.transfer_target().is_none();
        let under_way = self.no_op.term == self.raft.term() && self.no_op.index > self.applier.applied().index;
        let can = leads && !under_way && self.log.space() != Space::Exhausted && self.applier.failure().is_none();
        let can = can && !self.plants.has(Plant::ExpiryNotProposed);
        self.applier.deadline().filter(|_some| can).and_then(|deadline| self.clock.when(deadline))
    }

    /// Appends the no-op that is due.
    pub(crate) fn look_after_deadlines(&mut self, now: Monotonic) {
        if self.next_no_op().is_none_or(|due| now < due) {
            return;
        }
        let Ok(id) = self.raft.propose(now, 1) else { return };
        self.stage_one(now, id.index, Kind::NoOp, &[]);
        self.no_op = id;
        self.drain(now);
    }
}
