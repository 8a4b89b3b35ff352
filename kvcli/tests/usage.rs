//! Wrong usage, configuration, scripts and streams: everything that needs no node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use support::{finished, free_ports, kvcli, run, run_with};

/// An address where nobody listens.
fn nobody() -> String {
    format!("127.0.0.1:{}", free_ports(1))
}

#[test]
fn help_and_version_go_to_stdout_with_code_zero() {
    let help = run(&["help"]).ended(0).text();
    for command in ["serve", "demo", "put", "get", "del", "scan", "import", "export", "status", "bench", "log", "quit"]
        .into_iter()
        .chain(["cas", "incr", "txn", "watch", "lease", "lock"])
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in\n{help}");
    }
    assert!(run(&["help", "scan"]).ended(0).text().contains("--keys-only"));
    assert!(run(&["--version"]).ended(0).text().starts_with("kvcli "));
    assert!(run(&["help", "txn"]).ended(0).text().contains("\"compare\": [{\"key\": K"));
    assert!(run(&["help", "lock"]).ended(0).text().contains("KVCLI_FENCING_TOKEN"));
    run(&["help", "stream"]).ended(2);
    run(&["quit"]).ended(0);
}

#[test]
fn wrong_usage_is_one_line_on_stderr_with_code_two() {
    for arguments in [
        &["watch", "a", "--prefix", "b"][..],
        &["put", "a"],
        &["put", "a", "b", "--if-absent", "--if-revision", "1"],
        &["incr", "a", "one"],
        &["lease", "grant", "soon"],
        &["lock", "a", "true"],
        &["get"],
        &["get", "a", "--timeout", "5"],
        &["get", "a", "--output", "xml"],
        &["get", "a", "--consistency", "fresh"],
        &["del", "a", "--prefix", "b"],
        &["bench", "mixed"],
        &["log", "repair", "--data-dir", "d"],
        &["serve", "--join", "a:1"],
        &["demo", "--nodes", "0"],
    ] {
        let done = run(arguments).ended(2);
        assert!(done.stdout.is_empty(), "{arguments:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.starts_with("error: "), "{arguments:?}: {}", done.stderr);
    }
}

#[test]
fn errors_are_json_when_answers_are() {
    for (arguments, kind) in [
        (&["--output", "json", "watch"][..], "usage"),
        (&["--output=json", "serve"], "config"),
        (&["--output", "json", "--timeout", "200ms", "--endpoints", &nobody(), "get", "a"], "unavailable"),
    ] {
        let done = run(arguments);
        let value: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
        assert_eq!(value["error"]["kind"], kind, "{}", done.stderr);
        assert!(value["error"]["message"].is_string());
    }
}

#[test]
fn nobody_there_is_code_three_within_the_timeout() {
    let start = std::time::Instant::now();
    let done = run(&["--timeout", "300ms", "--endpoints", &nobody(), "put", "a", "1"]).ended(3);
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    assert!(done.stderr.contains("unavailable"), "{}", done.stderr);
    run(&["--timeout", "300ms", "--endpoints", &nobody(), "status"]).ended(3);
}

#[test]
fn endpoints_of_the_environment_are_used_and_checked() {
    let done = finished(kvcli().args(["get", "a"]).env("KVCLI_ENDPOINTS", "nowhere").output().unwrap()).ended(2);
    assert!(done.stderr.contains("KVCLI_ENDPOINTS"), "{}", done.stderr);
    let address = nobody();
    let done = kvcli().args(["--timeout", "200ms", "get", "a"]).env("KVCLI_ENDPOINTS", &address).output().unwrap();
    assert!(finished(done).ended(3).stderr.contains(&address));
}

#[test]
fn script_stops_with_code_and_line_of_the_first_failure() {
    let done = run_with(&[], "# nothing\n\nhelp get\nnonsense\nhelp put\n").ended(2);
    assert!(done.stderr.contains("line 4") && done.stderr.contains("(exit 2)"), "{}", done.stderr);
    assert!(done.text().contains("kvcli get") && !done.text().contains("kvcli put"));
    let done = run_with(&["--keep-going"], "nonsense\nhelp put\nquit\nnonsense\n").ended(2);
    assert!(done.text().contains("kvcli put"));
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    run_with(&[], "get \"open\n").ended(2);
    run_with(&[], "").ended(0);
}

#[test]
fn script_errors_are_json_on_one_line_each() {
    let done = run_with(&["--output", "json", "--keep-going"], "nonsense\nget \"\\q\"\n").ended(2);
    assert_eq!(done.stderr.lines().count(), 2);
    for line in done.stderr.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["error"]["kind"], "usage");
    }
}

