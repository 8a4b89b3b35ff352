//! The process is killed at each place where something is written, flushed, made or removed, each in turn; whatever it left,
//! the next one holds the state after some entry, whole, and comes with the log to the state that every replica has.

use std::process::Command as Process;

use super::super::kill::plan;
use super::*;

/// Set for the process that is to be killed: where it works, and at which place it dies.
const DIRECTORY: &str = "DLEDGER_TEST_KILL_DIRECTORY";
const PLACE: &str = "DLEDGER_TEST_KILL_PLACE";
/// Entries of the log.
const LAST: u64 = 400;
/// The entry of the snapshot that is installed on the way, and where the machine is by then.
const INSTALLED: u64 = 250;
const BEFORE: u64 = 130;
/// No history passes so many places.
const MOST: u64 = 2_000;

/// One process's life: from what is there to the end of the log, with captures and the swap for an installed snapshot.
fn live(directory: &Path) {
    let (mut rocks, held) = machine(directory);
    let mut at = held.entry.index.get();
    while at < LAST {
        if (BEFORE..INSTALLED).contains(&at) {
            let mut memory = KvMachine::new();
            apply(&mut memory, 1, INSTALLED, 10);
            restored(&mut rocks, &items(&memory), &base(INSTALLED));
            at = INSTALLED;
        }
        let next = (at / 10 + 1) * 10;
        apply(&mut rocks, at + 1, next, 10);
        at = next;
        if at % 40 == 0 {
            drop(items(&rocks));
        }
    }
}

/// Looks at what is there as a node does that starts.
fn check(directory: &Path, place: u64, said: &str) -> u64 {
    let (rocks, held) = machine(directory);
    let at = held.entry.index.get();
    assert_eq!(whole(&rocks), truth(at), "after a kill at place {place} ({said})");
    assert!(at == 0 || held == base(at), "after a kill at place {place} ({said}): {held:?}");
    at
}

/// Not a test by itself: what the process does that is to be killed.
#[test]
fn rocks_killed_process() {
    let (Ok(directory), Ok(place)) = (std::env::var(DIRECTORY), std::env::var(PLACE)) else { return };
    plan(place.parse().unwrap());
    live(Path::new(&directory));
}

fn child(directory: &Path, place: u64) -> std::process::Output {
    let test = concat!(module_path!(), "::rocks_killed_process");
    let test = test.split_once("::").unwrap().1;
    let mut process = Process::new(std::env::current_exe().unwrap());
    process.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    process.env(DIRECTORY, directory).env(PLACE, place.to_string()).output().unwrap()
}

#[test]
fn rocks_killed_at_each_place_opens_with_a_whole_state_and_ends_up_as_every_replica() {
    let (mut kinds, mut flushed) = (std::collections::BTreeSet::new(), 0);
    for place in 1..MOST {
        let directory = scratch();
        let output = child(&directory, place);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() {
            assert_eq!(check(&directory, place, "not killed"), LAST);
            assert!(place > 60 && flushed > 30, "only {place} places, {flushed} states that were not empty");
            for kind in ["write", "flush", "created", "remove", "base of what was loaded", "swap"] {
                assert!(kinds.iter().any(|said: &String| said.contains(kind)), "nowhere killed at: {kind}");
            }
            return;
        }
        assert!(said.contains("killed "), "place {place} was not killed but failed: {said}");
        flushed += u64::from(check(&directory, place, &said) > 0);
        kinds.insert(said);
        live(&directory);
        assert_eq!(check(&directory, place, "gone on"), LAST);
    }
    panic!("there is no end of places");
}

#[test]
fn rocks_killed_again_and_again_comes_to_the_end_of_the_log() {
    let directory = scratch();
    for place in [30, 41, 7, 19, 53, 3] {
        let output = child(&directory, place);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert!(output.status.success() || said.contains("killed "), "place {place} failed: {said}");
        check(&directory, place, &said);
    }
    live(&directory);
    assert_eq!(check(&directory, 0, "gone on"), LAST);
}
