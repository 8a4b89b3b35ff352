//! Gives peers the records that they have lost, whatever this node's role is.
//!
//! A record of the same index and term is the same record (Log Matching; paper, 5.3), committed or not, so that
//! identity is all that has to agree. Where the peer does not know the terms, something that only the same log can hold
//! must agree instead; `docs/raft.md` says why that suffices. What is given is read and verified like anything else that
//! leaves this node.

use bytes::Bytes;

use crate::commitlog::split;
use crate::config::MAX_RECORD_BYTES_LIMIT;
use crate::simulation::marks::{Mark, reach};
use crate::state_machine::StateMachine;
use crate::transport::{Channel, PeerBody, PeerFrame, RepairRefusal, RepairRequest};
use crate::types::{Index, NodeId};

use super::effects::Outbound;
use super::replica::Replica;

/// Most bytes of records in one answer, unless a single one is larger. As much as a window of appends.
pub(super) const MAX_REPAIR_BYTES: u32 = 4 << 20;

impl<M: StateMachine> Replica<M> {
    /// Answers a peer that has lost records.
    pub(crate) fn serve_repair(&mut self, from: NodeId, request: &RepairRequest) {
        let (result, attached) = match self.records_for(request) {
            Ok(pieces) => {
                reach(Mark::RepairGiven);
                (Ok(self.raft.committed()), pieces)
            }
            Err(refusal) => {
                reach(match refusal {
                    RepairRefusal::Absent => Mark::RepairAbsent,
                    RepairRefusal::Purged => Mark::RepairPurged,
                    RepairRefusal::Damaged => Mark::RepairDamaged,
                    RepairRefusal::Others => Mark::RepairOthers,
                    RepairRefusal::Unproven => Mark::RepairUnproven,
                });
                (Err(refusal), Vec::new())
            }
        };
        let body = PeerBody::RepairAnswer { number: request.number, result };
        let frame = PeerFrame { group: self.group, body, attached };
        self.effects.send.push(Outbound { to: from, channel: Channel::Bulk, frame });
    }

    fn records_for(&mut self, request: &RepairRequest) -> Result<Vec<Bytes>, RepairRefusal> {
        let until = self.same_until(request)?;
        let max_bytes = u64::from(request.max_bytes.min(MAX_REPAIR_BYTES));
        let pieces = self.pieces(request.first, until, max_bytes).map_err(|error| {
            self.note_damage(&error);
            if error.damaged_index().is_some() { RepairRefusal::Damaged } else { RepairRefusal::Absent }
        })?;
        if self.is_what_was_asked_for(&pieces, request) { Ok(pieces) } else { Err(RepairRefusal::Others) }
    }

    /// Up to which index, `request.first` at least, this log certainly has the entries that the peer has lost.
    fn same_until(&self, request: &RepairRequest) -> Result<Index, RepairRefusal> {
        let (first, last) = (request.first, request.last);
        if first <= self.raft.base().index {
            return Err(RepairRefusal::Purged);
        }
        if first > self.raft.last().index {
            return Err(RepairRefusal::Absent);
        }
        let (until, otherwise) = match (request.terms.is_empty(), request.behind) {
            (false, _) => (self.raft.matches_until(first, &request.terms, last), RepairRefusal::Others),
            (true, Some(behind)) => (self.raft.last_of_term(behind.index, behind.term), RepairRefusal::Unproven),
            (true, None) => {
                let same = request.before.is_some_and(|before| self.raft.term_at(before.index) == Some(before.term));
                (same.then(|| self.raft.committed()), RepairRefusal::Unproven)
            }
        };
        until.map(|until| until.min(last)).filter(|until| *until >= first).ok_or(otherwise)
    }

    /// The records are those that the core knows of, and the first stands where the peer's stood.
    fn is_what_was_asked_for(&self, pieces: &[Bytes], request: &RepairRequest) -> bool {
        let mut expected = request.first;
        let mut placed = true;
        for piece in pieces {
            for record in split(piece, MAX_RECORD_BYTES_LIMIT) {
                let Ok(record) = record else { return false };
                let header = record.header();
                placed &= expected != request.first || header.position == request.position;
                if header.id.index != expected || Some(header.id.term) != self.raft.term_at(expected) {
                    return false;
                }
                expected = expected.next();
            }
        }
        placed && expected > request.first
    }
}
