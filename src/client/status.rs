//! What is asked of every member of a cluster at once: how it is, and to write its state down.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::server::kinds::NodeStatus;
use crate::server::protocol::{Answer, RequestBody};
use crate::types::{ClusterId, Index, NodeId};

use super::error::ClientError;
use super::judge;
use super::link::Link;
use super::routes::{Routes, describe_failures, hopeless};

/// How every known member of a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster; `None` until it has formed.
    pub cluster_id: Option<ClusterId>,
    /// Every known member by number, with its address and its own word, or why there is none.
    pub nodes: Vec<(NodeId, String, Result<NodeStatus, String>)>,
}

/// Asks all members at once.
pub(super) async fn ask(routes: &Routes, deadline: Instant) -> Result<ClusterStatus, ClientError> {
    let mut answers: BTreeMap<NodeId, (String, NodeStatus)> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut round = routes.ask_all(deadline);
    while let Some(asked) = round.next().await {
        match asked.result {
            Ok((_link, status)) => {
                answers.insert(status.id, (asked.address, status));
            }
            Err(error) => failures.push((asked.address, error)),
        }
    }
    if answers.is_empty() {
        let unavailable = || ClientError::Unavailable(describe_failures(&failures));
        return Err(hopeless(&failures).unwrap_or_else(unavailable));
    }
    let members = routes.members();
    let mut nodes: BTreeMap<NodeId, (String, Result<NodeStatus, String>)> = BTreeMap::new();
    for (id, address) in &members {
        let failure = failures.iter().find(|(failed, _error)| failed == address);
        let reason = failure.map_or("it was not asked", |(_address, error)| error.text());
        nodes.insert(*id, (address.clone(), Err(reason.to_owned())));
    }
    for (id, (asked, status)) in answers {
        let address = members.get(&id).cloned().unwrap_or(asked);
        nodes.insert(id, (address, Ok(status)));
    }
    let nodes = nodes.into_iter().map(|(id, (address, status))| (id, address, status)).collect();
    Ok(ClusterStatus { cluster_id: routes.cluster(), nodes })
}

/// Asks all members for a snapshot at once.
pub(super) async fn snapshot(
    routes: &Routes,
    deadline: Instant,
) -> Result<Vec<(NodeId, Result<Index, String>)>, ClientError> {
    let mut links: BTreeMap<NodeId, Arc<Link>> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut round = routes.ask_all(deadline);
    while let Some(asked) = round.next().await {
        match asked.result {
            Ok((link, status)) => drop(links.insert(status.id, link)),
            Err(error) => failures.push((asked.address, error)),
        }
    }
    if links.is_empty() {
        let unavailable = || ClientError::Unavailable(describe_failures(&failures));
        return Err(hopeless(&failures).unwrap_or_else(unavailable));
    }
    let silent = routes.members().into_iter().filter(|(id, _address)| !links.contains_key(id));
    let silent = silent.map(|(id, address)| {
        let failure = failures.iter().find(|(failed, _error)| *failed == address);
        (id, Err(failure.map_or("it was not asked", |(_address, error)| error.text()).to_owned()))
    });
    let mut answers: BTreeMap<_, _> = silent.collect();
    let asked = links.into_iter().map(async |(id, link)| (id, taken(&link, deadline).await));
    answers.extend(join_all(asked).await);
    Ok(answers.into_iter().collect())
}

async fn taken(link: &Link, deadline: Instant) -> Result<Index, String> {
    match judge(link.call(RequestBody::Snapshot, deadline).await) {
        Ok(Answer::Snapshot(index)) => Ok(index),
        Ok(other) => Err(other.out_of_place().to_string()),
        Err(step) => Err(step.into_error().to_string()),
    }
}
