//! When the nodes of a run take snapshots.

use super::{Profile, Theme};
use crate::faults::Fault;
use crate::random::Random;

/// What strikes snapshots, and those who fetch or give one.
pub(super) const FAULTS: &[Fault] = &[
    Fault::Kill,
    Fault::PowerCut,
    Fault::Blackout,
    Fault::RecoveryCut,
    Fault::Partition,
    Fault::Coup,
    Fault::Reset,
    Fault::SlowLink,
    Fault::Garbage,
    Fault::SlowDisk,
    Fault::Rot,
];

/// When the nodes of a run take snapshots, and what they keep; one of them may differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshots {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) kept: u32,
    pub(crate) tail_bytes: u64,
    /// Bytes of a full chunk, when it is not what production takes.
    pub(crate) chunk_bytes: Option<u32>,
    /// Microseconds from one chunk that is given to the next; 0: at once.
    pub(crate) chunk_pause: u64,
}

impl Snapshots {
    /// The choice of a seed or of a node.
    pub(crate) fn drawn(random: &mut Random, huge_ranges: bool) -> Self {
        let chunks = [None, Some(512), Some(2 << 10), Some(8 << 10), Some(32 << 10)];
        let chunk_bytes = random.pick(&chunks).unwrap_or(None);
        // The largest states have a few hundred kilobytes, and must arrive well before the run ends.
        let pauses: &[u64] =
            if chunk_bytes.is_some_and(|bytes| bytes < 4 << 10) { &[0, 500] } else { &[0, 1_000, 5_000] };
        Self {
            // Of a map of thousands of keys each takes its time.
            entries: if huge_ranges { 5_000 } else { random.pick(&[0, 5, 12, 30, 60, 200]).unwrap_or(30) },
            bytes: random.pick(&[0, 16 << 10, 128 << 10]).unwrap_or(0),
            kept: random.pick(&[1, 2, 2, 3]).unwrap_or(2),
            tail_bytes: random.pick(&[0, 0, 64 << 10, 256 << 10]).unwrap_or(0),
            chunk_bytes: chunk_bytes.filter(|_bytes| !huge_ranges),
            chunk_pause: random.pick(pauses).unwrap_or(0),
        }
    }

    /// The rate that has this pause between two chunks, in bytes a second.
    pub(crate) fn send_rate(self) -> u64 {
        let bytes = self.chunk_bytes.map_or(256 << 10, u64::from);
        (bytes * 1_000_000).checked_div(self.chunk_pause).unwrap_or(0)
    }
}

impl Profile {
    /// Half of the runs have snapshots, from choices of their own: the others are as they were before there were any.
    pub(super) fn draw_snapshots(&mut self, random: &mut Random, theme: Theme) {
        let share = match theme {
            Theme::Snapshots => 1000,
            Theme::Rot => 600,
            Theme::Swarm
            | Theme::Members
            | Theme::Calm
            | Theme::Crash
            | Theme::Network
            | Theme::Disk
            | Theme::Time
            | Theme::Lease
            | Theme::Skew => 500,
            Theme::Kv => 800,
            Theme::Work => 300,
        };
        if !random.chance(share) {
            return;
        }
        self.snapshots = Some(Snapshots::drawn(random, self.huge_ranges));
        self.differing_per_mille = random.pick(&[0, 0, 0, 400]).unwrap_or(0);
        // Only whole segments are purged, and of a log of small values there are none.
        if random.chance(800) || theme == Theme::Snapshots {
            self.segment_bytes = 64 << 10;
            self.large_per_mille = self.large_per_mille.max(random.pick(&[60, 60, 150]).unwrap_or(60));
        }
    }
}
