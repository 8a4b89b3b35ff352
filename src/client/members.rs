//! Who belongs to the cluster and who leads it, asked for and changed from outside.

use tokio::time::{Instant, sleep};

use crate::server::kinds::{MemberChange, MemberList};
use crate::server::protocol::{Answer, RequestBody};
use crate::types::{NodeId, Role};

use super::error::ClientError;
use super::routes::Route;
use super::{Client, Patience, RETRY_PAUSE};

impl Client {
    /// Who belongs to the cluster, as its leader knows it, after every change acknowledged before the call.
    ///
    /// # Errors
    /// `Unavailable` when the leader itself was not reached in time: no other node answers this.
    pub async fn members(&self) -> Result<MemberList, ClientError> {
        let answer = self.call(RequestBody::Members).await?;
        if let Answer::Members(members) = answer { Ok(members) } else { Err(answer.out_of_place()) }
    }

    /// Changes who belongs to the cluster. Answers who does once the change is committed on a quorum; a change of
    /// voters goes in two steps, and both are then. A newcomer that is to vote is promoted later, by the leader, when
    /// it has caught up: [`Client::members`] says whether it is. While another change is under way, it waits.
    ///
    /// # Errors
    /// `No` when there is nobody it could be done to, or nothing left to do; `Refused` when the cluster does not do
    /// it as things stand; for all others, the table in [`crate::client`]. After `Unknown`, ask for the members before
    /// anything else: the change may be done, or may yet be. Dropping the future leaves the outcome unknown too.
    pub async fn change_members(&self, change: MemberChange) -> Result<MemberList, ClientError> {
        let answer = self.call(RequestBody::ChangeMembers(change)).await?;
        if let Answer::Members(members) = answer { Ok(members) } else { Err(answer.out_of_place()) }
    }

    /// Makes a voter the leader, and resolves once that node itself says that it leads; at once when it already does.
    /// Writes wait meanwhile, for an election timeout at most. Nothing is written.
    ///
    /// # Errors
    /// `No` when the node is no voter of the cluster, `Refused` when it could not lead now, `Unknown` when it did not
    /// take over in time and yet may: ask for the status. Dropping the future leaves the outcome unknown.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.shared.timeout;
        let mut doubt = match self.call_by(RequestBody::Transfer(to), deadline, Patience::Once).await {
            Ok(Answer::Transferred) => None,
            Ok(other) => return Err(other.out_of_place()),
            // Whether it happened can be seen, unlike with a write.
            Err(ClientError::Unknown(reason)) => Some(reason),
            Err(error) => return Err(error),
        };
        let routes = &self.shared.routes;
        loop {
            let route = match routes.leader(deadline).await {
                Ok(route) => route,
                Err(error) => return Err(ClientError::Unknown(doubt.unwrap_or(error.to_string()))),
            };
            match (who_leads(&route, deadline).await, doubt) {
                (Some(leader), _) if leader == to => return Ok(()),
                (Some(_other), Some(reason)) => return Err(ClientError::Unknown(reason)),
                (Some(other), None) => {
                    let reason = format!("node {to} took over, and node {other} was elected since");
                    return Err(ClientError::Unavailable(reason));
                }
                (None, left) => doubt = left,
            }
            routes.forget(&route);
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// The node at the end of a route, if it says that it leads.
async fn who_leads(route: &Route, deadline: Instant) -> Option<NodeId> {
    let response = route.link.call(RequestBody::Status, deadline).await.ok()?;
    let Answer::Status(status) = response.answer else { return None };
    (status.role == Role::Leader).then_some(status.id)
}
