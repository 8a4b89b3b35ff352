//! The power fails on all nodes at once, at every disk call of a short history: what was acknowledged is there.
//!
//! A process that is killed shows nothing here, for the page cache survives it; so the disks are in memory and lose,
//! keep or garble whatever was not synced, names of files included. That the test can fail is shown by breaking the
//! two rules it is about: a sync that does nothing, and an answer that does not wait for its sync.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::Config;

use super::cluster::{Cluster, NODES, PowerFails, Sabotage};

/// The history: each write is awaited before the next.
const HISTORY: [&[&str]; 5] = [&["a"], &["b", "c", "d"], &["e"], &["f", "g"], &["h"]];

/// A snapshot every other entry, of which one is kept, and no more log than the segment that takes records.
const SNAPSHOTS: fn(&mut Config) = |config| {
    (config.snapshot_entries, config.snapshot_bytes) = (2, 0);
    (config.snapshots_kept, config.log_tail_bytes, config.segment_bytes) = (1, 0, 4 << 10);
};

const NO_SERVICE: &str = "no service after the power came back";

fn run_history(cluster: &mut Cluster) -> Result<(), PowerFails> {
    cluster.start()?;
    for (ticket, payloads) in HISTORY.iter().enumerate() {
        cluster.write(ticket as u64, payloads)?;
    }
    Ok(())
}

/// Runs the history with a power cut at the `call`-th disk call of `node`, starts again, and checks. False when the
/// history ended before that call.
fn cut_at(sabotage: Sabotage, knobs: Option<fn(&mut Config)>, node: usize, call: u64) -> bool {
    let mut cluster = Cluster::new(sabotage);
    cluster.knobs = knobs.unwrap_or(cluster.knobs);
    cluster.disk(node).cut_power_at(call);
    let struck = run_history(&mut cluster).is_err();
    let promised: Vec<&str> = HISTORY
        .iter()
        .enumerate()
        .filter(|(ticket, _)| cluster.is_acknowledged(*ticket as u64))
        .flat_map(|(_, payloads)| payloads.iter().copied())
        .collect();
    cluster.answers.clear();
    cluster.cut_power(call);
    assert!(cluster.start().is_ok(), "{NO_SERVICE}");
    assert!(cluster.write(99, &["after"]).is_ok(), "{NO_SERVICE}");
    let ended =
        |cluster: &Cluster| cluster.applied().iter().all(|log| log.last().is_some_and(|(_, last)| last == "after"));
    assert!(cluster.until(ended).is_ok(), "{NO_SERVICE}");
    let logs = cluster.applied();
    for log in &logs {
        assert_eq!(log, &logs[0], "replicas applied different entries");
        let found: Vec<&str> = log.iter().map(|(_, payload)| std::str::from_utf8(payload).unwrap()).collect();
        let kept = found.iter().take(promised.len()).copied().collect::<Vec<_>>();
        assert_eq!(kept, promised, "an acknowledged entry is lost, or another stands before it");
    }
    struck
}

fn every_cut(sabotage: Sabotage, knobs: Option<fn(&mut Config)>) -> u64 {
    let mut cuts = 0;
    for node in 0..usize::try_from(NODES).unwrap() {
        let mut call = 1;
        while cut_at(sabotage, knobs, node, call) {
            call += 1;
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn power_cut_on_all_nodes_at_every_disk_call_loses_nothing_acknowledged() {
    let cuts = every_cut(Sabotage::Nothing, None);
    assert!(cuts > 60, "only {cuts} disk calls were cut");
}

#[test]
fn power_cut_on_all_nodes_at_every_disk_call_amid_snapshots_loses_nothing_acknowledged() {
    let cuts = every_cut(Sabotage::Nothing, Some(SNAPSHOTS));
    assert!(cuts > 200, "only {cuts} disk calls were cut");
}

/// The panic's words, for the one that `check` must end in.
fn failure_of(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the check did not notice");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn power_cut_check_notices_a_sync_that_does_nothing() {
    let failure = failure_of(|| {
        every_cut(Sabotage::SyncDoesNothing, None);
    });
    assert!(failure.contains("acknowledged entry is lost") || failure.contains(NO_SERVICE), "{failure}");
}

#[test]
fn power_cut_check_notices_an_answer_before_its_sync() {
    let failure = failure_of(|| {
        every_cut(Sabotage::AnswerBeforeSync, None);
    });
    assert!(failure.contains("acknowledged entry is lost"), "{failure}");
}
