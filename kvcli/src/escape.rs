//! Bytes on a terminal: control bytes as `\xNN`, so that no stored value can drive the terminal.
//!
//! Pipes and files get raw bytes; that choice is made by the printer, not here.

use std::fmt::Write as _;

/// Appends `bytes` with control characters, and bytes that are no UTF-8, written as `\xNN`.
pub(crate) fn append_visible(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let encoded = character.encode_utf8(&mut buffer).as_bytes();
            if character.is_control() { append_hex(out, encoded) } else { out.extend_from_slice(encoded) }
        }
        append_hex(out, chunk.invalid());
    }
}

/// The same as text.
pub(crate) fn visible(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    append_visible(&mut out, bytes);
    String::from_utf8_lossy(&out).into_owned()
}

/// How a word is typed in the shell to mean exactly `bytes`: bare where that is safe, else in double quotes.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let bare =
        !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/_.:@%+=,-".contains(byte));
    if bare && !bytes.starts_with(b"-") {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                control if control.is_control() => {
                    let mut buffer = [0; 4];
                    push_hex(&mut text, control.encode_utf8(&mut buffer).as_bytes());
                }
                other => text.push(other),
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text.push('"');
    text
}

fn append_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut text = String::new();
    push_hex(&mut text, bytes);
    out.extend_from_slice(text.as_bytes());
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_text_holds_no_control_byte() {
        assert_eq!(visible(b"a\tb\x1b[31m\xff\xc2\x9b\xc3\xa9"), "a\\x09b\\x1b[31m\\xff\\xc2\\x9b\u{e9}");
    }

    #[test]
    fn quoted_words_are_bare_only_when_safe() {
        assert_eq!(quoted(b"users/7"), "users/7");
        assert_eq!(quoted(b"-5"), "\"-5\"");
        assert_eq!(quoted(b""), "\"\"");
        assert_eq!(quoted(b"a \"b\"\\\n\xff"), "\"a \\\"b\\\"\\\\\\x0a\\xff\"");
    }
}
