//! One connection: takes what has arrived, hands it to the store, writes what is ready.
//!
//! ```text
//!            ┌──────────────── one turn ────────────────┐
//!   packets ─┤ writes: first polled in order ─► running │
//!            │ reads: gathered ─► one wait for each freshness ─► running
//!            │ running, as far as done ──────► answers ─┤─► one vectored write
//!            └──────────────────────────────────────────┘
//! ```
//! Invariants:
//! - Writes are proposed in the order in which they came: each is polled for the first time when it is decoded, and
//!   that poll hands it over (see [`Store`]). Answers leave in the order in which they are ready.
//! - A read gathered in a turn waits for a state that was called fresh enough after the read had arrived.
//! - Nothing is taken beyond the limits of `limits.rs`, and nothing past a closed fence.
//! - Whatever a client sends, it is told why its connection ends, and what was taken from it (`Goodbye`).
//!
//! Deliberately absent: threads, timers of its own (the store keeps the deadlines), knowledge of sockets.

mod answers;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::unconstrained;
use tokio::time::timeout;

use crate::types::Term;

use answers::{
    Done, Read, answer_reads, as_stopped, changed, charge, done, fail_reads, piece, response_packet, snapshot,
    transferred, written,
};

use super::kinds::Consistency;
use super::limits::{
    Fence, LINGER, MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES, MAX_OUTPUT_BYTES, MAX_TURN, MAX_WAIT, WRITE_STALL,
};
use super::protocol::{Answer, Failure, Goodbye, Message, Packet, PacketError, Request, RequestBody};
use super::store::Store;
use super::wire::{PacketSink, PacketSource, WireError};

/// Why a connection ends.
enum End {
    /// The client closed it, or it broke: nobody listens any more.
    Gone,
    /// The client did something wrong: what it asked before is answered, then it is told.
    Told(Failure),
    /// Another connection speaks for the client: nothing more is handed over, and this one is told.
    Fenced,
}

/// Serves a connection until it ends. Dropping the future closes it and leaves the outcome of what was under way
/// unknown to the client.
pub(crate) async fn run<S: Store>(
    store: S,
    fence: Arc<Fence>,
    mut source: impl PacketSource,
    mut sink: impl PacketSink,
) {
    let mut connection = Connection::new(store, fence);
    let end = match connection.serve(&mut source, &mut sink).await {
        Err(end) => end,
        Ok(never) => match never {},
    };
    let reason = match end {
        End::Gone => return,
        End::Told(reason) => {
            connection.finish().await;
            reason
        }
        End::Fenced => Failure::Unavailable("a newer connection of this client took over".to_owned()),
    };
    connection.say_goodbye(reason, &mut sink).await;
}

/// Refuses a connection that was not admitted.
pub(crate) async fn refuse(reason: Failure, mut sink: impl PacketSink) {
    if let Ok(packet) = Message::Goodbye(Goodbye { taken: 0, reason }).encode() {
        let _gone_already = timeout(LINGER, sink.send(vec![packet])).await;
    }
}

struct Connection<S> {
    store: S,
    fence: Arc<Fence>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    gathered: Vec<Read>,
    /// Answered and not yet written.
    ready: Vec<(u64, Answer)>,
    /// Requests taken and not yet answered, and their bytes.
    in_flight: usize,
    in_flight_bytes: usize,
    /// The id of the last request taken.
    taken: u64,
}

impl<S: Store> Connection<S> {
    fn new(store: S, fence: Arc<Fence>) -> Self {
        Self {
            store,
            fence,
            running: FuturesUnordered::new(),
            gathered: Vec::new(),
            ready: Vec::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            taken: 0,
        }
    }

