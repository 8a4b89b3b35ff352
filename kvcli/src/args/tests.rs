use clap::CommandFactory;

use super::*;

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("kvcli").chain(line.split_whitespace()).map(OsString::from).collect()
}

fn refused(line: &str) -> String {
    match parse(words(line)) {
        Err(Stop::Wrong(failure)) => failure.message,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn commands_and_flags_of_later_releases_are_unknown() {
    for line in ["bench mixed", "watch a --previous", "lease adopt 1", "serve --join"] {
        assert!(!refused(line).contains('\n'), "{line}");
    }
}

#[test]
fn wrong_usage_is_one_line_that_says_what_to_do() {
    assert!(refused("--timeout 5 get a").contains("5s"));
    assert!(refused("del").contains("--prefix"));
    assert!(refused("del a --prefix b").contains("cannot be used with"));
    assert!(refused("log").contains("a subcommand is missing; usage: kvcli log"));
    assert!(refused("bench put --clients 0").contains("1..=1024"));
    assert!(refused("--endpoints nowhere get a").contains("HOST:PORT"));
    assert!(refused("--consistency stale:5 get a").contains("stale:500ms"));
    assert!(refused("get a --consistency fresh").contains("`linearizable`, `lease`, `stale` or `stale:500ms`"));
}

#[test]
fn members_and_transfer_take_numbers_of_nodes_and_addresses() {
    for (line, word) in [
        ("members add", "<ID=ADDR>"),
        ("members add 4", "ID=HOST:PORT"),
        ("members add x=127.0.0.1:1", "numbers begin with 1"),
        ("members add 0=127.0.0.1:1", "numbers begin with 1"),
        ("members add 4=nowhere", "HOST:PORT"),
        ("members add 4=a:1,b:2", "one address"),
        ("members add 99999999999999999999=a:1", "number of a node"),
        ("members promote", "<ID>"),
        ("members promote --learner 4", "--learner"),
        ("members remove 0", "0"),
        ("members remove -1", "-1"),
        ("members replace 3", "<NEW=ADDR>"),
        ("members replace 3 4", "ID=HOST:PORT"),
        ("members prefer 3", "<PRIORITY>"),
        ("members prefer 3 256", "0..=255"),
        ("members evict 3", "evict"),
        ("transfer", "<ID>"),
        ("transfer a", "`a`"),
    ] {
        let message = refused(line).replace('\'', "`");
        assert!(message.contains(word), "{line}: {message}");
    }
    let Ok(Cli { command: Some(Command::Members { change: None }), .. }) = parse(words("members")) else { panic!() };
}

#[test]
fn conditions_leases_and_numbers_are_checked_before_anything_is_asked() {
    for (line, word) in [
        ("put a b --if-absent --if-revision 1", "cannot be used with"),
        ("put a b --if-revision -1", "-1"),
        ("put a b --lease 0", "0"),
        ("cas a b", "<NEW>"),
        ("incr a 1.5", "1.5"),
        ("incr a 9223372036854775808", "9223372036854775808"),
        ("txn", "<FILE>"),
        ("watch", "--prefix"),
        ("watch a --prefix b", "cannot be used with"),
        ("watch a --count 0", "0"),
        ("watch a --from-revision x", "x"),
        ("lease", "a subcommand is missing; usage: kvcli lease"),
        ("lease grant 0", "above zero"),
        ("lease grant ten", "5s"),
        ("lease keepalive 0", "0"),
        ("lease revoke", "<ID>"),
        ("lock", "<NAME>"),
        ("lock l", "<CMD>"),
        ("lock l true", "--"),
        ("lock l --ttl 10 -- true", "5s"),
    ] {
        let message = refused(line);
        assert!(message.contains(word), "{line}: {message}");
    }
}

#[test]
fn lease_ttl_without_a_unit_is_seconds() {
    for (text, millis) in [("10", 10_000), ("1500ms", 1_500), ("1h", 3_600_000)] {
        let parsed = parse(words(&format!("lease grant {text}"))).unwrap().command;
        let Some(Command::Lease { action: LeaseCommand::Grant { ttl } }) = parsed else { panic!("{text}") };
        assert_eq!(ttl, Duration::from_millis(millis), "{text}");
    }
}

#[test]
fn incr_adds_one_unless_told_and_takes_negative_numbers() {
    for (line, added) in [("incr a", 1), ("incr a 5", 5), ("incr a -5", -5), ("incr a -9223372036854775808", i64::MIN)]
    {
        let Some(Command::Incr { by, .. }) = parse(words(line)).unwrap().command else { panic!("{line}") };
        assert_eq!(by, added, "{line}");
    }
}

#[test]
fn values_may_be_any_bytes_and_start_with_a_hyphen() {
    let mut line = words("put k");
    line.push(OsString::from_vec(vec![0xff, b'-']));
    let Ok(Cli { command: Some(Command::Put(PutArgs { value, .. })), .. }) = parse(line) else { panic!() };
    assert_eq!(value.0.as_ref(), b"\xff-");
    let Ok(Cli { command: Some(Command::Put(PutArgs { value, .. })), .. }) = parse(words("put k -5")) else { panic!() };
    assert_eq!(value.0.as_ref(), b"-5");
    let Ok(Cli { command: Some(Command::Get { key }), .. }) = parse(words("get -- --k")) else { panic!() };
    assert_eq!(key.0.as_ref(), b"--k");
}

#[test]
fn global_flags_stand_before_and_behind_the_command() {
    for line in ["--output json get a", "get a --output json"] {
        assert_eq!(parse(words(line)).unwrap().globals.output, Some(Format::Json), "{line}");
    }
}
