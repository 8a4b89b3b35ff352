//! `--output table`: aligned columns with a header. Bytes are always shown with control bytes as `\xNN`, since a
//! raw one would break the columns.
//!
//! Widths are those of one page; a later page of a long scan may be aligned differently and has no header.

use dledger::kv::{Event, EventKind, LeaseStatus, OpResult, TxnDone};
use dledger::node::MemberStatus;

use crate::commands::bench::Report;
use crate::commands::log::repair::HoleRow;
use crate::commands::log::{RecordRow, SegmentRow};
use crate::commands::recover::SurvivorRow;
use crate::escape::visible;
use crate::store::{KeyValue, MemberList, NodeRow, Nodes, SnapshotRow};

use super::Answer;

/// Blanks between columns.
const GAP: &str = "  ";

/// Appends an answer.
pub(super) fn render(answer: Answer<'_>, out: &mut Vec<u8>) {
    let (header, rows, with_header): (&[&str], Vec<Vec<String>>, bool) = match answer {
        Answer::Put(revision) => (&["REVISION"], vec![vec![revision.to_string()]], true),
        Answer::Got(found) => (PAIR, vec![pair(found)], true),
        Answer::Pairs { pairs, keys_only: false, first } => (PAIR, pairs.iter().map(pair).collect(), first),
        Answer::Pairs { pairs, keys_only: true, first } => {
            (&["KEY"], pairs.iter().map(|pair| vec![visible(&pair.key)]).collect(), first)
        }
        Answer::Deleted(deleted) => {
            (&["DELETED", "REVISION"], vec![vec![deleted.count.to_string(), deleted.revision.to_string()]], true)
        }
        Answer::Sum { value, revision } => {
            (&["VALUE", "REVISION"], vec![vec![value.to_string(), revision.to_string()]], true)
        }
        Answer::Txn(done) => (&["PART", "RESULT"], txn(done), true),
        Answer::Events { revision, events, first } => {
            (&["TYPE", "KEY", "VALUE", "REVISION"], events.iter().map(|each| event(each, revision)).collect(), first)
        }
        Answer::Lease { id, ttl_ms } => (&["LEASE", "TTL MS"], vec![numbers([id, ttl_ms])], true),
        Answer::Leases(leases) => {
            let row = |lease: &LeaseStatus| numbers([lease.lease.0, lease.ttl_ms, lease.keys]);
            (&["LEASE", "TTL MS", "KEYS"], leases.iter().map(row).collect(), true)
        }
        Answer::Count(count) => (&["COUNT"], vec![vec![count.to_string()]], true),
        Answer::Acknowledged(lines) => (&["ACKNOWLEDGED"], vec![vec![lines.to_string()]], true),
        Answer::Nodes(nodes) => (NODE, nodes.nodes.iter().map(|row| node(row, nodes)).collect(), true),
        Answer::Members(list) | Answer::MembersChanged(list) => {
            (MEMBER, list.members.iter().map(|each| member(each, list)).collect(), true)
        }
        Answer::Leads(id) => (&["LEADER"], vec![vec![id.to_string()]], true),
        Answer::Snapshots(rows) => (&["ID", "INDEX", "ERROR"], rows.iter().map(snapshot).collect(), true),
        Answer::BackedUp(backup) => (&["INDEX", "BYTES"], vec![numbers([backup.index, backup.bytes])], true),
        Answer::Restored(restored) => (&["INDEX", "BEGINS"], vec![numbers([restored.index, restored.begins])], true),
        Answer::Survivor(row) => (SURVIVOR, vec![survivor(row)], true),
        Answer::Recovered(row) => {
            (&["RECOVERED", "EPOCH", "INDEX"], vec![numbers([row.id, row.epoch, row.index])], true)
        }
        Answer::Bench(report) => (BENCH, vec![bench(report)], true),
        Answer::Segments(segments) => {
            (&["FILE", "FIRST", "LAST", "BYTES", "STATE"], segments.iter().map(segment).collect(), true)
        }
        Answer::Records { records, first } => {
            (&["INDEX", "TERM", "POSITION", "KIND", "CHANNEL", "PAYLOAD"], records.iter().map(record).collect(), first)
        }
        Answer::Verified(found) => {
            let row = [found.first, found.last, found.records, found.bytes].map(|number| number.to_string());
            let row = row.into_iter().chain([found.digest.clone()]).collect();
            (&["FIRST", "LAST", "RECORDS", "BYTES", "DIGEST"], vec![row], true)
        }
        Answer::Holes(holes) => {
            (&["FILE", "OFFSET", "FIRST", "LAST", "TERMS", "BYTES", "REASON"], holes.iter().map(hole).collect(), true)
        }
        Answer::CutAway(cut) => {
            let numbers = [cut.first, cut.last, cut.committed].map(|number| number.to_string());
            let row = numbers.into_iter().chain([cut.aside.clone()]).collect();
            (&["LOST FIRST", "LOST LAST", "COMMITTED", "ASIDE"], vec![row], true)
        }
    };
    aligned(header, &rows, with_header, out);
}

