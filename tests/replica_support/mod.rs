//! Configurations of replicas on loopback, for tests that open them in this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::TcpListener;
use std::path::Path;

use dledger::Config;

/// Members of a cluster of `count`, below `directory`, on ports that were free a moment ago.
pub(crate) fn members(directory: &Path, count: u64) -> Vec<Config> {
    let listeners: Vec<TcpListener> = (0..count).map(|_node| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port());
    let members: Vec<String> = (1..).zip(ports).map(|(id, port)| format!("{id}=127.0.0.1:{port}")).collect();
    (1..=count).map(|id| Config::member(id, &members.join(","), directory.join(id.to_string())).unwrap()).collect()
}
