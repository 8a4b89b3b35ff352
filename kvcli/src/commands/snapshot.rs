//! `snapshot`: every known member writes its state down.

use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::run::Session;

/// Prints a row for each member; fails when one of them has not written it.
pub(crate) async fn run(session: &Session) -> Result<Outcome, Failure> {
    let rows = session.store.snapshot().await?;
    session.printer.print(Answer::Snapshots(&rows))?;
    let without: Vec<String> = rows.iter().filter(|row| row.taken.is_err()).map(|row| row.id.to_string()).collect();
    if without.is_empty() {
        return Ok(Outcome::Done);
    }
    let nodes = without.join(", ");
    Err(Failure::new(Kind::Unavailable, format!("unavailable: no snapshot on node {nodes}; see the rows above")))
}
