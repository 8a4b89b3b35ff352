//! Mends this node's own log: finds out what is damaged, asks peers for it, and writes it over the damage.
//!
//! ```text
//!   read, scrub, opening ──► hole ──► own tail? ──► peers in turn: Repair ──► verified answer ──► mend (disk) ──► whole
//!                              │         no           │ refused, silent: the next one                │
//!                              ▼                      └── all of them: a pause, then again           ▼
//!                       core: first hole                                                core: identities, next hole
//! ```
//! Needs no leader and asks whoever is connected; several holes are mended beside each other. What arrives is believed
//! only as far as it proves itself: both checksums, index, term as far as it is known, position and length of each
//! record. The log's reader is where holes are known; here is only what is being done about them.
//!
//! Deliberately absent: clocks and threads; finding damage that nobody has read (the scrub).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::commitlog::{Hole, WriteBatch};
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::error::ReadError;
use crate::simulation::marks::{Mark, reach};
use crate::state_machine::StateMachine;
use crate::transport::{Channel, PeerBody, RepairRefusal, RepairRequest};
use crate::types::{EntryId, Index, Monotonic, NodeId, ReadyNumber, Term};

use super::incoming::{self, Incoming};
use super::repair_order::{at_once, by_need, first_uncovered, patience};
use super::repair_service::MAX_REPAIR_BYTES;
use super::replica::Replica;

/// How long nobody is asked once all have refused. Something must change first: a peer must connect, mend itself, or
/// learn what is committed.
const PAUSE: Duration = Duration::from_millis(500);

/// What is done about one hole.
#[derive(Debug, Default)]
struct Ask {
    state: Asking,
    /// This node has looked into its own memory.
    looked: bool,
    /// The node that was asked last: the next one in turn follows it.
    last: NodeId,
    /// Why those who were asked gave nothing, this round.
    refused: BTreeMap<NodeId, String>,
    /// Some peer has purged it.
    purged: bool,
    /// All were asked in vain; kept until an answer serves.
    in_vain: Option<String>,
}

/// How far the asking is.
#[derive(Clone, Copy, Debug, Default)]
enum Asking {
    /// Somebody is to be asked as soon as there is somebody.
    #[default]
    Nobody,
    /// A peer has this request and time to answer.
    One(u64, NodeId, Monotonic),
    /// All have refused; the next round starts then.
    Pause(Monotonic),
}

/// Records on their way to the disk.
#[derive(Clone, Copy, Debug)]
struct Mend {
    number: ReadyNumber,
    first: Index,
    last: Index,
    /// Who gave them; this node for its own memory.
    from: NodeId,
}

/// The mending of one log.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    /// By the first index of the hole.
    asks: BTreeMap<Index, Ask>,
    last_number: u64,
    mends: Vec<Mend>,
    /// Cuts that the disk has not made yet: what it has above is of no interest any more.
    cuts: VecDeque<(ReadyNumber, Index)>,
    mended: u64,
    /// The core was in doubt at the end of the last turn.
    in_doubt: bool,
}

impl Repair {
    /// The log is cut above `after` by the write `number`.
    pub(crate) fn cut(&mut self, number: ReadyNumber, after: Index) {
        self.cuts.push_back((number, after));
        self.mends.retain(|mend| mend.last <= after);
    }

    /// When something is to be done although nothing happens.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        let due = |ask: &Ask| match ask.state {
            Asking::Nobody => None,
            Asking::One(_, _, until) | Asking::Pause(until) => Some(until),
        };
        self.asks.values().filter_map(due).min()
    }

    /// The bulk connection to a peer is gone, and with it every answer.
    pub(crate) fn closed(&mut self, peer: NodeId) {
        for ask in self.asks.values_mut() {
            if matches!(ask.state, Asking::One(_, asked, _) if asked == peer) {
                ask.state = Asking::Nobody;
                ask.refused.insert(peer, "closed its connection".to_owned());
            }
        }
    }

    fn is_mending(&self, hole: &Hole) -> bool {
        self.mends.iter().any(|mend| mend.first <= hole.last && mend.last >= hole.first)
    }
}

