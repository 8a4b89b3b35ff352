//! What a node does that does not belong to a cluster yet: it forms one with others or joins one that exists, and keeps its
//! callers waiting meanwhile.

use crate::error::{OpenError, ReadError, WriteError};
use crate::state_machine::StateMachine;
use crate::transport::{Admission, Channel, JoinHello, PeerBody, PeerFrame, Transport};
use crate::types::{GroupId, LogTime, Monotonic, NodeId};

use super::{Early, EventLoop, Phase};
use crate::node::effects::Answer;
use crate::node::formation::{Genesis, Step};
use crate::node::handle::Command;
use crate::node::{data_dir, joining};

impl<M: StateMachine> EventLoop<M> {
    pub(super) fn formation_outcome(&mut self, from: NodeId, outcome: Result<Option<Genesis>, String>) {
        let done = match outcome {
            Ok(Some(genesis)) => self.adopt(&genesis),
            Ok(None) => self.try_to_form(),
            Err(reason) => {
                tracing::warn!(node = %self.config.id, peer = %from, reason, "cannot form the cluster");
                Ok(())
            }
        };
        if let Err(error) = done {
            self.fatal = Some(error.to_string());
        }
    }

    /// Mints the cluster when it is this node's turn to.
    pub(super) fn try_to_form(&mut self) -> Result<(), OpenError> {
        let Phase::Forming { formation: Some(formation), .. } = &self.phase else { return Ok(()) };
        let entropy = &self.environment.entropy;
        let random = (u128::from(entropy.next_u64()) << 64) | u128::from(entropy.next_u64());
        let Some(genesis) = formation.mint(random, LogTime(self.environment.clock.wall_ms())) else { return Ok(()) };
        self.adopt(&genesis)
    }

    /// Makes record 1 durable, passes it on, and runs. It is passed on by every member: the one that minted it may
    /// be gone before the last has heard.
    pub(super) fn adopt(&mut self, genesis: &Genesis) -> Result<(), OpenError> {
        data_dir::adopt(&self.environment, &self.config, &mut self.data_dir, genesis)?;
        self.carry_out_formation(genesis.announce(self.config.id));
        tracing::info!(node = %self.config.id, cluster = %genesis.membership.cluster, "the cluster is formed");
        self.begin_running()
    }

    /// Asks the addresses that the node is to join by, in the background. False when it is to form a cluster.
    pub(super) fn ask_to_join(&self) -> bool {
        let addresses = self.config.join.0.clone();
        if addresses.is_empty() {
            return false;
        }
        let (commands, stopped) = (self.shared.commands.clone(), self.shared.stopped.clone());
        let hello = JoinHello::new(self.config.id, self.data_dir.identity.incarnation);
        tokio::spawn(joining::ask(addresses, hello, move |outcome| {
            stopped.borrow().is_none() && commands.send(Command::Join(outcome)).is_ok()
        }));
        true
    }

    /// The members have admitted this node; or why not.
    pub(super) fn joined(&mut self, outcome: Result<Admission, String>) {
        let Phase::Forming { formation: None, .. } = &self.phase else { return };
        let Admission { cluster, epoch, members } = match outcome {
            Ok(admission) => admission,
            Err(reason) => {
                if self.refused.as_ref() != Some(&reason) {
                    tracing::info!(node = %self.config.id, reason, "waits to be admitted to the cluster");
                }
                self.refused = Some(reason);
                return;
            }
        };
        tracing::info!(node = %self.config.id, %cluster, %members, "admitted to the cluster");
        let joined = data_dir::join(&self.environment, &self.config, &mut self.data_dir, (cluster, epoch), members);
        if let Err(error) = joined.and_then(|()| self.begin_running()) {
            self.fatal = Some(error.to_string());
        }
    }

    /// The directory belongs to a cluster now: what was asked meanwhile is taken up.
    fn begin_running(&mut self) -> Result<(), OpenError> {
        self.refused = None;
        let Phase::Forming { machine, early, .. } = std::mem::replace(&mut self.phase, Phase::Stopped) else {
            return Ok(());
        };
        self.start_replica(machine)?;
        if let Phase::Running { replica, .. } = &mut self.phase {
            for question in early {
                match question {
                    Early::Write(ticket, term, proposals, deadline) => {
                        replica.propose(ticket, term, proposals, deadline)
                    }
                    Early::Read(ticket, by, deadline) => replica.read_index(ticket, by, deadline),
                }
            }
        }
        Ok(())
    }

    pub(super) fn carry_out_formation(&mut self, steps: Vec<Step>) {
        for Step { to, message, attached } in steps {
            let frame = PeerFrame { group: GroupId::FIRST, body: PeerBody::Formation(message), attached };
            self.transport.send(to, Channel::Control, frame);
        }
    }

    pub(super) fn expire_early(&mut self, now: Monotonic) {
        let Phase::Forming { formation, early, .. } = &mut self.phase else { return };
        let reason = match formation {
            Some(_) => "the cluster has not formed: not all members have been reached",
            None => "this node has not been admitted to a cluster yet",
        };
        let due = |question: &mut Early| match question {
            Early::Write(_, _, _, deadline) | Early::Read(_, _, deadline) => *deadline <= now,
        };
        let expired: Vec<Early> = early.extract_if(.., due).collect();
        for question in expired {
            self.refuse_early(question, reason);
        }
    }

    pub(super) fn refuse_early(&mut self, question: Early, reason: &str) {
        match question {
            Early::Write(ticket, ..) => {
                self.answer(ticket, Answer::Write(Err(WriteError::Unavailable(reason.to_owned()))));
            }
            Early::Read(ticket, ..) => {
                self.answer(ticket, Answer::Read(Err(ReadError::Unavailable(reason.to_owned()))))
            }
        }
    }
}
