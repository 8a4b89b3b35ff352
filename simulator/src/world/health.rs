//! A look at the cluster as a whole: who is healthy, and whether a healthy majority does its work.

use dledger::types::{Monotonic, NodeId, Role};

use super::{Event, World};
use crate::checkers::{check_quorum, lease_lives, majority_serves, membership_steps, stalled_leader};
use crate::faults::Fault;
use crate::memberships::agree;

/// How often, in microseconds.
const LOOK_EVERY: u64 = 20_000;
/// How long links and nodes must have been sound before their leader may not be deposed.
const SETTLED: u64 = 700_000;
/// After that long everybody in sound contact has heard of a new leader: a heartbeat, and a turn of the receiver.
const HEARD: u64 = 100_000;
/// Whoever was told to stand for election may do so until then, at the latest.
const GIVEN_AWAY: u64 = 2_000_000;

impl World {
    pub(super) fn look(&mut self) {
        self.schedule(LOOK_EVERY, Event::Look);
        let now = self.now;
        self.network.note_sound(now);
        self.start_joiners();
        for it in &mut self.nodes {
            let hangs = it.disk_hung_until > now || it.disk_slow > 1 || it.disk_full || it.disk_fails;
            let healthy = it.process.is_some() && it.paused_until <= now && !hangs && it.pace.is_right();
            it.healthy_but_for_disk = it.process.is_some() && it.paused_until <= now && it.pace.is_right();
            it.healthy_since = if healthy { it.healthy_since.or(Some(now)) } else { None };
        }
        let majority = self.healthy_majority(now.saturating_sub(SETTLED));
        let leads = majority.iter().any(|node| self.nodes.get(*node).is_some_and(super::node::Node::leads));
        let flaky = self.profile.has(Fault::Loss) && self.profile.flaky_per_mille > 10;
        let many = self.is_quorum(|node| majority.contains(&node));
        let checked = many && (leads || self.can_elect(&majority)) && !flaky && self.clients.are_busy();
        let promise = self.profile.read_lease;
        let verdict = self.majority_serves.look(now, (checked, leads), self.truth.last_committed(), promise);
        self.judge(majority_serves::PROPERTY, verdict);
        self.look_at_leaders();
        self.look_at_stalled();
        let leases = self.renewals.look(self.same_state.plain().leases(), self.profile.faults_end(), now);
        self.judge(lease_lives::PROPERTY, leases);
        self.looks.push_back((now, self.truth.last_committed()));
        while self.looks.front().is_some_and(|(at, _committed)| at + membership_steps::BEHIND < now) {
            self.looks.pop_front();
        }
    }

    /// Whether the nodes of which `said` says so are a quorum, whichever of the memberships in force turns out to rule.
    fn is_quorum(&self, said: impl Fn(usize) -> bool) -> bool {
        let in_force = self.truth.in_force();
        !in_force.is_empty() && in_force.iter().all(|members| agree(&members.quorum(), &said))
    }

