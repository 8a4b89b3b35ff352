//! Planted bugs: each breaks one rule, to show that the simulator would notice if the code did.
//!
//! A plant is a value that the simulator passes in ([`crate::simulation`], feature `simulation`). Without the feature
//! [`Plants`] holds nothing, [`Plants::has`] is `false` at compile time, and no plant is in the binary. A plant changes
//! what the product does and nothing else: no checker knows its name.

/// The rules that can be broken. The simulator's catalogue says what each does and which fault it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Plant {
    /// A leader counts its own append before its disk has it.
    OwnAppendEarly,
    /// A candidate counts its own vote before its disk has it.
    OwnVoteEarly,
    /// A vote is answered before its sync.
    VoteAnsweredEarly,
    /// An append is answered before its sync.
    AppendAnsweredEarly,
    /// Term and vote are not given to the disk.
    VoteNotPersisted,
    /// Term and vote are written and not synced.
    VoteNotSynced,
    /// A vote is given to every candidate that asks.
    VoteTwice,
    /// A vote is given to a candidate whose log is behind.
    VoteWithoutLogCheck,
    /// An append answer counts durable entries that the leader has not verified.
    DivergentTailCounted,
    /// A follower takes the leader's commit for entries that were not verified.
    CommitBeyondVerified,
    /// A completed write counts for records that have been cut since.
    StaleCompletion,
    /// An append is taken without a look at the term of the entry before it.
    PrevNotChecked,
    /// Messages of earlier terms are taken for those of this one.
    TermNotChecked,
    /// Entries of earlier terms are committed by counting.
    OldTermByCounting,
    /// A caller is told done for another's entry at its index.
    DoneUnderIndex,
    /// A caller whose outcome is unknown is told that it failed.
    UnknownToldFailed,
    /// A new leader reads before it has committed in its term.
    ReadBeforeOwnCommit,
    /// A leader reads without asking whether it still leads.
    ReadWithoutRound,
    /// A read joins the round that is under way, which was sent before it arrived.
    ReadRoundReused,
    /// A read does not wait until its index is applied.
    ReadBeforeApplied,
    /// A lease counts from when the heartbeat was answered, and not from when it was sent.
    LeaseFromAnswer,
    /// A new leader goes by its lease before it has committed in its term.
    LeaseBeforeOwnCommit,
    /// A leader that hands over keeps its lease.
    LeaseKeptInTransfer,
    /// A process that stood still goes by the lease that it had before.
    LeaseNotTimed,
    /// A promise not to vote ends with the connection to the leader.
    PromiseEndsWithConnection,
    /// A read with a bound takes a read index for as old as its answer, and not as its question.
    BoundFromAnswer,
    /// Elections start without a pre-vote.
    NoPreVote,
    /// Votes are given although a leader was heard lately.
    NotSticky,
    /// A leader without a quorum stays.
    NoCheckQuorum,
    /// A leader whose disk hangs stays.
    NoStallHandOver,
    /// A forwarded write is sent twice.
    ForwardTwice,
    /// A forwarded write is called done before it is applied here.
    ForwardDoneEarly,
    /// Records are stamped with the machine's clock.
    MachineTime,
    /// Records of an append are not verified.
    RecordsBelieved,
    /// Records are written and not synced.
    AppendNotSynced,
    /// A sync that failed is tried again and believed.
    FailedSyncRetried,
    /// A progress slot names an end that is not synced.
    SlotNamesUnsynced,
    /// A new segment's name is not synced.
    NoDirectorySync,
    /// A write that found the disk full is reported as done.
    FullAcknowledged,
    /// Recovery keeps a torn record behind the durable end.
    TornTailAccepted,
    /// Recovery takes a bad record below the durable end for the end of the log.
    CorruptionIsEnd,
    /// A node that cannot read its log stands for election.
    HoleStands,
    /// A read takes a sound record for the one that belongs in its place.
    PlaceNotChecked,
    /// The copy of term and vote that is read first is believed without a look at the other one.
    StaleVoteBelieved,
    /// Of two segments that start at one index the older wins: what was cut comes back.
    TruncatedResurrected,
    /// During a change of voters a majority of the new ones suffices.
    JointSkipped,
    /// Voters change in one step, on the word of a leader that has committed nothing in its term.
    ChangeBeforeOwnCommit,
    /// Learners are counted as voters.
    LearnerCounted,
    /// A leader that is removed goes on counting itself.
    RemovedLeaderCounts,
    /// A membership stays in force although its entry was cut.
    MembershipNotPopped,
    /// A change of members begins while the entry of the last one is not committed.
    ChangeUnderWayIgnored,
    /// A change of members is called done when its first entry is committed, and not its last.
    ChangeDoneEarly,
    /// A node that was removed is counted as a voter all the same.
    RemovedStillCounted,
    /// The numbers of nodes that were removed are not remembered.
    RemovedForgotten,
    /// A learner becomes a voter however far behind it is.
    PromotedFarBehind,
    /// A leader hands over to whom lacks entries, and whoever is handed the office is voted for without a look at its log.
    HandOverUnchecked,
    /// A transfer is called done when the other node was told to stand, and not when it leads.
    TransferDoneEarly,
    /// A member is admitted in any life of its directory: one whose disk was wiped votes again.
    LifeNotChecked,
    /// A numbered command that was done is done again.
    RepeatDoneAgain,
    /// A repeat is answered under its own revision, and not under that of the first.
    RepeatUnderOwnRevision,
    /// A session that is not there is opened on the quiet.
    SessionReopened,
    /// All answers below the last number are let go, whoever still waits for them.
    AnswersLetGoEarly,
    /// The answers that sessions may ask for again are left out of snapshots.
    AnswersLeftOut,
    /// Which keys live with a lease is left out of snapshots.
    BindingsLeftOut,
    /// Leases and what lives with them are left out of snapshots.
    LeasesLeftOut,
    /// A lease that is kept alive keeps its old deadline.
    LeaseNotRenewed,
    /// A key is written under a lease that has ended.
    DeadLeaseTaken,
    /// A key that is written without a lease stays with the one that it had.
    PutKeepsLease,
    /// One of the keys of a lease that has ended stays.
    ExpirySkipsKeys,
    /// What is due ends whenever the machine publishes, wherever in the log that is.
    ExpiryBetweenEntries,
    /// A leader lets deadlines pass without an entry.
    ExpiryNotProposed,
    /// A transaction that one part forbids does the parts before that.
    TxnHalfApplied,
    /// A key whose lease is over counts as absent while it is still there: who takes it keeps its create revision.
    EndedKeyCountsAsAbsent,
    /// Keys that end with their lease are not noted for watches.
    WatchMissesExpiry,
    /// A repeat is not noted as having done nothing.
    WatchRepeats,
    /// A transaction is noted as having taken its first branch.
    WatchTakesFirstBranch,
    /// What a node knows for watches is said to begin ahead of the snapshot that it began with.
    WatchGapBehindSnapshot,
    /// A range delete does all its work in one turn.
    RangeInOneTurn,
    /// The log is purged up to what is applied, and not to what a snapshot covers.
    PurgeToApplied,
    /// The log is purged when a snapshot is begun, and not when it is durable.
    PurgeBeforeSnapshot,
    /// The log starts over when a peer's snapshot begins to arrive, and not when it is durable.
    ResetBeforeSnapshot,
    /// A snapshot is made whole without a sync.
    SnapshotNotSynced,
    /// The checksums of a snapshot on this disk are not looked at.
    SnapshotUnverified,
    /// A snapshot is said to be of the last committed entry, and not of the last one that its state has taken.
    SnapshotNamesCommitted,
    /// The membership in force is left out of a snapshot.
    MembershipForgotten,
    /// A snapshot names the membership at the front of the log, and not the one in force at its last entry.
    SnapshotNamesOldMembers,
    /// A caller is told done when a snapshot takes the place of its entry.
    InstallToldDone,
    /// A chunk of a peer's snapshot is stored without a look at its checksums, under new ones.
    ChunkBelieved,
}

/// Which rule is broken in this process: none, unless a simulator says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plants {
    #[cfg(feature = "simulation")]
    planted: Option<Plant>,
}

impl Plants {
    /// No rule is broken.
    pub const NONE: Self = Self {
        #[cfg(feature = "simulation")]
        planted: None,
    };

    /// This rule is broken.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub const fn one(plant: Plant) -> Self {
        Self { planted: Some(plant) }
    }

    /// Whether this rule is broken.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn has(self, plant: Plant) -> bool {
        self.planted == Some(plant)
    }

    /// Whether this rule is broken: never in this build.
    #[cfg(not(feature = "simulation"))]
    #[must_use]
    #[inline(always)]
    pub const fn has(self, _plant: Plant) -> bool {
        false
    }
}
