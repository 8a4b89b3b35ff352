//! The life of one connection to a peer, from the handshake to its end: one task that reads and writes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;

use super::connection::{ConnectionError, FrameReader};
use super::frame::{Frame, FrameBatch};
use super::handshake::{Refusal, RefusalCode};
use super::links::{Link, Phase, Shared};
use super::wire::{self, Received};
use super::{Channel, PeerBody, PeerFrame};

/// Room asked for at a time on the control connection, in bytes: its frames are small.
const CONTROL_READ_BYTES: usize = 16 << 10;
/// The same on the bulk connection.
const BULK_READ_BYTES: usize = 256 << 10;
/// How long a connection that is out of use may take to write the rest and see the other end close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the connection until it ends, and tells so.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, stream: TcpStream) {
    let (read, mut writer) = stream.into_split();
    let read_bytes = match link.key.1 {
        Channel::Control => CONTROL_READ_BYTES,
        Channel::Bulk => BULK_READ_BYTES,
    };
    let mut reader = FrameReader::new(read, link.receive_limit, read_bytes);
    let mut batch = FrameBatch::default();
    let end = tokio::select! {
        read = read_all(&shared, &link, &mut reader) => match read {
            Ok(()) => Phase::Dead,
            Err(reason) => {
                shared.violated(&link, reason);
                Phase::Draining
            }
        },
        error = write_all(&link, &mut writer, &mut batch) => {
            tracing::debug!(node = %link.node, peer = %link.key.0, channel = ?link.key.1, %error, "connection lost");
            Phase::Dead
        }
        phase = link.ended() => phase,
    };
    if end == Phase::Draining {
        // Whatever comes of it, the link is already out of use.
        drop(timeout(DRAIN_TIMEOUT, drain(&link, &mut reader, &mut writer, &mut batch)).await);
    }
    shared.drop_link(&link);
}

/// Reads until the stream ends; an error is a rule broken by the peer.
async fn read_all(shared: &Shared, link: &Arc<Link>, reader: &mut FrameReader) -> Result<(), Refusal> {
    let mut frames = Vec::new();
    loop {
        link.admission.room().await;
        let fault = match reader.read_frames(&mut frames).await {
            Ok(0) | Err(ConnectionError::Io(_) | ConnectionError::CutShort) => return Ok(()),
            Ok(_count) => None,
            Err(ConnectionError::Frame(error)) => Some(Refusal::new(RefusalCode::Violation, error)),
        };
        let mut decoded = Vec::with_capacity(frames.len());
        let mut verdict = fault.map_or(Ok(false), Err);
        for frame in frames.drain(..) {
            let bytes = frame.length();
            match receive(link, frame) {
                Ok(Received::Frame(frame)) => decoded.push((frame, bytes)),
                Ok(Received::Goodbye(text)) => {
                    shared.deliver(link, decoded.into_iter());
                    shared.goodbye(link, &text);
                    return Ok(());
                }
                Err(reason) => {
                    verdict = Err(reason);
                    break;
                }
            }
        }
        shared.deliver(link, decoded.into_iter());
        verdict?;
    }
}

/// Decodes a frame and checks what only the connection knows.
fn receive(link: &Link, frame: Frame) -> Result<Received, Refusal> {
    let peer = link.key.0;
    if !link.formed && !matches!(frame.tag, wire::TAG_FORMATION | wire::TAG_GOODBYE) {
        let text = format!("node {peer} sent a frame of tag {} on a connection that is for formation only", frame.tag);
        return Err(Refusal::new(RefusalCode::Violation, text));
    }
    let received = wire::receive(frame).map_err(|error| Refusal::new(RefusalCode::Violation, error))?;
    if let Received::Frame(PeerFrame { body: PeerBody::Raft(message), .. }) = &received
        && (message.from, message.to) != (peer, link.node)
    {
        let text =
            format!("node {peer} sent node {} a message from node {} to node {}", link.node, message.from, message.to);
        return Err(Refusal::new(RefusalCode::Violation, text));
    }
    Ok(received)
}

/// Writes what is queued, all that has gathered at once, until the connection fails. A cancelled call leaves in
/// `batch` what it has not written.
async fn write_all(link: &Link, writer: &mut OwnedWriteHalf, batch: &mut FrameBatch) -> io::Error {
    loop {
        link.take(batch).await;
        let bytes = batch.remaining();
        if let Err(error) = writer.write_all_buf(batch).await {
            return error;
        }
        link.written(bytes);
    }
}

/// Writes the rest, says that no more comes, and waits for the other end to close: closing with unread bytes would
/// make the kernel discard what the other end has not read yet.
async fn drain(link: &Link, reader: &mut FrameReader, writer: &mut OwnedWriteHalf, batch: &mut FrameBatch) {
    let write = async {
        writer.write_all_buf(batch).await?;
        while link.try_take(batch) {
            writer.write_all_buf(batch).await?;
        }
        writer.shutdown().await
    };
    // A failed write needs no further care: the connection is gone.
    let (written, ()) = tokio::join!(write, reader.discard());
    drop(written);
}
