//! Snapshots, as the core sees them: where the log begins, and a state that takes the place of entries.
//!
//! ```text
//!   leader     base 40 │ 41 ... 90          its log before 41 is purged
//!   follower   1 ... 17 │                   lacks 18 ... 40: its rejection of a probe at 40 says so
//!                │
//!                └─ Ready.lacks ──► a snapshot of 60, durable ──► install(60): base 60, the log is started anew
//! ```
//! Only committed entries are in a snapshot, so that to install one cuts nothing that counts: whatever of this log differs
//! from it was never committed. What it does *not* say is that the leader of this term has it, for that one may have
//! been replaced and not know: the leader finds out by a probe, like everything else about this log.

use crate::simulation::marks::{Mark, reach};
use crate::types::{EntryId, Index, Monotonic};

use super::core::Raft;
use super::leadership::State;
use super::membership::Membership;

/// What became of a snapshot that was to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Nothing happened: this node has applied more than that, or its last entry is another than one that is committed
    /// here, or than one of this leader, which cannot be.
    Refused,
    /// The log holds its last entry and goes on as it is.
    Kept,
    /// All of the log is discarded. It starts anew behind the snapshot, and so it must on disk, before any record of a
    /// later Ready is written. A crash in between is made good at the next start, for the snapshot is there.
    StartedOver,
}

impl Raft {
    /// The log's front was dropped up to `base`, which was applied. Those who need what is gone are probed at `base`.
    pub fn compact(&mut self, now: Monotonic, base: EntryId) {
        self.turn(now, |raft| {
            if base.index > raft.applied || base.index <= raft.terms.base().index {
                return;
            }
            raft.terms.compact(base);
            raft.memberships.compact(base.index);
            raft.damage.compact(base.index);
            if let State::Leader(office) = &mut raft.state {
                office.peers.values_mut().for_each(|peer| peer.compact(base.index));
            }
        });
    }

    /// A snapshot up to `last` is durable here and the state machine holds it, unless the answer is `Refused`;
    /// `membership` is the one in force there with the index of its entry, if it is known. When there was a hole at or
    /// below `last`, tell `holes` at once where the next one is: until then all that follows counts as one.
    pub fn install(&mut self, now: Monotonic, last: EntryId, membership: Option<(Index, Membership)>) -> Installed {
        self.turn(now, |raft| {
            // A damaged entry that is committed is the snapshot's, whatever its term was.
            let holds = raft.terms.holds(last) || last.index <= raft.committed && raft.terms.is_unknown(last.index);
            if last.index < raft.applied {
                return Installed::Refused;
            }
            if !holds && (last.index <= raft.committed || raft.leader == Some(raft.config.id)) {
                tracing::error!(
                    node = %raft.config.id, %last, committed = %raft.committed,
                    "a snapshot contradicts what is committed, or what this leader holds; ignored"
                );
                return Installed::Refused;
            }
            match membership {
                membership if !holds => raft.start_over(last, membership),
                Some(known) if raft.memberships.at(last.index).is_none() => raft.memberships.restore(vec![known]),
                Some(_) | None => {}
            }
            raft.damage.installed(last.index, raft.terms.last().index);
            raft.committed = raft.committed.max(last.index);
            raft.applied = raft.applied.max(last.index);
            raft.offer();
            raft.answer_what_became_durable();
            if holds { Installed::Kept } else { Installed::StartedOver }
        })
    }

    fn start_over(&mut self, last: EntryId, membership: Option<(Index, Membership)>) {
        reach(Mark::LogReset);
        if self.terms.is_unknown(last.index) {
            // It may have been this very entry, with others behind it that were acknowledged.
            self.damage.begin_doubt();
        }
        if last.term > self.vote.term {
            self.become_follower(last.term, None);
        }
        if matches!(self.state, State::PreCandidate(_) | State::Candidate(_)) {
            self.state = State::Follower;
        }
        self.damage.start_over();
        self.writes.truncate(Index::ZERO);
        self.terms.restart(last);
        self.memberships.replace(membership);
        self.durable = last.index;
        self.verified = self.verified.min(last.index);
        self.answered = self.answered.min(last.index);
    }
}
