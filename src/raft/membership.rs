//! Who belongs to the cluster, as an entry of the log says, and the stack of such entries.
//!
//! A node follows the *latest* membership in its log from the moment it is appended, committed or not (paper,
//! section 6), and falls back to the one before when the log is cut. So the core keeps all of them above the
//! log's base, each with the index of its entry.
//!
//! ```text
//!   one set of voters ──change of voters──► joint: voters and outgoing voters ──committed──► the new voters alone
//!          │    ▲                           (a majority of each must agree)
//!          └────┘ learners and priorities change in one step: they move no majority
//! ```
//! How one membership comes from another is in `change.rs`; who does it, and when, in `members.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::config::MAX_READ_LEASE;
use crate::simulation::plants::{Plant, Plants};
use crate::types::{ClusterId, Epoch, Incarnation, Index, NodeId};

use super::quorum::Quorum;
use super::removed::RemovedIds;

/// First byte of an encoded membership.
const TAG: u8 = 0x4d;
/// Version written and read by this build.
const VERSION: u8 = 1;
/// Most members that a membership may name; a bound for decoding, far above what a group can use.
pub const MAX_MEMBERS: usize = 256;
const WHAT: &str = "membership";

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// The life of its data directory that was admitted.
    pub incarnation: Incarnation,
    /// `HOST:PORT` that others reach it under.
    pub address: String,
}

/// A learner that the leader makes a voter by itself once it has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// The learner.
    pub learner: NodeId,
    /// The voter that leaves in the same change.
    pub replaces: Option<NodeId>,
}

/// How gladly a voter is seen as the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Priority {
    /// The member.
    pub id: NodeId,
    /// Above 0, which is what members have that are not named.
    pub priority: u8,
}

/// The members of a cluster from some entry of the log on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The cluster's identity.
    pub cluster: ClusterId,
    /// Which life of it.
    pub epoch: Epoch,
    /// Members that vote.
    pub voters: Vec<Member>,
    /// While voters change, those of before: a majority of them must agree as well. Empty otherwise.
    pub outgoing: Vec<Member>,
    /// Members that receive the log and do not vote.
    pub learners: Vec<Member>,
    /// Which learners are to become voters without being told.
    pub promotions: Vec<Promotion>,
    /// Members whose election priority is not 0.
    pub priorities: Vec<Priority>,
    /// Numbers that were members and are none any more; nobody gets one of them again.
    pub removed: RemovedIds,
    /// How long a node that answers a heartbeat votes for nobody and does not stand, whatever happens, so that its leader
    /// may read without asking (`read_lease.rs`); zero: it promises nothing. Fixed when the cluster is formed: a node that
    /// starts anew waits out what it may have promised, and knows how long that is from any membership in its log.
    pub read_lease: Duration,
}

/// The body of version 1.
#[derive(Serialize, Deserialize)]
struct BodyV1 {
    cluster: u128,
    epoch: Epoch,
    voters: Vec<Member>,
    outgoing: Vec<Member>,
    learners: Vec<Member>,
    promotions: Vec<Promotion>,
    priorities: Vec<Priority>,
    removed: RemovedIds,
    read_lease_us: u64,
}

impl Membership {
    /// A cluster of these voters, with nobody else in it yet.
    #[must_use]
    pub const fn new(cluster: ClusterId, voters: Vec<Member>) -> Self {
        Self {
            cluster,
            epoch: Epoch::FIRST,
            voters,
            outgoing: Vec::new(),
            learners: Vec::new(),
            promotions: Vec::new(),
            priorities: Vec::new(),
            removed: RemovedIds::new(),
            read_lease: Duration::ZERO,
        }
    }

