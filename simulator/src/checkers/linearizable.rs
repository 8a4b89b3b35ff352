//! Reads and writes of each key take effect in one order, each between its call and its answer (Herlihy and Wing,
//! 1990); checked by the algorithm of Wing and Gong with Lowe's memory (2017), a write of unknown outcome being free to
//! take effect at any later time or never.

use histories::Operation;

use super::{Property, Verdict};

pub(crate) const PROPERTY: Property =
    Property { name: "linearizable", claim: "the operations of each key are linearizable (Herlihy and Wing, 1990)" };

/// The whole history of a run.
pub(crate) fn finish(history: &[Operation]) -> Verdict {
    histories::check(history).map(|_checked| ()).map_err(|wrong| wrong.to_string())
}
