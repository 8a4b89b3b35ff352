use dledger::types::Index;

use super::*;
use dledger::node::{MemberStatus, Standing};
use dledger::types::NodeId;

use crate::store::{NodeAnswer, NodeRow, Place};

#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shown(answer: Answer<'_>, format: Format, style: Style) -> Vec<u8> {
    let captured = Captured::default();
    Printer::to(captured.clone(), format, style).print(answer).unwrap();
    captured.take()
}

fn text(answer: Answer<'_>, format: Format) -> String {
    String::from_utf8(shown(answer, format, Style::Raw)).unwrap()
}

fn pair(key: &[u8], value: &[u8]) -> KeyValue {
    KeyValue {
        lease: dledger::types::LeaseId::ZERO,
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        create_revision: Index(5),
        mod_revision: Index(7),
        version: 2,
    }
}

fn nodes() -> Nodes {
    let answer = |role: &str, applied| NodeAnswer {
        role: role.to_owned(),
        term: 3,
        epoch: 2,
        leader: Some(1),
        first: 1,
        last: 9,
        durable: 9,
        committed: applied,
        applied,
        disk_bytes: 4096,
        snapshot: 4,
        received: 77,
        damaged: 3,
        mended: 5,
        scrubbed: 7,
        scrub_rounds: 2,
        version: "0.1.0".to_owned(),
        error: None,
    };
    let place = |id: u64| Place { standing: "voter".to_owned(), matched: Some(id + 5), snapshotting: false };
    let row = |id, answer| NodeRow { id, address: format!("127.0.0.1:{}", 7100 + id), place: Some(place(id)), answer };
    let rows = vec![
        row(1, Ok(answer("leader", 9))),
        row(2, Ok(answer("follower", 6))),
        row(3, Err("connection refused".to_owned())),
    ];
    Nodes { cluster_id: Some("ab".to_owned()), nodes: rows }
}

#[test]
fn plain_bytes_are_raw_in_pipes_and_visible_on_terminals() {
    let found = pair(b"k", b"a\x1b[2J\xff");
    assert_eq!(shown(Answer::Got(&found), Format::Plain, Style::Raw), b"a\x1b[2J\xff\n");
    assert_eq!(shown(Answer::Got(&found), Format::Plain, Style::Visible), b"a\\x1b[2J\\xff\n");
}

#[test]
fn plain_answers_are_those_of_the_contract() {
    assert_eq!(text(Answer::Put(9), Format::Plain), "OK\n");
    assert_eq!(text(Answer::Deleted(Deleted { count: 2, revision: Index(9) }), Format::Plain), "2\n");
    assert_eq!(text(Answer::Count(4), Format::Plain), "4\n");
    assert_eq!(text(Answer::Acknowledged(4), Format::Plain), "acknowledged 4 lines\n");
    let pairs = [pair(b"a", b"1"), pair(b"b", b"2")];
    let page = |keys_only| Answer::Pairs { pairs: &pairs, keys_only, first: true };
    assert_eq!(text(page(false), Format::Plain), "a\t1\nb\t2\n");
    assert_eq!(text(page(true), Format::Plain), "a\nb\n");
}

#[test]
fn plain_status_has_a_row_for_every_node() {
    let shown = text(Answer::Nodes(&nodes()), Format::Plain);
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0][..4], ["1", "127.0.0.1:7101", "leader", "epoch=2"]);
    assert!(rows[1].contains(&"lag=3") && rows[1].contains(&"standing=voter") && rows[1].contains(&"matched=7"));
    assert_eq!(rows[2][2..], ["unreachable", "connection refused"]);
}

#[test]
fn json_pair_has_the_fields_of_the_contract() {
    assert_eq!(
        text(Answer::Got(&pair(b"k", b"v\"")), Format::Json),
        "{\"key\":\"k\",\"value\":\"v\\\"\",\"create_revision\":5,\"mod_revision\":7,\"version\":2,\"lease\":null}\n"
    );
    let shown = text(Answer::Got(&pair(b"\xff", b"")), Format::Json);
    assert!(shown.starts_with("{\"key\":{\"base64\":\"/w==\"},\"value\":\"\","), "{shown}");
    let pairs = [pair(b"a", b"1")];
    let shown = text(Answer::Pairs { pairs: &pairs, keys_only: true, first: true }, Format::Json);
    assert!(shown.starts_with("{\"key\":\"a\",\"create_revision\":5"), "{shown}");
}