    /// The payload of a membership entry: tag, version, body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = BodyV1 {
            cluster: self.cluster.0,
            epoch: self.epoch,
            voters: self.voters.clone(),
            outgoing: self.outgoing.clone(),
            learners: self.learners.clone(),
            promotions: self.promotions.clone(),
            priorities: self.priorities.clone(),
            removed: self.removed.clone(),
            read_lease_us: u64::try_from(self.read_lease.as_micros()).unwrap_or(u64::MAX),
        };
        let mut bytes = vec![TAG, VERSION];
        if let Err(error) = codec::encode_into(WHAT, &body, &mut bytes) {
            // Integers, strings and lists always encode; `decode` refuses the short bytes should this ever happen.
            tracing::error!(%error, "cannot encode a membership");
        }
        bytes
    }

    /// Reads the payload of a membership entry.
    ///
    /// # Errors
    /// `Unsupported` for another tag or version; `Malformed` when the bytes are not a membership, or it has no voter,
    /// too many members, a member twice or a member 0, speaks of a learner or a member that it has not, is of no epoch, or
    /// has a read lease longer than [`MAX_READ_LEASE`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let [tag, version, body @ ..] = bytes else {
            return Err(malformed("shorter than its tag and version"));
        };
        if (*tag, *version) != (TAG, VERSION) {
            return Err(DecodeError::Unsupported { what: WHAT, tag: *tag, version: *version });
        }
        let body: BodyV1 = codec::decode(WHAT, body)?;
        let membership = Self {
            cluster: ClusterId(body.cluster),
            epoch: body.epoch,
            voters: body.voters,
            outgoing: body.outgoing,
            learners: body.learners,
            promotions: body.promotions,
            priorities: body.priorities,
            removed: body.removed,
            read_lease: Duration::from_micros(body.read_lease_us),
        };
        membership.check().map_err(malformed)?;
        Ok(membership)
    }

    /// Whether it is one that a leader may have written.
    fn check(&self) -> Result<(), &'static str> {
        if self.voters.is_empty() {
            return Err("it names no voter");
        }
        if self.epoch.number == 0 {
            return Err("it is of no epoch");
        }
        if self.read_lease > MAX_READ_LEASE {
            return Err("its read lease is longer than any may be");
        }
        // Whoever votes before and after a change stands in both lists, as the same member.
        let twins = |member: &&Member| !self.voters.contains(member);
        let once = self.voters.iter().chain(self.outgoing.iter().filter(twins)).chain(&self.learners);
        let ids: Vec<NodeId> = once.map(|member| member.id).collect();
        if ids.len() > MAX_MEMBERS || self.outgoing.len() > MAX_MEMBERS {
            return Err("it names too many members");
        }
        if !names_each_once(ids) || !names_each_once(self.outgoing.iter().map(|member| member.id).collect()) {
            return Err("it names node 0, or a node twice");
        }
        let learns = |id: NodeId| self.learners.iter().any(|member| member.id == id);
        if !names_each_once(self.promotions.iter().map(|promotion| promotion.learner).collect())
            || !self.promotions.iter().all(|promotion| learns(promotion.learner))
        {
            return Err("it promotes whom it does not name as a learner");
        }
        if !names_each_once(self.priorities.iter().map(|priority| priority.id).collect())
            || !self.priorities.iter().all(|priority| self.member(priority.id).is_some())
        {
            return Err("it prefers whom it does not name");
        }
        if self.removed.is_well_formed() { Ok(()) } else { Err("its removed numbers are out of order") }
    }

    /// Voters, outgoing voters and learners, each once.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        let leaves = |member: &&Member| !self.is_incoming(member.id);
        self.voters.iter().chain(self.outgoing.iter().filter(leaves)).chain(&self.learners)
    }

    /// The member of this number.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members().find(|member| member.id == id)
    }

    /// A change of voters is under way: majorities of the voters before and after it must agree.
    #[must_use]
    pub const fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the node votes, and goes on to when a change of voters is done.
    #[must_use]
    pub fn is_incoming(&self, id: NodeId) -> bool {
        self.voters.iter().any(|member| member.id == id)
    }

    /// The election priority of a member: 0 unless one was given to it.
    #[must_use]
    pub fn priority(&self, id: NodeId) -> u8 {
        self.priorities.iter().find(|priority| priority.id == id).map_or(0, |priority| priority.priority)
    }

    /// Who must agree.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        Quorum::new(ids_of(&self.voters), ids_of(&self.outgoing))
    }
}

fn malformed(reason: &str) -> DecodeError {
    DecodeError::Malformed { what: WHAT, reason: reason.to_owned() }
}

fn ids_of(members: &[Member]) -> Vec<NodeId> {
    members.iter().map(|member| member.id).collect()
}

