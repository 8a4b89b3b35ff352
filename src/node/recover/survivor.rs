//! How far a survivor's log reaches, as operators pass it on: `ID=TERM:INDEX`.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use crate::types::{EntryId, Index, NodeId, Term};

/// A survivor, for comparison with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The node.
    pub id: NodeId,
    /// Its last entry.
    pub last: EntryId,
}

impl Survivor {
    /// Ascending from the worst to the best, no two alike.
    pub(super) const fn rank(&self) -> (EntryId, Reverse<NodeId>) {
        (self.last, Reverse(self.id))
    }

    /// Whether it is to go on and not `other`: by the term of its last entry, then its index, as in an election (paper,
    /// 5.4.1); of equal ones the lower number.
    #[must_use]
    pub fn is_better_than(self, other: Self) -> bool {
        self.rank() > other.rank()
    }
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.id, self.last.term, self.last.index)
    }
}

impl FromStr for Survivor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (id, last) = text.split_once('=')?;
            let (term, index) = last.split_once(':')?;
            let last = EntryId::new(Index(index.parse().ok()?), Term(term.parse().ok()?));
            Some(Self { id: NodeId(id.parse().ok()?), last })
        };
        parse().ok_or_else(|| format!("`{text}` is not ID=TERM:INDEX, as `kvcli recover` prints it for each survivor"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivor(text: &str) -> Survivor {
        text.parse().unwrap()
    }

    #[test]
    fn survivor_reads_as_it_is_printed() {
        for text in ["1=1:1", "3=7:105"] {
            assert_eq!(survivor(text).to_string(), text);
        }
        for wrong in ["", "3", "3=7", "3=:105", "=7:105", "a=7:105", "3=7:-1", "3=7:105 "] {
            assert!(wrong.parse::<Survivor>().unwrap_err().contains("is not ID=TERM:INDEX"), "{wrong}");
        }
    }

    #[test]
    fn survivor_of_the_later_term_then_index_then_lower_number_is_the_best() {
        let ascending = ["1=2:90", "3=3:70", "2=3:70", "4=3:71", "5=4:10"].map(survivor);
        for (place, one) in ascending.iter().enumerate() {
            for (other_place, other) in ascending.iter().enumerate() {
                assert_eq!(one.is_better_than(*other), place > other_place, "{one} and {other}");
            }
        }
    }
}
