//! Who this node says it is and whom it knows, for its handshakes: the members, as the log names them, and who was removed.

use std::collections::BTreeMap;

use crate::commitlog::Identity;
use crate::config::Config;
use crate::raft::removed::RemovedIds;
use crate::raft::{Member, Raft};
use crate::transport::LocalIdentity;
use crate::types::{EntryId, NodeId};

use super::max_frame_bytes;

/// What an introduction rests on, in so far as it may change: the entry of the latest membership, whether that is
/// committed, and who leads.
type Grounds = (Option<EntryId>, bool, Option<NodeId>);

/// The introduction of a member, kept true.
#[derive(Debug, Default)]
pub(crate) struct Introduction {
    grounds: Option<Grounds>,
    told: Option<LocalIdentity>,
}

impl Introduction {
    /// What handshakes are to say from now on, when that is not what they said before.
    pub(crate) fn renew(&mut self, config: &Config, identity: &Identity, raft: &Raft) -> Option<&LocalIdentity> {
        let grounds = Some((raft.membership_id(), is_settled(raft), raft.leader()));
        if self.grounds == grounds {
            return None;
        }
        self.grounds = grounds;
        self.told = Some(introduction(config, identity, raft, self.told.as_ref()));
        self.told()
    }

    /// What handshakes say; `None` before the first time.
    pub(crate) const fn told(&self) -> Option<&LocalIdentity> {
        self.told.as_ref()
    }
}

fn is_settled(raft: &Raft) -> bool {
    raft.membership_index().is_some_and(|index| index <= raft.committed())
}

/// Whom a member talks to: who belongs to the cluster by the last committed membership, or by one since, for whoever may have
/// to commit a change must hear of it. And to a leader that leaves until another one leads: it hands over; `told` is the introduction before this one, which
/// knew it. While the log does not name anybody, because it is empty yet or the entry is damaged, those of the identity will
/// do: they bring it.
fn introduction(config: &Config, identity: &Identity, raft: &Raft, told: Option<&LocalIdentity>) -> LocalIdentity {
    let entry = |member: &Member| (member.id, (member.address.clone(), Some(member.incarnation)));
    let settled = raft.membership_at(raft.committed()).map(|(_index, membership)| membership);
    let mut members: BTreeMap<_, _> = match raft.membership() {
        Some(_) => raft.memberships_in_force().flat_map(|of| of.members().map(entry)).collect(),
        None => identity.members.0.iter().map(|(id, address)| (*id, (address.clone(), None))).collect(),
    };
    if let Some(leader) = raft.leader()
        && let Some(known) = told.and_then(|told| told.members.get(&leader))
    {
        members.entry(leader).or_insert_with(|| known.clone());
    }
    LocalIdentity {
        cluster: identity.cluster,
        epoch: raft.membership().map_or(identity.epoch, |latest| identity.epoch.or_later(latest.epoch)),
        node: config.id,
        incarnation: identity.incarnation,
        members,
        settled: is_settled(raft),
        removed: settled.map(|membership| &membership.removed).into_iter().flat_map(RemovedIds::ranges).collect(),
        max_frame_bytes: max_frame_bytes(config),
    }
}
