//! Names of files and directories.
//!
//! ```text
//!   groups/<id>/  snapshot/<index, 20 digits>-<term>/  data          the chunks
//!                                                      manifest.tmp  a manifest that is being written
//!                                                      manifest      makes the snapshot whole
//! ```
//! A directory without `manifest` is unfinished, or half removed, and may be removed when no writer has it.

use std::path::{Path, PathBuf};

use crate::types::{EntryId, Index, Term};

/// Name of the directory that holds a directory for each snapshot.
const SNAPSHOT_DIR: &str = "snapshot";
/// Name of the file with the chunks.
pub(super) const DATA_FILE: &str = "data";
/// Name of the manifest.
pub(super) const MANIFEST_FILE: &str = "manifest";
/// Name of a manifest that is being written now.
pub(super) const NEW_MANIFEST_FILE: &str = "manifest.tmp";

const INDEX_DIGITS: usize = 20;

/// The directory of a group's snapshots.
#[must_use]
pub fn snapshot_dir(group_dir: &Path) -> PathBuf {
    group_dir.join(SNAPSHOT_DIR)
}

/// The name of a snapshot's directory.
pub(super) fn name(id: EntryId) -> String {
    format!("{:020}-{}", id.index.get(), id.term.get())
}

/// The snapshot that a directory of this name holds; `None` for a name that [`name`] does not give.
pub(super) fn parse(name: &str) -> Option<EntryId> {
    let (index, term) = name.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if index.len() != INDEX_DIGITS || !digits(index) || !digits(term) || (term.starts_with('0') && term != "0") {
        return None;
    }
    Some(EntryId::new(Index(index.parse().ok()?), Term(term.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_names_read_back_as_what_they_name() {
        for id in [EntryId::new(Index(42), Term(7)), EntryId::ZERO, EntryId::new(Index(u64::MAX), Term(u64::MAX))] {
            assert_eq!(parse(&name(id)), Some(id));
        }
        assert_eq!(name(EntryId::new(Index(42), Term(7))), "00000000000000000042-7");
    }

    #[test]
    fn layout_names_of_another_shape_are_nobodys() {
        for name in ["42-7", "00000000000000000042-07", "00000000000000000042", "+0000000000000000042-7", "lost+found"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
        assert_eq!((parse("00000000000000000042-+7"), parse("99999999999999999999-7")), (None, None));
        assert_eq!(parse("00000000000000000042-"), None);
    }
}