fn names_each_once(mut ids: Vec<NodeId>) -> bool {
    ids.sort_unstable();
    !ids.first().is_some_and(|id| id.is_zero()) && !ids.windows(2).any(|pair| pair.first() == pair.last())
}

/// The memberships of a log, oldest first. The latest rules.
#[derive(Debug)]
pub(super) struct Memberships {
    stack: Vec<(Index, Membership)>,
    /// Derived from the latest.
    quorum: Quorum,
    /// All members of the latest, ascending.
    ids: Vec<NodeId>,
    plants: Plants,
}

impl Memberships {
    pub(super) fn new(stack: Vec<(Index, Membership)>) -> Self {
        let mut memberships = Self { stack, quorum: Quorum::default(), ids: Vec::new(), plants: Plants::NONE };
        memberships.derive();
        memberships
    }

    /// Breaks a rule, for a simulation.
    pub(super) fn plant(&mut self, plants: Plants) {
        self.plants = plants;
        self.derive();
    }

    pub(super) fn latest(&self) -> Option<&Membership> {
        self.stack.last().map(|(_index, membership)| membership)
    }

    pub(super) fn latest_index(&self) -> Option<Index> {
        self.stack.last().map(|(index, _membership)| *index)
    }

    /// The one in force at `index`, and the index of its entry.
    pub(super) fn at(&self, index: Index) -> Option<(Index, &Membership)> {
        self.stack.iter().rev().find(|(entry, _)| *entry <= index).map(|(entry, membership)| (*entry, membership))
    }

    /// The latest and the one before it.
    pub(super) fn last_two(&self) -> Option<(&Membership, &Membership)> {
        match self.stack.as_slice() {
            [.., (_, before), (_, latest)] => Some((before, latest)),
            _ => None,
        }
    }

    /// How many of them stand above an index.
    pub(super) fn above(&self, index: Index) -> usize {
        self.stack.iter().rev().take_while(|(at, _membership)| *at > index).count()
    }

    /// The last membership that is committed up to `committed`, and those since.
    pub(super) fn since(&self, committed: Index) -> impl Iterator<Item = &Membership> {
        let settled = self.stack.partition_point(|(index, _membership)| *index <= committed);
        let since = self.stack.get(settled.saturating_sub(1)..).unwrap_or_default();
        since.iter().map(|(_index, membership)| membership)
    }

    /// Whether the node votes by the last membership that is committed up to `committed`, or by any since.
    pub(super) fn votes_since(&self, node: NodeId, committed: Index) -> bool {
        self.since(committed).any(|membership| membership.quorum().is_voter(node))
    }

    /// Whether the node was removed by what is committed up to `committed`, and is no member since.
    pub(super) fn has_removed(&self, node: NodeId, committed: Index) -> bool {
        let settled = self.stack.partition_point(|(index, _membership)| *index <= committed);
        let settled = self.stack.get(..settled).and_then(<[_]>::last);
        settled.is_some_and(|(_index, membership)| membership.removed.contains(node))
            && self.ids.binary_search(&node).is_err()
    }

    pub(super) const fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Voters that go on to be voters when a change of them is done, descending: of several that are equally good,
    /// whoever takes the last best one takes the lowest.
    pub(super) fn staying(&self) -> impl Iterator<Item = NodeId> {
        let stays = |id: &NodeId| self.latest().is_some_and(|latest| latest.is_incoming(*id));
        self.ids.iter().rev().copied().filter(stays)
    }

    /// All members, ascending.
    pub(super) fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// Adopts what new entries of the log say; true when the latest changed.
    pub(super) fn adopt(&mut self, entries: impl Iterator<Item = (Index, Membership)>) -> bool {
        let before = self.stack.len();
        self.stack.extend(entries);
        self.changed_since(before)
    }

    /// Puts memberships in their places that could not be read before.
    pub(super) fn restore(&mut self, entries: Vec<(Index, Membership)>) {
        for (index, membership) in entries {
            if let Err(place) = self.stack.binary_search_by_key(&index, |(known, _membership)| *known) {
                self.stack.insert(place, (index, membership));
            }
        }
        self.derive();
    }

    /// Forgets all at or below `index` but the one in force there.
    pub(super) fn compact(&mut self, index: Index) {
        let passed = self.stack.partition_point(|(entry, _membership)| *entry <= index);
        self.stack.drain(..passed.saturating_sub(1));
    }

