//! `--output json`: one object a line. The shapes are a contract; see the tests.
//!
//! Bytes are a string where they are UTF-8, else `{"base64": "…"}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dledger::kv::{Event, EventKind, OpResult, TxnDone};
use dledger::node::MemberStatus;
use serde_json::{Map, Value, json};

use crate::commands::bench::Report;
use crate::commands::log::repair::HoleRow;
use crate::commands::log::{RecordRow, SegmentRow};
use crate::commands::recover::SurvivorRow;
use crate::store::{KeyValue, MemberList, NodeRow, Nodes};

use super::Answer;

/// Appends an answer.
pub(super) fn render(answer: Answer<'_>, out: &mut Vec<u8>) {
    match answer {
        Answer::Put(revision) => object(out, &json!({ "revision": revision })),
        Answer::Got(found) => object(out, &pair(found, false)),
        Answer::Pairs { pairs, keys_only, .. } => pairs.iter().for_each(|each| object(out, &pair(each, keys_only))),
        Answer::Deleted(deleted) => {
            object(out, &json!({ "deleted": deleted.count, "revision": deleted.revision.get() }))
        }
        Answer::Sum { value, revision } => object(out, &json!({ "value": value, "revision": revision })),
        Answer::Txn(done) => object(out, &txn(done)),
        Answer::Events { revision, events, .. } => events.iter().for_each(|each| object(out, &event(each, revision))),
        Answer::Lease { id, ttl_ms } => object(out, &json!({ "id": id, "ttl_ms": ttl_ms })),
        Answer::Leases(leases) => {
            for lease in leases {
                object(out, &json!({ "id": lease.lease.0, "ttl_ms": lease.ttl_ms, "keys": lease.keys }));
            }
        }
        Answer::Count(count) => object(out, &json!({ "count": count })),
        Answer::Acknowledged(lines) => object(out, &json!({ "acknowledged": lines })),
        Answer::BackedUp(backup) => object(out, &json!({ "index": backup.index, "bytes": backup.bytes })),
        Answer::Restored(restored) => object(out, &json!({ "index": restored.index, "begins": restored.begins })),
        Answer::Survivor(row) => object(out, &survivor(row)),
        Answer::Recovered(row) => {
            let value = json!({
                "id": row.id, "address": row.address, "epoch": row.epoch, "index": row.index, "already": row.already,
            });
            object(out, &value);
        }
        Answer::Snapshots(rows) => {
            for row in rows {
                let (index, error) = (row.taken.as_ref().ok(), row.taken.as_ref().err());
                object(out, &json!({ "id": row.id, "index": index, "error": error }));
            }
        }
        Answer::Nodes(nodes) => {
            let rows: Vec<Value> = nodes.nodes.iter().map(|row| node(row, nodes)).collect();
            object(out, &json!({ "cluster_id": nodes.cluster_id, "nodes": rows }));
        }
        Answer::Members(list) | Answer::MembersChanged(list) => object(out, &members(list)),
        Answer::Leads(id) => object(out, &json!({ "leader": id })),
        Answer::Bench(report) => object(out, &bench(report)),
        Answer::Segments(segments) => segments.iter().for_each(|each| object(out, &segment(each))),
        Answer::Records { records, .. } => records.iter().for_each(|each| object(out, &record(each))),
        Answer::Verified(found) => {
            let value = json!({
                "first": found.first, "last": found.last, "records": found.records, "bytes": found.bytes,
                "digest": found.digest,
            });
            object(out, &value);
        }
        Answer::Holes(holes) => holes.iter().for_each(|each| object(out, &hole(each))),
        Answer::CutAway(cut) => {
            let value = json!({
                "lost_first": cut.first, "lost_last": cut.last, "committed": cut.committed, "aside": cut.aside,
            });
            object(out, &value);
        }
    }
}

/// Bytes as JSON.
pub(crate) fn bytes_value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_not_text) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

fn object(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b'\n');
}

/// The object of `get`, `scan` and `export`.
fn pair(pair: &KeyValue, keys_only: bool) -> Value {
    let mut fields = Map::new();
    fields.insert("key".to_owned(), bytes_value(&pair.key));
    if !keys_only {
        fields.insert("value".to_owned(), bytes_value(&pair.value));
    }
    for (name, number) in [
        ("create_revision", pair.create_revision.get()),
        ("mod_revision", pair.mod_revision.get()),
        ("version", pair.version),
    ] {
        fields.insert(name.to_owned(), Value::from(number));
    }
    let lease = if pair.lease.is_zero() { Value::Null } else { Value::from(pair.lease.0) };
    fields.insert("lease".to_owned(), lease);
    Value::Object(fields)
}

