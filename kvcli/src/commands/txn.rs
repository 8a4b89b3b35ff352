//! `txn FILE|-`: a transaction as JSON, answered as JSON. Its grammar is in txn/parse.rs.

mod parse;

use std::path::Path;

use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::run::Session;

use super::put::{STDIN, from_stdin};

/// Does the transaction. A mistake in it is found before anything is sent; the else branch is a "no".
pub(crate) async fn run(session: &Session, file: &Path) -> Result<Outcome, Failure> {
    let (name, text) = if file.as_os_str().as_encoded_bytes() == STDIN {
        ("stdin".to_owned(), from_stdin(session).await?)
    } else {
        let text = tokio::fs::read(file).await.map_err(|error| Failure::input(file.display(), &error))?;
        (file.display().to_string(), text.into())
    };
    let txn = parse::transaction(&text).map_err(|reason| Failure::usage(format!("{name}: {reason}")))?;
    txn.check().map_err(|mistake| Failure::usage(format!("{name}: {mistake}")))?;
    let done = session.store.transact(txn).await?;
    session.printer.print(Answer::Txn(&done))?;
    Ok(if done.succeeded { Outcome::Done } else { Outcome::No })
}
