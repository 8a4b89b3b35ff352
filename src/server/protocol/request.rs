//! What a client asks.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::server::kinds::{Consistency, MemberChange, Scan, SnapshotWant};
use crate::types::{EntryId, Index, LeaseId, NodeId, Term};

use super::raw::{Reader, Writer, length};
use super::{Packet, PacketError, VERSION};

const COMMAND: u8 = 1;
const PUT_BATCH: u8 = 2;
const LEASES: u8 = 3;
const GET: u8 = 5;
const SCAN: u8 = 6;
const STATUS: u8 = 7;
const SNAPSHOT: u8 = 8;
const PIECE: u8 = 9;
const MEMBERS: u8 = 10;
const CHANGE_MEMBERS: u8 = 11;
const TRANSFER: u8 = 12;

/// Most pairs of a batch: each costs some bytes of bookkeeping, however short it is.
pub(crate) const MAX_BATCH_PAIRS: usize = 1 << 16;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Its place on its connection, from 1.
    pub(crate) id: u64,
    /// How long the asker still waits, in milliseconds.
    pub(crate) deadline_ms: u32,
    /// What is asked.
    pub(crate) body: RequestBody,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestBody {
    /// Do a command of the store, which is here as its entry will have it.
    Command(Bytes),
    /// Set several keys, in this order, one behind the other in the log.
    PutBatch {
        /// Propose it only if the asked node itself leads in this term; it is then never forwarded.
        term: Option<Term>,
        /// Keys and values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// List the leases that live, in the order of their ids, from this one on.
    Leases {
        /// The first.
        from: LeaseId,
    },
    /// Read a key.
    Get {
        /// How fresh the answer must be.
        consistency: Consistency,
        /// The key.
        key: Bytes,
    },
    /// Read one page of a range.
    Scan {
        /// How fresh the answer must be.
        consistency: Consistency,
        /// The range.
        scan: Scan,
    },
    /// Say how the node is.
    Status,
    /// Write the node's state down.
    Snapshot,
    /// Give a piece of a snapshot of the node's.
    Piece(SnapshotWant),
    /// Say who belongs to the cluster.
    Members,
    /// Change who belongs to the cluster.
    ChangeMembers(MemberChange),
    /// Make a voter the leader.
    Transfer(NodeId),
}

#[derive(Serialize, Deserialize)]
struct CommandFixed {
    command: u32,
}

#[derive(Serialize, Deserialize)]
struct PutBatchFixed {
    term: Option<Term>,
    pairs: Vec<(u32, u32)>,
}

#[derive(Serialize, Deserialize)]
struct GetFixed {
    consistency: WireConsistency,
    key: u32,
}

#[derive(Serialize, Deserialize)]
struct ScanFixed {
    consistency: WireConsistency,
    from: Option<u32>,
    to: Option<u32>,
    prefix: u32,
    limit: Option<u64>,
    max_bytes: u64,
    reverse: bool,
    keys_only: bool,
    count_only: bool,
}

/// The order of the variants is part of the format.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum WirePiece {
    Manifest { at_least: Index },
    Chunk { snapshot: EntryId, chunk: u64 },
}

impl From<SnapshotWant> for WirePiece {
    fn from(want: SnapshotWant) -> Self {
        match want {
            SnapshotWant::Newest { at_least } => Self::Manifest { at_least },
            SnapshotWant::Chunk { snapshot, chunk } => Self::Chunk { snapshot, chunk },
        }
    }
}

impl From<WirePiece> for SnapshotWant {
    fn from(piece: WirePiece) -> Self {
        match piece {
            WirePiece::Manifest { at_least } => Self::Newest { at_least },
            WirePiece::Chunk { snapshot, chunk } => Self::Chunk { snapshot, chunk },
        }
    }
}

/// The order of the variants is part of the format.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum WireConsistency {
    Linearizable,
    Stale,
    Lease,
    StaleWithin { bound_us: u64 },
}

impl From<Consistency> for WireConsistency {
    fn from(consistency: Consistency) -> Self {
        match consistency {
            Consistency::Linearizable => Self::Linearizable,
            Consistency::Lease => Self::Lease,
            Consistency::StaleWithin(bound) => {
                Self::StaleWithin { bound_us: u64::try_from(bound.as_micros()).unwrap_or(u64::MAX) }
            }
            Consistency::Stale => Self::Stale,
        }
    }
}

impl From<WireConsistency> for Consistency {
    fn from(consistency: WireConsistency) -> Self {
        match consistency {
            WireConsistency::Linearizable => Self::Linearizable,
            WireConsistency::Lease => Self::Lease,
            WireConsistency::StaleWithin { bound_us } => Self::StaleWithin(Duration::from_micros(bound_us)),
            WireConsistency::Stale => Self::Stale,
        }
    }
}

