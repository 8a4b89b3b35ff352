//! Tidy: the rules of the house, checked against the sources.
//!
//! Each rule is a pure function from sources to [`tidy::Finding`]s with its own tests on small planted violations,
//! so that it is shown to be able to fail; the tests in this file run the rules over the project. There is no list
//! of exceptions to shrink later: the house is clean or the test fails, with file, line and what to do instead.
//!
//! | file | rules |
//! |---|---|
//! | `source.rs` | reads files into tokens and modules; no rule |
//! | `paths.rs` | reads paths and imports out of tokens; no rule |
//! | `floors.rs` | imports run downward only |
//! | `machine.rs` | who may touch disk, clock, sockets, threads, unsafe code, the serialisation library |
//! | `banned.rs` | items that have a better replacement |
//! | `sizes.rs` | lengths of files and functions, dead files, module docs, test names |
//! | `comments.rs` | marks without a reason, code in comments |
//! | `docs.rs` | documents name only what exists |
//! | `examples.rs` | what an embedder meets has an example or stands in one |

mod tidy {
    pub(crate) mod banned;
    pub(crate) mod comments;
    pub(crate) mod docs;
    pub(crate) mod examples;
    pub(crate) mod floors;
    pub(crate) mod machine;
    pub(crate) mod paths;
    pub(crate) mod sizes;
    pub(crate) mod source;

    pub(crate) use source::{Finding, Project};
}

use std::sync::LazyLock;

use tidy::{Finding, Project, banned, comments, docs, examples, floors, machine, sizes};

/// Fails with every finding on its own line.
fn none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} findings:\n{}\n", lines.len(), lines.join("\n"));
}

/// Read once: the tests look at the same files.
static PROJECT: LazyLock<Project> = LazyLock::new(|| Project::read(env!("CARGO_MANIFEST_DIR")));

fn project() -> &'static Project {
    assert!(PROJECT.sources.len() > 10, "the project's sources were not found");
    &PROJECT
}

#[test]
fn imports_of_all_modules_run_downward() {
    none(&floors::check(project()));
}

#[test]
fn machine_is_touched_only_behind_its_seams() {
    none(&machine::check(project()));
}

#[test]
fn banned_items_are_absent_everywhere() {
    none(&banned::check(project()));
}

#[test]
fn files_and_functions_fit_their_sizes() {
    none(&sizes::check(project()));
}

#[test]
fn comments_hold_reasons_not_code() {
    none(&comments::check(project()));
}

#[test]
fn documents_name_only_what_exists() {
    none(&docs::check(project()));
}

#[test]
fn examples_of_all_that_an_embedder_meets_are_there() {
    none(&examples::check(project()));
}
