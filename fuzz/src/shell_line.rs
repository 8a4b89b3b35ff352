//! A line of the shell or of a script: words, what they ask for, and what completion makes of them.
//!
//! The input is the line. Claims: words that are quoted again mean the same; a comment behind them changes nothing; every
//! offset is one of the line; keys and values arrive byte by byte; a wrong line is told in one line; nothing that is shown
//! holds a control character.

use kvcli::fuzzing::{self, Asked, Completion, Word};

use crate::Seed;

thread_local! {
    static COMPLETION: Completion = Completion::new();
}

/// Takes one input.
pub fn run(line: &[u8]) {
    check_shown(line);
    match fuzzing::split(line) {
        Ok(words) => {
            check_places(&words, line);
            check_again(&words, line);
            check_parsed(&words);
        }
        Err((reason, so_far)) => {
            assert!(!reason.is_empty() && !so_far.is_empty());
            check_places(&so_far, line);
        }
    }
    if let Ok(text) = std::str::from_utf8(line) {
        COMPLETION.with(|completion| check_completed(completion, text));
    }
}

/// The words start where they are said to, in order, and only the last may touch the end.
fn check_places(words: &[Word], line: &[u8]) {
    let mut from = 0;
    for (place, word) in words.iter().enumerate() {
        assert!(word.start >= from && word.start < line.len(), "{word:?}");
        assert!(place + 1 == words.len() || !word.touches_end, "{word:?}");
        assert!(!line[word.start].is_ascii_whitespace() && word.bytes.len() <= line.len() - word.start);
        from = word.start + 1;
    }
}

fn meant(words: &[Word]) -> Vec<&[u8]> {
    words.iter().map(|word| word.bytes.as_slice()).collect()
}

fn check_again(words: &[Word], line: &[u8]) {
    let quoted: Vec<String> = words.iter().map(|word| fuzzing::quoted(&word.bytes)).collect();
    let quoted = quoted.join(" ");
    let again = fuzzing::split(quoted.as_bytes());
    assert!(again.as_ref().is_ok_and(|again| meant(again) == meant(words)), "{quoted}: {again:?}");
    let remarked = [line, b" # \"remark"].concat();
    let again = fuzzing::split(&remarked);
    assert!(again.as_ref().is_ok_and(|again| meant(again) == meant(words)), "{again:?}");
}

fn check_parsed(words: &[Word]) {
    let given: Vec<Vec<u8>> = words.iter().map(|word| word.bytes.clone()).collect();
    match fuzzing::parse(given.clone()) {
        Err(reason) => assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}"),
        Ok(Asked::Put(key, value)) => assert!(given.iter().any(|word| *word == key) && holds(&given, &value)),
        Ok(Asked::Get(key)) => assert!(holds(&given, &key)),
        Ok(Asked::Text(text)) => assert!(!text.is_empty()),
        Ok(Asked::Other) => {}
    }
}

fn holds(words: &[Vec<u8>], meant: &[u8]) -> bool {
    words.iter().any(|word| word == meant)
}

fn check_shown(bytes: &[u8]) {
    for shown in [fuzzing::visible(bytes), fuzzing::quoted(bytes)] {
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
    let again = fuzzing::split(fuzzing::quoted(bytes).as_bytes());
    assert!(again.as_ref().is_ok_and(|words| meant(words) == [bytes]), "{again:?}");
}

fn check_completed(completion: &Completion, text: &str) {
    let (start, names, _hint) = completion.at_end(text);
    assert!(start <= text.len());
    assert!(text.is_char_boundary(start), "a completion would start inside a character");
    assert!(names.iter().all(|name| !name.is_empty()));
}

/// One line for each command and each way to write a word.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let lines: &[&[u8]] = &[
        b"put key \"two words\\x00\\n\" # comment",
        b"put 'taken literally' \"\\xFF\\r\\t\\0\\\"\\\\\"",
        b"put -- -key -5",
        b"get a\\x41 ",
        b"get a --consistency stale --timeout 5s",
        b"del --prefix p/",
        b"del key",
        b"scan p --from a --to z --limit 10 --reverse --keys-only --count",
        b"import file.tsv --format json",
        b"export p/ --format tsv --output json",
        b"status --output table --endpoints 127.0.0.1:7101,[::1]:7102",
        b"bench put --clients 2 --rate 100 --size 10 --duration 1s --pipeline 4",
        b"log cat --data-dir d --from 1 --to 2",
        b"serve --id 1 --listen 127.0.0.1:0 --data-dir d --cluster 1=a:1,2=b:2",
        b"demo --nodes 3",
        b"help put",
        b"quit",
        b"get \"open",
        b"get 'open",
        b"get d\xc3\xa9j\xc3\xa0 \xff",
        b"--log-level debug --log-format json --keep-going status",
    ];
    lines.iter().enumerate().map(|(place, line)| (format!("line-{place:02}"), line.to_vec())).collect()
}
