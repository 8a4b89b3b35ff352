//! What the disk thread does, without the thread: one write at a time, space prepared ahead, a slot when idle.

use dledger::commitlog::{LogFault, Space};
use dledger::config::Durability;
use dledger::types::Index;

use super::{Event, World};
use crate::checkers::log_matching;

/// How long a write and its sync take: at least, and the mean of what comes on top, in microseconds.
const SYNC: (u64, u64) = (80, 250);
/// How long preparing space takes.
const PREPARE: u64 = 1_500;
/// How long a full disk is left alone (src/node/disk_thread.rs).
const FULL_RETRY: u64 = 50_000;
/// How long a disk must be idle before its progress slot is written (the same).
const IDLE_AFTER: u64 = 20_000;
/// How often a disk that is idle and lacks room is asked for room (the same).
const ROOM_AGAIN: u64 = 250_000;

impl World {
    /// Begins a write, when the disk is free and something waits for it.
    pub(super) fn start_write(&mut self, node: usize) {
        let now = self.now;
        let Some(it) = self.nodes.get(node) else { return };
        if it.process.is_none() || it.write.is_some() {
            return;
        }
        if self.profile.snapshots.is_some() && !self.purge(node) {
            return;
        }
        let Some(it) = self.nodes.get_mut(node) else { return };
        let Some(process) = &mut it.process else { return };
        let Some(write) = process.take_write() else { return };
        let begins = write.batch().reset.as_ref().map(|base| base.entry);
        self.check_begins(node, begins);
        self.note_replaced(node, write.batch());
        let Some(it) = self.nodes.get_mut(node) else { return };
        let noted = self.truth.writing(node, write.batch());
        let took = (SYNC.0 + it.random.around(SYNC.1)) * it.disk_slow;
        let wait = took.max(it.disk_hung_until.saturating_sub(now));
        it.hint = it.hint.max(write.batch().committed);
        it.writing_since = (!write.batch().records.is_empty()).then_some(now);
        it.write = Some(write);
        let life = it.life;
        self.judge(log_matching::PROPERTY, noted);
        self.schedule(wait, Event::Disk { node, life });
    }

    /// The write returns.
    pub(super) fn disk_done(&mut self, node: usize) {
        let now = self.now;
        let Some(it) = self.nodes.get_mut(node) else { return };
        let (Some(process), Some(write)) = (&mut it.process, it.write.take()) else { return };
        match process.perform(&write) {
            Ok(()) => {
                self.truth.written(node, write.batch());
                it.last_write = now;
                if it.config.durability == Durability::Sync {
                    it.named_durable = process.named_durable();
                }
                it.writing_since = None;
                let (life, quiet_since) = (it.life, now);
                let wait = self.rest(node);
                self.trace.event(now, node + 1, "synced", &[write.batch().committed.get()], || {
                    let bytes: usize = write.batch().records.iter().map(bytes::Bytes::len).sum();
                    format!("{bytes} bytes, vote {:?}, cut {:?}", write.batch().vote, write.batch().truncate_after)
                });
                self.input(node, |process, now| process.written(now, &write));
                self.prepare_ahead(node);
                self.schedule(wait, Event::Idle { node, life, quiet_since });
                self.start_write(node);
            }
            Err(LogFault::Full { .. }) => {
                self.marks.met("fault: disk full");
                it.write = Some(write);
                let life = it.life;
                self.schedule(FULL_RETRY, Event::Disk { node, life });
            }
            Err(fault) => self.stopped_by_disk(node, &fault.to_string()),
        }
    }

    fn rest(&self, node: usize) -> u64 {
        match self.nodes.get(node).map(|it| it.config.durability) {
            Some(Durability::Async { flush_every }) => u64::try_from(flush_every.as_micros()).unwrap_or(IDLE_AFTER),
            Some(Durability::Sync) | None => IDLE_AFTER,
        }
    }

    /// The disk has been idle since its last write: the progress slot is written.
    pub(super) fn idle(&mut self, node: usize, quiet_since: u64) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        if it.last_write != quiet_since || it.write.is_some() {
            return;
        }
        let Some(process) = &mut it.process else { return };
        match process.settle(it.hint) {
            Ok(()) | Err(LogFault::Full { .. }) => {
                if process.log().space() != Space::Open {
                    let life = it.life;
                    self.schedule(ROOM_AGAIN, Event::Idle { node, life, quiet_since });
                }
                self.prepare_ahead(node);
            }
            Err(fault) => self.stopped_by_disk(node, &fault.to_string()),
        }
    }

    /// Orders space ahead of the log's head.
    pub(super) fn prepare_ahead(&mut self, node: usize) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        let Some(process) = &mut it.process else { return };
        if it.prepare.is_some() {
            return;
        }
        it.prepare = process.prepare_job();
        if it.prepare.is_some() {
            let (life, wait) = (it.life, it.random.around(PREPARE * it.disk_slow));
            self.schedule(wait, Event::Prepared { node, life });
        }
    }

    pub(super) fn prepared(&mut self, node: usize) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        let (Some(process), Some(job)) = (&mut it.process, it.prepare.take()) else { return };
        match process.prepared(job.run()) {
            Ok(()) | Err(LogFault::Full { .. }) => self.prepare_ahead(node),
            Err(fault) => self.stopped_by_disk(node, &fault.to_string()),
        }
    }

    /// The log is poisoned: the node tells its callers and stops.
    pub(super) fn stopped_by_disk(&mut self, node: usize, reason: &str) {
        self.marks.met("seen: node stopped by its disk");
        self.trace.event(self.now, node + 1, "poisoned", &[], || reason.to_owned());
        let Some(process) = self.nodes.get_mut(node).and_then(|it| it.process.as_mut()) else { return };
        let turn = process.abandon(reason);
        for (ticket, answer) in turn.answers {
            self.answer(node, ticket, answer);
        }
        self.gone(node, true);
        if let Some(it) = self.nodes.get(node) {
            it.disk.kill_process();
            // Whoever starts it again has seen to the disk.
            it.disk.fail_sync(0);
            it.disk.fail_write(0);
        }
        let wait = self.nemesis.random.within(50_000..600_000);
        self.schedule(wait, Event::Start { node });
    }

    /// The log's hint of what is committed, for a process that starts.
    pub(super) fn forget_hint(&mut self, node: usize) {
        if let Some(it) = self.nodes.get_mut(node) {
            it.hint = Index::ZERO;
        }
    }
}
