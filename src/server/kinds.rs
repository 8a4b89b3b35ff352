//! The store's own types, as requests and answers carry them, and the one that is made for answers alone.

pub(crate) use crate::kv::{Consistency, KeyValue, LeaseStatus, Scan, ScanPage};
pub(crate) use crate::node::{
    ChangeRefused, MemberChange, MemberStatus, MembersError, NodeStatus, ScrubProgress, Standing, TransferError,
    TransferRefused,
};
pub(crate) use crate::transport::SnapshotWant;

use crate::types::NodeId;

/// Who belongs to a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberList {
    /// Who leads it, if that is known.
    pub leader: Option<NodeId>,
    /// All members, by number.
    pub members: Vec<MemberStatus>,
}

impl MemberList {
    /// What a node's status says of it.
    pub(crate) fn of(status: NodeStatus) -> Self {
        Self { leader: status.leader, members: status.members }
    }
}