    /// Who votes by any membership in force, in the life of its disk that was admitted.
    fn voters(&self) -> Vec<usize> {
        let in_force = self.truth.in_force();
        let votes = |node: &usize| in_force.iter().any(|members| members.quorum().is_voter(NodeId(*node as u64 + 1)));
        let keeps_disk = |node: &usize| self.nodes.get(*node).is_some_and(|it| !it.wiped);
        (0..self.nodes.len()).filter(|node| votes(node) && keeps_disk(node)).collect()
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
            // Who needs a snapshot first has nothing durable of what hangs, and may wait for this very disk to give it one: in
            // seed 700118 of the profile `members` such a node was taken for the one that made a quorum.
            let follows = |other: &&usize| !self.needs_snapshot_of(node, **other);
            let others: Vec<usize> = others.iter().filter(well).filter(follows).copied().collect();
            let quorum = self.is_quorum(|other| others.contains(&other));
            let Some(it) = self.nodes.get(node) else { continue };
            let stalled = it.writing_since.is_some_and(|since| since <= then) && it.disk_hung_until > self.now;
            let awake = it.still_until <= self.now && it.healthy_but_for_disk;
            if it.leads() && stalled && awake && quorum && !flaky {
                let (id, since) = (it.id, it.writing_since.unwrap_or_default());
                self.judge(stalled_leader::PROPERTY, stalled_leader::keeps(id, self.now - since));
            }
        }
    }

    /// Whether what `other` lacks is purged from the log of `leader`.
    fn needs_snapshot_of(&self, leader: usize, other: usize) -> bool {
        let raft = |node: usize| self.nodes.get(node).and_then(|it| it.raft());
        raft(leader).zip(raft(other)).is_some_and(|(leads, lags)| lags.last().index < leads.base().index)
    }

    /// The largest set of voters that have been healthy since `then` and in sound contact with each other: a quorum, if
    /// any of the sets is one.
    fn healthy_majority(&self, then: u64) -> Vec<usize> {
        let voters = self.voters();
        let mut best: (bool, Vec<usize>) = (false, Vec::new());
        for set in 1_u32..1 << voters.len() {
            let members: Vec<usize> = voters
                .iter()
                .enumerate()
                .filter(|(bit, _node)| set & (1 << bit) != 0)
                .map(|(_bit, node)| *node)
                .collect();
            if members.len() < best.1.len() && best.0 || !self.are_sound(&members, then) {
                continue;
            }
            let found = (self.is_quorum(|node| members.contains(&node)), members);
            if (found.0, found.1.len()) > (best.0, best.1.len()) {
                best = found;
            }
        }
        best.1
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
        let raft = |node: usize| self.nodes.get(node).and_then(|it| it.raft());
        let last = |node: usize| raft(node).map(dledger::raft::Raft::last);
        let everybody = members.len() == self.voters().len();
        let counts = |node: usize| everybody || raft(node).is_some_and(|it| !it.in_doubt());
        let wins = |one: usize| {
            let votes = |other: usize| members.contains(&other) && counts(other) && last(other) <= last(one);
            let own = raft(one).and_then(|raft| self.truth.membership_of(raft));
            own.is_some_and(|(_id, own)| own.quorum().is_voter(NodeId(one as u64 + 1)) && agree(&own.quorum(), votes))
        };
        members.iter().any(|one| wins(*one) && self.can_be_whole(*one, members))
    }

    fn can_be_whole(&self, node: usize, members: &[usize]) -> bool {
        let hole = self.nodes.get(node).and_then(|it| it.raft()).and_then(dledger::raft::Raft::first_hole);
        let held = |node: usize, index| self.truth.disks.get(node).and_then(|disk| disk.at(index));
        hole.is_none_or(|at| members.iter().any(|other| *other != node && held(*other, at) == held(node, at)))
    }

    /// Whether a leader that loses its office had a healthy majority with it when the later term was entered.
    pub(super) fn had_healthy_majority(&self, leader: usize, entered: u64) -> bool {
        let flaky = [Fault::Loss, Fault::Reorder, Fault::Garbage].iter().any(|fault| self.profile.has(*fault));
        let then = entered.saturating_sub(SETTLED);
        // Until the others have heard it, one of them may stand for a later term already.
        let heard = self.nodes.get(leader).is_some_and(|it| it.office_since + HEARD <= self.now);
        // One that cannot read its own log may hand over.
        let whole = self.nodes.get(leader).and_then(|it| it.raft()).is_some_and(|raft| raft.first_hole().is_none());
        let gives_away =
            self.nodes.get(leader).is_some_and(|it| it.handed_over_at.is_some_and(|at| at + GIVEN_AWAY > self.now));
        let stays = self.truth.in_force().iter().all(|members| members.is_incoming(NodeId(leader as u64 + 1)));
        if flaky || !heard || !whole || gives_away || !stays || entered < SETTLED {
            return false;
        }
        self.is_quorum(|node| node == leader || self.are_sound(&[leader, node], then))
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
            let own = self.nodes.get(node).and_then(|it| it.raft()).and_then(|raft| self.truth.membership_of(raft));
            let alone = own.is_some_and(|(_id, own)| !agree(&own.quorum(), |peer| reaches(&peer)));
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
