//! The faults that a run can meet, by name. What each does is in `world/nemesis.rs` and `world/network.rs`.

use std::fmt;
use std::str::FromStr;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// A process is killed; its disk keeps everything written.
    Kill,
    /// One machine loses its power: what was not synced meets any fate.
    PowerCut,
    /// All machines lose their power at once.
    Blackout,
    /// The power fails again while a node recovers.
    RecoveryCut,
    /// A process stands still for a while, then goes on as if nothing had been.
    Pause,
    /// Nodes are cut off from the others, both ways.
    Partition,
    /// One direction of one link is cut.
    OneWay,
    /// A leader is cut off right after it took office, and so are those that follow it.
    Coup,
    /// Connections break.
    Reset,
    /// Single frames are lost.
    Loss,
    /// Frames come twice.
    Duplicate,
    /// Frames overtake each other.
    Reorder,
    /// One link is slow.
    SlowLink,
    /// Bytes of a frame are changed on the way.
    Garbage,
    /// One disk is slow.
    SlowDisk,
    /// One disk answers nothing for a while.
    HungDisk,
    /// A write or a sync fails.
    DiskError,
    /// A disk has no room for a while.
    DiskFull,
    /// Bytes on a disk change, or cannot be read any more.
    Rot,
    /// A write that was synced is not there, or stands in the place of another.
    Misdirected,
    /// A monotonic clock runs faster or slower than the others.
    ClockRate,
    /// A wall clock jumps.
    WallJump,
    /// Members are added, promoted, replaced, preferred and removed.
    Churn,
    /// Leadership is handed over on request.
    Transfer,
    /// A voter loses its disk, and starts over with an empty one under its old number.
    Wipe,
}

impl Fault {
    /// Every kind.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Kill,
        Self::PowerCut,
        Self::Blackout,
        Self::RecoveryCut,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Coup,
        Self::Reset,
        Self::Loss,
        Self::Duplicate,
        Self::Reorder,
        Self::SlowLink,
        Self::Garbage,
        Self::SlowDisk,
        Self::HungDisk,
        Self::DiskError,
        Self::DiskFull,
        Self::Rot,
        Self::Misdirected,
        Self::ClockRate,
        Self::WallJump,
        Self::Churn,
        Self::Transfer,
        Self::Wipe,
    ];

    /// Those that an operator brings about, who asks the cluster for something (`world/operator.rs`).
    pub(crate) const OF_MEMBERS: &'static [Self] = &[Self::Churn, Self::Transfer, Self::Wipe];

    /// Whether it is one of those.
    pub(crate) fn is_of_members(self) -> bool {
        Self::OF_MEMBERS.contains(&self)
    }

    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
            Self::Blackout => "blackout",
            Self::RecoveryCut => "recovery-cut",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Coup => "coup",
            Self::Reset => "reset",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::SlowLink => "slow-link",
            Self::Garbage => "garbage",
            Self::SlowDisk => "slow-disk",
            Self::HungDisk => "hung-disk",
            Self::DiskError => "disk-error",
            Self::DiskFull => "disk-full",
            Self::Rot => "rot",
            Self::Misdirected => "misdirected",
            Self::ClockRate => "clock-rate",
            Self::WallJump => "wall-jump",
            Self::Churn => "churn",
            Self::Transfer => "transfer",
            Self::Wipe => "wipe",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!("there is no fault `{name}`; there are {}", names.join(", "))
        })
    }
}
