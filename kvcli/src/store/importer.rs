//! A long list of puts, in order, many under way at once.

use bytes::Bytes;
use dledger::client;

use crate::exit::Failure;

use super::remote::failure;

/// An import that ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// How many lines, counted from the first, are certainly stored.
    pub(crate) acknowledged: u64,
    /// Why it ended.
    pub(crate) cause: Failure,
}

impl From<client::ImportError> for Stopped {
    fn from(error: client::ImportError) -> Self {
        Self { acknowledged: error.acknowledged, cause: failure(error.cause) }
    }
}

/// An import under way.
pub(crate) enum Importer {
    /// Into a cluster.
    Remote(Box<client::Importer>),
    /// Into a map.
    #[cfg(test)]
    Fake { store: super::fake::Fake, acknowledged: u64, progress: Box<dyn FnMut(u64) + Send> },
}

impl Importer {
    /// Takes the next line; waits while too many are under way.
    pub(crate) async fn push(&mut self, key: Bytes, value: Bytes) -> Result<(), Stopped> {
        match self {
            Self::Remote(importer) => Ok(importer.push(key, value).await?),
            #[cfg(test)]
            Self::Fake { store, acknowledged, progress } => {
                let stopped = |cause| Stopped { acknowledged: *acknowledged, cause };
                store.put_batch(vec![(key, value)]).map_err(stopped)?;
                *acknowledged += 1;
                progress(*acknowledged);
                Ok(())
            }
        }
    }

    /// Waits until every line is acknowledged; the answer is how many there were.
    pub(crate) async fn finish(self) -> Result<u64, Stopped> {
        match self {
            Self::Remote(importer) => Ok(importer.finish().await?),
            #[cfg(test)]
            Self::Fake { acknowledged, .. } => Ok(acknowledged),
        }
    }
}
