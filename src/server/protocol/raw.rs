//! Body layout: a few fixed numbers, the part that `codec.rs` writes, then keys and values as they are.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;

use super::PacketError;

/// Writes a body.
pub(super) struct Writer {
    out: BytesMut,
}

impl Writer {
    /// Starts with the message's number; `raw_bytes` is how much the raw part will need.
    pub(super) fn new(id: u64, raw_bytes: usize) -> Self {
        /// Room for everything beside the raw part of a common message.
        const USUAL_FIXED_BYTES: usize = 64;
        let mut out = BytesMut::with_capacity(raw_bytes + USUAL_FIXED_BYTES);
        out.put_u64_le(id);
        Self { out }
    }

    /// Appends a number that stands before the fixed part.
    pub(super) fn number(mut self, number: u32) -> Self {
        self.out.put_u32_le(number);
        self
    }

    /// Appends the fixed part and its length.
    pub(super) fn fixed<T: Serialize>(mut self, what: &'static str, value: &T) -> Result<Self, PacketError> {
        let mut bytes = Vec::new();
        codec::encode_into(what, value, &mut bytes)?;
        self.out.put_u32_le(length(what, &bytes)?);
        self.out.put_slice(&bytes);
        Ok(self)
    }

    /// Appends a key or value to the raw part.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    pub(super) fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// The length of `bytes` as messages carry it.
pub(super) fn length(what: &'static str, bytes: &[u8]) -> Result<u32, PacketError> {
    u32::try_from(bytes.len()).map_err(|_too_long| PacketError::Malformed(format!("{what} is longer than 4 GiB")))
}

/// Reads a body.
pub(super) struct Reader {
    what: &'static str,
    rest: Bytes,
}

impl Reader {
    /// Reads the message's number and keeps the rest.
    pub(super) fn new(what: &'static str, body: &Bytes) -> Result<(u64, Self), PacketError> {
        let mut rest = body.clone();
        let id = rest.try_get_u64_le().map_err(|_short| short(what))?;
        Ok((id, Self { what, rest }))
    }

    /// Reads a number that stands before the fixed part.
    pub(super) fn number(&mut self) -> Result<u32, PacketError> {
        self.rest.try_get_u32_le().map_err(|_short| short(self.what))
    }

    /// Reads the fixed part.
    pub(super) fn fixed<T: DeserializeOwned>(&mut self) -> Result<T, PacketError> {
        let length = self.number()?;
        let bytes = self.raw(length)?;
        Ok(codec::decode(self.what, &bytes)?)
    }

    /// Cuts the next key or value out of the raw part, without copying it.
    pub(super) fn raw(&mut self, length: u32) -> Result<Bytes, PacketError> {
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(self.rest.split_to(length)),
            Ok(_) | Err(_) => Err(short(self.what)),
        }
    }

    /// Refuses bytes that nothing accounts for.
    pub(super) fn finish(self) -> Result<(), PacketError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(PacketError::Malformed(format!("{}: {extra} bytes follow it", self.what))),
        }
    }
}

fn short(what: &'static str) -> PacketError {
    PacketError::Malformed(format!("{what}: it is cut short"))
}
