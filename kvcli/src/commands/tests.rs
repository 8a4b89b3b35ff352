//! Commands as lines of a script, against a store in memory.

mod writes;

use std::time::Duration;

use dledger::node::MemberChange;
use dledger::types::NodeId;

use crate::args::Format;
use crate::exit::{Failure, Kind, Outcome};
use crate::input::Input;
use crate::output::tests::Captured;
use crate::output::{Printer, Style};
use crate::run::{Options, Session, Source};
use crate::script::{self, execute_line};
use crate::signals::{Otherwise, Signals};
use crate::store::fake::Fake;
use crate::store::{Consistency, Scan, Store};

struct Bench {
    session: Session,
    fake: Fake,
    out: Captured,
}

fn bench(stdin: &'static str) -> Bench {
    let fake = Fake::default();
    let out = Captured::default();
    let options = Options {
        endpoints: vec!["127.0.0.1:7101".to_owned()],
        timeout: Duration::from_secs(5),
        consistency: Consistency::Linearizable,
        keep_going: false,
    };
    let printer = Printer::to(out.clone(), Format::Plain, Style::Raw);
    let store = Store::Fake(fake.clone());
    let (input, signals) = (Input::text(stdin), Signals::new(Otherwise::Heard));
    Bench { session: Session { options, store, printer, input, source: Source::Script, signals }, fake, out }
}

impl Bench {
    async fn line(&self, line: &str) -> Result<Outcome, Failure> {
        execute_line(&self.session, line.as_bytes()).await
    }

    async fn refused(&self, line: &str) -> Failure {
        self.line(line).await.unwrap_err()
    }

    fn printed(&self) -> String {
        String::from_utf8(self.out.take()).unwrap()
    }
}

#[tokio::test]
async fn put_get_scan_and_del_answer_as_the_contract_says() {
    let bench = bench("");
    for line in ["put a 1", "put \"b\\x00\" 2", "put ab 3"] {
        assert_eq!(bench.line(line).await.unwrap(), Outcome::Done);
    }
    bench.line("get a").await.unwrap();
    bench.line("scan a").await.unwrap();
    bench.line("scan --reverse --keys-only").await.unwrap();
    bench.line("scan --count").await.unwrap();
    bench.line("del a").await.unwrap();
    bench.line("del --prefix a").await.unwrap();
    assert_eq!(bench.printed(), "OK\nOK\nOK\n1\na\t1\nab\t3\nb\0\nab\na\n3\n1\n1\n");
}

#[tokio::test]
async fn absence_is_code_one_for_a_key_and_no_matter_for_a_prefix() {
    let bench = bench("");
    assert_eq!(bench.refused("get nope").await.kind, Kind::NotFound);
    assert_eq!(bench.line("del nope").await.unwrap(), Outcome::No);
    assert_eq!(bench.line("del --prefix nope").await.unwrap(), Outcome::Done);
    assert_eq!(bench.line("scan nope").await.unwrap(), Outcome::Done);
    assert_eq!(bench.printed(), "0\n0\n");
}

#[tokio::test]
async fn status_without_any_answer_is_unavailable_and_still_has_its_rows() {
    let bench = bench("");
    assert_eq!(bench.refused("status").await.code(), 3);
    assert_eq!(bench.printed().lines().count(), 1);
}

