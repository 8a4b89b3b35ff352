//! Tests of whole replicas, in one thread, over disks in memory.

mod cluster;
mod data_dir;
mod disk_loop;
mod joining;
mod power_cut;
mod repair;
mod restore;
mod rot;
mod scrub;
mod snapshots;
