//! From the store's results to answers and packets.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use crate::error::{ReadError, WriteError};
use crate::kv::answer::Answer as KvAnswer;
use crate::server::kinds::{LeaseStatus, MemberList, MembersError, SnapshotWant, TransferError, TransferRefused};
use crate::server::limits::{MAX_PAGE_BYTES, MAX_PAGE_ITEMS, MAX_PIECE_BYTES};
use crate::server::protocol::{Answer, Failure, LeaderHint, Message, Packet, PacketError, RequestBody, Response};
use crate::server::store::Store;
use crate::types::{Index, Role};

/// Requests that were answered together.
pub(super) struct Done {
    /// What they counted against the connection's bytes.
    pub(super) bytes: usize,
    pub(super) answers: Vec<(u64, Answer)>,
}

/// A read that waits for the end of the turn.
pub(super) struct Read {
    pub(super) id: u64,
    pub(super) bytes: usize,
    pub(super) wait: Duration,
    pub(super) body: RequestBody,
}

/// What a request counts against its connection's bytes. A scan counts the page it may bring.
pub(super) fn charge(body: &RequestBody) -> usize {
    match body {
        RequestBody::Scan { .. } => body.raw_bytes() + usize::try_from(MAX_PAGE_BYTES).unwrap_or(usize::MAX),
        RequestBody::Leases { .. } => MAX_PAGE_ITEMS * size_of::<LeaseStatus>(),
        RequestBody::Command(_)
        | RequestBody::PutBatch { .. }
        | RequestBody::Get { .. }
        | RequestBody::Status
        | RequestBody::Snapshot
        | RequestBody::Members
        | RequestBody::ChangeMembers(_)
        | RequestBody::Transfer(_) => body.raw_bytes(),
        RequestBody::Piece(_) => MAX_PIECE_BYTES,
    }
}

/// The answer to a batch.
pub(super) fn written(write: BoxFuture<'static, Result<Index, WriteError>>) -> BoxFuture<'static, Answer> {
    write.map(|result| result.map_or_else(|error| Answer::Failed(error.into()), Answer::Written)).boxed()
}

/// The answer to a command.
pub(super) fn done(command: BoxFuture<'static, Result<(Index, Bytes), Failure>>) -> BoxFuture<'static, Answer> {
    let answer = |(revision, answer)| Answer::Done(revision, answer);
    command.map(move |result| result.map_or_else(Answer::Failed, answer)).boxed()
}

/// The answer to a request for a snapshot, for which the asker waits so long. It is written whether or not he still does.
pub(super) fn snapshot<S: Store>(store: &S, wait: Duration) -> BoxFuture<'static, Answer> {
    let taken = store.snapshot();
    async move {
        match timeout(wait, taken).await {
            Ok(Ok(index)) => Answer::Snapshot(index),
            Ok(Err(error)) => Answer::Failed(error.into()),
            Err(_elapsed) => Answer::Failed(Failure::Unknown("the snapshot is still being written".to_owned())),
        }
    }
    .boxed()
}

/// The answer to a request for a piece of a snapshot.
pub(super) fn piece<S: Store>(store: &S, want: SnapshotWant, wait: Duration) -> BoxFuture<'static, Answer> {
    let given = store.snapshot_piece(want);
    async move {
        match timeout(wait, given).await {
            Ok(Ok(bytes)) => Answer::Piece(bytes),
            Ok(Err(error)) => Answer::Failed(error.into()),
            Err(_elapsed) => Answer::Failed(Failure::Overloaded("others are given snapshots too".to_owned())),
        }
    }
    .boxed()
}

