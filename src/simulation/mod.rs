//! What the deterministic simulator drives: a node's process without threads, coverage marks, and planted bugs, which
//! show whether the simulator is worth anything. Not for anybody else: no promise of stability.
//!
//! Without the feature `simulation` marks count nothing, no plant can be made, and there is no process to drive.

pub mod marks;
pub mod plants;

#[cfg(feature = "simulation")]
pub use crate::node::simulation::{
    Answer, Forming, Process, Seams, Sent, SnapshotOutcome, SnapshotTask, SnapshotWork, Turn, Write, admits, form,
    frame_bytes, incarnation, join, read_frame, still_admits,
};
pub use marks::Mark;
#[cfg(feature = "simulation")]
pub use marks::take as take_marks;
pub use plants::{Plant, Plants};
