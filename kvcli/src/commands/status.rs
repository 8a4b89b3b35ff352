//! `status`: a row for every known member.

use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::run::Session;

/// Prints the rows; it is enough that one member answers.
pub(crate) async fn run(session: &Session) -> Result<Outcome, Failure> {
    let nodes = session.store.nodes().await?;
    session.printer.print(Answer::Nodes(&nodes))?;
    if nodes.nodes.iter().any(|row| row.answer.is_ok()) {
        return Ok(Outcome::Done);
    }
    let asked = session.options.endpoints.join(",");
    Err(Failure::new(Kind::Unavailable, format!("unavailable: no node answers at {asked}; is it running?")))
}
