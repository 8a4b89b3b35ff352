//! A long list of puts, in order, many under way at once.

use bytes::Bytes;

use crate::exit::Failure;

/// An import that ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// How many lines, counted from the first, are certainly stored.
    pub(crate) acknowledged: u64,
    /// Why it ended.
    pub(crate) cause: Failure,
}

/// An import under way.
pub(crate) enum Importer {
    /// Not built.
    Absent,
    /// Into a map.
    #[cfg(test)]
    Fake { store: super::fake::Fake, acknowledged: u64, progress: Box<dyn FnMut(u64) + Send> },
}

impl Importer {
    /// Takes the next line.
    pub(crate) async fn push(&mut self, key: Bytes, value: Bytes) -> Result<(), Stopped> {
        match self {
            Self::Absent => Err(Stopped { acknowledged: 0, cause: Failure::usage("absent") }),
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
            Self::Absent => Ok(0),
            #[cfg(test)]
            Self::Fake { acknowledged, .. } => Ok(acknowledged),
        }
    }
}
