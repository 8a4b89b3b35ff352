//! The network: two connections a pair of nodes, as the transport has them, over links that fail.
//!
//! A connection keeps the order of its frames and loses none while it stands, as TCP does. What Raft itself must bear
//! (loss, repetition, reordering) strikes only the core's own messages: a forwarded write relies on its connection.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dledger::simulation::{Sent, frame_bytes, read_frame};
use dledger::transport::{Channel, PeerBody};

use super::{Event, World};
use crate::checkers::sent_after_sync;
use crate::faults::Fault;
use crate::random::Random;

/// How often nodes that are not connected try to be, in microseconds.
const RECONNECT_EVERY: u64 = 10_000;
/// The least time that a frame travels, and the mean of what comes on top, in microseconds.
const TRAVEL: (u64, u64) = (60, 200);
/// When a frame that did not get through is sent again, at least and at most.
const RESEND: (u64, u64) = (20_000, 200_000);

/// The connection of one channel between two nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    /// Counts connections of this channel: frames of an earlier one are void.
    epoch: u64,
    /// Whether the lower and the higher node hold it for open.
    open: [bool; 2],
    /// When the last frame to the lower and to the higher node arrives.
    last: [u64; 2],
}

/// All links.
#[derive(Debug)]
pub(super) struct Network {
    connections: BTreeMap<(usize, usize, Channel), Connection>,
    /// Directions in which nothing passes.
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// Directions that are slow, and what they add at most, in microseconds.
    pub(super) slow: BTreeMap<(usize, usize), u64>,
    /// Frames to garble on this direction.
    pub(super) garble: BTreeMap<(usize, usize), u64>,
    /// Why pairs that try to connect were refused last.
    pub(super) refused: BTreeMap<(usize, usize), String>,
    /// Since when each pair has been connected both ways and prompt.
    pub(super) sound_since: BTreeMap<(usize, usize), u64>,
    random: Random,
}

/// A pair of nodes, the lower first, and the place of `node` in it.
fn pair(node: usize, peer: usize) -> (usize, usize, usize) {
    if node < peer { (node, peer, 0) } else { (peer, node, 1) }
}

impl Network {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        let mut network = Self {
            connections: BTreeMap::new(),
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            garble: BTreeMap::new(),
            refused: BTreeMap::new(),
            sound_since: BTreeMap::new(),
            random: Random::new(seed, "network"),
        };
        (0..nodes).for_each(|node| network.grow(node));
        network
    }

    /// A machine is linked to those before it.
    pub(super) fn grow(&mut self, node: usize) {
        for low in 0..node {
            for channel in Channel::ALL {
                self.connections.insert((low, node, channel), Connection::default());
            }
        }
    }

    fn of(&mut self, node: usize, peer: usize, channel: Channel) -> Option<(&mut Connection, usize)> {
        let (low, high, place) = pair(node, peer);
        self.connections.get_mut(&(low, high, channel)).map(|connection| (connection, place))
    }

    fn is_open(&mut self, node: usize, peer: usize, channel: Channel) -> Option<u64> {
        let (connection, place) = self.of(node, peer, channel)?;
        connection.open.get(place).copied().unwrap_or(false).then_some(connection.epoch)
    }

    /// Whether nothing stands between two nodes.
    fn is_cut(&self, one: usize, two: usize) -> bool {
        self.cut.contains(&(one, two)) || self.cut.contains(&(two, one))
    }

    /// Looks whether each pair is connected both ways and prompt.
    pub(super) fn note_sound(&mut self, now: u64) {
        let mut sound: BTreeMap<(usize, usize), bool> = BTreeMap::new();
        for ((low, high, _channel), connection) in &self.connections {
            let open = connection.open == [true, true];
            let link = sound.entry((*low, *high)).or_insert(true);
            *link &= open;
        }
        for ((low, high), open) in sound {
            let slow = self.slow.contains_key(&(low, high)) || self.slow.contains_key(&(high, low));
            if open && !slow && !self.is_cut(low, high) {
                self.sound_since.entry((low, high)).or_insert(now);
            } else {
                self.sound_since.remove(&(low, high));
            }
        }
    }

    /// Whether a pair has been sound since `then` at least.
    pub(super) fn sound_from(&self, one: usize, two: usize, then: u64) -> bool {
        let (low, high, _place) = pair(one, two);
        self.sound_since.get(&(low, high)).is_some_and(|since| *since <= then)
    }
}

