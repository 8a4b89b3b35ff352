//! What a node says that wants to join a cluster, and what a member answers.
//!
//! ```text
//!   the node that joins                       a member
//!        ── join: node, incarnation ──────────────►   does a committed membership name this very life?
//!        ◄── admission: cluster, members ──────────   yes; else a refusal that says what to do
//! ```
//! The connection ends with the answer. A node that was admitted makes itself a member from it; until then it is nobody.

use serde::{Deserialize, Serialize};

use crate::config::Members;
use crate::types::{ClusterId, Epoch, Incarnation, NodeId};

use super::super::LocalIdentity;
use super::refusal::Refusal;
use super::{COMMAND_VERSION_READ, RECORD_VERSION_READ, judge_life, judge_versions};

/// Most bytes of addresses in an admission: it must fit a handshake. Who joins needs some of the members, not all.
const MAX_ADDRESSES_BYTES: usize = 2 << 10;

/// How a node presents itself that wants to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinHello {
    /// The node.
    pub node: NodeId,
    /// Its life: the one that the members must name.
    pub incarnation: Incarnation,
    /// Highest record version it reads.
    pub record_version: u16,
    /// Highest command version it applies.
    pub command_version: u16,
}

impl JoinHello {
    /// What this build says.
    #[must_use]
    pub const fn new(node: NodeId, incarnation: Incarnation) -> Self {
        Self { node, incarnation, record_version: RECORD_VERSION_READ, command_version: COMMAND_VERSION_READ }
    }
}

/// The node is a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The cluster.
    pub cluster: ClusterId,
    /// The life that it is in.
    pub epoch: Epoch,
    /// Its members and their addresses, as many as fit; the node itself among them.
    pub members: Members,
}

/// A member's verdict on a node that wants to join.
///
/// # Errors
/// The refusal to answer with.
pub fn judge_join(identity: &LocalIdentity, join: &JoinHello) -> Result<Admission, Refusal> {
    let Some(cluster) = identity.cluster else { return Err(Refusal::not_formed(identity.node)) };
    judge_life(identity, join.node, join.incarnation)?;
    judge_versions(identity.node, join.node, join.record_version, join.command_version)?;
    match identity.members.get(&join.node) {
        Some((address, Some(known))) if *known == join.incarnation && identity.settled => {
            Ok(Admission { cluster, epoch: identity.epoch, members: addresses(identity, join.node, address) })
        }
        Some((_, Some(known))) if *known != join.incarnation => Err(Refusal::incarnation(identity.node, join.node)),
        Some((_, Some(_) | None)) => Err(Refusal::not_settled(identity.node)),
        None if identity.has_removed(join.node) => Err(Refusal::removed(identity.node, join.node)),
        None => Err(Refusal::not_added(identity.node, join.node)),
    }
}

fn addresses(identity: &LocalIdentity, node: NodeId, own: &str) -> Members {
    let others = identity.members.iter().filter(|(id, _)| **id != node);
    let all = others.map(|(id, (address, _life))| (*id, address.clone()));
    let mut bytes = own.len();
    let fits = |(_, address): &(NodeId, String)| {
        bytes += address.len() + 16;
        bytes <= MAX_ADDRESSES_BYTES
    };
    Members(std::iter::once((node, own.to_owned())).chain(all.take_while(fits)).collect())
}
