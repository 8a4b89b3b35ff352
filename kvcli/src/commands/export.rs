//! `export [PREFIX]`: all pairs in a form that `import` reads.

use std::io::{self, IsTerminal};

use indicatif::ProgressBar;

use crate::args::{Format, Raw, RowFormat};
use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::rows::fits_tsv;
use crate::run::Session;
use crate::store::{KeyValue, Scan};

use super::progress::{Cleared, bar};
use super::scan::PAGE_BYTES;

/// Writes the rows to stdout.
pub(crate) async fn run(session: &Session, prefix: Raw, format: Option<RowFormat>) -> Result<Outcome, Failure> {
    let format = format.unwrap_or(match session.printer.format() {
        Format::Json => RowFormat::Json,
        Format::Plain | Format::Table => RowFormat::Tsv,
    });
    // On one terminal the bar and the rows would write over each other.
    let visible = !io::stdout().is_terminal();
    let bar = if visible { bar(None, "{spinner} {pos} keys exported, {per_sec}") } else { ProgressBar::hidden() };
    let bar = Cleared(bar);
    let scan = Scan { prefix: prefix.0, max_bytes: PAGE_BYTES, ..Scan::default() };
    let mut pages = session.store.range(scan, session.options.consistency);
    while let Some(page) = pages.next().await? {
        match format {
            RowFormat::Tsv => write_tsv(session, &page.items)?,
            RowFormat::Json => {
                let answer = Answer::Pairs { pairs: &page.items, keys_only: false, first: true };
                session.printer.with_format(Format::Json).print(answer)?;
            }
        }
        bar.0.inc(page.items.len() as u64);
    }
    Ok(Outcome::Done)
}

fn write_tsv(session: &Session, pairs: &[KeyValue]) -> Result<(), Failure> {
    let mut out = Vec::new();
    for pair in pairs {
        if let Err(reason) = fits_tsv(&pair.key, &pair.value) {
            // What comes before it in key order is complete.
            session.printer.write(&out)?;
            return Err(Failure::usage(reason));
        }
        let style = session.printer.style();
        style.append(&mut out, &pair.key);
        out.push(b'\t');
        style.append(&mut out, &pair.value);
        out.push(b'\n');
    }
    session.printer.write(&out)
}
