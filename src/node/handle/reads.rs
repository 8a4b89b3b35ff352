//! From when on the state of this node is fresh enough to read, through the handle.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::ReadError;
use crate::raft::ReadBy;
use crate::types::Index;

use super::{Command, NodeHandle};

impl NodeHandle {
    /// Resolves, with the applied index, once this node has applied everything that was committed anywhere in the
    /// cluster when the call was made: what the state machine shows from then on is linearizable.
    ///
    /// # Errors
    /// `Unavailable` when no leader confirmed it in time, `Stopped`.
    pub async fn read_index(&self, timeout: Duration) -> Result<Index, ReadError> {
        self.ask(ReadBy::Round, timeout).await
    }

    /// The same without a round trip, as long as the leader has a lease: at once on the leader, by a question to it on
    /// another node. In a cluster without read leases ([`Config::read_lease`](crate::Config::read_lease)), and while the
    /// leader has none, it is [`NodeHandle::read_index`]. Linearizable as far as clocks go within the bound that
    /// [`Config::read_lease`](crate::Config::read_lease) names.
    ///
    /// # Errors
    /// As for [`NodeHandle::read_index`].
    pub async fn read_index_by_lease(&self, timeout: Duration) -> Result<Index, ReadError> {
        self.check_running()?;
        let fresh = &self.shared.fresh;
        match fresh.leased(self.shared.clock.monotonic()) {
            Some(index) if index <= fresh.applied() => Ok(index),
            Some(_) | None => self.ask(ReadBy::Lease, timeout).await,
        }
    }

    /// Resolves, with an applied index, once what the state machine of this node shows holds everything that was
    /// acknowledged up to `bound` before the call, by this machine's own clock. At once when any linearizable read of this
    /// node began no longer ago than that and what it waited for is applied; else it is [`NodeHandle::read_index`].
    ///
    /// # Errors
    /// As for [`NodeHandle::read_index`].
    pub async fn read_index_within(&self, bound: Duration, timeout: Duration) -> Result<Index, ReadError> {
        self.check_running()?;
        let fresh = &self.shared.fresh;
        match fresh.within(bound, self.shared.clock.monotonic()) {
            Some(index) if index <= fresh.applied() => Ok(index),
            Some(_) | None => self.ask(ReadBy::Round, timeout).await,
        }
    }

    async fn ask(&self, by: ReadBy, timeout: Duration) -> Result<Index, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Read { by, timeout, reply }).map_err(|()| ReadError::Stopped(self.why_stopped()))?;
        answer.await.unwrap_or_else(|_dropped| Err(ReadError::Stopped(self.why_stopped())))
    }

    /// A node that has stopped answers nothing, not even from what it has.
    fn check_running(&self) -> Result<(), ReadError> {
        match self.shared.commands.is_closed() {
            true => Err(ReadError::Stopped(self.why_stopped())),
            false => Ok(()),
        }
    }
}
