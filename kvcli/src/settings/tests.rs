use std::time::Duration;

use super::*;
use crate::args::Format;

fn flags(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs.iter().map(|(name, text)| (*name, (*text).to_owned())).collect()
}

fn sources(pairs: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Sources<'static> {
    let environment = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Sources { flags: flags(pairs), environment, file: None }
}

fn from_file(text: &str) -> Result<Vec<Given>, String> {
    file::parse(Path::new("n.toml"), text).map_err(|failure| failure.message)
}

#[test]
fn table_names_every_field_of_the_configuration() {
    let mut config = Config::single("d");
    config.advertise = Some("a:1".to_owned());
    let table = toml::Table::try_from(&config).unwrap();
    let mut fields: Vec<&str> = table.keys().map(String::as_str).collect();
    let mut names: Vec<&str> = knobs().iter().map(|knob| knob.name).collect();
    fields.sort_unstable();
    names.sort_unstable();
    assert_eq!(fields, names);
}

#[test]
fn data_dir_alone_is_a_single_node_on_the_default_port() {
    let resolved = resolve(&sources(&[("data_dir", "d")], &[])).unwrap();
    assert_eq!((resolved.config.id, resolved.config.listen.as_str()), (NodeId(1), "127.0.0.1:7101"));
    assert!(resolved.config.cluster.0.is_empty());
}

#[test]
fn listen_follows_the_own_address_in_the_cluster() {
    let resolved = resolve(&sources(&[("data_dir", "d"), ("id", "2"), ("cluster", "1=a:1,2=b:2")], &[])).unwrap();
    assert_eq!(resolved.config.listen, "b:2");
    assert!(print(&resolved, Format::Plain).contains("# from cluster"));
}

#[test]
fn what_is_missing_is_named() {
    assert!(resolve(&sources(&[], &[])).unwrap_err().message.contains("--data-dir"));
    let without_id = resolve(&sources(&[("data_dir", "d"), ("cluster", "1=a:1")], &[]));
    assert!(without_id.unwrap_err().message.contains("--id"));
}

#[test]
fn flag_goes_before_environment_before_file_before_default() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("n.toml");
    std::fs::write(&path, "data_dir = \"file\"\nid = 3\nheartbeat = \"20ms\"\nmax_clients = 7\n").unwrap();
    let mut sources = sources(&[("id", "5")], &[("DLEDGER_ID", "4"), ("DLEDGER_HEARTBEAT", "30ms")]);
    sources.file = Some(&path);
    let resolved = resolve(&sources).unwrap();
    assert_eq!(resolved.config.id, NodeId(5));
    assert_eq!(resolved.config.heartbeat, Duration::from_millis(30));
    assert_eq!(resolved.config.max_clients, 7);
    let text = print(&resolved, Format::Plain);
    for part in ["# flag --id", "# environment DLEDGER_HEARTBEAT", "n.toml:4", "# default"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn printed_configuration_reads_back_as_the_same() {
    let resolved = resolve(&sources(&[("data_dir", "a \"b\"\\c"), ("durability", "async:5ms")], &[])).unwrap();
    let given = from_file(&print(&resolved, Format::Plain)).unwrap();
    let flags = given.into_iter().filter(|(_, text, _)| !text.is_empty()).map(|(name, text, _)| (name, text)).collect();
    let again = resolve(&Sources { flags, environment: Vec::new(), file: None }).unwrap();
    assert_eq!(again.config, resolved.config);
}

#[test]
fn unknown_key_is_refused_with_line_and_suggestion() {
    let message = from_file("id = 1\n\nheartbeet = \"5ms\"\n").unwrap_err();
    assert!(message.contains("n.toml:3") && message.contains("did you mean `heartbeat`?"), "{message}");
    let message = from_file("[table]\nid = 1\n").unwrap_err();
    assert!(message.contains("n.toml:1") && message.contains("unknown key `table`"), "{message}");
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_their_line() {
    for (text, part) in [
        ("id = \"1\"", "whole number"),
        ("id = -1", "whole number"),
        ("data_dir = 5", "a string"),
        ("insecure = \"yes\"", "true or false"),
        ("id = ", "n.toml:1"),
        ("id = 1\nid = 2", "n.toml:2"),
    ] {
        let message = from_file(text).unwrap_err();
        assert!(message.contains(part) && !message.contains('\n'), "{text}: {message}");
    }
}

#[test]
fn values_that_do_not_parse_name_their_origin() {
    let heartbeat = resolve(&sources(&[("data_dir", "d")], &[("DLEDGER_HEARTBEAT", "50")])).unwrap_err().message;
    assert!(heartbeat.contains("environment DLEDGER_HEARTBEAT") && heartbeat.contains("50ms"), "{heartbeat}");
    let id = resolve(&sources(&[("data_dir", "d"), ("id", "one")], &[])).unwrap_err().message;
    assert!(id.contains("flag --id"), "{id}");
}

#[test]
fn variable_that_is_no_setting_is_a_warning() {
    let resolved = resolve(&sources(&[("data_dir", "d")], &[("DLEDGER_LISTN", "a:1"), ("OTHER", "x")])).unwrap();
    assert_eq!(resolved.warnings.len(), 1);
    assert!(resolved.warnings[0].contains("did you mean `listen`?"));
}
