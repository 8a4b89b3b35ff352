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
//! Nodes that were restored from a backup form a cluster in the same way, all of one backup: record 1 then stands a gap
//! behind the backup's last entry. A node with another beginning is refused on both sides; its state would differ.
//!
//! How long members promise their leader not to vote (`Config::read_lease`) stands in record 1 as well, for good: a node that
//! was started with another value is refused like one with other members.
//!
//! Deliberately absent: disks and sockets; the caller carries [`Step`]s out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::commitlog::{Record, frame};
use crate::config::Members;
use crate::raft::{Member, Membership};
use crate::transport::{BackupId, FormationMessage};
use crate::types::{ClusterId, EntryId, Incarnation, Kind, LogBase, LogTime, NodeId, Term};

/// Largest record 1, in bytes: room for a thousand members.
pub(crate) const MAX_GENESIS_BYTES: u32 = 1 << 20;

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
    pub(crate) id: EntryId,
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
    /// What the log begins behind.
    base: LogBase,
    /// The backup that this is, if it is one.
    backup: Option<BackupId>,
    read_lease: Duration,
}

impl Formation {
    /// This node, with an empty directory, wants to form a cluster of `members`.
    pub(crate) fn new(id: NodeId, incarnation: Incarnation, members: Members) -> Self {
        let said = BTreeMap::from([(id, incarnation)]);
        Self { id, members, said, base: LogBase::default(), backup: None, read_lease: Duration::ZERO }
    }

    /// The same for a node that was restored from a backup.
    pub(crate) fn restored(self, base: LogBase, backup: BackupId) -> Self {
        Self { base, backup: Some(backup), ..self }
    }

    /// The same for a cluster whose members promise their leader so much.
    pub(crate) fn promising(self, read_lease: Duration) -> Self {
        Self { read_lease, ..self }
    }

    /// The first entry of the log.
    fn genesis(&self) -> EntryId {
        EntryId::new(self.base.first(), Term(self.base.entry.term.get() + 1))
    }

    /// A control connection to `peer` is ready: introduce ourselves.
    pub(crate) fn connected(&self, peer: NodeId) -> Step {
        let incarnation = self.said.get(&self.id).copied().unwrap_or_default();
        let (members, backup) = (self.members.to_string(), self.backup);
        let read_lease_us = u64::try_from(self.read_lease.as_micros()).unwrap_or(u64::MAX);
        let hello = FormationMessage::Hello { incarnation, empty: true, members, backup, read_lease_us };
        Step { to: peer, message: hello, attached: Vec::new() }
    }

    /// `peer` introduced itself.
    ///
    /// # Errors
    /// Its configuration names other members or another read lease, or it begins with another backup: a sentence for the
    /// operator. What it said before counts no more.
    pub(crate) fn hello(
        &mut self,
        peer: NodeId,
        incarnation: Incarnation,
        members: &str,
        backup: Option<BackupId>,
        read_lease: Duration,
    ) -> Result<(), String> {
        self.said.remove(&peer);
        if !self.members.0.contains_key(&peer) || members != self.members.to_string() {
            return Err(format!(
                "node {peer} was started with the members `{members}`, this node with `{}`; start all with the same",
                self.members
            ));
        }
        if backup != self.backup {
            return Err(format!(
                "node {peer} begins with {}, this node with {}; restore the same backup on all, each into an empty \
                 directory",
                described(backup),
                described(self.backup)
            ));
        }
        self.check_lease(&format!("node {peer}"), read_lease)?;
        self.said.insert(peer, incarnation);
        Ok(())
    }

    fn check_lease(&self, whose: &str, read_lease: Duration) -> Result<(), String> {
        if read_lease == self.read_lease {
            return Ok(());
        }
        let (theirs, own) = (humantime::format_duration(read_lease), humantime::format_duration(self.read_lease));
        Err(format!("{whose} has a read_lease of {theirs}, this node was started with {own}; start all with the same"))
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
        let membership = Membership { read_lease: self.read_lease, ..Membership::new(ClusterId(random), voters) };
        let mut record = Vec::new();
        let (id, time) = (self.genesis(), wall.max(self.base.time));
        frame(&mut record, id, self.base.position, time, Kind::Membership, 0, &membership.encode());
        Some(Genesis { id, record: record.into(), membership })
    }

    /// A formed member sent record 1.
    ///
    /// # Errors
    /// When it is not a first record, or names other members, another read lease, or another life of this directory.
    pub(crate) fn form(&self, record: Bytes) -> Result<Genesis, String> {
        let genesis = self.read(record)?;
        let mut voters = genesis.membership.voters.iter();
        let own = voters.find(|member| member.id == self.id).map(|member| member.incarnation);
        if own != self.said.get(&self.id).copied() {
            return Err(
                "the cluster knows this node by another data directory; it cannot vote with this one".to_owned()
            );
        }
        Ok(genesis)
    }

