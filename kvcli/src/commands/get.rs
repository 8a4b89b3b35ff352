//! `get KEY`.

use crate::args::Raw;
use crate::escape::visible;
use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::run::Session;

/// Prints the value.
pub(crate) async fn run(session: &Session, key: Raw) -> Result<Outcome, Failure> {
    match session.store.get(key.0.clone(), session.options.consistency).await? {
        Some(found) => {
            session.printer.print(Answer::Got(&found))?;
            Ok(Outcome::Done)
        }
        None => Err(Failure::new(Kind::NotFound, format!("no such key: {}", visible(&key.0)))),
    }
}