impl<M: StateMachine> Replica<M> {
    /// The damage that is to be mended, in index order.
    pub(crate) fn holes(&self) -> Vec<Hole> {
        let mut holes = self.log.holes();
        if let Some(after) = self.repair.cuts.iter().map(|(_number, after)| *after).min() {
            holes.retain(|hole| hole.first <= after);
            if let Some(last) = holes.last_mut() {
                last.last = last.last.min(after);
            }
        }
        holes
    }

    /// A hole that nobody can mend any more, for peers have purged what was in it, and that no snapshot covers here: its
    /// first index.
    pub(super) fn purged_hole(&self) -> Option<Index> {
        let covered = self.covered_by_snapshots();
        let is_purged = |hole: &&Hole| {
            let ask = self.repair.asks.get(&hole.first);
            ask.is_some_and(|ask| ask.purged && ask.in_vain.is_some())
        };
        let (urgent, _others) = by_need(self.holes(), covered);
        urgent.iter().find(is_purged).map(|hole| hole.first.max(covered.next()))
    }

    /// Records mended since this node was started.
    pub(crate) fn mended(&self) -> u64 {
        self.repair.mended
    }

    /// What keeps damage from being mended, for a person; `None` while there is none, or while it is being mended.
    pub(crate) fn unmended(&self) -> Option<String> {
        let hole = self.holes().into_iter().next()?;
        let ask = self.repair.asks.get(&hole.first);
        let place = format!("entry {} cannot be read ({}, offset {})", hole.first, hole.path.display(), hole.offset);
        match ask.and_then(|ask| ask.in_vain.as_deref()) {
            Some(why) => Some(format!("{place} and no peer can give it: {why}")),
            None if ask.is_some_and(|ask| matches!(ask.state, Asking::Nobody)) && !self.repair.is_mending(&hole) => {
                Some(format!("{place} and no peer is connected that could give it"))
            }
            None => None,
        }
    }

    /// A read failed: finds out what is damaged there.
    pub(crate) fn note_damage(&mut self, error: &ReadError) {
        if let Some(index) = error.damaged_index() {
            self.examine(index);
        }
    }

    /// Finds out what is damaged around an index: from then on it is a known hole, unless it can be read after all.
    pub(crate) fn examine(&mut self, index: Index) {
        if self.log.holes().iter().any(|hole| hole.holds(index)) {
            return;
        }
        if let Some(hole) = self.log.hole_at(index) {
            let (first, last, path, offset) = (hole.first, hole.last, hole.path.display(), hole.offset);
            tracing::error!(node = %self.id, %first, %last, %path, offset, reason = hole.reason, "records are damaged");
        }
    }

    /// Tells the core where the first hole is, and does what can be done about all of them.
    pub(crate) fn look_after_damage(&mut self, now: Monotonic) {
        let holes = self.holes();
        let covered = self.covered_by_snapshots();
        let first = first_uncovered(&holes, covered);
        if first != self.raft.first_hole() {
            self.raft.holes(now, first);
            self.drain(now);
        }
        self.end_doubt();
        // Nothing waits for the others, and perhaps nobody has what was in them any more.
        let (urgent, others) = by_need(holes, covered);
        let holes = if urgent.is_empty() { at_once(&others) } else { at_once(&urgent) };
        // Also of a hole that others have pushed out of its turn nothing is left: its deadline would keep this node awake.
        self.repair.asks.retain(|first, _ask| holes.iter().any(|hole| hole.first == *first));
        let patience = patience(holes);
        for hole in holes {
            if !self.repair.is_mending(hole) {
                self.look_after(now, hole, patience);
            }
        }
    }