#[test]
fn json_answers_have_the_fields_of_the_contract() {
    assert_eq!(text(Answer::Put(9), Format::Json), "{\"revision\":9}\n");
    let deleted = Answer::Deleted(Deleted { count: 2, revision: Index(9) });
    assert_eq!(text(deleted, Format::Json), "{\"deleted\":2,\"revision\":9}\n");
    assert_eq!(text(Answer::Count(4), Format::Json), "{\"count\":4}\n");
}

#[test]
fn json_status_names_unreachable_members() {
    let shown = text(Answer::Nodes(&nodes()), Format::Json);
    let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["cluster_id"], "ab");
    let fields = [
        "id",
        "address",
        "role",
        "epoch",
        "term",
        "committed",
        "applied",
        "durable",
        "first",
        "last",
        "lag",
        "disk_bytes",
        "snapshot",
        "snapshot_bytes_received",
        "damaged",
        "mended",
        "scrubbed",
        "scrub_rounds",
        "standing",
        "matched",
        "snapshotting",
        "version",
        "error",
    ];
    for row in value["nodes"].as_array().unwrap() {
        let names: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.len(), fields.len());
        assert!(fields.iter().all(|field| names.contains(field)), "{names:?}");
    }
    assert_eq!(value["nodes"][2]["role"], "unreachable");
    assert_eq!(value["nodes"][2]["error"], "connection refused");
    assert_eq!(value["nodes"][1]["lag"], 3);
}

#[test]
fn table_columns_are_aligned_and_hold_no_control_bytes() {
    let pairs = [pair(b"a\n", b"1"), pair(b"longer key", b"2")];
    let shown = text(Answer::Pairs { pairs: &pairs, keys_only: false, first: true }, Format::Table);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3);
    let column = lines[0].find("VALUE").unwrap();
    assert_eq!(&lines[1][column..=column], "1");
    assert_eq!(&lines[2][column..=column], "2");
    assert!(shown.contains("a\\x0a"));
    assert_eq!(text(Answer::Nodes(&nodes()), Format::Table).lines().count(), 4);
}

#[test]
fn leader_is_the_one_of_the_highest_term() {
    let mut all = nodes();
    if let Ok(answer) = &mut all.nodes[1].answer {
        answer.term = 4;
        answer.leader = Some(2);
    }
    assert_eq!(all.leader(), Some(2));
}

#[test]
fn repair_answers_say_what_is_damaged_and_what_a_cut_gave_up_in_every_format() {
    let hole = |terms: Vec<u64>| HoleRow {
        file: "1.seg".to_owned(),
        offset: 16_384,
        first: 4,
        last: 6,
        terms,
        bytes: 300,
        reason: "rotten".to_owned(),
    };
    let holes = [hole(vec![1, 2]), hole(Vec::new())];
    let shown = text(Answer::Holes(&holes), Format::Plain);
    assert_eq!(shown, "1.seg\t16384\t4\t6\t1,2\t300\trotten\n1.seg\t16384\t4\t6\t-\t300\trotten\n");
    let shown = text(Answer::Holes(&holes[..1]), Format::Json);
    assert_eq!(
        shown,
        "{\"file\":\"1.seg\",\"offset\":16384,\"first\":4,\"last\":6,\"terms\":[1,2],\"bytes\":300,\"reason\":\"rotten\"}\n"
    );
    assert!(text(Answer::Holes(&holes), Format::Table).starts_with("FILE   OFFSET"));
    let cut = CutRow { first: 4, last: 9, committed: 3, aside: "d/damaged-4-1".to_owned() };
    assert_eq!(text(Answer::CutAway(&cut), Format::Plain), "cut\t4\t9\t3\td/damaged-4-1\n");
    let shown = text(Answer::CutAway(&cut), Format::Json);
    assert_eq!(shown, "{\"lost_first\":4,\"lost_last\":9,\"committed\":3,\"aside\":\"d/damaged-4-1\"}\n");
}

