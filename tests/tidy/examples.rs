//! Examples: what an embedder meets has one or stands in one. These are the types and traits that the crate's root and the
//! modules of the store give by `pub use`; each must be named in a block of code of some doc comment or of the README, which the
//! doctests run, or its docs must say where its example is.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Finding, Project, Source};

/// Whose `pub use` is looked at.
const SURFACE: &[&str] = &[
    "src/lib.rs",
    "src/kv/mod.rs",
    "src/kv/recipes/mod.rs",
    "src/kv/store.rs",
    "src/kv/store/blocking.rs",
    "src/kv/typed.rs",
];
/// The crate's docs.
const README: &str = "README.md";

pub(crate) fn check(project: &Project) -> Vec<Finding> {
    let library: Vec<&Source> = project.sources.iter().filter(|source| source.in_library()).collect();
    let mut named: BTreeSet<&str> = library.iter().flat_map(|source| words_in_examples(&source.text)).collect();
    let readme = project.documents.iter().filter(|(path, _text)| path == README);
    named.extend(readme.flat_map(|(_path, text)| blocks(text.lines()).flat_map(words)));
    let pointing: BTreeSet<String> = library.iter().flat_map(|source| pointing(&source.text)).collect();
    let mut given: BTreeMap<String, &Source> = BTreeMap::new();
    for source in library.iter().filter(|source| SURFACE.contains(&source.path.as_str())) {
        given.extend(given_names(&source.text).into_iter().map(|name| (name, *source)));
    }
    let bare = given.into_iter().filter(|(name, _source)| !named.contains(name.as_str()) && !pointing.contains(name));
    let what = |name: &str| format!("`{name}` has no example and stands in none; give it one, or say where it is");
    bare.map(|(name, source)| source.finding(1, what(&name))).collect()
}

/// Types and traits that a file gives by `pub use`.
fn given_names(text: &str) -> Vec<String> {
    fn leaves(tree: &syn::UseTree, names: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => leaves(&path.tree, names),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, names)),
            syn::UseTree::Name(name) => names.push(name.ident.to_string()),
            syn::UseTree::Rename(_) | syn::UseTree::Glob(_) => {}
        }
    }
    let mut names = Vec::new();
    for item in syn::parse_file(text).map(|file| file.items).unwrap_or_default() {
        if let syn::Item::Use(item) = item
            && matches!(item.vis, syn::Visibility::Public(_))
        {
            leaves(&item.tree, &mut names);
        }
    }
    names.retain(|name| name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase));
    names
}

/// Words in the blocks of code of a file's doc comments.
fn words_in_examples(text: &str) -> impl Iterator<Item = &str> {
    let docs = text.lines().map(str::trim_start).filter_map(|line| {
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        comment.map(|comment| comment.strip_prefix(' ').unwrap_or(comment))
    });
    blocks(docs).flat_map(words)
}

/// The lines within fences of Rust.
fn blocks<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let mut inside = None;
    lines.filter(move |line| {
        let Some(info) = line.strip_prefix("```") else { return inside == Some(true) };
        inside = match inside {
            None => Some(["", "rust", "no_run", "rust,no_run"].contains(&info)),
            Some(_) => None,
        };
        false
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

/// Types and traits whose docs have an example, or speak of one.
fn pointing(text: &str) -> Vec<String> {
    let (mut docs, mut names) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("///") {
            docs.push(line.trim_start());
        } else if !line.starts_with("#[") {
            let item = ["pub struct ", "pub enum ", "pub trait "].iter().find_map(|start| line.strip_prefix(start));
            let speaks = docs.iter().any(|line| line.to_lowercase().contains("example"));
            let shown = speaks || blocks(docs.iter().copied()).next().is_some();
            names.extend(item.filter(|_item| shown).and_then(|item| words(item).next()).map(str::to_owned));
            docs.clear();
        }
    }
    names
}

#[cfg(test)]
fn planted(docs: &str) -> usize {
    let lib = "pub mod kv; pub use kv::{Store, LIMIT, store::run};";
    let kv = format!("pub mod store;\n{docs}\n#[derive(Debug)]\npub struct Store;\npub struct Inner;\n");
    let readme = "```sh\nStore\n```\n";
    check(&Project::planted(&[("src/lib.rs", lib), ("src/kv/store.rs", &kv), (README, readme)])).len()
}

#[test]
fn examples_that_name_or_point_are_passed() {
    assert_eq!(planted("/// ```\n/// let store = Store::new();\n/// ```"), 0);
    assert_eq!(planted("//! ```no_run\n//! Store\n//! ```"), 0);
    assert_eq!(planted("/// A store. For an example see `run`."), 0);
    assert_eq!(planted("/// ```\n/// let mut it = new();\n/// ```"), 0);
}

#[test]
fn examples_that_are_missing_or_never_run_are_found() {
    assert_eq!(planted("/// A store."), 1);
    assert_eq!(planted("/// ```text\n/// Store\n/// ```\n/// Store"), 1);
    assert_eq!(planted("//! ```\n//! Stores::new(); MyStore\n//! ```"), 1);
    assert_eq!(planted("/// An example.\npub struct Other;\n/// A store."), 1);
}
