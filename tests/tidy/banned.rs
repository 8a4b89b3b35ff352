//! Banned items, each with what to use instead.
//!
//! A pattern is a sequence of tokens, so strings, comments and line breaks do not matter and bodies of macros
//! count. Clippy denies some of these too; here they hold whatever the build passes to clippy.

use super::source::{Finding, Project, Source, Token};

/// Where a pattern is banned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In every Rust file.
    Everywhere,
    /// In all but test code and examples.
    Product,
    /// In the library, tests aside.
    Library,
}

struct Banned {
    pattern: &'static [&'static str],
    at: Where,
    /// A lint whose `#[expect]` with a reason excuses it.
    unless: Option<&'static str>,
    instead: &'static str,
}

const fn banned(pattern: &'static [&'static str], at: Where, instead: &'static str) -> Banned {
    Banned { pattern, at, unless: None, instead }
}

const BANNED: &[Banned] = &[
    banned(&["dbg", "!"], Where::Everywhere, "a `tracing` event, or an assertion with a message"),
    banned(&["todo", "!"], Where::Everywhere, "leave out what is not built"),
    banned(&["unimplemented", "!"], Where::Everywhere, "leave out what is not built"),
    banned(&["#", "[", "ignore"], Where::Everywhere, "make the test quick, or have it skip with a printed reason"),
    banned(&["assert", "!", "(", "true"], Where::Everywhere, "assert what can fail"),
    banned(&["assert", "!", "(", "false"], Where::Everywhere, "`panic!` with a message, in tests only"),
    banned(&["static", "mut"], Where::Everywhere, "hand the state in"),
    banned(&["println", "!"], Where::Product, "a `tracing` event in the library; the shell's `Output` in kvcli"),
    banned(&["print", "!"], Where::Product, "a `tracing` event in the library; the shell's `Output` in kvcli"),
    banned(&["eprintln", "!"], Where::Product, "a `tracing` event in the library; the shell's `Output` in kvcli"),
    banned(&["eprint", "!"], Where::Product, "a `tracing` event in the library; the shell's `Output` in kvcli"),
    Banned {
        pattern: &[".", "unwrap", "("],
        at: Where::Product,
        unless: Some("unwrap_used"),
        instead: "`?` with a named error, or `unwrap_or…`",
    },
    Banned {
        pattern: &[".", "expect", "("],
        at: Where::Product,
        unless: Some("expect_used"),
        instead: "`?` with a named error, or `unwrap_or…`",
    },
    Banned {
        pattern: &["panic", "!"],
        at: Where::Product,
        unless: Some("panic"),
        instead: "an error; a panic is for our own bugs, with `#[expect(clippy::panic, reason = \"…\")]`",
    },
    banned(&["Box", "<", "dyn", "Error"], Where::Library, "the operation's error enum in `error`"),
    banned(&["#", "[", "path"], Where::Library, "the file where `mod` looks for it"),
    banned(&["process", "::", "exit"], Where::Library, "an error to the caller"),
];

pub(crate) fn check(project: &Project) -> Vec<Finding> {
    project.sources.iter().flat_map(of).collect()
}

fn of(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, token) in source.tokens.iter().enumerate() {
        let rest = source.tokens.get(place..).unwrap_or_default();
        for ban in BANNED.iter().filter(|ban| starts_with(rest, ban.pattern)) {
            let excused = ban.unless.is_some_and(|lint| token.around.excused.iter().any(|name| name == lint));
            if applies(ban.at, source, token) && !excused {
                findings.push(source.finding(token.start.line, format!("{}: use {}", shown(ban.pattern), ban.instead)));
            }
        }
        findings.extend(unchecked_matches(source, place));
        findings.extend(lint_switch(source, rest, token));
    }
    findings
}

fn applies(at: Where, source: &Source, token: &Token) -> bool {
    let test = source.test || token.around.test;
    match at {
        Where::Everywhere => true,
        Where::Product => !test && !source.path.contains("examples/") && !source.path.contains("benches/"),
        Where::Library => !test && source.in_library(),
    }
}

fn starts_with(tokens: &[Token], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len()
        && tokens.iter().zip(pattern).all(|(token, text)| !token.literal && token.text == *text)
}

