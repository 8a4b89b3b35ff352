//! A scripted person at a pseudo-terminal: history, completion of live keys, Ctrl-C on what runs, and when there is colour.
//!
//! The terminal is the controlling one, so Ctrl-C is what it is for a person: a signal to everything in the foreground.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::path::Path;
use std::process::Command;

use support::person::Person;
use support::{finished, free_ports, kvcli, run};

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const UP: &str = "\u{1b}[A";

/// A demo of one node, and where others reach it.
fn demo(state: &Path) -> (Command, String) {
    let port = free_ports(1).to_string();
    let mut command = kvcli();
    command.args(["demo", "--nodes", "1", "--base-port", &port]).env("XDG_STATE_HOME", state);
    (command, format!("127.0.0.1:{port}"))
}

fn in_shell(state: &Path) -> (Person, String) {
    let (mut command, address) = demo(state);
    let mut person = Person::at(&mut command);
    person.sees("leader 1> ");
    (person, address)
}

#[test]
fn terminal_keeps_the_history_across_runs_and_searches_it() {
    let state = tempfile::tempdir().unwrap();
    let (mut person, _address) = in_shell(state.path());
    person.runs("incr visits 41", "\n41\r\n");
    person.runs("cas visits 41 42", "OK");
    assert_eq!(person.leaves(CTRL_D), Some(0));
    let (mut person, _address) = in_shell(state.path());
    person.types(&UP.repeat(2));
    person.sees("incr visits 41");
    person.types("\r");
    person.is_told("\n41\r\n");
    // Ctrl-R finds what was typed in the run before.
    person.types("\u{12}cas");
    person.sees("cas visits 41 42");
    person.types("\r");
    person.is_told("\nOK\r\n");
    person.runs("get visits", "\n42\r\n");
    assert_eq!(person.leaves("quit\r"), Some(0));
}

#[test]
fn terminal_completes_new_commands_their_flags_and_live_keys() {
    let state = tempfile::tempdir().unwrap();
    let (mut person, address) = in_shell(state.path());
    run(&["--endpoints", &address, "put", "config/live key", "7"]).ended(0);
    person.types("inc\t");
    person.sees("incr ");
    person.types("conf\t");
    person.sees("incr \"config/live key\"");
    person.runs(" 3", "\n10\r\n");
    person.types("watch --from-r\t");
    person.sees("watch --from-revision ");
    person.types("1 --count 2 conf\t");
    person.sees("--count 2 \"config/live key\"");
    person.types("\r");
    person.sees("PUT\tconfig/live key\t7\t");
    person.is_told("PUT\tconfig/live key\t10\t");
    person.types("lease gr\t");
    person.sees("lease grant ");
    person.sees("<TTL>");
    person.types(CTRL_C);
    person.is_told("\n");
    assert_eq!(person.leaves(CTRL_D), Some(0));
}

#[test]
fn terminal_ctrl_c_ends_a_watch_quietly_and_returns_to_the_prompt() {
    let state = tempfile::tempdir().unwrap();
    let (mut person, address) = in_shell(state.path());
    for round in ["first", "second"] {
        person.types("watch --prefix news/ --from-revision 1\r");
        run(&["--endpoints", &address, "put", &format!("news/{round}"), "\u{1b}[31m"]).ended(0);
        person.sees(&format!("PUT\tnews/{round}\t\\x1b[31m\t"));
        person.types(CTRL_C);
        person.sees("leader 1> ");
        assert!(!person.seen().contains("error"), "{:?}", person.seen());
    }
    person.runs("scan --count news/", "\n2\r\n");
    assert_eq!(person.leaves(CTRL_D), Some(0));
}

#[test]
fn terminal_ctrl_c_under_a_lock_ends_the_program_and_frees_the_lock() {
    let state = tempfile::tempdir().unwrap();
    let (mut person, address) = in_shell(state.path());
    person.types("lock job -- sh -c 'echo running; exec sleep 1000'\r");
    person.sees("running\r\n");
    person.types(CTRL_C);
    person.sees("leader 1> ");
    run(&["--endpoints", &address, "lock", "job", "--", "true"]).ended(0);
    person.runs("lock job -- printenv KVCLI_FENCING_TOKEN", "\n");
    assert_eq!(person.leaves(CTRL_D), Some(0));
}

#[test]
fn terminal_has_colour_unless_no_color_is_set() {
    let state = tempfile::tempdir().unwrap();
    let (mut command, _address) = demo(state.path());
    let mut person = Person::in_colour(&mut command);
    person.sees("\u{1b}[32mleader 1\u{1b}[0m> ");
    person.runs("get nothing", "\u{1b}[31merror:\u{1b}[0m no such key");
    assert_eq!(person.leaves(CTRL_D), Some(0));

    let (mut person, _address) = in_shell(state.path());
    person.runs("get nothing", "\nerror: no such key: nothing\r\n");
    assert!(!colours(person.seen()), "{:?}", person.seen());
    // A hint, which is dim where there is colour.
    person.types("cas ");
    person.sees("<KEY> <EXPECTED> <NEW>");
    assert!(!colours(person.seen()), "{:?}", person.seen());
    person.types(CTRL_C);
    person.is_told("\n");
    assert_eq!(person.leaves(CTRL_D), Some(0));
}

#[test]
fn terminal_colour_is_off_where_output_is_piped() {
    let state = tempfile::tempdir().unwrap();
    let (mut command, _address) = demo(state.path());
    let script = state.path().join("script");
    std::fs::write(&script, "put a 1\nget a\nstatus\nget nothing\n").unwrap();
    command.stdin(std::fs::File::open(&script).unwrap()).env("TERM", "xterm");
    let done = finished(command.output().unwrap()).ended(1);
    assert!(done.stderr.contains("error: line 4: no such key"), "{}", done.stderr);
    assert!(!colours(&done.text()) && !colours(&done.stderr), "{done:?}");
}

/// Whether a text sets colours or weights: a control sequence that ends in `m`.
fn colours(text: &str) -> bool {
    text.split("\u{1b}[")
        .skip(1)
        .any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
}

#[test]
fn check_of_colours_tells_them_from_moves_of_the_cursor() {
    assert!(colours("a\u{1b}[31mb") && colours("\u{1b}[0m") && colours("\u{1b}[m"));
    assert!(!colours("a\u{1b}[2Kb\u{1b}[12Cm") && !colours("[31m"));
}
