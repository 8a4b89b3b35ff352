//! Disks that lose what they held: bytes of records and of the blocks around them change, or cannot be read any more;
//! and the scrub that finds it. Writes that were lost or went elsewhere are in `misdirected`, in the same places.
//!
//! What is damaged stays within what is promised (docs/guarantees.md): each record keeps a good copy on most nodes, a
//! record is struck only once a slot that names it is durable, and of one node's blocks at most one is lost in a run.

use std::collections::BTreeMap;
use std::path::Path;

use dledger::Durability;
use dledger::commitlog::LogFault;
use dledger::env::OpenMode;
use dledger::types::{Index, Monotonic};

use super::{Event, World};
use crate::checkers::disk_keeps::Losses;
use crate::faults::Fault;
use crate::profile::Profile;
use crate::random::Random;

/// In how many microseconds the scrub of a run with this fault reads the whole log.
pub(super) const SCRUB_EVERY: u64 = 1_000_000;
/// The blocks before the first record: header, two slots, the footer's head. A block has 4 KiB.
pub(super) const BLOCK: u64 = 4096;
/// How many of a thousand records rot in their headers.
const HEADERS: u64 = 400;
/// What a disk cannot read, it cannot read at least this much of.
const SECTOR: u64 = 512;

/// Where the disks of a run show other bytes than were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// In records of one node.
    RecordsOfOne,
    /// In records of all nodes, each on a minority of them.
    RecordsOfAll,
    /// In one block of one node that is not a record.
    Block,
    /// In both progress slots of one node's last segment.
    Slots,
    /// In snapshots of one node.
    Snapshots,
}

/// What a disk does to bytes that were synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// They change, or cannot be read.
    Rot,
    /// They are those of another write.
    Misdirected,
}

/// What is damaged in a run.
#[derive(Clone, Debug)]
pub(super) struct Rotting {
    pub(super) places: Places,
    /// The node, where it is one; under asynchronous durability the one whose power fails.
    pub(super) node: usize,
    /// Something is damaged already.
    pub(super) done: bool,
    /// Records that were cut, by node and index: the last one of each.
    pub(super) replaced: BTreeMap<(usize, Index), Vec<u8>>,
}

impl Rotting {
    pub(super) fn new(seed: u64, profile: &Profile) -> Self {
        let mut random = Random::new(seed, "rot");
        let places = [Places::RecordsOfOne, Places::RecordsOfOne, Places::RecordsOfAll, Places::Block, Places::Slots];
        let places = random.pick(&places).unwrap_or(Places::RecordsOfOne);
        let node = random.place(profile.nodes);
        let of_snapshots = profile.snapshots.is_some() && random.chance(400);
        Self {
            places: if of_snapshots { Places::Snapshots } else { places },
            node,
            done: false,
            replaced: BTreeMap::new(),
        }
    }
}

impl World {
    /// Something rots now, or turns out to have been written elsewhere.
    pub(super) fn damage(&mut self, node: usize, damage: Damage) {
        let nodes = self.nodes.len();
        match self.rotting.places {
            Places::RecordsOfOne => {
                self.rotting.done = true;
                for _record in 0..self.nemesis.random.within(1..4) {
                    let index = self.some_record(self.rotting.node);
                    self.damage_record(self.rotting.node, index, HEADERS, damage);
                }
            }
            Places::RecordsOfAll => {
                let index = self.some_record(node);
                let first = usize::try_from(index.get()).unwrap_or_default();
                let restart = self.nemesis.random.chance(300);
                for place in 0..nodes.div_ceil(2) - 1 {
                    self.damage_record((first + place) % nodes, index, HEADERS, damage);
                    if restart {
                        self.kill_for_a_while((first + place) % nodes);
                    }
                }
            }
            Places::Snapshots => self.rot_snapshot(self.rotting.node, true),
            Places::Block | Places::Slots if self.rotting.done => {}
            Places::Block => match damage {
                Damage::Misdirected => self.lose_block(self.rotting.node),
                Damage::Rot => self.rot_block(self.rotting.node),
            },
            Places::Slots => match damage {
                Damage::Misdirected => self.lose_slots(self.rotting.node),
                Damage::Rot => self.rot_slots(self.rotting.node),
            },
        }
    }

    /// What a leader took that is cut off is damaged, and its process has to start from that: the entries may be its
    /// alone.
    pub(super) fn damage_tail(&mut self, node: usize) {
        let damage = match (self.profile.has(Fault::Rot), self.profile.has(Fault::Misdirected)) {
            (false, false) => return,
            (true, false) => Damage::Rot,
            (false, true) => Damage::Misdirected,
            (true, true) if self.nemesis.random.chance(500) => Damage::Rot,
            (true, true) => Damage::Misdirected,
        };
        // A leader may be cut off at the last moment of the faults, and this be due when they are over.
        if self.rotting.places != Places::RecordsOfOne || self.now >= self.profile.faults_end() {
            return;
        }
        if !std::mem::replace(&mut self.rotting.done, true) {
            self.rotting.node = node;
        }
        if self.rotting.node != node {
            return;
        }
        let last = self.nodes.get(node).map_or(0, |it| it.named_durable.get());
        if self.nemesis.random.chance(500) {
            // Where terms change a lost header leaves nothing to tell the term by.
            self.damage_record(node, self.first_of_term(node, Index(last)), 900, damage);
        } else {
            for _record in 0..self.nemesis.random.within(1..4) {
                let index = Index(last.saturating_sub(self.nemesis.random.within(0..5)));
                self.damage_record(node, index, HEADERS, damage);
            }
        }
        self.kill_for_a_while(node);
    }

