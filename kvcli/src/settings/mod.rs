//! The settings of `serve`: flag, then `DLEDGER_*` environment, then file, then default.
//!
//! One table gives each field of `dledger::config::Config` its name, how its text is read and how it is written;
//! flags, variables and the file all go through it, so a value means the same wherever it stands. The origin of
//! each value is kept for `--print-config`.

mod file;
mod knobs;
mod print;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use dledger::config::Config;
use dledger::types::NodeId;

pub(crate) use self::knobs::{Knob, Shape, knob, knobs};
pub(crate) use self::print::print;

use crate::exit::Failure;

/// What variables of the environment begin with.
const PREFIX: &str = "DLEDGER_";
/// Where `serve` listens unless told.
const DEFAULT_LISTEN: &str = "127.0.0.1:7101";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(String),
    /// A line of the file.
    File(PathBuf, usize),
    /// Taken from another setting.
    From(&'static str),
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag --{}", name.replace('_', "-")),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path, line) => write!(f, "file {}:{line}", path.display()),
            Self::From(name) => write!(f, "from {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A configuration and where each of its values comes from.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The configuration; not yet validated.
    pub(crate) config: Config,
    /// One origin per knob, in the order of the table.
    pub(crate) origins: Vec<Origin>,
    /// Things worth a warning: variables that look like settings and are none.
    pub(crate) warnings: Vec<String>,
}

/// Where values may come from.
pub(crate) struct Sources<'a> {
    /// Field name and text of each flag given.
    pub(crate) flags: Vec<(&'static str, String)>,
    /// The environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The file of `--config`.
    pub(crate) file: Option<&'a Path>,
}

/// Merges the sources.
///
/// # Errors
/// A value that does not parse, an unknown key of the file, a missing `data_dir`; each names its origin.
pub(crate) fn resolve(sources: &Sources<'_>) -> Result<Resolved, Failure> {
    let mut given = Vec::new();
    if let Some(path) = sources.file {
        given.extend(file::read(path)?);
    }
    let (variables, warnings) = variables(&sources.environment)?;
    given.extend(variables);
    given.extend(sources.flags.iter().map(|(name, text)| (*name, text.clone(), Origin::Flag(name))));
    merge(given, warnings)
}

/// What the text of a file alone makes of the configuration.
#[cfg(feature = "fuzzing")]
pub(crate) fn of_text(path: &Path, text: &str) -> Result<Resolved, Failure> {
    merge(file::parse(path, text)?, Vec::new())
}

/// Puts what was given over the defaults; of two texts for one setting the later counts.
fn merge(given: Vec<Given>, warnings: Vec<String>) -> Result<Resolved, Failure> {
    let mut config = Config::single("");
    DEFAULT_LISTEN.clone_into(&mut config.listen);
    let mut origins = vec![Origin::Default; knobs().len()];
    for (name, text, origin) in given {
        let Some((place, knob)) = knobs().iter().enumerate().find(|(_, knob)| knob.name == name) else {
            return Err(Failure::new(crate::exit::Kind::Bug, format!("setting {name} is not in the table")));
        };
        knob.set(&mut config, &text).map_err(|reason| Failure::config(format!("{origin}: {name}: {reason}")))?;
        if let Some(slot) = origins.get_mut(place) {
            *slot = origin;
        }
    }
    let mut resolved = Resolved { config, origins, warnings };
    derive(&mut resolved)?;
    Ok(resolved)
}

/// Fills in what follows from other settings, and refuses what is missing.
fn derive(resolved: &mut Resolved) -> Result<(), Failure> {
    let given = |resolved: &Resolved, name: &str| {
        let place = knobs().iter().position(|knob| knob.name == name);
        place.and_then(|place| resolved.origins.get(place)).is_some_and(|origin| *origin != Origin::Default)
    };
    if !given(resolved, "data_dir") {
        return Err(Failure::config("--data-dir is needed: where the log lives; it is created when absent"));
    }
    if !given(resolved, "id") {
        if !resolved.config.cluster.0.is_empty() {
            return Err(Failure::config("--id is needed with --cluster: which of its members this node is"));
        }
        if !resolved.config.join.0.is_empty() {
            return Err(Failure::config("--id is needed with --join: a number that the cluster has never used"));
        }
        resolved.config.id = NodeId(1);
    }
    if !given(resolved, "listen")
        && let Some(address) = resolved.config.cluster.0.get(&resolved.config.id)
    {
        address.clone_into(&mut resolved.config.listen);
        let place = knobs().iter().position(|knob| knob.name == "listen");
        if let Some(slot) = place.and_then(|place| resolved.origins.get_mut(place)) {
            *slot = Origin::From("cluster");
        }
    }
    Ok(())
}

type Given = (&'static str, String, Origin);

/// The settings among the variables of the environment. One that is no setting is a warning and not an error:
/// orchestrators put variables such as `DLEDGER_PORT` into the environment of every process on their own.
fn variables(environment: &[(OsString, OsString)]) -> Result<(Vec<Given>, Vec<String>), Failure> {
    let mut given = Vec::new();
    let mut warnings = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let field = name.strip_prefix(PREFIX).unwrap_or_default().to_lowercase();
        let Some(knob) = knob(&field) else {
            warnings.push(format!("environment {name} is not a setting{}", suggestion(&field)));
            continue;
        };
        let text = value.to_str().ok_or_else(|| Failure::config(format!("environment {name} is not text")))?;
        given.push((knob.name, text.to_owned(), Origin::Environment(name.to_owned())));
    }
    Ok((given, warnings))
}

/// "; did you mean …?" when a known name is near.
fn suggestion(name: &str) -> String {
    /// Names less alike than this are not offered.
    const NEAR: f64 = 0.7;
    let name = name.replace('-', "_");
    let best = knobs()
        .iter()
        .map(|knob| (strsim::jaro_winkler(knob.name, &name), knob.name))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    best.map(|(_, name)| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
