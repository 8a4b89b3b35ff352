//! How nodes with empty directories become a cluster, once.
//!
//! ```text
//!   all members ──Hello{incarnation, members}──► each other
//!   lowest id, once all said the same: mints the cluster id, frames record 1 (the membership), adopts it
//!   lowest id ──Form + record 1──► the others: each adopts it
//! ```
//! Adopting means: record 1 and the first vote file are on disk, synced, and then the identity names the cluster. A
//! node neither campaigns nor votes before. Every incarnation stands in record 1, so a directory that is wiped later
//! cannot vote under its old id.
//!
//! A node that missed the `Form` says `Hello` again on its next connection, and any formed member answers it. When
//! the lowest id dies between adopting and telling, it tells on its next start. Nothing here can form two clusters
//! of one set of directories: only the lowest id mints, and it mints only before it has adopted.
//!
//! Deliberately absent: disks and sockets; the caller carries [`Step`]s out.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::commitlog::{Record, frame};
use crate::config::Members;
use crate::raft::{Member, Membership};
use crate::transport::FormationMessage;
use crate::types::{ClusterId, EntryId, Incarnation, Index, Kind, LogTime, NodeId, Position, Term};

/// Largest record 1, in bytes: room for a thousand members.
pub(crate) const MAX_GENESIS_BYTES: u32 = 1 << 20;
/// The first entry of every log.
pub(crate) const GENESIS: EntryId = EntryId::new(Index(1), Term(1));

/// A message to send over the control connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) to: NodeId,
    pub(crate) message: FormationMessage,
    pub(crate) attached: Vec<Bytes>,
}

/// Record 1 and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Genesis {
    pub(crate) record: Bytes,
    pub(crate) membership: Membership,
}

/// A node on the way into its cluster.
#[derive(Debug)]
pub(crate) struct Formation {
    id: NodeId,
    members: Members,
    /// What each member said its incarnation is; this node's own included.
    said: BTreeMap<NodeId, Incarnation>,
}

impl Formation {
    /// This node, with an empty directory, wants to form a cluster of `members`.
    pub(crate) fn new(id: NodeId, incarnation: Incarnation, members: Members) -> Self {
        Self { id, members, said: BTreeMap::from([(id, incarnation)]) }
    }

    /// A control connection to `peer` is ready: introduce ourselves.
    pub(crate) fn connected(&self, peer: NodeId) -> Step {
        let incarnation = self.said.get(&self.id).copied().unwrap_or_default();
        let hello = FormationMessage::Hello { incarnation, empty: true, members: self.members.to_string() };
        Step { to: peer, message: hello, attached: Vec::new() }
    }

    /// `peer` introduced itself.
    ///
    /// # Errors
    /// Its configuration names other members: a sentence for the operator.
    pub(crate) fn hello(&mut self, peer: NodeId, incarnation: Incarnation, members: &str) -> Result<(), String> {
        if !self.members.0.contains_key(&peer) || members != self.members.to_string() {
            return Err(format!(
                "node {peer} was started with the members `{members}`, this node with `{}`; start all with the same",
                self.members
            ));
        }
        self.said.insert(peer, incarnation);
        Ok(())
    }

    /// Mints the cluster when this node is to do it and has heard of everybody. `random` and `wall` are drawn by
    /// the caller, anew for each call.
    pub(crate) fn mint(&self, random: u128, wall: LogTime) -> Option<Genesis> {
        let lowest = self.members.0.keys().next().copied();
        if lowest != Some(self.id) || !self.members.0.keys().all(|id| self.said.contains_key(id)) {
            return None;
        }
        let voters = self
            .members
            .0
            .iter()
            .filter_map(|(id, address)| {
                let incarnation = *self.said.get(id)?;
                Some(Member { id: *id, incarnation, address: address.clone() })
            })
            .collect();
        let membership = Membership::new(ClusterId(random), voters);
        let mut record = Vec::new();
        frame(&mut record, GENESIS, Position::ZERO, wall, Kind::Membership, 0, &membership.encode());
        Some(Genesis { record: record.into(), membership })
    }

