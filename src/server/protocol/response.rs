//! What a node answers.

mod status;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::server::kinds::{KeyValue, LeaseStatus, MemberList, NodeStatus, ScanPage};
use crate::types::{Index, LeaseId, LogTime, NodeId};

use super::failure::Failure;
use super::raw::{Reader, Writer, length};
use super::{Packet, PacketError, VERSION};
use status::{MemberFixed, member_fixed, member_of, status_fixed, status_of};

const WRITTEN: u8 = 65;
const DONE: u8 = 66;
const VALUE: u8 = 67;
const PAGE: u8 = 68;
const STATUS: u8 = 69;
const FAILED: u8 = 70;
const GOODBYE: u8 = 71;
const SNAPSHOT: u8 = 72;
const PIECE: u8 = 73;
const MEMBERS: u8 = 74;
const TRANSFERRED: u8 = 75;
const LEASES: u8 = 76;

/// Something a node says on a client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The answer to one request.
    Response(Response),
    /// The last words on a connection.
    Goodbye(Goodbye),
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// The request's id.
    pub(crate) id: u64,
    /// Who leads, when it is another node than the one that answers.
    pub(crate) leader: Option<LeaderHint>,
    /// The answer itself.
    pub(crate) answer: Answer,
}

/// Why a node closes a connection, and what it took from it. What it took stays under way; what it did not take
/// certainly did not happen. A connection that ends without this leaves every request on it unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goodbye {
    /// The highest request id that was taken; 0 for none.
    pub(crate) taken: u64,
    /// Why. For `TooLarge`, `Malformed` and `Unsupported` the request after the last taken one is the reason.
    pub(crate) reason: Failure,
}

/// Where to find the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaderHint {
    /// The leader.
    pub(crate) id: NodeId,
    /// `HOST:PORT` it is reached under.
    pub(crate) address: String,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To a batch: the revision of the last pair.
    Written(Index),
    /// To a command: the revision of the entry that holds it, and what the store answered, as its own bytes.
    Done(Index, Bytes),
    /// To a question for leases: a first part of them, one at least; none when there are no more.
    Leases(Vec<LeaseStatus>),
    /// To a get; `None` when there is no such key.
    Value(Option<KeyValue>),
    /// To a scan.
    Page(ScanPage),
    /// To a status request.
    Status(Box<NodeStatus>),
    /// To a request for a snapshot: the last index in it.
    Snapshot(Index),
    /// To a request for a piece of one: its bytes, which have checksums of their own.
    Piece(Bytes),
    /// To a question for the members, and to a change of them.
    Members(MemberList),
    /// To a transfer: the node leads.
    Transferred,
    /// There is no answer.
    Failed(Failure),
}

#[derive(Serialize, Deserialize)]
struct Fixed<T> {
    leader: Option<LeaderHint>,
    answer: T,
}

#[derive(Serialize, Deserialize)]
struct DoneFixed {
    revision: Index,
    answer: u32,
}

#[derive(Serialize, Deserialize)]
struct LeaseFixed {
    lease: LeaseId,
    ttl_ms: u64,
    deadline: LogTime,
    keys: u64,
}

#[derive(Serialize, Deserialize)]
struct ItemFixed {
    key: u32,
    value: u32,
    create_revision: Index,
    mod_revision: Index,
    version: u64,
    lease: LeaseId,
}

#[derive(Serialize, Deserialize)]
struct PageFixed {
    items: Vec<ItemFixed>,
    count: u64,
    next: Option<u32>,
    revision: Index,
}

#[derive(Serialize, Deserialize)]
struct MembersFixed {
    leads: Option<NodeId>,
    members: Vec<MemberFixed>,
}

#[derive(Serialize, Deserialize)]
struct PieceFixed {
    bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct GoodbyeFixed {
    reason: Failure,
}

impl Message {
    /// The packet of this message.
    ///
    /// # Errors
    /// `Malformed` when a key or value is longer than the format can say.
    pub(crate) fn encode(&self) -> Result<Packet, PacketError> {
        match self {
            Self::Response(response) => response.encode(),
            Self::Goodbye(goodbye) => {
                let fixed = GoodbyeFixed { reason: goodbye.reason.clone() };
                let writer = Writer::new(goodbye.taken, 0).fixed("goodbye", &fixed)?;
                Ok(Packet { tag: GOODBYE, version: VERSION, body: writer.finish() })
            }
        }
    }

