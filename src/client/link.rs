//! One connection: many callers, one line of requests, answers by number.
//!
//! ```text
//!   callers ──Order──► line ──► write loop ──packets──► node
//!      ▲                          │ notes id                │
//!      └──────── in flight ◄──────┴────── read loop ◄───────┘
//! ```
//! The two loops run beside each other, so that a node that will not read before it has written cannot stop us from
//! reading. Invariant, on which every retry rests: an order ends as [`LinkError::NotSent`] only if the node certainly
//! never took it; it was not written, or the node said so in its last words. Anything else that was written and not
//! answered ends as [`LinkError::Broken`] or [`LinkError::TimedOut`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::server::protocol::{Failure, Goodbye, Message, Packet, RequestBody, Response};
use crate::server::wire::{PacketSink, PacketSource};
use crate::types::{ClusterId, Epoch, NodeId};

/// Orders that may wait to be written; callers beyond wait for room.
const LINE: usize = 256;
/// Requests written at once.
const MAX_WRITTEN: usize = 256;
/// Bytes of requests written at once; a single larger one goes alone.
const MAX_WRITTEN_BYTES: usize = 1 << 20;
/// What a node gets less than the caller has: an answer that says "certainly not" should come in time.
const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// What the handshake told about the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Where it was reached.
    pub(crate) address: String,
    /// Which node it is.
    pub(crate) node: NodeId,
    /// Its cluster; `None` until formation.
    pub(crate) cluster: Option<ClusterId>,
    /// Which life of it.
    pub(crate) epoch: Epoch,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LinkError {
    /// The node certainly never took it.
    #[error("{0}")]
    NotSent(String),
    /// The node certainly never took it, and never will.
    #[error("{0:?}")]
    Rejected(Failure),
    /// It was written and the connection is gone.
    #[error("{0}")]
    Broken(String),
    /// It was written, and its time has passed.
    #[error("no answer in time")]
    TimedOut,
}

type Outcome = Result<Response, LinkError>;

struct Order {
    body: RequestBody,
    deadline: Instant,
    answer: oneshot::Sender<Outcome>,
}

/// A connection to a node. Dropping the last handle closes it.
#[derive(Debug)]
pub(crate) struct Link {
    info: LinkInfo,
    line: mpsc::Sender<Order>,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Waiting {
    answer: oneshot::Receiver<Outcome>,
    deadline: Instant,
}

impl Link {
    /// Starts the two loops as a task of the caller's runtime.
    pub(crate) fn start<R, W>(info: LinkInfo, source: R, sink: W) -> Self
    where
        R: PacketSource + 'static,
        W: PacketSink + 'static,
    {
        let (line, orders) = mpsc::channel(LINE);
        tokio::spawn(drive(orders, source, sink));
        Self { info, line }
    }

    pub(crate) fn info(&self) -> &LinkInfo {
        &self.info
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.line.is_closed()
    }

    /// Puts a request in the line and waits for its answer.
    pub(crate) async fn call(&self, body: RequestBody, deadline: Instant) -> Outcome {
        self.submit(body, deadline).await?.answer().await
    }

    /// Puts a request in the line. Requests are written in the order in which they were submitted.
    pub(crate) async fn submit(&self, body: RequestBody, deadline: Instant) -> Result<Waiting, LinkError> {
        let (answer, waiting) = oneshot::channel();
        match timeout_at(deadline, self.line.send(Order { body, deadline, answer })).await {
            Ok(Ok(())) => Ok(Waiting { answer: waiting, deadline }),
            Ok(Err(_closed)) => Err(LinkError::NotSent(format!("the connection to {} is closed", self.info.address))),
            Err(_elapsed) => Err(LinkError::NotSent(format!("{} takes no more requests", self.info.address))),
        }
    }
}

impl Waiting {
    /// Waits for the answer. May be called again when its future was dropped.
    pub(crate) async fn answer(&mut self) -> Outcome {
        match timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(LinkError::Broken("the runtime of this connection has ended".to_owned())),
            Err(_elapsed) => Err(LinkError::TimedOut),
        }
    }
}

/// Requests that were written, by id.
#[derive(Default)]
struct InFlight(Mutex<BTreeMap<u64, oneshot::Sender<Outcome>>>);

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Outcome>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a connection ended.
enum End {
    Lost(String),
    Said(Goodbye),
}

async fn drive(mut orders: mpsc::Receiver<Order>, mut source: impl PacketSource, mut sink: impl PacketSink) {
    let in_flight = InFlight::default();
    let end = tokio::select! {
        end = read(&mut source, &in_flight) => end,
        written = write(&mut orders, &mut sink, &in_flight) => match written {
            // The node may have said why before it closed.
            Err(reason) => last_words(&mut source, &in_flight, reason).await,
            Ok(()) => return,
        },
    };
    orders.close();
    let reason = match &end {
        End::Lost(reason) => reason.clone(),
        End::Said(goodbye) => describe(&goodbye.reason),
    };
    let written = std::mem::take(&mut *in_flight.lock());
    for (id, answer) in written {
        let _caller_gone = answer.send(Err(fate(id, &end, &reason)));
    }
    while let Some(order) = orders.recv().await {
        let _caller_gone = order.answer.send(Err(LinkError::NotSent(reason.clone())));
    }
}

