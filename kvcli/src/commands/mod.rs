//! The commands, one a file. Each takes the session and its own arguments, prints answers and says how it ended.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod cas;
pub(crate) mod del;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod members;
mod progress;
pub(crate) mod put;
pub(crate) mod recover;
pub(crate) mod restore;
pub(crate) mod scan;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod txn;
pub(crate) mod watch;

#[cfg(test)]
mod tests;
