//! The command line: one definition for one-shot commands, commands from stdin and the shell.
//!
//! A line of the shell is split into words and parsed by this very definition, so the two can not drift apart;
//! completion, hints and `help` read it too. Commands and flags of later releases are not declared: they are
//! unknown, exit 2.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::builder::{OsStringValueParser, PossibleValue, StringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use dledger::Consistency;

use crate::exit::Failure;

mod keys;
mod nodes;

use self::keys::{LOCK_HELP, TXN_HELP};
use self::nodes::MEMBERS_HELP;

pub(crate) use self::keys::{BenchArgs, BenchCommand, LeaseCommand, LockArgs, PutArgs, ScanArgs, WatchArgs};
pub(crate) use self::nodes::{
    DemoArgs, LogArgs, LogCommand, MembersCommand, RecoverArgs, RepairArgs, RestoreArgs, ServeArgs,
};

/// Shell, one-shot client and node runner for dledger.
#[derive(Clone, Debug, Parser)]
#[command(name = "kvcli", version, about, max_term_width = 100)]
#[command(
    after_help = "Without COMMAND: the interactive shell when stdin is a terminal, else commands from stdin, one a line."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Globals {
    /// Nodes to ask, HOST:PORT,…  [default: $KVCLI_ENDPOINTS, else 127.0.0.1:7101]
    #[arg(long, global = true, value_name = "A,B,C", value_parser = endpoints)]
    pub(crate) endpoints: Option<Endpoints>,
    /// How answers are printed [default: plain]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Longest wait for one operation, finding the leader included [default: 5s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = positive_duration)]
    pub(crate) timeout: Option<Duration>,
    /// How fresh reads must be: linearizable, lease (the same by the leader's lease), stale:500ms (no older than that),
    /// stale (whatever the asked node has) [default: linearizable]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = ConsistencyParser)]
    pub(crate) consistency: Option<Consistency>,
    /// Log from this level on, to stderr [default: $RUST_LOG, else info for serve and warn elsewhere]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
    /// How the log is written [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Commands from stdin: go on after a command that failed; exit with the first code that was not 0
    #[arg(long, global = true, action = ArgAction::SetTrue)]
    pub(crate) keep_going: bool,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Serve(ServeArgs),
    /// Run a throw-away cluster in this process, with the shell or commands from stdin
    Demo(DemoArgs),
    /// Set a key; prints OK
    Put(PutArgs),
    /// Print the value of a key; exit 1 when it is absent
    Get {
        /// The key
        #[arg(value_parser = raw())]
        key: Raw,
    },
    /// Delete a key, or all keys with a prefix; prints how many
    #[command(group = clap::ArgGroup::new("which").required(true).args(["key", "prefix"]))]
    Del {
        /// The key; exit 1 when it is absent
        #[arg(value_parser = raw())]
        key: Option<Raw>,
        /// Delete all keys that start with this
        #[arg(long, value_parser = raw(), value_name = "P")]
        prefix: Option<Raw>,
    },
    /// Print keys and values in key order, KEY<TAB>VALUE a line
    Scan(ScanArgs),
    /// Set a key if its value is EXPECTED; exit 1 when it is not, or there is no such key
    Cas {
        /// The key
        #[arg(value_parser = raw())]
        key: Raw,
        /// The value that it must have
        #[arg(value_parser = raw(), allow_negative_numbers = true)]
        expected: Raw,
        /// Its new value
        #[arg(value_parser = raw(), allow_negative_numbers = true)]
        new: Raw,
    },
    /// Add to the number that a key holds as decimal text, an absent key holding 0; prints the sum, and exits 1 when the
    /// key holds something else
    Incr {
        /// The key
        #[arg(value_parser = raw())]
        key: Raw,
        /// What is added, from -2^63 to 2^63-1
        #[arg(value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Do a transaction: compare, and then one thing or another, as one change. JSON in, JSON out; exit 1 when the else
    /// branch was taken
    #[command(after_help = TXN_HELP)]
    Txn {
        /// The file; `-` is stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print every change of a key, or of all keys with a prefix, as it happens:
    /// PUT<TAB>KEY<TAB>VALUE<TAB>REVISION or DELETE<TAB>KEY<TAB><TAB>REVISION a line
    Watch(WatchArgs),
    /// Leases, which keys can live with: they go when it ends
    Lease {
        #[command(subcommand)]
        action: LeaseCommand,
    },
    /// Run a program while holding a lock; exits with its status
    #[command(after_help = LOCK_HELP)]
    Lock(LockArgs),
    /// Put every line of a file; prints how many lines are acknowledged
    Import {
        /// The file; `-` is stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What a line looks like: KEY<TAB>VALUE taken literally, or a JSON object
        #[arg(long, value_name = "FORMAT", default_value = "tsv")]
        format: RowFormat,
    },
    /// Print all keys and values so that `import` can read them
    Export {
        /// Only keys that start with this
        #[arg(value_parser = raw(), default_value = "")]
        prefix: Raw,
        /// KEY<TAB>VALUE, or JSON, which carries every byte [default: tsv; json with --output json]
        #[arg(long, value_name = "FORMAT")]
        format: Option<RowFormat>,
    },
    /// Print a row for every known node
    Status,
    /// Print who belongs to the cluster, or change it, one member at a time
    #[command(after_help = MEMBERS_HELP)]
    Members {
        #[command(subcommand)]
        change: Option<MembersCommand>,
    },
    /// Make a voter the leader; prints OK once it says itself that it leads, also when it did before
    #[command(after_help = MEMBERS_HELP)]
    Transfer {
        /// The voter
        #[arg(value_name = "ID")]
        id: NonZeroU64,
    },
    /// Have every known node write its state down, so that the log before can go; print a row for each
    Snapshot,
    /// Write a snapshot of everything acknowledged so far to one file, while the cluster serves on; prints its index and bytes
    Backup {
        /// The file, which must not exist yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Prepare the empty directory of a stopped node so that it begins with a backup; prints the backup's index and where
    /// the new log begins. Do so for every node of the new cluster, then start them
    Restore(RestoreArgs),
    /// Print what a stopped node has, ID=TERM:INDEX first, to compare the survivors of a lost majority. With --force the best
    /// of them becomes a cluster of itself, in a new epoch that refuses all other nodes of before
    Recover(RecoverArgs),
    /// Measure throughput and latency
    Bench {
        #[command(subcommand)]
        operation: BenchCommand,
    },
    /// Look into the log of a stopped node or of a copy
    Log {
        #[command(subcommand)]
        action: LogCommand,
    },
    /// Leave the shell
    #[command(alias = "exit")]
    Quit,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // For people and for `cut`
    #[default]
    Plain,
    // Columns with a header
    Table,
    // One object a line
    Json,
}

/// What rows of `import` and `export` look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    // KEY<TAB>VALUE
    Tsv,
    // One object a line
    Json,
}

/// Reads how fresh a read must be, and names what may be written; the bound of the third is an example.
#[derive(Clone, Copy, Debug)]
struct ConsistencyParser;

impl TypedValueParser for ConsistencyParser {
    type Value = Consistency;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Consistency, clap::Error> {
        StringValueParser::new().try_map(|text| text.parse::<Consistency>()).parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(["linearizable", "lease", "stale", "stale:500ms"].into_iter().map(PossibleValue::new)))
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    // Nothing
    Off,
    // What failed
    Error,
    // What may become a problem
    Warn,
    // What happens
    Info,
    // Why it happens
    Debug,
    // Everything
    Trace,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    // A line for a person
    #[default]
    Text,
    // An object a line
    Json,
}

/// Bytes as the user gave them: any bytes, not only text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raw(pub(crate) Bytes);

fn raw() -> impl TypedValueParser<Value = Raw> {
    OsStringValueParser::new().map(|text: OsString| Raw(text.into_vec().into()))
}

/// Addresses of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints(pub(crate) Vec<String>);

/// Parses `HOST:PORT,HOST:PORT`.
pub(crate) fn endpoints(text: &str) -> Result<Endpoints, String> {
    let addresses: Vec<String> =
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for address in &addresses {
        let valid = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        if !valid {
            return Err(format!("`{address}` is not HOST:PORT"));
        }
    }
    if addresses.is_empty() { Err("no HOST:PORT in it".to_owned()) } else { Ok(Endpoints(addresses)) }
}

/// Parses a duration with a unit, above zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let wait = humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 500ms or 5s"))?;
    if wait.is_zero() { Err("must be above zero".to_owned()) } else { Ok(wait) }
}

/// What parsing gives when there is nothing to run.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Help or version: text for stdout, exit 0.
    Text(String),
    /// Wrong usage.
    Wrong(Failure),
}

/// Parses a whole command line, the program's name first.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Stop> {
    Cli::try_parse_from(words).map_err(|error| {
        use clap::error::ErrorKind;
        let text = error.render().to_string();
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Stop::Text(text);
        }
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let usage = text.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or("kvcli help");
            return Stop::Wrong(Failure::usage(format!("a subcommand is missing; usage: {usage}")));
        }
        Stop::Wrong(Failure::usage(one_line(&text)))
    })
}

/// Folds the parser's message into one line: what is wrong, the tip, and where to read on.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    let mut parts: Vec<&str> = Vec::new();
    let mut usage = "";
    for line in lines {
        if let Some(rest) = line.strip_prefix("Usage:") {
            usage = rest.trim();
        } else if !line.is_empty() && usage.is_empty() && !line.starts_with("For more information") {
            parts.push(line.strip_prefix("error: ").or_else(|| line.strip_prefix("tip: ")).unwrap_or(line));
        }
    }
    let head = parts.join("; ").replace(":; ", ": ");
    if usage.is_empty() { format!("{head}; see `kvcli help`") } else { format!("{head}; usage: {usage}") }
}

#[cfg(test)]
mod tests;
