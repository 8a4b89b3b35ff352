//! `put KEY VALUE`.

use bytes::Bytes;

use crate::args::Raw;
use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::run::{Session, Source};

/// The value that means "read it from stdin".
pub(crate) const STDIN: &[u8] = b"-";

/// Sets the key.
pub(crate) async fn run(session: &Session, key: Raw, value: Raw) -> Result<Outcome, Failure> {
    let value = if value.0.as_ref() == STDIN { from_stdin(session).await? } else { value.0 };
    let revision = session.store.put(key.0, value).await?;
    session.printer.print(Answer::Put(revision))?;
    Ok(Outcome::Done)
}

async fn from_stdin(session: &Session) -> Result<Bytes, Failure> {
    refuse_in_shell(session)?;
    let bytes = session.input.rest().await.map_err(|error| Failure::input("stdin", &error))?;
    Ok(bytes.into())
}

/// In the shell stdin is the prompt itself.
pub(crate) fn refuse_in_shell(session: &Session) -> Result<(), Failure> {
    match session.source {
        Source::Shell => Err(Failure::usage("`-` has no input in the shell; pipe it into `kvcli` instead")),
        Source::Arguments | Source::Script => Ok(()),
    }
}
