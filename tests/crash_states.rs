//! Every state that a power cut may leave: short histories of the log, all subsets of what was pending, each recovered.
//!
//! `commitlog_power_cut.rs` tries five fates at each call of one long history; here the histories are short, and at each
//! call every subset of the pending sectors, lengths and names meets its fate. A failure prints the history, the call
//! and the fate of each pending change, which is all that is needed to see it again. With `--nocapture` each test says
//! how many states it saw.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that breaks here is broken itself, and it says how much it saw"
)]

#[path = "crash_states/history.rs"]
mod history;
#[path = "support/log_disk.rs"]
mod log_disk;
#[path = "crash_states/oracle.rs"]
mod oracle;
#[path = "crash_states/states.rs"]
mod states;

use dledger::env::memory::MemoryDisk;
use history::{APPEND, Expected, FRONT, History, MIX, PURGE, RESET, ROTATE, SLOT, TRUNCATE, VOTE, open, run};
use log_disk::prepared_disk;
use oracle::check;
use states::{Counts, Seen, each_state, plain_states};

/// More disk calls than any history or recovery here makes: reaching it means that one never ends.
const MAX_CALLS: u64 = 1_000;

/// Cuts the power at each call of a history and hands on each moment. Answers the number of calls.
fn at_each_call(
    history: History,
    setup: impl Fn(&MemoryDisk),
    mut visit: impl FnMut(u64, &MemoryDisk, &Expected) -> Result<(), String>,
) -> Result<u64, String> {
    for call in 1..MAX_CALLS {
        let disk = prepared_disk();
        setup(&disk);
        disk.cut_power_at(call);
        let (expected, ended) = run(&disk, history);
        if !disk.is_off() {
            ended.map_err(|error| format!("history `{}` ends early: {error}", history.name))?;
            return Ok(call - 1);
        }
        visit(call, &disk, &expected)?;
    }
    Err(format!("history `{}` makes more than {MAX_CALLS} disk calls", history.name))
}

/// Names what a moment's states are compared with, among all of one history.
fn key(expected: &Expected) -> String {
    format!("{} {}", expected.batches, expected.in_flight.is_some())
}

/// Recovers every state of every moment of a history.
fn enumerate(history: History, setup: impl Fn(&MemoryDisk)) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let mut seen = Seen::new();
    let calls = at_each_call(history, setup, |call, moment, expected| {
        counts += each_state(moment, &key(expected), &mut seen, |disk, state| {
            check(disk, expected).map_err(|error| {
                format!("history `{}`, power cut during disk call {call}: {error}\n{state}", history.name)
            })
        })?;
        Ok(())
    })?;
    println!("history `{}`: {calls} disk calls, {counts:?}", history.name);
    Ok(counts)
}

/// Runs [`enumerate`] on an honest disk and asserts that it saw as much as it is meant to.
fn survives_every_state(history: History, floor: u64) {
    let counts = enumerate(history, |_disk| {}).unwrap_or_else(|report| panic!("{report}"));
    assert!(counts.states >= floor, "only {counts:?} for history `{}`", history.name);
}

#[test]
fn crash_states_of_appends_keep_what_was_acknowledged() {
    survives_every_state(APPEND, 300);
}

#[test]
fn crash_states_of_a_slot_written_with_records_keep_what_was_acknowledged() {
    survives_every_state(SLOT, 300);
}

#[test]
fn crash_states_of_votes_keep_what_was_acknowledged() {
    survives_every_state(VOTE, 300);
}

#[test]
fn crash_states_of_rotations_keep_what_was_acknowledged() {
    survives_every_state(ROTATE, 5_000);
}

#[test]
fn crash_states_of_truncations_keep_what_was_acknowledged_and_cut() {
    survives_every_state(TRUNCATE, 8_000);
}

#[test]
fn crash_states_of_a_mix_keep_what_was_acknowledged_and_cut() {
    survives_every_state(MIX, 8_000);
}

#[test]
fn crash_states_of_purges_keep_the_old_front_or_the_new_one() {
    survives_every_state(PURGE, 5_000);
}

#[test]
fn crash_states_of_resets_keep_the_old_log_or_the_new_one() {
    survives_every_state(RESET, 3_000);
}

/// Cuts the power at each call of the recovery of the two plain states of each moment, and recovers every state of
/// that.
fn enumerate_recoveries(history: History) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let (mut begun, mut seen) = (Seen::new(), Seen::new());
    at_each_call(
        history,
        |_disk| {},
        |call, moment, expected| {
            let key = key(expected);
            for (name, fallen) in plain_states(moment) {
                if !begun.insert(states::fingerprint(&fallen, &key)) {
                    continue;
                }
                for again in 1..MAX_CALLS {
                    let disk = fallen.fork();
                    disk.cut_power_at(again);
                    let ended = open(&disk);
                    if !disk.is_off() {
                        ended?;
                        break;
                    }
                    counts += each_state(&disk, &key, &mut seen, |disk, state| {
                        check(disk, expected).map_err(|error| {
                            format!(
                                "history `{}`, power cut during disk call {call}, {name}, and during call {again} \
                                 of the recovery: {error}\n{state}",
                                history.name
                            )
                        })
                    })?;
                }
            }
            Ok(())
        },
    )?;
    println!("recoveries of history `{}`: {} begun, {counts:?}", history.name, begun.len());
    Ok(counts)
}

/// Four histories: `mix` recovers from everything that `rotate` and `truncate` do.
#[test]
fn crash_states_during_recovery_keep_what_was_acknowledged() {
    let mut states = 0;
    for history in [APPEND, VOTE, MIX, FRONT] {
        states += enumerate_recoveries(history).unwrap_or_else(|report| panic!("{report}")).states;
    }
    assert!(states >= 6_000, "only {states} states");
}

#[test]
fn crash_states_of_a_disk_that_drops_syncs_are_reported() {
    let report = enumerate(APPEND, |disk| disk.drop_syncs(true)).unwrap_err();
    assert!(report.contains("power cut during disk call"), "{report}");
    let report = enumerate(ROTATE, |disk| disk.drop_dir_syncs(true)).unwrap_err();
    assert!(report.contains("power cut during disk call"), "{report}");
}
