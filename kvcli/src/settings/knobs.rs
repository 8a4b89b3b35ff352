//! The table of settings: name, kind of TOML value, how text is read into the field and written from it.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dledger::config::Config;
use dledger::types::NodeId;

/// The kind of value that the file must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// An integer.
    Number,
    /// `true` or `false`.
    Flag,
}

/// One setting.
pub(crate) struct Knob {
    /// The field of `Config`, the key in the file, and the variable without its prefix in small letters.
    pub(crate) name: &'static str,
    /// What the file must hold.
    pub(crate) shape: Shape,
    set: fn(&mut Config, &str) -> Result<(), String>,
    get: fn(&Config) -> Option<String>,
}

impl Knob {
    /// Reads `text` into the field.
    pub(crate) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.set)(config, text)
    }

    /// The field as text; `None` when it is unset.
    pub(crate) fn get(&self, config: &Config) -> Option<String> {
        (self.get)(config)
    }
}

/// The knob of a name.
pub(crate) fn knob(name: &str) -> Option<&'static Knob> {
    knobs().iter().find(|knob| knob.name == name)
}

/// All settings, in the order in which they are printed.
pub(crate) fn knobs() -> &'static [Knob] {
    KNOBS
}

const KNOBS: &[Knob] = &[
    Knob {
        name: "id",
        shape: Shape::Number,
        set: |config, text| number(text).map(|id| config.id = NodeId(id)),
        get: |config| Some(config.id.to_string()),
    },
    Knob {
        name: "listen",
        shape: Shape::Text,
        set: |config, text| address(text, true).map(|listen| config.listen = listen),
        get: |config| Some(config.listen.clone()),
    },
    Knob {
        name: "advertise",
        shape: Shape::Text,
        set: |config, text| address(text, false).map(|address| config.advertise = Some(address)),
        get: |config| config.advertise.clone(),
    },
    Knob {
        name: "cluster",
        shape: Shape::Text,
        set: |config, text| text.parse().map(|members| config.cluster = members),
        get: |config| Some(config.cluster.to_string()),
    },
    Knob {
        name: "join",
        shape: Shape::Text,
        set: |config, text| text.parse().map(|addresses| config.join = addresses),
        get: |config| Some(config.join.to_string()),
    },
    Knob {
        name: "data_dir",
        shape: Shape::Text,
        set: |config, text| match text {
            "" => Err("must not be empty".to_owned()),
            path => {
                config.data_dir = PathBuf::from(path);
                Ok(())
            }
        },
        get: |config| Some(config.data_dir.display().to_string()),
    },
    Knob {
        name: "durability",
        shape: Shape::Text,
        set: |config, text| text.parse().map(|durability| config.durability = durability),
        get: |config| Some(config.durability.to_string()),
    },
    Knob {
        name: "backend",
        shape: Shape::Text,
        set: |config, text| text.parse().map(|backend| config.backend = backend),
        get: |config| Some(config.backend.to_string()),
    },
    Knob {
        name: "heartbeat",
        shape: Shape::Text,
        set: |config, text| duration(text).map(|wait| config.heartbeat = wait),
        get: |config| Some(humantime::format_duration(config.heartbeat).to_string()),
    },
    Knob {
        name: "election_timeout",
        shape: Shape::Text,
        set: |config, text| duration(text).map(|wait| config.election_timeout = wait),
        get: |config| Some(humantime::format_duration(config.election_timeout).to_string()),
    },
    Knob {
        name: "read_lease",
        shape: Shape::Text,
        set: |config, text| duration(text).map(|time| config.read_lease = time),
        get: |config| Some(humantime::format_duration(config.read_lease).to_string()),
    },
    Knob {
        name: "max_record_bytes",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.max_record_bytes = bytes),
        get: |config| Some(config.max_record_bytes.to_string()),
    },
    Knob {
        name: "segment_bytes",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.segment_bytes = bytes),
        get: |config| Some(config.segment_bytes.to_string()),
    },
    Knob {
        name: "max_key_bytes",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.max_key_bytes = bytes),
        get: |config| Some(config.max_key_bytes.to_string()),
    },
    Knob {
        name: "max_value_bytes",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.max_value_bytes = bytes),
        get: |config| Some(config.max_value_bytes.to_string()),
    },
    Knob {
        name: "max_pending_bytes",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.max_pending_bytes = bytes),
        get: |config| Some(config.max_pending_bytes.to_string()),
    },
    Knob {
        name: "max_clients",
        shape: Shape::Number,
        set: |config, text| number(text).map(|count| config.max_clients = count),
        get: |config| Some(config.max_clients.to_string()),
    },
    Knob {
        name: "scrub_every",
        shape: Shape::Text,
        set: |config, text| duration(text).map(|time| config.scrub_every = time),
        get: |config| Some(humantime::format_duration(config.scrub_every).to_string()),
    },
    Knob {
        name: "snapshot_entries",
        shape: Shape::Number,
        set: |config, text| number(text).map(|count| config.snapshot_entries = count),
        get: |config| Some(config.snapshot_entries.to_string()),
    },
    Knob {
        name: "snapshot_bytes",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.snapshot_bytes = bytes),
        get: |config| Some(config.snapshot_bytes.to_string()),
    },
    Knob {
        name: "snapshots_kept",
        shape: Shape::Number,
        set: |config, text| number(text).map(|count| config.snapshots_kept = count),
        get: |config| Some(config.snapshots_kept.to_string()),
    },
    Knob {
        name: "log_tail_bytes",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.log_tail_bytes = bytes),
        get: |config| Some(config.log_tail_bytes.to_string()),
    },
    Knob {
        name: "snapshot_send_rate",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.snapshot_send_rate = bytes),
        get: |config| Some(config.snapshot_send_rate.to_string()),
    },
    Knob {
        name: "snapshot_write_rate",
        shape: Shape::Number,
        set: |config, text| number(text).map(|bytes| config.snapshot_write_rate = bytes),
        get: |config| Some(config.snapshot_write_rate.to_string()),
    },
    Knob {
        name: "insecure",
        shape: Shape::Flag,
        set: |config, text| match text {
            "true" => {
                config.insecure = true;
                Ok(())
            }
            "false" => {
                config.insecure = false;
                Ok(())
            }
            other => Err(format!("`{other}` is not true or false")),
        },
        get: |config| Some(config.insecure.to_string()),
    },
];

fn number<T: FromStr + Display>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_not_one| format!("`{text}` is not a whole number that fits"))
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("`{text}`: {error}; write it like 50ms or 1s"))
}

fn address(text: &str, may_be_any_port: bool) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(port) if port != 0 || may_be_any_port => Ok(text.to_owned()),
        Some(_) | None => Err(format!("`{text}` is not HOST:PORT")),
    }
}