    /// The same without a look at whose life it names here.
    ///
    /// # Errors
    /// When it is not a first record, or names other members or another read lease.
    pub(crate) fn read(&self, record: Bytes) -> Result<Genesis, String> {
        let decoded = Record::decode(&record, MAX_GENESIS_BYTES).map_err(|error| error.to_string())?;
        let header = decoded.header();
        if header.id != self.genesis() || header.kind != Kind::Membership || header.position != self.base.position {
            return Err(format!(
                "record {} of the cluster is not the first of a log that begins with {}; a node that missed how its \
                 cluster was formed begins with what the others began with",
                header.id,
                described(self.backup)
            ));
        }
        let membership = Membership::decode(&decoded.payload()).map_err(|error| error.to_string())?;
        let named: BTreeMap<NodeId, &str> =
            membership.voters.iter().map(|member| (member.id, member.address.as_str())).collect();
        if named != self.members.0.iter().map(|(id, address)| (*id, address.as_str())).collect() {
            return Err("the cluster was formed with other members than this node was started with".to_owned());
        }
        self.check_lease("the cluster", membership.read_lease)?;
        Ok(Genesis { id: header.id, record: decoded.bytes().clone(), membership })
    }
}

fn described(backup: Option<BackupId>) -> String {
    match backup {
        None => "an empty state".to_owned(),
        Some(BackupId { cluster, entry, checksum }) => {
            format!("the backup of entry {entry} of cluster {cluster} (checksum {checksum:08x})")
        }
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
    use crate::types::{Index, Position};

    fn members() -> Members {
        "1=a:1,2=b:2,3=c:3".parse().unwrap()
    }

    fn node(id: u64) -> Formation {
        Formation::new(NodeId(id), Incarnation(id * 100), members())
    }

    fn introduce(to: &mut Formation, id: u64) {
        to.hello(NodeId(id), Incarnation(id * 100), &members().to_string(), to.backup, to.read_lease).unwrap();
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
        assert!(
            one.hello(NodeId(2), Incarnation(1), "1=a:1,2=b:2", None, Duration::ZERO)
                .unwrap_err()
                .contains("start all with the same")
        );
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

    fn backup(checksum: u32) -> BackupId {
        BackupId { cluster: ClusterId(9), entry: EntryId::new(Index(70), Term(4)), checksum }
    }

    fn restored(id: u64, checksum: u32) -> Formation {
        let entry = EntryId::new(Index(170), Term(4));
        let base = LogBase { entry, position: Position(999), time: LogTime(50), ..LogBase::default() };
        node(id).restored(base, backup(checksum))
    }

    #[test]
    fn formation_of_restored_nodes_begins_behind_the_backup_and_never_before_its_time() {
        let (mut one, mut two) = (restored(1, 7), restored(2, 7));
        for id in [2, 3] {
            introduce(&mut one, id);
        }
        introduce(&mut two, 1);
        let genesis = one.mint(7, LogTime(5)).unwrap();
        assert_eq!(genesis.id, EntryId::new(Index(171), Term(5)));
        let record = Record::decode(&genesis.record, MAX_GENESIS_BYTES).unwrap();
        let header = record.header();
        assert_eq!((header.id, header.position, header.time), (genesis.id, Position(999), LogTime(50)));
        assert_eq!(two.form(genesis.record).unwrap().id, genesis.id);
    }

    #[test]
    fn formation_of_nodes_that_begin_with_different_states_is_refused_on_both_sides() {
        let members = members().to_string();
        let (empty, seven, eight) = (None, Some(backup(7)), Some(backup(8)));
        for (mut here, there) in [(restored(1, 7), empty), (restored(1, 7), eight), (node(1), seven)] {
            introduce(&mut here, 2);
            introduce(&mut here, 3);
            let refused = here.hello(NodeId(2), Incarnation(200), &members, there, Duration::ZERO).unwrap_err();
            assert!(refused.contains("restore the same backup on all"), "{refused}");
            assert_eq!(here.mint(7, LogTime(5)), None, "what it said before counts no more");
        }
        let mut one = restored(1, 7);
        introduce(&mut one, 2);
        introduce(&mut one, 3);
        let genesis = one.mint(7, LogTime(5)).unwrap();
        let refused = node(2).form(genesis.record).unwrap_err();
        assert!(refused.contains("begins with an empty state"), "{refused}");
    }

    #[test]
    fn formation_with_another_read_lease_is_refused_on_both_sides() {
        let second = Duration::from_secs(1);
        let mut one = node(1).promising(second);
        let refused = one.hello(NodeId(2), Incarnation(200), &members().to_string(), None, Duration::ZERO);
        assert!(refused.unwrap_err().contains("node 2 has a read_lease of 0s, this node was started with 1s"));
        introduce(&mut one, 2);
        introduce(&mut one, 3);
        let genesis = one.mint(7, LogTime(5)).unwrap();
        assert_eq!(Membership::decode(&genesis.membership.encode()).unwrap().read_lease, second);
        assert!(node(2).form(genesis.record.clone()).unwrap_err().contains("the cluster has a read_lease of 1s"));
        assert_eq!(node(2).promising(second).form(genesis.record.clone()).unwrap(), genesis);
    }

    #[test]
    fn formation_of_a_single_node_needs_nobody() {
        let alone = Formation::new(NodeId(1), Incarnation(1), "1=a:1".parse().unwrap());
        assert!(alone.mint(7, LogTime(5)).is_some());
    }
}
