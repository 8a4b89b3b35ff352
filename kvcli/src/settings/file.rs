//! The file of `--config`: flat TOML with the field names of `config.rs`, checked key by key so that every error
//! names its line.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{Given, Knob, Origin, Shape, knob, suggestion};
use crate::exit::Failure;

/// Larger files are not configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the file.
///
/// # Errors
/// A file that cannot be read, is no TOML, or holds unknown keys or values of the wrong kind.
pub(super) fn read(path: &Path) -> Result<Vec<Given>, Failure> {
    let wrong = |reason: String| Failure::config(format!("cannot read {}: {reason}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > MAX_FILE_BYTES {
        return Err(wrong(format!("{length} bytes are too many for a configuration")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    parse(path, &text)
}

/// Parses the text of the file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Given>, Failure> {
    let wrong = |offset: usize, reason: String| {
        Failure::config(format!("file {}:{}: {reason}", path.display(), line_of(text, offset)))
    };
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        wrong(offset, error.message().lines().collect::<Vec<_>>().join(", "))
    })?;
    let mut given = Vec::new();
    for (key, value) in table.get_ref() {
        let offset = key.span().start;
        let name: &str = key.get_ref();
        let knob = knob(name).ok_or_else(|| wrong(offset, format!("unknown key `{name}`{}", suggestion(name))))?;
        let text_of_value = scalar(knob, value.get_ref()).map_err(|reason| wrong(offset, reason))?;
        given.push((knob.name, text_of_value, Origin::File(path.to_owned(), line_of(text, offset))));
    }
    Ok(given)
}

fn scalar(knob: &Knob, value: &DeValue<'_>) -> Result<String, String> {
    let found = match knob.shape {
        Shape::Text => value.as_str().map(str::to_owned),
        Shape::Number => value
            .as_integer()
            .and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok())
            .map(|number| number.to_string()),
        Shape::Flag => value.as_bool().map(|flag| flag.to_string()),
    };
    let wanted = match knob.shape {
        Shape::Text => "a string",
        Shape::Number => "a whole number",
        Shape::Flag => "true or false",
    };
    found.ok_or_else(|| format!("`{}` must be {wanted}", knob.name))
}

/// The line, from 1, that holds the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}
