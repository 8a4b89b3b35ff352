//! Fixtures of the disk format: files pinned as hex dumps.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that breaks here is broken itself")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format/v1").join(name)
}

/// The lines of a hex dump, 16 bytes each; lines of zeros are left out.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            write!(out, "{:06x}", line * 16).unwrap();
            chunk.iter().for_each(|byte| write!(out, " {byte:02x}").unwrap());
            out.push('\n');
        }
    }
    writeln!(out, "{:06x}", bytes.len()).unwrap();
    out
}

/// The bytes of a dump.
fn undump(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let offset = usize::from_str_radix(words.next().unwrap(), 16).unwrap();
        bytes.resize(offset, 0);
        bytes.extend(words.map(|word| u8::from_str_radix(word, 16).unwrap()));
    }
    bytes
}

/// The bytes of a pinned file.
pub(crate) fn pinned(name: &str) -> Vec<u8> {
    undump(&std::fs::read_to_string(path(name)).unwrap())
}

/// Compares bytes with the pinned file, or pins them when `DLEDGER_WRITE_FIXTURES` is set.
pub(crate) fn check(name: &str, bytes: &[u8]) {
    let path = path(name);
    if std::env::var_os("DLEDGER_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, dump(bytes)).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(pinned == dump(bytes), "{name} is not as pinned; it is now\n{}", dump(bytes));
    assert_eq!(undump(&pinned), bytes);
}
