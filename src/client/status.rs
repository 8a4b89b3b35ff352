//! How every member of a cluster is.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::server::kinds::NodeStatus;
use crate::types::{ClusterId, NodeId};

use super::error::ClientError;
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
