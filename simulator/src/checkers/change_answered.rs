//! What a caller hears of a change of members is true: "done" means that it is committed to its end, and "refused" that it
//! never happens.

use std::collections::BTreeSet;

use dledger::raft::{Change, Membership};
use dledger::types::{Incarnation, NodeId};

use super::{Property, Verdict, holds};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property = Property {
    name: "change_answered",
    claim: "a change of members that is called done is committed to its end, and one that was refused never happens",
};

/// What callers were told.
#[derive(Debug, Default)]
pub(crate) struct ChangeAnswered {
    /// Lives that were certainly not admitted.
    refused: BTreeSet<(NodeId, Incarnation)>,
}

impl ChangeAnswered {
    /// A change is called done, and `members` to be the members since.
    pub(crate) fn done(change: &Change, members: &Membership, truth: &Truth) -> Verdict {
        holds(!members.is_joint(), || format!("{change:?} is called done while its voters change"))?;
        holds(truth.all_settled().any(|(_id, settled)| settled == members), || {
            format!("{change:?} is called done, and the members that it led to are not committed")
        })?;
        let admitted = |id: NodeId| truth.all_settled().any(|(_id, settled)| settled.member(id).is_some());
        let did = match change {
            Change::AddLearner { member, .. } | Change::Replace { new: member, .. } => admitted(member.id),
            Change::Promote { id } => truth.all_settled().any(|(_id, settled)| settled.is_incoming(*id)),
            Change::Remove { id } => members.member(*id).is_none() && members.removed.contains(*id),
            Change::Prioritise { .. } | _ => true,
        };
        holds(did, || format!("{change:?} is called done and has not happened"))
    }

    /// A change is refused, and nobody is to ask for the same again.
    pub(crate) fn refused(&mut self, change: &Change) {
        if let Change::AddLearner { member, .. } | Change::Replace { new: member, .. } = change {
            self.refused.insert((member.id, member.incarnation));
        }
    }

    /// The run is over.
    pub(crate) fn finish(&self, truth: &Truth) -> Verdict {
        let is_it = |settled: &Membership, (id, life): (NodeId, Incarnation)| {
            settled.member(id).is_some_and(|member| member.incarnation == life)
        };
        let admitted = |life: &&(NodeId, Incarnation)| truth.all_settled().any(|(_entry, it)| is_it(it, **life));
        match self.refused.iter().find(admitted) {
            Some((id, _life)) => Err(format!("node {id} was refused and is a member")),
            None => Ok(()),
        }
    }
}
