//! Who belongs to the cluster, as an entry of the log says, and the stack of such entries.
//!
//! A node follows the *latest* membership in its log from the moment it is appended, committed or not (paper,
//! section 6), and falls back to the one before when the log is cut. So the core keeps all of them above the
//! log's base, each with the index of its entry.
//!
//! Deliberately absent: changing the membership. The encoding already has a place for the outgoing voters of a
//! joint change; this release writes none and refuses to read any.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::types::{ClusterId, Incarnation, Index, NodeId};

use super::quorum::Quorum;

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

/// The members of a cluster from some entry of the log on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The cluster's identity.
    pub cluster: ClusterId,
    /// Members that vote.
    pub voters: Vec<Member>,
    /// Members that receive the log and do not vote.
    pub learners: Vec<Member>,
}

/// The body of version 1.
#[derive(Serialize, Deserialize)]
struct BodyV1 {
    cluster: u128,
    voters: Vec<Member>,
    outgoing: Vec<Member>,
    learners: Vec<Member>,
}

impl Membership {
    /// The payload of a membership entry: tag, version, body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = BodyV1 {
            cluster: self.cluster.0,
            voters: self.voters.clone(),
            outgoing: Vec::new(),
            learners: self.learners.clone(),
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
    /// `Unsupported` for another tag or version, or for a change of members under way, which only a later release
    /// writes; `Malformed` when the bytes are not a membership, or it has no voter, too many members, a member
    /// twice or a member 0.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let malformed = |reason: &str| DecodeError::Malformed { what: WHAT, reason: reason.to_owned() };
        let [tag, version, body @ ..] = bytes else {
            return Err(malformed("shorter than its tag and version"));
        };
        if (*tag, *version) != (TAG, VERSION) {
            return Err(DecodeError::Unsupported { what: WHAT, tag: *tag, version: *version });
        }
        let body: BodyV1 = codec::decode(WHAT, body)?;
        if !body.outgoing.is_empty() {
            return Err(DecodeError::Unsupported {
                what: "membership with outgoing voters",
                tag: TAG,
                version: VERSION,
            });
        }
        let mut ids: Vec<NodeId> = body.voters.iter().chain(&body.learners).map(|member| member.id).collect();
        ids.sort_unstable();
        if body.voters.is_empty() {
            return Err(malformed("it names no voter"));
        }
        if ids.len() > MAX_MEMBERS {
            return Err(malformed("it names too many members"));
        }
        if ids.first().is_some_and(|id| id.is_zero()) || ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(malformed("it names node 0, or a node twice"));
        }
        Ok(Self { cluster: ClusterId(body.cluster), voters: body.voters, learners: body.learners })
    }

    /// Voters and learners.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.voters.iter().chain(&self.learners)
    }

    /// Who must agree.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        Quorum::new(self.voters.iter().map(|member| member.id).collect(), Vec::new())
    }
}

/// The memberships of a log, oldest first. The latest rules.
#[derive(Debug)]
pub(super) struct Memberships {
    stack: Vec<(Index, Membership)>,
    /// Derived from the latest.
    quorum: Quorum,
    /// All members of the latest, ascending.
    ids: Vec<NodeId>,
}

impl Memberships {
    pub(super) fn new(stack: Vec<(Index, Membership)>) -> Self {
        let mut memberships = Self { stack, quorum: Quorum::default(), ids: Vec::new() };
        memberships.derive();
        memberships
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

    pub(super) const fn quorum(&self) -> &Quorum {
        &self.quorum
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
        self.quorum = self.latest().map(Membership::quorum).unwrap_or_default();
        self.ids = self.latest().into_iter().flat_map(Membership::members).map(|member| member.id).collect();
        self.ids.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64) -> Member {
        Member { id: NodeId(id), incarnation: Incarnation(id * 256), address: format!("h:{id}") }
    }

    fn sample() -> Membership {
        Membership { cluster: ClusterId(0x0102), voters: vec![member(1), member(2)], learners: vec![member(3)] }
    }

    #[test]
    fn membership_version_1_has_these_bytes() {
        let mut golden = vec![0x4d, 1];
        golden.extend(0x0102u128.to_le_bytes());
        let mut list = |ids: &[u64]| {
            golden.extend((ids.len() as u64).to_le_bytes());
            for id in ids {
                golden.extend(id.to_le_bytes());
                golden.extend((id * 256).to_le_bytes());
                golden.extend(3u64.to_le_bytes());
                golden.extend(format!("h:{id}").bytes());
            }
        };
        list(&[1, 2]);
        list(&[]);
        list(&[3]);
        assert_eq!(sample().encode(), golden);
        assert_eq!(Membership::decode(&golden).unwrap(), sample());
    }

    #[test]
    fn membership_of_a_later_version_is_unsupported_not_malformed() {
        let mut bytes = sample().encode();
        bytes[1] = 2;
        assert!(matches!(Membership::decode(&bytes), Err(DecodeError::Unsupported { version: 2, .. })));
    }

    #[test]
    fn membership_cut_short_or_without_voters_or_with_a_twin_is_malformed() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert!(matches!(Membership::decode(&bytes[..end]), Err(DecodeError::Malformed { .. })), "{end}");
        }
        for (voters, learners) in
            [(vec![], vec![member(1)]), (vec![member(1)], vec![member(1)]), (vec![member(0)], vec![])]
        {
            let wrong = Membership { cluster: ClusterId(1), voters, learners };
            assert!(matches!(Membership::decode(&wrong.encode()), Err(DecodeError::Malformed { .. })));
        }
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
}
