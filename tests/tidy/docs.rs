//! Documents: what they name exists. Links point to files, the tests that a promise or a claim names are tests, and the
//! tree in `ARCHITECTURE.md` is the tree on disk.

use std::collections::BTreeSet;

use super::source::{Finding, Project};

/// Where tables name tests: in their last column, when its head is this.
const TEST_COLUMN: &str = "test";
/// Where the transcripts are: a test each, named after its file.
const TRANSCRIPTS: &str = "tests/raft/";
/// Where the tree stands, in the first fenced block.
const ARCHITECTURE: &str = "ARCHITECTURE.md";

pub(crate) fn check(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tests = test_names(project);
    for (path, text) in &project.documents {
        findings.extend(links(project, path, text));
        findings.extend(promises(path, text, &tests));
        if path == ARCHITECTURE {
            findings.extend(tree(project, text));
        }
    }
    findings
}

fn finding(path: &str, line: usize, what: String) -> Finding {
    Finding { path: path.to_owned(), line, what }
}

/// Relative links must lead to a file or a directory.
fn links(project: &Project, path: &str, text: &str) -> Vec<Finding> {
    let directory = path.rsplit_once('/').map_or("", |(directory, _file)| directory);
    let mut findings = Vec::new();
    for (place, line) in text.lines().enumerate() {
        for piece in line.split("](").skip(1) {
            let target = piece.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let full = normal(directory, target);
            let exists = project.files.contains(&full)
                || project.files.iter().any(|file| file.starts_with(&format!("{}/", full.trim_end_matches('/'))));
            if !exists {
                findings.push(finding(path, place + 1, format!("link to `{target}`, which does not exist")));
            }
        }
    }
    findings
}

/// Joins and resolves `..`.
fn normal(directory: &str, target: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Names of tests: functions under `#[test]` and transcripts.
fn test_names(project: &Project) -> BTreeSet<&str> {
    let functions = project.sources.iter().flat_map(|source| source.tokens.windows(2)).filter_map(|pair| match pair {
        [word, name] if word.text == "fn" && word.around.test => Some(name.text.as_str()),
        _ => None,
    });
    let transcripts = project.files.iter().filter_map(|path| path.strip_prefix(TRANSCRIPTS)?.strip_suffix(".txt"));
    functions.chain(transcripts).collect()
}

/// Names in backticks in the column of tests must be tests.
fn promises(path: &str, text: &str, tests: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut head = "";
    for (place, line) in text.lines().enumerate() {
        if !line.starts_with('|') {
            head = "";
            continue;
        }
        let column = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
        if head.is_empty() {
            head = column;
        } else if head == TEST_COLUMN {
            let missing = column.split('`').skip(1).step_by(2).filter(|name| !tests.contains(name));
            findings.extend(missing.map(|name| finding(path, place + 1, format!("no test is named `{name}`"))));
        }
    }
    findings
}

/// Each line of the tree starts with a path, indented below its directory (a path that ends in `/`).
fn tree(project: &Project, text: &str) -> Vec<Finding> {
    let mut shown = BTreeSet::new();
    let mut findings = Vec::new();
    let mut open: Vec<(usize, &str)> = Vec::new();
    let block = text.lines().enumerate().skip_while(|(_place, line)| !line.starts_with("```")).skip(1);
    for (place, line) in block.take_while(|(_place, line)| !line.starts_with("```")) {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = line.split_whitespace().next() else { continue };
        open.retain(|(outer, _name)| *outer < indent);
        let path = format!("{}{name}", open.iter().map(|(_indent, name)| *name).collect::<String>());
        if name.ends_with('/') {
            open.push((indent, name));
        } else if !project.files.contains(&path) {
            findings.push(finding(ARCHITECTURE, place + 1, format!("`{path}` does not exist")));
        }
        shown.insert(path);
    }
    // Tests beside a module go without saying.
    let sources = project.sources.iter().filter(|source| !source.test || source.path.starts_with("tests/"));
    for path in sources.map(|source| &source.path) {
        let covered = shown.iter().any(|entry| entry == path);
        if !covered && !path.starts_with("tests/tidy/") {
            findings.push(finding(ARCHITECTURE, 1, format!("`{path}` is not in the tree")));
        }
    }
    findings
}

#[cfg(test)]
fn planted(files: &[(&str, &str)]) -> Vec<String> {
    check(&Project::planted(files)).into_iter().map(|finding| finding.what).collect()
}

#[test]
fn docs_link_to_nothing_is_found() {
    let text = "[a](docs/a.md) [b](https://x.y) [c](#here) [d](docs/)\n[e](docs/missing.md#x)";
    let found = planted(&[("README.md", text), ("docs/a.md", "[up](../README.md)")]);
    assert_eq!(found, ["link to `docs/missing.md`, which does not exist"]);
}

#[test]
fn docs_promise_without_its_test_is_found() {
    let text = "| fault | test |\n|---|---|\n| `not_looked_at` | `it_is_shown_here` `it_is_told_here` |\n\
                | x | `it_is_shown_nowhere` |\n| y | `only_a_function` |\n\n| a | b |\n|---|---|\n| x | `not_a_test` |\n";
    let files = [
        ("docs/guarantees.md", text),
        ("src/lib.rs", "fn only_a_function() {} #[test] fn it_is_shown_here() {}"),
        ("tests/raft/it_is_told_here.txt", ""),
    ];
    assert_eq!(planted(&files), ["no test is named `it_is_shown_nowhere`", "no test is named `only_a_function`"]);
}

#[test]
fn docs_tree_unlike_the_disk_is_found() {
    let text = "# A\n```\nsrc/  all\n  lib.rs  root\n  kv/\n    gone.rs  x\n  types.rs  x\n```\n";
    let found = planted(&[
        (ARCHITECTURE, text),
        ("src/lib.rs", "mod types; mod new;"),
        ("src/types.rs", ""),
        ("src/new.rs", ""),
    ]);
    assert_eq!(found, ["`src/kv/gone.rs` does not exist", "`src/new.rs` is not in the tree"]);
}
