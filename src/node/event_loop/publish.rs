//! What a node says of itself, for its handles: taken anew after each turn.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::node::handle::MemberStatus;
use crate::state_machine::StateMachine;
use crate::types::Index;

use super::{EventLoop, Phase};

/// What a node in doubt says of itself.
pub(super) const IN_DOUBT: &str = "acknowledged entries may be missing at the end of its log: its vote counts only in an election of \
                        all members, until a leader has caught it up";

/// What a node says of itself that was removed, once it knows.
const REMOVED: &str = "it was removed from the cluster; stop it and delete its data directory";

impl<M: StateMachine> EventLoop<M> {
    /// Shows handles what this node is now.
    pub(super) fn publish(&mut self) {
        let mut status = self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.cluster = self.data_dir.identity.cluster;
        status.epoch = self.data_dir.identity.epoch.number;
        let Phase::Running { replica, .. } = &self.phase else {
            status.error.clone_from(&self.refused);
            return;
        };
        let (raft, log) = (replica.raft(), replica.log());
        let epoch = raft.membership().map_or(0, |membership| membership.epoch.number);
        status.epoch = status.epoch.max(epoch);
        let latest = raft.membership_id();
        if latest != self.shown {
            self.shown = latest;
            status.members = raft.membership().map(MemberStatus::of).unwrap_or_default();
            if let Some(own) = raft.membership().and_then(|membership| membership.member(self.config.id)) {
                status.address.clone_from(&own.address);
            }
        }
        MemberStatus::fill_in(&mut status.members, raft);
        // Who reads the log by itself must not take what the disk has yet to discard for committed.
        if !replica.is_starting_over() {
            self.shared.committed.store(raft.committed().get(), Ordering::Release);
            let readable = raft.committed().min(raft.written());
            self.shared.readable.store(readable.get(), Ordering::Release);
        }
        (status.role, status.term, status.leader) = (raft.role(), raft.term(), raft.leader());
        (status.first, status.last) = (log.first(), raft.last().index);
        (status.durable, status.committed) = (raft.durable(), raft.committed());
        let applied = std::mem::replace(&mut status.applied, replica.applied().index);
        let more_applied = applied != status.applied;
        status.disk_bytes = log.disk_bytes() + replica.snapshots().bytes;
        status.snapshot = replica.snapshots().ids.first().map_or(Index::ZERO, |id| id.index);
        status.snapshot_bytes_received = replica.snapshot_bytes_received();
        let damaged = replica.holes().iter().map(|hole| hole.last.get() - hole.first.prev().get()).sum();
        (status.damaged, status.mended, status.scrub) = (damaged, replica.mended(), self.scrub);
        let doubt = || raft.in_doubt().then(|| IN_DOUBT.to_owned());
        // Whoever talks to this node takes it for one of them.
        if !replica.connected.is_empty() {
            self.refused = None;
        }
        let removed = || raft.is_removed().then(|| REMOVED.to_owned());
        status.error = replica.failure().map(str::to_owned).or_else(|| replica.missing_snapshot());
        status.error = status.error.take().or_else(|| replica.unmended()).or_else(doubt);
        status.error = status.error.take().or_else(removed).or_else(|| self.refused.clone());
        let untaken = || replica.snapshot_failure().map(|reason| format!("no snapshot was taken: {reason}"));
        status.error = status.error.take().or_else(untaken);
        drop(status);
        if more_applied {
            self.shared.news.publish();
        }
    }
}