#[tokio::test]
async fn members_are_printed_and_changed_as_the_words_say() {
    let bench = bench("");
    bench.line("members").await.unwrap();
    assert_eq!(bench.printed(), "1\t127.0.0.1:7101\tvoter\tpriority=0\tmatched=-\tleader\n");
    for line in [
        "members add 4=127.0.0.1:7104",
        "members add 5=127.0.0.1:7105 --learner",
        "members promote 5",
        "members remove 1",
        "members replace 2 6=127.0.0.1:7106",
        "members prefer 6 255",
        "transfer 1",
    ] {
        assert_eq!(bench.line(line).await.unwrap(), Outcome::Done, "{line}");
        assert_eq!(bench.printed(), "OK\n", "{line}");
    }
    let add =
        |id: u64, promote| MemberChange::Add { id: NodeId(id), address: format!("127.0.0.1:{}", 7100 + id), promote };
    let wanted = [
        add(4, true),
        add(5, false),
        MemberChange::Promote { id: NodeId(5) },
        MemberChange::Remove { id: NodeId(1) },
        MemberChange::Replace { old: NodeId(2), new: NodeId(6), address: "127.0.0.1:7106".to_owned() },
        MemberChange::Prioritise { id: NodeId(6), priority: 255 },
    ];
    assert_eq!(bench.fake.changes(), wanted);
    assert_eq!(bench.refused("transfer 2").await.code(), 1);
    assert_eq!(bench.refused("members add 4").await.code(), 2);
}

#[tokio::test]
async fn flags_of_a_line_hold_for_that_line_only() {
    let bench = bench("");
    bench.line("put a 1 --output json").await.unwrap();
    bench.line("put a 1").await.unwrap();
    assert_eq!(bench.printed(), "{\"revision\":1}\nOK\n");
}

#[tokio::test]
async fn script_stops_at_the_first_failure_with_its_code() {
    let bench = bench("# a comment\nput a 1\nget nope\nput b 2\n");
    assert_eq!(script::run(&bench.session).await, 1);
    assert_eq!(bench.printed(), "OK\n");
}

#[tokio::test]
async fn script_with_keep_going_runs_on_and_ends_with_the_first_code() {
    let mut bench = bench("nonsense\nget nope\n\nput b 2\nquit\nput c 3\n");
    bench.session.options.keep_going = true;
    assert_eq!(script::run(&bench.session).await, 2);
    assert_eq!(bench.printed(), "OK\n");
    assert_eq!(bench.fake.pairs(), [(b"b".to_vec(), b"2".to_vec())]);
}

#[tokio::test]
async fn value_from_stdin_is_the_rest_of_the_script() {
    let bench = bench("put a -\nline 1\nline 2\n");
    assert_eq!(script::run(&bench.session).await, 0);
    assert_eq!(bench.fake.pairs(), [(b"a".to_vec(), b"line 1\nline 2\n".to_vec())]);
}

#[tokio::test]
async fn scan_of_many_pages_gives_every_key_once_in_order_both_ways() {
    let bench = bench("");
    for number in 0..2_500 {
        bench.fake.put_batch(vec![(format!("k{number:05}").into(), "v".into())]).unwrap();
    }
    for reverse in [false, true] {
        let scan = Scan { limit: Some(2_300), reverse, ..Scan::default() };
        let mut pages = bench.session.store.range(scan, Consistency::Stale);
        let mut keys = Vec::new();
        let mut pages_read = 0;
        while let Some(page) = pages.next().await.unwrap() {
            pages_read += 1;
            keys.extend(page.items.into_iter().map(|pair| String::from_utf8(pair.key.to_vec()).unwrap()));
        }
        let number = |place: usize| if reverse { 2_499 - place } else { place };
        let expected: Vec<String> = (0..2_300).map(|place| format!("k{:05}", number(place))).collect();
        assert_eq!(keys, expected);
        assert_eq!(pages_read, 3);
    }
}

#[tokio::test]
async fn scan_with_limit_zero_prints_nothing() {
    let bench = bench("");
    bench.line("put a 1").await.unwrap();
    bench.line("scan --limit 0").await.unwrap();
    assert_eq!(bench.printed(), "OK\n");
}

