//! What opening makes of the files it finds: a decision table.
//!
//! | rule | found | done |
//! |---|---|---|
//! | R1 | no directory, or one whose making was interrupted | an empty log |
//! | R2 | blank or unfinished files, an index without its segment | removed |
//! | R3 | a file of another name or kind | refused: foreign |
//! | R4 | a segment, vote file or base file of a later version | refused: unsupported |
//! | R5 | a segment whose header cannot be read | made again from what stands around it; if nothing vouches: refused |
//! | R6 | a segment, vote file or base file of another cluster or group | refused: identity |
//! | R7 | a segment that a higher generation wins over | removed |
//! | R8 | a gap before (the base file says where the log begins, without one it is index 1), between or (the last one is sealed) behind segments | refused: lost segment |
//! | R9 | a sealed segment, not the last | taken as its footer describes it |
//! | R10 | a segment, not the last, without a readable footer | scanned up to its successor; a bad record: a hole |
//! | R11 | neighbours that do not fit together | refused: corrupt |
//! | R12 | the last segment has no readable slot | all that is found is kept, with holes; the last entry is in doubt |
//! | R13 | a bad record, or an end, below the newest slot's durable end | a hole, kept; a new segment |
//! | R14 | the records end where the slot says, zeros behind | goes on in place; the zeros are written again |
//! | R15 | good records above the durable end | copied to a new segment, synced |
//! | R16 | a bad record at or above the durable end | cut there, whatever follows; a new segment |
//! | R17 | a sector that cannot be read | as bad bytes: R13 or R16; a file that cannot be opened or listed: refused: I/O |
//! | R18 | an intact record of a later release | refused: unsupported |
//! | R19 | records or segments without a vote file, or no readable copy in it | refused: lost vote |
//! | R20 | a vote file without segments | refused: lost segment |
//! | R21 | a vote file with a readable copy | the newest copy, made anew |
//! | R22 | names that perhaps only the cache holds | the directories are synced before anything relies on them |
//! | R23 | good bytes that contradict each other: a slot and the records, the base file and the first segment | refused: corrupt |
//! | R24 | a mend that was under way | its bytes are written again as they are, and synced |
//! | R25 | an asynchronous log, last written in another run of the machine | the last entry is in doubt |
//! | R26 | segments of a lower generation than the base file names | removed: a purge or a reset dropped them |
//! | R27 | a base file that says that a reset was begun | an empty log at its base, the vote as it was |
//! | R28 | what R8 or R29 refuses, all of it at or below what the caller has covered | the log begins with the next segment |
//! | R29 | a base file with a bad copy | made anew from the other one; without a readable copy: refused: corrupt |
//! | R30 | what R1 makes anew, and the caller knows that the log was made before | refused: lost segment, or lost vote |
//!
//! Why R15 copies what looks good: after a failed sync the page cache may hold good bytes that the disk does not, so
//! that a second sync alone proves nothing; and why it does not rewrite in place: a power cut during that could
//! spoil what was acknowledged. Why R16 never goes on in place: sectors of one batch reach the disk in any order, so
//! a whole record of the cut batch may stand behind the cut and would follow the next one that is written there.
//! Why R11 and R23 stay refusals: rot does not leave good checksums. A file was swapped or restored from elsewhere, and
//! nothing here says which of two intact testimonies is the true one. Why R12 doubts: without a slot no bad record can be
//! told from a torn one, so that nothing is cut, and acknowledged records may have stood behind the last one found. A
//! file of its own keeps the doubt over the next openings, until [`super::LogWriter::trust_last`]. Why R13 takes a new
//! segment and seals nothing: a footer would vouch for what the hole hides.
//! Why R26 goes by generations: what is removed may come back with a power cut, any of it without the rest, and a log
//! that was reset has nothing in common with the one before. Why R29 refuses although the first segment names what stood
//! before it: nothing tells then whether more is missing, or whether segments still stand there that a reset had dropped.
//! Why R22: a process killed between a rename and its directory sync leaves a name that reads well and that a power
//! cut takes away, with everything the next process has acknowledged in that file.

use std::fmt;
use std::path::PathBuf;

use crate::simulation::marks::{Mark, reach};
use crate::types::Index;

/// A row of the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// R1: an empty log was made.
    NewLog,
    /// R2: leftovers were removed.
    Leftovers,
    /// R5: a segment's header was made again.
    Header,
    /// R7: a segment was removed that a higher generation wins over.
    Superseded,
    /// R9: a segment was taken as its footer describes it.
    Sealed,
    /// R10: a segment without a readable footer was scanned.
    Unsealed,
    /// R12: the last segment had no readable slot; what was found in it was kept.
    NoSlot,
    /// R13: records below the durable end cannot be read back.
    Hole,
    /// R14: the log goes on in place.
    CleanEnd,
    /// R15: good records above the durable end were copied.
    Copied,
    /// R16: a torn write was cut.
    TornTail,
    /// R24: a mend was under way; its bytes were written again.
    Mending,
    /// R25: an asynchronous log may have lost entries with the power.
    PowerLost,
    /// R26: segments were removed that a purge or a reset had dropped.
    Dropped,
    /// R27: a reset was begun; it was carried out.
    Resetting,
    /// R28: segments are missing that a snapshot covers; the log begins behind them.
    Covered,
}

impl Rule {
    /// What a simulation must reach. The rules about purges and resets have no mark of their own.
    fn mark(self) -> Option<Mark> {
        Some(match self {
            Self::NewLog => Mark::R1,
            Self::Leftovers => Mark::R2,
            Self::Header => Mark::R5,
            Self::Superseded => Mark::R7,
            Self::Sealed => Mark::R9,
            Self::Unsealed => Mark::R10,
            Self::NoSlot => Mark::R12,
            Self::Hole => Mark::R13,
            Self::CleanEnd => Mark::R14,
            Self::Copied => Mark::R15,
            Self::TornTail => Mark::R16,
            Self::Mending => Mark::R24,
            Self::PowerLost => Mark::R25,
            Self::Dropped | Self::Resetting | Self::Covered => return None,
        })
    }

    /// The row's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NewLog => "R1",
            Self::Leftovers => "R2",
            Self::Header => "R5",
            Self::Superseded => "R7",
            Self::Sealed => "R9",
            Self::Unsealed => "R10",
            Self::NoSlot => "R12",
            Self::Hole => "R13",
            Self::CleanEnd => "R14",
            Self::Copied => "R15",
            Self::TornTail => "R16",
            Self::Mending => "R24",
            Self::PowerLost => "R25",
            Self::Dropped => "R26",
            Self::Resetting => "R27",
            Self::Covered => "R28",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Where a torn write was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// Byte offset of the first bad record in it.
    pub offset: u64,
    /// The index that record would have had.
    pub index: Index,
    /// What is wrong with it.
    pub reason: String,
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The rows of the table that applied, each once, in their order.
    pub rules: Vec<Rule>,
    /// The torn write that was cut, if there was one.
    pub cut: Option<Cut>,
    /// Bytes of records that were copied to a new segment.
    pub copied_bytes: u64,
    /// Names of the files that were removed.
    pub removed: Vec<String>,
}

impl RecoveryReport {
    /// Notes that a row applied.
    pub(super) fn note(&mut self, rule: Rule) {
        if let Err(place) = self.rules.binary_search(&rule) {
            self.rules.insert(place, rule);
            if let Some(mark) = rule.mark() {
                reach(mark);
            }
        }
    }
}
