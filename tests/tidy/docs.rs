//! Documents: what they name exists. Links point to files, the tests that a promise or a claim names are tests, and the
//! tree in `ARCHITECTURE.md` is the tree on disk. Each dependency has its reason.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Finding, Project, Source};

/// Where tables name tests: in their last column, when its head is this.
const TEST_COLUMN: &str = "test";
/// Where the transcripts are: a test each, named after its file.
const TRANSCRIPTS: &str = "tests/raft/";
/// Where each dependency has a row: its name in the first column.
const DEPENDENCIES: &str = "docs/decisions/0005-dependencies.md";
/// Where the tree stands, in the first fenced block.
const ARCHITECTURE: &str = "ARCHITECTURE.md";

pub(crate) fn check(project: &Project) -> Vec<Finding> {
    let mut findings: Vec<Finding> = project.sources.iter().flat_map(|source| mentions(project, source)).collect();
    let tests = test_names(project);
    for (path, text) in &project.documents {
        findings.extend(links(project, path, text));
        findings.extend(promises(path, text, &tests));
        if path == DEPENDENCIES {
            findings.extend(dependencies(project, text));
        }
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

/// What the sources call `docs/…` must be there; a decision may be named by its number.
fn mentions(project: &Project, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path.starts_with("tests/tidy") {
        return findings;
    }
    for (place, line) in source.text.lines().enumerate() {
        for (start, _docs) in line.match_indices("docs/") {
            let rest = line.get(start..).unwrap_or_default();
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "/._-".contains(c))).unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or_default().trim_end_matches('.');
            if !project.files.iter().any(|file| file.starts_with(name)) {
                findings.push(source.finding(place + 1, format!("`{name}` does not exist")));
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

/// Every dependency has a row, and every row is about a dependency.
fn dependencies(project: &Project, text: &str) -> Vec<Finding> {
    let mut used = BTreeMap::new();
    for (path, manifest) in &project.manifests {
        let mut within = false;
        for (place, line) in manifest.lines().enumerate() {
            if line.starts_with('[') {
                within = line.ends_with("dependencies]") && !line.contains("workspace");
            }
            let name = line.split_once('=').map(|(name, _version)| name.trim());
            let own = line.contains("path = ");
            used.extend(name.filter(|_name| within && !own).map(|name| (name, (path.as_str(), place + 1))));
        }
    }
    let mut findings = Vec::new();
    let mut reasons = BTreeSet::new();
    for (place, line) in text.lines().enumerate().filter(|(_place, line)| line.starts_with("| `")) {
        let column = line.trim_start_matches('|').split('|').next().unwrap_or_default();
        for name in column.split('`').skip(1).step_by(2) {
            reasons.insert(name);
            if !used.contains_key(name) {
                findings.push(finding(DEPENDENCIES, place + 1, format!("`{name}` is not a dependency")));
            }
        }
    }
    let unexplained = used.into_iter().filter(|(name, _place)| !reasons.contains(name));
    findings.extend(
        unexplained
            .map(|(name, (path, line))| finding(path, line, format!("`{name}` has no reason in {DEPENDENCIES}"))),
    );
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
    let own_tree = |path: &str| path.starts_with("tests/") || path.starts_with("fuzz/");
    let sources = project.sources.iter().filter(|source| !source.test || own_tree(&source.path));
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
fn docs_named_in_a_source_but_absent_are_found() {
    let text = "// See docs/decisions/0004, and docs/gone.md.";
    let found = planted(&[("src/lib.rs", text), ("docs/decisions/0004-threads.md", "")]);
    assert_eq!(found, ["`docs/gone.md` does not exist"]);
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
fn docs_dependency_without_its_reason_is_found() {
    let manifest = "[workspace.dependencies]\na = \"1\"\n[dependencies]\nb = \"1\"\nown = { path = \"..\" }\n\
                    [dev-dependencies]\nc = { workspace = true }\n[lints]\nd = true\n";
    let found = planted(&[("Cargo.toml", manifest), (DEPENDENCIES, "| x | y |\n|---|---|\n| `b`, `e` | z |\n")]);
    assert_eq!(found, ["`e` is not a dependency", "`c` has no reason in docs/decisions/0005-dependencies.md"]);
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
