//! A reading of many keys is one view: what all of them were after one entry (kv.md, reads). Compared with the log, by the
//! plain reading of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use dledger::types::Index;

use super::{Property, Verdict, fencing, holds};
use crate::plain::Effect;

pub(crate) const PROPERTY: Property =
    Property { name: "one_view", claim: "a reading shows all keys as they were after one and the same entry (kv.md)" };

/// What a reading of all keys with a prefix showed, of the state after entry `at`.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) prefix: &'static [u8],
    pub(crate) at: Index,
    pub(crate) items: Vec<(Bytes, Bytes)>,
}

/// The lives of the keys that are looked at so.
#[derive(Debug, Default)]
pub(crate) struct KeysByLog {
    /// From each index on, the value.
    keys: BTreeMap<Bytes, Vec<(Index, Option<Bytes>)>>,
}

impl KeysByLog {
    /// An entry was applied for the first time.
    ///
    /// # Errors
    /// A lock passes from one holder to another with no moment in between: a sentence.
    pub(crate) fn applied(&mut self, index: Index, effect: &Effect) -> Verdict {
        for change in &effect.changes {
            let lock = change.key.starts_with(b"lock/");
            if !lock && !change.key.starts_with(b"set/") {
                continue;
            }
            let now = change.now.as_ref().map(|(value, _lease)| value.clone());
            if lock {
                fencing::passes(index, change.before.as_deref(), now.as_deref())?;
            }
            self.keys.entry(change.key.clone()).or_default().push((index, now));
        }
        Ok(())
    }

    fn at(life: &[(Index, Option<Bytes>)], index: Index) -> Option<&Bytes> {
        life.iter().rev().find(|(from, _value)| *from <= index).and_then(|(_from, value)| value.as_ref())
    }

    /// A reading.
    pub(crate) fn show(&self, shown: &Shown) -> Verdict {
        let of_prefix = self.keys.iter().filter(|(key, _life)| key.starts_with(shown.prefix));
        let there = of_prefix.filter_map(|(key, life)| Some((key, Self::at(life, shown.at)?)));
        let there: Vec<(Bytes, Bytes)> = there.map(|(key, value)| (key.clone(), value.clone())).collect();
        holds(there == shown.items, || {
            format!("a reading of the state after {} shows {:?}, and it is {there:?}", shown.at, shown.items)
        })
    }

    /// A holder of a lock shows its token.
    pub(crate) fn token(&self, lock: &Bytes, holder: &Bytes, token: Index) -> Verdict {
        let life = self.keys.get(lock).map_or(&[][..], Vec::as_slice);
        let since = life.iter().find(|(_index, value)| value.as_ref() == Some(holder)).map(|(index, _value)| *index);
        holds(since == Some(token), || {
            let holder = String::from_utf8_lossy(holder);
            format!("holder {holder} was shown the token {token}, and holds the lock since {since:?}")
        })
    }
}
