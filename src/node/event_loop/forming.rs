//! What a node does that does not belong to a cluster yet: it forms one with others, and keeps its callers waiting meanwhile.

use crate::error::{OpenError, ReadError, WriteError};
use crate::state_machine::StateMachine;
use crate::transport::{Channel, PeerBody, PeerFrame, Transport};
use crate::types::{GroupId, LogTime, Monotonic, NodeId};

use super::{Early, EventLoop, Phase};
use crate::node::data_dir;
use crate::node::effects::Answer;
use crate::node::formation::{Genesis, Step};

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
        let Phase::Forming { formation, .. } = &self.phase else { return Ok(()) };
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
        let Phase::Forming { machine, early, .. } = std::mem::replace(&mut self.phase, Phase::Stopped) else {
            return Ok(());
        };
        tracing::info!(node = %self.config.id, cluster = %genesis.membership.cluster, "the cluster is formed");
        self.start_replica(machine)?;
        if let Phase::Running { replica, .. } = &mut self.phase {
            for question in early {
                match question {
                    Early::Write(ticket, term, proposals, deadline) => {
                        replica.propose(ticket, term, proposals, deadline)
                    }
                    Early::Read(ticket, deadline) => replica.read_index(ticket, deadline),
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
        let Phase::Forming { early, .. } = &mut self.phase else { return };
        let due = |question: &mut Early| match question {
            Early::Write(_, _, _, deadline) | Early::Read(_, deadline) => *deadline <= now,
        };
        let expired: Vec<Early> = early.extract_if(.., due).collect();
        for question in expired {
            self.refuse_early(question, "the cluster has not formed: not all members have been reached");
        }
    }

    pub(super) fn refuse_early(&mut self, question: Early, reason: &str) {
        match question {
            Early::Write(ticket, ..) => {
                self.answer(ticket, Answer::Write(Err(WriteError::Unavailable(reason.to_owned()))));
            }
            Early::Read(ticket, _) => self.answer(ticket, Answer::Read(Err(ReadError::Unavailable(reason.to_owned())))),
        }
    }
}
