//! How one membership may follow another (paper, section 6; thesis, 4.1; and the bug of 2015): voters change through a
//! joint membership only, a change begins once the last one and an entry of the leader's own term are committed, and who
//! left is remembered for ever.

use std::collections::BTreeSet;

use dledger::raft::{Member, Membership};
use dledger::types::{EntryId, NodeId};

use super::{Property, Verdict, holds};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property = Property {
    name: "membership_steps",
    claim: "members change one step at a time, in the open, and numbers are never used again (paper, 6; thesis, 4.1)",
};

fn ids<'a>(members: impl IntoIterator<Item = &'a Member>) -> BTreeSet<NodeId> {
    members.into_iter().map(|member| member.id).collect()
}

/// A leader has written `next` as entry `id`; `before` is what its log followed so far.
pub(crate) fn written(
    id: EntryId,
    next: &Membership,
    before: Option<(EntryId, &Membership)>,
    truth: &Truth,
) -> Verdict {
    let Some((entry, before)) = before else { return Err(format!("entry {id} changes the members of nobody")) };
    holds(truth.committed_at(entry.index) == Some(entry), || {
        format!("entry {id} changes the members while entry {entry}, which did so before, is not committed")
    })?;
    holds(truth.committed.iter().rev().take_while(|it| it.term >= id.term).any(|it| it.term == id.term), || {
        format!("entry {id} changes the members, and its leader has committed nothing in its term")
    })?;
    let (mine, theirs) = (ids(&next.voters), ids(&before.voters));
    let step = match (before.is_joint(), next.is_joint()) {
        (false, true) => ids(&next.outgoing) == theirs,
        (false | true, false) => mine == theirs,
        (true, true) => false,
    };
    holds(step, || format!("entry {id} makes {mine:?} of the voters {theirs:?} in one step"))?;
    let (named, were) = (ids(next.members()), ids(before.members()));
    let gone = |id: &&NodeId| next.removed.contains(**id);
    holds(were.difference(&named).all(|id| gone(&id)), || format!("entry {id} forgets who of {were:?} was removed"))?;
    let again: Vec<&NodeId> = named.iter().filter(|id| before.removed.contains(**id)).collect();
    holds(again.is_empty(), || format!("entry {id} admits {again:?}, who were removed before"))?;
    holds(next.removed.covers(&before.removed), || format!("entry {id} forgets who was removed before"))
}

/// How far behind a learner may be that becomes a voter: what was committed that long ago, in microseconds. Two election
/// timeouts and a heartbeat, of the slowest clock.
pub(crate) const BEHIND: u64 = 1_200_000;

/// Entry `id` makes a voter of a learner whose disk holds everything up to `durable`, when `due` was committed so long ago.
pub(crate) fn promoted(
    id: EntryId,
    learner: NodeId,
    durable: dledger::types::Index,
    due: dledger::types::Index,
) -> Verdict {
    holds(durable >= due, || {
        format!(
            "entry {id} makes a voter of node {learner}, which holds {durable} of {due} entries that are long committed"
        )
    })
}