    /// A formed member sent record 1.
    ///
    /// # Errors
    /// When it is not a first record, or names other members, or another life of this directory.
    pub(crate) fn form(&self, record: Bytes) -> Result<Genesis, String> {
        let decoded = Record::decode(&record, MAX_GENESIS_BYTES).map_err(|error| error.to_string())?;
        let header = decoded.header();
        if header.id != GENESIS || header.kind != Kind::Membership || header.position != Position::ZERO {
            return Err(format!("record {} is not the first of a log", header.id));
        }
        let membership = Membership::decode(&decoded.payload()).map_err(|error| error.to_string())?;
        let named: BTreeMap<NodeId, &str> =
            membership.voters.iter().map(|member| (member.id, member.address.as_str())).collect();
        if named != self.members.0.iter().map(|(id, address)| (*id, address.as_str())).collect() {
            return Err("the cluster was formed with other members than this node was started with".to_owned());
        }
        let own = membership.voters.iter().find(|member| member.id == self.id).map(|member| member.incarnation);
        if own != self.said.get(&self.id).copied() {
            return Err(
                "the cluster knows this node by another data directory; it cannot vote with this one".to_owned()
            );
        }
        Ok(Genesis { record: decoded.bytes().clone(), membership })
    }
}

impl Genesis {
    /// Tells the other members.
    pub(crate) fn announce(&self, own: NodeId) -> Vec<Step> {
        let others = self.membership.voters.iter().filter(|member| member.id != own);
        let step = |member: &Member| Step {
            to: member.id,
            message: FormationMessage::Form,
            attached: vec![self.record.clone()],
        };
        others.map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        "1=a:1,2=b:2,3=c:3".parse().unwrap()
    }

    fn node(id: u64) -> Formation {
        Formation::new(NodeId(id), Incarnation(id * 100), members())
    }

    fn introduce(to: &mut Formation, id: u64) {
        to.hello(NodeId(id), Incarnation(id * 100), &members().to_string()).unwrap();
    }

    #[test]
    fn formation_waits_for_every_member_and_only_the_lowest_id_mints() {
        let (mut one, mut two) = (node(1), node(2));
        introduce(&mut one, 2);
        assert_eq!(one.mint(7, LogTime(5)), None);
        introduce(&mut one, 3);
        introduce(&mut two, 1);
        introduce(&mut two, 3);
        assert_eq!(two.mint(7, LogTime(5)), None);
        let genesis = one.mint(7, LogTime(5)).unwrap();
        assert_eq!(two.form(genesis.record.clone()).unwrap(), genesis);
        assert_eq!(genesis.announce(NodeId(1)).len(), 2);
    }

    #[test]
    fn formation_with_other_members_is_refused_on_both_sides() {
        let mut one = node(1);
        assert!(one.hello(NodeId(2), Incarnation(1), "1=a:1,2=b:2").unwrap_err().contains("start all with the same"));
        let other = Formation::new(NodeId(1), Incarnation(1), "1=a:1".parse().unwrap());
        let genesis = other.mint(7, LogTime(5)).unwrap();
        assert!(one.form(genesis.record).unwrap_err().contains("other members"));
    }

    #[test]
    fn formation_of_a_wiped_directory_under_its_old_id_is_refused() {
        let mut one = node(1);
        introduce(&mut one, 2);
        introduce(&mut one, 3);
        let genesis = one.mint(7, LogTime(5)).unwrap();
        let wiped = Formation::new(NodeId(2), Incarnation(999), members());
        assert!(wiped.form(genesis.record).unwrap_err().contains("another data directory"));
    }

    #[test]
    fn formation_of_a_single_node_needs_nobody() {
        let alone = Formation::new(NodeId(1), Incarnation(1), "1=a:1".parse().unwrap());
        assert!(alone.mint(7, LogTime(5)).is_some());
    }
}
