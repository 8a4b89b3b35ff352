//! What nodes with empty directories say to each other to form a cluster. The logic is the node's; here are only
//! the words.
//!
//! ```text
//!   each ──Hello──► each      all empty, all naming the same members
//!   lowest ──Form + genesis record──► each ──► its disk, then its log
//! ```

use serde::{Deserialize, Serialize};

use crate::types::Incarnation;

/// A message of formation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormationMessage {
    /// Who I am and what I was told.
    Hello {
        /// The sender's incarnation.
        incarnation: Incarnation,
        /// The sender's directory holds no log yet.
        empty: bool,
        /// The members that the sender was configured with, printed as `1=HOST:PORT,2=HOST:PORT`.
        members: String,
    },
    /// Take the attached genesis record (entry 1, the membership), sync it, and be of its cluster.
    Form,
}
