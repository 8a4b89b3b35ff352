//! What goes to and from a store.

use bytes::Bytes;

/// A key with its value and history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) create_revision: u64,
    pub(crate) mod_revision: u64,
    pub(crate) version: u64,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Consistency {
    #[default]
    Linearizable,
    Stale,
}

/// Which keys to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) from: Option<Bytes>,
    pub(crate) to: Option<Bytes>,
    pub(crate) prefix: Bytes,
    pub(crate) limit: Option<u64>,
    pub(crate) max_bytes: u64,
    pub(crate) reverse: bool,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
}

/// Some of the keys asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScanPage {
    pub(crate) items: Vec<KeyValue>,
    pub(crate) count: u64,
    pub(crate) next: Option<Bytes>,
    pub(crate) revision: u64,
}

/// What a delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) count: u64,
    pub(crate) revision: u64,
}

/// The members of a cluster and what each says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    pub(crate) cluster_id: Option<String>,
    pub(crate) nodes: Vec<NodeRow>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub(crate) id: u64,
    pub(crate) address: String,
    /// What it says, or why it said nothing.
    pub(crate) answer: Result<NodeAnswer, String>,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeAnswer {
    pub(crate) role: String,
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) durable: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) version: String,
    pub(crate) error: Option<String>,
}

impl Nodes {
    /// How many committed entries a member has not applied, measured against the highest commit anyone reports.
    pub(crate) fn lag(&self, answer: &NodeAnswer) -> u64 {
        let answers = self.nodes.iter().filter_map(|row| row.answer.as_ref().ok());
        let committed = answers.map(|answer| answer.committed).max().unwrap_or_default();
        committed.saturating_sub(answer.applied)
    }

    /// The leader that the members name; the one of the highest term where they differ.
    pub(crate) fn leader(&self) -> Option<u64> {
        let answers = self.nodes.iter().filter_map(|row| row.answer.as_ref().ok());
        answers.filter_map(|answer| answer.leader.map(|leader| (answer.term, leader))).max().map(|(_, leader)| leader)
    }
}
