//! `--backend rocksdb`: refused with what to do in a build without it; with it, a node like any other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use support::run;

#[test]
fn rocksdb_setting_is_read_from_flag_variable_and_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("n.toml");
    std::fs::write(&file, "backend = \"rocksdb\"\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, origin) in [(&["--backend", "rocksdb"][..], "flag --backend"), (&["--config", file], "n.toml:1")] {
        let printed = run(&[&["serve", "--data-dir", "d", "--print-config"], arguments].concat()).ended(0).text();
        let line = printed.lines().find(|line| line.starts_with("backend")).unwrap().to_owned();
        assert!(line.contains("\"rocksdb\"") && line.contains(origin), "{line}");
    }
    for arguments in [&["serve", "--data-dir", "d"][..], &["demo"]] {
        let wrong = run(&[arguments, &["--backend", "disk"]].concat()).ended(2);
        assert!(wrong.stderr.contains("`memory` or `rocksdb`"), "{}", wrong.stderr);
    }
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn rocksdb_in_a_build_without_it_is_code_two_and_says_how_to_build_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let data_dir = ["--data-dir", path.to_str().unwrap(), "--backend", "rocksdb"];
    let base = support::free_ports(3).to_string();
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["demo", "--base-port", &base]] {
        let refused = run(&[command, &data_dir].concat()).ended(2);
        assert!(refused.stderr.contains("cargo install --path kvcli --features rocksdb"), "{}", refused.stderr);
        assert!(refused.stderr.contains("libclang"), "{}", refused.stderr);
    }
    assert!(!path.join("identity").exists(), "nothing was begun");
}

#[cfg(feature = "rocksdb")]
mod built {
    use super::support::{Finished, Server, free_ports, run, run_with};

    struct Single {
        address: String,
        directory: tempfile::TempDir,
    }

    impl Single {
        fn start(&self, backend: &str) -> Server {
            let directory = self.directory.path().to_str().unwrap();
            Server::start(&["--data-dir", directory, "--listen", &self.address, "--backend", backend])
        }

        fn run(&self, arguments: &[&str]) -> Finished {
            run(&[&["--endpoints", &self.address], arguments].concat())
        }

        fn export(&self) -> String {
            self.run(&["export", "--format", "json"]).ended(0).text()
        }
    }

    #[test]
    fn rocksdb_node_killed_again_and_again_keeps_what_it_acknowledged() {
        let single =
            Single { address: format!("127.0.0.1:{}", free_ports(1)), directory: tempfile::tempdir().unwrap() };
        let mut expected = Vec::new();
        for round in 0..6 {
            let server = single.start("rocksdb");
            assert_eq!(single.run(&["scan", "--count"]).ended(0).text().trim(), expected.len().to_string());
            let lines: String = (0..200).map(|key| format!("{round}-{key}\tvalue {key}\n")).collect();
            run_with(&["--endpoints", &single.address, "import", "-"], &lines).ended(0);
            expected.extend((0..200).map(|key| format!("{round}-{key}")));
            single.run(&["put", "counter", &round.to_string()]).ended(0);
            if round == 0 {
                expected.push("counter".to_owned());
            }
            match round % 2 {
                0 => server.kill(),
                _ => assert_eq!(server.stop().code(), Some(0)),
            }
        }
        let server = single.start("rocksdb");
        let here = single.export();
        assert_eq!(here.lines().count(), expected.len());
        assert!(here.lines().any(|line| line.contains("\"counter\"") && line.contains("\"version\":6")), "{here}");
        server.kill();
        // The log is the truth: what the other backend makes of it is the same, revisions and all.
        let server = single.start("memory");
        assert_eq!(single.export(), here);
        server.kill();
    }

    #[test]
    fn rocksdb_demo_runs_commands_and_finds_its_data_again() {
        let directory = tempfile::tempdir().unwrap();
        let (base, path) = (free_ports(3).to_string(), directory.path().to_str().unwrap());
        let demo = |stdin| {
            let arguments = ["demo", "--base-port", &base, "--data-dir", path, "--backend", "rocksdb"];
            run_with(&arguments, stdin).ended(0).text()
        };
        assert_eq!(demo("put a 1\nget a\n"), "OK\n1\n");
        assert_eq!(demo("get a\n"), "1\n");
        for node in 1..=3 {
            let state = directory.path().join(format!("{node}/groups/1/state"));
            assert!(std::fs::read_dir(&state).unwrap().count() == 1, "one database in {}", state.display());
        }
    }
}
