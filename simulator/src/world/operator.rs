//! The operator: somebody who asks, of whichever node, for other members, another leader or another preference; who adds
//! machines, and takes those away that were removed; and who sees disks die.
//!
//! ```text
//!   wish ─► asked of a node, the leader more often ─► done · refused · unknown      ─► checkers: change_answered, transfer_answered
//!   removed ─► runs on for a while, or to the end ─► retired
//! ```
//! What is wished for is not always reasonable: unknown members, learners far behind, the last voters. But nobody brings
//! about what no cluster survives: of the voters, more than half keep their disks.

use std::collections::BTreeMap;
use std::time::Duration;

use dledger::node::{MembersError, TransferError};
use dledger::raft::{Change, ChangeRefused, Membership, TransferRefused};
use dledger::types::{NodeId, Term};

use super::nemesis::Lasting;
use super::node::Node;
use super::{Event, World};
use crate::checkers::change_answered::{self, ChangeAnswered};
use crate::checkers::transfer_answered;
use crate::faults::Fault;
use crate::memberships::place;
use crate::random::Random;

/// Tickets from here on are the operator's: clients count from 1, who asks for snapshots from the top.
pub(super) const TICKETS: u64 = 1 << 40;
/// When the first wish is made.
pub(super) const FIRST_WISH: u64 = 600_000;
/// Disks that are lost in a run, at most.
const MOST_WIPED: u64 = 2;
/// The fewest voters that the operator wants.
const FEWEST_VOTERS: usize = 2;

/// What somebody waits for.
#[derive(Clone, Debug)]
enum Wish {
    Change(Change),
    Transfer(NodeId),
}

/// What the operator remembers.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) random: Random,
    waiting: BTreeMap<u64, (usize, Term, Wish)>,
    next_ticket: u64,
    wiped: u64,
    pub(super) answered: ChangeAnswered,
}

impl Operator {
    pub(super) fn new(seed: u64) -> Self {
        let random = Random::new(seed, "operator");
        let answered = ChangeAnswered::default();
        Self { random, waiting: BTreeMap::new(), next_ticket: TICKETS, wiped: 0, answered }
    }

    /// A node is gone, and with it whoever waited for it.
    pub(super) fn lose(&mut self, node: usize) {
        self.waiting.retain(|_ticket, (asked, _term, _wish)| *asked != node);
    }
}

impl World {
    /// The next wish.
    pub(super) fn operate(&mut self) {
        if self.now >= self.profile.faults_end() {
            return;
        }
        let wait = self.operator.random.around(self.profile.churn_every).max(5_000);
        self.schedule(wait, Event::Operate);
        self.retire_removed();
        let kinds: Vec<Fault> = Fault::OF_MEMBERS.iter().copied().filter(|kind| self.profile.has(*kind)).collect();
        let Some(members) = self.truth.settled().map(|(_id, members)| members.clone()) else { return };
        match self.operator.random.pick(&kinds) {
            Some(Fault::Transfer) => self.wish_for_a_leader(&members),
            Some(Fault::Wipe) if self.operator.random.chance(400) => self.lose_a_disk(),
            Some(_) if self.profile.has(Fault::Churn) => {
                for _wish in 0..self.operator.random.pick(&[1, 1, 1, 2]).unwrap_or(1) {
                    if let Some(change) = self.change(&members) {
                        self.ask(Wish::Change(change));
                    }
                }
            }
            Some(_) | None => {}
        }
    }

    fn wish_for_a_leader(&mut self, members: &Membership) {
        let mut ids: Vec<NodeId> = members.members().map(|member| member.id).collect();
        if self.operator.random.chance(50) {
            ids = vec![NodeId(self.nodes.len() as u64 + 7)];
        }
        if let Some(to) = self.operator.random.pick(&ids) {
            self.ask(Wish::Transfer(to));
        }
    }

