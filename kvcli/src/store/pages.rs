//! The pages of a range, all of one view.

use dledger::client::RangeReader;

use super::ScanPage;
use super::remote::failure;
use crate::exit::Failure;

/// A range that is being read.
pub(crate) enum Pages {
    /// Of a cluster.
    Remote(RangeReader),
    /// Of a fake, which nobody else writes to; `None` behind the last page.
    #[cfg(test)]
    Fake(super::fake::Fake, Option<super::Scan>),
}

impl Pages {
    /// The next page; `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<ScanPage>, Failure> {
        match self {
            Self::Remote(reader) => reader.next_page().await.map_err(failure),
            #[cfg(test)]
            Self::Fake(fake, rest) => {
                let Some(scan) = rest.take() else { return Ok(None) };
                let page = fake.scan(&scan)?;
                *rest = scan.after(&page).filter(|rest| rest.limit != Some(0));
                Ok(Some(page))
            }
        }
    }
}
