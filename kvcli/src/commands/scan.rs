//! `scan`: key order, page by page, so that a scan of any size takes the memory of one page.

use bytes::Bytes;

use crate::args::ScanArgs;
use crate::exit::{Failure, Outcome};
use crate::output::Answer;
use crate::run::Session;
use crate::store::{Consistency, Scan, ScanPage, Store};

/// Most keys of one page.
pub(crate) const PAGE_KEYS: u64 = 1_000;
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
    let mut pages = Pages::new(session.store.clone(), session.options.consistency, scan);
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

/// The pages of a scan.
pub(crate) struct Pages {
    store: Store,
    consistency: Consistency,
    /// What is still to be read; `None` when all is.
    rest: Option<Scan>,
}

impl Pages {
    pub(crate) fn new(store: Store, consistency: Consistency, scan: Scan) -> Self {
        let nothing = scan.limit == Some(0);
        Self { store, consistency, rest: (!nothing || scan.count_only).then_some(scan) }
    }

    /// The next page; `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<ScanPage>, Failure> {
        let Some(scan) = self.rest.take() else { return Ok(None) };
        let mut asked = scan.clone();
        if !scan.count_only {
            asked.limit = Some(scan.limit.map_or(PAGE_KEYS, |limit| limit.min(PAGE_KEYS)));
        }
        let page = self.store.scan(asked, self.consistency).await?;
        let left = scan.limit.map(|limit| limit.saturating_sub(page.items.len() as u64));
        if let Some(next) = page.next.clone()
            && left != Some(0)
        {
            self.rest = Some(after(scan, next, left));
        }
        Ok(Some(page))
    }
}

/// The scan that goes on at `next`, the first key of the next page.
fn after(scan: Scan, next: Bytes, limit: Option<u64>) -> Scan {
    if !scan.reverse {
        return Scan { from: Some(next), limit, ..scan };
    }
    // Backwards the page ends below; `to` is exclusive, so the smallest key above `next` is the new end.
    let mut end = next.to_vec();
    end.push(0);
    Scan { to: Some(end.into()), limit, ..scan }
}