    /// A change to wish for, when what was drawn makes any sense.
    fn change(&mut self, members: &Membership) -> Option<Change> {
        let voters: Vec<NodeId> = members.voters.iter().map(|voter| voter.id).collect();
        let learners: Vec<NodeId> = members.learners.iter().map(|learner| learner.id).collect();
        match self.operator.random.within(0..100) {
            0..15 => {
                let (id, priority) = (self.operator.random.pick(&voters)?, self.operator.random.within(0..4));
                Some(Change::Prioritise { id, priority: u8::try_from(priority).unwrap_or(0) })
            }
            15..40 => self.removal(&voters),
            40..50 => Some(Change::Remove { id: self.operator.random.pick(&learners)? }),
            50..55 => Some(Change::Remove { id: NodeId(self.operator.random.within(1..20)) })
                .filter(|change| matches!(change, Change::Remove { id } if members.member(*id).is_none())),
            55..65 => Some(Change::Promote { id: self.operator.random.pick(&learners)? }),
            _ => self.growth(members),
        }
    }

    /// One voter less, the leader rather than others.
    fn removal(&mut self, voters: &[NodeId]) -> Option<Change> {
        let leader = self.nodes.iter().find(|node| node.leads()).map(|node| node.id);
        let picked = self.operator.random.pick(voters)?;
        let id = leader.filter(|id| voters.contains(id) && self.operator.random.chance(300)).unwrap_or(picked);
        (voters.len() > FEWEST_VOTERS && self.survives(Some(place(id)), None)).then_some(Change::Remove { id })
    }

    /// Whether more than half of the voters, by every membership in force, have their disks when one leaves, and one more
    /// loses its own.
    fn survives(&self, leaves: Option<usize>, wiped: Option<usize>) -> bool {
        let sound = |node: usize| wiped != Some(node) && self.nodes.get(node).is_some_and(|it| !it.wiped);
        self.truth.in_force().into_iter().all(|members| {
            let stay: Vec<usize> = members.voters.iter().map(|voter| place(voter.id)).collect();
            let stay: Vec<usize> = stay.into_iter().filter(|node| leaves != Some(*node)).collect();
            stay.iter().filter(|node| sound(**node)).count() * 2 > stay.len()
        })
    }

    /// A voter's disk dies, when the cluster can bear it whatever becomes of what was asked so far.
    fn lose_a_disk(&mut self) {
        let settled = self.truth.in_force().len() == 1 && self.operator.waiting.is_empty();
        let node = self.operator.random.place(self.nodes.len());
        let member = self.truth.settled().is_some_and(|(_id, members)| members.is_incoming(NodeId(node as u64 + 1)));
        let spare = self.nodes.iter().filter(|it| !it.wiped && !it.retired).count() > FEWEST_VOTERS;
        let fresh = self.nodes.get(node).is_some_and(|it| !it.wiped);
        let bearable = self.survives(None, Some(node)) && spare;
        if settled && member && fresh && bearable && self.operator.wiped < MOST_WIPED {
            self.operator.wiped += 1;
            if self.operator.random.chance(400) {
                return self.wipe(node);
            }
            self.others_lag(node);
            let wait = self.operator.random.within(20_000..120_000);
            self.schedule(wait, Event::Wipe { node });
        }
    }

    /// Less than half of the voters, neither the leader nor `node`, hear nothing for a while: what is committed meanwhile
    /// is where `node` has it.
    fn others_lag(&mut self, node: usize) {
        let Some((_id, members)) = self.truth.settled() else { return };
        let aside = |it: &usize| *it != node && !self.nodes.get(*it).is_some_and(Node::leads);
        let most = members.voters.len().saturating_sub(1) / 2;
        let lag: Vec<usize> = members.voters.iter().map(|voter| place(voter.id)).filter(aside).take(most).collect();
        let across = |one: &usize| {
            let others = (0..self.nodes.len()).filter(|two| !lag.contains(two));
            others.flat_map(|two| [(*one, two), (two, *one)]).collect::<Vec<_>>()
        };
        let directions: Vec<(usize, usize)> = lag.iter().flat_map(across).collect();
        self.network.cut.extend(&directions);
        self.network.note_sound(self.now);
        self.schedule(140_000, Event::Heal(Lasting::Cut(directions)));
    }

