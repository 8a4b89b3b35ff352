//! A transaction written as JSON.
//!
//! ```text
//!   {"compare": [{"key": BYTES, "target": TARGET, "op": OP, "to": TO}],
//!    "then":    [{"put": {"key": BYTES, "value": BYTES, "lease": ID?}}, {"delete": {"key": BYTES}},
//!                {"get": {"key": BYTES}}, {"add": {"key": BYTES, "by": N}}],
//!    "else":    [as then]}
//!
//!   BYTES   text, or {"base64": "…"}                 OP   = != < >   (= != for exists)
//!   TARGET  value, version, create, mod, exists      TO   BYTES, a revision or version, true or false
//! ```
//! A list that is absent is empty. Every mistake is told with its place: line and column while it is no JSON, else the path
//! (`then[2].put.value`). Nothing is guessed: a field that is not known or stands twice is a mistake.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dledger::kv::{Compare, Comparison, Condition, Txn, TxnOp};
use dledger::types::{Index, LeaseId};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// Reads a transaction.
///
/// # Errors
/// The first mistake, with its place.
pub(super) fn transaction(text: &[u8]) -> Result<Txn, String> {
    let json: Json = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let root = At { path: String::new(), json: &json };
    let fields = root.object(&["compare", "then", "else"])?;
    Ok(Txn {
        compare: list(&fields, "compare", compare)?,
        then: list(&fields, "then", operation)?,
        otherwise: list(&fields, "else", operation)?,
    })
}

fn list<'a, T>(fields: &Fields<'a>, name: &str, read: impl Fn(&At<'a>) -> Result<T, String>) -> Result<Vec<T>, String> {
    let Some(at) = fields.get(name) else { return Ok(Vec::new()) };
    let Json::List(items) = at.json else { return Err(at.wrong("must be a list")) };
    let place = |(number, json)| At { path: format!("{}[{number}]", at.path), json };
    items.iter().enumerate().map(place).map(|item| read(&item)).collect()
}

fn compare(at: &At<'_>) -> Result<Compare, String> {
    let fields = at.object(&["key", "target", "op", "to"])?;
    let (target, op, to) = (fields.need("target")?, fields.need("op")?, fields.need("to")?);
    let comparison = match op.text()? {
        "=" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        ">" => Comparison::Greater,
        _ => return Err(op.wrong("must be one of = != < >")),
    };
    let condition = match target.text()? {
        "value" => Condition::Value(comparison, to.bytes()?),
        "version" => Condition::Version(comparison, to.count()?),
        "create" => Condition::CreateRevision(comparison, Index(to.count()?)),
        "mod" => Condition::ModRevision(comparison, Index(to.count()?)),
        "exists" => match comparison {
            Comparison::Equal => Condition::Exists(to.flag()?),
            Comparison::NotEqual => Condition::Exists(!to.flag()?),
            Comparison::Less | Comparison::Greater => return Err(op.wrong("must be = or != for exists")),
        },
        _ => return Err(target.wrong("must be one of value, version, create, mod, exists")),
    };
    Ok(Compare { key: fields.need("key")?.bytes()?, condition })
}

fn operation(at: &At<'_>) -> Result<TxnOp, String> {
    const NAMES: &[&str] = &["put", "delete", "get", "add"];
    let [(name, _body)] = at.members()? else {
        return Err(at.wrong("must have exactly one of put, delete, get, add"));
    };
    let body = at.object(NAMES)?.need(name)?;
    let fields = match name.as_str() {
        "put" => body.object(&["key", "value", "lease"])?,
        "add" => body.object(&["key", "by"])?,
        _ => body.object(&["key"])?,
    };
    let key = fields.need("key")?.bytes()?;
    Ok(match name.as_str() {
        "put" => {
            let lease = fields.get("lease").map_or(Ok(0), |lease| lease.count())?;
            TxnOp::Put { key, value: fields.need("value")?.bytes()?, lease: LeaseId(lease) }
        }
        "delete" => TxnOp::Delete { key },
        "add" => TxnOp::Add { key, by: fields.need("by")?.whole()? },
        _ => TxnOp::Get { key },
    })
}

/// A piece of JSON and where it stands.
struct At<'a> {
    path: String,
    json: &'a Json,
}