/// The answer to a change of members.
pub(super) fn changed(change: BoxFuture<'static, Result<MemberList, MembersError>>) -> BoxFuture<'static, Answer> {
    change.map(|result| result.map_or_else(|error| Answer::Failed(error.into()), Answer::Members)).boxed()
}

/// The answer to a transfer, for which the asker waits so long. Who leads already need not be made the leader.
pub(super) fn transferred(
    transfer: BoxFuture<'static, Result<(), TransferError>>,
    wait: Duration,
) -> BoxFuture<'static, Answer> {
    async move {
        match timeout(wait, transfer).await {
            Ok(Ok(()) | Err(TransferError::Refused(TransferRefused::LeadsAlready { .. }))) => Answer::Transferred,
            Ok(Err(error)) => Answer::Failed(error.into()),
            Err(_elapsed) => Answer::Failed(Failure::Unknown("the transfer is still under way".to_owned())),
        }
    }
    .boxed()
}

/// Who belongs to the cluster, and how far they are: only the leader knows both.
fn members<S: Store>(store: &S) -> Result<Answer, ReadError> {
    let status = store.status();
    if status.role == Role::Leader {
        return Ok(Answer::Members(MemberList::of(status)));
    }
    Err(ReadError::Unavailable("this node does not lead".to_owned()))
}

/// Answers reads from the node's state as it is.
pub(super) async fn answer_reads<S: Store>(store: S, reads: Vec<Read>) -> Done {
    let mut done = Done { bytes: 0, answers: Vec::with_capacity(reads.len()) };
    for read in reads {
        let answer = match read.body {
            RequestBody::Get { key, .. } => store.get(key).await.map(Answer::Value),
            RequestBody::Scan { mut scan, .. } => {
                let asked = if scan.max_bytes == 0 { MAX_PAGE_BYTES } else { scan.max_bytes };
                scan.max_bytes = asked.min(MAX_PAGE_BYTES);
                store.scan(scan).await.map(Answer::Page)
            }
            RequestBody::Leases { from } => Ok(Answer::Leases(store.leases(from))),
            RequestBody::Status => Ok(Answer::Status(Box::new(store.status()))),
            RequestBody::Members => members(&store),
            RequestBody::Command(_)
            | RequestBody::PutBatch { .. }
            | RequestBody::Snapshot
            | RequestBody::Piece(_)
            | RequestBody::ChangeMembers(_)
            | RequestBody::Transfer(_) => continue,
        };
        done.bytes += read.bytes;
        done.answers.push((read.id, answer.unwrap_or_else(|error| Answer::Failed(error.into()))));
    }
    done
}

/// The answer of a node that serves nobody any more.
pub(super) fn as_stopped(answer: &Answer) -> Option<Failure> {
    match answer {
        Answer::Failed(failure @ Failure::Stopped(_)) => Some(failure.clone()),
        Answer::Failed(_)
        | Answer::Written(_)
        | Answer::Done(..)
        | Answer::Leases(_)
        | Answer::Value(_)
        | Answer::Page(_)
        | Answer::Status(_)
        | Answer::Snapshot(_)
        | Answer::Piece(_)
        | Answer::Members(_)
        | Answer::Transferred => None,
    }
}

/// Answers reads whose read index was not confirmed.
pub(super) fn fail_reads(reads: &[Read], failure: &Failure) -> Done {
    Done {
        bytes: reads.iter().map(|read| read.bytes).sum(),
        answers: reads.iter().map(|read| (read.id, Answer::Failed(failure.clone()))).collect(),
    }
}

/// The packet of an answer, or of what can be said of it when it is larger than a frame may be.
pub(super) fn response_packet(
    id: u64,
    leader: Option<LeaderHint>,
    answer: Answer,
    max_body_bytes: usize,
) -> Result<Packet, PacketError> {
    let encode = |leader, answer| Message::Response(Response { id, leader, answer }).encode();
    let done_at = if let Answer::Done(revision, _) = &answer { Some(*revision) } else { None };
    let packet = encode(leader.clone(), answer)?;
    if packet.body.len() <= max_body_bytes {
        return Ok(packet);
    }
    let reason = format!("the answer has {} bytes; a frame takes at most {max_body_bytes}", packet.body.len());
    let answer = match done_at {
        // It was done: a failure would say that it was not.
        Some(revision) => Answer::Done(revision, KvAnswer::NotKept.encode()),
        None => Answer::Failed(Failure::TooLarge(reason)),
    };
    encode(leader, answer)
}
