//! What the fuzz targets reach and nobody else: the clients' protocol, which is no public API. Behind the feature
//! `fuzzing`, hidden from the documentation, free to change with any release.
//!
//! Each function takes a frame as a connection would, and gives back what this release would send in its place:
//! equal bytes mean that nothing was lost or added by reading. Deliberately absent: what the targets assert.

use crate::server::protocol::{Message, Packet, PacketError, Request};
use crate::server::wire::packet_of;
use crate::transport::connection::OutFrame;
use crate::transport::frame::{Frame, Head};
use crate::types::GroupId;

/// Reads a frame as a node reads a client's request, and writes it again.
///
/// # Errors
/// Why the node would refuse it.
pub fn request_again(frame: Frame) -> Result<OutFrame, String> {
    let request = Request::decode(&packet(frame)?).map_err(text)?;
    request.body.encode(request.id, request.deadline_ms).map(written).map_err(text)
}

/// Reads a frame as a client reads a node's answer, and writes it again.
///
/// # Errors
/// Why the client would refuse it.
pub fn response_again(frame: Frame) -> Result<OutFrame, String> {
    let message = Message::decode(&packet(frame)?).map_err(text)?;
    message.encode().map(written).map_err(text)
}

fn packet(frame: Frame) -> Result<Packet, String> {
    packet_of(frame).map_err(|error| error.to_string())
}

fn written(packet: Packet) -> OutFrame {
    let head = Head { group: GroupId::FIRST, tag: packet.tag, version: packet.version };
    OutFrame { head, body: packet.body, attached: Vec::new() }
}

fn text(error: PacketError) -> String {
    error.to_string()
}
