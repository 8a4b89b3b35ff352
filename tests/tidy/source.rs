//! Reads the project: files into tokens, `mod` declarations into a module tree. Holds no rule.
//!
//! A token knows its line, whether it is test code (`#[cfg(test)]`, `#[test]`, a file under `tests/`), which lints
//! an `#[expect]` around it excuses, and the inline modules it stands in. Comments are not tokens; `comments.rs`
//! looks at the text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use proc_macro2::{Delimiter, LineColumn, Span, TokenStream, TokenTree};

/// A broken rule: where, what, and what to do instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// What surrounds a token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    /// Test code.
    pub(crate) test: bool,
    /// Lints that an `#[expect]` names.
    pub(crate) excused: Vec<String>,
    /// Inline modules from the file's own module inward.
    pub(crate) inline: Vec<String>,
    /// The file that a `#[path]` names.
    path: Option<String>,
}

/// A token with its place. Delimiters are tokens too; `::` is one token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) start: LineColumn,
    pub(crate) end: LineColumn,
    pub(crate) literal: bool,
    pub(crate) around: Arc<Around>,
}

impl Token {
    pub(crate) fn is_word(&self) -> bool {
        !self.literal && self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// A Rust file.
pub(crate) struct Source {
    /// Relative to the project's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    /// Its module in the library (`["kv", "store"]`; empty for `lib.rs`); `None` outside the library or unreached.
    pub(crate) module: Option<Vec<String>>,
    /// Some root or `mod` declaration names it.
    pub(crate) reached: bool,
    /// All of it is test code.
    pub(crate) test: bool,
}

impl Source {
    /// Part of the library.
    pub(crate) fn in_library(&self) -> bool {
        self.path.starts_with("src/")
    }

    pub(crate) fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

/// All Rust files, Markdown documents and manifests.
pub(crate) struct Project {
    pub(crate) sources: Vec<Source>,
    /// Path and text.
    pub(crate) documents: Vec<(String, String)>,
    /// Path and text of each `Cargo.toml`.
    pub(crate) manifests: Vec<(String, String)>,
    /// Every file below the root, build products and hidden directories left out.
    pub(crate) files: BTreeSet<String>,
    modules: BTreeSet<Vec<String>>,
}

impl Project {
    /// Reads the project from disk.
    pub(crate) fn read(root: &str) -> Self {
        let mut files = BTreeSet::new();
        walk(Path::new(root), "", &mut files);
        let texts = files
            .iter()
            .filter(|path| [".rs", ".md", "Cargo.toml"].iter().any(|end| path.ends_with(end)))
            .filter_map(|path| Some((path.clone(), fs::read_to_string(Path::new(root).join(path)).ok()?)))
            .collect();
        let mut project = Self::of(texts);
        project.files.extend(files);
        project
    }

    /// A project of these files; what the rules' own tests plant violations in.
    pub(crate) fn planted(files: &[(&str, &str)]) -> Self {
        Self::of(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn of(texts: BTreeMap<String, String>) -> Self {
        let files: BTreeSet<String> = texts.keys().cloned().collect();
        let (rust, rest): (Vec<_>, Vec<_>) = texts.into_iter().partition(|(path, _text)| path.ends_with(".rs"));
        let (documents, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(path, _text)| path.ends_with(".md"));
        let manifests = rest.into_iter().filter(|(path, _text)| path.ends_with("Cargo.toml")).collect();
        let sources = rust.into_iter().map(lex).collect();
        let mut project = Self { sources, documents, manifests, files, modules: BTreeSet::new() };
        project.reach_modules();
        project.modules = project.sources.iter().filter_map(|source| source.module.clone()).collect();
        project
    }

    /// The library module at this path exists as a file.
    pub(crate) fn has_module(&self, module: &[String]) -> bool {
        self.modules.contains(module)
    }

    fn reach_modules(&mut self) {
        let mut todo: Vec<(String, Vec<String>, bool)> = self
            .sources
            .iter()
            .filter(|source| is_root(&source.path))
            .map(|source| (source.path.clone(), Vec::new(), is_test_path(&source.path)))
            .collect();
        while let Some((path, module, test)) = todo.pop() {
            let Some(source) = self.sources.iter_mut().find(|source| source.path == path) else { continue };
            if source.reached {
                continue;
            }
            source.reached = true;
            source.test = test;
            source.module = source.in_library().then(|| module.clone());
            for (names, around) in declared_modules(&source.tokens) {
                let below = format!("{}{}", child_directory(&path), names.join("/"));
                let child: Vec<String> = module.iter().cloned().chain(names).collect();
                let directory = path.rsplit_once('/').map_or("", |(directory, _file)| directory);
                let named = around.path.as_ref().map(|named| format!("{directory}/{named}"));
                for candidate in named.into_iter().chain([format!("{below}.rs"), format!("{below}/mod.rs")]) {
                    todo.push((candidate, child.clone(), test || around.test));
                }
            }
        }
    }
}

fn walk(root: &Path, below: &str, files: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let hidden = name.starts_with('.') && name != ".ci";
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden && name != "target" => walk(root, &path, files),
            Ok(kind) if kind.is_file() => drop(files.insert(path)),
            _ => {}
        }
    }
}

/// A file that cargo compiles by itself.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let in_tests = |name: &str| matches!(name, "tests" | "examples" | "benches" | "fuzz_targets");
    match parts.as_slice() {
        [.., "src", file] => matches!(*file, "lib.rs" | "main.rs"),
        ["build.rs"] | [.., "src", "bin", _] => true,
        [.., directory, _file] if in_tests(directory) => !parts.contains(&"src"),
        [.., directory, _name, "main.rs"] => in_tests(directory),
        _ => false,
    }
}

/// What only tests and fuzzers run. A fuzz target is a test whose inputs somebody else makes.
fn is_test_path(path: &str) -> bool {
    path.starts_with("fuzz/") || !path.contains("src/") && (path.starts_with("tests/") || path.contains("/tests/"))
}

/// Where the children of a module file stand, with a `/` at the end.
fn child_directory(path: &str) -> String {
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    let slash = if directory.is_empty() { "" } else { "/" };
    if is_root(path) || file == "mod.rs" {
        format!("{directory}{slash}")
    } else {
        format!("{directory}{slash}{}/", file.trim_end_matches(".rs"))
    }
}

/// The `mod name;` declarations of a file: names from the file's module inward, and what surrounds them.
fn declared_modules(tokens: &[Token]) -> Vec<(Vec<String>, &Around)> {
    tokens
        .windows(3)
        .filter_map(|window| match window {
            [word, name, end] if word.text == "mod" && name.is_word() && end.text == ";" => {
                let names = word.around.inline.iter().cloned().chain([name.text.clone()]).collect();
                Some((names, word.around.as_ref()))
            }
            _ => None,
        })
        .collect()
}

fn lex((path, text): (String, String)) -> Source {
    let mut tokens = Vec::new();
    let around = Around { test: is_test_path(&path), ..Around::default() };
    // A file that is not Rust has no tokens here; `sizes.rs` reports it.
    if let Ok(stream) = TokenStream::from_str(&text) {
        flatten(stream, around, &mut tokens);
    }
    Source { path, text, tokens, module: None, reached: false, test: false }
}

/// Appends the tokens of `stream` with what surrounds them.
fn flatten(stream: TokenStream, mut around: Around, out: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut rest = trees.as_slice();
    let mut outer = around.clone();
    while !rest.is_empty() {
        if let Some((inner, attribute, after)) = split_attribute(rest) {
            let target = if inner { &mut around } else { &mut outer };
            add_attribute(attribute.clone(), target);
            if inner {
                outer = around.clone();
            }
            let (head, _after) = rest.split_at(rest.len() - after.len());
            emit(head, &outer, out);
            rest = after;
            continue;
        }
        let (item, after) = rest.split_at(item_length(rest));
        emit(item, &outer, out);
        outer = around.clone();
        rest = after;
    }
}

/// Splits `#[…]` or `#![…]` off: whether it is an inner one, its content, and what follows.
fn split_attribute(trees: &[TokenTree]) -> Option<(bool, TokenStream, &[TokenTree])> {
    let punct = |tree: &TokenTree, wanted: char| matches!(tree, TokenTree::Punct(p) if p.as_char() == wanted);
    match trees {
        [hash, TokenTree::Group(group), after @ ..] if punct(hash, '#') && group.delimiter() == Delimiter::Bracket => {
            Some((false, group.stream(), after))
        }
        [hash, bang, TokenTree::Group(group), after @ ..]
            if punct(hash, '#') && punct(bang, '!') && group.delimiter() == Delimiter::Bracket =>
        {
            Some((true, group.stream(), after))
        }
        _ => None,
    }
}

fn add_attribute(attribute: TokenStream, around: &mut Around) {
    let mut tokens = Vec::new();
    flatten(attribute, Around::default(), &mut tokens);
    let words: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    match words.as_slice() {
        ["test"] | ["cfg", "(", "test", ")"] | ["cfg", "(", "all", "(", "test", ..] => around.test = true,
        [.., "::", "test"] | ["tokio", "::", "test", "(", ..] => around.test = true,
        ["path", "=", file] => around.path = Some(file.trim_matches('"').to_owned()),
        ["expect", "(", lints @ ..] => around.excused.extend(lints.iter().map(|lint| (*lint).to_owned())),
        _ => {}
    }
}

/// How many trees the item or statement at the front takes: up to its `;`, its braces or its `,`.
fn item_length(trees: &[TokenTree]) -> usize {
    let first = trees.first().map(ToString::to_string).unwrap_or_default();
    let statement = first == "let";
    let keyword = matches!(
        first.as_str(),
        "pub" | "fn" | "const" | "async" | "unsafe" | "impl" | "struct" | "enum" | "trait" | "type" | "mod" | "use"
    );
    let ends = |tree: &TokenTree| match tree {
        TokenTree::Punct(punct) => punct.as_char() == ';' || (punct.as_char() == ',' && !keyword && !statement),
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !statement,
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    trees.iter().position(ends).map_or(trees.len(), |place| place + 1)
}

fn emit(trees: &[TokenTree], around: &Around, out: &mut Vec<Token>) {
    let shared = Arc::new(around.clone());
    for (place, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = delimiters(group.delimiter());
                push(open, group.span_open(), false, &shared, out);
                let mut inner = Around { path: None, ..around.clone() };
                inner.inline.extend(inline_module(trees.get(..place).unwrap_or_default()));
                flatten(group.stream(), inner, out);
                push(close, group.span_close(), false, &shared, out);
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && ends_in_colon(trees.get(..place), out) => {
                if let Some(colon) = out.last_mut() {
                    colon.text.push(':');
                    colon.end = punct.span().end();
                }
            }
            TokenTree::Literal(literal) => push(&literal.to_string(), literal.span(), true, &shared, out),
            TokenTree::Punct(_) | TokenTree::Ident(_) => push(&tree.to_string(), tree.span(), false, &shared, out),
        }
    }
}

/// The tree before is the first, joined half of a `::`.
fn ends_in_colon(before: Option<&[TokenTree]>, out: &[Token]) -> bool {
    let joint = matches!(before, Some([.., TokenTree::Punct(punct)])
        if punct.as_char() == ':' && punct.spacing() == proc_macro2::Spacing::Joint);
    joint && out.last().is_some_and(|token| token.text == ":")
}

/// The name when `trees` end in `mod name`.
fn inline_module(trees: &[TokenTree]) -> Option<String> {
    match trees {
        [.., TokenTree::Ident(word), TokenTree::Ident(name)] if word == "mod" => Some(name.to_string()),
        _ => None,
    }
}

fn delimiters(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

fn push(text: &str, span: Span, literal: bool, around: &Arc<Around>, out: &mut Vec<Token>) {
    let around = Arc::clone(around);
    out.push(Token { text: text.to_owned(), start: span.start(), end: span.end(), literal, around });
}

#[test]
fn tokens_under_cfg_test_are_test_code() {
    let project = Project::planted(&[(
        "src/lib.rs",
        "fn a<T, U>() {} #[cfg(test)] mod tests { fn b() {} } fn c() {} #[test] fn d() {}",
    )]);
    let tests: Vec<&str> = project
        .sources
        .iter()
        .flat_map(|source| &source.tokens)
        .filter(|token| token.around.test && token.text.len() == 1 && token.is_word())
        .map(|token| token.text.as_str())
        .collect();
    assert_eq!(tests, ["b", "d"]);
}

#[test]
fn modules_are_reached_through_their_declarations() {
    let project = Project::planted(&[
        ("src/lib.rs", "pub mod a; mod inline { mod deep; }"),
        ("tests/t.rs", "#[path = \"shared/x.rs\"] mod x;"),
        ("tests/shared/x.rs", ""),
        ("src/a/mod.rs", "mod b; #[cfg(test)] mod tests;"),
        ("src/a/b.rs", "mod c;"),
        ("src/a/b/c.rs", ""),
        ("src/a/tests.rs", ""),
        ("src/inline/deep.rs", ""),
        ("src/a/dead.rs", ""),
    ]);
    let of = |path: &str| project.sources.iter().find(|source| source.path == path).unwrap();
    assert_eq!(of("src/a/b/c.rs").module.as_ref().unwrap().join("::"), "a::b::c");
    assert_eq!(of("src/inline/deep.rs").module.as_ref().unwrap().join("::"), "inline::deep");
    assert!(of("src/a/tests.rs").test && !of("src/a/b.rs").test);
    assert!(of("tests/shared/x.rs").reached && !of("src/a/dead.rs").reached);
}
