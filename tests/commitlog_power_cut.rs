//! Acknowledged means durable: one commitlog on a disk that forgets, with the power cut at every disk call.
//!
//! For each call of a short history that can change the disk, the power fails during that call. What was not synced
//! then meets several fates: all lost, all kept, and random subsets with garbled sectors. The log must open again
//! without an error, hold every acknowledged batch and vote, nothing that was never written, and take more; also when
//! the power fails again at every call of that recovery, when the process is killed at each call and the power goes
//! only later, and when each sync in turn fails. Two tests prove that this checker notices a disk that lies.

#[path = "support/log_disk.rs"]
mod log_disk;
#[path = "support/log_history.rs"]
mod log_history;

use std::path::Path;

use dledger::commitlog::{Identity, load_identity, lock_data_dir, store_identity};
use dledger::env::Disk;
use dledger::env::memory::{Fate, MemoryDisk, Pending};
use dledger::error::OpenError;
use dledger::types::{ClusterId, Incarnation, NodeId};
use log_disk::prepared_disk;
use log_history::{Model, Step};

/// Votes, batches inside one sector and over many, several segments, truncations of one record and across segments,
/// purges, and a restart.
const HISTORY: &[Step] = &[
    Step::Vote { term: 1 },
    Step::Append { term: 1, payloads: &[40] },
    Step::Append { term: 1, payloads: &[10, 0, 700] },
    Step::VoteAndAppend { term: 2, payloads: &[6_000] },
    Step::Append { term: 2, payloads: &[3_000, 3_000, 3_000] },
    Step::Idle,
    Step::Append { term: 2, payloads: &[6_000] },
    Step::Truncate { after: 8, term: 3, payloads: &[100, 100] },
    Step::Append { term: 3, payloads: &[9_000] },
    Step::Purge { upto: 6, first: 6 },
    Step::Reopen,
    Step::Append { term: 3, payloads: &[300, 300] },
    Step::Vote { term: 4 },
    Step::Truncate { after: 6, term: 4, payloads: &[2_500] },
    Step::Append { term: 4, payloads: &[50] },
    Step::Idle,
];

/// What comes after each recovery: the log must still take records, and a conflict.
const AFTERMATH: [Step; 3] = [
    Step::VoteAndAppend { term: 9, payloads: &[600, 20] },
    Step::Vote { term: 10 },
    Step::Append { term: 10, payloads: &[1_000] },
];

/// More disk calls than any history or recovery here makes: reaching it means that one never ends.
const MAX_CALLS: u64 = 2_000;

