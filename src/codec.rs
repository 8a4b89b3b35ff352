//! The one place that knows the serialisation library.
//!
//! Everything that is not a record (peer messages, client frames, KV commands, manifests) is
//! `[tag: u8][version: u8][body]`; this module writes and reads the body. Integers are little-endian of fixed
//! width, so golden fixtures read well in a hex dump and sizes can be reasoned about. Decoding is bounded: it
//! allocates no more than the input is long, and trailing bytes are an error.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most bytes one decoded value may claim. Larger frames carry their bulk as raw bytes beside the body.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// Why bytes could not be decoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not a value of the expected type, are cut short, or claim more than allowed.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// What was being decoded.
        what: &'static str,
        /// The library's reason.
        reason: String,
    },
    /// Bytes remain behind the value.
    #[error("malformed {what}: {extra} bytes follow the value")]
    Trailing {
        /// What was being decoded.
        what: &'static str,
        /// How many bytes are left over.
        extra: usize,
    },
    /// The tag or version is one this build does not know.
    #[error("unsupported {what}: tag {tag}, version {version}; a newer release may have written it")]
    Unsupported {
        /// What was being decoded.
        what: &'static str,
        /// The tag found.
        tag: u8,
        /// The version found.
        version: u8,
    },
}

fn library_config() -> impl bincode::config::Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<MAX_BODY_BYTES>()
}

/// Appends `value` to `out`.
///
/// # Errors
/// Never for the types of this crate; a type that serde cannot represent without a self-describing format is a
/// bug and reported as `Malformed`.
pub fn encode_into<T: Serialize>(what: &'static str, value: &T, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    bincode::serde::encode_into_std_write(value, out, library_config())
        .map(|_written| ())
        .map_err(|error| DecodeError::Malformed { what, reason: error.to_string() })
}

/// Decodes exactly one value from `bytes`.
///
/// # Errors
/// `Malformed` when the bytes are not such a value, `Trailing` when bytes remain.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    decode_borrowed(what, bytes)
}

/// As [`decode`], for a value that points into `bytes` instead of copying out of them.
///
/// # Errors
/// As for [`decode`].
pub fn decode_borrowed<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, DecodeError> {
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, library_config())
        .map_err(|error| DecodeError::Malformed { what, reason: error.to_string() })?;
    match bytes.len() - used {
        0 => Ok(value),
        extra => Err(DecodeError::Trailing { what, extra }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_after_encode_returns_the_value() {
        let mut bytes = Vec::new();
        encode_into("pair", &(7u64, "text".to_owned()), &mut bytes).unwrap();
        assert_eq!(decode::<(u64, String)>("pair", &bytes).unwrap(), (7, "text".to_owned()));
    }

    #[test]
    fn decode_of_a_short_or_long_input_is_refused() {
        let mut bytes = Vec::new();
        encode_into("number", &7u64, &mut bytes).unwrap();
        assert!(matches!(decode::<u64>("number", &bytes[..7]), Err(DecodeError::Malformed { .. })));
        bytes.push(0);
        assert!(matches!(decode::<u64>("number", &bytes), Err(DecodeError::Trailing { extra: 1, .. })));
    }

    #[test]
    fn decode_of_a_claimed_huge_length_is_refused_before_allocation() {
        let bytes = u64::MAX.to_le_bytes();
        assert!(matches!(decode::<Vec<u8>>("bytes", &bytes), Err(DecodeError::Malformed { .. })));
    }
}
