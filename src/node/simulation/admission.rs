//! Who may talk to whom: the handshake without its sockets, and a node that has not formed.
//!
//! ```text
//!   identity, identity ─► admits ─► connected              a frame of neither passes before
//!   empty directory ─► Forming ──Hello──► a member ──Form──► a process may start        only a wiped node gets here
//! ```
//! The verdicts are those of `transport/handshake.rs`, and the exchange that of `formation.rs`.

use bytes::Bytes;

use crate::config::Config;
use crate::error::OpenError;
use crate::simulation::plants::{Plant, Plants};
use crate::transport::handshake::{self, Answer, Hello};
use crate::transport::{Channel, FormationMessage, LocalIdentity, PeerBody, PeerFrame};
use crate::types::{GroupId, NodeId};

use super::Sent;
use crate::node::data_dir::{self, DataDir};
use crate::node::formation::{Formation, Genesis};
use crate::node::{Environment, runtime};

/// Whether a connection that `dialling` opens to `accepting` stands, by the verdicts of both.
///
/// # Errors
/// The refusal, as a sentence.
pub fn admits(
    dialling: &LocalIdentity,
    accepting: &LocalIdentity,
    channel: Channel,
    plants: Plants,
) -> Result<(), String> {
    let (known_here, known_there) =
        (taking_any_life(dialling, accepting, plants), taking_any_life(accepting, dialling, plants));
    let hello: Hello = handshake::peer_hello(dialling, accepting.node, channel);
    let judged = handshake::judge_hello(&known_there, handshake::PROTOCOL_MAX, &hello);
    let judged = judged.and_then(|answer| match answer {
        Answer::Welcome(welcome) => handshake::judge_welcome(&known_here, accepting.node, &welcome),
        Answer::Refusal(refusal) => Err(refusal),
        Answer::Admission(_) => Ok(()), // the answer to nobody who says this hello
    });
    judged.map_err(|refusal| refusal.to_string())
}

/// Whether a connection that stands is to go on, now that `own` has changed: see [`handshake::suits`].
#[must_use]
pub fn still_admits(own: &LocalIdentity, peer: &LocalIdentity, plants: Plants) -> bool {
    let formed = handshake::is_formed(own.cluster, peer.cluster);
    handshake::suits(&taking_any_life(own, peer, plants), own.cluster, (peer.node, peer.incarnation), formed)
}

/// `own`, which takes the peer's present life for the one that was admitted, where that rule is broken.
fn taking_any_life(own: &LocalIdentity, peer: &LocalIdentity, plants: Plants) -> LocalIdentity {
    let mut own = own.clone();
    if plants.has(Plant::LifeNotChecked)
        && let Some((_address, life)) = own.members.get_mut(&peer.node)
    {
        *life = life.map(|_admitted| peer.incarnation);
    }
    own
}

/// A node with an empty directory, which wants to form a cluster.
pub struct Forming {
    environment: Environment,
    config: Config,
    data_dir: DataDir,
    formation: Formation,
    plants: Plants,
}

impl Forming {
    /// Opens, or makes, the directory; `None` when it belongs to a cluster already.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn start(environment: &Environment, config: &Config, plants: Plants) -> Result<Option<Self>, OpenError> {
        let data_dir = data_dir::open(environment, config, &config.cluster)?;
        if data_dir.identity.cluster.is_some() {
            return Ok(None);
        }
        let formation = data_dir::formation(&data_dir, config, config.cluster.clone());
        Ok(Some(Self { environment: environment.clone(), config: config.clone(), data_dir, formation, plants }))
    }

    /// What its handshakes say.
    #[must_use]
    pub fn identity(&self) -> LocalIdentity {
        runtime::local_identity(&self.config, &self.data_dir, &self.config.cluster)
    }

    /// A control connection is ready: it introduces itself.
    #[must_use]
    pub fn connected(&self, peer: NodeId) -> Sent {
        let step = self.formation.connected(peer);
        let frame =
            PeerFrame { group: GroupId::FIRST, body: PeerBody::Formation(step.message), attached: step.attached };
        Sent { to: step.to, channel: Channel::Control, frame }
    }

    /// A frame came. True once it belongs to the cluster: a process may start, when this is dropped.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn receive(&mut self, frame: PeerFrame) -> Result<bool, OpenError> {
        let PeerBody::Formation(FormationMessage::Form) = frame.body else { return Ok(false) };
        match self.formed(frame.attached.concat().into()) {
            Ok(genesis) => {
                data_dir::adopt(&self.environment, &self.config, &mut self.data_dir, &genesis).map(|()| true)
            }
            Err(_refused) => Ok(false),
        }
    }

    fn formed(&self, record: Bytes) -> Result<Genesis, String> {
        match self.plants.has(Plant::LifeNotChecked) {
            true => self.formation.read(record),
            false => self.formation.form(record),
        }
    }
}