#[test]
fn closed_pipe_ends_quietly() {
    let mut child = kvcli().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    for _line in 0..5_000 {
        if stdin.write_all(b"help scan\n").is_err() {
            break;
        }
    }
    drop(stdin);
    let done = finished(child.wait_with_output().unwrap()).ended(0);
    assert_eq!(done.stderr, "");
}

#[test]
fn arguments_that_are_no_text_are_bytes_for_keys_and_errors_elsewhere() {
    let word = std::ffi::OsString::from_vec(vec![0xff, 0xfe]);
    let address = nobody();
    let arguments = ["--timeout", "100ms", "--endpoints", &address, "get"];
    finished(kvcli().args(arguments).arg(&word).output().unwrap()).ended(3);
    finished(kvcli().arg(&word).output().unwrap()).ended(2);
}

#[test]
fn print_config_shows_each_value_with_its_origin() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("n.toml");
    std::fs::write(&file, "id = 3\nheartbeat = \"20ms\"\n").unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["serve", "--data-dir", "d", "--config", file, "--print-config"];
    let text = finished(kvcli().args(arguments).env("DLEDGER_MAX_CLIENTS", "9").output().unwrap()).ended(0).text();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("id = 3").ends_with(&format!("# file {file}:1")));
    assert!(line("heartbeat = \"20ms\"").contains("n.toml:2"));
    assert!(line("max_clients = 9").ends_with("# environment DLEDGER_MAX_CLIENTS"));
    assert!(line("data_dir = \"d\"").ends_with("# flag --data-dir"));
    assert!(line("segment_bytes = 67108864").ends_with("# default"));
    let done = run(&["serve", "--data-dir", "d", "--print-config", "--output", "json"]).ended(0);
    assert_eq!(done.json()[0]["id"], serde_json::json!({ "value": 1, "origin": "default" }));
    assert!(!std::path::Path::new("d").exists());
}

#[test]
fn bad_configuration_is_code_two_and_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("n.toml");
    let data = directory.path().join("data");
    let arguments = ["serve", "--data-dir", data.to_str().unwrap(), "--config", file.to_str().unwrap()];
    assert!(run(&arguments).ended(2).stderr.contains("n.toml"));
    for (text, parts) in [
        ("\nelection_timout = \"1s\"\n", &["n.toml:2", "did you mean `election_timeout`?"][..]),
        ("heartbeat = \"50\"\n", &["n.toml:1", "50ms"]),
        ("heartbeat = \"100ms\"\n", &["election_timeout", "three heartbeats"]),
        ("cluster = \"2=a:1\"\nid = 1\n", &["does not name node 1"]),
        ("cluster = \"1=127.0.0.1:1\"\n", &["--id"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let done = run(&arguments).ended(2);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        assert!(parts.iter().all(|part| done.stderr.contains(part)), "{text}: {}", done.stderr);
    }
    assert!(!data.exists());
}

#[test]
fn serve_refuses_to_listen_beyond_loopback_unless_told() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let done = run(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "0.0.0.0:0"]).ended(2);
    assert!(done.stderr.contains("--insecure"), "{}", done.stderr);
    assert!(!data.exists());
}

#[test]
fn import_of_a_missing_file_is_code_two() {
    let done = run(&["import", "no such file"]).ended(2);
    assert!(done.stderr.contains("no such file"), "{}", done.stderr);
}