    /// The disk is lost, and the leader is gone for longer than the machine takes to come back.
    pub(super) fn wipe_and_stop_leader(&mut self, node: usize) {
        let settled = self.truth.in_force().len() == 1 && self.operator.waiting.is_empty();
        if self.now >= self.profile.faults_end() || !settled || !self.survives(None, Some(node)) {
            return;
        }
        let leader = self.nodes.iter().position(Node::leads).filter(|leader| *leader != node);
        self.wipe(node);
        if let Some(leader) = leader {
            self.kill(leader);
            self.schedule(900_000, Event::Start { node: leader });
        }
    }

    /// Voters begin or end to change, or the office is given away: now and then whoever does it is struck at once.
    pub(super) fn interrupt(&mut self, node: usize) {
        let kinds = [Fault::Kill, Fault::PowerCut, Fault::Coup, Fault::Partition];
        let kinds: Vec<Fault> = kinds.into_iter().filter(|kind| self.profile.has(*kind)).collect();
        if self.now < self.profile.faults_end() && self.profile.has_operator() && self.operator.random.chance(150) {
            let (kind, life) = (self.operator.random.pick(&kinds), self.nodes.get(node).map_or(0, |it| it.life));
            let wait = self.operator.random.within(0..3_000);
            if let Some(kind) = kind {
                self.schedule(wait, Event::Interrupt { node, life, kind });
            }
        }
    }

    pub(super) fn interrupted(&mut self, node: usize, kind: Fault) {
        self.marks.met("fault: change of members interrupted");
        self.trace.event(self.now, node + 1, "FAULT", &[], || format!("{kind}, while members change"));
        if kind == Fault::PowerCut {
            self.power_off_for_a_while(node);
        } else if kind == Fault::Coup {
            self.coup();
        } else if kind == Fault::Partition {
            self.partition();
        } else {
            self.kill_for_a_while(node);
        }
    }

