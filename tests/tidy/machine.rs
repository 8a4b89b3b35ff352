//! Seams: which file may touch what. Everything else gets it as a value or an input, which is what makes a run
//! repeatable and a power cut testable.

use super::paths;
use super::source::{Finding, Project, Source};

/// A rule: these paths only in those files of the library.
struct Seam {
    paths: &'static [&'static str],
    /// Files, or directories with a `/` at the end; `*` stands for any characters within a name.
    only_in: &'static [&'static str],
    /// Test code is free.
    tests_free: bool,
    instead: &'static str,
}

const SEAMS: &[Seam] = &[
    Seam {
        paths: &["std::fs", "std::os::unix::fs", "tokio::fs", "memmap2", "rustix::fs", "rustix::mm"],
        only_in: &["src/env/os.rs", "src/env/mmap.rs"],
        tests_free: true,
        instead: "use `env::Disk`",
    },
    Seam {
        paths: &["std::time::Instant", "std::time::SystemTime", "std::time::UNIX_EPOCH", "rustix::time"],
        only_in: &["src/env/os.rs"],
        tests_free: true,
        instead: "use `env::Clock`, or take the time as an input",
    },
    Seam {
        paths: &["getrandom", "rand", "fastrand", "std::hash::RandomState", "std::collections::hash_map::RandomState"],
        only_in: &["src/env/os.rs"],
        tests_free: false,
        instead: "use `env::Entropy`, or take a seed as an input",
    },
    Seam {
        paths: &["std::env", "std::process", "rustix::process"],
        only_in: &["src/env/os.rs"],
        tests_free: true,
        instead: "take it through `Config`; a library neither reads the environment nor ends the process",
    },
    Seam {
        paths: &["std::thread::spawn", "std::thread::Builder", "std::thread::scope", "tokio::runtime::Builder"],
        only_in: &["src/node/runtime.rs", "src/node/*thread*.rs"],
        tests_free: true,
        instead: "hand the work to one of the node's threads",
    },
    Seam {
        paths: &["tokio::task::spawn_blocking", "tokio::task::block_in_place", "std::thread::sleep"],
        only_in: &["src/node/*thread*.rs"],
        tests_free: true,
        instead: "what blocks belongs to the disk thread; elsewhere wait for a deadline",
    },
    Seam {
        paths: &[
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "tokio::net",
            "socket2",
            "std::os::unix::net",
        ],
        only_in: &["src/transport/", "src/node/runtime.rs"],
        tests_free: true,
        instead: "take connections from `transport`",
    },
    Seam {
        // RocksDB writes files of its own, where no test cuts the power. That is let in at one place, which promises nothing
        // of what it keeps: snapshot and log, behind `env::Disk`, are the truth (docs/decisions/0013-rocksdb.md).
        paths: &["rocksdb"],
        only_in: &["src/kv/backend/rocks/"],
        tests_free: false,
        instead: "use `kv::backend::Backend`",
    },
    Seam { paths: &["bincode"], only_in: &["src/codec.rs"], tests_free: false, instead: "use `codec`" },
];

/// Where a run must be repeatable from its inputs: no clock, no task, no lock order, no hash order.
const PURE: &[&str] = &["src/raft/", "src/kv/", "src/state_machine.rs", "src/types.rs"];
/// Parts of `kv` that are not the machine: they run the node and wait for it.
const NOT_PURE: &[&str] = &["src/kv/api.rs", "src/kv/recipes/", "src/kv/store.rs", "src/kv/store/"];
/// What they do not use, tests aside.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "return effects and let the node act"),
    ("std::thread", "return effects and let the node act"),
    ("std::io", "return effects and let the node act"),
    ("std::net", "return effects and let the node act"),
    ("std::sync::Mutex", "own the state; publish a view with `arc_swap`"),
    ("std::sync::RwLock", "own the state; publish a view with `arc_swap`"),
    ("std::collections::HashMap", "use `BTreeMap`: its order is the same on every replica"),
    ("std::collections::HashSet", "use `BTreeSet`: its order is the same on every replica"),
    ("std::collections::hash_map", "use `BTreeMap`: its order is the same on every replica"),
    ("imbl::HashMap", "use `imbl::OrdMap`: its order is the same on every replica"),
    ("imbl::HashSet", "use `imbl::OrdSet`: its order is the same on every replica"),
    ("slab", "use `BTreeMap`: a key says what it is"),
];

/// The one file with unsafe code.
const UNSAFE: &str = "src/env/mmap.rs";

