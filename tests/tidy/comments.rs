//! Comments: say why. Marks need a reason that a stranger can act on, and code in a comment is neither.

use super::source::{Finding, Project, Source, Token};

/// Marks that say nothing about when or why.
const BARE_MARKS: &[&str] = &["FIXME", "XXX", "HACK"];
/// The one mark that may stand, with a sentence behind it.
const MARK: &str = "TODO";
/// Shortest sentence behind the mark, in characters.
const MIN_REASON_CHARS: usize = 30;

pub(crate) fn check(project: &Project) -> Vec<Finding> {
    project.sources.iter().flat_map(of).collect()
}

fn of(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, comment) in comments(source) {
        for word in comment.split(|c: char| !c.is_alphanumeric()) {
            if BARE_MARKS.contains(&word) {
                findings.push(source.finding(line, format!("`{word}`: fix it, or say why not in a sentence")));
            }
        }
        let reason = comment.split_once(MARK).map(|(_before, after)| after.trim_start_matches([':', ' ']));
        if reason.is_some_and(|reason| reason.chars().count() < MIN_REASON_CHARS) {
            findings.push(source.finding(line, format!("`{MARK}` without a reason that a stranger can act on")));
        }
        if is_code(comment) {
            findings.push(source.finding(line, "code in a comment: remove it, the history keeps it"));
        }
    }
    findings
}

/// Comments that are not docs, one a line, with their line numbers.
fn comments(source: &Source) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let literals: Vec<&Token> = source.tokens.iter().filter(|token| token.literal).collect();
    for (place, text) in source.text.lines().enumerate() {
        let line = place + 1;
        let in_literal = |column: usize| {
            let starts_before = |token: &&Token| (token.start.line, token.start.column) <= (line, column);
            let last = literals.partition_point(starts_before).checked_sub(1).and_then(|last| literals.get(last));
            last.is_some_and(|token| (line, column) < (token.end.line, token.end.column))
        };
        let start = text.match_indices("//").find(|(byte, _slashes)| {
            let column = text.get(..*byte).map_or(0, |before| before.chars().count());
            !in_literal(column)
        });
        let comment = start.and_then(|(byte, _slashes)| text.get(byte + 2..));
        if let Some(comment) = comment.filter(|comment| !comment.starts_with(['/', '!'])) {
            found.push((line, comment.trim()));
        }
    }
    found
}

/// One whole statement or item, or the opening line of one.
fn is_code(comment: &str) -> bool {
    let opened = comment.ends_with('{').then(|| format!("{comment}}}"));
    let text = opened.as_deref().unwrap_or(comment);
    let shaped = text.ends_with([';', '}']) && text.contains(['(', '=', '{', ':']);
    let statements = |text: &str| syn::parse::Parser::parse_str(syn::Block::parse_within, text);
    shaped && statements(text).is_ok_and(|statements| !statements.is_empty())
}

#[cfg(test)]
fn planted(text: &str) -> usize {
    check(&Project::planted(&[("src/a.rs", text)])).len()
}

#[test]
fn comments_with_reasons_are_passed() {
    for text in [
        "// The leader's own disk is not waited for; see the paper, 5.3.\nfn f() {}",
        "// TODO: use the other map once it keeps its order, as the range scan needs it.\nfn f() {}",
        "/// ```\n/// let x = f();\n/// ```\nfn f() {}",
        "fn f() -> &'static str { \"http://x; let a = 1; // FIXME\" }",
        "const A: &str = \"\n// let a = f();\n\";",
        "// done;\nfn f() {}",
    ] {
        assert_eq!(planted(text), 0, "{text}");
    }
}

#[test]
fn comments_with_code_or_bare_marks_are_found() {
    for text in [
        "// let x = f();\nfn f() {}",
        "fn f() {} // self.g(1)?;",
        "// if a == b {\nfn f() {}",
        "// use std::fs;\nfn f() {}",
        "// FIXME later, when there is time for all of this\nfn f() {}",
        "fn f() {} // TODO",
        "// TODO: tidy\nfn f() {}",
    ] {
        assert_eq!(planted(text), 1, "{text}");
    }
}