    async fn serve(&mut self, source: &mut impl PacketSource, sink: &mut impl PacketSink) -> Result<Infallible, End> {
        let fence = Arc::clone(&self.fence);
        loop {
            let has_room = self.has_room();
            tokio::select! {
                biased;
                () = fence.closed() => return Err(End::Fenced),
                Some(done) = self.running.next() => self.note(done),
                packet = source.next(), if has_room => {
                    let packet = packet.map_err(End::from)?.ok_or(End::Gone)?;
                    self.take(&packet).await?;
                }
            }
            let mut taken = 1;
            while taken < MAX_TURN && self.has_room() {
                let Some(packet) = source.arrived().map_err(End::from)? else { break };
                self.take(&packet).await?;
                taken += 1;
            }
            self.start_reads();
            while let Some(done) = self.running.next().now_or_never().flatten() {
                self.note(done);
            }
            let stopped = self.ready.iter().find_map(|(_id, answer)| as_stopped(answer));
            self.write_ready(sink).await?;
            if let Some(reason) = stopped {
                return Err(End::Told(reason));
            }
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight < MAX_IN_FLIGHT && self.in_flight_bytes < MAX_IN_FLIGHT_BYTES
    }

    fn note(&mut self, done: Done) {
        self.in_flight -= done.answers.len();
        self.in_flight_bytes -= done.bytes;
        self.ready.extend(done.answers);
    }

    /// Takes one request. Never waits: the one await polls once.
    async fn take(&mut self, packet: &Packet) -> Result<(), End> {
        let request = match Request::decode(packet) {
            Ok(request) => request,
            Err(error @ PacketError::Unsupported { id, .. }) => {
                self.count(id)?;
                self.ready.push((id, Answer::Failed(Failure::Unsupported(error.to_string()))));
                return Ok(());
            }
            Err(PacketError::Malformed(reason)) => return Err(End::Told(Failure::Malformed(reason))),
        };
        let Request { id, deadline_ms, body } = request;
        let wait = Duration::from_millis(deadline_ms.into()).min(MAX_WAIT);
        let bytes = charge(&body);
        let write = match body {
            RequestBody::Command(command) => done(self.store.command(command, wait)),
            RequestBody::PutBatch { term, pairs } => match self.leads_in(term) {
                Ok(()) => written(self.store.put_batch(term, pairs, wait)),
                Err(failure) => std::future::ready(Answer::Failed(failure)).boxed(),
            },
            RequestBody::Snapshot => snapshot(&self.store, wait),
            RequestBody::Piece(want) => piece(&self.store, want, wait),
            RequestBody::ChangeMembers(change) => changed(self.store.change_members(change, wait)),
            RequestBody::Transfer(to) => transferred(self.store.transfer(to), wait),
            RequestBody::Get { .. }
            | RequestBody::Scan { .. }
            | RequestBody::Leases { .. }
            | RequestBody::Status
            | RequestBody::Members => {
                self.count(id)?;
                self.enter(bytes);
                self.gathered.push(Read { id, bytes, wait, body });
                return Ok(());
            }
        };
        self.hand_over(id, bytes, write).await
    }

    /// Refuses a batch meant for a leader that this node is not. The store looks again when it proposes.
    fn leads_in(&self, term: Option<Term>) -> Result<(), Failure> {
        let Some(term) = term else { return Ok(()) };
        match self.store.leadership().leads_in {
            Some(present) if present == term => Ok(()),
            Some(_) | None => Err(Failure::Unavailable(format!("this node does not lead in term {term}"))),
        }
    }

    /// Polls a write for the first time, behind all that came before it and before all that comes after it.
    ///
    /// The runtime's own scheduling budget is set aside for writes: it makes what they wait in line for answer "later"
    /// without having taken a place, and those that come after would pass.
    async fn hand_over(&mut self, id: u64, bytes: usize, write: BoxFuture<'static, Answer>) -> Result<(), End> {
        let mut write = unconstrained(write).boxed();
        let fence = Arc::clone(&self.fence);
        let first = poll_fn(|context| Poll::Ready(fence.pass(|| write.poll_unpin(context)))).await;
        let first = first.ok_or(End::Fenced)?;
        self.count(id)?;
        match first {
            Poll::Ready(answer) => self.ready.push((id, answer)),
            Poll::Pending => {
                self.enter(bytes);
                self.running.push(async move { Done { bytes, answers: vec![(id, write.await)] } }.boxed());
            }
        }
        Ok(())
    }

    fn enter(&mut self, bytes: usize) {
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
    }

    /// Notes that a request was taken; its number must be its place.
    fn count(&mut self, id: u64) -> Result<(), End> {
        if id != self.taken + 1 {
            let reason = format!("request {id} came where {} was due", self.taken + 1);
            return Err(End::Told(Failure::Malformed(reason)));
        }
        self.taken = id;
        Ok(())
    }

    /// Starts the reads of this turn: those that must be equally fresh wait together, the others for nothing.
    fn start_reads(&mut self) {
        let mut together: Vec<(Consistency, Vec<Read>)> = Vec::new();
        for read in self.gathered.drain(..) {
            let store = self.store.clone();
            let Some(consistency) = read.body.freshness() else {
                self.running.push(answer_reads(store, vec![read]).boxed());
                continue;
            };
            match together.iter_mut().find(|(known, _reads)| *known == consistency) {
                Some((_consistency, reads)) => reads.push(read),
                None => together.push((consistency, vec![read])),
            }
        }
        for (consistency, reads) in together {
            let wait = reads.iter().map(|read| read.wait).max().unwrap_or_default();
            let (store, fresh) = (self.store.clone(), self.store.catch_up(consistency, wait));
            let reads = async move {
                match fresh.await {
                    Ok(()) => answer_reads(store, reads).await,
                    Err(error) => fail_reads(&reads, &Failure::from(error)),
                }
            };
            self.running.push(reads.boxed());
        }
    }

    /// Writes all that is ready: everything at once, unless it is more than a bounded buffer holds.
    async fn write_ready(&mut self, sink: &mut impl PacketSink) -> Result<(), End> {
        if self.ready.is_empty() {
            return Ok(());
        }
        let leader = self.store.leadership().elsewhere;
        let (mut packets, mut bytes) = (Vec::with_capacity(self.ready.len()), 0);
        for (id, answer) in self.ready.drain(..) {
            let packet = response_packet(id, leader.clone(), answer, sink.max_body_bytes())
                .map_err(|error| End::Told(Failure::TooLarge(format!("answer {id}: {error}"))))?;
            bytes += packet.body.len();
            packets.push(packet);
            if bytes >= MAX_OUTPUT_BYTES {
                send(sink, std::mem::take(&mut packets)).await?;
                bytes = 0;
            }
        }
        if packets.is_empty() { Ok(()) } else { send(sink, packets).await }
    }

    /// Gives what is under way a moment to be answered.
    async fn finish(&mut self) {
        self.start_reads();
        let finish = async {
            while let Some(done) = self.running.next().await {
                self.in_flight -= done.answers.len();
                self.in_flight_bytes -= done.bytes;
                self.ready.extend(done.answers);
            }
        };
        let _out_of_time = timeout(LINGER, finish).await;
    }

    /// Writes what is ready and tells the client why this connection ends.
    async fn say_goodbye(&mut self, reason: Failure, sink: &mut impl PacketSink) {
        self.running.clear();
        if self.write_ready(sink).await.is_err() {
            return;
        }
        if let Ok(packet) = Message::Goodbye(Goodbye { taken: self.taken, reason }).encode() {
            let _gone_already = timeout(LINGER, sink.send(vec![packet])).await;
        }
    }
}

async fn send(sink: &mut impl PacketSink, packets: Vec<Packet>) -> Result<(), End> {
    match timeout(WRITE_STALL, sink.send(packets)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooLarge(reason) => Self::Told(Failure::TooLarge(reason)),
            WireError::Malformed(reason) => Self::Told(Failure::Malformed(reason)),
            WireError::Closed(_reason) => Self::Gone,
        }
    }
}
