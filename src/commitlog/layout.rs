//! Names of files and directories.
//!
//! ```text
//!   <data-dir>/  LOCK  identity
//!                groups/<id>/  vote  genesis  base  doubt  unsynced
//!                              restore                                         a backup that the node begins with
//!                              log/<first index, 20 digits>-<generation>.seg   a segment
//!                                  <first index, 20 digits>-<generation>.idx   its index, once sealed
//!                                  reserve.tmp  spare.tmp  …                   blank or unfinished: no data of its own
//!                              state/                                          a machine's own, when it keeps one here
//! ```
//! Invariant: a file takes its final name only when it is whole and synced; what is unfinished ends in `.tmp` and
//! may be removed at any time that no writer is open. Deliberately absent: what stands in the files.

use std::path::{Path, PathBuf};

use crate::types::{GroupId, Index};

/// Name of the lock file of a data directory.
pub const LOCK_FILE: &str = "LOCK";
/// Name of the identity file of a data directory.
pub const IDENTITY_FILE: &str = "identity";
/// Name of the directory that holds a directory for each group.
pub const GROUPS_DIR: &str = "groups";
/// Name of the vote file of a group.
pub const VOTE_FILE: &str = "vote";
/// Name of the file that holds the record that formed a group, for members that have not heard of it.
pub const GENESIS_FILE: &str = "genesis";
/// A genesis file that is being made now.
pub const NEW_GENESIS_FILE: &str = "genesis.tmp";
/// Name of the file that says where a group's log begins; absent while that is index 1.
pub(super) const BASE_FILE: &str = "base";
/// Name of the file that says why a group's last entry is not known; absent while it is.
pub(super) const DOUBT_FILE: &str = "doubt";
/// Name of the file that stands while an asynchronous log is open.
pub(super) const UNSYNCED_FILE: &str = "unsynced";
/// Name of the backup that a node begins with, in a group's directory; gone once the node belongs to a cluster.
pub const RESTORE_FILE: &str = "restore";
/// Name of that file while it is being copied.
pub const NEW_RESTORE_FILE: &str = "restore.tmp";
/// Name of the log directory of a group.
pub const LOG_DIR: &str = "log";
/// Name of the directory of a group that its state machine may use alone.
pub const STATE_DIR: &str = "state";

/// Blank space kept for when the disk is full.
pub(super) const RESERVE_FILE: &str = "reserve.tmp";
/// The next segment, made ahead.
pub(super) const SPARE_FILE: &str = "spare.tmp";
/// A segment that is being made now.
pub(super) const NEW_SEGMENT_FILE: &str = "segment.tmp";
/// A vote file that is being made now.
pub(super) const NEW_VOTE_FILE: &str = "vote.tmp";
/// A base file that is being made now.
pub(super) const NEW_BASE_FILE: &str = "base.tmp";
/// A note of doubt that is being made now.
pub(super) const NEW_DOUBT_FILE: &str = "doubt.tmp";
/// A note of the machine's run that is being made now.
pub(super) const NEW_UNSYNCED_FILE: &str = "unsynced.tmp";
/// Which bytes are being mended: read at opening, then removed.
pub(super) const MENDING_FILE: &str = "mending.tmp";
/// An identity file that is being made now.
pub(super) const NEW_IDENTITY_FILE: &str = "identity.tmp";

const UNFINISHED: &str = ".tmp";
const INDEX_DIGITS: usize = 20;

/// The directory of a group.
#[must_use]
pub fn group_dir(data_dir: &Path, group: GroupId) -> PathBuf {
    data_dir.join(GROUPS_DIR).join(group.to_string())
}

/// The log directory of a group.
#[must_use]
pub fn log_dir(group_dir: &Path) -> PathBuf {
    group_dir.join(LOG_DIR)
}

/// True for a file that this release makes in a group's directory or in its log directory.
#[must_use]
pub fn is_own_file(name: &str) -> bool {
    [VOTE_FILE, GENESIS_FILE, BASE_FILE, DOUBT_FILE, UNSYNCED_FILE].contains(&name)
        || LogFile::of(name) != LogFile::Foreign
}

/// What names a segment: its first index and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SegmentName {
    pub(super) first: Index,
    pub(super) generation: u64,
}

impl SegmentName {
    /// The segment's file.
    pub(super) fn segment_file(self) -> String {
        format!("{:020}-{}.seg", self.first.get(), self.generation)
    }

    /// The file of its index.
    pub(super) fn index_file(self) -> String {
        format!("{:020}-{}.idx", self.first.get(), self.generation)
    }

    fn parse(stem: &str) -> Option<Self> {
        let (first, generation) = stem.split_once('-')?;
        let canonical = first.len() == INDEX_DIGITS && !generation.starts_with(['0', '+']) && !first.starts_with('+');
        let name = Self { first: Index(first.parse().ok()?), generation: generation.parse().ok()? };
        canonical.then_some(name)
    }
}

/// What a name in a log directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFile {
    Segment(SegmentName),
    Index(SegmentName),
    /// Blank or unfinished.
    Unfinished,
    /// Not a name that this release gives.
    Foreign,
}

impl LogFile {
    /// Reads a name.
    pub(super) fn of(name: &str) -> Self {
        if name.ends_with(UNFINISHED) {
            return Self::Unfinished;
        }
        let segment = name.strip_suffix(".seg").and_then(SegmentName::parse).map(Self::Segment);
        let index = || name.strip_suffix(".idx").and_then(SegmentName::parse).map(Self::Index);
        segment.or_else(index).unwrap_or(Self::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_names_read_back_as_what_they_name() {
        let name = SegmentName { first: Index(42), generation: 7 };
        assert_eq!(name.segment_file(), "00000000000000000042-7.seg");
        assert_eq!(LogFile::of(&name.segment_file()), LogFile::Segment(name));
        assert_eq!(LogFile::of(&name.index_file()), LogFile::Index(name));
        assert_eq!(LogFile::of(RESERVE_FILE), LogFile::Unfinished);
    }

    #[test]
    fn layout_names_of_another_shape_are_foreign() {
        for name in [
            "42-7.seg",
            "00000000000000000042-07.seg",
            "00000000000000000042.seg",
            "notes.txt",
            "-.seg",
            ".seg",
            "+0000000000000000042-7.seg",
            "00000000000000000042-+7.seg",
            "99999999999999999999-7.seg",
        ] {
            assert_eq!(LogFile::of(name), LogFile::Foreign, "{name}");
        }
    }
}
