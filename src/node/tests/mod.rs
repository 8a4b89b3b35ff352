//! Tests of whole replicas, in one thread, over disks in memory.

mod cluster;
mod power_cut;
