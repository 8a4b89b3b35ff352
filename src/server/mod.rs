//! Serves remote clients.
pub mod kinds;
pub(crate) mod protocol;
