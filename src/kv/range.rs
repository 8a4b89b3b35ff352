//! A range of keys: from one on, below another.

use bytes::Bytes;

/// The keys from `from` on and below `to`; without `to`, up to the last.
///
/// ```
/// use dledger::kv::KeyRange;
///
/// let users = KeyRange::of_prefix("user/".into());
/// assert!(users.contains(b"user/1") && !users.contains(b"user"));
/// let some = users.and(&KeyRange { from: "user/5".into(), to: None });
/// assert_eq!(some.to.as_deref(), Some(b"user0".as_ref()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in it.
    pub from: Bytes,
    /// The first key that is not in it.
    pub to: Option<Bytes>,
}

impl KeyRange {
    /// The keys that start with `prefix`; all keys for the empty one.
    #[must_use]
    pub fn of_prefix(prefix: Bytes) -> Self {
        let to = after_prefix(&prefix).map(Bytes::from);
        Self { from: prefix, to }
    }

    /// True when no key can be in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// True when `key` is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_ref() <= key && self.to.as_ref().is_none_or(|to| key < to.as_ref())
    }

    /// The keys that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let from = self.from.clone().max(other.from.clone());
        let to = match (&self.to, &other.to) {
            (Some(one), Some(two)) => Some(one.min(two).clone()),
            (one, two) => one.clone().or_else(|| two.clone()),
        };
        Self { from, to }
    }

    /// The keys of this range below `hole` and those behind it; either may be empty.
    #[must_use]
    pub fn around(&self, hole: &Self) -> [Self; 2] {
        if hole.is_empty() {
            return [self.clone(), Self { from: Bytes::new(), to: Some(Bytes::new()) }];
        }
        let below = Self { from: Bytes::new(), to: Some(hole.from.clone()) };
        let behind = match &hole.to {
            Some(to) => Self { from: to.clone(), to: None },
            None => Self { from: Bytes::new(), to: Some(Bytes::new()) },
        };
        [self.and(&below), self.and(&behind)]
    }
}

/// The first key behind all that start with `prefix`; `None` when there can be none behind them.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn after_prefix_carries_over_full_bytes() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(prop_oneof![0u8..3, Just(255)], 0..3).prop_map(Bytes::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        (bytes(), proptest::option::of(bytes())).prop_map(|(from, to)| KeyRange { from, to })
    }

    proptest! {
        #[test]
        fn range_of_a_prefix_holds_what_starts_with_it(prefix in bytes(), key in bytes()) {
            prop_assert_eq!(KeyRange::of_prefix(prefix.clone()).contains(&key), key.starts_with(&prefix));
        }

        #[test]
        fn range_arithmetic_agrees_with_membership(one in range(), two in range(), key in bytes()) {
            let (in_one, in_two) = (one.contains(&key), two.contains(&key));
            prop_assert_eq!(one.and(&two).contains(&key), in_one && in_two);
            let [below, behind] = one.around(&two);
            prop_assert_eq!(below.contains(&key) || behind.contains(&key), in_one && !in_two);
            prop_assert!(!(below.contains(&key) && behind.contains(&key)));
            prop_assert!(!(one.is_empty() && in_one));
        }
    }
}
