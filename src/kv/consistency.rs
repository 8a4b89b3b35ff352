//! How fresh a read must be, and how that is written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How fresh a read must be. Printed and parsed as `linearizable`, `lease`, `stale` or `stale:500ms`.
///
/// ```
/// use std::time::Duration;
/// use dledger::Consistency;
///
/// let bounded: Consistency = "stale:500ms".parse()?;
/// assert_eq!(bounded, Consistency::StaleWithin(Duration::from_millis(500)));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// It sees every write that was acknowledged anywhere before the read began. Costs a round trip to a quorum,
    /// shared by all reads that wait.
    #[default]
    Linearizable,
    /// The same without that round trip, as long as the leader has a lease and no member's clock runs more than a quarter
    /// faster than the leader's. In a cluster that was formed without leases, and while the leader has none, it is
    /// [`Consistency::Linearizable`]. See [`Config::read_lease`](crate::Config::read_lease).
    Lease,
    /// It sees every write that was acknowledged up to so long before the read began, by the clock of the node that is
    /// asked, and perhaps later ones. Costs nothing while that node has learnt within this time how far it must be, and
    /// else what a linearizable read costs. Any node serves it, as long as it can ask the leader now and then.
    StaleWithin(Duration),
    /// Whatever the node has applied: never wrong, perhaps old.
    Stale,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => f.write_str("linearizable"),
            Self::Lease => f.write_str("lease"),
            Self::StaleWithin(bound) => write!(f, "stale:{}", humantime::format_duration(*bound)),
            Self::Stale => f.write_str("stale"),
        }
    }
}

impl FromStr for Consistency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "linearizable" => Ok(Self::Linearizable),
            None if text == "lease" => Ok(Self::Lease),
            None if text == "stale" => Ok(Self::Stale),
            Some(("stale", bound)) => humantime::parse_duration(bound)
                .map(Self::StaleWithin)
                .map_err(|error| format!("`{bound}` is not a duration with a unit ({error}); write stale:500ms")),
            _ => Err(format!("`{text}` says nothing of reads; use `linearizable`, `lease`, `stale` or `stale:500ms`")),
        }
    }
}

impl Serialize for Consistency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Consistency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consistency_parses_and_prints_the_same_text() {
        for text in ["linearizable", "lease", "stale", "stale:1s 500ms"] {
            assert_eq!(text.parse::<Consistency>().unwrap().to_string(), text);
        }
        for wrong in ["", "fresh", "lease:1s", "stale:", "stale:5", "stale:-1s", "Stale"] {
            assert!(wrong.parse::<Consistency>().unwrap_err().contains("stale:500ms"), "{wrong}");
        }
    }
}
