//! A backup, taken from one node while the cluster serves on.
//!
//! ```text
//!   a node:  linearizable read ─► snapshot ─► manifest ─► chunk ─► chunk ─► … end
//!                                                 connection lost ┘└► the next chunk, from whoever has that snapshot
//! ```
//! The read comes first so that all that was acknowledged before the call is in the backup, whichever node is asked. The
//! snapshot is taken anew if the newest is older than that. Each chunk is verified as it comes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::server::kinds::{Consistency, SnapshotWant};
use crate::server::protocol::{Answer, RequestBody};
use crate::snapshot::{BackupWriter, Manifest};

use super::error::ClientError;
use super::link::{Link, LinkError};
use super::routes::Routes;
use super::{Client, RETRY_PAUSE, Step, judge};

/// How long a node with an open connection may take for one piece: it holds pieces back for its rate, and others may be
/// given snapshots too.
const PIECE_PATIENCE: Duration = Duration::from_secs(30);

/// A backup on its way, piece by piece. What [`Backup::next`] gives, one behind the other, is a file for
/// [`crate::node::restore`].
pub struct Backup {
    client: Client,
    writer: BackupWriter,
    /// What stands before the first chunk, until it is given.
    head: Option<Bytes>,
    /// Who gives the chunks, as long as that works.
    from: Option<Arc<Link>>,
    bytes: u64,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("writer", &self.writer).finish_non_exhaustive()
    }
}

impl Backup {
    /// Asks the first endpoint in reach for a snapshot, and other ones when it fails.
    pub(super) async fn begin(client: Client) -> Result<Self, ClientError> {
        let timeout = client.shared.timeout;
        let mut give_up = Instant::now() + timeout;
        loop {
            let routes = &client.shared.routes;
            let link = routes.nearest(give_up.max(Instant::now() + RETRY_PAUSE)).await;
            let step = match link {
                Ok(link) => match taken(routes, &link, timeout).await {
                    Ok(manifest) => return Self::with(client, link, &manifest),
                    Err(step) => {
                        routes.forget_nearest(&link);
                        // What took long was the node's work, not our search.
                        give_up = give_up.max(Instant::now());
                        step
                    }
                },
                Err(error @ ClientError::Unavailable(_)) => Step::Again(error),
                Err(error) => Step::Stop(error),
            };
            match step {
                Step::Stop(error) => return Err(error),
                Step::Again(error) if Instant::now() >= give_up => return Err(error),
                Step::Lost(reason) if Instant::now() >= give_up => return Err(ClientError::Unavailable(reason)),
                Step::Again(_) | Step::Lost(_) | Step::OtherEpoch => sleep(RETRY_PAUSE).await,
            }
        }
    }

    fn with(client: Client, link: Arc<Link>, manifest: &[u8]) -> Result<Self, ClientError> {
        let (writer, head) = BackupWriter::begin(Path::new(&link.info().address), manifest)
            .map_err(|error| ClientError::Protocol(error.to_string()))?;
        let bytes = head.len() as u64 + writer.data_left();
        Ok(Self { client, writer, head: Some(head.into()), from: Some(link), bytes })
    }

    /// What it is of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.writer.manifest()
    }

    /// How many bytes it has in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next bytes of it; `None` behind the last. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Unavailable` when no node in reach has the rest of this snapshot: begin another backup.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        let Some(chunk) = self.writer.next() else { return Ok(None) };
        let snapshot = self.writer.manifest().id();
        let want = SnapshotWant::Chunk { snapshot, chunk };
        let timeout = self.client.shared.timeout;
        let mut failure = match self.from.clone() {
            Some(link) => match self.fetch(&link, want).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(reason) => format!("{}: {reason}", link.info().address),
            },
            None => "no node gives it".to_owned(),
        };
        self.from = None;
        let give_up = Instant::now() + timeout;
        loop {
            let client = self.client.clone();
            let mut round = client.shared.routes.ask_all(give_up);
            while let Some(asked) = round.next().await {
                let Ok((link, _status)) = asked.result else { continue };
                if !client.shared.routes.is_current(&link) {
                    continue;
                }
                match self.fetch(&link, want).await {
                    Ok(bytes) => {
                        self.from = Some(link);
                        return Ok(Some(bytes));
                    }
                    Err(reason) => failure = format!("{}: {reason}", link.info().address),
                }
            }
            if Instant::now() + RETRY_PAUSE >= give_up {
                let text = format!("no node in reach gives the rest of snapshot {snapshot} ({failure})");
                return Err(ClientError::Unavailable(format!("{text}; the backup must begin anew")));
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn fetch(&mut self, link: &Link, want: SnapshotWant) -> Result<Bytes, String> {
        let bytes =
            piece(link, want, self.client.shared.timeout).await.map_err(|step| step.into_error().to_string())?;
        self.writer.take(&bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// Has a node write down all that was acknowledged before; the answer is the manifest of that.
async fn taken(routes: &Routes, link: &Link, timeout: Duration) -> Result<Bytes, Step> {
    let read = RequestBody::Get { consistency: Consistency::Linearizable, key: Bytes::new() };
    judge(link.call(read, Instant::now() + timeout).await)?;
    let answer = judge(link.call(RequestBody::Status, Instant::now() + timeout).await)?;
    let Answer::Status(status) = answer else { return Err(Step::Stop(answer.out_of_place())) };
    // Whoever may have to go on.
    routes.learn(&status);
    loop {
        let asked = link.call(RequestBody::Snapshot, Instant::now() + timeout).await;
        let slow = matches!(asked, Err(LinkError::TimedOut));
        match judge(asked) {
            Ok(Answer::Snapshot(index)) => {
                return piece(link, SnapshotWant::Newest { at_least: index }, timeout).await;
            }
            Ok(other) => return Err(Step::Stop(other.out_of_place())),
            // A large state takes longer to be written than we wait for one answer.
            Err(Step::Lost(_)) if slow || link.is_open() => {}
            Err(step) => return Err(step),
        }
        match piece(link, SnapshotWant::Newest { at_least: status.applied }, timeout).await {
            Err(Step::Again(_)) => {}
            done => return done,
        }
    }
}

async fn piece(link: &Link, want: SnapshotWant, timeout: Duration) -> Result<Bytes, Step> {
    let deadline = Instant::now() + timeout.max(PIECE_PATIENCE);
    let answer = judge(link.call(RequestBody::Piece(want), deadline).await)?;
    if let Answer::Piece(bytes) = answer { Ok(bytes) } else { Err(Step::Stop(answer.out_of_place())) }
}
