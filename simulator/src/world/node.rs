//! One simulated machine: its disk, its clocks, and the process that runs on it, if one does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dledger::Config;
use dledger::commitlog::PrepareJob;
use dledger::commitlog::layout::{VOTE_FILE, group_dir, log_dir};
use dledger::config::Members;
use dledger::env::memory::MemoryDisk;
use dledger::node::Environment;
use dledger::raft::Raft;
use dledger::simulation::{Forming, Process, SnapshotWork, Write};
use dledger::transport::LocalIdentity;
use dledger::types::{EntryId, GroupId, Index, Monotonic, NodeId, Role, Term};

use super::rot::SCRUB_EVERY;
use crate::checkers::converges::Final;
use crate::checkers::leader_append_only::LeaderAppendOnly;
use crate::checkers::node_invariants::NodeInvariants;
use crate::clock::{Machine, Pace, RIGHT};
use crate::machine::{Watch, Watched};
use crate::profile::{Profile, Snapshots};
use crate::random::Random;

/// A machine.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) config: Config,
    pub(super) disk: MemoryDisk,
    /// The same as it was when the process started, when writes of its blocks may be lost.
    pub(super) disk_before: Option<MemoryDisk>,
    pub(super) machine: Arc<Machine>,
    pub(super) pace: Pace,
    /// What runs on it.
    pub(super) process: Option<Process<Watched>>,
    /// Or what runs on it when its directory belongs to no cluster.
    pub(super) forming: Option<Forming>,
    /// Its disk was lost: what it has now is not the life that was admitted.
    pub(super) wiped: bool,
    /// It came later, and nobody has heard of it yet.
    pub(super) waits_to_join: bool,
    /// Nobody starts it again.
    pub(super) retired: bool,
    pub(super) watch: Option<Watch>,
    /// Counts the starts of its process: events of an earlier one are void.
    pub(super) life: u64,
    /// When the next turn is due, if one is.
    pub(super) turn_at: Option<u64>,
    /// The process stands still until then: paused, or busy with a long computation.
    pub(super) still_until: u64,
    /// It is paused until then.
    pub(super) paused_until: u64,
    /// The disk write under way.
    pub(super) write: Option<Write>,
    pub(super) prepare: Option<PrepareJob>,
    /// The work on snapshots under way.
    pub(super) snapshot_work: Option<SnapshotWork<Watched>>,
    /// The state that was captured last: after which entry, and what it comes to.
    pub(super) captured: Option<(EntryId, u64)>,
    /// The disk answers nothing until then, and takes so many times its usual time.
    pub(super) disk_hung_until: u64,
    pub(super) disk_slow: u64,
    pub(super) disk_full: bool,
    /// A write or a sync is going to fail.
    pub(super) disk_fails: bool,
    pub(super) last_write: u64,
    /// When the write under way, which holds records, was begun.
    pub(super) writing_since: Option<u64>,
    /// Up, prompt and with right clocks.
    pub(super) healthy_but_for_disk: bool,
    pub(super) hint: Index,
    /// The last index that a progress slot names which is certainly durable itself.
    pub(super) named_durable: Index,
    /// Since when the machine has been up, prompt, with a healthy disk and right clocks.
    pub(super) healthy_since: Option<u64>,
    /// Since when, as a leader, it has been cut off from every quorum.
    pub(super) alone_since: Option<u64>,
    /// When it last took office.
    pub(super) office_since: u64,
    /// When it last told somebody to stand for election.
    pub(super) handed_over_at: Option<u64>,
    /// The last entry its machine took.
    pub(super) taken: Index,
    /// What it was when last looked at.
    pub(super) seen: (Role, Term, Index),
    pub(super) invariants: Option<NodeInvariants>,
    pub(super) append_only: LeaderAppendOnly,
    pub(super) random: Random,
}