impl World {
    /// A process hands a frame to the network.
    pub(super) fn send(&mut self, from: usize, sent: Sent) {
        let to = usize::try_from(sent.to.get()).unwrap_or(1).saturating_sub(1);
        let Some(epoch) = self.network.is_open(from, to, sent.channel) else { return };
        let Some(node) = self.nodes.get(from) else { return };
        // Where one end belongs to no cluster only what forms one passes (transport/links.rs).
        let forms = node.forming.is_some() || self.nodes.get(to).is_some_and(|it| it.forming.is_some());
        if forms && !matches!(sent.frame.body, PeerBody::Formation(_)) {
            return;
        }
        let bytes = match frame_bytes(&node.config, &sent.frame) {
            Ok(bytes) => bytes,
            Err(reason) => {
                let what = format!("node {} cannot send to {}: {reason}", node.id, sent.to);
                return self.judge(sent_after_sync::SENDABLE, Err(what));
            }
        };
        let numbers = [to as u64 + 1, epoch, u64::from(crc32fast::hash(&bytes))];
        self.trace.event(self.now, from + 1, "sends", &numbers, || format!("to {}: {:?}", sent.to, sent.frame.body));
        let raft = matches!(sent.frame.body, PeerBody::Raft(_));
        let flaky = self.profile.flaky_per_mille;
        let faulty = self.now < self.profile.faults_end();
        let mut strikes = |fault| raft && faulty && self.profile.has(fault) && self.network.random.chance(flaky);
        let (lost, twice, overtakes) = (strikes(Fault::Loss), strikes(Fault::Duplicate), strikes(Fault::Reorder));
        if lost {
            return self.marks.met("fault: frame lost");
        }
        let bytes = self.maybe_garbled(from, to, bytes);
        if twice {
            self.marks.met("fault: frame twice");
            self.carry(from, to, sent.channel, epoch, bytes.clone(), true);
        }
        if overtakes {
            self.marks.met("fault: frame overtook another");
        }
        self.carry(from, to, sent.channel, epoch, bytes, overtakes);
    }

    fn maybe_garbled(&mut self, from: usize, to: usize, bytes: Bytes) -> Bytes {
        let Some(left) = self.network.garble.get_mut(&(from, to)).filter(|left| **left > 0) else { return bytes };
        *left -= 1;
        self.marks.met("fault: frame garbled");
        let mut garbled = bytes.to_vec();
        let place = self.network.random.place(garbled.len());
        if let Some(byte) = garbled.get_mut(place) {
            *byte ^= 1 << self.network.random.place(8);
        }
        garbled.into()
    }

    fn carry(&mut self, from: usize, to: usize, channel: Channel, epoch: u64, bytes: Bytes, out_of_order: bool) {
        let now = self.now;
        let slow = self.network.slow.get(&(from, to)).copied();
        let random = &mut self.network.random;
        let mut at = now + TRAVEL.0 + random.around(TRAVEL.1);
        if let Some(most) = slow {
            at += random.within(most / 2..most);
        }
        if out_of_order {
            at += random.within(0..3_000);
        }
        let Some((connection, place)) = self.network.of(to, from, channel) else { return };
        if let Some(last) = connection.last.get_mut(place)
            && !out_of_order
        {
            at = at.max(*last + 1);
            *last = at;
        }
        self.schedule(at - now, Event::Arrive { from, to, channel, epoch, bytes });
    }

    /// Whether a frame is of the kind that relies on its connection to lose nothing while it stands.
    fn is_of_snapshot(&self, to: usize, bytes: &[u8]) -> bool {
        let frame = self.nodes.get(to).and_then(|node| read_frame(&node.config, bytes).ok());
        frame.is_some_and(|frame| matches!(frame.body, PeerBody::Snapshot(_) | PeerBody::SnapshotAnswer { .. }))
    }

