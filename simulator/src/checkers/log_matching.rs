//! If two logs contain an entry with the same index and term, the logs are identical up to that entry (paper, figure
//! 3, "log matching"): every entry names one record, byte for byte, with one predecessor.

use super::Property;

/// Checked as records are noted in `truth`.
pub(crate) const PROPERTY: Property = Property {
    name: "log_matching",
    claim: "an index and a term name one record, and one log before it (paper, figure 3)",
};