fn shown(pattern: &[&str]) -> String {
    format!("`{}`", pattern.concat())
}

/// `matches!(…);` as a statement: it computes an answer and drops it.
fn unchecked_matches(source: &Source, place: usize) -> Option<Finding> {
    let rest = source.tokens.get(place..)?;
    let before = place.checked_sub(1).and_then(|before| source.tokens.get(before));
    let statement = before.is_none_or(|token| matches!(token.text.as_str(), ";" | "{" | "}"));
    if !statement || !starts_with(rest, &["matches", "!", "("]) {
        return None;
    }
    let mut depth = 0usize;
    let close = rest.iter().position(|token| {
        match token.text.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => return false,
        }
        depth == 0
    })?;
    let dropped = rest.get(close + 1).is_some_and(|token| token.text == ";");
    let line = rest.first()?.start.line;
    dropped.then(|| source.finding(line, "`matches!(…);` asserts nothing: use `assert!(matches!(…))`"))
}

/// `#[allow]` and `#[expect]`: with a reason, and `allow` in tests only.
fn lint_switch(source: &Source, rest: &[Token], token: &Token) -> Option<Finding> {
    let outer = |name| starts_with(rest, &["#", "[", name, "("]) || starts_with(rest, &["#", "!", "[", name, "("]);
    let allow = outer("allow");
    if !allow && !outer("expect") {
        return None;
    }
    let test = source.test || token.around.test;
    if allow && !test {
        return Some(source.finding(token.start.line, "`#[allow]`: use `#[expect(…, reason = \"…\")]`"));
    }
    let end = rest.iter().position(|token| token.text == "]").unwrap_or(rest.len());
    let reason = rest.get(..end)?.iter().any(|token| token.text == "reason");
    (!reason).then(|| source.finding(token.start.line, "a lint is switched off without `reason = \"…\"`"))
}

#[cfg(test)]
fn planted(path: &str, text: &str) -> usize {
    check(&Project::planted(&[(path, text)])).len()
}

#[test]
fn banned_item_in_product_code_is_found() {
    for text in [
        "fn f() { dbg!(x); }",
        "fn f() { println!(\"x\"); }",
        "fn f() { m!(x.unwrap()); }",
        "fn f() { x\n.expect(\"y\"); }",
        "fn f() { todo!() }",
        "fn f() -> Result<(), Box<dyn Error>> { g() }",
        "#[allow(dead_code, reason = \"x\")] fn f() {}",
        "#[expect(dead_code)] fn f() {}",
        "#[expect(clippy::unwrap_used, reason = \"x\")] fn f() {} fn g() { x.unwrap(); }",
    ] {
        assert_eq!(planted("src/a.rs", text), 1, "{text}");
    }
}

#[test]
fn banned_item_in_a_string_comment_or_excused_is_passed() {
    for text in [
        "fn f() -> &'static str { \"println!(x.unwrap())\" } // dbg!(x)",
        "#[expect(clippy::unwrap_used, reason = \"x\")] fn f() { x.unwrap(); }",
        "fn f() { #[expect(clippy::expect_used, reason = \"x\")] let y = if a { x.expect(\"z\") } else { 1 }; }",
        "#[cfg(test)] mod tests { #[test] fn a() { x.unwrap(); println!(\"x\"); } }",
        "fn f() { x.unwrap_or(1); assert!(matches!(x, 1)); let y = matches!(x, 1); }",
    ] {
        assert_eq!(planted("src/a.rs", text), 0, "{text}");
    }
    assert_eq!(planted("tests/a.rs", "fn helper() { x.unwrap(); }"), 0);
}

#[test]
fn banned_test_that_cannot_fail_is_found() {
    for text in [
        "#[test] fn a() { matches!(x, Ok((1, _))); }",
        "#[test] fn a() { f(); matches!(x, 1); }",
        "#[test] fn a() { assert!(true); }",
        "#[test] #[ignore] fn a() {}",
        "#[test] #[ignore = \"slow\"] fn a() {}",
    ] {
        assert_eq!(planted("tests/a.rs", text), 1, "{text}");
    }
}
