//! Reading a range as one view, however many pages it takes.
//!
//! The node that gives the first page holds its view for the next ones, on the connection that the first was asked on. So
//! a range ends with that connection, or with a pause of half a minute: what was read is then of a view that is gone, and
//! the range has to be read from its start.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::server::kinds::{Consistency, Scan, ScanPage};
use crate::server::protocol::{Answer, RequestBody};

use super::error::ClientError;
use super::link::Link;
use super::{Client, Patience, judge};

/// How long a node may take to let go of a view: nobody waits for it.
const RELEASE_WAIT: Duration = Duration::from_secs(1);

impl Client {
    /// Reads a range as one consistent view, page by page: as much as `max_bytes` and the node's own bound (512 KiB) allow in
    /// each. Asks nobody yet.
    ///
    /// ```no_run
    /// # async fn example(client: dledger::Client) -> Result<(), dledger::ClientError> {
    /// use dledger::{Consistency, Scan};
    ///
    /// let mut range = client.range(Scan::prefix("service/"), Consistency::Linearizable);
    /// while let Some(page) = range.next_page().await? {
    ///     for item in &page.items {
    ///         println!("{:?}: {:?}", item.key, item.value);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn range(&self, scan: Scan, consistency: Consistency) -> RangeReader {
        RangeReader { client: self.clone(), consistency, next: Some(scan), held: None }
    }
}

/// A range that is being read. Dropping it lets the node forget the view.
pub struct RangeReader {
    client: Client,
    consistency: Consistency,
    /// What is left; `None` once the last page was given.
    next: Option<Scan>,
    held: Option<Held>,
}

/// The view that a node holds.
struct Held {
    link: Arc<Link>,
    view: u64,
}

impl std::fmt::Debug for RangeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangeReader").field("next", &self.next).finish_non_exhaustive()
    }
}

impl RangeReader {
    /// The next page; `None` behind the last. All pages have one revision. May be dropped and called again: no page is
    /// passed over.
    ///
    /// # Errors
    /// `Unavailable` when no node answered in time, or when the view is gone: then again from the start, with another
    /// reader.
    pub async fn next_page(&mut self) -> Result<Option<ScanPage>, ClientError> {
        let Some(scan) = self.next.clone() else { return Ok(None) };
        let deadline = Instant::now() + self.client.shared.timeout;
        let (consistency, view) = (self.consistency, self.held.as_ref().map(|held| held.view));
        let body = RequestBody::Range { view, consistency, scan: scan.clone() };
        let answer = match &self.held {
            None => {
                let (answer, link) = self.client.call_at(body, deadline, Patience::Again).await?;
                if let Answer::Part(_, Some(view)) = answer {
                    self.held = Some(Held { link, view });
                }
                answer
            }
            Some(held) => judge(held.link.call(body, deadline).await).map_err(|step| {
                let reason = step.into_error();
                ClientError::Unavailable(format!("the view of this range is gone ({reason}); read it from its start"))
            })?,
        };
        let Answer::Part(page, view) = answer else { return Err(answer.out_of_place()) };
        if view.is_none() {
            self.held = None;
        }
        self.next = scan.after(&page);
        Ok(Some(page))
    }
}

impl Drop for RangeReader {
    fn drop(&mut self) {
        let (Some(Held { link, view }), Ok(runtime)) = (self.held.take(), Handle::try_current()) else { return };
        runtime.spawn(async move {
            let _forgotten_by_itself = link.call(RequestBody::Release(view), Instant::now() + RELEASE_WAIT).await;
        });
    }
}
