//! What a client and a node say to each other: requests, responses, and their bytes.
//!
//! ```text
//!   request   tag 1 │ version 1 │ id 8 │ deadline ms 4 │ fixed bytes 4 │ fixed part │ raw part
//!   response  tag 1 │ version 1 │ id 8 │               │ fixed bytes 4 │ fixed part │ raw part
//!                                                        by codec.rs ───┘            └── keys and values, one
//!                                                                                        behind the other
//! ```
//! Tag and version stand in the frame's header, the rest is the frame's body. Keys and values are not encoded: the
//! fixed part holds their lengths, so that a value of 8 MiB is cut out of the received frame and never copied.
//!
//! Invariants: every version of every message starts with the id, so that a message nobody here knows can still be
//! answered by number. A request's id is its place on its connection, counted from 1: a [`Goodbye`] can name all that
//! was taken by one number. Lengths are checked against what has arrived before anything is allocated or cut.
//!
//! Deliberately absent: who is asked and when to ask again (`client`), what is done with a request (`dispatch`).

mod failure;
mod raw;
mod request;
mod response;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use thiserror::Error;

use crate::codec::DecodeError;

pub(crate) use failure::Failure;
pub(crate) use request::{MAX_BATCH_PAIRS, Request, RequestBody};
pub(crate) use response::{Answer, Goodbye, LeaderHint, Message, Response};

/// The version every message of this release has.
pub(crate) const VERSION: u8 = 1;
/// The client number that is never fenced and fences nobody.
pub(crate) const ANONYMOUS: u128 = 0;

/// A message as it stands in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// What kind of message.
    pub(crate) tag: u8,
    /// Which version of it.
    pub(crate) version: u8,
    /// Everything from the id on.
    pub(crate) body: Bytes,
}

/// Why a packet is not a message.
#[derive(Debug, Error)]
pub(crate) enum PacketError {
    /// Its id can be read and nothing else is known here: a newer release wrote it.
    #[error("message {id} has tag {tag}, version {version}, which this release does not know")]
    Unsupported {
        /// The message's id.
        id: u64,
        /// The tag found.
        tag: u8,
        /// The version found.
        version: u8,
    },
    /// Its bytes are wrong. Nothing that follows on this connection can be trusted.
    #[error("{0}")]
    Malformed(String),
}

impl From<DecodeError> for PacketError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}
