//! A lock has one holder by the log, and each holder a token of its own, higher than those before it: so what lies outside
//! of the cluster can tell a former holder (faults.md, row 23).

use dledger::types::Index;

use super::{Property, Verdict, holds};

pub(crate) const PROPERTY: Property = Property {
    name: "fencing",
    claim: "one holder of a lock at a time, by the log; tokens rise from each to the next (faults.md, row 23)",
};

/// The key of a lock changes at an entry.
pub(crate) fn passes(index: Index, before: Option<&[u8]>, now: Option<&[u8]>) -> Verdict {
    holds(before.is_none() || now.is_none() || before == now, || {
        format!("entry {index} gives a lock away that another still holds")
    })
}

/// A holder shows a token to what lies outside, which was last shown another.
pub(crate) fn shown(last: Option<(Index, &[u8])>, token: Index, holder: &[u8]) -> Verdict {
    holds(last.is_none_or(|(highest, of)| highest != token || of == holder), || {
        format!("two holders have the token {token}")
    })
}

/// A holder is told a token; the highest that anybody was told before it asked is `before`.
pub(crate) fn rises(before: Index, token: Index) -> Verdict {
    holds(before < token, || format!("the token {token} comes after {before}"))
}