    /// Reads a message. Keys and values share the packet's memory.
    ///
    /// # Errors
    /// `Unsupported` for a tag or version of a later release, `Malformed` for wrong bytes.
    pub(crate) fn decode(packet: &Packet) -> Result<Self, PacketError> {
        let (id, mut reader) = Reader::new("response", &packet.body)?;
        if packet.version != VERSION {
            return Err(PacketError::Unsupported { id, tag: packet.tag, version: packet.version });
        }
        if packet.tag == GOODBYE {
            let fixed: GoodbyeFixed = reader.fixed()?;
            reader.finish()?;
            return Ok(Self::Goodbye(Goodbye { taken: id, reason: fixed.reason }));
        }
        let (leader, answer) = decode_answer(id, packet, &mut reader)?;
        reader.finish()?;
        Ok(Self::Response(Response { id, leader, answer }))
    }
}

impl Response {
    /// Bytes of keys and values in it: what its packet needs beyond a few dozen.
    pub(crate) fn raw_bytes(&self) -> usize {
        match &self.answer {
            Answer::Value(Some(item)) => item.key.len() + item.value.len(),
            Answer::Page(page) => {
                let items: usize = page.items.iter().map(|item| item.key.len() + item.value.len()).sum();
                items + page.next.as_ref().map_or(0, Bytes::len)
            }
            Answer::Piece(bytes) | Answer::Done(_, bytes) => bytes.len(),
            Answer::Written(_)
            | Answer::Leases(_)
            | Answer::Value(None)
            | Answer::Status(_)
            | Answer::Snapshot(_)
            | Answer::Members(_)
            | Answer::Transferred
            | Answer::Failed(_) => 0,
        }
    }