/// A name, and what to do with each pending change.
type NamedFate = (String, Box<dyn FnMut(&Pending<'_>) -> Fate>);

/// The fates that each moment is tried with: three plain ones and two random subsets, others for each call.
fn fates(call: u64) -> [NamedFate; 5] {
    let always = |fate: Fate| -> NamedFate { (format!("all {fate:?}"), Box::new(move |_| fate)) };
    let random = |seed: u64| -> NamedFate { (format!("seed {seed}"), Box::new(Fate::seeded(seed))) };
    [always(Fate::Lost), always(Fate::Kept), always(Fate::Garbled), random(call * 2), random(call * 2 + 1)]
}

/// Runs the history with the power cut at each call, and hands each moment before the power returns to `check`.
fn at_each_call(
    setup: impl Fn(&MemoryDisk),
    mut check: impl FnMut(u64, &MemoryDisk, &Model) -> Result<(), String>,
) -> Result<u64, String> {
    for call in 1..MAX_CALLS {
        let disk = prepared_disk();
        setup(&disk);
        disk.cut_power_at(call);
        let mut model = Model::default();
        let ended = model.run(&disk, HISTORY);
        if ended && !disk.is_off() {
            return Ok(call - 1);
        }
        // A failure may strike work that nobody waits for; then the history ends all the same.
        check(call, &disk, &model)?;
    }
    Err(format!("the history makes more than {MAX_CALLS} disk calls"))
}

/// Opens after a cut, writes on, and finds all of it after one more cut that loses everything pending.
fn recover_and_go_on(disk: &MemoryDisk, model: &mut Model) -> Result<(), String> {
    let mut opened = model.check(disk)?;
    disk.power_cut(|_| Fate::Lost);
    opened = {
        drop(opened);
        model.check(disk).map_err(|error| format!("what recovery showed was not durable: {error}"))?
    };
    for step in AFTERMATH {
        model.step(&mut opened.writer, step).map_err(|error| format!("{step:?} after recovery: {error}"))?;
    }
    disk.power_cut(|_| Fate::Lost);
    model.check(disk).map(drop).map_err(|error| format!("written after recovery: {error}"))
}

/// The whole check of one moment: each fate, on a copy of the disk.
fn survives_each_fate(call: u64, disk: &MemoryDisk, model: &Model) -> Result<(), String> {
    for (name, fate) in fates(call) {
        let (disk, mut model) = (disk.fork(), model.clone());
        disk.power_cut(fate);
        recover_and_go_on(&disk, &mut model).map_err(|error| format!("cut at call {call}, {name}: {error}"))?;
    }
    Ok(())
}

#[test]
fn log_power_cut_at_each_call_keeps_what_was_acknowledged() {
    let calls = at_each_call(|_| {}, survives_each_fate).unwrap();
    assert!(calls > 50, "only {calls} calls: the history shows little");
}

#[test]
fn log_power_cut_at_each_call_of_its_recovery_keeps_what_was_acknowledged() {
    let mut recoveries = 0;
    let cut_recoveries = |call: u64, disk: &MemoryDisk, model: &Model| {
        // One of the fates for each call: they take turns.
        let (name, fate) = fates(call).into_iter().nth(call as usize % 5).unwrap();
        let fallen = disk.fork();
        fallen.power_cut(fate);
        // Every fourth call of the recovery; which ones changes with the call of the history.
        for again in (1 + call % 4..MAX_CALLS).step_by(4) {
            let (disk, mut model) = (fallen.fork(), model.clone());
            disk.cut_power_at(again);
            if log_history::open(&disk).is_ok() && !disk.is_off() {
                break;
            }
            recoveries += 1;
            disk.power_cut(Fate::seeded(call * MAX_CALLS + again));
            model.check(&disk).map_err(|error| format!("cut at call {call}, {name}, again at {again}: {error}"))?;
        }
        Ok(())
    };
    at_each_call(|_| {}, cut_recoveries).unwrap();
    assert!(recoveries > 300, "only {recoveries} recoveries were cut");
}

#[test]
fn log_power_cut_again_and_again_during_recovery_ends_with_what_was_acknowledged() {
    at_each_call(
        |_| {},
        |call, disk, model| {
            let (disk, mut model) = (disk.fork(), model.clone());
            disk.power_cut(Fate::seeded(call));
            // Each recovery starts from what the one before it left, and comes three calls further.
            for again in (1 + call % 3..MAX_CALLS).step_by(3) {
                disk.cut_power_at(again);
                if log_history::open(&disk).is_ok() && !disk.is_off() {
                    break;
                }
                disk.power_cut(Fate::seeded(call + again));
            }
            disk.power_cut(|_| Fate::Lost);
            recover_and_go_on(&disk, &mut model).map_err(|error| format!("cut at call {call} and on: {error}"))
        },
    )
    .unwrap();
}

#[test]
fn log_killed_at_each_call_then_power_cut_keeps_what_was_acknowledged() {
    // A process that is killed leaves everything readable, synced or not, to the one that is started after it.
    at_each_call(
        |_| {},
        |call, disk, model| {
            let (disk, mut model) = (disk.fork(), model.clone());
            recover_and_go_on(&disk, &mut model).map_err(|error| format!("killed at call {call}: {error}"))
        },
    )
    .unwrap();
}

#[test]
fn log_failed_sync_at_each_call_keeps_what_was_acknowledged() {
    for call in 1..MAX_CALLS {
        let disk = prepared_disk();
        disk.fail_sync(call);
        let before = disk.counts();
        let mut model = Model::default();
        let ended = model.run(&disk, HISTORY);
        let after = disk.counts();
        if ended && after.syncs + after.dir_syncs < before.syncs + before.dir_syncs + call {
            assert!(call > 20, "only {call} syncs: the history shows little");
            return;
        }
        // The process is restarted with the page cache as it was: bytes that look good there and are on no disk.
        disk.kill_process();
        recover_and_go_on(&disk, &mut model).unwrap_or_else(|error| panic!("sync {call} failed: {error}"));
    }
    panic!("the history makes more than {MAX_CALLS} syncs");
}

/// Takes a data directory and gives it an identity, then one with a cluster. Answers the last one that was stored.
fn found_a_directory(disk: &dyn Disk, stored: &mut Option<Identity>) -> Result<(), OpenError> {
    let lock = lock_data_dir(disk, Path::new("/home/data"))?;
    for cluster in [None, Some(ClusterId(7))] {
        let members = "1=localhost:1".parse().map_err(OpenError::Config)?;
        let identity = Identity { node: NodeId(1), incarnation: Incarnation(9), cluster, joined: false, members };
        store_identity(disk, lock.path(), &identity)?;
        *stored = Some(identity);
    }
    Ok(())
}

/// What a process that is started now takes the directory's identity to be.
fn identity_of(memory: &MemoryDisk) -> Result<Option<Identity>, OpenError> {
    let disk = memory.handle();
    let lock = lock_data_dir(&*disk, Path::new("/home/data"))?;
    load_identity(&*disk, lock.path())
}

#[test]
fn identity_power_cut_or_kill_at_each_call_stays_what_it_was_seen_to_be() {
    for call in 1..MAX_CALLS {
        let disk = MemoryDisk::new();
        disk.cut_power_at(call);
        let mut stored = None;
        let ended = found_a_directory(&*disk.handle(), &mut stored).is_ok();
        if ended {
            assert!(call > 8, "only {call} calls: the history shows little");
            return;
        }
        let killed = disk.fork();
        let seen = identity_of(&killed).unwrap();
        killed.power_cut(|_| Fate::Lost);
        assert_eq!(identity_of(&killed).unwrap(), seen, "killed at call {call}, then the power cut");
        for (name, fate) in fates(call) {
            let disk = disk.fork();
            disk.power_cut(fate);
            let cluster = |identity: &Option<Identity>| identity.as_ref().map(|found| found.cluster.map(|id| id.0));
            let found = identity_of(&disk).unwrap();
            assert!(cluster(&found) >= cluster(&stored), "cut at call {call}, {name}: {found:?} after {stored:?}");
        }
    }
    panic!("it makes more than {MAX_CALLS} disk calls");
}

#[test]
fn log_on_a_disk_that_drops_syncs_is_reported_as_a_loss() {
    let report = at_each_call(|disk| disk.drop_syncs(true), survives_each_fate).unwrap_err();
    assert!(report.contains("lost") || report.contains("open:"), "{report}");
}

#[test]
fn log_on_a_disk_that_drops_directory_syncs_is_reported_as_a_loss() {
    let report = at_each_call(|disk| disk.drop_dir_syncs(true), survives_each_fate).unwrap_err();
    assert!(report.contains("lost") || report.contains("open:"), "{report}");
}
