//! The two framed halves of one connection, and the connection of a client, on either end.
//!
//! Reading takes everything that has arrived with few system calls and hands frames out as slices of the read
//! buffer; writing gathers frames and hands them to the kernel in vectored writes. Both halves are `Send` and work in
//! any tokio runtime. Deliberately absent: requests, answers and their numbers (the server's protocol).

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frame::{Frame, FrameBatch, FrameDecoder, FrameError, Head};
use super::handshake::{ClientHello, Welcome};

/// Bytes read in one turn before the frames in them are handed out: other connections want their turn too.
const READ_TURN_BYTES: usize = 1 << 20;
/// Room asked for at a time on a client's connection: there may be a thousand of them.
const CLIENT_READ_BYTES: usize = 16 << 10;

/// Why a connection cannot be used any further.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The operating system says so.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    /// The other end sent what is not a frame, or this end was asked to send one that is too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other end closed in the middle of a frame.
    #[error("connection lost: it ended within a frame")]
    CutShort,
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct FrameReader {
    stream: OwnedReadHalf,
    decoder: FrameDecoder,
}

impl FrameReader {
    pub(super) fn new(stream: OwnedReadHalf, limit: u32, read_bytes: usize) -> Self {
        Self { stream, decoder: FrameDecoder::new(limit, read_bytes) }
    }

    /// The next frame; `None` when the other end has closed between two frames. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost or what arrives is not a frame within the limit.
    pub async fn read_frame(&mut self) -> Result<Option<Frame>, ConnectionError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return self.end().map(|()| None);
            }
        }
    }

    /// The next frame that has already been read from the socket; never waits and makes no system call.
    ///
    /// # Errors
    /// What arrived is not a frame within the limit.
    pub fn buffered_frame(&mut self) -> Result<Option<Frame>, ConnectionError> {
        Ok(self.decoder.next_frame()?)
    }

    /// Waits for a frame, then appends it and all others that have arrived by then to `frames`, up to about a
    /// megabyte. Returns how many; 0 when the other end has closed between two frames. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost or what arrives is not a frame within the limit. Frames before the fault are in
    /// `frames`.
    pub async fn read_frames(&mut self, frames: &mut Vec<Frame>) -> Result<usize, ConnectionError> {
        let before = frames.len();
        loop {
            while let Some(frame) = self.decoder.next_frame()? {
                frames.push(frame);
            }
            if frames.len() > before {
                return Ok(frames.len() - before);
            }
            if self.fill().await? == 0 {
                return self.end().map(|()| 0);
            }
        }
    }

    /// Changes the longest frame that is accepted, in bytes, from the next frame on.
    pub fn set_max_frame_bytes(&mut self, limit: u32) {
        self.decoder.set_limit(limit);
    }

    /// Reads and forgets until the other end closes, so that closing this end does not discard what was written.
    pub(super) async fn discard(&mut self) {
        let mut scratch = BytesMut::with_capacity(CLIENT_READ_BYTES);
        while matches!(self.stream.read_buf(&mut scratch).await, Ok(count) if count > 0) {
            scratch.clear();
        }
    }

    /// Waits for bytes, then takes all that have arrived, up to a turn's worth. 0 means the end of the stream.
    /// Cancel safe: what was read is in the decoder.
    async fn fill(&mut self) -> io::Result<usize> {
        let mut room = room_of(self.decoder.space());
        let mut total = self.stream.read_buf(self.decoder.space()).await?;
        let mut count = total;
        // A read that did not fill its room has emptied the socket: no system call is spent to hear so.
        while count == room && total < READ_TURN_BYTES {
            room = room_of(self.decoder.space());
            count = match self.stream.try_read_buf(self.decoder.space()) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            total += count;
        }
        Ok(total)
    }

    /// Bytes of the frame under way.
    #[cfg(test)]
    pub(super) fn arrived(&self) -> usize {
        self.decoder.buffered()
    }

    fn end(&self) -> Result<(), ConnectionError> {
        if self.decoder.buffered() == 0 { Ok(()) } else { Err(ConnectionError::CutShort) }
    }
}

fn room_of(space: &BytesMut) -> usize {
    space.capacity() - space.len()
}

/// A frame to send.
#[derive(Clone, Debug)]
pub struct OutFrame {
    /// Group, tag and version.
    pub head: Head,
    /// The encoded body.
    pub body: Bytes,
    /// Bytes to travel behind the body; written from where they lie.
    pub attached: Vec<Bytes>,
}

/// The writing half of a connection. Dropping it tells the other end that no more comes.
#[derive(Debug)]
pub struct FrameWriter {
    stream: OwnedWriteHalf,
    batch: FrameBatch,
    limit: u32,
}

impl FrameWriter {
    pub(super) fn new(stream: OwnedWriteHalf, limit: u32) -> Self {
        Self { stream, batch: FrameBatch::default(), limit }
    }

    /// The longest frame that the other end accepts, in bytes.
    #[must_use]
    pub const fn max_frame_bytes(&self) -> u32 {
        self.limit
    }

    /// Gathers a frame for the next [`FrameWriter::flush`].
    ///
    /// # Errors
    /// `TooLong`; nothing is gathered then, and the connection stays usable.
    pub fn queue(&mut self, head: Head, body: &[u8], attached: &[Bytes]) -> Result<(), FrameError> {
        self.batch.push(head, body, attached, self.limit)
    }

    /// Bytes gathered and not yet written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        bytes::Buf::remaining(&self.batch)
    }

    /// Writes all that is gathered, with as few system calls as the socket allows. Cancel safe: what a cancelled
    /// call has left over is written by the next one.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        Ok(self.stream.write_all_buf(&mut self.batch).await?)
    }

    /// Writes bytes as they are.
    #[cfg(test)]
    pub(super) async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Gathers and writes frames at once. A cancelled call may leave frames for the next `flush`.
    ///
    /// # Errors
    /// The connection is lost, or a frame is too long: then those before it are gathered and not written.
    pub async fn write_frames<'a>(
        &mut self,
        frames: impl IntoIterator<Item = &'a OutFrame>,
    ) -> Result<(), ConnectionError> {
        for frame in frames {
            self.queue(frame.head, &frame.body, &frame.attached)?;
        }
        self.flush().await
    }
}

/// A connection between a client and a node, after the handshake. The same type stands at both ends.
#[derive(Debug)]
pub struct ClientConnection {
    /// Frames from the other end.
    pub reader: FrameReader,
    /// Frames to the other end.
    pub writer: FrameWriter,
    /// The other end's address.
    pub peer_addr: SocketAddr,
    /// What the client said.
    pub hello: ClientHello,
    /// What the node answered: who it is, and its cluster.
    pub welcome: Welcome,
}

impl ClientConnection {
    pub(super) fn new(stream: TcpStream, peer_addr: SocketAddr, hello: ClientHello, welcome: Welcome) -> Self {
        let limit = welcome.max_frame_bytes.min(super::frame::MAX_FRAME_BYTES);
        let (read, write) = stream.into_split();
        Self {
            reader: FrameReader::new(read, limit, CLIENT_READ_BYTES),
            writer: FrameWriter::new(write, limit),
            peer_addr,
            hello,
            welcome,
        }
    }

    /// The two halves, for two tasks.
    #[must_use]
    pub fn split(self) -> (FrameReader, FrameWriter) {
        (self.reader, self.writer)
    }
}