/// The fields of an object, all of them known.
struct Fields<'a> {
    path: String,
    members: &'a [(String, Json)],
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<At<'a>> {
        let (_name, json) = self.members.iter().find(|(each, _)| each == name)?;
        Some(At { path: joined(&self.path, name), json })
    }

    fn need(&self, name: &str) -> Result<At<'a>, String> {
        self.get(name).ok_or_else(|| format!("{}: is missing", joined(&self.path, name)))
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl<'a> At<'a> {
    fn wrong(&self, reason: &str) -> String {
        let place = if self.path.is_empty() { "transaction" } else { &self.path };
        format!("{place}: {reason}")
    }

    fn members(&self) -> Result<&'a [(String, Json)], String> {
        if let Json::Object(members) = self.json { Ok(members) } else { Err(self.wrong("must be an object")) }
    }

    fn object(&self, known: &[&str]) -> Result<Fields<'a>, String> {
        let members = self.members()?;
        match members.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Fields { path: self.path.clone(), members }),
            Some((name, _)) => {
                let place = joined(&self.path, &name.escape_debug().to_string());
                Err(format!("{place}: is not known here; known are {}", known.join(", ")))
            }
        }
    }

    fn text(&self) -> Result<&'a str, String> {
        if let Json::Text(text) = self.json { Ok(text) } else { Err(self.wrong("must be text")) }
    }

    fn flag(&self) -> Result<bool, String> {
        if let Json::Bool(flag) = self.json { Ok(*flag) } else { Err(self.wrong("must be true or false")) }
    }

    fn count(&self) -> Result<u64, String> {
        let number = if let Json::Number(number) = self.json { number.as_u64() } else { None };
        number.ok_or_else(|| self.wrong("must be a whole number from 0 to 2^64-1"))
    }

    fn whole(&self) -> Result<i64, String> {
        let number = if let Json::Number(number) = self.json { number.as_i64() } else { None };
        number.ok_or_else(|| self.wrong("must be a whole number from -2^63 to 2^63-1"))
    }

    fn bytes(&self) -> Result<Bytes, String> {
        if let Json::Text(text) = self.json {
            return Ok(text.clone().into());
        }
        if !matches!(self.json, Json::Object(_)) {
            return Err(self.wrong("must be text or {\"base64\": \"…\"}"));
        }
        let encoded = self.object(&["base64"])?.need("base64")?;
        let decoded = STANDARD.decode(encoded.text()?);
        decoded.map(Bytes::from).map_err(|error| encoded.wrong(&format!("is not base64: {error}")))
    }
}

