//! Conditional writes, transactions, leases and watches as processes, against three nodes: output, JSON and exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::process::{ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{Cluster, Finished, Running, eventually, finished, kvcli, run_with, wait};

/// A line of JSON with every number of the log's as `N`: which they are depends on elections.
fn golden(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    for (at, name) in text
        .match_indices("revision\":")
        .chain(text.match_indices("\"id\":"))
        .collect::<std::collections::BTreeMap<_, _>>()
    {
        let start = at + name.len() - (text.len() - rest.len());
        let (head, tail) = rest.split_at(start);
        out.push_str(head);
        out.push('N');
        rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

fn no(done: &Finished) -> &str {
    assert_eq!((done.code, done.stdout.len()), (1, 0), "{done:?}");
    &done.stderr
}

#[test]
fn conditional_writes_answer_with_lines_of_the_contract_and_code_one() {
    let cluster = Cluster::start(3);
    let json = |arguments: &[&str]| golden(&cluster.run(&[arguments, &["--output", "json"]].concat()).ended(0).text());
    assert_eq!(json(&["put", "a", "1", "--if-absent"]), "{\"revision\":N}\n");
    assert!(no(&cluster.run(&["put", "a", "2", "--if-absent"])).starts_with("error: key `a` is there already"));
    assert!(no(&cluster.run(&["put", "a", "2", "--if-revision", "1"])).contains("not last written at revision 1"));
    let revision = cluster.run(&["get", "a", "--output", "json"]).json()[0]["mod_revision"].to_string();
    assert_eq!(cluster.run(&["put", "a", "2", "--if-revision", &revision]).ended(0).text(), "OK\n");
    assert_eq!(json(&["cas", "a", "2", "3"]), "{\"revision\":N}\n");
    assert!(no(&cluster.run(&["cas", "a", "2", "4"])).contains("has another value"));
    assert_eq!(cluster.run(&["incr", "a", "-5"]).ended(0).text(), "-2\n");
    assert_eq!(json(&["incr", "n"]), "{\"value\":1,\"revision\":N}\n");
    cluster.run(&["put", "n", "one"]).ended(0);
    let refused = cluster.run(&["incr", "n", "--output", "json"]).ended(1);
    let said = "{\"error\":{\"kind\":\"no\",\"message\":\"key `n` does not hold a number (decimal text, 64 bits)\"}}\n";
    assert_eq!(refused.stderr, said);
    assert_eq!(cluster.run(&["del", "--prefix", "nothing", "--output", "json"]).ended(0).json()[0]["deleted"], 0);
}

#[test]
fn txn_takes_json_from_stdin_and_files_and_names_the_place_of_a_mistake() {
    let cluster = Cluster::start(3);
    let endpoints = cluster.endpoints();
    let txn = |text: &str| run_with(&["--endpoints", &endpoints, "txn", "-"], text);
    let move_it = r#"{"compare": [{"key": "a", "target": "exists", "op": "=", "to": false}],
        "then": [{"put": {"key": "a", "value": {"base64": "/wA="}}}, {"get": {"key": "a"}}, {"add": {"key": "n", "by": -2}}],
        "else": [{"delete": {"key": "a"}}, {"get": {"key": "a"}}]}"#;
    let then = concat!(
        r#"{"succeeded":true,"revision":N,"results":[{},{"key":"a","value":{"base64":"/wA="},"create_revision":N,"#,
        r#""mod_revision":N,"version":1,"lease":null},{"value":-2}]}"#,
        "\n"
    );
    assert_eq!(golden(&txn(move_it).ended(0).text()), then);
    let otherwise = "{\"succeeded\":false,\"revision\":N,\"results\":[{\"deleted\":1},null]}\n";
    assert_eq!(golden(&txn(move_it).ended(1).text()), otherwise);
    let file = cluster.directory.path().join("txn.json");
    std::fs::write(&file, move_it).unwrap();
    assert_eq!(golden(&cluster.run(&["txn", file.to_str().unwrap()]).ended(0).text()), then.replace("-2", "-4"));

    let wrong = |text: &str, code| txn(text).ended(code).stderr;
    assert_eq!(wrong("{\"then\": [\n]]", 2), "error: stdin: expected `,` or `}` at line 2 column 2\n");
    let missing = wrong(r#"{"then": [{"get": {"key": "a"}}, {"put": {"key": "b"}}]}"#, 2);
    assert_eq!(missing, "error: stdin: then[1].put.value: is missing\n");
    let long = "k".repeat(4_097);
    let limit = wrong(&format!(r#"{{"else": [{{"get": {{"key": "a"}}}}, {{"delete": {{"key": "{long}"}}}}]}}"#), 4);
    assert!(limit.contains("else[1]: ") && limit.contains("4097 bytes"), "{limit}");
    let number = wrong(r#"{"then": [{"add": {"key": "a", "by": 1}}]}"#, 1);
    assert!(number.contains("does not hold a number"), "{number}");
}

#[test]
fn lease_keeps_its_keys_as_long_as_it_is_kept_alive() {
    let cluster = Cluster::start(3);
    let long = cluster.run(&["lease", "grant", "600"]).ended(0).text();
    let long = long.trim();
    let granted = cluster.run(&["lease", "grant", "1500ms", "--output", "json"]).ended(0);
    assert_eq!(golden(&granted.text()), "{\"id\":N,\"ttl_ms\":1500}\n");
    let short = granted.json()[0]["id"].to_string();
    cluster.run(&["put", "long", "1", "--lease", long]).ended(0);
    cluster.run(&["put", "short", "1", "--lease", &short]).ended(0);
    let kept = cluster.run(&["lease", "keepalive", &short, "--output", "json"]).ended(0).text();
    assert_eq!(kept, format!("{{\"id\":{short},\"ttl_ms\":1500}}\n"));
    assert!(cluster.run(&["lease", "list"]).ended(0).text().contains(&format!("{long}\tttl=10m\tkeys=1\n")));
    eventually("the short lease ends, and its key with it", || {
        (cluster.run(&["scan", "--keys-only"]).ended(0).text() == "long\n").then_some(())
    });
    assert!(no(&cluster.run(&["lease", "keepalive", &short])).contains("has ended or never was"));
    assert!(no(&cluster.run(&["put", "a", "1", "--lease", &short])).contains("has ended or never was"));
    assert_eq!(cluster.run(&["lease", "revoke", long]).ended(0).text(), "1\n");
    assert_eq!(cluster.run(&["scan", "--count"]).ended(0).text(), "0\n");
    assert!(no(&cluster.run(&["lease", "revoke", long])).contains("has ended or never was"));
    assert!(cluster.run(&["lease", "grant", "1ms"]).ended(4).stderr.contains("1 ms"));
}

/// A watch as a process.
struct Watching {
    running: Running,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let mut command = kvcli();
        command.args(["--endpoints", &cluster.endpoints(), "watch"]).args(arguments);
        let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
        Self { running, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

#[test]
fn watch_prints_each_change_at_once_and_ends_quietly() {
    let cluster = Cluster::start(3);
    let from = cluster.run(&["put", "a", "0", "--output", "json"]).json()[0]["revision"].to_string();
    let mut watch = Watching::start(&cluster, &["--prefix", "a", "--from-revision", &from, "--timeout", "100ms"]);
    assert_eq!(watch.line(), format!("PUT\ta\t0\t{from}"));
    cluster.run(&["put", "b", "1"]).ended(0);
    for round in 0..5 {
        let revision =
            cluster.run(&["put", "ab", &round.to_string(), "--output", "json"]).json()[0]["revision"].to_string();
        assert_eq!(watch.line(), format!("PUT\tab\t{round}\t{revision}"));
    }
    cluster.run(&["del", "--prefix", "a"]).ended(0);
    let (first, second) = (watch.line(), watch.line());
    assert!(first.starts_with("DELETE\ta\t\t") && second.starts_with("DELETE\tab\t\t"), "{first} {second}");
    assert_eq!(first.split('\t').next_back(), second.split('\t').next_back(), "one revision");
    kill_process(Pid::from_child(&watch.running.child), Signal::INT).unwrap();
    assert_eq!(wait(&mut watch.running.child).code(), Some(0));
    assert_eq!(std::io::read_to_string(watch.running.child.stderr.take().unwrap()).unwrap(), "");

    let all =
        cluster.run(&["watch", "a", "--from-revision", &from, "--count", "2", "--output", "json"]).ended(0).text();
    let lines = concat!(
        r#"{"type":"put","key":"a","value":"0","mod_revision":N}"#,
        "\n",
        r#"{"type":"delete","key":"a","value":null,"mod_revision":N}"#,
        "\n"
    );
    assert_eq!(golden(&all), lines);
}

#[test]
fn watch_into_a_closed_pipe_ends_quietly() {
    let cluster = Cluster::start(3);
    let mut watch = Watching::start(&cluster, &["--prefix", "a", "--from-revision", "1"]);
    cluster.run(&["put", "a", "1"]).ended(0);
    assert!(watch.line().starts_with("PUT\ta\t1\t"));
    let Watching { mut running, lines } = watch;
    drop(lines);
    cluster.run(&["put", "a", "2"]).ended(0);
    assert_eq!(wait(&mut running.child).code(), Some(0));
    assert_eq!(std::io::read_to_string(running.child.stderr.take().unwrap()).unwrap(), "");
}

#[test]
fn watch_goes_on_over_killed_leaders_without_gap_or_double() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["put", "w", "0"]).ended(0);
    let mut watch = Watching::start(&cluster, &["w", "--from-revision", "1"]);
    let mut told = vec![watch.line()];
    for round in 0..3 {
        let leader = cluster.leader();
        cluster.nodes[leader].take().unwrap().kill();
        for number in 1..=3 {
            cluster.run(&["put", "w", &(round * 3 + number).to_string()]).ended(0);
            told.push(watch.line());
        }
        cluster.restart(leader);
    }
    let values: Vec<&str> = told.iter().map(|line| line.split('\t').nth(2).unwrap()).collect();
    assert_eq!(values, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[test]
fn watch_of_purged_history_is_code_one_and_says_what_to_do() {
    let config = "segment_bytes = 65536\nsnapshot_entries = 300\nsnapshot_bytes = 0\nlog_tail_bytes = 0\n";
    let mut cluster = Cluster::configured(3, config);
    cluster.run(&["put", "a", "1"]).ended(0);
    let lines: String = (0..1_000).map(|number| format!("k{}\t{}\n", number % 100, "v".repeat(200))).collect();
    let endpoints = cluster.endpoints();
    eventually("the log before the snapshots is gone everywhere", || {
        run_with(&["--endpoints", &endpoints, "import", "-"], &lines).ended(0);
        cluster.numbers("first").iter().all(|first| first.is_some_and(|first| first > 10)).then_some(())
    });
    let gone = cluster.run(&["watch", "a", "--from-revision", "1"]).ended(1);
    assert!(gone.stderr.contains("are gone; read the keys anew"), "{}", gone.stderr);
    cluster.stop_all();
}

#[test]
fn nobody_there_is_code_three_for_every_new_command() {
    let nobody = format!("127.0.0.1:{}", support::free_ports(1));
    for line in
        ["cas a b c", "incr a", "watch a", "lease grant 10", "lease list", "lock a -- true", "put a b --if-absent"]
    {
        let words: Vec<&str> =
            ["--endpoints", &nobody, "--timeout", "200ms"].into_iter().chain(line.split(' ')).collect();
        assert!(support::run(&words).ended(3).stderr.contains("unavailable"), "{line}");
    }
}

/// Runs a command whose arguments are any bytes.
fn raw(cluster: &Cluster, arguments: &[&[u8]]) -> Finished {
    let mut command: Command = kvcli();
    command.args(["--endpoints", &cluster.endpoints()]).args(arguments.iter().map(|word| OsStr::from_bytes(word)));
    finished(command.output().unwrap())
}

#[test]
fn keys_and_values_of_any_bytes_pass_through_arguments_scripts_and_files_unchanged() {
    let cluster = Cluster::start(3);
    let long = vec![0xfe; 4_096];
    let pairs: [(&[u8], &[u8]); 5] = [
        (b"\xff\xfe", b"\xc3("),
        (b"tab\tkey", b"a\tb"),
        (b"line\nkey", b"a\nb\r\n"),
        (b"empty", b""),
        (&long, b"\x80long"),
    ];
    for (key, value) in pairs {
        raw(&cluster, &[b"put", b"--", key, value]).ended(0);
        let got = raw(&cluster, &[b"get", b"--", key]).ended(0).stdout;
        assert_eq!(got, [value, b"\n"].concat(), "{key:?}");
        raw(&cluster, &[b"cas", b"--", key, value, value]).ended(0);
    }
    // No argument holds a NUL; a line does.
    let endpoints = cluster.endpoints();
    let script = "put \"nul\\x00\" \"\\x00\\xff\"\ncas \"nul\\x00\" \"\\x00\\xff\" \"\\x00\\xfe\"\n";
    run_with(&["--endpoints", &endpoints], script).ended(0);
    let json = cluster.run(&["export", "--format", "json"]).ended(0);
    assert_eq!(json.json().len(), pairs.len() + 1);
    assert_eq!(cluster.run(&["del", "--prefix", ""]).ended(0).text(), "6\n");
    run_with(&["--endpoints", &endpoints, "import", "--format", "json", "-"], &json.stdout).ended(0);
    let again = cluster.run(&["export", "--format", "json"]).ended(0).json();
    for (before, after) in json.json().iter().zip(&again) {
        assert_eq!((&before["key"], &before["value"]), (&after["key"], &after["value"]));
    }
    assert_eq!(raw(&cluster, &[b"get", &long]).ended(0).stdout, b"\x80long\n");
    let watched =
        run_with(&["--endpoints", &endpoints], "watch \"nul\\x00\" --from-revision 1 --count 2\n").ended(0).stdout;
    assert!(watched.starts_with(b"PUT\tnul\0\t\0\xff\t"), "{watched:?}");
}
