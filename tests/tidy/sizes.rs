//! Sizes and shape: lengths of files and functions, files that no module names, module docs, names of tests.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::source::{Finding, Project, Source};

/// Lines of a file. About 400 are full; this is where splitting can no longer wait.
const MAX_FILE_LINES: usize = 600;
/// Lines of a function, from its first attribute-free line to its closing brace: a screen.
const MAX_FUNCTION_LINES: usize = 80;
/// A test is named `area_condition_outcome`.
const MIN_TEST_NAME_WORDS: usize = 3;

pub(crate) fn check(project: &Project) -> Vec<Finding> {
    project.sources.iter().flat_map(of).collect()
}

fn of(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if lines > MAX_FILE_LINES {
        findings.push(source.finding(1, format!("{lines} lines; split it before {MAX_FILE_LINES}")));
    }
    if !source.reached {
        findings.push(source.finding(1, "no `mod` names this file; name it or remove it"));
    }
    // What stands in a `tests.rs` beside a module, the module itself says.
    let beside = source.test && source.path.contains("src/");
    if !beside && !source.text.starts_with("//!") && !source.text.starts_with("#![doc") {
        findings.push(source.finding(1, "open the file with `//!`: its role, its invariants, what is absent"));
    }
    match syn::parse_file(&source.text) {
        Ok(file) => Functions { source, findings: &mut findings }.visit_file(&file),
        Err(error) => findings.push(source.finding(1, format!("cannot be parsed: {error}"))),
    }
    findings
}

struct Functions<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn look(&mut self, signature: &syn::Signature, attributes: &[syn::Attribute], block: &syn::Block) {
        let start = signature.span().start().line;
        let lines = block.brace_token.span.close().end().line + 1 - start;
        let name = signature.ident.to_string();
        if lines > MAX_FUNCTION_LINES {
            let what = format!("`{name}` has {lines} lines; {MAX_FUNCTION_LINES} are a screen: split it");
            self.findings.push(self.source.finding(start, what));
        }
        let is_test = attributes
            .iter()
            .any(|attribute| attribute.path().segments.last().is_some_and(|segment| segment.ident == "test"));
        if is_test && (name.split('_').count() < MIN_TEST_NAME_WORDS || name.starts_with("test_")) {
            let what = format!("test `{name}`: name it area_condition_outcome");
            self.findings.push(self.source.finding(start, what));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.look(&item.sig, &item.attrs, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.look(&item.sig, &item.attrs, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.look(&item.sig, &item.attrs, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
fn planted(files: &[(&str, &str)]) -> Vec<String> {
    check(&Project::planted(files)).into_iter().map(|finding| finding.what).collect()
}

#[test]
fn sizes_of_a_small_documented_file_are_passed() {
    let text = "//! Docs.\nmod a;\n#[test]\nfn area_condition_outcome() {}\n";
    assert_eq!(planted(&[("src/lib.rs", text), ("src/a.rs", "//! Docs.\n")]), Vec::<String>::new());
}

#[test]
fn sizes_of_a_long_file_or_function_are_found() {
    let long_file = format!("//! Docs.\n{}", "\n".repeat(MAX_FILE_LINES));
    assert!(planted(&[("src/lib.rs", &long_file)])[0].contains("601 lines"));
    let body = "x();\n".repeat(MAX_FUNCTION_LINES - 1);
    let long_function = format!("//! Docs.\nimpl A {{ fn f(&self) {{\n{body}}} }}");
    assert!(planted(&[("src/lib.rs", &long_function)])[0].contains("`f` has 81 lines"));
    let just_fits = long_function.replacen("x();\n", "", 1);
    assert_eq!(planted(&[("src/lib.rs", &just_fits)]), Vec::<String>::new());
}

#[test]
fn shape_dead_or_undocumented_file_is_found() {
    let found = planted(&[("src/lib.rs", "//! Docs.\n"), ("src/dead.rs", "fn f() {}")]);
    assert!(found[0].contains("no `mod`") && found[1].contains("`//!`"), "{found:?}");
}

#[test]
fn shape_test_with_an_opaque_name_is_found() {
    for name in ["works", "it_works", "test_of_all_things"] {
        let text = format!("//! Docs.\n#[test]\nfn {name}() {{}}\n");
        assert_eq!(planted(&[("tests/a.rs", &text)]).len(), 1, "{name}");
    }
}
