//! Room on the disk, as the log sees it.
//!
//! ```text
//!              preparing failed for lack of room          a write found none
//!   Open ───────────────────────────────► Reserve ────────────────────► Exhausted
//!     ▲                                      ▲ │                             │
//!     └──── preparing worked again ──────────┘ └──────── and the reserve ────┘
//! ```
//! Only *preparing* space can find the disk full: records are written into space whose blocks exist. The reserve is
//! a blank segment made at opening; it is what no-ops, memberships and deletes live on until there is room again.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether there is room for more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Yes.
    Open,
    /// Only what was prepared before the disk became full: take no-ops, memberships and deletes, refuse the rest.
    Reserve,
    /// A write found no room at all. The next one may: room may have returned.
    Exhausted,
}

/// [`Space`] as the writer sets it and readers see it.
pub(super) struct SpaceCell(AtomicU8);

impl SpaceCell {
    pub(super) fn new(space: Space) -> Self {
        Self(AtomicU8::new(space as u8))
    }

    pub(super) fn get(&self) -> Space {
        match self.0.load(Ordering::Acquire) {
            0 => Space::Open,
            1 => Space::Reserve,
            _ => Space::Exhausted,
        }
    }

    pub(super) fn set(&self, space: Space) {
        self.0.store(space as u8, Ordering::Release);
    }
}