    /// A node that is in doubt no more says so on its disk.
    fn end_doubt(&mut self) {
        let was_in_doubt = std::mem::replace(&mut self.repair.in_doubt, self.raft.in_doubt());
        if was_in_doubt && !self.repair.in_doubt {
            let number = self.raft.reserve_number();
            self.order_write(number, WriteBatch { trust_last: true, ..WriteBatch::default() });
        }
    }

    fn look_after(&mut self, now: Monotonic, hole: &Hole, patience: Duration) {
        let ask = self.repair.asks.entry(hole.first).or_default();
        if !std::mem::replace(&mut ask.looked, true)
            && let Some(run) = self.tail.run(hole.first, hole.last, u64::from(MAX_REPAIR_BYTES))
            && self.mend(now, self.id, hole, run.pieces, Index(u64::MAX)).is_ok()
        {
            return;
        }
        let peers = self.connected.iter().filter(|(_peer, channel)| *channel == Channel::Bulk).map(|(peer, _)| *peer);
        let peers: BTreeSet<NodeId> = peers.collect();
        let Some(ask) = self.repair.asks.get_mut(&hole.first) else { return };
        match ask.state {
            Asking::One(_, _, until) | Asking::Pause(until) if now < until => return,
            Asking::One(_, silent, _) => drop(ask.refused.insert(silent, "did not answer".to_owned())),
            Asking::Pause(_) => ask.refused.clear(),
            Asking::Nobody => {}
        }
        let untried = || peers.iter().copied().filter(|peer| !ask.refused.contains_key(peer));
        let Some(peer) = untried().find(|peer| *peer > ask.last).or_else(|| untried().next()) else {
            ask.in_vain = Some(said(&ask.refused)).filter(|why| !why.is_empty());
            ask.state = if peers.is_empty() { Asking::Nobody } else { Asking::Pause(now.after(PAUSE)) };
            return;
        };
        self.repair.last_number += 1;
        (ask.state, ask.last) = (Asking::One(self.repair.last_number, peer, now.after(patience)), peer);
        let request = self.request(self.repair.last_number, hole);
        self.outbound(peer, Channel::Bulk, PeerBody::Repair(request));
    }

    fn request(&self, number: u64, hole: &Hole) -> RepairRequest {
        let id_at = |index: Index| self.raft.term_at(index).map(|term| EntryId::new(index, term));
        let last = self.raft.last().index;
        let mut behind = hole.last.next();
        while behind > hole.first && id_at(behind.prev()).is_some() {
            behind = behind.prev();
        }
        while behind <= last && id_at(behind).is_none() {
            behind = behind.next();
        }
        RepairRequest {
            number,
            first: hole.first,
            last: hole.last,
            position: hole.position,
            terms: self.raft.runs(hole.first, hole.last).unwrap_or_default(),
            before: id_at(hole.first.prev()),
            behind: id_at(behind),
            max_bytes: MAX_REPAIR_BYTES,
        }
    }

    /// A peer answers.
    pub(crate) fn take_repair_answer(
        &mut self,
        now: Monotonic,
        from: NodeId,
        number: u64,
        result: Result<Index, RepairRefusal>,
        records: Vec<Bytes>,
    ) {
        let open = |ask: &Ask| matches!(ask.state, Asking::One(asked, peer, _) if (asked, peer) == (number, from));
        let Some(first) = self.repair.asks.iter().find(|(_first, ask)| open(ask)).map(|(first, _ask)| *first) else {
            return;
        };
        let hole = self.holes().into_iter().find(|hole| hole.first == first);
        let purged = result == Err(RepairRefusal::Purged);
        let outcome = match (result, hole) {
            (_, None) => return,
            (Ok(committed), Some(hole)) => self.mend(now, from, &hole, records, committed),
            (Err(refusal), Some(_hole)) => Err(refusal.to_string()),
        };
        if let Some(ask) = self.repair.asks.get_mut(&first) {
            ask.state = Asking::Nobody;
            ask.purged |= purged;
            if let Err(why) = outcome {
                ask.refused.insert(from, why);
            }
        }
    }

