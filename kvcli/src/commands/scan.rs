//! `scan`: key order, page by page, so that a scan of any size takes the memory of one page. All pages show one view.

use crate::args::ScanArgs;
use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::run::Session;
use crate::store::Scan;

/// Most bytes of one page; a single pair beyond it still comes.
pub(crate) const PAGE_BYTES: u64 = 1 << 20;

/// Prints the pairs, or how many there are.
pub(crate) async fn run(session: &Session, args: ScanArgs) -> Result<Outcome, Failure> {
    let scan = Scan {
        from: args.from.map(|key| key.0),
        to: args.to.map(|key| key.0),
        prefix: args.prefix.0,
        limit: args.limit,
        max_bytes: PAGE_BYTES,
        reverse: args.reverse,
        keys_only: args.keys_only,
        count_only: args.count,
    };
    let mut pages = session.store.range(scan, session.options.consistency);
    let mut counted = 0;
    let mut first = true;
    while let Some(page) = pages.next().await? {
        if args.count {
            counted += page.count;
            continue;
        }
        session.printer.print(Answer::Pairs { pairs: &page.items, keys_only: args.keys_only, first })?;
        session.printer.flush()?;
        first = false;
    }
    if args.count {
        session.printer.print(Answer::Count(counted))?;
    }
    Ok(Outcome::Done)
}