impl RequestBody {
    /// True when answering it changes nothing, so that asking twice is always safe.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Self::Get { .. }
            | Self::Scan { .. }
            | Self::Leases { .. }
            | Self::Status
            | Self::Piece(_)
            | Self::Members => true,
            Self::Command(_) | Self::PutBatch { .. } | Self::Snapshot | Self::ChangeMembers(_) | Self::Transfer(_) => {
                false
            }
        }
    }

    /// True when any node may answer it from what it has.
    pub(crate) fn needs_no_leader(&self) -> bool {
        match self {
            Self::Get { consistency, .. } | Self::Scan { consistency, .. } => match consistency {
                Consistency::Stale => true,
                Consistency::Linearizable | Consistency::Lease | Consistency::StaleWithin(_) => false,
            },
            Self::Status | Self::Snapshot | Self::Piece(_) => true,
            Self::Command(_)
            | Self::PutBatch { .. }
            | Self::Leases { .. }
            | Self::Members
            | Self::ChangeMembers(_)
            | Self::Transfer(_) => false,
        }
    }

    /// True when any node may well answer it from what it has; it may have to ask the leader all the same.
    pub(crate) fn hardly_needs_a_leader(&self) -> bool {
        match self.freshness() {
            Some(Consistency::StaleWithin(_)) => true,
            Some(Consistency::Linearizable | Consistency::Lease | Consistency::Stale) | None => false,
        }
    }

    /// How fresh the state must be that it is answered from; `None` when it may be anything.
    pub(crate) fn freshness(&self) -> Option<Consistency> {
        if self.needs_no_leader() {
            return None;
        }
        let (Self::Get { consistency, .. } | Self::Scan { consistency, .. }) = self else {
            return Some(Consistency::Linearizable);
        };
        Some(*consistency)
    }

    /// Bytes of keys and values in it.
    pub(crate) fn raw_bytes(&self) -> usize {
        let optional = |key: &Option<Bytes>| key.as_ref().map_or(0, Bytes::len);
        match self {
            Self::Command(command) => command.len(),
            Self::PutBatch { pairs, .. } => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Get { key, .. } => key.len(),
            Self::Scan { scan, .. } => optional(&scan.from) + optional(&scan.to) + scan.prefix.len(),
            Self::Leases { .. }
            | Self::Status
            | Self::Snapshot
            | Self::Piece(_)
            | Self::Members
            | Self::ChangeMembers(_)
            | Self::Transfer(_) => 0,
        }
    }

    /// The packet of this request under `id`.
    ///
    /// # Errors
    /// `Malformed` when a key or value is longer than the format can say.
    pub(crate) fn encode(&self, id: u64, deadline_ms: u32) -> Result<Packet, PacketError> {
        let writer = Writer::new(id, self.raw_bytes()).number(deadline_ms);
        let (tag, writer) = match self {
            Self::Command(command) => {
                let fixed = CommandFixed { command: length("command", command)? };
                let mut writer = writer.fixed("command", &fixed)?;
                writer.raw(command);
                (COMMAND, writer)
            }
            Self::PutBatch { term, pairs } => (PUT_BATCH, encode_batch(writer, *term, pairs)?),
            Self::Leases { from } => (LEASES, writer.fixed("leases", from)?),
            Self::Get { consistency, key } => {
                let fixed = GetFixed { consistency: (*consistency).into(), key: length("get", key)? };
                let mut writer = writer.fixed("get", &fixed)?;
                writer.raw(key);
                (GET, writer)
            }
            Self::Scan { consistency, scan } => (SCAN, encode_scan(writer, *consistency, scan)?),
            Self::Status => (STATUS, writer.fixed("status", &())?),
            Self::Snapshot => (SNAPSHOT, writer.fixed("snapshot", &())?),
            Self::Members => (MEMBERS, writer.fixed("members", &())?),
            Self::ChangeMembers(change) => (CHANGE_MEMBERS, writer.fixed("change of members", change)?),
            Self::Transfer(to) => (TRANSFER, writer.fixed("transfer", to)?),
            Self::Piece(want) => (PIECE, writer.fixed("piece", &WirePiece::from(*want))?),
        };
        Ok(Packet { tag, version: VERSION, body: writer.finish() })
    }
}

