//! An entry is committed once a quorum has it durable, and only then: what a leader counts must be on the disks it
//! counts (raft.md, rules 2, 3 and 6; paper, 5.3 and 5.4.2). Who must agree is said by the latest membership of the log
//! of the leader, which is the first to know: while voters change, a majority of those before and of those after.

use dledger::raft::{Membership, Raft};
use dledger::types::{EntryId, NodeId};

use super::{Property, Verdict, holds};
use crate::memberships::{agree, place};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property = Property {
    name: "durable_quorum",
    claim: "a committed entry is synced on a quorum's disks, and is never another one (paper, 5.3 and 6)",
};

/// A node says that `id` is committed: notes it when nobody said so before.
/// A `forgetful` disk may have lost what it once held: one that acknowledges before it syncs.
pub(crate) fn committed(id: EntryId, raft: &Raft, truth: &mut Truth, forgetful: Option<usize>) -> Verdict {
    if let Some(known) = truth.committed_at(id.index) {
        return holds(known == id, || format!("{id} is said to be committed where {known} was"));
    }
    holds(id.index == truth.last_committed().next(), || format!("{id} is committed before its predecessors"))?;
    let has = |node: usize| truth.has_held(node, id) || forgetful == Some(node);
    let membership = ruling(id, raft, truth);
    holds(membership.is_some_and(|membership| agree(&membership.quorum(), has)), || {
        let voters: Vec<NodeId> = membership.into_iter().flat_map(Membership::members).map(|it| it.id).collect();
        let have: Vec<&NodeId> = voters.iter().filter(|node| has(place(**node))).collect();
        format!("{id} is said to be committed, of the members {voters:?} only the disks of {have:?} hold it")
    })?;
    truth.committed.push(id);
    Ok(())
}

/// Who had to agree on `id`: the latest membership of the leader's log says so. One that ends a change of voters is only
/// written once the joint one before it is committed, so that up to there those had to agree.
fn ruling<'a>(id: EntryId, raft: &Raft, truth: &'a Truth) -> Option<&'a Membership> {
    let (entry, latest) = truth.membership_of(raft)?;
    let before = truth.membership_below(raft, entry.index);
    match before.filter(|(entry, before)| before.is_joint() && id.index <= entry.index) {
        Some((_entry, joint)) => Some(joint),
        None => Some(latest),
    }
}