#[tokio::test]
async fn import_puts_every_line_and_the_last_of_a_key_wins() {
    let bench = bench("import -\na\t1\nb\t2\na\t3");
    assert_eq!(script::run(&bench.session).await, 0);
    assert_eq!(bench.printed(), "acknowledged 3 lines\n");
    assert_eq!(bench.fake.pairs(), [(b"a".to_vec(), b"3".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
}

#[tokio::test]
async fn import_of_a_malformed_line_stores_the_lines_before_it_and_names_it() {
    let bench = bench("a\t1\nno tab here\nb\t2\n");
    let failure = bench.refused("import -").await;
    assert_eq!(failure.code(), 2);
    assert!(failure.message.contains("line 2") && failure.message.contains("first 1 lines"), "{}", failure.message);
    assert_eq!(bench.printed(), "acknowledged 1 lines\n");
    assert_eq!(bench.fake.pairs(), [(b"a".to_vec(), b"1".to_vec())]);
}

#[tokio::test]
async fn import_that_fails_says_how_far_it_is_certain() {
    let bench = bench("a\t1\nb\t2\nc\t3\n");
    bench.fake.plan([None, None, Some(Failure::new(Kind::Unknown, "outcome unknown: the leader is gone"))]);
    let failure = bench.refused("import -").await;
    assert_eq!(failure.code(), 3);
    assert!(failure.message.contains("first 2 lines are certainly stored"), "{}", failure.message);
    assert!(failure.message.contains("go on from line 3"), "{}", failure.message);
    assert_eq!(bench.printed(), "acknowledged 2 lines\n");
}

#[tokio::test]
async fn import_of_what_export_wrote_gives_the_same_store() {
    let every: Vec<u8> = (0..=255).collect();
    for (format, key, value) in [("tsv", &b"k \\"[..], &b"a\tb\r\xff"[..]), ("json", &every, &every)] {
        let from = bench("");
        from.fake.put_batch(vec![(key.to_vec().into(), value.to_vec().into()), ("z".into(), "".into())]).unwrap();
        from.line(&format!("export --format {format}")).await.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), from.out.take()).unwrap();
        let to = bench("");
        to.line(&format!("import --format {format} {}", file.path().display())).await.unwrap();
        assert_eq!(to.fake.pairs(), from.fake.pairs(), "{format}");
    }
}

#[tokio::test]
async fn export_in_tsv_stops_at_what_it_cannot_carry() {
    let bench = bench("");
    bench
        .fake
        .put_batch(vec![("a".into(), "1".into()), ("b\tc".into(), "2".into()), ("d".into(), "3".into())])
        .unwrap();
    let failure = bench.refused("export").await;
    assert_eq!(failure.code(), 2);
    assert!(failure.message.contains("b\\x09c"), "{}", failure.message);
    assert_eq!(bench.printed(), "a\t1\n");
}

#[tokio::test]
async fn bench_counts_what_it_did() {
    let bench = bench("");
    for line in ["bench put --duration 50ms --size 8", "bench get --duration 50ms --clients 2 --pipeline 3"] {
        bench.line(&format!("{line} --output json")).await.unwrap();
        let report: serde_json::Value = serde_json::from_str(&bench.printed()).unwrap();
        assert!(report["operations"].as_u64().unwrap() > 0 && report["errors"] == 0, "{report}");
    }
    assert_eq!(bench.refused("bench put --duration 5").await.code(), 2);
}

#[tokio::test]
async fn bench_at_a_rate_starts_no_more_than_that() {
    let bench = bench("");
    bench.line("bench put --duration 200ms --rate 100 --output json").await.unwrap();
    let report: serde_json::Value = serde_json::from_str(&bench.printed()).unwrap();
    let operations = report["operations"].as_u64().unwrap();
    assert!((1..=20).contains(&operations), "{report}");
    assert_eq!(report["rate"], 100);
}

#[tokio::test]
async fn bench_of_a_store_that_always_fails_is_a_failure() {
    let bench = bench("");
    bench.fake.plan((0..1_000).map(|_| Some(Failure::new(Kind::Unavailable, "unavailable: no leader"))));
    assert_eq!(bench.refused("bench put --duration 30ms").await.code(), 3);
}