/// What became of a written request when the connection ended.
fn fate(id: u64, end: &End, reason: &str) -> LinkError {
    match end {
        End::Lost(_) => LinkError::Broken(reason.to_owned()),
        End::Said(goodbye) if id <= goodbye.taken => LinkError::Broken(reason.to_owned()),
        End::Said(goodbye) => match &goodbye.reason {
            Failure::TooLarge(_) | Failure::Malformed(_) | Failure::Unsupported(_) if id == goodbye.taken + 1 => {
                LinkError::Rejected(goodbye.reason.clone())
            }
            Failure::TooLarge(_)
            | Failure::Malformed(_)
            | Failure::Unsupported(_)
            | Failure::Unknown(_)
            | Failure::Unavailable(_)
            | Failure::Overloaded(_)
            | Failure::DiskFull(_)
            | Failure::Stopped(_)
            | Failure::No(_)
            | Failure::Compacted(_)
            | Failure::Refused(_) => LinkError::NotSent(reason.to_owned()),
        },
    }
}

/// A failure as a clause of a sentence.
pub(crate) fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Unknown(reason)
        | Failure::Unavailable(reason)
        | Failure::TooLarge(reason)
        | Failure::Overloaded(reason)
        | Failure::Malformed(reason)
        | Failure::Stopped(reason)
        | Failure::Unsupported(reason)
        | Failure::No(reason)
        | Failure::Refused(reason) => reason.clone(),
        Failure::Compacted(oldest) => format!("the changes before revision {oldest} are gone"),
        Failure::DiskFull(node) => format!("the disk of node {node} is full"),
    }
}

async fn last_words(source: &mut impl PacketSource, in_flight: &InFlight, reason: String) -> End {
    match timeout_at(Instant::now() + ANSWER_MARGIN, read(source, in_flight)).await {
        Ok(End::Said(goodbye)) => End::Said(goodbye),
        Ok(End::Lost(_)) | Err(_) => End::Lost(reason),
    }
}

async fn read(source: &mut impl PacketSource, in_flight: &InFlight) -> End {
    loop {
        let packet = match source.next().await {
            Ok(Some(packet)) => packet,
            Ok(None) => return End::Lost("the node closed the connection".to_owned()),
            Err(error) => return End::Lost(error.to_string()),
        };
        let response = match Message::decode(&packet) {
            Ok(Message::Response(response)) => response,
            Ok(Message::Goodbye(goodbye)) => return End::Said(goodbye),
            Err(error) => return End::Lost(format!("the node's answer cannot be read: {error}")),
        };
        let Some(answer) = in_flight.lock().remove(&response.id) else {
            return End::Lost(format!("the node answered request {}, which was not asked", response.id));
        };
        let _caller_gone = answer.send(Ok(response));
    }
}

/// Writes what stands in the line. `Ok` once every handle is gone.
async fn write(
    orders: &mut mpsc::Receiver<Order>,
    sink: &mut impl PacketSink,
    in_flight: &InFlight,
) -> Result<(), String> {
    let max_body_bytes = sink.max_body_bytes();
    let mut last_id = 0;
    while let Some(first) = orders.recv().await {
        let mut packets = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(order) = next.take() {
            if let Some((packet, answer)) = prepare(order, last_id + 1, max_body_bytes) {
                last_id += 1;
                bytes += packet.body.len();
                packets.push(packet);
                in_flight.lock().insert(last_id, answer);
            }
            if packets.len() < MAX_WRITTEN && bytes < MAX_WRITTEN_BYTES {
                next = orders.try_recv().ok();
            }
        }
        if !packets.is_empty() {
            sink.send(packets).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// The packet of an order; `None` when nobody waits for it any more, or when it cannot be sent.
fn prepare(order: Order, id: u64, max_body_bytes: usize) -> Option<(Packet, oneshot::Sender<Outcome>)> {
    if order.answer.is_closed() {
        return None;
    }
    let refuse = |answer: oneshot::Sender<Outcome>, reason: String| {
        let _caller_gone = answer.send(Err(LinkError::Rejected(Failure::TooLarge(reason))));
        None
    };
    let packet = match order.body.encode(id, wait_ms(order.deadline)) {
        Ok(packet) => packet,
        Err(error) => return refuse(order.answer, error.to_string()),
    };
    if packet.body.len() > max_body_bytes {
        let reason = format!("a request of {} bytes; this node takes at most {max_body_bytes}", packet.body.len());
        return refuse(order.answer, reason);
    }
    Some((packet, order.answer))
}

/// What the node may take of the time that is left.
fn wait_ms(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now());
    let wait = left.saturating_sub(ANSWER_MARGIN.min(left / 4));
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1)
}