    fn encode(&self) -> Result<Packet, PacketError> {
        let writer = Writer::new(self.id, self.raw_bytes());
        let leader = self.leader.clone();
        let (tag, writer) = match &self.answer {
            Answer::Written(revision) => (WRITTEN, writer.fixed("written", &Fixed { leader, answer: revision })?),
            Answer::Done(revision, bytes) => {
                let answer = DoneFixed { revision: *revision, answer: length("answer", bytes)? };
                let mut writer = writer.fixed("done", &Fixed { leader, answer })?;
                writer.raw(bytes);
                (DONE, writer)
            }
            Answer::Leases(leases) => {
                let answer: Vec<_> = leases.iter().map(lease_fixed).collect();
                (LEASES, writer.fixed("leases", &Fixed { leader, answer })?)
            }
            Answer::Value(item) => {
                let answer = item.as_ref().map(|item| item_fixed("value", item)).transpose()?;
                let mut writer = writer.fixed("value", &Fixed { leader, answer })?;
                item.iter().for_each(|item| write_item(&mut writer, item));
                (VALUE, writer)
            }
            Answer::Page(page) => (PAGE, encode_page(writer, leader, page)?),
            Answer::Status(status) => {
                (STATUS, writer.fixed("status", &Fixed { leader, answer: status_fixed(status) })?)
            }
            Answer::Snapshot(index) => (SNAPSHOT, writer.fixed("snapshot", &Fixed { leader, answer: index })?),
            Answer::Piece(bytes) => {
                let answer = PieceFixed { bytes: length("piece", bytes)? };
                let mut writer = writer.fixed("piece", &Fixed { leader, answer })?;
                writer.raw(bytes);
                (PIECE, writer)
            }
            Answer::Members(list) => {
                let members = list.members.iter().map(member_fixed).collect();
                let answer = MembersFixed { leads: list.leader, members };
                (MEMBERS, writer.fixed("members", &Fixed { leader, answer })?)
            }
            Answer::Transferred => (TRANSFERRED, writer.fixed("transferred", &Fixed { leader, answer: () })?),
            Answer::Failed(failure) => (FAILED, writer.fixed("failure", &Fixed { leader, answer: failure })?),
        };
        Ok(Packet { tag, version: VERSION, body: writer.finish() })
    }
}

fn decode_answer(id: u64, packet: &Packet, reader: &mut Reader) -> Result<(Option<LeaderHint>, Answer), PacketError> {
    match packet.tag {
        WRITTEN => {
            let Fixed { leader, answer } = reader.fixed()?;
            Ok((leader, Answer::Written(answer)))
        }
        DONE => {
            let Fixed { leader, answer } = reader.fixed::<Fixed<DoneFixed>>()?;
            Ok((leader, Answer::Done(answer.revision, reader.raw(answer.answer)?)))
        }
        LEASES => {
            let Fixed { leader, answer } = reader.fixed::<Fixed<Vec<LeaseFixed>>>()?;
            Ok((leader, Answer::Leases(answer.iter().map(lease_of).collect())))
        }
        VALUE => {
            let Fixed { leader, answer } = reader.fixed::<Fixed<Option<ItemFixed>>>()?;
            let item = answer.map(|fixed| read_item(reader, &fixed)).transpose()?;
            Ok((leader, Answer::Value(item)))
        }
        PAGE => {
            let Fixed { leader, answer } = reader.fixed::<Fixed<PageFixed>>()?;
            Ok((leader, Answer::Page(decode_page(reader, &answer)?)))
        }
        STATUS => {
            let Fixed { leader, answer } = reader.fixed()?;
            Ok((leader, Answer::Status(Box::new(status_of(answer)))))
        }
        SNAPSHOT => {
            let Fixed { leader, answer } = reader.fixed()?;
            Ok((leader, Answer::Snapshot(answer)))
        }
        PIECE => {
            let Fixed { leader, answer } = reader.fixed::<Fixed<PieceFixed>>()?;
            Ok((leader, Answer::Piece(reader.raw(answer.bytes)?)))
        }
        MEMBERS => {
            let Fixed { leader, answer } = reader.fixed::<Fixed<MembersFixed>>()?;
            let members = answer.members.into_iter().map(member_of).collect();
            Ok((leader, Answer::Members(MemberList { leader: answer.leads, members })))
        }
        TRANSFERRED => {
            let Fixed { leader, answer: () } = reader.fixed()?;
            Ok((leader, Answer::Transferred))
        }
        FAILED => {
            let Fixed { leader, answer } = reader.fixed()?;
            Ok((leader, Answer::Failed(answer)))
        }
        tag => Err(PacketError::Unsupported { id, tag, version: packet.version }),
    }
}

fn item_fixed(what: &'static str, item: &KeyValue) -> Result<ItemFixed, PacketError> {
    Ok(ItemFixed {
        key: length(what, &item.key)?,
        value: length(what, &item.value)?,
        create_revision: item.create_revision,
        mod_revision: item.mod_revision,
        version: item.version,
        lease: item.lease,
    })
}

fn write_item(writer: &mut Writer, item: &KeyValue) {
    writer.raw(&item.key);
    writer.raw(&item.value);
}

fn read_item(reader: &mut Reader, fixed: &ItemFixed) -> Result<KeyValue, PacketError> {
    Ok(KeyValue {
        key: reader.raw(fixed.key)?,
        value: reader.raw(fixed.value)?,
        create_revision: fixed.create_revision,
        mod_revision: fixed.mod_revision,
        version: fixed.version,
        lease: fixed.lease,
    })
}

fn encode_page(writer: Writer, leader: Option<LeaderHint>, page: &ScanPage) -> Result<Writer, PacketError> {
    let answer = PageFixed {
        items: page.items.iter().map(|item| item_fixed("page", item)).collect::<Result<_, _>>()?,
        count: page.count,
        next: page.next.as_ref().map(|key| length("page", key)).transpose()?,
        revision: page.revision,
    };
    let mut writer = writer.fixed("page", &Fixed { leader, answer })?;
    page.items.iter().for_each(|item| write_item(&mut writer, item));
    page.next.iter().for_each(|key| writer.raw(key));
    Ok(writer)
}

fn decode_page(reader: &mut Reader, fixed: &PageFixed) -> Result<ScanPage, PacketError> {
    let items = fixed.items.iter().map(|item| read_item(reader, item)).collect::<Result<_, _>>()?;
    let next = fixed.next.map(|length| reader.raw(length)).transpose()?;
    Ok(ScanPage { items, count: fixed.count, next, revision: fixed.revision })
}

fn lease_fixed(lease: &LeaseStatus) -> LeaseFixed {
    LeaseFixed { lease: lease.lease, ttl_ms: lease.ttl_ms, deadline: lease.deadline, keys: lease.keys }
}

fn lease_of(fixed: &LeaseFixed) -> LeaseStatus {
    LeaseStatus { lease: fixed.lease, ttl_ms: fixed.ttl_ms, deadline: fixed.deadline, keys: fixed.keys }
}
