//! Asynchronous nodes whose machines lost power: they say that they doubt their logs, and make no leader of a majority of
//! doubts.
//!
//! The power is not cut; the file that names the run of the machine in which a log was written is made to name another.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what goes wrong here fails the test")]

mod support;

use support::{Cluster, Server, eventually, free_ports, run};

fn start(cluster: &Cluster, place: u16) -> Server {
    let (id, directory) = ((place + 1).to_string(), cluster.data_dir(place));
    let directory = directory.to_str().unwrap();
    Server::start(&["--id", &id, "--cluster", &cluster.spec, "--data-dir", directory, "--durability", "async:10ms"])
}

fn lose_power(cluster: &mut Cluster) {
    cluster.kill_all();
    for place in 0..3 {
        let group = cluster.data_dir(place).join("groups/1");
        std::fs::write(group.join("unsynced"), "another run of the machine").unwrap();
    }
}

#[test]
fn power_failure_on_all_asynchronous_nodes_waits_for_all_of_them_and_says_why() {
    let base = free_ports(3);
    let members: Vec<String> = (0..3).map(|place| format!("{}=127.0.0.1:{}", place + 1, base + place)).collect();
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster { spec: members.join(","), base, directory, nodes: Vec::new() };
    for place in 0..3 {
        let server = start(&cluster, place);
        cluster.nodes.push(Some(server));
    }
    cluster.run(&["put", "before", "1"]).ended(0);
    lose_power(&mut cluster);
    for place in 0..2 {
        cluster.nodes[usize::from(place)] = Some(start(&cluster, place));
    }
    let both = format!("{},{}", cluster.address(0), cluster.address(1));
    let refused = run(&["--endpoints", &both, "--timeout", "1s", "put", "between", "1"]).ended(3);
    assert!(refused.stderr.contains("no leader was found in time"), "{}", refused.stderr);
    let status = run(&["--endpoints", &both, "status", "--output", "json"]).json();
    let nodes = status[0]["nodes"].as_array().unwrap();
    let said = |error: &serde_json::Value| error.as_str().is_some_and(|it| it.contains("an election of all members"));
    assert_eq!(nodes.iter().filter(|node| said(&node["error"])).count(), 2, "{nodes:?}");

    cluster.nodes[2] = Some(start(&cluster, 2));
    cluster.run(&["put", "after", "1"]).ended(0);
    cluster.run(&["get", "before"]).ended(0);
    eventually("nobody is in doubt any more", || {
        let status = cluster.run(&["status", "--output", "json"]).json();
        status[0]["nodes"].as_array().unwrap().iter().all(|node| node["error"].is_null()).then_some(())
    });
    cluster.stop_all();
}
