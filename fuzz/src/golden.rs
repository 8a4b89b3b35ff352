//! The golden files of `tests/fixtures`, as bytes.

use std::path::PathBuf;

/// A fixture's place.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// The text of a fixture.
#[must_use]
pub fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("fixture {name}: {error}"))
}

/// The fixtures of a directory: name and text, in the order of the names.
#[must_use]
pub fn directory(name: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(path(name)).unwrap_or_else(|error| panic!("fixtures {name}: {error}"));
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.into_iter().map(|file| (file.clone(), text(&format!("{name}/{file}")))).collect()
}

/// The bytes that hexadecimal digits stand for; blanks between them do not matter.
#[must_use]
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

/// The lines `name: hex` of a fixture.
#[must_use]
pub fn named_lines(name: &str) -> Vec<(String, Vec<u8>)> {
    let text = text(name);
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'));
    lines.map(|(name, bytes)| (name.trim().to_owned(), hex(bytes))).collect()
}

/// A dump whose lines start with the offset of their first byte; what no line shows is zero. The last
/// line is the length alone.
#[must_use]
pub fn dump(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let (offset, shown) = line.split_once(' ').unwrap_or((line, ""));
        let Ok(offset) = usize::from_str_radix(offset, 16) else { continue };
        bytes.resize(offset, 0);
        bytes.extend(hex(shown));
    }
    bytes
}
