//! `--print-config`: every setting with its origin, as TOML that `--config` reads back, or as JSON.

use serde_json::{Map, Value, json};

use super::{Resolved, Shape, knobs};
use crate::args::Format;

/// The text of `--print-config`.
pub(crate) fn print(resolved: &Resolved, format: Format) -> String {
    match format {
        Format::Plain | Format::Table => toml_lines(resolved),
        Format::Json => format!("{}\n", json_object(resolved)),
    }
}

fn toml_lines(resolved: &Resolved) -> String {
    let mut text = String::new();
    for (knob, origin) in knobs().iter().zip(&resolved.origins) {
        let line = match knob.get(&resolved.config) {
            Some(value) if knob.shape == Shape::Text => format!("{} = {}", knob.name, toml::Value::String(value)),
            Some(value) => format!("{} = {value}", knob.name),
            None => format!("# {} is not set", knob.name),
        };
        text.push_str(&format!("{line:<48} # {origin}\n"));
    }
    text
}

fn json_object(resolved: &Resolved) -> Value {
    let mut object = Map::new();
    for (knob, origin) in knobs().iter().zip(&resolved.origins) {
        let value = match (knob.get(&resolved.config), knob.shape) {
            (None, _) => Value::Null,
            (Some(text), Shape::Text) => Value::String(text),
            (Some(text), Shape::Number) => text.parse::<u64>().map_or(Value::Null, Value::from),
            (Some(text), Shape::Flag) => Value::Bool(text == "true"),
        };
        object.insert(knob.name.to_owned(), json!({ "value": value, "origin": origin.to_string() }));
    }
    Value::Object(object)
}