    /// Verifies records and orders them to be written over a hole. `committed` is how far whoever gave them knows the
    /// log to be committed.
    fn mend(
        &mut self,
        now: Monotonic,
        from: NodeId,
        hole: &Hole,
        records: Vec<Bytes>,
        committed: Index,
    ) -> Result<(), String> {
        let before = self.raft.term_at(hole.first.prev()).unwrap_or(Term::ZERO);
        let prev = EntryId::new(hole.first.prev(), before);
        let records = incoming::verify(prev, (Index::ZERO, Index::ZERO), records, MAX_RECORD_BYTES_LIMIT)?;
        let (last, runs) = (records.appended.last, &records.appended.runs);
        let starts = records.position == Some(hole.position);
        let ends = last < hole.last && records.end < hole.end || last == hole.last && records.end == hole.end;
        if !starts || !ends {
            return Err(format!("its records {} to {last} do not fit the place of those lost", hole.first));
        }
        // Nothing here tells the last entries of the log apart: only what is committed is certain then.
        let own_last = self.raft.last().index;
        let told = self.raft.term_at(own_last).is_some() || last < own_last;
        if !told && last > committed {
            return Err("its records are not committed".to_owned());
        }
        if !self.raft.identified(now, (runs, last), records.appended.memberships.clone()) {
            return Err(format!("its records {} to {last} are of other terms than those lost", hole.first));
        }
        self.drain(now);
        let number = self.raft.reserve_number();
        self.repair.mends.push(Mend { number, first: hole.first, last, from });
        self.order_write(number, WriteBatch { mend: vec![records.bytes], ..WriteBatch::default() });
        Ok(())
    }

    /// The disk has done everything up to `number`: looks what was mended.
    pub(crate) fn mends_done(&mut self, number: ReadyNumber) {
        self.repair.cuts.retain(|(cut, _after)| *cut > number);
        let holes = self.log.holes();
        let done: Vec<Mend> = self.repair.mends.extract_if(.., |mend| mend.number <= number).collect();
        for Mend { first, last, from, .. } in done {
            if !holes.iter().any(|hole| hole.first <= last && hole.last >= first) {
                reach(if from == self.id { Mark::MendedFromMemory } else { Mark::Mended });
                self.repair.mended += last.get() - first.prev().get();
                tracing::info!(node = %self.id, %first, %last, %from, "damaged records are mended");
            } else {
                // They may share a sector that cannot be read with neighbours of which nobody knows that yet.
                self.examine(first.prev());
                self.examine(last.next());
                if let Some(ask) = self.repair.asks.get_mut(&first) {
                    ask.refused.insert(from, "gave records that do not fit".to_owned());
                }
            }
        }
    }

    /// An entry whose term nobody knows, when these records show by their places that the leader has another there. It is
    /// the last such one of its hole: the first ones may be known by now from what is being written over them. Where the
    /// last entry of the hole is known and another than the leader's, what is unknown before it goes with it: nobody knows
    /// where it ends, so that nothing can follow it.
    pub(crate) fn refuted_by(&self, records: &Incoming) -> Option<Index> {
        let holes = self.log.holes();
        let mut unknown = holes.iter().filter_map(|hole| Some((hole, hole.unknown()?.1)));
        let refuted = unknown.find(|(hole, last)| {
            let theirs = records.appended.id_at(hole.last).filter(|_theirs| *last < hole.last);
            let parts = theirs.is_some() && theirs != hole.identity(hole.last);
            let differs = records.end_of(*last).is_some_and(|end| !hole.may_end_unknown(end));
            (parts || differs) && self.raft.term_at(*last).is_none()
        });
        refuted.map(|(_hole, last)| last)
    }
}

/// Who said what, in one line.
fn said(refused: &BTreeMap<NodeId, String>) -> String {
    let one = |(peer, why): (&NodeId, &String)| format!("node {peer} {why}");
    refused.iter().map(one).collect::<Vec<_>>().join(", ")
}
