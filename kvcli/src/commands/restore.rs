//! `restore FILE`: prepares the directory of a node of a new cluster so that it begins with a backup. Asks no node.

use dledger::config::Members;
use dledger::node::{Environment, RESTORE_GAP, RestoreOptions, restore};
use dledger::types::NodeId;

use crate::args::RestoreArgs;
use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::run::Session;

/// A directory that was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// The last index in the backup.
    pub(crate) index: u64,
    /// The first index of the new log.
    pub(crate) begins: u64,
}

/// Restores and prints where the new cluster goes on. Reading happens on a thread that may block.
pub(crate) async fn run(session: &Session, args: RestoreArgs) -> Result<Outcome, Failure> {
    let cluster: Members = args.cluster.parse().map_err(|error| Failure::config(format!("flag --cluster: {error}")))?;
    let options = RestoreOptions { backup: args.file, data_dir: args.data_dir, id: NodeId(args.id.get()), cluster };
    let restored = tokio::task::spawn_blocking(move || restore(&Environment::real(), &options)).await;
    let manifest = restored.map_err(|error| Failure::new(Kind::Bug, format!("the restore panicked: {error}")))??;
    let index = manifest.id().index.get();
    session.printer.print(Answer::Restored(&Restored { index, begins: index + RESTORE_GAP + 1 }))?;
    Ok(Outcome::Done)
}