    pub(super) fn arrive(&mut self, from: usize, to: usize, channel: Channel, epoch: u64, bytes: Bytes) {
        if self.network.cut.contains(&(from, to)) && self.is_of_snapshot(to, &bytes) {
            let wait = self.network.random.within(RESEND.0..RESEND.1);
            return self.schedule(wait, Event::Arrive { from, to, channel, epoch, bytes });
        }
        if self.network.cut.contains(&(from, to)) || self.network.is_open(to, from, channel) != Some(epoch) {
            return;
        }
        let Some(node) = self.nodes.get(to) else { return };
        if node.still_until > self.now {
            let wait = node.still_until - self.now;
            return self.schedule(wait, Event::Arrive { from, to, channel, epoch, bytes });
        }
        match read_frame(&node.config, &bytes) {
            Ok(frame) => {
                let Some(sender) = self.nodes.get(from).map(|node| node.id) else { return };
                let numbers = [from as u64 + 1, epoch, u64::from(crc32fast::hash(&bytes))];
                self.trace.event(self.now, to + 1, "hears", &numbers, || format!("from {sender}: {:?}", frame.body));
                if node.forming.is_some() {
                    return self.told_while_forming(to, frame);
                }
                self.input(to, |process, now| process.receive(now, sender, frame));
            }
            Err(reason) => {
                self.trace.event(self.now, to + 1, "refuses", &[from as u64 + 1], || reason);
                self.marks.met("seen: connection closed over garbage");
                self.disconnect(to, from);
            }
        }
    }

    /// `node` closes its connections to `peer`, who hears of it a little later.
    pub(super) fn disconnect(&mut self, node: usize, peer: usize) {
        for channel in Channel::ALL {
            self.break_connection(node, peer, channel, true);
        }
    }

    /// One connection breaks; `here` hears it now, the other end within a millisecond.
    pub(super) fn break_connection(&mut self, here: usize, there: usize, channel: Channel, prompt: bool) {
        let Some((connection, _place)) = self.network.of(here, there, channel) else { return };
        let epoch = connection.epoch;
        let wait =
            if prompt { self.network.random.within(50..1_000) } else { self.network.random.within(300_000..1_200_000) };
        self.close_end(here, there, channel, epoch);
        self.schedule(wait, Event::Close { node: there, peer: here, channel, epoch });
    }

    /// One end of a connection is closed.
    pub(super) fn close_end(&mut self, node: usize, peer: usize, channel: Channel, epoch: u64) {
        let now = self.now;
        let Some((connection, place)) = self.network.of(node, peer, channel) else { return };
        let open = connection.open.get_mut(place);
        let Some(open) = open.filter(|open| **open && connection.epoch == epoch) else { return };
        *open = false;
        self.network.note_sound(now);
        let Some(other) = self.nodes.get(peer).map(|node| node.id) else { return };
        self.trace.event(now, node + 1, "closed", &[other.get(), epoch], || format!("{channel:?} to node {other}"));
        self.input(node, |process, now| process.closed(now, other, channel));
    }

    /// Connects who can be and is not.
    pub(super) fn reconnect(&mut self) {
        self.schedule(RECONNECT_EVERY, Event::Reconnect);
        let ready: Vec<(usize, usize, Channel)> = self.network.connections.keys().copied().collect();
        for (low, high, channel) in ready {
            let up = |node: usize| self.nodes.get(node).is_some_and(|it| it.is_up() && it.still_until <= self.now);
            if !up(low) || !up(high) || self.network.is_cut(low, high) {
                continue;
            }
            let Some(connection) = self.network.connections.get(&(low, high, channel)).copied() else { continue };
            if connection.open == [true, true] || self.network.random.chance(300) || !self.admits(low, high, channel) {
                continue;
            }
            // An end that has not noticed yet hears of the old connection's end first.
            self.close_end(low, high, channel, connection.epoch);
            self.close_end(high, low, channel, connection.epoch);
            self.connect(low, high, channel);
        }
        self.network.note_sound(self.now);
    }

    fn connect(&mut self, low: usize, high: usize, channel: Channel) {
        let Some((connection, _place)) = self.network.of(low, high, channel) else { return };
        connection.epoch += 1;
        connection.open = [true, true];
        let epoch = connection.epoch;
        for (node, peer) in [(low, high), (high, low)] {
            let Some(other) = self.nodes.get(peer).map(|node| node.id) else { continue };
            self.trace.event(self.now, node + 1, "connected", &[other.get(), epoch], || {
                format!("{channel:?} to node {other}")
            });
            match (self.is_forming(node), self.is_forming(peer)) {
                (false, false) => self.input(node, |process, now| process.connected(now, other, channel)),
                (true, _) if channel == Channel::Control => self.introduces_itself(node, other),
                (true, _) | (false, true) => {}
            }
        }
    }

    /// The process of `node` is gone: its own ends are, and its peers hear of it, soon if its machine lives.
    pub(super) fn hang_up(&mut self, node: usize, machine_lives: bool) {
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            for channel in Channel::ALL {
                self.break_connection(node, peer, channel, machine_lives);
            }
        }
    }
}
