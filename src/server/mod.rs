//! Serves remote clients: one task a connection, on the node's own runtime.
//!
//! ```text
//!   ClientConnection ─► admitted? ─► dispatch: packets ─► requests ─► Store ─► answers ─► packets
//!                        limits.rs    dispatch.rs  protocol.rs       store.rs
//! ```
//! Nothing a client sends makes a node panic, allocate beyond stated limits, or serve others worse than its share.
//! `docs/client-protocol.md` tells the bytes and the rules for whoever writes another client.

pub(crate) mod dispatch;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod kinds;
pub(crate) mod limits;
pub(crate) mod protocol;
mod replica;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::kv::KvStore;
use crate::transport::ClientConnection;

use limits::Registry;
use protocol::Failure;
use store::Store;

/// The client connections of one node.
#[derive(Clone, Debug)]
pub struct Server {
    registry: Arc<Registry>,
}

impl Server {
    /// A server of at most `max_clients` connections at once.
    #[must_use]
    pub fn new(max_clients: u32) -> Self {
        Self { registry: Registry::new(usize::try_from(max_clients).unwrap_or(usize::MAX)) }
    }

    /// Serves a connection to `store` until it ends, as a task of the present tokio runtime.
    pub fn serve(&self, store: KvStore, connection: ClientConnection) {
        drop(self.serve_store(store, connection));
    }

    /// Serves a connection until it ends, as a task of the present tokio runtime. From the moment this is called, the
    /// former connection of the same client is served no further.
    pub(crate) fn serve_store<S: Store>(&self, store: S, connection: ClientConnection) -> JoinHandle<()> {
        let admission = self.registry.admit(connection.hello.client);
        let max_clients = self.registry.max_clients();
        let (reader, writer) = connection.split();
        tokio::spawn(async move {
            let Some(admission) = admission else {
                let reason = format!("{max_clients} client connections are open already");
                return dispatch::refuse(Failure::Overloaded(reason), writer).await;
            };
            dispatch::run(store, admission.fence(), reader, writer).await;
        })
    }
}
