//! What services do with the store: registers, lists, sets, counters, leases, locks, watches. Workers, each with a task of
//! its own, numbering their writes in sessions that some of them share.
//!
//! ```text
//!   task ─► Step::Write(command) ─► job: session, number ─► some node ─┬─► answer ─────────► task is told
//!              ▲                     └◄── retried at any other, ◄──────┘ lost, refused
//!              └── think               with the same number
//! ```
//! A write with a number is asked for until it is answered, however often that fails: its outcome is unknown only when the
//! session has died meanwhile. A write without one is asked for once, and lost answers stay unknown.
//! Time is counted from the first time that a write was asked for.

mod counters;
mod desk;
mod jobs;
mod leases;
mod lists;
mod locks;
mod registers;
mod sets;
mod watchers;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use dledger::kv::answer::Answer;
use dledger::kv::view::KvView;
use dledger::types::Index;

use super::{Event, World};
use crate::checkers::{lists_and_counters, one_view};
use crate::profile::{Profile, Workload};
use crate::random::Random;

pub(super) use desk::Desk;
use jobs::{Group, Job, Sent};
use watchers::Watcher;

/// Nobody begins anything in the last part of a run, in microseconds: time to answer what is under way.
const LAST_BEGIN: u64 = 1_000_000;

/// What a task wants next.
#[derive(Debug)]
pub(super) enum Step {
    /// To read at the present: it is told a view.
    Read,
    /// A command.
    Write(Bytes),
    /// To be asked again in so many microseconds.
    Wait(u64),
}

/// What a task is told.
#[derive(Debug)]
pub(super) enum Told {
    /// What a read shows.
    View(Arc<KvView>),
    /// A write is done, by this entry.
    Done(Index, Answer),
    /// A write may have been done, or may be yet.
    Unknown,
    /// A write certainly was not done, or a read not answered.
    Never,
}

/// What a worker does.
pub(super) trait Task: Debug {
    /// The next step.
    fn next(&mut self, desk: &mut Desk<'_>) -> Step;
    /// What became of the last one.
    fn told(&mut self, told: Told, desk: &mut Desk<'_>);
    /// Whether it is between two of its operations.
    fn is_idle(&self) -> bool;
    /// Whether it goes on at once.
    fn hurries(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Worker {
    task: Box<dyn Task>,
    /// Whose numbers its writes have.
    group: Option<usize>,
    /// The write that it waits for.
    job: Option<Job>,
}

/// All workers.
#[derive(Debug)]
pub(super) struct Workers {
    random: Random,
    think: u64,
    workers: Vec<Worker>,
    groups: Vec<Group>,
    watchers: Vec<Watcher>,
    waiting: BTreeMap<u64, Sent>,
    next_ticket: u64,
    records: desk::Records,
}

impl Workers {
    pub(super) fn new(seed: u64, profile: &Profile) -> Self {
        let mut random = Random::new(seed, "workers");
        let mut workers = Self {
            think: random.within(5_000..40_000),
            random,
            workers: Vec::new(),
            groups: Vec::new(),
            watchers: Vec::new(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            records: desk::Records::default(),
        };
        let Some(workloads) = &profile.workloads else { return workers };
        workers.watchers = Watcher::some(&mut workers.random);
        workers.groups = (0..workloads.sessions).map(|_number| Group::new(workloads.session_ttl_ms)).collect();
        for (place, workload) in workloads.workers.iter().enumerate() {
            let group = place.checked_rem(workers.groups.len());
            let task = task(*workload, place as u64);
            workers.workers.push(Worker { task, group, job: None });
        }
        workers
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.workers.len()
    }

    /// How many watchers there are.
    pub(super) fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// What they were told of registers, outcomes that are still open among them.
    pub(super) fn registers(&self) -> &[histories::Operation] {
        &self.records.registers
    }
}

fn task(workload: Workload, number: u64) -> Box<dyn Task> {
    match workload {
        Workload::Registers => Box::new(registers::Registers::new(number)),
        Workload::Lists => Box::new(lists::Lists::new(number)),
        Workload::Sets => Box::new(sets::Sets::new(number)),
        Workload::Counters => Box::new(counters::Counters::new(number)),
        Workload::Leases => Box::new(leases::Holder::new(number)),
        Workload::Locks => Box::new(locks::Locker::new(number)),
    }
}

impl World {
    /// A worker goes on.
    pub(super) fn work(&mut self, worker: usize) {
        if self.workers.workers.get(worker).is_some_and(|it| it.job.is_some()) {
            return self.send_job(worker);
        }
        let over = self.now + LAST_BEGIN > self.profile.end();
        let Some(it) = self.workers.workers.get_mut(worker).filter(|it| !over || !it.task.is_idle()) else { return };
        let mut desk = Desk::new(self.now, &mut self.workers.random, &mut self.workers.records);
        match it.task.next(&mut desk) {
            Step::Read => self.send_read(worker),
            Step::Write(command) => {
                self.begin_job(worker, command);
                self.send_job(worker);
            }
            Step::Wait(wait) => self.schedule(wait.max(1), Event::Work { worker }),
        }
        self.look_at_desk();
    }

    /// A task is told, and goes on after a while.
    fn tell(&mut self, worker: usize, told: Told) {
        let refused = matches!(told, Told::Never);
        let Some(it) = self.workers.workers.get_mut(worker) else { return };
        let mut desk = Desk::new(self.now, &mut self.workers.random, &mut self.workers.records);
        it.task.told(told, &mut desk);
        let mean = match (refused, it.task.hurries()) {
            (true, _) => 40_000,
            (false, true) => 500,
            (false, false) => self.workers.think,
        };
        let wait = self.workers.random.around(mean).max(100);
        self.schedule(wait, Event::Work { worker });
        self.look_at_desk();
    }

    /// What tasks noticed becomes known.
    fn look_at_desk(&mut self) {
        for mark in self.workers.records.marks.drain(..) {
            self.marks.met(mark);
        }
        for (property, what) in std::mem::take(&mut self.workers.records.wrong) {
            self.judge(property, Err(what));
        }
        for scan in std::mem::take(&mut self.workers.records.scans) {
            let verdict = self.keys_by_log.show(&scan);
            self.judge(one_view::PROPERTY, verdict);
        }
        for (token, holder, lock) in std::mem::take(&mut self.workers.records.tokens) {
            let verdict = self.keys_by_log.token(&lock, &holder, token);
            self.judge(one_view::PROPERTY, verdict);
        }
    }

    /// The run is over: what is open is unknown, and the histories are checked.
    pub(super) fn finish_work(&mut self) {
        self.check_served();
        self.watch_to_the_end();
        for worker in &mut self.workers.workers {
            if worker.job.take().is_some() || !worker.task.is_idle() {
                let mut desk = Desk::new(self.now, &mut self.workers.random, &mut self.workers.records);
                worker.task.told(Told::Unknown, &mut desk);
            }
        }
        self.look_at_desk();
        let records = &self.workers.records;
        let verdict = lists_and_counters::finish(&records.lists, &records.counters);
        self.judge(lists_and_counters::PROPERTY, verdict);
    }
}
