//! Floors: a module may import only what its row allows. `ARCHITECTURE.md` says why.
//!
//! A module belongs to the row with the longest name that it starts with. The library's root is free: it only
//! re-exports. A `pub use` of a module's own child is not an arrow: it gives a name, it needs nothing. Tests keep to the
//! floors as well, those of the top floor aside: there a server is tested with a client and the other way round.

use super::paths;
use super::source::{Finding, Project, Source};

/// A row: who, whether it may import the whole of floor 0, and what else.
struct Row {
    name: &'static str,
    base: bool,
    also: &'static [&'static str],
}

const fn row(name: &'static str, base: bool, also: &'static [&'static str]) -> Row {
    Row { name, base, also }
}

/// Floor 0: what everybody may import.
const BASE: &[&str] = &[
    "types",
    "error",
    "codec",
    "config",
    "state_machine",
    "env",
    "fields",
    "failure",
    "simulation::marks",
    "simulation::plants",
];

/// The top floor: nothing stands above it, so its tests may import anything.
const TOP: &[&str] = &["ledger", "server::kinds", "server::protocol", "server::wire", "client", "server", "kv::store"];

/// Every module of the library, lowest first.
const ROWS: &[Row] = &[
    // Floor 0.
    row("types", false, &[]),
    row("error", false, &["types"]),
    row("codec", false, &[]),
    row("config", false, &["types", "error"]),
    row("state_machine", false, &["types"]),
    row("env", false, &["types"]),
    row("fields", false, &["types"]),
    row("failure", false, &["error", "env"]),
    row("simulation::marks", false, &[]),
    row("simulation::plants", false, &[]),
    // Floor 1: these do not see each other.
    row("raft::message", true, &[]),
    row("raft", true, &["raft::message"]),
    row("commitlog", true, &[]),
    row("snapshot", true, &[]),
    row("kv", true, &[]),
    // Floor 2.
    row("transport", true, &["raft::message"]),
    // Floor 3: runs any state machine, so nothing of kv.
    row("node", true, &["raft", "raft::message", "commitlog", "snapshot", "transport"]),
    // The simulator's door: gives names, needs nothing of its own.
    row("simulation", false, &["node", "simulation::marks", "simulation::plants"]),
    // Floor 4.
    row("ledger", true, &["commitlog", "node"]),
    row("server::kinds", true, &["kv", "node", "transport"]),
    row("server::protocol", true, &["server::kinds"]),
    row("server::wire", true, &["server::protocol", "transport"]),
    row("numbering", true, &["kv"]),
    row(
        "client",
        true,
        &["kv", "node", "numbering", "snapshot", "server::kinds", "server::protocol", "server::wire", "transport"],
    ),
    row("server", true, &["kv", "node", "server::kinds", "server::protocol", "server::wire", "transport"]),
    row("kv::store", true, &["kv", "node", "numbering", "server", "transport"]),
    // A store for the examples in the docs.
    row("doctest", true, &["kv::store", "node"]),
    // Behind the feature of that name: shows inner parts to the fuzz targets.
    row("fuzzing", false, &["types", "server::protocol", "server::wire", "transport"]),
];

pub(crate) fn check(project: &Project) -> Vec<Finding> {
    project.sources.iter().filter(|source| source.in_library()).flat_map(|source| of(project, source)).collect()
}

fn of(project: &Project, source: &Source) -> Vec<Finding> {
    let Some(module) = source.module.as_deref().filter(|module| !module.is_empty()) else { return Vec::new() };
    let Some(own) = unit(module) else {
        return vec![source.finding(1, format!("`{}` has no row in tests/tidy/floors.rs", module.join("::")))];
    };
    let mut findings = Vec::new();
    for path in paths::of(project, source) {
        let Some((first, target)) = path.segments.split_first() else { continue };
        let own_child = path.reexport && target.len() > module.len() && target.starts_with(module);
        if first != "crate" || target.is_empty() || own_child {
            continue;
        }
        let Some(other) = unit(target) else {
            let what = format!("`{}` is not a module; name the module that has the item", path.text());
            findings.push(source.finding(path.line, what));
            continue;
        };
        let allowed = own.name == other.name || own.also.contains(&other.name);
        let base = own.base && BASE.contains(&other.name);
        let top_test = (source.test || path.around.test) && TOP.contains(&own.name);
        if !(allowed || base || top_test) {
            let what = format!("`{}` may not import `{}`; move the item down or hand it in", own.name, path.text());
            findings.push(source.finding(path.line, what));
        }
    }
    findings.dedup();
    findings
}

/// The row of a module path, items behind it allowed.
fn unit(path: &[String]) -> Option<&'static Row> {
    let matches = |row: &&Row| {
        let mut own = path.iter();
        row.name.split("::").all(|part| own.next().is_some_and(|segment| segment == part))
    };
    ROWS.iter().filter(matches).max_by_key(|row| row.name.len())
}

#[test]
fn floors_table_has_no_cycle() {
    for (place, row) in ROWS.iter().enumerate() {
        let below: Vec<&str> = ROWS[..place].iter().map(|lower| lower.name).collect();
        let arrows = row.also.iter().chain(if row.base { BASE } else { &[] });
        for arrow in arrows {
            assert!(below.contains(arrow), "`{}` imports `{arrow}`, which is not below it", row.name);
        }
    }
}

#[cfg(test)]
fn planted(path: &str, text: &str) -> usize {
    let modules = "pub mod types; pub mod env; pub mod raft; pub mod commitlog; pub mod kv; pub mod transport; \
                   pub mod node; pub mod ledger; pub mod client; pub mod surprise;";
    let files = [
        ("src/lib.rs", modules),
        ("src/kv/mod.rs", "pub mod store; pub mod machine; pub use store::KvStore;"),
        (path, text),
    ];
    check(&Project::planted(&files)).len()
}

#[test]
fn floors_downward_import_is_allowed() {
    assert_eq!(planted("src/node/mod.rs", "use crate::{raft::Raft, commitlog::LogReader, types::Index};"), 0);
    assert_eq!(planted("src/transport/mod.rs", "use crate::raft::message::Message;"), 0);
    assert_eq!(planted("src/kv/store.rs", "use super::machine::M; use crate::node::NodeHandle;"), 0);
    assert_eq!(planted("src/kv/machine.rs", "use super::view::View; use crate::types::Index;"), 0);
    assert_eq!(planted("src/client.rs", "#[cfg(test)] mod tests { use crate::server::Server; }"), 0);
}

#[test]
fn floors_upward_or_sideward_import_is_found() {
    assert_eq!(planted("src/types.rs", "use crate::env::Disk;"), 1);
    assert_eq!(planted("src/raft/mod.rs", "fn f() { crate::commitlog::open(); }"), 1);
    assert_eq!(planted("src/commitlog/mod.rs", "use crate::raft::message::Message;"), 1);
    assert_eq!(planted("src/transport/mod.rs", "use crate::raft::Raft;"), 1);
    assert_eq!(planted("src/node/mod.rs", "use crate::{types::Index, kv::machine::M};"), 1);
    assert_eq!(planted("src/kv/machine.rs", "use super::store::KvStore;"), 1);
    assert_eq!(planted("src/kv/machine.rs", "#[cfg(test)] mod tests { use crate::node::NodeHandle; }"), 1);
}

#[test]
fn floors_module_without_a_row_is_found() {
    assert_eq!(planted("src/surprise.rs", ""), 1);
    assert_eq!(planted("src/ledger.rs", "use crate::Index;"), 1);
}
