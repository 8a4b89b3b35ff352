//! Who belongs to the cluster, by the entries themselves: every membership that a leader ever wrote, and which of them
//! are in force where.
//!
//! A node follows the latest membership of its log, committed or not (paper, section 6). So what a quorum is depends on
//! whose log is asked: a leader's own says who must agree with it, and the cluster as a whole stands and falls with the
//! last committed one and those written since.

use std::collections::BTreeMap;

use dledger::raft::quorum::{Quorum, Tally};
use dledger::raft::{Membership, Raft};
use dledger::types::{EntryId, Incarnation, Index, NodeId, Term};

use crate::truth::Truth;

/// Every membership that was written.
#[derive(Debug, Default)]
pub(crate) struct Memberships {
    known: BTreeMap<(Index, Term), Membership>,
    lives: BTreeMap<NodeId, Incarnation>,
}

impl Memberships {
    /// A leader wrote a membership, or somebody's bytes hold it.
    ///
    /// # Errors
    /// It is known to be another one, or admits a number in a second life: a sentence.
    pub(crate) fn note(&mut self, id: EntryId, membership: &Membership) -> Result<(), String> {
        if let Some(known) = self.known.get(&(id.index, id.term)) {
            return if known == membership { Ok(()) } else { Err(format!("two memberships are entry {id}")) };
        }
        for member in membership.members() {
            let first = *self.lives.entry(member.id).or_insert(member.incarnation);
            if first != member.incarnation {
                return Err(format!("entry {id} admits node {} in a second life", member.id));
            }
        }
        self.known.insert((id.index, id.term), membership.clone());
        Ok(())
    }

    /// Whether the membership of an entry is known.
    pub(crate) fn knows(&self, id: EntryId) -> bool {
        self.known.contains_key(&(id.index, id.term))
    }

    /// All, the latest first.
    fn latest_first(&self) -> impl Iterator<Item = (EntryId, &Membership)> {
        self.known.iter().rev().map(|((index, term), membership)| (EntryId::new(*index, *term), membership))
    }
}

impl Truth {
    /// The latest membership of a node's log, or of what its log begins behind, below an index.
    pub(crate) fn membership_below(&self, raft: &Raft, below: Index) -> Option<(EntryId, &Membership)> {
        let base = raft.base().index;
        let holds = |id: EntryId| match id.index < base {
            true => self.committed_at(id.index) == Some(id),
            false => raft.term_at(id.index) == Some(id.term),
        };
        self.memberships.latest_first().find(|(id, _membership)| id.index < below && holds(*id))
    }

    /// The latest membership of a node's log.
    pub(crate) fn membership_of(&self, raft: &Raft) -> Option<(EntryId, &Membership)> {
        self.membership_below(raft, Index(u64::MAX))
    }

    /// The last committed membership.
    pub(crate) fn settled(&self) -> Option<(EntryId, &Membership)> {
        self.memberships.latest_first().find(|(id, _membership)| self.committed_at(id.index) == Some(*id))
    }

    /// The committed memberships, the latest first.
    pub(crate) fn all_settled(&self) -> impl Iterator<Item = (EntryId, &Membership)> {
        self.memberships.latest_first().filter(|(id, _membership)| self.committed_at(id.index) == Some(*id))
    }

    /// The last committed membership, and those written since that may yet be committed.
    pub(crate) fn in_force(&self) -> Vec<&Membership> {
        let settled = self.settled();
        let since = settled.map_or(Index::ZERO, |(id, _membership)| id.index);
        let open = |(id, _): &(EntryId, &Membership)| id.index > since && self.committed_at(id.index).is_none();
        let open = self.memberships.latest_first().filter(open).map(|(_id, membership)| membership);
        open.chain(settled.map(|(_id, membership)| membership)).collect()
    }
}

/// Whether the nodes of which `said` says so are a quorum: a majority of each set of voters.
pub(crate) fn agree(quorum: &Quorum, said: impl Fn(usize) -> bool) -> bool {
    quorum.tally(|node| Some(said(place(node)))) == Tally::Won
}

/// A node's place in the lists of a world.
pub(crate) fn place(node: NodeId) -> usize {
    usize::try_from(node.get()).unwrap_or(usize::MAX).wrapping_sub(1)
}
