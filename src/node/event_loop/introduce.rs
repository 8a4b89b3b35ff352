//! Tells the transport whom to talk to: the members, as the log names them, and who was removed.

use crate::raft::removed::RemovedIds;
use crate::raft::{Member, Raft};
use crate::state_machine::StateMachine;
use crate::transport::{LocalIdentity, Transport};
use crate::types::{EntryId, NodeId};

use super::{EventLoop, Phase};
use crate::node::max_frame_bytes;

/// What the transport was told, in so far as it may change: the entry of the latest membership, whether that is committed,
/// and who leads.
pub(super) type Introduced = (Option<EntryId>, bool, Option<NodeId>);

/// What is to be told now.
pub(super) fn to_introduce(raft: &Raft) -> Introduced {
    (raft.membership_id(), is_settled(raft), raft.leader())
}

fn is_settled(raft: &Raft) -> bool {
    raft.membership_index().is_some_and(|index| index <= raft.committed())
}

impl<M: StateMachine> EventLoop<M> {
    /// Tells the transport whom to talk to. While a change of members is not committed, to those of before as well: they may
    /// have to commit it. And to a leader that leaves until another one leads: it hands over. While the log does not name
    /// anybody, because it is empty yet or the entry is damaged, those of the identity will do: they bring it.
    pub(super) fn introduce(&mut self) {
        let Phase::Running { replica, .. } = &self.phase else { return };
        let (raft, identity) = (replica.raft(), &self.data_dir.identity);
        let entry = |member: &Member| (member.id, (member.address.clone(), Some(member.incarnation)));
        let settled = raft.membership_at(raft.committed()).map(|(_index, membership)| membership);
        let mut members: std::collections::BTreeMap<_, _> = match raft.membership() {
            Some(latest) => settled.into_iter().chain([latest]).flat_map(|of| of.members().map(entry)).collect(),
            None => identity.members.0.iter().map(|(id, address)| (*id, (address.clone(), None))).collect(),
        };
        if let Some(leader) = raft.leader()
            && let Some(known) = self.told.as_ref().and_then(|told| told.members.get(&leader))
        {
            members.entry(leader).or_insert_with(|| known.clone());
        }
        let told = LocalIdentity {
            cluster: identity.cluster,
            node: self.config.id,
            incarnation: identity.incarnation,
            members,
            settled: is_settled(raft),
            removed: settled.map(|membership| &membership.removed).into_iter().flat_map(RemovedIds::ranges).collect(),
            max_frame_bytes: max_frame_bytes(&self.config),
        };
        self.introduced = Some(to_introduce(raft));
        self.transport.set_identity(told.clone());
        self.told = Some(told);
    }
}
