//! The log on stderr. The library only emits events; this installs who prints them.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::{Command, Globals, LogFormat, LogLevel};
use crate::exit::Failure;
use crate::report;

/// Starts logging: `--log-level`, else `RUST_LOG`, else `info` for `serve`, nothing for `demo` (its nodes would
/// write over the shell, so it does not even read `RUST_LOG`) and `warn` for all others.
///
/// # Errors
/// `RUST_LOG` does not parse.
pub(crate) fn start(globals: &Globals, command: Option<&Command>) -> Result<(), Failure> {
    let variable = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = match (globals.log_level, command, variable) {
        (Some(level), _, _) => EnvFilter::new(name(level)),
        (None, Some(Command::Demo(_)), _) => EnvFilter::new("off"),
        (None, _, Some(text)) => {
            EnvFilter::try_new(text).map_err(|error| Failure::config(format!("environment RUST_LOG: {error}")))?
        }
        (None, Some(Command::Serve(_)), None) => EnvFilter::new("info"),
        (None, _, None) => EnvFilter::new("warn"),
    };
    let color = report::color_allowed() && std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color);
    let started = match globals.log_format.unwrap_or_default() {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|error| Failure::new(crate::exit::Kind::Bug, format!("cannot start logging: {error}")))
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}
