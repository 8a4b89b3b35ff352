//! Coverage marks: places that a simulation must have reached, or it has shown nothing about them.
//!
//! A mark is one call in a rare branch. With the feature `simulation` it counts on the thread that runs the cluster;
//! without it the call is empty. The simulator fails a run whose seeds together left a mark of [`Mark::ALL`] unreached.

macro_rules! marks {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A place that must be reached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Mark {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mark {
            /// Every mark.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name that reports print.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

marks! {
    /// A pre-vote was refused because a leader was heard lately.
    PreVoteRefusedSticky = "pre-vote refused: leader heard lately",
    /// A pre-vote was refused because the candidate's log is behind.
    PreVoteRefusedBehind = "pre-vote refused: log behind",
    /// A vote was refused because a leader was heard lately.
    VoteRefusedSticky = "vote refused: leader heard lately",
    /// A vote was refused because the candidate's log is behind.
    VoteRefusedBehind = "vote refused: log behind",
    /// A vote was refused because it was given to another candidate of the term.
    VoteRefusedGiven = "vote refused: given to another",
    /// A message of a lower term was answered with this node's own.
    LowerTerm = "message of a lower term answered",
    /// An append was rejected: this log does not hold the entry before it.
    AppendRejected = "append rejected",
    /// An append cut entries of another term.
    AppendTruncated = "append cut a divergent tail",
    /// A write was under way whose records have been cut.
    StaleCompletion = "completion of a write that was cut since",
    /// A candidate had its majority before its own vote was durable.
    WonBeforeOwnVote = "election won before the own vote was durable",
    /// A quorum of others made an entry durable before the leader's own disk.
    CommittedBeforeOwn = "committed before the leader's own disk had it",
    /// A leader without a quorum stepped down.
    CheckQuorum = "leader without a quorum stepped down",
    /// A leader whose disk hung handed over.
    StallHandOver = "leader with a hanging disk handed over",
    /// A closed connection to the leader started an early pre-vote.
    EarlyPreVote = "early pre-vote after a closed connection",
    /// A follower's lost appends were noticed and probed.
    LossProbed = "lost appends probed",
    /// A read waited for the first committed entry of the term.
    ReadEarly = "read waited for an entry of the term",
    /// A read was given up with the leader it was asked of.
    ReadGivenUp = "read given up with its leader",
    /// A read's question was lost and given up.
    ReadLost = "read's question lost",
    /// A leader answered a read by its lease.
    LeaseRead = "read answered by a lease",
    /// A promise to a leader kept a node from voting, or from standing.
    PromiseKept = "promise to a leader kept",
    /// A write's entry was cut.
    WriteTruncated = "write answered unknown: cut",
    /// A write's deadline passed.
    WriteExpired = "write answered unknown: deadline",
    /// A forwarded write's connection closed.
    ForwardClosed = "forwarded write unknown: connection closed",
    /// A forwarded write's leader was replaced.
    ForwardReplaced = "forwarded write unknown: leader replaced",
    /// A forwarded write's deadline passed.
    ForwardExpired = "forwarded write unknown: deadline",
    /// A read's deadline passed.
    ReadExpired = "read refused: deadline",
    /// Records that came with an append were bad.
    IncomingBad = "append with bad records refused",
    /// An entry took several turns of apply.
    LongEntry = "entry applied in several turns",
    /// A peer was given records that it had lost.
    RepairGiven = "lost records given to a peer",
    /// A peer asked for records that are not in the log.
    RepairAbsent = "repair refused: absent",
    /// A peer asked for records that are damaged here too.
    RepairDamaged = "repair refused: damaged",
    /// A peer asked for records where other ones stand.
    RepairOthers = "repair refused: others",
    /// A peer asked for records that cannot be told from others.
    RepairUnproven = "repair refused: unproven",
    /// Damaged records were mended.
    Mended = "records mended",
    /// Damaged records were still in memory.
    MendedFromMemory = "records mended from memory",
    /// A sound record was found where another one belongs.
    Misplaced = "sound record in another's place refused",
    /// A sound copy of an older vote stood where the newest one belongs.
    VoteOutlived = "older copy of the vote overruled",
    /// A leader that could not mend itself handed over.
    HoleHandedOver = "leader with a hole handed over",
    /// A leader with a full disk handed over.
    FullHandedOver = "leader with a full disk handed over",
    /// A cut took a hole away.
    HoleCut = "hole cut away by a conflict",
    /// A leader had purged what a follower needs next.
    Lacks = "entries that the leader has purged are needed",
    /// A snapshot took the place of a whole log.
    LogReset = "log started anew behind a snapshot",
    /// A snapshot was written down.
    SnapshotTaken = "snapshot taken",
    /// The front of the log was dropped.
    Purged = "log purged",
    /// A piece of a snapshot was given to a peer.
    SnapshotGiven = "piece of a snapshot given",
    /// A peer asked for a snapshot that is not here.
    SnapshotAbsent = "snapshot not given: absent",
    /// A peer asked for a snapshot that cannot be read.
    SnapshotDamaged = "snapshot not given: damaged",
    /// A chunk of a peer's snapshot was stored.
    SnapshotChunk = "chunk of a snapshot stored",
    /// A chunk of a peer's snapshot was not what it should be.
    SnapshotChunkBad = "chunk of a snapshot refused",
    /// A snapshot took the place of the state.
    SnapshotInstalled = "snapshot installed",
    /// No snapshot reached the log any more.
    Detached = "no snapshot reaches the log",
    /// A peer asked for records that this node has purged.
    RepairPurged = "repair refused: purged",
    /// A vote was given in doubt.
    VoteInDoubt = "vote given in doubt",
    /// A node in doubt has caught up.
    DoubtEnded = "doubt ended: caught up",
    /// Entries of unknown terms turned out to be others than the leader's.
    Refuted = "entries of unknown terms refuted",
    /// Voters began to change.
    ChangeBegun = "joint membership written",
    /// A leader ended a change of voters that another had begun.
    ChangeCarriedOn = "change of voters carried on by a later leader",
    /// A learner that had caught up was made a voter.
    LearnerPromoted = "learner made a voter",
    /// The same in the place of another voter.
    VoterReplaced = "voter replaced",
    /// A leader whose removal was committed gave its office to another.
    RemovedHandedOver = "removed leader handed over",
    /// A leader gave its office to a preferred voter.
    PreferredHandedOver = "office given to a preferred voter",
    /// The entry of a membership was cut.
    MembershipCut = "membership cut",
    /// R1: an empty log was made.
    R1 = "R1 new log",
    /// R2: leftovers were removed.
    R2 = "R2 leftovers removed",
    /// R5: the header of a segment was made again.
    R5 = "R5 header made again",
    /// R7: a superseded segment was removed.
    R7 = "R7 superseded segment removed",
    /// R9: a sealed segment was taken as described.
    R9 = "R9 sealed segment",
    /// R10: a segment without a readable footer was scanned.
    R10 = "R10 unsealed segment scanned",
    /// R12: the last segment had no readable slot.
    R12 = "R12 no slot, the end in doubt",
    /// R13: records below the durable end were bad.
    R13 = "R13 hole kept",
    /// R14: the log goes on in place.
    R14 = "R14 clean end",
    /// R15: records above the durable end were copied.
    R15 = "R15 copied",
    /// R16: a torn write was cut.
    R16 = "R16 torn tail cut",
    /// R21: the vote was read from one of its copies.
    R21 = "R21 vote made anew",
    /// R24: a mend was under way when the node went down.
    R24 = "R24 mend written again",
    /// R25: an asynchronous log was last written before the power failed.
    R25 = "R25 asynchronous log after a power failure",
    /// A segment was sealed and the next begun.
    Rolled = "segment rolled",
    /// A write waited for room on a full disk.
    DiskFull = "write refused: disk full",
    /// The log was poisoned by an error of the disk.
    Poisoned = "log poisoned",
}

#[cfg(feature = "simulation")]
thread_local! {
    static REACHED: std::cell::RefCell<std::collections::BTreeMap<Mark, u64>> = const { std::cell::RefCell::new(std::collections::BTreeMap::new()) };
}

/// This place was reached.
#[cfg(feature = "simulation")]
pub(crate) fn reach(mark: Mark) {
    REACHED.with_borrow_mut(|reached| *reached.entry(mark).or_default() += 1);
}

/// This place was reached: nobody counts in this build.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
pub(crate) const fn reach(_mark: Mark) {}

/// How often this thread reached each mark since the last call.
#[cfg(feature = "simulation")]
#[must_use]
pub fn take() -> std::collections::BTreeMap<Mark, u64> {
    REACHED.take()
}
