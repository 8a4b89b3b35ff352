//! Changing members and the leader, through the handle.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::raft::{Change, Member, Membership, Raft};
use crate::transport::dial::dial_client;
use crate::transport::{ClientConnection, ClientHello};
use crate::types::{Index, NodeId, Role};

use super::{Command, NodeHandle};
use crate::node::members::{MembersError, TransferError};

/// A change of who belongs to the cluster, as an operator asks for it: nodes by number and address. Which life of a
/// directory is admitted is what the node at that address says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberChange {
    /// A node that was started to join receives the log; it does not vote.
    Add {
        /// Its number, which must never have been a member's.
        id: NodeId,
        /// `HOST:PORT` that the members reach it under.
        address: String,
        /// The leader makes it a voter by itself once it has caught up.
        promote: bool,
    },
    /// A learner becomes a voter.
    Promote {
        /// Which.
        id: NodeId,
    },
    /// A member leaves, voter or learner, the leader too.
    Remove {
        /// Which.
        id: NodeId,
    },
    /// A node that was started to join takes a voter's place once it has caught up.
    Replace {
        /// The voter that leaves then, running or not.
        old: NodeId,
        /// The number of the node that comes.
        new: NodeId,
        /// Where it is reached.
        address: String,
    },
    /// How gladly a member is seen as the leader; 0 for no preference.
    Prioritise {
        /// Which.
        id: NodeId,
        /// Above all others for the preferred leader.
        priority: u8,
    },
}

/// What a member is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Standing {
    /// It votes, and goes on to.
    Voter,
    /// It receives the log, and does not vote.
    Learner,
    /// A learner that the leader makes a voter by itself once it has caught up.
    Joining,
    /// A voter until the change of members that is under way is done; no member afterwards.
    Leaving,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Joining => "joining",
            Self::Leaving => "leaving",
        })
    }
}

/// A member, as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its number.
    pub id: NodeId,
    /// Where it is reached.
    pub address: String,
    /// Whether it votes.
    pub standing: Standing,
    /// How gladly it is seen as the leader; 0 for no preference.
    pub priority: u8,
    /// The voter whose place a joining member is to take.
    pub replaces: Option<NodeId>,
    /// The last index that is known to be on its disk and equal to the leader's; known to the leader alone.
    pub matched: Option<Index>,
    /// The log that it needs next is purged, and it fetches a snapshot; known to the leader alone.
    pub snapshotting: bool,
}

impl MemberStatus {
    /// A voter of whom nothing else is known.
    #[must_use]
    pub fn voter(id: NodeId, address: String) -> Self {
        let standing = Standing::Voter;
        Self { id, address, standing, priority: 0, replaces: None, matched: None, snapshotting: false }
    }

    /// The members by a membership, by number.
    pub(crate) fn of(membership: &Membership) -> Vec<Self> {
        let status = |member: &Member| {
            let promotion = membership.promotions.iter().find(|promotion| promotion.learner == member.id);
            let learns = membership.learners.iter().any(|learner| learner.id == member.id);
            let standing = match (membership.is_incoming(member.id), learns) {
                (true, _) => Standing::Voter,
                (false, false) => Standing::Leaving,
                (false, true) if promotion.is_some() => Standing::Joining,
                (false, true) => Standing::Learner,
            };
            Self {
                standing,
                priority: membership.priority(member.id),
                replaces: promotion.and_then(|promotion| promotion.replaces),
                ..Self::voter(member.id, member.address.clone())
            }
        };
        let mut members: Vec<Self> = membership.members().map(status).collect();
        members.sort_unstable_by_key(|member| member.id);
        members
    }

    /// Fills in what only the leader knows of its members.
    pub(crate) fn fill_in(members: &mut [Self], raft: &Raft) {
        let (peers, leads) = (raft.peers(), raft.role() == Role::Leader);
        for member in members {
            let peer = peers.iter().find(|peer| peer.id == member.id);
            let own = (leads && member.id == raft.id()).then(|| raft.durable());
            member.matched = own.or(peer.map(|peer| peer.matched));
            member.snapshotting = peer.is_some_and(|peer| peer.lacks);
        }
    }
}

impl NodeHandle {
    /// Changes the members and resolves, with all of them, once the change is committed; a change of voters that goes
    /// in two steps, once both are. A learner that is to vote is promoted later, when it has caught up: the members
    /// say whether it is. Asked of the leader; another node answers who that is. While another change is under way,
    /// and while there is no leader, it waits.
    ///
    /// Dropping the future leaves the outcome unknown.
    ///
    /// # Errors
    /// See [`MembersError`]; only `Unknown` leaves open whether the members change.
    pub async fn change_members(&self, change: MemberChange, timeout: Duration) -> Result<Membership, MembersError> {
        let change = match change {
            MemberChange::Add { id, address, promote } => {
                Change::AddLearner { member: self.candidate(id, address).await?, promote }
            }
            MemberChange::Replace { old, new, address } => {
                Change::Replace { old, new: self.candidate(new, address).await? }
            }
            MemberChange::Promote { id } => Change::Promote { id },
            MemberChange::Remove { id } => Change::Remove { id },
            MemberChange::Prioritise { id, priority } => Change::Prioritise { id, priority },
        };
        let (reply, answer) = oneshot::channel();
        self.send(Command::ChangeMembers { change, timeout, reply })
            .map_err(|()| MembersError::Unavailable(self.why_stopped()))?;
        answer.await.unwrap_or_else(|_dropped| Err(MembersError::Unknown(self.why_stopped())))
    }

    /// Makes a voter the leader and resolves once it is. Asked of the leader. Writes wait meanwhile, for an election
    /// timeout at most.
    ///
    /// Dropping the future changes nothing.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), TransferError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Transfer { to, reply }).map_err(|()| TransferError::Unavailable(self.why_stopped()))?;
        answer.await.unwrap_or_else(|_dropped| Err(TransferError::Unavailable(self.why_stopped())))
    }

    /// Asks the node at an address who it is.
    async fn candidate(&self, id: NodeId, address: String) -> Result<Member, MembersError> {
        let hello = ClientHello { client: 0, cluster: None };
        let dialled = {
            let address = address.clone();
            self.shared.runtime.spawn(async move { dial_client(&address, hello).await })
        };
        let refuse = |reason: String| Err(MembersError::Candidate(reason));
        let connection: ClientConnection = match dialled.await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return refuse(format!("{error}; start node {id} there with `--join` first")),
            Err(_stopped) => return Err(MembersError::Unavailable(self.why_stopped())),
        };
        let welcome = &connection.welcome;
        if welcome.node != id {
            return refuse(format!("the node at {address} is node {}, not node {id}", welcome.node));
        }
        // One of this very cluster is left to the core, which says what is wrong with it: its number is in use, or was.
        let own = self.status();
        if let Some(cluster) = welcome.cluster.filter(|cluster| own.cluster != Some(*cluster)) {
            return refuse(format!("node {id} at {address} belongs to cluster {cluster} already"));
        }
        if welcome.cluster.is_some() && welcome.epoch.number != own.epoch {
            return refuse(format!(
                "node {id} at {address} is of epoch {} of this cluster, which is in epoch {} since a recovery: stop it, \
                 remove its directory, and start it with `--join`",
                welcome.epoch, own.epoch
            ));
        }
        Ok(Member { id, incarnation: welcome.incarnation, address })
    }
}
