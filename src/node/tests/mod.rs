//! Tests of whole replicas, in one thread, over disks in memory.

mod cluster;
mod data_dir;
mod deadlines;
mod disk_loop;
mod joining;
mod members;
mod on_disk;
mod power_cut;
mod recorder;
mod repair;
mod restore;
mod rot;
mod scrub;
mod snapshots;
