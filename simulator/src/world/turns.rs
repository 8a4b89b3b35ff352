//! Inputs into a process, the turns that follow, and what the checkers see of both.

use dledger::Durability;
use dledger::raft::Membership;
use dledger::raft::message::{Body, Message};
use dledger::simulation::{Process, Sent};
use dledger::transport::PeerBody;
use dledger::types::{EntryId, Index, Monotonic, NodeId, Role};

use super::{Event, World};
use crate::checkers::state_machine_safety::StateMachineSafety;
use crate::checkers::{
    Verdict, bounded_turns, durable_quorum, elected, election_safety, fencing, follows_membership, leader_append_only,
    leader_completeness, log_matching, log_time, membership_steps, node_invariants, one_vote, same_state,
    sent_after_sync, snapshots_cover, stable_leader, state_machine_safety,
};
use crate::faults::Fault;
use crate::machine::{Content, Deed, Step, Watched};
use crate::memberships::place;
use crate::truth::records;

/// How long inputs gather before a turn ends, at most, in microseconds.
const GATHER: u64 = 200;

impl World {
    /// Gives a process an input; a turn will follow.
    pub(super) fn input(&mut self, node: usize, input: impl FnOnce(&mut Process<Watched>, Monotonic)) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        let clock = it.clock(self.now);
        let Some(process) = &mut it.process else { return };
        input(process, clock);
        let wait = it.random.within(0..GATHER);
        self.check_step(node);
        self.turn_within(node, wait);
    }

    /// Sees to it that a turn ends within `wait`.
    pub(super) fn turn_within(&mut self, node: usize, wait: u64) {
        let at = self.now.saturating_add(wait);
        let Some(it) = self.nodes.get_mut(node) else { return };
        if it.process.is_none() || it.turn_at.is_some_and(|due| due <= at) {
            return;
        }
        it.turn_at = Some(at);
        let life = it.life;
        self.schedule(wait, Event::Turn { node, life });
    }

    pub(super) fn turn(&mut self, node: usize) {
        let now = self.now;
        let Some(it) = self.nodes.get_mut(node) else { return };
        // A turn that was brought forward leaves its first date behind.
        if it.turn_at.is_none_or(|due| due > now) {
            return;
        }
        it.turn_at = None;
        let clock = it.clock(now);
        let Some(process) = &mut it.process else { return };
        let turn = process.end_turn(clock);
        self.check_step(node);
        self.check_applied(node);
        for sent in turn.send {
            self.check_sent(node, &sent);
            self.send(node, sent);
        }
        for (ticket, answer) in turn.answers {
            self.answer(node, ticket, answer);
        }
        for change in turn.roles {
            let numbers = [change.term.get(), change.leader.map_or(0, |leader| leader.get())];
            self.trace.event(now, node + 1, "role", &numbers, || format!("{change:?}"));
        }
        for (peer, reason) in turn.disconnect {
            self.trace.event(now, node + 1, "refuses", &[peer.get()], || reason);
            self.marks.met("seen: connection closed over garbage");
            self.disconnect(node, place(peer));
        }
        self.introduce(node);
        self.start_write(node);
        self.start_snapshot_work(node);
        self.next_turn(node, turn.more);
    }

    fn next_turn(&mut self, node: usize, more: bool) {
        let now = self.now;
        let Some(it) = self.nodes.get(node) else { return };
        let Some(process) = &it.process else { return };
        if more {
            return self.turn_within(node, 20);
        }
        if let Some(due) = process.next_deadline() {
            let wait = it.pace.when(due).saturating_sub(now);
            self.turn_within(node, wait.max(1));
        }
    }

    /// What must hold of a node after every input.
    fn check_step(&mut self, node: usize) {
        let written = self.note_membership(node);
        let Some(it) = self.nodes.get_mut(node) else { return };
        let Some(process) = &it.process else { return };
        let raft = process.raft();
        let chain = snapshots_cover::chain(it.id, process.snapshots().first().copied(), process.applied().index);
        let invariants = it.invariants.as_mut().map_or(Ok(()), |invariants| invariants.step(raft));
        let append_only = it.append_only.step(raft);
        let (before, id) = (it.seen, it.id);
        it.seen = (raft.role(), raft.term(), raft.committed());
        let now_leads = (raft.role(), raft.term());
        self.entered.entry(now_leads.1).or_insert(self.now);
        let took_office = now_leads.0 == Role::Leader && (before.0, before.1) != now_leads;
        let completeness = match self.truth.disks.get(node).filter(|_disk| took_office) {
            Some(disk) => leader_completeness::elected(raft, disk, &self.truth),
            None => Ok(()),
        };
        let membership = self.truth.membership_of(raft).map(|(_entry, membership)| membership);
        let votes = took_office.then_some(&self.one_vote);
        let elected = votes.map_or(Ok(()), |votes| elected::by(id, now_leads.1, membership, votes));
        let news: Vec<EntryId> = (before.2.get() + 1..=raft.committed().get())
            .filter_map(|index| raft.term_at(Index(index)).map(|term| EntryId::new(Index(index), term)))
            .collect();
        self.judge(node_invariants::PROPERTY, invariants);
        self.judge(snapshots_cover::PROPERTY, chain);
        self.judge(leader_append_only::PROPERTY, append_only);
        if took_office {
            let only = self.election_safety.leads(id, now_leads.1);
            self.judge(election_safety::PROPERTY, only);
            let own = self.one_vote.votes(id, now_leads.1, id);
            self.judge(one_vote::PROPERTY, own);
            self.judge(leader_completeness::PROPERTY, completeness);
            self.judge(elected::PROPERTY, elected);
            self.office_taken(node);
        }
        if before.0 == Role::Leader && now_leads.0 != Role::Leader {
            // Who was cut off may have entered the term by good right, and comes back with it.
            let entered = self.entered.get(&now_leads.1).copied().filter(|_at| now_leads.1 > before.1);
            let entered = entered.unwrap_or(self.now);
            let majority = self.had_healthy_majority(node, entered);
            self.judge(stable_leader::PROPERTY, stable_leader::deposed(id, before.1, majority));
        }
        for id in news {
            self.check_committed(node, id);
        }
        self.check_membership(node, written);
        if written.is_some() {
            self.interrupt(node);
        }
    }

    /// A membership that a leader has just written is known from now on; which entry it is.
    fn note_membership(&mut self, node: usize) -> Option<EntryId> {
        let raft = self.nodes.get(node)?.raft().filter(|raft| raft.role() == Role::Leader)?;
        let id = EntryId::new(raft.membership_index()?, raft.term());
        let own = raft.term_at(id.index) == Some(id.term) && !self.truth.memberships.knows(id);
        let next = raft.membership().filter(|_next| own)?.clone();
        let noted = self.truth.memberships.note(id, &next);
        self.judge(membership_steps::PROPERTY, noted);
        Some(id)
    }

    /// What a node goes by, and what it has made of it as a leader.
    fn check_membership(&mut self, node: usize, written: Option<EntryId>) {
        let Some(raft) = self.nodes.get(node).and_then(|it| it.raft()) else { return };
        let follows = match self.profile.damages() {
            // Where records rot that name the members nobody may know them.
            true => Ok(()),
            false => follows_membership::step(raft, &self.truth),
        };
        let step = match written.zip(raft.membership()) {
            Some((id, next)) => {
                let before = self.truth.membership_below(raft, id.index);
                let step = membership_steps::written(id, next, before, &self.truth);
                step.and_then(|()| self.check_promoted(id, next))
            }
            None => Ok(()),
        };
        self.judge(membership_steps::PROPERTY, step);
        self.judge(follows_membership::PROPERTY, follows);
    }

    /// Whoever becomes a voter holds what has long been committed.
    fn check_promoted(&self, id: EntryId, next: &Membership) -> Verdict {
        let Some((_at, due)) = self.looks.front().filter(|_look| next.is_joint()) else { return Ok(()) };
        let votes = |id: NodeId| next.outgoing.iter().any(|member| member.id == id);
        for learner in next.voters.iter().map(|member| member.id).filter(|id| !votes(*id)) {
            let Some(disk) = self.truth.disks.get(place(learner)).filter(|disk| disk.wiped.is_none()) else { continue };
            let durable = disk.log.last().map_or(disk.base.index, |last| last.index);
            membership_steps::promoted(id, learner, durable.max(disk.newest_snapshot().index), *due)?;
        }
        Ok(())
    }

    pub(super) fn check_committed(&mut self, node: usize, id: EntryId) {
        let new = self.truth.committed_at(id.index).is_none();
        // Under asynchronous durability one node loses its power.
        let forgets = self.profile.durability != Durability::Sync && self.profile.has(Fault::PowerCut);
        let forgetful = forgets.then_some(self.rotting.node);
        let Some(raft) = self.nodes.get(node).and_then(|it| it.process.as_ref()).map(Process::raft) else { return };
        let quorum = durable_quorum::committed(id, raft, &mut self.truth, forgetful);
        self.judge(durable_quorum::PROPERTY, quorum);
        if new {
            let time = self.log_times.committed(id, self.now, &self.truth);
            self.judge(log_time::PROPERTY, time);
        }
    }

    /// What a machine applied; long work makes its process stand still.
    fn check_applied(&mut self, node: usize) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        let Some(watch) = &it.watch else { return };
        let seen = watch.take();
        if seen.cost > 0 {
            it.still_until = it.still_until.max(self.now + seen.cost);
        }
        let bounded = bounded_turns::took(it.id, seen.cost);
        self.judge(bounded_turns::PROPERTY, bounded);
        for deed in seen.deeds {
            self.check_deed(node, deed);
        }
    }

    fn check_deed(&mut self, node: usize, deed: Deed) {
        let before = self.nodes.get(node).map_or(Index::ZERO, |it| it.taken);
        let taken = match deed {
            Deed::Applied(step, content) => {
                let verdict = self.state_machine_safety.applied(before, step, &self.truth);
                self.judge(state_machine_safety::PROPERTY, verdict);
                self.read_entry(step, &content);
                step.id.index
            }
            Deed::Captured(id, state) => {
                let verdict = self.same_state.holds_at(id, state, "captured");
                self.judge(same_state::PROPERTY, verdict);
                if let Some(it) = self.nodes.get_mut(node) {
                    it.captured = Some((id, state));
                }
                return;
            }
            Deed::Installed(id, state) => {
                let verdict = StateMachineSafety::installed(before, id, &self.truth);
                self.judge(state_machine_safety::PROPERTY, verdict);
                let verdict = self.same_state.holds_at(id, state, "restored");
                self.judge(same_state::PROPERTY, verdict);
                if let Some(it) = self.nodes.get_mut(node) {
                    it.restored = id.index;
                }
                id.index
            }
        };
        if let Some(it) = self.nodes.get_mut(node) {
            it.taken = taken;
        }
    }

    /// An entry was applied: the first time it is read by the checkers of what entries come to.
    fn read_entry(&mut self, step: Step, content: &Content) {
        let first = self.same_state.applied(step, content);
        let is_first = !matches!(first, Ok(false));
        self.judge(same_state::PROPERTY, first.map(|_first| ()));
        let index = step.id.index;
        if let Some(effect) = self.same_state.effect(index).filter(|_effect| is_first) {
            if effect.is_partial() {
                self.marks.met("seen: lease with more keys than an entry ends");
            }
            let passes = self.keys_by_log.applied(index, effect);
            self.judge(fencing::PROPERTY, passes);
        }
    }

    fn check_sent(&mut self, node: usize, sent: &Sent) {
        let (Some(it), Some(disk)) = (self.nodes.get(node), self.truth.disks.get(node)) else { return };
        let Some(raft) = it.raft() else { return };
        let synced = sent_after_sync::sent(raft, sent.to, &sent.frame, disk, &self.truth);
        let once = self.one_vote.sent(it.id, sent.to, &sent.frame);
        let hands_over = matches!(&sent.frame.body, PeerBody::Raft(Message { body: Body::HandOver, .. }));
        self.judge(sent_after_sync::PROPERTY, synced);
        self.judge(one_vote::PROPERTY, once);
        let mut matching = Ok(());
        for record in records(&sent.frame.attached) {
            matching = self.truth.note(&record, None);
            if matching.is_err() {
                break;
            }
        }
        self.judge(log_matching::PROPERTY, matching);
        if let Some(it) = self.nodes.get_mut(node).filter(|_it| hands_over) {
            it.handed_over_at = Some(self.now);
        }
    }
}
