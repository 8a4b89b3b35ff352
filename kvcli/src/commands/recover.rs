//! `recover`: what a stopped node has, for the comparison of survivors; with `--force` the best of them goes on alone.
//!
//! Without `--force` not a byte is changed. Asks no node: whether a disk is lost for good is known to people only.

use std::path::Path;

use dledger::node::Environment;
use dledger::node::recover::{Examined, RecoverOptions, Recovered, examine, recover};
use dledger::types::NodeId;

use super::log::blocking;
use crate::args::RecoverArgs;
use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::report;
use crate::run::Session;

/// A survivor as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SurvivorRow {
    /// `ID=TERM:INDEX`, to be passed on as it is.
    pub(crate) survivor: String,
    pub(crate) id: u64,
    pub(crate) cluster_id: String,
    pub(crate) epoch: u64,
    /// By its log: number, address, and whether it votes. Empty when damage hides them.
    pub(crate) members: Vec<(u64, String, bool)>,
    /// Of the last entry.
    pub(crate) term: u64,
    pub(crate) index: u64,
    /// The highest term that it has seen.
    pub(crate) voted_term: u64,
    pub(crate) committed: u64,
    /// The last index in its newest snapshot; 0 without one.
    pub(crate) snapshot: u64,
    /// Why it is not to be gone on with.
    pub(crate) damage: Option<String>,
}

/// A survivor that goes on alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecoveredRow {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) epoch: u64,
    /// Everything up to there counts as committed.
    pub(crate) index: u64,
    pub(crate) already: bool,
}

/// Runs the command. The disk is read on a thread that may block.
pub(crate) async fn run(session: &Session, args: RecoverArgs) -> Result<Outcome, Failure> {
    if args.force {
        return force(session, args).await;
    }
    let data_dir = args.data_dir;
    let found = blocking(move || examine(&Environment::real(), &data_dir)).await??;
    session.printer.print(Answer::Survivor(&survivor_row(&found)))?;
    if let Some(lost) = &found.power_lost {
        report::remark(&format!("acknowledged entries may be missing at its end: {lost}"));
    }
    match found.damage {
        Some(reason) => Err(Failure::new(Kind::Corrupt, format!("corrupt: {reason}"))),
        None => Ok(Outcome::Done),
    }
}

async fn force(session: &Session, args: RecoverArgs) -> Result<Outcome, Failure> {
    let data_dir = args.data_dir.clone();
    let options = RecoverOptions { data_dir: args.data_dir, others: args.survivors };
    let done = blocking(move || recover(&Environment::real(), &options)).await??;
    session.printer.print(Answer::Recovered(&recovered_row(&done)))?;
    report::remark(&advice(&done, &data_dir));
    Ok(Outcome::Done)
}

/// What it means, and what is left to do.
fn advice(done: &Recovered, data_dir: &Path) -> String {
    let Recovered { node, address, epoch, last, already } = done;
    let what = match already {
        true => format!("it was recovered before (epoch {epoch}); nothing was changed"),
        false => format!(
            "everything up to {} counts as committed now: what was acknowledged and stood only on lost nodes is gone, \
             what ended as unknown may have happened",
            last.index
        ),
    };
    format!(
        "{what}. Stop all other nodes of this cluster for good and remove their directories, since clients may still \
         find them; then start this one with `kvcli serve --id {node} --cluster {node}={address} --data-dir {}` and add \
         others under new numbers",
        data_dir.display()
    )
}

fn survivor_row(found: &Examined) -> SurvivorRow {
    let members = found.members.iter().flat_map(|members| {
        let votes = |id: NodeId| members.quorum().is_voter(id);
        members.members().map(move |member| (member.id.get(), member.address.clone(), votes(member.id)))
    });
    SurvivorRow {
        survivor: found.survivor().to_string(),
        id: found.node.get(),
        cluster_id: found.cluster.to_string(),
        epoch: found.epoch.number,
        members: members.collect(),
        term: found.last.term.get(),
        index: found.last.index.get(),
        voted_term: found.vote.term.get(),
        committed: found.committed.get(),
        snapshot: found.snapshot.as_ref().map_or(0, |base| base.entry.index.get()),
        damage: found.damage.clone(),
    }
}

fn recovered_row(done: &Recovered) -> RecoveredRow {
    RecoveredRow {
        id: done.node.get(),
        address: done.address.clone(),
        epoch: done.epoch.number,
        index: done.last.index.get(),
        already: done.already,
    }
}
