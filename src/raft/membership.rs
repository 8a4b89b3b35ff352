//! Who belongs to the cluster, as entries of the log.
//!
//! A membership is in force as soon as its entry is *appended* (paper, section 6), so a truncation may bring an
//! earlier one back: the core keeps a stack of (index, membership) above the log's base.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::types::{ClusterId, Incarnation, Index, NodeId};

use super::quorum::Voters;

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// The life of its data directory: a wiped directory is another one, and does not vote.
    pub incarnation: Incarnation,
    /// `HOST:PORT` where it is reached.
    pub address: String,
}

/// The payload of a membership entry: `[tag][version]`, then cluster, voters, outgoing voters, learners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The identity of the cluster.
    pub cluster: ClusterId,
    /// Who votes.
    pub voters: Vec<Member>,
    /// Who still votes while one set of voters gives way to another; empty otherwise.
    pub outgoing: Vec<Member>,
    /// Who has the log and does not vote.
    pub learners: Vec<Member>,
}

/// Tag of a membership payload.
const TAG: u8 = b'M';
/// Newest version of a membership payload.
const VERSION: u8 = 1;

impl Membership {
    /// The membership of a new cluster.
    #[must_use]
    pub fn of(cluster: ClusterId, voters: Vec<Member>) -> Self {
        Self { cluster, voters, outgoing: Vec::new(), learners: Vec::new() }
    }

    /// The entry's payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![TAG, VERSION];
        if let Err(error) = codec::encode_into("membership", self, &mut bytes) {
            debug_assert!(false, "a membership always encodes: {error}");
        }
        bytes
    }

    /// Reads an entry's payload.
    ///
    /// # Errors
    /// `Unsupported` for another tag or version, `Malformed` for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [TAG, VERSION, body @ ..] => codec::decode("membership", body),
            [tag, version, ..] => Err(DecodeError::Unsupported { what: "membership", tag: *tag, version: *version }),
            _ => Err(DecodeError::Malformed { what: "membership", reason: "too short".to_owned() }),
        }
    }

    /// A member of any kind.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members().find(|member| member.id == id)
    }

    /// Every member; one that is both incoming and outgoing is given twice.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners)
    }

    /// The sets that must agree.
    #[must_use]
    pub fn quorum(&self) -> Voters {
        let ids = |members: &[Member]| members.iter().map(|member| member.id).collect::<BTreeSet<_>>();
        Voters { incoming: ids(&self.voters), outgoing: ids(&self.outgoing) }
    }
}

/// The memberships in the log, newest last.
#[derive(Clone, Debug)]
pub(super) struct MembershipStack {
    stack: Vec<(Index, Membership)>,
    /// The quorum of the newest, kept because every commit asks for it.
    voters: Voters,
    empty: Membership,
}

impl MembershipStack {
    pub(super) fn new(stack: Vec<(Index, Membership)>) -> Self {
        let empty = Membership::of(ClusterId(0), Vec::new());
        let mut memberships = Self { stack, voters: empty.quorum(), empty };
        memberships.renew();
        memberships
    }

    /// The membership in force; one without members before the first.
    pub(super) fn current(&self) -> &Membership {
        self.stack.last().map_or(&self.empty, |(_index, membership)| membership)
    }

    pub(super) fn voters(&self) -> &Voters {
        &self.voters
    }

    pub(super) fn push(&mut self, index: Index, membership: Membership) {
        self.stack.push((index, membership));
        self.renew();
    }

    /// The log was cut above `index`.
    pub(super) fn truncate_after(&mut self, index: Index) {
        self.stack.retain(|(at, _membership)| *at <= index);
        self.renew();
    }

    fn renew(&mut self) {
        self.voters = self.current().quorum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(ids: &[u64]) -> Membership {
        let member = |id: &u64| Member { id: NodeId(*id), incarnation: Incarnation(9), address: format!("h:{id}") };
        Membership::of(ClusterId(5), ids.iter().map(member).collect())
    }

    #[test]
    fn membership_bytes_are_pinned() {
        let mut expected = vec![b'M', 1];
        expected.extend(5u128.to_le_bytes());
        expected.extend(1u64.to_le_bytes());
        expected.extend(7u64.to_le_bytes());
        expected.extend(9u64.to_le_bytes());
        expected.extend(3u64.to_le_bytes());
        expected.extend(b"h:7");
        expected.extend([0; 16]);
        assert_eq!(membership(&[7]).encode(), expected);
        assert_eq!(Membership::decode(&expected).unwrap(), membership(&[7]));
    }

    #[test]
    fn membership_of_a_later_version_is_unsupported() {
        assert!(matches!(Membership::decode(&[b'M', 2, 0]), Err(DecodeError::Unsupported { version: 2, .. })));
        assert!(matches!(Membership::decode(b"M"), Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn membership_cut_from_the_log_gives_way_to_the_one_before() {
        let mut stack = MembershipStack::new(vec![(Index(1), membership(&[1, 2, 3]))]);
        stack.push(Index(5), membership(&[1]));
        assert_eq!(stack.voters().incoming.len(), 1);
        stack.truncate_after(Index(4));
        assert_eq!(stack.voters().incoming.len(), 3);
    }
}
