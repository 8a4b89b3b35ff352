//! Keeps what a client knows of the members true for as long as it has a connection to a leader.
//!
//! A cluster may change all its members while a client sends it one request after the other and never has to search.
//! When its leader then dies, the nodes that the client met at its start are gone. So it asks that leader now and then.
//! The task holds neither the client nor its connection: it ends when either does.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::server::protocol::{Answer, RequestBody};

use super::link::Link;
use super::routes::Routes;

/// How often. One removes nodes more slowly: each leaves only when its successor has caught up.
const EVERY: Duration = Duration::from_secs(2);

/// Asks the node behind `link` until the link or the client is gone.
pub(super) async fn follow(routes: Weak<Routes>, link: Weak<Link>) {
    loop {
        sleep(EVERY).await;
        let Some(link) = link.upgrade().filter(|link| link.is_open()) else { return };
        let asked = link.call(RequestBody::Status, Instant::now() + EVERY).await;
        let Some(routes) = routes.upgrade() else { return };
        if routes.is_current(&link)
            && let Ok(response) = asked
            && let Answer::Status(status) = response.answer
        {
            routes.learn(&status);
        }
    }
}
