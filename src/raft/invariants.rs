//! What must hold on one node at every step, and between two steps. Debug builds check after each input; a release
//! build may call the same checks.

use crate::types::{EntryId, Index, NodeId, Role, Term, Vote};

use super::core::Raft;
use super::leadership::State;

/// What of a core must not go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    vote: Vote,
    role: Role,
    leader: Option<NodeId>,
    committed: Index,
    committed_term: Option<Term>,
    applied: Index,
    offered: Index,
    hole: Option<Index>,
    last: EntryId,
}

impl Snapshot {
    /// Takes note of `raft` as it is now.
    #[must_use]
    pub fn of(raft: &Raft) -> Self {
        Self {
            vote: raft.vote,
            role: raft.role(),
            leader: raft.leader,
            committed: raft.committed,
            committed_term: raft.terms.term_at(raft.committed),
            applied: raft.applied,
            offered: raft.damage.offered(),
            hole: raft.damage.hole(),
            last: raft.terms.last(),
        }
    }
}

/// Checks one node by itself.
///
/// # Errors
/// A sentence that names what does not hold.
pub fn check(raft: &Raft) -> Result<(), String> {
    let (base, last) = (raft.terms.base(), raft.terms.last());
    let chain = [base.index, raft.applied, raft.committed, last.index];
    holds(chain.is_sorted(), || format!("base, applied, committed, last out of order: {chain:?}"))?;
    holds(raft.durable <= last.index, || format!("durable {} above last {}", raft.durable, last.index))?;
    holds(raft.verified <= last.index, || format!("verified {} above last {}", raft.verified, last.index))?;
    check_damage(raft)?;
    check_members(raft)?;
    holds(last.term <= raft.vote.term, || format!("entry {last} of a term above {}", raft.vote.term))?;
    let durable = raft.durable_vote.term;
    holds(durable <= raft.vote.term, || format!("durable term {durable} above {}", raft.vote.term))?;
    match &raft.state {
        State::Leader(office) => {
            let me = raft.config.id;
            holds(raft.leader == Some(me), || format!("leads but takes {:?} for the leader", raft.leader))?;
            let own = Vote { term: raft.vote.term, voted_for: me };
            holds(raft.durable_vote == own, || {
                format!("leads on a vote that is not durable: {:?}", raft.durable_vote)
            })?;
            let purged = office.first_own <= base.index;
            let no_op = raft.terms.term_at(office.first_own);
            holds(purged || no_op == Some(raft.vote.term), || "its no-op is gone".to_owned())?;
            for (id, peer) in &office.peers {
                holds(peer.matched < peer.next, || format!("peer {id}: matched {} not below next", peer.matched))?;
                holds(peer.matched <= last.index, || format!("peer {id}: matched {} above last", peer.matched))?;
                holds(peer.next <= last.index.next(), || format!("peer {id}: next {} above last", peer.next))?;
            }
            Ok(())
        }
        State::Candidate(ballot) => {
            holds(raft.leader.is_none(), || "a candidate that knows a leader".to_owned())?;
            holds(ballot.term == raft.vote.term, || format!("a ballot of term {}", ballot.term))
        }
        State::Follower | State::PreCandidate(_) => {
            holds(raft.leader != Some(raft.config.id), || "takes itself for the leader".to_owned())
        }
    }
}

/// A node whose log has a hole vouches for nothing from there on, and stands for no election.
fn check_damage(raft: &Raft) -> Result<(), String> {
    let (offered, claimed) = (raft.damage.offered(), raft.durable());
    holds(raft.applied <= offered && offered <= raft.committed, || {
        format!("applied {}, offered {offered}, committed {} out of order", raft.applied, raft.committed)
    })?;
    let stands = matches!(raft.state, State::PreCandidate(_) | State::Candidate(_));
    if let Some(hole) = raft.damage.hole() {
        holds(hole > raft.terms.base().index && hole <= raft.terms.last().index, || {
            format!("a hole at {hole}, outside the log")
        })?;
        holds(claimed < hole, || format!("vouches for {claimed} in spite of a hole at {hole}"))?;
        holds(!stands, || format!("stands for election in spite of a hole at {hole}"))?;
    }
    holds(!stands || raft.knows_last(), || "stands for election on an entry that it does not know".to_owned())
}

/// A leader sends to exactly the other members, has at most one change of them under way, and writes only such that no
/// majority of it can do without one of the membership before.
fn check_members(raft: &Raft) -> Result<(), String> {
    let me = raft.config.id;
    let stands = matches!(raft.state, State::PreCandidate(_) | State::Candidate(_));
    holds(!stands || raft.may_stand(), || "stands for election without a vote".to_owned())?;
    let State::Leader(office) = &raft.state else { return Ok(()) };
    let own = raft.memberships.latest_index() >= Some(office.first_own);
    if let Some((before, latest)) = raft.memberships.last_two().filter(|_two| own) {
        holds(latest.may_follow(before), || format!("{latest:?} may not follow {before:?}"))?;
    }
    let others = raft.memberships.ids().iter().filter(|id| **id != me);
    holds(others.eq(office.peers.keys()), || format!("sends to {:?}, not to the members", office.peers.keys()))?;
    let open = raft.memberships.above(raft.committed);
    let known = raft.committed >= office.first_own;
    holds(!known || open <= 1, || format!("{open} changes of members are under way"))
}

/// Checks what may change from one step to the next.
///
/// # Errors
/// A sentence that names what does not hold.
pub fn check_delta(before: &Snapshot, raft: &Raft) -> Result<(), String> {
    let now = Snapshot::of(raft);
    holds(now.vote.term >= before.vote.term, || format!("term went back from {}", before.vote.term))?;
    let same_term = now.vote.term == before.vote.term;
    let kept = before.vote.voted_for.is_zero() || now.vote.voted_for == before.vote.voted_for;
    holds(!same_term || kept, || format!("voted twice in term {}", now.vote.term))?;
    holds(now.committed >= before.committed, || format!("committed went back from {}", before.committed))?;
    holds(now.applied >= before.applied, || format!("applied went back from {}", before.applied))?;
    if let Some(hole) = now.hole {
        holds(now.offered == before.offered || now.offered < hole, || {
            format!("offers {} in spite of a hole at {hole}", now.offered)
        })?;
    }
    let there = raft.terms.term_at(before.committed);
    let forgotten = before.committed < raft.terms.base().index;
    holds(forgotten || before.committed_term.is_none() || there == before.committed_term, || {
        format!("the committed entry at {} changed its term to {there:?}", before.committed)
    })?;
    let led = before.role == Role::Leader && now.role == Role::Leader && same_term;
    holds(!led || raft.terms.holds(before.last), || format!("a leader cut its own entry {}", before.last))?;
    let settled = before.leader.is_none() || now.leader.is_none() || now.leader == before.leader;
    holds(!same_term || settled, || format!("term {} has two leaders", now.vote.term))?;
    let regained = same_term && before.role != Role::Leader && now.role == Role::Leader;
    holds(!regained || before.role == Role::Candidate, || "took office without standing for it".to_owned())
}

fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise()) }
}
