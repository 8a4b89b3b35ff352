//! `demo`: a cluster in this process, then the shell or commands from stdin, then a clean stop.
//!
//! The commands reach the nodes over loopback like any client. Without `--data-dir` the data lies in a temporary
//! directory that goes with the demo; with it, in `DIR/1` to `DIR/N`, and `DIR/demo.toml` remembers the ports, since
//! the nodes' addresses are part of the cluster that the directories hold.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dledger::config::{Backend, Config};
use serde::{Deserialize, Serialize};

use crate::args::DemoArgs;
use crate::exit::{Failure, Outcome};
use crate::node::Node;
use crate::report;
use crate::run::{Session, interact, no_signals};
use crate::signals::{self, Otherwise, Signals};
use crate::store::Store;

/// The first port unless told.
const BASE_PORT: u16 = 7101;
/// Ports from here on are where outgoing connections get theirs from, so a node's port could be taken at any time.
const PORTS_END: u16 = 32_768;
/// The file that remembers the ports.
const MEMORY: &str = "demo.toml";
/// Longest wait for the first leader before commands start; they would wait themselves.
const LEADER_WITHIN: Duration = Duration::from_secs(5);
/// How often the nodes are asked whether there is one.
const LEADER_POLL: Duration = Duration::from_millis(20);

/// What a data directory remembers of its demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    nodes: u16,
    base_port: u16,
}

/// Where the data lies.
enum Place {
    Temporary(tempfile::TempDir),
    Named(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Named(path) => path,
        }
    }
}

/// Runs the demo.
pub(crate) async fn run(session: &Session, args: DemoArgs) -> Result<Outcome, Failure> {
    let place = match &args.data_dir {
        Some(path) => Place::Named(path.clone()),
        None => Place::Temporary(tempfile::tempdir().map_err(|error| cannot("make a temporary directory", &error))?),
    };
    let mut stop =
        signals::Stop::on(if session.input.is_terminal() { &signals::TERMINATE[..] } else { &signals::STOP })
            .map_err(|error| no_signals(&error))?;
    let memory = choose_ports(&place, &args)?;
    let endpoints: Vec<String> = addresses(memory).collect();
    let nodes = open_all(&place, memory, args.backend).await?;
    let inner = session.at(endpoints, session.options.timeout)?;
    let inner = Session { signals: Signals::new(Otherwise::Heard), ..inner };
    let ended = tokio::select! {
        ended = async {
            wait_for_leader(&inner.store).await;
            interact(&inner).await
        } => ended,
        () = stop.requested() => Ok(0),
    };
    session.printer.flush()?;
    let stopped = stop_all(&nodes).await;
    ended.and_then(|code| stopped.map(|()| Outcome::Ended(code)))
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::config(format!("cannot {what}: {error}"))
}

fn addresses(memory: Memory) -> impl Iterator<Item = String> {
    ports(memory.base_port, memory.nodes).map(|port| format!("127.0.0.1:{port}"))
}

fn ports(base: u16, nodes: u16) -> Range<u16> {
    base..base.saturating_add(nodes)
}

/// The ports that the directory remembers, else the first free ones.
fn choose_ports(place: &Place, args: &DemoArgs) -> Result<Memory, Failure> {
    let path = place.path().join(MEMORY);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let memory: Memory = toml::from_str(&text)
                .map_err(|error| Failure::config(format!("{} is not readable: {}", path.display(), error.message())))?;
            return check_memory(place.path(), memory, args);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(&format!("read {}", path.display()), &error)),
    }
    let wanted = args.base_port.unwrap_or(BASE_PORT);
    let base_port = first_free(wanted, args.nodes)?;
    if base_port != wanted {
        let taken = ports(wanted, args.nodes);
        let used = ports(base_port, args.nodes);
        report::remark(&format!(
            "ports {}-{} are in use; the demo uses {}-{}",
            taken.start,
            taken.end - 1,
            used.start,
            used.end - 1
        ));
    }
    let memory = Memory { nodes: args.nodes, base_port };
    let text = toml::to_string(&memory).map_err(|error| Failure::config(format!("cannot write {MEMORY}: {error}")))?;
    fs::create_dir_all(place.path())
        .and_then(|()| fs::write(&path, text))
        .map_err(|error| cannot(&format!("write {}", path.display()), &error))?;
    Ok(memory)
}

