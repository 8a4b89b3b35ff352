//! Who is connected to whom: the handshakes of the nodes that run, and machines whose disk was lost.
//!
//! ```text
//!   not connected ─► both verdicts of the handshake ─► connected
//!   a node follows other members ─► what the handshake would refuse now is closed       as event_loop.rs does
//! ```
//! A machine with an empty disk starts as it did the first time, to form the cluster of its configuration. Whoever knows
//! it in another life refuses it.

use dledger::OpenError;
use dledger::simulation::{Forming, Process, admits, still_admits};
use dledger::transport::{Channel, PeerFrame};
use dledger::types::NodeId;

use super::{Event, World};
use crate::checkers::disk_keeps;

impl World {
    pub(super) fn is_forming(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|it| it.forming.is_some())
    }

    /// Whether both ends of a new connection take each other for whom they are.
    pub(super) fn admits(&mut self, low: usize, high: usize, channel: Channel) -> bool {
        let (Some(one), Some(two)) = (self.nodes.get(low), self.nodes.get(high)) else { return false };
        let (Some(dialling), Some(accepting)) = (one.identity(), two.identity()) else { return false };
        let Err(reason) = admits(&dialling, &accepting, channel, self.plants()) else {
            self.network.refused.remove(&(low, high));
            return true;
        };
        let (wiped, stranger) = (one.wiped || two.wiped, one.process.is_some() && two.process.is_some());
        if wiped {
            self.marks.met("seen: wiped disk refused");
        } else if stranger {
            self.marks.met("seen: stranger refused");
        }
        if self.network.refused.get(&(low, high)) != Some(&reason) {
            self.trace.event(self.now, low + 1, "refused", &[high as u64 + 1], || reason.clone());
            self.network.refused.insert((low, high), reason);
        }
        false
    }

    /// A node that follows other members closes what is open to whom it knows no more.
    pub(super) fn introduce(&mut self, node: usize) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        if !it.process.as_mut().is_some_and(Process::introduces_itself) {
            return;
        }
        let Some(own) = it.identity() else { return };
        let plants = self.plants();
        let unsuited = |peer: &usize| {
            let identity = self.nodes.get(*peer).and_then(super::node::Node::identity);
            *peer != node && identity.is_some_and(|identity| !still_admits(&own, &identity, plants))
        };
        let peers: Vec<usize> = (0..self.nodes.len()).filter(unsuited).collect();
        peers.into_iter().for_each(|peer| self.disconnect(node, peer));
    }

    /// A node with an empty directory is connected to one of its configuration.
    pub(super) fn introduces_itself(&mut self, node: usize, peer: NodeId) {
        let hello = self.nodes.get(node).and_then(|it| it.forming.as_ref()).map(|forming| forming.connected(peer));
        if let Some(hello) = hello {
            self.send(node, hello);
        }
    }

    /// It is told something.
    pub(super) fn told_while_forming(&mut self, node: usize, frame: PeerFrame) {
        let Some(it) = self.nodes.get_mut(node) else { return };
        let Some(forming) = &mut it.forming else { return };
        match forming.receive(frame) {
            Ok(false) => {}
            Ok(true) => {
                self.gone(node, true);
                self.schedule(1_000, Event::Start { node });
            }
            Err(error) => {
                let what = format!("node {} does not take part in its cluster: {error}", it.id);
                self.judge(disk_keeps::PROPERTY, Err(what));
            }
        }
    }

    /// A machine whose directory may belong to no cluster starts; false when it does belong to one.
    pub(super) fn start_forming(&mut self, node: usize) -> bool {
        let plants = self.plants();
        let Some(it) = self.nodes.get_mut(node).filter(|it| it.wiped) else { return false };
        if !it.config.join.0.is_empty() {
            // It waits to be admitted in its new life, which nobody does under a number that was used.
            return true;
        }
        match Forming::start(&it.environment(), &it.config, plants) {
            Ok(None) => false,
            Ok(forming) => {
                it.forming = forming;
                self.trace.event(self.now, node + 1, "started", &[0], || "with an empty directory".to_owned());
                true
            }
            Err(error @ (OpenError::DiskFull { .. } | OpenError::Io { .. })) => {
                self.start_again(node, &error);
                true
            }
            Err(error) => {
                let what = format!("node {} does not open its empty directory: {error}", it.id);
                self.judge(disk_keeps::PROPERTY, Err(what));
                true
            }
        }
    }

    /// A machine's disk is lost; it comes back with an empty one.
    pub(super) fn wipe(&mut self, node: usize) {
        self.marks.met("fault: disk wiped");
        self.trace.event(self.now, node + 1, "wiped", &[], String::new);
        self.gone(node, false);
        let Some(it) = self.nodes.get_mut(node) else { return };
        it.disk.kill_process();
        it.disk = dledger::env::memory::MemoryDisk::new();
        it.wiped = true;
        self.truth.wiped(node);
        let wait = self.operator.random.within(5_000..400_000);
        self.schedule(wait, Event::Start { node });
    }
}
