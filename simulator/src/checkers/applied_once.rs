//! No write is committed twice: clients never repeat one, so neither may nodes that hand it on (kv.md, exactly once).

use std::collections::BTreeSet;

use super::{Property, Verdict, holds};
use crate::truth::Truth;

pub(crate) const PROPERTY: Property =
    Property { name: "applied_once", claim: "a write that was sent once is committed at most once (kv.md)" };

/// Checksums of all committed payloads of clients, `sent` being those that clients sent.
pub(crate) fn finish(truth: &Truth, sent: &BTreeSet<u64>) -> Result<BTreeSet<u64>, String> {
    let mut committed = BTreeSet::new();
    for id in &truth.committed {
        let Some(known) = truth.records.get(id).filter(|known| sent.contains(&known.payload)) else { continue };
        let first: Verdict =
            holds(committed.insert(known.payload), || format!("the write of entry {id} was committed before"));
        first?;
    }
    Ok(committed)
}
