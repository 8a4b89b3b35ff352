//! The store's own types, as requests and answers carry them.

pub(crate) use crate::kv::{Consistency, Deleted, KeyValue, Scan, ScanPage};
pub(crate) use crate::node::{MemberStatus, NodeStatus, ScrubProgress, Standing};
pub(crate) use crate::transport::SnapshotWant;