/// Any JSON in which no name stands twice in an object.
enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json, E> {
        // Never a whole number: those come as integers, unless they are too large to be taken anyway.
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            if members.iter().any(|(each, _)| *each == name) {
                return Err(A::Error::custom(format!("`{}` stands twice in one object", name.escape_debug())));
            }
            members.push((name, entries.next_value()?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        transaction(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn txn_of_every_part_is_read_as_the_library_writes_it() {
        let text = r#"{
            "compare": [
                {"key": "a", "target": "value", "op": "=", "to": {"base64": "/wA="}},
                {"key": "a", "target": "version", "op": ">", "to": 1},
                {"key": "a", "target": "create", "op": "<", "to": 18446744073709551615},
                {"key": "a", "target": "mod", "op": "!=", "to": 0},
                {"key": {"base64": "/w=="}, "target": "exists", "op": "!=", "to": true}
            ],
            "then": [
                {"put": {"key": "p", "value": "é\u0000"}}, {"put": {"key": "l", "value": "", "lease": 7}},
                {"delete": {"key": "d"}}, {"get": {"key": "g"}}, {"add": {"key": "n", "by": -3}}
            ],
            "else": [{"get": {"key": "a"}}]
        }"#;
        let compare = vec![
            Compare::new("a", Condition::value_is(&b"\xff\0"[..])),
            Compare::new("a", Condition::Version(Comparison::Greater, 1)),
            Compare::new("a", Condition::CreateRevision(Comparison::Less, Index(u64::MAX))),
            Compare::new("a", Condition::ModRevision(Comparison::NotEqual, Index(0))),
            Compare::new(&b"\xff"[..], Condition::Exists(false)),
        ];
        let then = vec![
            TxnOp::put("p", "\u{e9}\0"),
            TxnOp::put_leased("l", "", LeaseId(7)),
            TxnOp::delete("d"),
            TxnOp::get("g"),
            TxnOp::add("n", -3),
        ];
        assert_eq!(transaction(text.as_bytes()), Ok(Txn { compare, then, otherwise: vec![TxnOp::get("a")] }));
        assert_eq!(transaction(b"{}"), Ok(Txn::default()));
    }

    #[test]
    fn txn_that_is_no_json_names_line_and_column() {
        assert_eq!(wrong(""), "EOF while parsing a value at line 1 column 0");
        assert!(wrong("{\n  \"then\": [}").ends_with("at line 2 column 12"), "{}", wrong("{\n  \"then\": [}"));
        assert!(wrong("{} {}").contains("trailing characters at line 1 column 4"));
        let twice = wrong("{\"then\": [],\n \"then\": []}");
        assert!(twice.starts_with("`then` stands twice in one object at line 2"), "{twice}");
        assert!(transaction(b"{\"then\": [{\"get\": {\"key\": \"\xff\"}}]}").unwrap_err().contains("line 1 column"));
        assert!(wrong(&"[".repeat(100_000)).contains("recursion limit"), "a deep one takes no stack");
    }

    #[test]
    fn txn_mistakes_are_told_with_their_path() {
        for (text, told) in [
            ("[]", "transaction: must be an object"),
            (r#"{"than": []}"#, "than: is not known here; known are compare, then, else"),
            (r#"{"then": {}}"#, "then: must be a list"),
            (r#"{"then": [{"get": {"key": "a"}}, 5]}"#, "then[1]: must be an object"),
            (r#"{"then": [{}]}"#, "then[0]: must have exactly one of put, delete, get, add"),
            (r#"{"else": [{"pop": {"key": "a"}}]}"#, "else[0].pop: is not known here; known are put, delete, get, add"),
            (r#"{"then": [{"put": {"key": "a"}}]}"#, "then[0].put.value: is missing"),
            (
                r#"{"then": [{"put": {"key": "a", "value": 5}}]}"#,
                "then[0].put.value: must be text or {\"base64\": \"…\"}",
            ),
            (r#"{"then": [{"put": {"key": {"base64": "*"}, "value": ""}}]}"#, "then[0].put.key.base64: is not base64"),
            (
                r#"{"then": [{"get": {"key": {"hex": "00"}}}]}"#,
                "then[0].get.key.hex: is not known here; known are base64",
            ),
            (
                r#"{"then": [{"put": {"key": "a", "value": "", "lease": -1}}]}"#,
                "then[0].put.lease: must be a whole number",
            ),
            (r#"{"then": [{"add": {"key": "a", "by": 1.5}}]}"#, "then[0].add.by: must be a whole number from -2^63"),
            (r#"{"then": [{"delete": {"key": "a", "value": ""}}]}"#, "then[0].delete.value: is not known here"),
            (r#"{"compare": [{"key": "a", "op": "=", "to": 1}]}"#, "compare[0].target: is missing"),
            (
                r#"{"compare": [{"key": "a", "target": "age", "op": "=", "to": 1}]}"#,
                "compare[0].target: must be one of",
            ),
            (r#"{"compare": [{"key": "a", "target": "mod", "op": "==", "to": 1}]}"#, "compare[0].op: must be one of"),
            (
                r#"{"compare": [{"key": "a", "target": "mod", "op": "=", "to": "1"}]}"#,
                "compare[0].to: must be a whole number",
            ),
            (
                r#"{"compare": [{"key": "a", "target": "exists", "op": "<", "to": true}]}"#,
                "compare[0].op: must be = or !=",
            ),
            (
                r#"{"compare": [{"key": "a", "target": "exists", "op": "=", "to": 1}]}"#,
                "compare[0].to: must be true or false",
            ),
            (r#"{"compare": [{"target": "exists", "op": "=", "to": true}]}"#, "compare[0].key: is missing"),
        ] {
            assert!(wrong(text).starts_with(told), "{text}: {}", wrong(text));
        }
    }
}