    /// Starts over with the one in force at the base of a snapshot, if it is known.
    pub(super) fn replace(&mut self, base: Option<(Index, Membership)>) {
        self.stack = base.into_iter().collect();
        self.derive();
    }

    /// Falls back to the latest at or below `after`; true when the latest changed.
    pub(super) fn truncate(&mut self, after: Index) -> bool {
        let before = self.stack.len();
        self.stack.truncate(self.stack.partition_point(|(index, _membership)| *index <= after));
        self.changed_since(before)
    }

    fn changed_since(&mut self, before: usize) -> bool {
        let changed = self.stack.len() != before;
        if changed {
            self.derive();
        }
        changed
    }

    fn derive(&mut self) {
        self.quorum = self.latest().map(|latest| self.quorum_of(latest)).unwrap_or_default();
        self.ids = self.latest().into_iter().flat_map(Membership::members).map(|member| member.id).collect();
        self.ids.sort_unstable();
    }

    fn quorum_of(&self, membership: &Membership) -> Quorum {
        if self.plants.has(Plant::JointSkipped) || self.plants.has(Plant::ChangeBeforeOwnCommit) {
            return Quorum::new(ids_of(&membership.voters), Vec::new());
        }
        if self.plants.has(Plant::LearnerCounted) {
            let voters = membership.voters.iter().chain(&membership.learners).map(|member| member.id).collect();
            return Quorum::new(voters, ids_of(&membership.outgoing));
        }
        if self.plants.has(Plant::RemovedStillCounted) && !membership.is_joint() {
            let removed = (1..=MAX_MEMBERS as u64).map(NodeId).filter(|id| membership.removed.contains(*id));
            return Quorum::new(ids_of(&membership.voters).into_iter().chain(removed).collect(), Vec::new());
        }
        membership.quorum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64) -> Member {
        Member { id: NodeId(id), incarnation: Incarnation(id * 256), address: format!("h:{id}") }
    }

    fn sample() -> Membership {
        let voters = vec![member(1), member(2)];
        Membership { learners: vec![member(3)], ..Membership::new(ClusterId(0x0102), voters) }
    }

    /// A leader that had written its own removal was cut off by all who followed that entry before it was committed: it could
    /// neither commit it nor hand over. Connections stand to whomever one of these names.
    #[test]
    fn memberships_in_force_are_the_last_committed_one_and_those_since() {
        let three = Membership::new(ClusterId(1), (1..=3).map(member).collect());
        let joint = three.after(&crate::raft::Change::Remove { id: NodeId(1) }).unwrap();
        let two = joint.settled();
        let memberships = Memberships::new(vec![(Index(1), three), (Index(5), joint), (Index(7), two)]);
        let names = |committed: u64| memberships.since(Index(committed)).any(|it| it.member(NodeId(1)).is_some());
        assert!(names(1) && names(5) && names(6), "its removal is not committed");
        assert!(!names(7));
    }

    /// Joint, with every list in use.
    fn full() -> Membership {
        let mut removed = RemovedIds::new();
        removed.add(NodeId(5));
        removed.add(NodeId(6));
        Membership {
            outgoing: vec![member(1), member(4)],
            promotions: vec![Promotion { learner: NodeId(3), replaces: Some(NodeId(2)) }],
            priorities: vec![Priority { id: NodeId(2), priority: 7 }],
            removed,
            read_lease: Duration::from_micros(0x0203),
            ..sample()
        }
    }

    fn malformed(wrong: &Membership) -> bool {
        matches!(Membership::decode(&wrong.encode()), Err(DecodeError::Malformed { .. }))
    }

