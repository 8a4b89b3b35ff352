//! `--output plain`: what a person reads and `cut` splits. Fields are separated by TAB, rows by a newline.

use std::time::Duration;

use dledger::kv::{Event, EventKind};
use dledger::node::MemberStatus;

use crate::commands::bench::Report;
use crate::commands::log::repair::HoleRow;
use crate::commands::log::{RecordRow, SegmentRow};
use crate::commands::recover::SurvivorRow;
use crate::escape::visible;
use crate::store::{MemberList, NodeRow, Nodes};

use super::{Answer, Style, json};

/// Appends an answer.
pub(super) fn render(answer: Answer<'_>, style: Style, out: &mut Vec<u8>) {
    match answer {
        Answer::Put(_) | Answer::MembersChanged(_) | Answer::Leads(_) => out.extend_from_slice(b"OK\n"),
        Answer::Got(pair) => {
            style.append(out, &pair.value);
            out.push(b'\n');
        }
        Answer::Pairs { pairs, keys_only, .. } => {
            for pair in pairs {
                style.append(out, &pair.key);
                if !keys_only {
                    out.push(b'\t');
                    style.append(out, &pair.value);
                }
                out.push(b'\n');
            }
        }
        Answer::Deleted(deleted) => line(out, &deleted.count.to_string()),
        Answer::Sum { value, .. } => line(out, &value.to_string()),
        Answer::Txn(_) => json::render(answer, out),
        Answer::Events { revision, events, .. } => events.iter().for_each(|each| event(each, revision, style, out)),
        Answer::Lease { id, .. } => line(out, &id.to_string()),
        Answer::Leases(leases) => {
            for lease in leases {
                let ttl = humantime::format_duration(Duration::from_millis(lease.ttl_ms));
                line(out, &format!("{}\tttl={ttl}\tkeys={}", lease.lease, lease.keys));
            }
        }
        Answer::Count(count) => line(out, &count.to_string()),
        Answer::Acknowledged(lines) => line(out, &format!("acknowledged {lines} lines")),
        Answer::Nodes(nodes) => nodes.nodes.iter().for_each(|row| line(out, &node(row, nodes))),
        Answer::Members(list) => list.members.iter().for_each(|each| line(out, &member(each, list))),
        Answer::Snapshots(rows) => {
            for row in rows {
                match &row.taken {
                    Ok(index) => line(out, &format!("{}\t{index}", row.id)),
                    Err(reason) => line(out, &format!("{}\t-\t{}", row.id, visible(reason.as_bytes()))),
                }
            }
        }
        Answer::BackedUp(backup) => line(out, &format!("{}\t{}", backup.index, backup.bytes)),
        Answer::Restored(restored) => line(out, &format!("{}\t{}", restored.index, restored.begins)),
        Answer::Survivor(row) => line(out, &survivor(row)),
        Answer::Recovered(row) => line(out, &format!("recovered\t{}\t{}\t{}", row.id, row.epoch, row.index)),
        Answer::Bench(report) => bench(report, out),
        Answer::Segments(segments) => segments.iter().for_each(|each| line(out, &segment(each))),
        Answer::Records { records, .. } => records.iter().for_each(|each| record(each, out)),
        Answer::Verified(found) => {
            let text = format!("{} {} {} {} {}", found.first, found.last, found.records, found.bytes, found.digest);
            line(out, &text);
        }
        Answer::Holes(holes) => holes.iter().for_each(|each| line(out, &hole(each))),
        Answer::CutAway(cut) => {
            line(out, &format!("cut\t{}\t{}\t{}\t{}", cut.first, cut.last, cut.committed, cut.aside));
        }
    }
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

fn event(event: &Event, revision: u64, style: Style, out: &mut Vec<u8>) {
    let (name, value): (&[u8], &[u8]) = match &event.kind {
        EventKind::Put { value, .. } => (b"PUT\t", value),
        EventKind::Delete => (b"DELETE\t", b""),
    };
    out.extend_from_slice(name);
    style.append(out, &event.key);
    out.push(b'\t');
    style.append(out, value);
    line(out, &format!("\t{revision}"));
}

fn number(known: Option<u64>) -> String {
    known.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn member(member: &MemberStatus, list: &MemberList) -> String {
    let mut fields = vec![
        member.id.to_string(),
        member.address.clone(),
        member.standing.to_string(),
        format!("priority={}", member.priority),
        format!("matched={}", number(member.matched.map(|index| index.get()))),
    ];
    fields.extend(member.replaces.map(|old| format!("replaces={old}")));
    fields.extend(member.snapshotting.then(|| "snapshot".to_owned()));
    fields.extend((list.leader == Some(member.id)).then(|| "leader".to_owned()));
    fields.iter().map(|field| visible(field.as_bytes())).collect::<Vec<_>>().join("\t")
}

fn node(row: &NodeRow, nodes: &Nodes) -> String {
    let fields = match &row.answer {
        Err(reason) => vec!["unreachable".to_owned(), reason.clone()],
        Ok(answer) => {
            let mut fields = vec![
                answer.role.clone(),
                format!("epoch={}", answer.epoch),
                format!("term={}", answer.term),
                format!("committed={}", answer.committed),
                format!("applied={}", answer.applied),
                format!("durable={}", answer.durable),
                format!("log={}..{}", answer.first, answer.last),
                format!("lag={}", nodes.lag(answer)),
                format!("disk={}", answer.disk_bytes),
                format!("snapshot={}", answer.snapshot),
                format!("received={}", answer.received),
                format!("damaged={}", answer.damaged),
                format!("mended={}", answer.mended),
                format!("scrubbed={}", answer.scrubbed),
                format!("scrubs={}", answer.scrub_rounds),
                format!("standing={}", row.place.as_ref().map_or("-", |place| &place.standing)),
                format!("matched={}", number(row.place.as_ref().and_then(|place| place.matched))),
                answer.version.clone(),
            ];
            fields.extend(answer.error.clone());
            fields
        }
    };
    let fields = fields.iter().map(|field| visible(field.as_bytes())).collect::<Vec<_>>();
    format!("{}\t{}\t{}", row.id, visible(row.address.as_bytes()), fields.join("\t"))
}

fn segment(segment: &SegmentRow) -> String {
    let last = number(segment.last);
    format!("{}\t{}\t{last}\t{}\t{}", segment.file, segment.first, segment.bytes, segment.state)
}

fn record(record: &RecordRow, out: &mut Vec<u8>) {
    let RecordRow { index, term, position, kind, channel, payload, .. } = record;
    out.extend_from_slice(format!("{index}\t{term}\t{position}\t{kind}\t{channel}\t").as_bytes());
    // Payloads are binary: raw they would break the columns even in a file.
    Style::Visible.append(out, payload);
    out.push(b'\n');
}

fn hole(hole: &HoleRow) -> String {
    let terms: Vec<String> = hole.terms.iter().map(u64::to_string).collect();
    let terms = if terms.is_empty() { "-".to_owned() } else { terms.join(",") };
    let HoleRow { file, offset, first, last, bytes, reason, .. } = hole;
    format!("{file}\t{offset}\t{first}\t{last}\t{terms}\t{bytes}\t{reason}")
}

fn survivor(row: &SurvivorRow) -> String {
    let members: Vec<String> = row.members.iter().map(|(id, _address, _votes)| id.to_string()).collect();
    let fields = [
        row.survivor.clone(),
        format!("cluster={}", row.cluster_id),
        format!("epoch={}", row.epoch),
        format!("members={}", members.join(",")),
        format!("voted={}", row.voted_term),
        format!("committed={}", row.committed),
        format!("snapshot={}", row.snapshot),
        row.damage.as_ref().map_or_else(|| "sound".to_owned(), |reason| visible(reason.as_bytes())),
    ];
    fields.join("\t")
}

fn bench(report: &Report, out: &mut Vec<u8>) {
    let load = match report.rate {
        Some(rate) => format!("{rate} a second"),
        None => "closed loop".to_owned(),
    };
    line(
        out,
        &format!(
            "bench {}: {} clients x {} in flight, {} B values, {load}, {:.1} s",
            report.operation,
            report.clients,
            report.pipeline,
            report.size,
            report.elapsed.as_secs_f64()
        ),
    );
    line(out, &format!("throughput\t{:.1}/s\t({} operations)", report.throughput(), report.operations));
    let micros = |micros: u64| format!("{:.3} ms", micros as f64 / 1000.0);
    let latency = &report.latency;
    line(
        out,
        &format!(
            "latency\tp50 {}\tp90 {}\tp99 {}\tp99.9 {}\tmax {}",
            micros(latency.p50),
            micros(latency.p90),
            micros(latency.p99),
            micros(latency.p999),
            micros(latency.max)
        ),
    );
    if report.errors > 0 || report.unsent > 0 {
        line(out, &format!("failed\t{}\tdue but not started\t{}", report.errors, report.unsent));
    }
}
