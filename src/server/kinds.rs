//! Stand-ins until the kv and node parts are merged.
#![allow(missing_docs)]
use bytes::Bytes;

use crate::types::{ClusterId, Index, NodeId, Role, Term};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: Index,
    pub mod_revision: Index,
    pub version: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    #[default]
    Linearizable,
    Stale,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub from: Option<Bytes>,
    pub to: Option<Bytes>,
    pub prefix: Bytes,
    pub limit: Option<u64>,
    pub max_bytes: u64,
    pub reverse: bool,
    pub keys_only: bool,
    pub count_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    pub items: Vec<KeyValue>,
    pub count: u64,
    pub next: Option<Bytes>,
    pub revision: Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub count: u64,
    pub revision: Index,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub id: NodeId,
    pub cluster: Option<ClusterId>,
    pub address: String,
    pub role: Role,
    pub term: Term,
    pub leader: Option<NodeId>,
    pub first: Index,
    pub last: Index,
    pub durable: Index,
    pub committed: Index,
    pub applied: Index,
    pub disk_bytes: u64,
    pub members: Vec<(NodeId, String)>,
    pub error: Option<String>,
    pub version: String,
}