    /// Asks a node: mostly the leader.
    fn ask(&mut self, wish: Wish) {
        let leader = self.nodes.iter().position(Node::leads).filter(|_leader| self.operator.random.chance(800));
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes.get(*node).is_some_and(|it| it.process.is_some())).collect();
        let Some(node) = leader.or_else(|| self.operator.random.pick(&up)) else { return };
        self.operator.next_ticket += 1;
        let (ticket, patience) = (self.operator.next_ticket, self.operator.random.within(100_000..1_500_000));
        let clock = self.nodes.get(node).map(|it| it.clock(self.now)).unwrap_or_default();
        let deadline = clock.after(Duration::from_micros(patience));
        self.trace.event(self.now, node + 1, "asked", &[ticket], || format!("{wish:?}"));
        let term = self.nodes.get(node).and_then(Node::raft).map_or(Term::ZERO, dledger::raft::Raft::term);
        self.operator.waiting.insert(ticket, (node, term, wish.clone()));
        match wish {
            Wish::Change(change) => self.input(node, |process, _now| process.change_members(ticket, change, deadline)),
            Wish::Transfer(to) => {
                self.input(node, |process, now| process.transfer_leadership(now, ticket, to));
                let victim = if self.operator.random.chance(500) { place(to) } else { node };
                self.interrupt(victim);
            }
        }
    }

    /// Somebody hears what became of a change.
    pub(super) fn change_answered(&mut self, node: usize, ticket: u64, told: Result<Membership, MembersError>) {
        let Some((_node, _term, Wish::Change(change))) = self.operator.waiting.remove(&ticket) else { return };
        self.trace.event(self.now, node + 1, "answers", &[ticket], || format!("{change:?}: {told:?}"));
        match told {
            Ok(members) => {
                self.marks.met(done_mark(&change));
                let verdict = ChangeAnswered::done(&change, &members, &self.truth);
                self.judge(change_answered::PROPERTY, verdict);
            }
            Err(MembersError::Unknown(_)) => self.marks.met("seen: change of members unknown"),
            Err(MembersError::Refused(refused)) => {
                self.operator.answered.refused(&change);
                if let Some(mark) = refused_mark(&refused) {
                    self.marks.met(mark);
                }
            }
            Err(_) => self.operator.answered.refused(&change),
        }
    }

    /// Somebody hears what became of a transfer.
    pub(super) fn transfer_answered(&mut self, node: usize, ticket: u64, told: Result<(), TransferError>) {
        let Some((_node, term, Wish::Transfer(to))) = self.operator.waiting.remove(&ticket) else { return };
        self.trace.event(self.now, node + 1, "answers", &[ticket], || format!("transfer to {to}: {told:?}"));
        let mark = match told {
            Ok(()) => {
                let verdict = transfer_answered::done(to, term, &self.election_safety);
                self.judge(transfer_answered::PROPERTY, verdict);
                "seen: leadership handed over"
            }
            Err(TransferError::OtherLeads(_)) => "seen: transfer ended with another leader",
            Err(TransferError::GivenUp) => "seen: transfer given up",
            Err(TransferError::Refused(TransferRefused::Unfit { .. })) => "seen: transfer refused: unfit",
            Err(TransferError::Refused(TransferRefused::UnderWay { .. })) => "seen: transfer refused: under way",
            Err(_) => "seen: transfer refused",
        };
        self.marks.met(mark);
    }

    /// Who was removed runs on for a while, or to the end, and is not started again.
    fn retire_removed(&mut self) {
        let Some((_id, members)) = self.truth.settled() else { return };
        let removed = members.removed.clone();
        for node in 0..self.nodes.len() {
            let Some(it) = self.nodes.get_mut(node).filter(|it| removed.contains(it.id) && !it.retired) else {
                continue;
            };
            it.retired = true;
            if self.operator.random.chance(600) {
                let wait = self.operator.random.within(0..2_000_000);
                self.schedule(wait, Event::Retire { node });
            }
        }
    }

    /// A machine that is not needed any more is switched off.
    pub(super) fn retire(&mut self, node: usize) {
        self.kill(node);
    }
}

const fn done_mark(change: &Change) -> &'static str {
    match change {
        Change::AddLearner { .. } => "seen: learner added",
        Change::Promote { .. } => "seen: learner promoted by hand",
        Change::Remove { .. } => "seen: member removed",
        Change::Replace { .. } => "seen: replacement taken up",
        Change::Prioritise { .. } | _ => "seen: member preferred",
    }
}

/// The reasons that a sweep must have met. Those that time cures are waited for, and rarely told.
const fn refused_mark(refused: &ChangeRefused) -> Option<&'static str> {
    match refused {
        ChangeRefused::NotLeader { .. } => Some("seen: change refused: not the leader"),
        ChangeRefused::UnderWay => Some("seen: change refused: under way"),
        ChangeRefused::Unknown { .. } => Some("seen: change refused: unknown member"),
        ChangeRefused::IdUsedBefore { .. } => Some("seen: change refused: number used before"),
        ChangeRefused::IdInUse { .. } => Some("seen: change refused: number in use"),
        ChangeRefused::Behind { .. } => Some("seen: change refused: behind"),
        ChangeRefused::NoQuorum => Some("seen: change refused: too few answer"),
        ChangeRefused::HandingOver { .. }
        | ChangeRefused::TooEarly
        | ChangeRefused::NotAVoter { .. }
        | ChangeRefused::Votes { .. }
        | ChangeRefused::NoNode
        | ChangeRefused::AddressInUse { .. }
        | ChangeRefused::BeingReplaced { .. }
        | ChangeRefused::LastVoter { .. }
        | ChangeRefused::TooMany
        | _ => None,
    }
}