pub(crate) fn check(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &project.sources {
        if source.in_library() {
            findings.extend(of(project, source));
        }
        if source.path != UNSAFE {
            let unsafes = source.tokens.iter().filter(|token| token.text == "unsafe" && !token.literal);
            findings.extend(unsafes.map(|token| {
                source.finding(token.start.line, format!("`unsafe` stands in {UNSAFE} alone; find a safe way"))
            }));
        }
    }
    findings
}

fn of(project: &Project, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pure = stands_in(&source.path, PURE) && !stands_in(&source.path, NOT_PURE);
    for path in paths::of(project, source) {
        let test = source.test || path.around.test;
        for seam in SEAMS {
            let touched = seam.paths.iter().any(|prefix| path.below(prefix));
            if touched && !(test && seam.tests_free) && !stands_in(&source.path, seam.only_in) {
                findings.push(source.finding(path.line, format!("`{}`: {}", path.text(), seam.instead)));
            }
        }
        let banned = IMPURE.iter().find(|(prefix, _instead)| path.below(prefix));
        if let Some((_prefix, instead)) = banned.filter(|_banned| pure && !test) {
            findings.push(source.finding(path.line, format!("`{}` in repeatable code: {instead}", path.text())));
        }
    }
    findings
}

fn stands_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| match place.split_once('*') {
        Some((before, after)) => {
            let (middle, end) = after.rsplit_once('*').unwrap_or(("", after));
            let inner = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(end));
            inner.is_some_and(|inner| inner.contains(middle) && !inner.contains('/'))
        }
        None => path == *place || (place.ends_with('/') && path.starts_with(place)),
    })
}

#[cfg(test)]
fn planted(path: &str, text: &str) -> usize {
    let modules = "mod env; mod raft; mod kv; mod node; mod codec; mod commitlog;";
    let files = [
        ("src/lib.rs", modules),
        ("src/env/mod.rs", "mod os; mod mmap;"),
        ("src/node/mod.rs", "mod runtime; mod disk_thread; mod replica;"),
        ("src/kv/mod.rs", "mod store; mod machine;"),
        (path, text),
    ];
    check(&Project::planted(&files)).len()
}

#[test]
fn seams_use_inside_its_file_is_allowed() {
    assert_eq!(planted("src/env/os.rs", "use std::fs::File; use std::time::{Instant, Duration};"), 0);
    assert_eq!(planted("src/env/mmap.rs", "fn f() { unsafe { memmap2::Mmap::map(&x) } }"), 0);
    assert_eq!(planted("src/node/disk_thread.rs", "fn f() { std::thread::Builder::new(); }"), 0);
    assert_eq!(planted("src/kv/backend/rocks/mod.rs", "use rocksdb::DB;"), 0);
    assert_eq!(planted("src/codec.rs", "fn f() { bincode::config::standard(); }"), 0);
    assert_eq!(planted("src/commitlog/mod.rs", "use std::time::Duration; #[cfg(test)] mod t { use std::fs; }"), 0);
    assert_eq!(planted("src/kv/machine.rs", "use std::collections::BTreeMap;"), 0);
}

#[test]
fn seams_use_outside_its_file_is_found() {
    assert_eq!(planted("src/commitlog/mod.rs", "use std::{fs::{File, OpenOptions}};"), 2);
    assert_eq!(planted("src/commitlog/mod.rs", "use std::time; fn f() { time::Instant::now(); }"), 1);
    assert_eq!(planted("src/raft/mod.rs", "fn f() { m!(std::time::SystemTime::now()); }"), 1);
    assert_eq!(planted("src/raft/mod.rs", "fn f() -> u64 { rand::random() }"), 1);
    assert_eq!(planted("src/node/replica.rs", "fn f() { std::thread::spawn(|| ()); }"), 1);
    assert_eq!(planted("src/node/mod.rs", "use tokio::net::TcpStream;"), 1);
    assert_eq!(planted("src/kv/store.rs", "use bincode::config;"), 1);
    assert_eq!(planted("src/kv/machine.rs", "use rocksdb::DB; #[cfg(test)] mod t { use rocksdb::Options; }"), 2);
    assert_eq!(planted("src/kv/backend/rocks/mod.rs", "use std::fs::File;"), 1);
    assert_eq!(planted("tests/a.rs", "fn f() { unsafe { g() } }"), 1);
    assert_eq!(planted("src/env/mod.rs", "mod os; fn f() { unsafe { g() } }"), 1);
}

#[test]
fn purity_broken_in_core_or_machine_is_found() {
    assert_eq!(planted("src/raft/mod.rs", "use std::collections::HashMap;"), 1);
    assert_eq!(planted("src/kv/machine.rs", "use std::sync::Mutex; async fn f() { tokio::spawn(g()); }"), 2);
    assert_eq!(planted("src/kv/store.rs", "use std::sync::Mutex;"), 0);
}
