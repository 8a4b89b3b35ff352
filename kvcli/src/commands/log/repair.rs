//! `log repair`: what is damaged in the log of a node without peers, and with `--cut` the log without it.
//!
//! Without `--cut` not a byte is changed. With it the log ends before the first record that cannot be read; the files
//! as they were are kept beside it. A node that has peers is not cut: they mend it while it runs.

use std::path::Path;

use dledger::commitlog::layout::LOCK_FILE;
use dledger::commitlog::repair::{CutAway, Examined, cut, examine};
use dledger::commitlog::{DirLock, Hole, load_identity, lock_data_dir};
use dledger::env::os::OsDisk;
use dledger::types::{GroupId, Index};

use super::{blocking, log_of};
use crate::args::RepairArgs;
use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::report;
use crate::run::Session;

/// Neighbouring records that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HoleRow {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// In order, each once; empty when they are not known.
    pub(crate) terms: Vec<u64>,
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

/// What a cut gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CutRow {
    /// The first index that was given up.
    pub(crate) first: u64,
    /// The last one; below `first` when none was.
    pub(crate) last: u64,
    /// Entries up to this one were certainly committed.
    pub(crate) committed: u64,
    /// Where the files stand as they were; empty when none was changed.
    pub(crate) aside: String,
}

/// Everything that is read from the directory.
struct Report {
    examined: Examined,
    has_peers: bool,
    cut: Option<CutAway>,
}

/// Runs the command. The disk is read on a thread that may block.
pub(crate) async fn run(session: &Session, args: RepairArgs) -> Result<Outcome, Failure> {
    let found = blocking(move || repair(&args)).await??;
    let rows: Vec<HoleRow> = found.examined.holes.iter().map(hole_row).collect();
    if !rows.is_empty() {
        session.printer.print(Answer::Holes(&rows))?;
    }
    if let Some(cut) = &found.cut {
        session.printer.print(Answer::CutAway(&cut_row(cut)))?;
        return Ok(Outcome::Done);
    }
    if found.examined.is_sound() {
        report::remark("nothing is damaged");
        return Ok(Outcome::Done);
    }
    Err(Failure::new(Kind::Corrupt, advice(&found)))
}

fn repair(args: &RepairArgs) -> Result<Report, Failure> {
    let disk = OsDisk::new();
    let group = log_of(&args.data_dir)?;
    let lock = lock(&disk, &args.data_dir, args.cut)?;
    let examined = examine(&disk, &group)?;
    let identity = load_identity(&disk, &args.data_dir)?;
    let has_peers = identity.is_some_and(|identity| identity.members.0.len() > 1);
    let Some(lock) = lock.filter(|_lock| args.cut && !examined.is_sound()) else {
        return Ok(Report { examined, has_peers, cut: None });
    };
    if has_peers {
        let report = Report { examined, has_peers, cut: None };
        return Err(Failure::usage(format!("{}; nothing was changed", advice(&report))));
    }
    let cut = cut(&disk, &lock, GroupId::FIRST)?;
    Ok(Report { examined, has_peers, cut })
}

/// Takes the directory, so that no node runs in it. A copy without a lock file is nobody's, and stays without one.
fn lock(disk: &OsDisk, data_dir: &Path, to_change: bool) -> Result<Option<DirLock>, Failure> {
    if !to_change && !data_dir.join(LOCK_FILE).exists() {
        return Ok(None);
    }
    Ok(Some(lock_data_dir(disk, data_dir)?))
}

/// One line: what is wrong, what to do, and what that would cost.
fn advice(found: &Report) -> String {
    let examined = &found.examined;
    let doubt = examined.last_in_doubt.as_ref().map(|reason| format!("the last entry is in doubt: {reason}"));
    let hole = examined.holes.first().map(|hole| {
        format!(
            "{} cannot be read at offset {} (index {}): {}",
            hole.path.display(),
            hole.offset,
            hole.first,
            hole.reason
        )
    });
    let lost = examined.lost.map(|index| format!("the segment that holds index {index} is lost"));
    let what: Vec<String> = hole.into_iter().chain(lost).chain(doubt).collect();
    let what = what.join("; ");
    if found.has_peers {
        return format!("corrupt: {what}; this node has peers: start it, and they mend its log");
    }
    let Some(first) = examined.first_bad() else {
        return format!("corrupt: {what}; `--cut` takes the log as it was found");
    };
    let (kept, last) = (first.prev(), examined.last.index);
    format!(
        "corrupt: {what}; `--cut` would keep entries up to {kept} and give up {first} to {last}, {}",
        certain(first, examined.committed)
    )
}

fn certain(first: Index, committed: Index) -> String {
    if committed < first {
        return format!("which may have been acknowledged (known as committed: up to {committed})");
    }
    format!("which were certainly acknowledged up to {committed}")
}

fn hole_row(hole: &Hole) -> HoleRow {
    let name = hole.path.file_name().unwrap_or(hole.path.as_os_str());
    HoleRow {
        file: name.to_string_lossy().into_owned(),
        offset: hole.offset,
        first: hole.first.get(),
        last: hole.last.get(),
        terms: hole.terms.iter().map(|run| run.term.get()).collect(),
        bytes: hole.end.get() - hole.position.get(),
        reason: hole.reason.clone(),
    }
}

fn cut_row(cut: &CutAway) -> CutRow {
    CutRow {
        first: cut.kept.index.next().get(),
        last: cut.last.index.get(),
        committed: cut.committed.get(),
        aside: cut.aside.as_ref().map_or_else(String::new, |path| path.display().to_string()),
    }
}
