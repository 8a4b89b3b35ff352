//! The seam between a connection's bytes and the packets that travel on it.
//!
//! Server and client are written against these two traits, the halves of a transport connection implement them, and
//! so do two ends of a queue in tests.

use std::future::Future;

use thiserror::Error;

use crate::transport::connection::{ConnectionError, FrameReader, FrameWriter};
use crate::transport::frame::{Frame, FrameError, HEADER_BYTES, Head};
use crate::types::GroupId;

use super::protocol::Packet;

/// Why no further packet can be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum WireError {
    /// The other side announced a packet beyond the limit; it was not read.
    #[error("{0}")]
    TooLarge(String),
    /// What came is not a packet.
    #[error("{0}")]
    Malformed(String),
    /// The connection is gone.
    #[error("{0}")]
    Closed(String),
}

/// Where packets come from.
pub(crate) trait PacketSource: Send {
    /// Waits for the next packet; `None` once the other side has closed in order. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<Packet>, WireError>> + Send;

    /// The next packet, where it has arrived whole already.
    ///
    /// # Errors
    /// Those of [`PacketSource::next`].
    fn arrived(&mut self) -> Result<Option<Packet>, WireError>;
}

/// Where packets go.
pub(crate) trait PacketSink: Send {
    /// The largest body that the other side takes.
    fn max_body_bytes(&self) -> usize;

    /// Writes all of `packets` at once. A dropped future may leave half a packet behind: write nothing afterwards.
    fn send(&mut self, packets: Vec<Packet>) -> impl Future<Output = Result<(), WireError>> + Send;
}

impl From<ConnectionError> for WireError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Frame(FrameError::TooLong { .. }) => Self::TooLarge(error.to_string()),
            ConnectionError::Frame(_) => Self::Malformed(error.to_string()),
            ConnectionError::Io(_) | ConnectionError::CutShort => Self::Closed(error.to_string()),
        }
    }
}

impl PacketSource for FrameReader {
    async fn next(&mut self) -> Result<Option<Packet>, WireError> {
        self.read_frame().await?.map(packet_of).transpose()
    }

    fn arrived(&mut self) -> Result<Option<Packet>, WireError> {
        self.buffered_frame()?.map(packet_of).transpose()
    }
}

/// The packet that a frame carries.
///
/// # Errors
/// `Malformed` for a frame of another group, or one with attached bytes.
pub(crate) fn packet_of(frame: Frame) -> Result<Packet, WireError> {
    if frame.group != GroupId::FIRST {
        return Err(WireError::Malformed(format!("group {} is not served here", frame.group)));
    }
    if !frame.attached.is_empty() {
        return Err(WireError::Malformed("bytes are attached where none belong".to_owned()));
    }
    Ok(Packet { tag: frame.tag, version: frame.version, body: frame.body })
}

impl PacketSink for FrameWriter {
    fn max_body_bytes(&self) -> usize {
        usize::try_from(self.max_frame_bytes()).unwrap_or(usize::MAX).saturating_sub(HEADER_BYTES)
    }

    async fn send(&mut self, packets: Vec<Packet>) -> Result<(), WireError> {
        for packet in packets {
            let head = Head { group: GroupId::FIRST, tag: packet.tag, version: packet.version };
            self.queue(head, &packet.body, &[]).map_err(ConnectionError::from)?;
        }
        Ok(self.flush().await?)
    }
}
