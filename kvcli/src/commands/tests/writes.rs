//! Conditional writes, transactions, leases and watches.

use std::time::Duration;

use dledger::kv::WatchError;
use dledger::types::Index;

use super::{Bench, bench};
use crate::exit::{Failure, Kind, Outcome};
use crate::script;
use crate::store::fake::MAX_KEY_BYTES;

impl Bench {
    /// What a line prints, which must end well.
    async fn prints(&self, line: &str) -> String {
        assert_eq!(self.line(line).await, Ok(Outcome::Done), "{line}");
        self.printed()
    }

    /// The message of a line whose answer is "no".
    async fn says_no(&self, line: &str) -> String {
        let failure = self.refused(line).await;
        assert_eq!((failure.kind, failure.code()), (Kind::No, 1), "{line}: {}", failure.message);
        assert_eq!(self.printed(), "", "{line}");
        failure.message
    }

    /// How a transaction from a file ends, and what it prints.
    async fn txn(&self, text: &str) -> (Result<Outcome, Failure>, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let ended = self.line(&format!("txn {}", file.path().display())).await;
        (ended, self.printed())
    }
}

#[tokio::test]
async fn put_on_a_condition_writes_only_when_it_holds() {
    let bench = bench("");
    assert_eq!(bench.prints("put a 1 --if-absent --output json").await, "{\"revision\":1}\n");
    assert!(bench.says_no("put a 2 --if-absent").await.contains("key `a` is there already"));
    assert_eq!(bench.prints("put a 3 --if-revision 1").await, "OK\n");
    assert!(bench.says_no("put a 4 --if-revision 1").await.contains("not last written at revision 1"));
    assert_eq!(bench.prints("put b 5 --if-revision 0").await, "OK\n");
    assert_eq!(bench.fake.pairs(), [(b"a".to_vec(), b"3".to_vec()), (b"b".to_vec(), b"5".to_vec())]);
}

#[tokio::test]
async fn cas_writes_over_the_expected_value_alone() {
    let bench = bench("");
    assert!(bench.says_no("cas a \"\" new").await.contains("is absent"));
    bench.prints("put a \"old\\x00\"").await;
    assert!(bench.says_no("cas a old new").await.contains("nothing was written"));
    assert_eq!(bench.prints("cas a \"old\\x00\" new --output json").await, "{\"revision\":4}\n");
    assert_eq!(bench.prints("get a").await, "new\n");
}

#[tokio::test]
async fn incr_counts_from_nothing_and_refuses_what_is_no_number() {
    let bench = bench("");
    assert_eq!(bench.prints("incr n").await, "1\n");
    assert_eq!(bench.prints("incr n -43 --output json").await, "{\"value\":-42,\"revision\":2}\n");
    assert_eq!(bench.prints("incr n 2 --output table").await, "VALUE  REVISION\n-40    3\n");
    bench.prints("put n twelve").await;
    assert!(bench.says_no("incr n").await.contains("key `n` does not hold a number"));
    bench.prints("put n 9223372036854775807").await;
    assert!(bench.says_no("incr n").await.contains("64 bits"));
    assert_eq!(bench.prints("get n").await, "9223372036854775807\n");
}

#[tokio::test]
async fn txn_answers_each_operation_of_its_branch_in_one_line_of_json() {
    let bench = bench("");
    bench.prints("put a 1").await;
    let text = r#"{"compare": [{"key": "a", "target": "value", "op": "=", "to": "1"}],
        "then": [{"get": {"key": "a"}}, {"put": {"key": "b", "value": {"base64": "/w=="}}}, {"delete": {"key": "a"}},
                 {"delete": {"key": "c"}}, {"get": {"key": "c"}}, {"add": {"key": "n", "by": 7}}],
        "else": [{"get": {"key": "b"}}]}"#;
    let then = concat!(
        r#"{"succeeded":true,"revision":2,"results":["#,
        r#"{"key":"a","value":"1","create_revision":1,"mod_revision":1,"version":1,"lease":null},"#,
        r#"{},{"deleted":1},{"deleted":0},null,{"value":7}]}"#,
        "\n"
    );
    assert_eq!(bench.txn(text).await, (Ok(Outcome::Done), then.to_owned()));
    let otherwise = concat!(
        r#"{"succeeded":false,"revision":3,"results":["#,
        r#"{"key":"b","value":{"base64":"/w=="},"create_revision":2,"mod_revision":2,"version":1,"lease":null}]}"#,
        "\n"
    );
    assert_eq!(bench.txn(text).await, (Ok(Outcome::No), otherwise.to_owned()));
}

#[tokio::test]
async fn txn_in_a_table_names_the_operations() {
    let bench = bench(
        r#"txn - --output table
{"then": [{"put": {"key": "a", "value": "1\t2"}}, {"get": {"key": "a"}}, {"delete": {"key": "b"}}, {"get": {"key": "b"}}]}"#,
    );
    assert_eq!(script::run(&bench.session).await, 0);
    let table = "PART      RESULT\nrevision  1\nthen[0]   OK\nthen[1]   1\\x092\nthen[2]   0\nthen[3]   -\n";
    assert_eq!(bench.printed(), table);
}

