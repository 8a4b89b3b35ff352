//! A network of their own for a few nodes, which can be cut: a namespace each, and a hub that joins them.
//!
//! ```text
//!   hub:  10.99.0.254 ── bridge ─┬─ port1 ── eth0  node 1: 10.99.0.1
//!   (clients are here)           ├─ port2 ── eth0  node 2: 10.99.0.2
//!                                └─ port3 ── eth0  node 3: 10.99.0.3
//! ```
//!
//! Cuts are rules within the node's own namespace that drop packets, so that a cut has a direction, and clients in the
//! hub reach a node that other nodes do not. Nothing outside is touched: bridge and rules end with their namespaces.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::machine::tool;
use crate::process::behind;

/// Where clients are.
const HUB: &str = "10.99.0.254";

fn address(place: usize) -> String {
    format!("10.99.0.{}", place + 1)
}

/// A network namespace. Removed when dropped; what runs in it keeps it alive without its name.
struct Namespace(String);

impl Namespace {
    /// # Errors
    /// The machine makes none.
    fn new(part: &str) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dledger-{}-{}-{part}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        tool("ip", &["netns", "add", &name])?;
        let namespace = Self(name);
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    fn ip(&self, arguments: &[&str]) -> Result<String, String> {
        tool("ip", &[&["-n", &self.0], arguments].concat())
    }

    fn nft(&self, command: &str) -> Result<String, String> {
        tool("ip", &["netns", "exec", &self.0, "nft", command])
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    fn kvcli(&self) -> Command {
        behind("ip", &["netns", "exec", &self.0])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(reason) = tool("ip", &["netns", "del", &self.0]) {
            println!("left behind: {reason}");
        }
    }
}

/// How a node is cut from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing goes either way.
    BothWays,
    /// What it sends arrives, and it hears nothing.
    HearsNothing,
    /// It hears, and nothing that it sends arrives.
    IsNotHeard,
    /// From everybody, clients too.
    Unplugged,
}

/// A hub and nodes around it.
pub(crate) struct Network {
    nodes: Vec<Namespace>,
    hub: Namespace,
}

impl Network {
    /// # Errors
    /// The machine makes no namespaces, or has no rules for packets.
    pub(crate) fn of(count: usize) -> Result<Self, String> {
        let mut network = Self { nodes: Vec::new(), hub: Namespace::new("hub")? };
        network.hub.ip(&["link", "add", "bridge", "type", "bridge"])?;
        network.hub.ip(&["address", "add", &format!("{HUB}/24"), "dev", "bridge"])?;
        network.hub.ip(&["link", "set", "bridge", "up"])?;
        for place in 0..count {
            let node = Namespace::new(&format!("node{}", place + 1))?;
            let port = port(place);
            let pair = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &node.0];
            network.hub.ip(&pair)?;
            network.hub.ip(&["link", "set", &port, "master", "bridge", "up"])?;
            node.ip(&["address", "add", &format!("{}/24", address(place)), "dev", "eth0"])?;
            node.ip(&["link", "set", "eth0", "up"])?;
            node.nft("add table ip cut")?;
            node.nft("add chain ip cut hears { type filter hook input priority 0; }")?;
            node.nft("add chain ip cut says { type filter hook output priority 0; }")?;
            network.nodes.push(node);
        }
        Ok(network)
    }

    /// Where each node listens.
    pub(crate) fn addresses(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|place| format!("{}:7101", address(place))).collect()
    }

    /// `kvcli` where this node is: it reaches nobody whom this node cannot reach.
    pub(crate) fn kvcli_at(&self, place: usize) -> Command {
        self.nodes[place].kvcli()
    }

    /// `kvcli` where clients are.
    pub(crate) fn kvcli_at_hub(&self) -> Command {
        self.hub.kvcli()
    }

    /// The namespace where clients are, as a file.
    pub(crate) fn hub(&self) -> PathBuf {
        self.hub.path()
    }

    /// Cuts a node from others, in addition to what is cut already.
    pub(crate) fn cut(&self, place: usize, others: &[usize], cut: Cut) {
        let rules = match cut {
            Cut::Unplugged => {
                self.hub.ip(&["link", "set", &port(place), "down"]).unwrap();
                return;
            }
            Cut::BothWays => vec!["hears ip saddr", "says ip daddr"],
            Cut::HearsNothing => vec!["hears ip saddr"],
            Cut::IsNotHeard => vec!["says ip daddr"],
        };
        let addresses: Vec<String> = others.iter().map(|other| address(*other)).collect();
        // One transaction: all of it at the same moment.
        let rule = |rule| format!("add rule ip cut {rule} {{ {} }} drop", addresses.join(", "));
        let rules: Vec<String> = rules.into_iter().map(rule).collect();
        self.nodes[place].nft(&rules.join("; ")).unwrap();
    }

    /// All that was cut is whole again.
    pub(crate) fn heal(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            node.nft("flush table ip cut").unwrap();
            self.hub.ip(&["link", "set", &port(place), "up"]).unwrap();
        }
    }
}

/// The hub's end of a node's cable.
fn port(place: usize) -> String {
    format!("port{}", place + 1)
}