    #[test]
    fn membership_version_1_has_these_bytes() {
        let lists = |lists: [&[u64]; 3]| {
            let mut golden = vec![0x4d, 1];
            golden.extend(0x0102u128.to_le_bytes());
            golden.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            for ids in lists {
                golden.extend((ids.len() as u64).to_le_bytes());
                for id in ids {
                    golden.extend(id.to_le_bytes());
                    golden.extend((id * 256).to_le_bytes());
                    golden.extend(3u64.to_le_bytes());
                    golden.extend(format!("h:{id}").bytes());
                }
            }
            golden
        };
        let mut golden = lists([&[1, 2], &[], &[3]]);
        golden.extend([0; 32]);
        assert_eq!(sample().encode(), golden);
        assert_eq!(Membership::decode(&golden).unwrap(), sample());

        let mut golden = lists([&[1, 2], &[1, 4], &[3]]);
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([3, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(full().encode(), golden);
        assert_eq!(Membership::decode(&golden).unwrap(), full());
    }

    #[test]
    fn membership_of_a_later_version_is_unsupported_not_malformed() {
        let mut bytes = sample().encode();
        bytes[1] = 2;
        assert!(matches!(Membership::decode(&bytes), Err(DecodeError::Unsupported { version: 2, .. })));
    }

    #[test]
    fn membership_cut_short_or_without_voters_or_with_a_twin_is_malformed() {
        let bytes = full().encode();
        for end in 0..bytes.len() {
            assert!(matches!(Membership::decode(&bytes[..end]), Err(DecodeError::Malformed { .. })), "{end}");
        }
        for (voters, learners) in
            [(vec![], vec![member(1)]), (vec![member(1)], vec![member(1)]), (vec![member(0)], vec![])]
        {
            assert!(malformed(&Membership { learners, ..Membership::new(ClusterId(1), voters) }));
        }
        assert!(malformed(&Membership { epoch: Epoch::NONE, ..sample() }));
        let too_long = MAX_READ_LEASE + Duration::from_micros(1);
        assert!(malformed(&Membership { read_lease: too_long, ..sample() }));
    }

    #[test]
    fn membership_that_speaks_of_nobody_it_names_is_malformed() {
        let promotion = |learner| vec![Promotion { learner: NodeId(learner), replaces: None }];
        assert!(malformed(&Membership { promotions: promotion(2), ..sample() }), "a voter");
        assert!(malformed(&Membership { promotions: [promotion(3), promotion(3)].concat(), ..sample() }), "twice");
        let priorities = vec![Priority { id: NodeId(4), priority: 1 }];
        assert!(malformed(&Membership { priorities, ..sample() }));
        let otherwise = Member { incarnation: Incarnation(1), ..member(1) };
        assert!(malformed(&Membership { outgoing: vec![otherwise], ..sample() }), "another life of a voter");
        assert!(malformed(&Membership { outgoing: vec![member(3)], ..sample() }), "a learner that leaves the voters");
    }

    #[test]
    fn membership_names_its_members_once_and_the_joint_quorum_needs_both_sets() {
        let ids: Vec<u64> = full().members().map(|member| member.id.0).collect();
        assert_eq!(ids, [1, 2, 4, 3]);
        assert_eq!(full().quorum(), Quorum::new(vec![NodeId(1), NodeId(2)], vec![NodeId(1), NodeId(4)]));
        assert_eq!((full().priority(NodeId(2)), full().priority(NodeId(1))), (7, 0));
    }

    #[test]
    fn memberships_adopt_on_append_and_fall_back_on_truncation() {
        let mut stack = Memberships::new(vec![(Index(1), sample())]);
        let other = Membership { voters: vec![member(4)], ..sample() };
        assert!(stack.adopt([(Index(5), other)].into_iter()));
        assert_eq!(stack.ids(), [NodeId(3), NodeId(4)]);
        assert!(!stack.truncate(Index(5)));
        assert!(stack.truncate(Index(4)));
        assert_eq!(stack.ids(), [NodeId(1), NodeId(2), NodeId(3)]);
        assert!(stack.quorum().is_voter(NodeId(2)) && !stack.quorum().is_voter(NodeId(3)));
    }

    #[test]
    fn memberships_take_a_node_for_removed_once_that_is_committed() {
        let mut stack = Memberships::new(vec![(Index(1), sample()), (Index(4), full())]);
        assert!(!stack.has_removed(NodeId(5), Index(3)));
        assert!(stack.has_removed(NodeId(5), Index(4)));
        assert!(!stack.has_removed(NodeId(9), Index(4)), "never heard of is not removed");
        assert!(stack.truncate(Index(3)));
        assert!(!stack.has_removed(NodeId(5), Index(4)));
    }
}