#[test]
fn survivor_is_shown_first_by_what_is_passed_on_to_the_others() {
    let sound = SurvivorRow {
        survivor: "3=7:105".to_owned(),
        id: 3,
        cluster_id: "ab".to_owned(),
        epoch: 1,
        members: vec![(1, "h:1".to_owned(), true), (3, "h:3".to_owned(), false)],
        term: 7,
        index: 105,
        voted_term: 8,
        committed: 104,
        snapshot: 90,
        damage: None,
    };
    let plain = "3=7:105\tcluster=ab\tepoch=1\tmembers=1,3\tvoted=8\tcommitted=104\tsnapshot=90\tsound\n";
    assert_eq!(text(Answer::Survivor(&sound), Format::Plain), plain);
    let table = text(Answer::Survivor(&sound), Format::Table);
    assert_eq!(table.lines().nth(1).unwrap().split_whitespace().next(), Some("3=7:105"));
    let value: serde_json::Value = serde_json::from_str(&text(Answer::Survivor(&sound), Format::Json)).unwrap();
    assert_eq!((&value["survivor"], &value["damage"]), (&"3=7:105".into(), &serde_json::Value::Null));
    assert_eq!(value["members"][1], serde_json::json!({ "id": 3, "address": "h:3", "voter": false }));
    let bad = SurvivorRow { damage: Some("a\nhole".to_owned()), members: vec![], ..sound };
    assert!(
        text(Answer::Survivor(&bad), Format::Plain)
            .ends_with("\tmembers=\tvoted=8\tcommitted=104\tsnapshot=90\ta\\x0ahole\n")
    );
}

#[test]
fn recovered_node_is_shown_with_its_epoch_and_what_counts_as_committed() {
    let address = "h:3".to_owned();
    let row = RecoveredRow { id: 3, address, epoch: 2, index: 106, already: false };
    assert_eq!(text(Answer::Recovered(&row), Format::Plain), "recovered\t3\t2\t106\n");
    let shown = text(Answer::Recovered(&row), Format::Json);
    assert_eq!(shown, "{\"id\":3,\"address\":\"h:3\",\"epoch\":2,\"index\":106,\"already\":false}\n");
}

fn members() -> MemberList {
    let member = |id: u64| MemberStatus::voter(NodeId(id), format!("127.0.0.1:{}", 7100 + id));
    let joining = MemberStatus {
        standing: Standing::Joining,
        replaces: Some(NodeId(2)),
        matched: Some(Index(3)),
        snapshotting: true,
        ..member(4)
    };
    let leader = MemberStatus { priority: 9, matched: Some(Index(20)), ..member(1) };
    MemberList { leader: Some(NodeId(1)), members: vec![leader, member(2), joining] }
}

#[test]
fn plain_members_have_a_row_each_with_progress_and_the_leaders_mark() {
    assert_eq!(
        text(Answer::Members(&members()), Format::Plain),
        "1\t127.0.0.1:7101\tvoter\tpriority=9\tmatched=20\tleader\n\
         2\t127.0.0.1:7102\tvoter\tpriority=0\tmatched=-\n\
         4\t127.0.0.1:7104\tjoining\tpriority=0\tmatched=3\treplaces=2\tsnapshot\n"
    );
    assert_eq!(text(Answer::MembersChanged(&members()), Format::Plain), "OK\n");
    assert_eq!(text(Answer::Leads(4), Format::Plain), "OK\n");
}

#[test]
fn json_members_are_one_object_for_the_list_and_for_a_change_of_it() {
    let shown = text(Answer::Members(&members()), Format::Json);
    let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["leader"], 1);
    let joining = serde_json::json!({
        "id": 4, "address": "127.0.0.1:7104", "standing": "joining", "priority": 0, "leader": false, "replaces": 2,
        "matched": 3, "snapshotting": true,
    });
    assert_eq!(value["members"][2], joining);
    assert_eq!(value["members"][1]["matched"], serde_json::Value::Null);
    assert_eq!(text(Answer::MembersChanged(&members()), Format::Json), shown);
    assert_eq!(text(Answer::Leads(4), Format::Json), "{\"leader\":4}\n");
}

#[test]
fn table_members_and_status_have_a_cell_for_every_column() {
    let shown = text(Answer::Members(&members()), Format::Table);
    let cells = |text: &str| text.lines().map(|line| line.split_whitespace().count()).collect::<Vec<_>>();
    assert_eq!(cells(&shown), [8; 4], "{shown}");
    let shown = text(Answer::Nodes(&nodes()), Format::Table);
    assert_eq!(cells(&shown)[..3], [22; 3], "{shown}");
    assert!(shown.lines().last().unwrap().contains("voter"), "what the leader says of a node that is away: {shown}");
}