fn aligned(header: &[&str], rows: &[Vec<String>], with_header: bool, out: &mut Vec<u8>) {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let shown = || with_header.then_some(&header).into_iter().chain(rows);
    let mut widths = vec![0; header.len()];
    for row in shown() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in shown() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.extend_from_slice(cells.join(GAP).trim_end().as_bytes());
        out.push(b'\n');
    }
}

fn txn(done: &TxnDone) -> Vec<Vec<String>> {
    let branch = if done.succeeded { "then" } else { "else" };
    let result = |(place, result): (usize, &OpResult)| {
        let shown = match result {
            OpResult::Put => "OK".to_owned(),
            OpResult::Deleted(there) => u8::from(*there).to_string(),
            OpResult::Value(found) => found.as_ref().map_or_else(|| "-".to_owned(), |found| visible(&found.value)),
            OpResult::Sum(sum) => sum.to_string(),
            _ => "?".to_owned(),
        };
        vec![format!("{branch}[{place}]"), shown]
    };
    let head = vec!["revision".to_owned(), done.revision.to_string()];
    std::iter::once(head).chain(done.results.iter().enumerate().map(result)).collect()
}

fn event(event: &Event, revision: u64) -> Vec<String> {
    let (name, value) = match &event.kind {
        EventKind::Put { value, .. } => ("PUT", visible(value)),
        EventKind::Delete => ("DELETE", String::new()),
    };
    vec![name.to_owned(), visible(&event.key), value, revision.to_string()]
}

const PAIR: &[&str] = &["KEY", "VALUE", "CREATED", "MODIFIED", "VERSION", "LEASE"];

fn pair(pair: &KeyValue) -> Vec<String> {
    vec![
        visible(&pair.key),
        visible(&pair.value),
        pair.create_revision.to_string(),
        pair.mod_revision.to_string(),
        pair.version.to_string(),
        if pair.lease.is_zero() { "-".to_owned() } else { pair.lease.to_string() },
    ]
}

const NODE: &[&str] = &[
    "ID",
    "ADDRESS",
    "ROLE",
    "EPOCH",
    "TERM",
    "COMMITTED",
    "APPLIED",
    "DURABLE",
    "FIRST",
    "LAST",
    "LAG",
    "DISK",
    "SNAPSHOT",
    "RECEIVED",
    "DAMAGED",
    "MENDED",
    "SCRUBBED",
    "SCRUBS",
    "STANDING",
    "MATCHED",
    "VERSION",
    "ERROR",
];

fn node(row: &NodeRow, nodes: &Nodes) -> Vec<String> {
    let mut cells = vec![row.id.to_string(), visible(row.address.as_bytes())];
    let place = row.place.as_ref();
    let place = [
        place.map_or_else(|| "-".to_owned(), |place| place.standing.clone()),
        number(place.and_then(|place| place.matched)),
    ];
    match &row.answer {
        Ok(answer) => {
            cells.push(answer.role.clone());
            let numbers = [
                answer.epoch,
                answer.term,
                answer.committed,
                answer.applied,
                answer.durable,
                answer.first,
                answer.last,
                nodes.lag(answer),
                answer.disk_bytes,
                answer.snapshot,
                answer.received,
                answer.damaged,
                answer.mended,
                answer.scrubbed,
                answer.scrub_rounds,
            ];
            cells.extend(numbers.map(|number| number.to_string()));
            cells.extend(place);
            cells.push(visible(answer.version.as_bytes()));
            cells.push(visible(answer.error.as_deref().unwrap_or("-").as_bytes()));
        }
        Err(reason) => {
            cells.push("unreachable".to_owned());
            cells.extend(std::iter::repeat_n("-".to_owned(), NODE.len() - cells.len() - place.len() - 2));
            cells.extend(place);
            cells.push("-".to_owned());
            cells.push(visible(reason.as_bytes()));
        }
    }
    cells
}

