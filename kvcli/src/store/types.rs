//! The members of a cluster, as `status` and `snapshot` show them.

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
    /// What it is to the cluster; `None` for a node that is no member.
    pub(crate) place: Option<Place>,
    /// What it says, or why it said nothing.
    pub(crate) answer: Result<NodeAnswer, String>,
}

/// What a member is to its cluster, by the leader's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// `voter`, `learner`, `joining` or `leaving`.
    pub(crate) standing: String,
    /// The last index on its disk that equals the leader's log; `None` while there is no leader.
    pub(crate) matched: Option<u64>,
    /// It is sent a snapshot, for the log that it lacks is purged.
    pub(crate) snapshotting: bool,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeAnswer {
    pub(crate) role: String,
    /// The life of the cluster: 1, and one more with each recovery.
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) durable: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) disk_bytes: u64,
    /// The last index in its newest snapshot; 0 without one.
    pub(crate) snapshot: u64,
    /// Bytes of snapshots that it was sent since its start.
    pub(crate) received: u64,
    pub(crate) damaged: u64,
    pub(crate) mended: u64,
    pub(crate) scrubbed: u64,
    pub(crate) scrub_rounds: u64,
    pub(crate) version: String,
    pub(crate) error: Option<String>,
}

/// What became of a member's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotRow {
    pub(crate) id: u64,
    /// The last index in it, or why there is none.
    pub(crate) taken: Result<u64, String>,
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