impl Request {
    /// Reads a request. Keys and values share the packet's memory.
    ///
    /// # Errors
    /// `Unsupported` for a tag or version of a later release, `Malformed` for wrong bytes.
    pub(crate) fn decode(packet: &Packet) -> Result<Self, PacketError> {
        let (id, mut reader) = Reader::new("request", &packet.body)?;
        if packet.version != VERSION {
            return Err(PacketError::Unsupported { id, tag: packet.tag, version: packet.version });
        }
        let deadline_ms = reader.number()?;
        let body = match packet.tag {
            COMMAND => {
                let fixed: CommandFixed = reader.fixed()?;
                RequestBody::Command(reader.raw(fixed.command)?)
            }
            PUT_BATCH => decode_batch(&mut reader)?,
            LEASES => RequestBody::Leases { from: reader.fixed()? },
            GET => {
                let fixed: GetFixed = reader.fixed()?;
                RequestBody::Get { consistency: fixed.consistency.into(), key: reader.raw(fixed.key)? }
            }
            SCAN => decode_scan(&mut reader)?,
            STATUS => {
                let () = reader.fixed()?;
                RequestBody::Status
            }
            SNAPSHOT => {
                let () = reader.fixed()?;
                RequestBody::Snapshot
            }
            MEMBERS => {
                let () = reader.fixed()?;
                RequestBody::Members
            }
            CHANGE_MEMBERS => RequestBody::ChangeMembers(reader.fixed()?),
            TRANSFER => RequestBody::Transfer(reader.fixed()?),
            PIECE => RequestBody::Piece(reader.fixed::<WirePiece>()?.into()),
            tag => return Err(PacketError::Unsupported { id, tag, version: packet.version }),
        };
        reader.finish()?;
        Ok(Self { id, deadline_ms, body })
    }
}

fn too_many(pairs: usize) -> PacketError {
    PacketError::Malformed(format!("a batch of {pairs} pairs; at most {MAX_BATCH_PAIRS} are taken at once"))
}

fn encode_batch(writer: Writer, term: Option<Term>, pairs: &[(Bytes, Bytes)]) -> Result<Writer, PacketError> {
    if pairs.len() > MAX_BATCH_PAIRS {
        return Err(too_many(pairs.len()));
    }
    let lengths = pairs.iter().map(|(key, value)| Ok((length("put batch", key)?, length("put batch", value)?)));
    let fixed = PutBatchFixed { term, pairs: lengths.collect::<Result<_, PacketError>>()? };
    let mut writer = writer.fixed("put batch", &fixed)?;
    for (key, value) in pairs {
        writer.raw(key);
        writer.raw(value);
    }
    Ok(writer)
}

fn decode_batch(reader: &mut Reader) -> Result<RequestBody, PacketError> {
    let fixed: PutBatchFixed = reader.fixed()?;
    if fixed.pairs.len() > MAX_BATCH_PAIRS {
        return Err(too_many(fixed.pairs.len()));
    }
    let mut pairs = Vec::with_capacity(fixed.pairs.len());
    for (key, value) in fixed.pairs {
        pairs.push((reader.raw(key)?, reader.raw(value)?));
    }
    Ok(RequestBody::PutBatch { term: fixed.term, pairs })
}

fn encode_scan(writer: Writer, consistency: Consistency, scan: &Scan) -> Result<Writer, PacketError> {
    let optional = |key: &Option<Bytes>| key.as_ref().map(|key| length("scan", key)).transpose();
    let fixed = ScanFixed {
        consistency: consistency.into(),
        from: optional(&scan.from)?,
        to: optional(&scan.to)?,
        prefix: length("scan", &scan.prefix)?,
        limit: scan.limit,
        max_bytes: scan.max_bytes,
        reverse: scan.reverse,
        keys_only: scan.keys_only,
        count_only: scan.count_only,
    };
    let mut writer = writer.fixed("scan", &fixed)?;
    for key in scan.from.iter().chain(&scan.to).chain([&scan.prefix]) {
        writer.raw(key);
    }
    Ok(writer)
}

fn decode_scan(reader: &mut Reader) -> Result<RequestBody, PacketError> {
    let fixed: ScanFixed = reader.fixed()?;
    let mut optional = |length: Option<u32>| length.map(|length| reader.raw(length)).transpose();
    let scan = Scan {
        from: optional(fixed.from)?,
        to: optional(fixed.to)?,
        prefix: reader.raw(fixed.prefix)?,
        limit: fixed.limit,
        max_bytes: fixed.max_bytes,
        reverse: fixed.reverse,
        keys_only: fixed.keys_only,
        count_only: fixed.count_only,
    };
    Ok(RequestBody::Scan { consistency: fixed.consistency.into(), scan })
}