impl Node {
    pub(super) fn new(seed: u64, id: usize, profile: &Profile) -> Self {
        let mut random = Random::new(seed, &format!("node {id}"));
        let members: Vec<String> = (1..=profile.nodes).map(|id| format!("{id}=n{id}:1")).collect();
        let number = id as u64;
        let alone = |_error| Config::single("/data");
        let mut config = Config::member(number, &members.join(","), "/data").unwrap_or_else(alone);
        config.segment_bytes = profile.segment_bytes;
        config.durability = profile.durability;
        config.read_lease = profile.read_lease;
        let scrub = if profile.damages() { SCRUB_EVERY } else { 0 };
        config.scrub_every = Duration::from_micros(scrub);
        let mut own = Random::new(seed, &format!("snapshots of {id}"));
        if let Some(shared) = profile.snapshots {
            let differs = own.chance(profile.differing_per_mille);
            let drawn = Snapshots::drawn(&mut own, profile.huge_ranges);
            let it = if differs { drawn } else { shared };
            (config.snapshot_entries, config.snapshot_bytes) = (it.entries, it.bytes);
            (config.snapshots_kept, config.log_tail_bytes) = (it.kept, it.tail_bytes);
            config.snapshot_send_rate = shared.send_rate();
        }
        let machine = Arc::new(Machine::new(random.number()));
        let mut pace = Pace::starting_at(random.within(1..1 << 40));
        if profile.starts_with_wrong_clocks() {
            pace.go_at(0, own.pick(profile.clock_rates()).unwrap_or(RIGHT));
        }
        Self {
            id: NodeId(number),
            config,
            disk: MemoryDisk::new(),
            disk_before: None,
            machine,
            pace,
            process: None,
            forming: None,
            wiped: false,
            waits_to_join: false,
            retired: false,
            watch: None,
            life: 0,
            turn_at: None,
            still_until: 0,
            paused_until: 0,
            write: None,
            prepare: None,
            snapshot_work: None,
            captured: None,
            disk_hung_until: 0,
            disk_slow: 1,
            disk_full: false,
            disk_fails: false,
            last_write: 0,
            writing_since: None,
            healthy_but_for_disk: false,
            hint: Index::ZERO,
            named_durable: Index::ZERO,
            healthy_since: None,
            alone_since: None,
            office_since: 0,
            handed_over_at: None,
            taken: Index::ZERO,
            seen: (Role::Follower, Term::ZERO, Index::ZERO),
            invariants: None,
            append_only: LeaderAppendOnly::default(),
            random,
        }
    }

    /// The same as a machine that comes later.
    pub(super) fn joining(mut self, profile: &Profile) -> Self {
        let members: Vec<String> = (1..=profile.nodes).map(|id| format!("n{id}:1")).collect();
        self.config.id = self.id;
        self.config.cluster = Members::default();
        self.config.join = members.join(",").parse().unwrap_or_default();
        self.waits_to_join = true;
        self
    }

    /// The machine as the process sees it.
    pub(super) fn environment(&self) -> Environment {
        Environment { disk: self.disk.handle(), clock: self.machine.clone(), entropy: self.machine.clone() }
    }

    /// The files of its log, and that of its term and vote, the last one.
    pub(super) fn log_files(&self) -> Vec<PathBuf> {
        let group = group_dir(&self.config.data_dir, GroupId::FIRST);
        let log = log_dir(&group);
        let names = self.disk.handle().list(&log).unwrap_or_default();
        let mut files: Vec<PathBuf> = names.iter().map(|name| log.join(name)).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == "seg" || it == "idx"));
        files.push(group.join(VOTE_FILE));
        files
    }

    /// What its monotonic clock shows.
    pub(super) fn clock(&self, now: u64) -> Monotonic {
        self.pace.at(now)
    }

    /// The core of the process that runs.
    pub(super) fn raft(&self) -> Option<&Raft> {
        self.process.as_ref().map(Process::raft)
    }

    /// What its handshakes say; `None` when nothing runs on it.
    pub(super) fn identity(&self) -> Option<LocalIdentity> {
        let forming = self.forming.as_ref().map(Forming::identity);
        self.process.as_ref().and_then(|process| process.identity().cloned()).or(forming)
    }

    /// Whether something runs on it.
    pub(super) fn is_up(&self) -> bool {
        self.process.is_some() || self.forming.is_some()
    }

    /// Whether it leads.
    pub(super) fn leads(&self) -> bool {
        self.raft().is_some_and(|raft| raft.role() == Role::Leader)
    }

    /// What it is at the end.
    pub(super) fn last_words(&self) -> Option<Final> {
        let process = self.process.as_ref()?;
        Some(Final {
            node: self.id,
            applied: process.applied().index,
            state: super::state_of(self),
            failure: process.failure().map(str::to_owned),
            missing: process.missing_snapshot(),
        })
    }

    /// Forgets what belonged to the process that is gone.
    pub(super) fn forget(&mut self) {
        self.process = None;
        self.forming = None;
        self.watch = None;
        self.write = None;
        self.writing_since = None;
        self.prepare = None;
        self.snapshot_work = None;
        self.captured = None;
        self.turn_at = None;
        self.life += 1;
        self.still_until = 0;
        self.paused_until = 0;
        self.healthy_since = None;
        self.alone_since = None;
        self.handed_over_at = None;
        self.invariants = None;
        self.append_only = LeaderAppendOnly::default();
        self.taken = Index::ZERO;
        self.named_durable = Index::ZERO;
        self.seen = (Role::Follower, Term::ZERO, Index::ZERO);
    }
}
