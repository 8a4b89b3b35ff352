//! `members` and `transfer`: who belongs to the cluster, and who leads it.

use std::num::NonZeroU64;

use dledger::node::MemberChange;
use dledger::types::NodeId;

use crate::args::MembersCommand;
use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::run::Session;

/// Prints the members, or changes them.
pub(crate) async fn run(session: &Session, change: Option<MembersCommand>) -> Result<Outcome, Failure> {
    match change {
        None => session.printer.print(Answer::Members(&session.store.members().await?))?,
        Some(change) => {
            let members = session.store.change_members(wanted(change)).await?;
            session.printer.print(Answer::MembersChanged(&members))?;
        }
    }
    Ok(Outcome::Done)
}

/// Makes a voter the leader.
pub(crate) async fn transfer(session: &Session, to: NonZeroU64) -> Result<Outcome, Failure> {
    session.store.transfer_leadership(node(to)).await?;
    session.printer.print(Answer::Leads(to.get()))?;
    Ok(Outcome::Done)
}

fn wanted(change: MembersCommand) -> MemberChange {
    match change {
        MembersCommand::Add { node: at, learner } => {
            MemberChange::Add { id: node(at.id), address: at.address, promote: !learner }
        }
        MembersCommand::Promote { id } => MemberChange::Promote { id: node(id) },
        MembersCommand::Remove { id } => MemberChange::Remove { id: node(id) },
        MembersCommand::Replace { old, node: at } => {
            MemberChange::Replace { old: node(old), new: node(at.id), address: at.address }
        }
        MembersCommand::Prefer { id, priority } => MemberChange::Prioritise { id: node(id), priority },
    }
}

const fn node(id: NonZeroU64) -> NodeId {
    NodeId(id.get())
}
