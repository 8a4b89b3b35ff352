//! Ledger handle.
