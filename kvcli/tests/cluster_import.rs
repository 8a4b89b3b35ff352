//! A real package list goes into three processes and comes out of each of them, before and after a restart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::fmt::Write as _;
use std::process::Command;

use support::{Cluster, last_wins};

/// The package list of this machine, else lines of the same shape, some keys among them twice.
fn package_list() -> String {
    let listed = Command::new("dpkg-query").args(["-W", "-f", "${Package}\t${Version}\n"]).output();
    if let Ok(listed) = listed
        && listed.status.success()
        && !listed.stdout.is_empty()
    {
        return String::from_utf8(listed.stdout).unwrap();
    }
    (0..1_000).fold(String::new(), |mut text, number| {
        writeln!(text, "lib-package-{}\t1:{number}.2+deb12u{}", number * 7 % 900, number % 5).unwrap();
        text
    })
}

/// Asserts that every node exports what the list says, sorted.
#[track_caller]
fn assert_exports(cluster: &Cluster, list: &str) {
    let expected = last_wins(list).iter().fold(String::new(), |out, (key, value)| out + key + "\t" + value + "\n");
    for place in 0..cluster.nodes.len() {
        let exported = cluster.export(place);
        let mut sorted: Vec<&str> = exported.lines().collect();
        // An export is sorted by key; lines sort otherwise where one key begins another.
        sorted.sort_unstable();
        let mut lines: Vec<&str> = expected.lines().collect();
        lines.sort_unstable();
        assert!(sorted == lines, "node {} exports something else", place + 1);
    }
}

#[test]
fn import_of_a_package_list_is_exported_by_each_node_and_survives_a_restart() {
    let mut cluster = Cluster::start(3);
    let list = package_list();
    let file = cluster.directory.path().join("packages.tsv");
    std::fs::write(&file, &list).unwrap();
    let done = cluster.run(&["import", file.to_str().unwrap()]).ended(0);
    assert_eq!(done.text(), format!("acknowledged {} lines\n", list.lines().count()));
    assert_exports(&cluster, &list);
    // A repeated key, whatever the list: the last line of it must win.
    let key = list.split('\t').next().unwrap();
    let again = format!("{key}\tfirst\n{key}\tlast\n");
    std::fs::write(&file, &again).unwrap();
    cluster.run(&["import", file.to_str().unwrap()]).ended(0);
    let list = list + &again;
    assert_exports(&cluster, &list);
    cluster.stop_all();
    let last = cluster.assert_same_logs();
    assert!(last as usize >= list.lines().count(), "the overlap ends at {last}");
    (0..3).for_each(|place| cluster.restart(place));
    assert_exports(&cluster, &list);
}
