//! Directories and the configurations they are opened with.

use std::sync::Arc;

use super::cluster::{Hand, machine};
use crate::config::Config;
use crate::env::memory::MemoryDisk;
use crate::error::OpenError;
use crate::node::data_dir;
use crate::node::formation::Formation;
use crate::types::{LogTime, NodeId};

fn config(cluster: &str) -> Config {
    Config::member(1, cluster, "/data").unwrap()
}

/// Post-mortem: the members of the very first start were remembered although the cluster then formed with others, so
/// an operator who had mended a wrong `--cluster` was refused by his own directory at the next start.
#[test]
fn directory_remembers_the_members_that_formed_and_not_those_of_an_earlier_attempt() {
    let (disk, hand) = (MemoryDisk::new(), Arc::<Hand>::default());
    let environment = machine(&disk, &hand);
    let (wrong, right) = (config("1=a:1,2=wrong:2"), config("1=a:1"));
    drop(data_dir::open(&environment, &wrong, &wrong.cluster).unwrap());
    let mut directory = data_dir::open(&environment, &right, &right.cluster).unwrap();
    let formation = Formation::new(NodeId(1), directory.identity.incarnation, right.cluster.clone());
    let genesis = formation.mint(7, LogTime(1)).unwrap();
    data_dir::adopt(&environment, &right, &mut directory, &genesis).unwrap();
    drop(directory);
    assert_eq!(data_dir::open(&environment, &right, &right.cluster).unwrap().identity.members, right.cluster);
    let refused = data_dir::open(&environment, &wrong, &wrong.cluster).err();
    assert!(matches!(refused, Some(OpenError::Identity { .. })), "{refused:?}");
}