#[tokio::test]
async fn txn_with_a_mistake_names_its_place_and_is_not_sent() {
    let bench = bench("");
    for (text, place) in [
        ("{", "line 1 column 1"),
        (r#"{"then": [{"get": {"key": "a"}}, {"put": {"key": "a"}}]}"#, "then[1].put.value: is missing"),
        (
            r#"{"else": [{"put": {"key": "a", "value": ""}}, {"delete": {"key": "a"}}]}"#,
            "else[1]: key `a` is written twice",
        ),
    ] {
        let (ended, printed) = bench.txn(text).await;
        let failure = ended.unwrap_err();
        assert_eq!((failure.code(), printed.as_str()), (2, ""), "{}", failure.message);
        assert!(failure.message.contains(place), "{}", failure.message);
    }
    assert_eq!(bench.prints("put a 1 --output json").await, "{\"revision\":1}\n");
    assert!(bench.refused("txn /nowhere/at/all").await.message.starts_with("cannot read /nowhere"));
}

#[tokio::test]
async fn txn_over_a_limit_is_refused_with_the_place() {
    let bench = bench("");
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    let (ended, _) =
        bench.txn(&format!(r#"{{"then": [{{"get": {{"key": "a"}}}}, {{"get": {{"key": "{long}"}}}}]}}"#)).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.code(), 4);
    assert!(failure.message.starts_with("then[1]: refused: a key of 4097 bytes"), "{}", failure.message);
}

#[tokio::test]
async fn leases_take_their_keys_with_them() {
    let bench = bench("");
    assert_eq!(bench.prints("lease grant 10").await, "1\n");
    assert_eq!(bench.prints("lease grant 1500ms --output json").await, "{\"id\":2,\"ttl_ms\":1500}\n");
    bench.prints("put a 1 --lease 1").await;
    bench.prints("put b 1 --if-absent --lease 2").await;
    assert_eq!(bench.prints("lease list").await, "1\tttl=10s\tkeys=1\n2\tttl=1s 500ms\tkeys=1\n");
    assert!(bench.prints("get b --output json").await.contains("\"lease\":2"));
    bench.fake.pass(Duration::from_secs(1));
    assert_eq!(bench.prints("lease keepalive 2 --output json").await, "{\"id\":2,\"ttl_ms\":1500}\n");
    bench.fake.pass(Duration::from_secs(1));
    assert_eq!(bench.prints("get b").await, "1\n");
    assert_eq!(bench.prints("lease revoke 1").await, "1\n");
    bench.fake.pass(Duration::from_secs(1));
    assert_eq!(bench.fake.pairs(), []);
    for line in ["lease keepalive 2", "lease revoke 1", "put a 1 --lease 1", "put c 1 --if-absent --lease 2"] {
        assert!(bench.says_no(line).await.contains("has ended or never was"), "{line}");
    }
    assert_eq!(bench.prints("lease list --output json").await, "");
}

#[tokio::test]
async fn watch_tells_every_change_of_its_keys_up_to_the_count() {
    let bench = bench("");
    for line in ["put a 1", "put ab \"2\\x09\"", "put b 3", "del --prefix a", "put a \"\\xff\""] {
        bench.prints(line).await;
    }
    let all = "PUT\ta\t1\t1\nPUT\tab\t2\t\t2\nDELETE\ta\t\t4\nDELETE\tab\t\t4\n";
    assert_eq!(bench.prints("watch --prefix a --from-revision 1 --count 4").await, all);
    assert_eq!(bench.prints("watch --prefix a --from-revision 2 --count 2").await, "PUT\tab\t2\t\t2\nDELETE\ta\t\t4\n");
    let json = concat!(
        r#"{"type":"delete","key":"a","value":null,"mod_revision":4}"#,
        "\n",
        r#"{"type":"put","key":"a","value":{"base64":"/w=="},"mod_revision":5}"#,
        "\n"
    );
    assert_eq!(bench.prints("watch a --from-revision 2 --count 2 --output json").await, json);
    let table = "TYPE  KEY  VALUE  REVISION\nPUT   b    3      3\n";
    assert_eq!(bench.prints("watch b --from-revision 1 --count 1 --output table").await, table);
}

#[tokio::test]
async fn watch_waits_out_an_outage_and_goes_on_where_it_was() {
    let bench = bench("");
    bench.prints("put a 1").await;
    let outage = || WatchError::Unavailable("no leader".to_owned());
    bench.fake.plan_watch([outage(), outage()]);
    assert_eq!(bench.prints("watch a --from-revision 1 --count 1").await, "PUT\ta\t1\t1\n");
}

#[tokio::test]
async fn watch_of_history_that_is_gone_says_what_to_do_and_is_code_one() {
    let bench = bench("");
    bench.fake.plan_watch([WatchError::Compacted { oldest: Index(7) }, WatchError::Refused("no".to_owned())]);
    let said = bench.says_no("watch a --from-revision 1").await;
    assert!(said.contains("before revision 7 are gone; read the keys anew"), "{said}");
    assert_eq!(bench.refused("watch a --from-revision 1").await.code(), 4);
}

#[tokio::test]
async fn import_of_an_export_keeps_any_bytes_of_keys_and_values() {
    let long = vec![0xfe; MAX_KEY_BYTES];
    let cases: [(&[u8], &[u8]); 6] = [
        (b"\0", b"\0\0"),
        (b"\xff\xfe", b"\xc3\x28"),
        (b"tab\tkey", b"a\tb"),
        (b"line\nkey", b"a\nb\r\n"),
        (b"empty", b""),
        (&long, b"long"),
    ];
    let from = bench("");
    for (key, value) in cases {
        from.fake.put_batch(vec![(key.to_vec().into(), value.to_vec().into())]).unwrap();
    }
    let exported = from.prints("export --format json").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), exported).unwrap();
    let to = bench("");
    to.line(&format!("import --format json {}", file.path().display())).await.unwrap();
    assert_eq!(to.fake.pairs(), from.fake.pairs());
    assert_eq!(to.fake.pairs().len(), cases.len());
}
