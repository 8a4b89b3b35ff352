//! Reads paths (`a::b::c`) out of tokens, imports and bodies of macros included, and resolves them to the library's
//! modules or to other crates. Holds no rule.
//!
//! Scopes are not modelled: an import counts for its whole file. A rule that looks at paths may thereby see a path
//! where there is only a variable of the same name followed by `::`, which does not happen.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::source::{Around, Project, Source, Token};

/// A resolved path: starts with `crate` or with the name of another crate.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// A `pub use`.
    pub(crate) reexport: bool,
    pub(crate) around: Arc<Around>,
}

impl Found {
    /// True when the path is `prefix` or below it.
    pub(crate) fn below(&self, prefix: &str) -> bool {
        let mut own = self.segments.iter();
        prefix.split("::").all(|wanted| own.next().is_some_and(|segment| segment == wanted))
    }

    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// A path as written.
struct Written {
    segments: Vec<String>,
    line: usize,
    import: Option<Import>,
    around: Arc<Around>,
}

struct Import {
    name: String,
    public: bool,
}

/// All paths of a file, resolved.
pub(crate) fn of(project: &Project, source: &Source) -> Vec<Found> {
    let written = read(&source.tokens);
    let names: BTreeMap<String, Vec<String>> =
        written.iter().filter_map(|path| Some((path.import.as_ref()?.name.clone(), path.segments.clone()))).collect();
    written
        .into_iter()
        .filter_map(|path| {
            let imported = path.import.is_some();
            let first = path.segments.first()?;
            let mut segments = path.segments.clone();
            if let Some(full) = names.get(first).filter(|_full| !imported && path.segments.len() > 1) {
                segments = full.iter().chain(path.segments.iter().skip(1)).cloned().collect();
            }
            Some(Found {
                segments: resolve(project, source, &path.around, segments),
                line: path.line,
                reexport: path.import.is_some_and(|import| import.public),
                around: path.around,
            })
        })
        .collect()
}

/// Replaces `self`, `super` and names of child modules.
fn resolve(project: &Project, source: &Source, around: &Around, segments: Vec<String>) -> Vec<String> {
    let Some(file_module) = &source.module else { return segments };
    let mut module: Vec<String> = file_module.iter().chain(&around.inline).cloned().collect();
    let mut rest = segments.as_slice();
    let mut relative = false;
    while let [first, after @ ..] = rest {
        match first.as_str() {
            "self" => relative = true,
            "super" => {
                relative = true;
                module.pop();
            }
            _ => break,
        }
        rest = after;
    }
    if !relative {
        let Some(first) = segments.first() else { return segments };
        let child: Vec<String> = module.iter().chain([first]).cloned().collect();
        if !project.has_module(&child) || segments.len() < 2 {
            return segments;
        }
    }
    ["crate".to_owned()].into_iter().chain(module).chain(rest.iter().cloned()).collect()
}

fn read(tokens: &[Token]) -> Vec<Written> {
    let mut found = Vec::new();
    let mut rest = tokens;
    let mut before = "";
    while let [token, after @ ..] = rest {
        if token.text == "use" && before != "<" {
            let public = before == "pub" || before == ")";
            let after = after.strip_prefix_token("::");
            rest = tree(after, &[], Some(public), &mut found);
        } else if token.is_word() && !matches!(before, "::" | "." | "'") {
            rest = tree(rest, &[], None, &mut found);
        } else {
            rest = after;
        }
        let used = tokens.len() - rest.len();
        before = tokens.get(used.saturating_sub(1)).map_or("", |last| last.text.as_str());
    }
    found
}

trait StripPrefix {
    fn strip_prefix_token(&self, text: &str) -> &Self;
}

impl StripPrefix for [Token] {
    fn strip_prefix_token(&self, text: &str) -> &Self {
        match self {
            [first, after @ ..] if first.text == text => after,
            _ => self,
        }
    }
}

/// Reads one path, or one branch of an import tree; answers with what follows.
fn tree<'a>(tokens: &'a [Token], prefix: &[String], import: Option<bool>, found: &mut Vec<Written>) -> &'a [Token] {
    let mut segments = prefix.to_vec();
    let mut rest = tokens;
    let Some(start) = tokens.first() else { return rest };
    loop {
        match rest {
            [open, after @ ..] if open.text == "{" && import.is_some() => {
                return branches(after, &segments, import, found);
            }
            [word, after @ ..] if word.is_word() || word.text == "*" => {
                segments.push(word.text.clone());
                rest = after;
            }
            _ => return rest.split_first().map_or(rest, |(_skipped, after)| after),
        }
        match rest {
            [colons, next, ..] if colons.text == "::" && (next.is_word() || import.is_some()) => {
                rest = rest.split_first().map_or(rest, |(_colons, after)| after);
            }
            _ => break,
        }
    }
    if segments.len() > prefix.len() && segments.last().is_some_and(|last| last == "self") && !prefix.is_empty() {
        segments.pop();
    }
    let mut name = segments.last().cloned().unwrap_or_default();
    if let ([word, alias, after @ ..], Some(_)) = (rest, import)
        && word.text == "as"
    {
        name.clone_from(&alias.text);
        rest = after;
    }
    let import = import.map(|public| Import { name, public });
    found.push(Written { segments, line: start.start.line, import, around: Arc::clone(&start.around) });
    rest
}

/// Reads the branches between `{` and `}` of an import.
fn branches<'a>(tokens: &'a [Token], prefix: &[String], import: Option<bool>, found: &mut Vec<Written>) -> &'a [Token] {
    let mut rest = tokens;
    while let [token, after @ ..] = rest {
        match token.text.as_str() {
            "}" => return after,
            "," => rest = after,
            _ => rest = tree(rest, prefix, import, found),
        }
    }
    rest
}

#[test]
fn paths_of_imports_bodies_and_macros_are_found_resolved() {
    let project = Project::planted(&[
        ("src/lib.rs", "mod a;"),
        (
            "src/a/mod.rs",
            "mod child; use std::{fs::{self, File as F}, time}; use super::b::C;
             pub(crate) use child::X; fn f() { m!(crate::d::E); time::Instant::now(); C::new(); fs::read(x.y); }
             #[cfg(test)] mod tests { use super::*; use super::super::z::Z; }",
        ),
        ("src/a/child.rs", ""),
    ]);
    let source = project.sources.iter().find(|source| source.path == "src/a/mod.rs").unwrap();
    let found: Vec<String> = of(&project, source).iter().map(Found::text).collect();
    for wanted in [
        "std::fs",
        "std::fs::File",
        "std::time",
        "crate::b::C",
        "crate::a::child::X",
        "crate::d::E",
        "std::time::Instant::now",
        "crate::b::C::new",
        "std::fs::read",
        "crate::a::*",
        "crate::z::Z",
    ] {
        assert!(found.iter().any(|path| path == wanted), "{wanted} is not among {found:?}");
    }
}
