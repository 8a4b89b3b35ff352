//! A majority that is gone for good, on real processes: the best survivor goes on, and those that come back are refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "what goes wrong here fails the test")]

mod support;

use std::path::Path;

use support::{Cluster, Finished, Server, eventually, kvcli, run, run_with};

fn recover(directory: &Path, more: &[&str]) -> Finished {
    run(&[&["recover", "--data-dir", directory.to_str().unwrap()], more].concat())
}

fn import(cluster: &Cluster, name: &str) {
    let lines: String = (0..200).map(|number| format!("{name}-{number:03}\t{number}\n")).collect();
    run_with(&["--endpoints", &cluster.endpoints(), "--timeout", "20s", "import", "-"], lines).ended(0);
}

/// What one node has of the keys of an import.
fn count(address: &str, name: &str) -> String {
    run(&["--endpoints", address, "--timeout", "20s", "scan", name, "--count"]).ended(0).text()
}

/// Epoch and role of each member that answers.
fn epochs(address: &str) -> Vec<(u64, u64)> {
    let status = run(&["--endpoints", address, "--output", "json", "status"]).json();
    let rows = status.first().and_then(|status| status["nodes"].as_array().cloned()).unwrap_or_default();
    rows.iter().filter_map(|row| Some((row["id"].as_u64()?, row["epoch"].as_u64()?))).collect()
}

/// Whether one of two members leads.
fn leads(address: &str, ids: [u64; 2]) -> bool {
    let status = run(&["--endpoints", address, "--output", "json", "status"]).json();
    let rows = status.first().and_then(|status| status["nodes"].as_array().cloned()).unwrap_or_default();
    rows.iter().any(|row| row["role"] == "leader" && row["id"].as_u64().is_some_and(|id| ids.contains(&id)))
}

#[test]
fn recover_goes_on_with_the_last_node_and_the_others_are_refused_when_they_come_back() {
    let mut cluster = Cluster::start(3);
    import(&cluster, "early");
    let third = cluster.data_dir(2);
    let busy = recover(&third, &["--force"]).ended(2);
    assert!(busy.stderr.contains("in use"), "{}", busy.stderr);
    // Node 1 lags when all are stopped.
    cluster.nodes[0].take().unwrap().kill();
    import(&cluster, "late");
    cluster.stop_all();
    let rows: Vec<String> = (0..3).map(|place| recover(&cluster.data_dir(place), &[]).ended(0).text()).collect();
    let survivors: Vec<&str> = rows.iter().map(|row| row.split('\t').next().unwrap()).collect();
    assert!(rows[2].contains("\tepoch=1\tmembers=1,2,3\t") && rows[2].ends_with("\tsound\n"), "{}", rows[2]);
    let majority = recover(&third, &["--force", "--survivor", survivors[0]]).ended(1);
    assert!(majority.stderr.contains("are a majority of the voters"), "{}", majority.stderr);
    recover(&third, &["--survivor", survivors[0]]).ended(2);
    let wrong = recover(&third, &["--force", "--survivor", "1"]).ended(2);
    assert!(wrong.stderr.contains("ID=TERM:INDEX"), "{}", wrong.stderr);

    let done = recover(&third, &["--force", "--output", "json"]).ended(0);
    assert!(done.stderr.contains("counts as committed now"), "{}", done.stderr);
    let row = &done.json()[0];
    assert_eq!((row["id"].as_u64(), row["epoch"].as_u64(), row["already"].as_bool()), (Some(3), Some(2), Some(false)));
    let again = recover(&third, &["--force"]).ended(0);
    assert!(again.stderr.contains("it was recovered before (epoch 2)"), "{}", again.stderr);

    let address = cluster.address(2);
    let own = format!("3={address}");
    let as_before = run(&["serve", "--id", "3", "--cluster", &cluster.spec, "--data-dir", third.to_str().unwrap()]);
    assert!(as_before.ended(2).stderr.contains("its cluster has the members"));
    let recovered = Server::start(&["--id", "3", "--cluster", &own, "--data-dir", third.to_str().unwrap()]);
    eventually("the recovered node serves", || {
        (run(&["--endpoints", &address, "get", "none"]).code == 1).then_some(())
    });
    assert_eq!((count(&address, "early"), count(&address, "late")), ("200\n".to_owned(), "200\n".to_owned()));

    // The two others come back as a majority of before. Who dials the recovered node is told why it is refused.
    let log = cluster.directory.path().join("1.log");
    let mut first = kvcli();
    let data = cluster.data_dir(0);
    first.args(["serve", "--id", "1", "--cluster", &cluster.spec, "--data-dir", data.to_str().unwrap()]);
    first.args(["--log-level", "warn"]).stderr(std::fs::File::create(&log).unwrap());
    let first = support::Running::start(&mut first);
    cluster.restart(1);
    let old = cluster.address(1);
    eventually("the two others elect a leader", || leads(&old, [1, 2]).then_some(()));
    let told = eventually("node 1 is told", || {
        let told = std::fs::read_to_string(&log).unwrap();
        told.contains("this cluster was recovered (epoch 2) without node 1").then_some(told)
    });
    assert!(told.contains("let it join anew under a new number"), "{told}");
    // They lead themselves; who asks them is shown which life of the cluster each is in.
    assert_eq!(epochs(&old), [(1, 1), (2, 1), (3, 2)]);
    run(&["--endpoints", &address, "put", "new", "1"]).ended(0);
    assert_eq!(epochs(&address), [(3, 2)]);
    drop((first, recovered));
    cluster.stop_all();
    assert!(recover(&third, &["--force"]).ended(0).text().starts_with("recovered\t3\t2\t"));
}

#[test]
fn recover_of_a_single_node_or_of_anything_else_is_code_one_and_says_so() {
    let mut cluster = Cluster::start(1);
    import(&cluster, "key");
    cluster.stop_all();
    let alone = recover(&cluster.data_dir(0), &["--force"]).ended(1);
    assert!(alone.stderr.contains("no majority is lost, start it"), "{}", alone.stderr);
    let directory = tempfile::tempdir().unwrap();
    for force in [&[][..], &["--force"]] {
        let empty = recover(directory.path(), force).ended(1);
        assert!(empty.stderr.contains("never belonged to a cluster"), "{}", empty.stderr);
        let missing = directory.path().join("none");
        recover(&missing, force).ended(2);
        assert!(!missing.exists() && support::names(directory.path()).is_empty());
    }
    std::fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    let foreign = recover(directory.path(), &["--force"]).ended(1);
    assert!(foreign.stderr.contains("notes.txt"), "{}", foreign.stderr);
    std::fs::write(directory.path().join("identity"), "garbage").unwrap();
    recover(directory.path(), &["--force"]).ended(1);
    assert_eq!(support::names(directory.path()), ["identity", "notes.txt"]);
}