/// A cluster keeps its members and their addresses.
fn check_memory(directory: &Path, memory: Memory, args: &DemoArgs) -> Result<Memory, Failure> {
    let wanted = args.base_port.unwrap_or(memory.base_port);
    if memory.nodes != args.nodes || memory.base_port != wanted {
        return Err(Failure::config(format!(
            "{} holds a demo of {} nodes from port {}; say --nodes {} and no other --base-port, or another --data-dir",
            directory.display(),
            memory.nodes,
            memory.base_port,
            memory.nodes,
        )));
    }
    match ports(memory.base_port, memory.nodes).find(|&port| !is_free(port)) {
        None => Ok(memory),
        Some(port) => Err(Failure::config(format!(
            "port {port} is in use, and the nodes in {} are bound to it; stop its owner first",
            directory.display()
        ))),
    }
}

fn first_free(wanted: u16, nodes: u16) -> Result<u16, Failure> {
    let last = PORTS_END.saturating_sub(nodes);
    (wanted..=last).find(|&base| ports(base, nodes).all(is_free)).ok_or_else(|| {
        Failure::config(format!("no {nodes} free ports in a row from {wanted} to {}; give --base-port", PORTS_END - 1))
    })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

async fn open_all(place: &Place, memory: Memory, backend: Backend) -> Result<Vec<Node>, Failure> {
    let members: Vec<String> = (1..).zip(addresses(memory)).map(|(id, address)| format!("{id}={address}")).collect();
    let cluster = members.join(",");
    let mut nodes = Vec::new();
    for id in 1..=u64::from(memory.nodes) {
        let member = Config::member(id, &cluster, place.path().join(id.to_string()))?;
        let config = Config { backend, ..member };
        match Node::open(config).await {
            Ok(node) => nodes.push(node),
            Err(failure) => {
                // The first failure is the one to tell.
                let _second = stop_all(&nodes).await;
                return Err(failure);
            }
        }
    }
    Ok(nodes)
}

async fn wait_for_leader(store: &Store) {
    let wait = async {
        loop {
            if store.nodes().await.is_ok_and(|nodes| nodes.leader().is_some()) {
                return;
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    };
    // Without a leader the commands say what is wrong.
    let _commands_tell = tokio::time::timeout(LEADER_WITHIN, wait).await;
}

/// Stops all nodes at the same time; the answer is the first failure.
async fn stop_all(nodes: &[Node]) -> Result<(), Failure> {
    let mut result = Ok(());
    let mut stops = tokio::task::JoinSet::new();
    for node in nodes {
        let node = node.clone();
        stops.spawn(async move { node.stop().await });
    }
    while let Some(one) = stops.join_next().await {
        result = result.and(one.unwrap_or(Ok(())));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(nodes: u16, base_port: Option<u16>) -> DemoArgs {
        DemoArgs { nodes, base_port, data_dir: None, backend: Backend::Memory }
    }

    #[test]
    fn ports_in_use_are_passed_over() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        assert!(!is_free(port));
        let base = first_free(20_000, 3).unwrap();
        assert!(ports(base, 3).all(is_free));
        assert_eq!(first_free(PORTS_END - 2, 3).unwrap_err().code(), 2);
    }

    #[test]
    fn a_named_directory_remembers_its_ports() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::Named(directory.path().join("new"));
        let memory = choose_ports(&place, &args(3, Some(20_100))).unwrap();
        assert_eq!(choose_ports(&place, &args(3, None)).unwrap(), memory);
        assert!(choose_ports(&place, &args(5, None)).unwrap_err().message.contains("--nodes 3"));
        assert_eq!(choose_ports(&place, &args(3, Some(memory.base_port + 1))).unwrap_err().code(), 2);
        let _holder = TcpListener::bind(("127.0.0.1", memory.base_port + 1)).unwrap();
        assert!(choose_ports(&place, &args(3, None)).unwrap_err().message.contains("in use"));
    }
}