fn txn(done: &TxnDone) -> Value {
    let result = |result: &OpResult| match result {
        OpResult::Put => json!({}),
        OpResult::Deleted(there) => json!({ "deleted": u8::from(*there) }),
        OpResult::Value(found) => found.as_ref().map_or(Value::Null, |found| pair(found, false)),
        OpResult::Sum(sum) => json!({ "value": sum }),
        // A later release's; this one asks for none of them.
        _ => Value::Null,
    };
    let results: Vec<Value> = done.results.iter().map(result).collect();
    json!({ "succeeded": done.succeeded, "revision": done.revision.get(), "results": results })
}

fn event(event: &Event, revision: u64) -> Value {
    let (name, value) = match &event.kind {
        EventKind::Put { value, .. } => ("put", bytes_value(value)),
        EventKind::Delete => ("delete", Value::Null),
    };
    json!({ "type": name, "key": bytes_value(&event.key), "value": value, "mod_revision": revision })
}

fn members(list: &MemberList) -> Value {
    let member = |member: &MemberStatus| {
        json!({
            "id": member.id.get(), "address": member.address, "standing": member.standing.to_string(),
            "priority": member.priority, "leader": list.leader == Some(member.id),
            "replaces": member.replaces.map(|id| id.get()), "matched": member.matched.map(|index| index.get()),
            "snapshotting": member.snapshotting,
        })
    };
    let members: Vec<Value> = list.members.iter().map(member).collect();
    json!({ "leader": list.leader.map(|id| id.get()), "members": members })
}

fn node(row: &NodeRow, nodes: &Nodes) -> Value {
    let place = row.place.as_ref();
    let (standing, matched) = (place.map(|place| &place.standing), place.and_then(|place| place.matched));
    let snapshotting = place.map(|place| place.snapshotting);
    match &row.answer {
        Ok(answer) => json!({
            "id": row.id, "address": row.address, "role": answer.role, "epoch": answer.epoch, "term": answer.term,
            "committed": answer.committed, "applied": answer.applied, "durable": answer.durable,
            "first": answer.first, "last": answer.last, "lag": nodes.lag(answer), "disk_bytes": answer.disk_bytes,
            "snapshot": answer.snapshot, "snapshot_bytes_received": answer.received,
            "damaged": answer.damaged, "mended": answer.mended, "scrubbed": answer.scrubbed,
            "scrub_rounds": answer.scrub_rounds, "standing": standing, "matched": matched,
            "snapshotting": snapshotting, "version": answer.version, "error": answer.error,
        }),
        Err(reason) => json!({
            "id": row.id, "address": row.address, "role": "unreachable", "epoch": null, "term": null, "committed": null,
            "applied": null, "durable": null, "first": null, "last": null, "lag": null, "disk_bytes": null,
            "snapshot": null, "snapshot_bytes_received": null,
            "damaged": null, "mended": null, "scrubbed": null, "scrub_rounds": null, "standing": standing,
            "matched": matched, "snapshotting": snapshotting, "version": null, "error": reason,
        }),
    }
}

fn segment(segment: &SegmentRow) -> Value {
    json!({
        "file": segment.file, "first": segment.first, "last": segment.last, "bytes": segment.bytes,
        "state": segment.state,
    })
}

fn record(record: &RecordRow) -> Value {
    json!({
        "index": record.index, "term": record.term, "position": record.position, "time_ms": record.time_ms,
        "kind": record.kind, "channel": record.channel, "payload": bytes_value(&record.payload),
    })
}

fn hole(hole: &HoleRow) -> Value {
    json!({
        "file": hole.file, "offset": hole.offset, "first": hole.first, "last": hole.last, "terms": hole.terms,
        "bytes": hole.bytes, "reason": hole.reason,
    })
}

fn survivor(row: &SurvivorRow) -> Value {
    let member = |(id, address, votes): &(u64, String, bool)| json!({ "id": id, "address": address, "voter": votes });
    json!({
        "survivor": row.survivor, "id": row.id, "cluster_id": row.cluster_id, "epoch": row.epoch,
        "members": row.members.iter().map(member).collect::<Vec<_>>(), "term": row.term, "index": row.index,
        "voted_term": row.voted_term, "committed": row.committed, "snapshot": row.snapshot, "damage": row.damage,
    })
}

fn bench(report: &Report) -> Value {
    let latency = &report.latency;
    json!({
        "operation": report.operation, "clients": report.clients, "pipeline": report.pipeline, "size": report.size,
        "rate": report.rate, "elapsed_ms": u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
        "operations": report.operations, "errors": report.errors, "unsent": report.unsent,
        "throughput": report.throughput(),
        "latency_us": {
            "p50": latency.p50, "p90": latency.p90, "p99": latency.p99, "p99_9": latency.p999, "max": latency.max,
        },
    })
}
