//! Splits a line of the shell, or of a script, into words.
//!
//! ```text
//!   put key "two words\x00\n" 'taken literally'   # comment
//! ```
//! - Blanks separate words; quotes join them; parts that touch are one word.
//! - In double quotes: `\xNN`, `\n`, `\r`, `\t`, `\0`, `\"`, `\\`; another `\` is an error rather than a guess.
//! - In single quotes, and outside quotes, every byte means itself.
//! - `#` at the start of a word begins a comment.
//!
//! Words are bytes: a script may hold keys that are no UTF-8. Deliberately absent: variables, globs, pipes.

/// One word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// What it means.
    pub(crate) bytes: Vec<u8>,
    /// Offset of its first byte in the line, quote included.
    pub(crate) start: usize,
    /// True when it was at least partly quoted.
    pub(crate) quoted: bool,
    /// True when the line ends inside it: no blank follows. Completion works on such a word.
    pub(crate) touches_end: bool,
}

/// Why a line has no words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What is wrong and how to write it.
    pub(crate) reason: String,
    /// The words as far as they could be read, the last one cut short.
    pub(crate) so_far: Vec<Word>,
}

/// Splits `line`.
///
/// # Errors
/// An open quote or an unknown escape.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Word>, Wrong> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += blanks(line.get(at..).unwrap_or_default());
        match line.get(at) {
            None | Some(b'#') => return Ok(words),
            Some(_) => {}
        }
        let mut word = Word { bytes: Vec::new(), start: at, quoted: false, touches_end: true };
        let taken = take_word(line.get(at..).unwrap_or_default(), &mut word);
        match taken {
            Ok(length) => at += length,
            Err(reason) => {
                words.push(word);
                return Err(Wrong { reason, so_far: words });
            }
        }
        word.touches_end = at == line.len();
        words.push(word);
    }
}

fn blanks(rest: &[u8]) -> usize {
    rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Reads one word from the front of `rest`; the answer is how many bytes it takes in the line.
fn take_word(rest: &[u8], word: &mut Word) -> Result<usize, String> {
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        let tail = rest.get(at + 1..).unwrap_or_default();
        match byte {
            b'\'' => {
                word.quoted = true;
                let inside = tail.iter().take_while(|&&byte| byte != b'\'').count();
                word.bytes.extend_from_slice(tail.get(..inside).unwrap_or_default());
                if inside == tail.len() {
                    return Err("a ' is not closed".to_owned());
                }
                at += inside + 2;
            }
            b'"' => {
                word.quoted = true;
                at += 1 + take_double_quoted(tail, &mut word.bytes)?;
            }
            blank if blank.is_ascii_whitespace() => break,
            plain => {
                word.bytes.push(plain);
                at += 1;
            }
        }
    }
    Ok(at)
}

/// Reads up to and with the closing quote; the answer is how many bytes that were.
fn take_double_quoted(rest: &[u8], bytes: &mut Vec<u8>) -> Result<usize, String> {
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        at += 1;
        match byte {
            b'"' => return Ok(at),
            b'\\' => {
                let (meant, length) = escape(rest.get(at..).unwrap_or_default())?;
                bytes.push(meant);
                at += length;
            }
            plain => bytes.push(plain),
        }
    }
    Err("a \" is not closed".to_owned())
}

/// The byte that an escape means, and how long the escape is behind its backslash.
fn escape(rest: &[u8]) -> Result<(u8, usize), String> {
    let wrong = || "in double quotes a \\ must begin \\xNN, \\n, \\r, \\t, \\0, \\\" or \\\\".to_owned();
    match rest.first() {
        Some(b'n') => Ok((b'\n', 1)),
        Some(b'r') => Ok((b'\r', 1)),
        Some(b't') => Ok((b'\t', 1)),
        Some(b'0') => Ok((0, 1)),
        Some(&same @ (b'"' | b'\\')) => Ok((same, 1)),
        Some(b'x') => {
            let digits = rest.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(wrong)?;
            let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let byte = u8::from_str_radix(digits, 16).ok().filter(|_| all_hex).ok_or_else(wrong)?;
            Ok((byte, 3))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::quoted;

    fn texts(line: &str) -> Vec<Vec<u8>> {
        split(line.as_bytes()).unwrap().into_iter().map(|word| word.bytes).collect()
    }

    #[test]
    fn words_are_split_at_blanks_and_joined_by_quotes() {
        assert_eq!(texts("  put a\tb "), [b"put".to_vec(), b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(texts(r#"put "a b"'c d'e """#), [b"put".to_vec(), b"a bc de".to_vec(), b"".to_vec()]);
        assert_eq!(texts(r"a\x41 'b\n'"), [br"a\x41".to_vec(), br"b\n".to_vec()]);
    }

    #[test]
    fn comments_begin_only_where_a_word_could() {
        assert_eq!(texts("# all of it"), Vec::<Vec<u8>>::new());
        assert_eq!(texts("get a#b # c"), [b"get".to_vec(), b"a#b".to_vec()]);
        assert_eq!(texts("get '#b'"), [b"get".to_vec(), b"#b".to_vec()]);
    }

    #[test]
    fn escapes_in_double_quotes_give_any_byte() {
        assert_eq!(texts(r#""\x00\xFF\n\t\r\0\"\\""#), [b"\x00\xff\n\t\r\0\"\\".to_vec()]);
        for wrong in [r#""\q""#, r#""\x4""#, r#""\x+1""#, r#""\"#] {
            assert!(split(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_open_quote_is_refused_and_leaves_the_words_for_completion() {
        let wrong = split(br#"get "us"#).unwrap_err();
        assert!(wrong.reason.contains("not closed"));
        assert_eq!(wrong.so_far.last().unwrap().bytes, b"us");
        assert_eq!(wrong.so_far.last().unwrap().start, 4);
    }

    #[test]
    fn quoted_output_of_any_byte_reads_back_as_that_byte() {
        let every: Vec<u8> = (0..=255).collect();
        for bytes in [every.as_slice(), b"plain", b"", b"#x", b"-x", "d\u{e9}j\u{e0}\u{9b}".as_bytes()] {
            assert_eq!(texts(&quoted(bytes)), [bytes.to_vec()]);
        }
    }
}
