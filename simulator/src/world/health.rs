//! A look at the cluster as a whole: who is healthy, and whether a healthy majority does its work.

use dledger::types::{Monotonic, Role};

use super::{Event, World};
use crate::checkers::{check_quorum, majority_serves, stalled_leader};
use crate::faults::Fault;

/// How often, in microseconds.
const LOOK_EVERY: u64 = 20_000;
/// How long links and nodes must have been sound before their leader may not be deposed.
const SETTLED: u64 = 700_000;
/// After that long everybody in sound contact has heard of a new leader: a heartbeat, and a turn of the receiver.
const HEARD: u64 = 100_000;

impl World {
    pub(super) fn look(&mut self) {
        self.schedule(LOOK_EVERY, Event::Look);
        let now = self.now;
        self.network.note_sound(now);
        for it in &mut self.nodes {
            let hangs = it.disk_hung_until > now || it.disk_slow > 1 || it.disk_full || it.disk_fails;
            let healthy = it.process.is_some() && it.paused_until <= now && !hangs && it.pace.is_right();
            it.healthy_but_for_disk = it.process.is_some() && it.paused_until <= now && it.pace.is_right();
            it.healthy_since = if healthy { it.healthy_since.or(Some(now)) } else { None };
        }
        let majority = self.healthy_majority(now.saturating_sub(SETTLED));
        let leads = majority.iter().any(|node| self.nodes.get(*node).is_some_and(super::node::Node::leads));
        let flaky = self.profile.has(Fault::Loss) && self.profile.flaky_per_mille > 10;
        let many = majority.len() * 2 > self.nodes.len();
        let checked = many && (leads || self.can_elect(&majority)) && !flaky && self.clients.are_busy();
        let verdict = self.majority_serves.look(now, checked, leads, self.truth.last_committed());
        self.judge(majority_serves::PROPERTY, verdict);
        self.look_at_leaders();
        self.look_at_stalled();
    }

    /// No leader keeps its office over a disk that hangs while those of a quorum work.
    fn look_at_stalled(&mut self) {
        let flaky = [Fault::Loss, Fault::Garbage].iter().any(|fault| self.profile.has(*fault));
        for node in 0..self.nodes.len() {
            let then = self.now.saturating_sub(stalled_leader::GIVES_WAY_AFTER);
            let others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != node).collect();
            let well = |other: &&usize| {
                let healthy = self.nodes.get(**other).and_then(|it| it.healthy_since);
                healthy.is_some_and(|since| since <= then) && self.network.sound_from(node, **other, then)
            };
            let quorum = others.iter().filter(well).count() * 2 > self.nodes.len();
            let Some(it) = self.nodes.get(node) else { continue };
            let stalled = it.writing_since.is_some_and(|since| since <= then) && it.disk_hung_until > self.now;
            let awake = it.still_until <= self.now && it.healthy_but_for_disk;
            if it.leads() && stalled && awake && quorum && !flaky {
                let (id, since) = (it.id, it.writing_since.unwrap_or_default());
                self.judge(stalled_leader::PROPERTY, stalled_leader::keeps(id, self.now - since));
            }
        }
    }

    /// The largest set of nodes that have been healthy since `then` and in sound contact with each other.
    fn healthy_majority(&self, then: u64) -> Vec<usize> {
        let count = self.nodes.len();
        let mut best: Vec<usize> = Vec::new();
        for set in 1_u32..1 << count {
            let members: Vec<usize> = (0..count).filter(|node| set & (1 << node) != 0).collect();
            if members.len() > best.len() && self.are_sound(&members, then) {
                best = members;
            }
        }
        best
    }

    fn are_sound(&self, members: &[usize], then: u64) -> bool {
        let healthy =
            |node: &usize| self.nodes.get(*node).is_some_and(|it| it.healthy_since.is_some_and(|since| since <= then));
        let linked = |one: &usize| members.iter().all(|two| one == two || self.network.sound_from(*one, *two, then));
        members.iter().all(|node| healthy(node) && linked(node))
    }

    /// Whether one of these may stand and win with the votes of them alone. Who lost a record that none of the others has
    /// waits for somebody else (docs/guarantees.md), and nobody whose log is behind its own can win without it. A vote in
    /// doubt counts only among those of all nodes.
    fn can_elect(&self, members: &[usize]) -> bool {
        let raft = |node: &usize| self.nodes.get(*node).and_then(|it| it.raft());
        let last = |node: &usize| raft(node).map(dledger::raft::Raft::last);
        let counts = |node: &usize| members.len() == self.nodes.len() || raft(node).is_some_and(|it| !it.in_doubt());
        let votes = |one: &usize| members.iter().filter(|other| counts(other) && last(other) <= last(one)).count();
        members.iter().any(|one| votes(one) * 2 > self.nodes.len() && self.can_be_whole(*one, members))
    }

    fn can_be_whole(&self, node: usize, members: &[usize]) -> bool {
        let hole = self.nodes.get(node).and_then(|it| it.raft()).and_then(dledger::raft::Raft::first_hole);
        let held = |node: usize, index| self.truth.disks.get(node).and_then(|disk| disk.at(index));
        hole.is_none_or(|at| members.iter().any(|other| *other != node && held(*other, at) == held(node, at)))
    }

    /// Whether a leader that loses its office had a healthy majority with it.
    pub(super) fn had_healthy_majority(&self, leader: usize) -> bool {
        let flaky = [Fault::Loss, Fault::Reorder, Fault::Garbage].iter().any(|fault| self.profile.has(*fault));
        let then = self.now.saturating_sub(SETTLED);
        // Until the others have heard it, one of them may stand for a later term already.
        let heard = self.nodes.get(leader).is_some_and(|it| it.office_since + HEARD <= self.now);
        // One that cannot read its own log may hand over.
        let whole = self.nodes.get(leader).and_then(|it| it.raft()).is_some_and(|raft| raft.first_hole().is_none());
        if flaky || !heard || !whole || self.now < SETTLED {
            return false;
        }
        let others = (0..self.nodes.len()).filter(|node| *node != leader);
        let with = others.filter(|node| self.are_sound(&[leader, *node], then)).count() + 1;
        with * 2 > self.nodes.len()
    }

    /// No leader stays in office without a quorum that it could hear.
    fn look_at_leaders(&mut self) {
        let now = self.now;
        for node in 0..self.nodes.len() {
            let reaches = |peer: &usize| {
                let answers = self.nodes.get(*peer).is_some_and(|it| it.process.is_some() && it.still_until <= now);
                let open = !self.network.cut.contains(&(node, *peer)) && !self.network.cut.contains(&(*peer, node));
                *peer == node || (answers && open)
            };
            let with = (0..self.nodes.len()).filter(reaches).count();
            let alone = with * 2 <= self.nodes.len();
            let Some(it) = self.nodes.get_mut(node) else { continue };
            let prompt = it.still_until <= now && it.pace.at(now) > Monotonic::default();
            it.alone_since = if alone && prompt && it.leads() { it.alone_since.or(Some(now)) } else { None };
            let (id, since) = (it.id, it.alone_since);
            let Some((term, since)) =
                it.raft().filter(|raft| raft.role() == Role::Leader).map(|raft| raft.term()).zip(since)
            else {
                continue;
            };
            self.judge(check_quorum::PROPERTY, check_quorum::alone(id, term, now - since));
        }
    }
}
