//! `lease grant|keepalive|revoke|list`.

use std::num::NonZeroU64;
use std::time::Duration;

use dledger::types::LeaseId;

use crate::args::LeaseCommand;
use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::run::Session;

/// Does what is asked with a lease. One that has ended is a "no".
pub(crate) async fn run(session: &Session, action: LeaseCommand) -> Result<Outcome, Failure> {
    let id = |id: NonZeroU64| LeaseId(id.get());
    match action {
        LeaseCommand::Grant { ttl } => {
            let lease = session.store.grant_lease(ttl).await?;
            session.printer.print(Answer::Lease { id: lease.0, ttl_ms: millis(ttl) })?;
        }
        LeaseCommand::Keepalive { id: lease } => {
            let ttl = session.store.keep_alive(id(lease)).await?;
            session.printer.print(Answer::Lease { id: lease.get(), ttl_ms: millis(ttl) })?;
        }
        LeaseCommand::Revoke { id: lease } => {
            let deleted = session.store.revoke_lease(id(lease)).await?;
            session.printer.print(Answer::Deleted(deleted))?;
        }
        LeaseCommand::List => {
            let leases = session.store.leases().await?;
            session.printer.print(Answer::Leases(&leases))?;
        }
    }
    Ok(Outcome::Done)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