    /// The first entry of the term of `last`.
    fn first_of_term(&self, node: usize, last: Index) -> Index {
        let Some(raft) = self.nodes.get(node).and_then(|it| it.raft()) else { return last };
        let mut index = last;
        while index > Index(1) && raft.term_at(index.prev()) == raft.term_at(last) {
            index = index.prev();
        }
        index
    }

    /// A record of a node, often one of its last: they may be others than the next leader's.
    fn some_record(&mut self, node: usize) -> Index {
        let last = self.nodes.get(node).map_or(0, |it| it.named_durable.get());
        let from = if self.nemesis.random.chance(500) { last.saturating_sub(8) } else { 0 };
        Index(self.nemesis.random.within(from..last.max(from + 1)) + 1)
    }

    /// A record that a durable slot names: what is above may be taken for a torn write (docs/guarantees.md).
    fn damage_record(&mut self, node: usize, index: Index, headers: u64, damage: Damage) {
        if self.nodes.get(node).is_none_or(|it| it.process.is_none() || index > it.named_durable) {
            return;
        }
        match damage {
            Damage::Misdirected => self.misdirect_record(node, index),
            Damage::Rot => self.rot_record(node, index, headers),
        }
    }

    fn rot_record(&mut self, node: usize, index: Index, headers: u64) {
        let Some(it) = self.nodes.get(node) else { return };
        let Some(process) = &it.process else { return };
        let Some((path, start, end)) = process.place_of(index) else { return };
        let at = match self.nemesis.random.chance(headers) {
            // The header of a record is small; its loss is worse.
            true => self.nemesis.random.within(start..(start + 48).min(end)),
            false => self.nemesis.random.within(start..end),
        };
        // A lost sector takes along what shares it, which must be named too.
        let named = process.place_of(it.named_durable).filter(|(last, _start, _end)| *last == path);
        let whole = named.is_none_or(|(_path, _start, end)| (at / SECTOR + 1) * SECTOR <= end);
        self.spoil(node, &path, at, whole);
        self.marks.met("fault: record rotted");
    }

    fn rot_block(&mut self, node: usize) {
        let Some(it) = self.nodes.get(node).filter(|it| it.process.is_some()) else { return };
        let (disk, files) = (it.disk.handle(), it.log_files());
        let Some(path) = files.get(self.nemesis.random.place(files.len())).cloned() else { return };
        let length = disk.open(&path, OpenMode::Read).and_then(|file| file.len()).unwrap_or_default();
        let blocks = if path.extension().is_some_and(|it| it == "seg") { 4 } else { length.div_ceil(BLOCK) };
        if blocks > 0 {
            // What counts stands at the beginning of a block.
            let head = self.nemesis.random.within(0..120);
            let at = self.nemesis.random.within(0..blocks) * BLOCK + head;
            self.spoil(node, &path, at, true);
            self.rotting.done = true;
            self.marks.met("fault: block rotted");
            self.restart_over_rot(node);
        }
    }

    /// Now and then a process has to start from what rotted before the scrub comes by.
    pub(super) fn restart_over_rot(&mut self, node: usize) {
        if self.nemesis.random.chance(500) {
            self.kill_for_a_while(node);
        }
    }

    fn rot_slots(&mut self, node: usize) {
        let Some(it) = self.nodes.get(node) else { return };
        let Some(process) = &it.process else { return };
        let Some((path, _start, _end)) = process.place_of(process.log().last()) else { return };
        for slot in 1..=2 {
            let at = slot * BLOCK + self.nemesis.random.within(0..40);
            self.spoil(node, &path, at, true);
        }
        self.rotting.done = true;
        self.marks.met("fault: both slots rotted");
        self.restart_over_rot(node);
    }

    /// One byte changes, or its whole sector cannot be read if it may be.
    pub(super) fn spoil(&mut self, node: usize, path: &Path, at: u64, may_be_unreadable: bool) {
        let unreadable = self.nemesis.random.chance(200) && may_be_unreadable;
        let Some(it) = self.nodes.get(node) else { return };
        let spoiled = if unreadable { it.disk.spoil_sector(path, at) } else { it.disk.flip_byte(path, at) };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.trace.event(self.now, node + 1, "rots", &[at], || format!("{name} at {at}: {unreadable}, {spoiled:?}"));
    }

    /// The scrub of a node takes a step, when the run has one.
    pub(super) fn scrub(&mut self, node: usize) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        let clock = it.clock(self.now);
        let Some(process) = &mut it.process else { return };
        let holes = process.holes().len();
        match process.scrub(clock) {
            Ok(blocks) => {
                if blocks > 0 {
                    self.marks.met("seen: block written again by the scrub");
                }
                if process.holes().len() > holes {
                    self.marks.met("seen: damage found by the scrub");
                }
            }
            Err(LogFault::Full { .. }) => {}
            Err(fault) => return self.stopped_by_disk(node, &fault.to_string()),
        }
        self.input(node, |_process, _now: Monotonic| {});
        self.next_scrub(node);
    }

    /// Schedules the scrub's next step.
    pub(super) fn next_scrub(&mut self, node: usize) {
        let now = self.now;
        let Some(it) = self.nodes.get(node) else { return };
        let Some(due) = it.process.as_ref().and_then(|process| process.next_scrub()) else { return };
        let (life, wait) = (it.life, it.pace.when(due).saturating_sub(now).max(1));
        self.schedule(wait, Event::Scrub { node, life });
    }

    /// What a node's disk may have lost.
    pub(super) fn losses(&self, node: usize) -> Losses {
        let one = self.rotting.places != Places::RecordsOfAll;
        match self.profile.durability {
            Durability::Async { .. } if self.rotting.node == node => Losses::Unsynced,
            Durability::Sync if self.profile.damages() && (!one || self.rotting.node == node) => Losses::Recognition,
            Durability::Async { .. } | Durability::Sync => Losses::None,
        }
    }
}
