//! What is asked of every member of a cluster at once: how it is, and to write its state down.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::server::kinds::{MemberList, NodeStatus};
use crate::server::protocol::{Answer, RequestBody};
use crate::types::{ClusterId, Index, NodeId, Role};

use super::error::ClientError;
use super::judge;
use super::link::Link;
use super::routes::{DialError, Routes, describe_failures, hopeless};

/// How every known member of a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster; `None` until it has formed.
    pub cluster_id: Option<ClusterId>,
    /// Every known member by number, with its address and its own word, or why there is none; and every other node that
    /// was asked and answered.
    pub nodes: Vec<(NodeId, String, Result<NodeStatus, String>)>,
    /// Who the members are: by the leader's word, which has their progress, else by the word of the node that knows most.
    pub members: MemberList,
}

/// What all known nodes have said.
struct Answers {
    links: BTreeMap<NodeId, (Arc<Link>, NodeStatus)>,
    failures: Vec<(String, DialError)>,
    members: MemberList,
}

impl Answers {
    /// Asks all known nodes how they are, at once.
    async fn gather(routes: &Routes, deadline: Instant) -> Result<Self, ClientError> {
        let mut links = BTreeMap::new();
        let mut failures = Vec::new();
        let mut round = routes.ask_all(deadline);
        while let Some(asked) = round.next().await {
            match asked.result {
                Ok((link, status)) => drop(links.insert(status.id, (link, status))),
                Err(error) => failures.push((asked.address, error)),
            }
        }
        // Whoever was removed, or was away, still names those of then.
        let rank = |status: &&NodeStatus| (status.role == Role::Leader, status.term, status.last);
        let Some(best) = links.values().map(|(_link, status)| status).max_by_key(rank) else {
            let unavailable = || ClientError::Unavailable(describe_failures(&failures));
            return Err(hopeless(&failures).unwrap_or_else(unavailable));
        };
        let members = MemberList::of(best.clone());
        Ok(Self { links, failures, members })
    }

    /// The members that have not answered, with their addresses and the reason.
    fn silent(&self) -> impl Iterator<Item = (NodeId, &str, String)> {
        let silent = self.members.members.iter().filter(|member| !self.links.contains_key(&member.id));
        silent.map(|member| {
            let failure = self.failures.iter().find(|(address, _error)| *address == member.address);
            let reason = failure.map_or("another node answers there", |(_address, error)| error.text());
            (member.id, member.address.as_str(), reason.to_owned())
        })
    }
}

/// Asks all members at once.
pub(super) async fn ask(routes: &Routes, deadline: Instant) -> Result<ClusterStatus, ClientError> {
    let answers = Answers::gather(routes, deadline).await?;
    let silent = answers.silent().map(|(id, address, reason)| (id, address.to_owned(), Err(reason)));
    let mut nodes: Vec<_> = silent.collect();
    nodes.extend(answers.links.into_iter().map(|(id, (link, status))| {
        let member = answers.members.members.iter().find(|member| member.id == id);
        let address = member.map_or(&link.info().address, |member| &member.address);
        (id, address.clone(), Ok(status))
    }));
    nodes.sort_by_key(|(id, _address, _answer)| *id);
    Ok(ClusterStatus { cluster_id: routes.cluster(), nodes, members: answers.members })
}

/// Asks all members for a snapshot at once.
pub(super) async fn snapshot(
    routes: &Routes,
    deadline: Instant,
) -> Result<Vec<(NodeId, Result<Index, String>)>, ClientError> {
    let answers = Answers::gather(routes, deadline).await?;
    let mut rows: BTreeMap<_, _> = answers.silent().map(|(id, _address, reason)| (id, Err(reason))).collect();
    let asked = answers.links.into_iter().map(async |(id, (link, _status))| (id, taken(&link, deadline).await));
    rows.extend(join_all(asked).await);
    Ok(rows.into_iter().collect())
}

async fn taken(link: &Link, deadline: Instant) -> Result<Index, String> {
    match judge(link.call(RequestBody::Snapshot, deadline).await) {
        Ok(Answer::Snapshot(index)) => Ok(index),
        Ok(other) => Err(other.out_of_place().to_string()),
        Err(step) => Err(step.into_error().to_string()),
    }
}
