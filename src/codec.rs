//! The one place that knows the serialisation library.
//!
//! Everything that is not a record (peer messages, client frames, KV commands, manifests) is
//! `[tag: u8][version: u8][body]`; this module writes and reads the body. Integers are little-endian of fixed
//! width, so golden fixtures read well in a hex dump and sizes can be reasoned about. Trailing bytes are an error.
//!
//! Decoding is bounded. A text or a run of bytes is refused when it claims to be longer than the class of the input
//! (4 KiB, 256 KiB, [`MAX_BODY_BYTES`]), before memory is taken for it. A list may reserve up to 1 MiB for the
//! elements it claims, as serde does it, and grows from there with those that are really there.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most bytes one decoded value may claim. Larger frames carry their bulk as raw bytes beside the body.
pub const MAX_BODY_BYTES: usize = 64 << 20;
/// Classes of inputs: no value may claim more than the class that its bytes fall into. The library takes memory for a
/// text before it looks whether the text is there, so the bound must follow the input; it is a constant of the type.
const SHORT_BYTES: usize = 4 << 10;
const MIDDLE_BYTES: usize = 256 << 10;

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

fn library_config<const LIMIT: usize>() -> impl bincode::config::Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// Appends `value` to `out`.
///
/// # Errors
/// Never for the types of this crate; a type that serde cannot represent without a self-describing format is a
/// bug and reported as `Malformed`.
pub fn encode_into<T: Serialize>(what: &'static str, value: &T, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    bincode::serde::encode_into_std_write(value, out, library_config::<MAX_BODY_BYTES>())
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
    let length = bytes.len();
    let decoded = if length <= SHORT_BYTES {
        bincode::serde::borrow_decode_from_slice(bytes, library_config::<SHORT_BYTES>())
    } else if length <= MIDDLE_BYTES {
        bincode::serde::borrow_decode_from_slice(bytes, library_config::<MIDDLE_BYTES>())
    } else {
        bincode::serde::borrow_decode_from_slice(bytes, library_config::<MAX_BODY_BYTES>())
    };
    let (value, used) = decoded.map_err(|error| DecodeError::Malformed { what, reason: error.to_string() })?;
    match length - used {
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

    // A text of 60 MiB that a peer claimed in 30 bytes was zeroed in full before it was found to be missing. Unseen,
    // since the limit of 64 MiB was the same for every input and the outcome, an error, was the right one.
    #[test]
    fn decode_of_a_text_far_longer_than_its_input_is_refused_by_the_limit() {
        let reason = |bytes: &[u8]| match decode::<String>("text", bytes) {
            Err(DecodeError::Malformed { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        for (claimed, have) in [(60u64 << 20, 8), (SHORT_BYTES as u64, 20), (1 << 20, SHORT_BYTES + 1)] {
            let mut bytes = claimed.to_le_bytes().to_vec();
            bytes.resize(have, b'x');
            assert_eq!(reason(&bytes), "LimitExceeded", "{claimed} in {have}");
        }
    }

    #[test]
    fn decode_of_a_value_as_long_as_its_class_returns_it() {
        for length in [SHORT_BYTES, SHORT_BYTES + 1, MIDDLE_BYTES, MIDDLE_BYTES + 1] {
            let text = "x".repeat(length - 8);
            let mut bytes = Vec::new();
            encode_into("text", &text, &mut bytes).unwrap();
            assert_eq!(bytes.len(), length);
            assert_eq!(decode::<String>("text", &bytes).unwrap(), text);
            let list: Vec<Option<(u8, u16, u32)>> = vec![Some((1, 2, 3)); (length - 8) / 8];
            bytes.clear();
            encode_into("list", &list, &mut bytes).unwrap();
            assert_eq!(decode::<Vec<Option<(u8, u16, u32)>>>("list", &bytes).unwrap(), list);
        }
    }
}