const MEMBER: &[&str] = &["ID", "ADDRESS", "STANDING", "PRIORITY", "MATCHED", "REPLACES", "SNAPSHOT", "LEADER"];

fn member(member: &MemberStatus, list: &MemberList) -> Vec<String> {
    let mark = |set: bool| if set { "yes" } else { "-" }.to_owned();
    vec![
        member.id.to_string(),
        visible(member.address.as_bytes()),
        member.standing.to_string(),
        member.priority.to_string(),
        number(member.matched.map(|index| index.get())),
        number(member.replaces.map(|id| id.get())),
        mark(member.snapshotting),
        mark(list.leader == Some(member.id)),
    ]
}

fn number(known: Option<u64>) -> String {
    known.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn numbers<const N: usize>(row: [u64; N]) -> Vec<String> {
    row.map(|number| number.to_string()).to_vec()
}

fn segment(segment: &SegmentRow) -> Vec<String> {
    vec![
        segment.file.clone(),
        segment.first.to_string(),
        segment.last.map_or_else(|| "-".to_owned(), |last| last.to_string()),
        segment.bytes.to_string(),
        segment.state.to_owned(),
    ]
}

fn record(record: &RecordRow) -> Vec<String> {
    vec![
        record.index.to_string(),
        record.term.to_string(),
        record.position.to_string(),
        record.kind.to_owned(),
        record.channel.to_string(),
        visible(&record.payload),
    ]
}

fn hole(hole: &HoleRow) -> Vec<String> {
    let terms: Vec<String> = hole.terms.iter().map(u64::to_string).collect();
    let ends = [terms.join(","), hole.bytes.to_string(), visible(hole.reason.as_bytes())];
    std::iter::once(hole.file.clone()).chain(numbers([hole.offset, hole.first, hole.last])).chain(ends).collect()
}

fn snapshot(row: &SnapshotRow) -> Vec<String> {
    let (index, error) = match &row.taken {
        Ok(index) => (index.to_string(), "-".to_owned()),
        Err(reason) => ("-".to_owned(), visible(reason.as_bytes())),
    };
    vec![row.id.to_string(), index, error]
}

const SURVIVOR: &[&str] =
    &["SURVIVOR", "CLUSTER", "EPOCH", "MEMBERS", "TERM", "INDEX", "VOTED", "COMMITTED", "SNAPSHOT", "DAMAGE"];

fn survivor(row: &SurvivorRow) -> Vec<String> {
    let members: Vec<String> = row.members.iter().map(|(id, _address, _votes)| id.to_string()).collect();
    let mut cells = vec![row.survivor.clone(), row.cluster_id.clone(), row.epoch.to_string(), members.join(",")];
    cells.extend([row.term, row.index, row.voted_term, row.committed, row.snapshot].map(|number| number.to_string()));
    cells.push(row.damage.as_ref().map_or_else(|| "-".to_owned(), |reason| visible(reason.as_bytes())));
    cells
}

const BENCH: &[&str] = &[
    "OPERATION",
    "CLIENTS",
    "PIPELINE",
    "SIZE",
    "OPERATIONS",
    "PER_SECOND",
    "P50_US",
    "P90_US",
    "P99_US",
    "P99.9_US",
    "MAX_US",
    "FAILED",
    "UNSENT",
];

fn bench(report: &Report) -> Vec<String> {
    let latency = &report.latency;
    let mut cells = vec![report.operation.to_owned()];
    cells.extend(
        [u64::from(report.clients), u64::from(report.pipeline), u64::from(report.size), report.operations]
            .map(|n| n.to_string()),
    );
    cells.push(format!("{:.1}", report.throughput()));
    let numbers = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max, report.errors, report.unsent];
    cells.extend(numbers.map(|number| number.to_string()));
    cells
}
