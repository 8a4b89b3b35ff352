//! Serves remote clients.
pub(crate) mod dispatch;
#[cfg(test)]
pub(crate) mod fake;
pub mod kinds;
pub(crate) mod limits;
pub(crate) mod protocol;
pub(crate) mod store;
pub(crate) mod wire;
