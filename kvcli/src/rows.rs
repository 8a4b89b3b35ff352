//! Rows of `import` and `export`.
//!
//! - **tsv**: `KEY<TAB>VALUE`, taken literally: the key ends at the first TAB, there are no escapes. It cannot
//!   carry a key with TAB or newline nor a value with a newline; writing such a row is an error, not a mangled row.
//! - **json**: the object of `get`, which carries every byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use crate::args::RowFormat;
use crate::escape::visible;

/// Reads a row.
///
/// # Errors
/// Why the line is no row.
pub(crate) fn parse(line: Vec<u8>, format: RowFormat) -> Result<(Bytes, Bytes), String> {
    match format {
        RowFormat::Tsv => parse_tsv(line),
        RowFormat::Json => parse_json(&line),
    }
}

fn parse_tsv(line: Vec<u8>) -> Result<(Bytes, Bytes), String> {
    let line = Bytes::from(line);
    let tab = line.iter().position(|&byte| byte == b'\t').ok_or("no TAB between key and value")?;
    Ok((line.slice(..tab), line.slice(tab + 1..)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    key: Text,
    value: Text,
    // What `export` writes beside key and value; an import makes its own.
    #[serde(default, rename = "create_revision")]
    _create_revision: Option<u64>,
    #[serde(default, rename = "mod_revision")]
    _mod_revision: Option<u64>,
    #[serde(default, rename = "version")]
    _version: Option<u64>,
    #[serde(default, rename = "lease")]
    _lease: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "key and value must be a string or {\"base64\": \"…\"}")]
enum Text {
    Plain(String),
    Encoded(Encoded),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

impl Text {
    fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self::Plain(text) => Ok(text.into()),
            Self::Encoded(Encoded { base64 }) => {
                STANDARD.decode(base64).map(Bytes::from).map_err(|error| format!("not base64: {error}"))
            }
        }
    }
}

fn parse_json(line: &[u8]) -> Result<(Bytes, Bytes), String> {
    let row: Row = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok((row.key.bytes()?, row.value.bytes()?))
}

/// Says why tsv cannot carry a row.
///
/// # Errors
/// The key or value holds a byte that ends one of them.
pub(crate) fn fits_tsv(key: &[u8], value: &[u8]) -> Result<(), String> {
    let reason = if key.contains(&b'\t') {
        "the key holds a TAB"
    } else if key.contains(&b'\n') {
        "the key holds a newline"
    } else if value.contains(&b'\n') {
        "the value holds a newline"
    } else {
        return Ok(());
    };
    Err(format!("tsv cannot carry key \"{}\": {reason}; use --format json", visible(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::bytes_value;

    #[test]
    fn tsv_key_ends_at_the_first_tab_and_nothing_is_escaped() {
        let (key, value) = parse(b"a\\n\tb\tc\r".to_vec(), RowFormat::Tsv).unwrap();
        assert_eq!((key.as_ref(), value.as_ref()), (&b"a\\n"[..], &b"b\tc\r"[..]));
        let (key, value) = parse(b"\t".to_vec(), RowFormat::Tsv).unwrap();
        assert!(key.is_empty() && value.is_empty());
        assert!(parse(b"no tab".to_vec(), RowFormat::Tsv).unwrap_err().contains("TAB"));
    }

    #[test]
    fn tsv_refuses_what_it_cannot_carry_and_names_the_key() {
        fits_tsv(b"k", b"a\tb").unwrap();
        for (key, value) in [(&b"a\tb"[..], &b""[..]), (b"a\nb", b""), (b"k", b"a\nb")] {
            assert!(fits_tsv(key, value).unwrap_err().contains(&visible(key)));
        }
    }

    #[test]
    fn json_carries_every_byte() {
        let every: Vec<u8> = (0..=255).collect();
        let line = format!("{{\"key\":{},\"value\":{}}}", bytes_value(&every), bytes_value("a\n\t\u{0}".as_bytes()));
        let (key, value) = parse(line.into_bytes(), RowFormat::Json).unwrap();
        assert_eq!((key.as_ref(), value.as_ref()), (every.as_slice(), &b"a\n\t\0"[..]));
    }

    #[test]
    fn json_that_is_no_row_is_refused() {
        for line in [
            "",
            "5",
            "{\"key\":\"a\"}",
            "{\"key\":1,\"value\":\"\"}",
            "{\"key\":\"a\",\"value\":\"\",\"ttl\":1}",
            "{\"key\":\"a\",\"value\":{\"base64\":\"*\"}}",
        ] {
            assert!(parse(line.as_bytes().to_vec(), RowFormat::Json).is_err(), "{line}");
        }
    }
}
