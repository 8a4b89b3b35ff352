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
use dledger::config::Backend;
use dledger::node::recover::Survivor;

use crate::exit::Failure;

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
    Put {
        /// The key
        #[arg(value_parser = raw())]
        key: Raw,
        /// The value; `-` reads it from stdin
        #[arg(value_parser = raw(), allow_negative_numbers = true)]
        value: Raw,
    },
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

/// What the exit codes of `members` and `transfer` mean to a script.
const MEMBERS_HELP: &str = "\
Exit codes: 0 done; 1 nothing to do, as there is no such member, or it is a member, or a voter, already; \
2 wrong usage; 3 unavailable (not done), or outcome unknown (look at the members before you ask again); \
4 refused as things stand (not done): the message says what to do about it.";

/// How the members are to change. Each prints OK.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum MembersCommand {
    /// Add a node that was started with `serve --join`; it becomes a voter by itself once it has caught up
    Add {
        /// A number that was never used in this cluster, and where the node is reached
        #[arg(value_name = "ID=ADDR", value_parser = node_at)]
        node: NodeAt,
        /// It stays a learner, which receives everything and does not vote, until `members promote`
        #[arg(long)]
        learner: bool,
    },
    /// Make a learner that has caught up a voter
    Promote {
        /// The learner
        #[arg(value_name = "ID")]
        id: NonZeroU64,
    },
    /// Remove a member, running or not, the leader too; its number is never used again
    Remove {
        /// The member
        #[arg(value_name = "ID")]
        id: NonZeroU64,
    },
    /// Put a node that was started with `serve --join` in a voter's place, once it has caught up
    Replace {
        /// The voter that leaves, running or not
        #[arg(value_name = "OLD")]
        old: NonZeroU64,
        /// A number that was never used in this cluster, and where the new node is reached
        #[arg(value_name = "NEW=ADDR", value_parser = node_at)]
        node: NodeAt,
    },
    /// Say how gladly a member is seen as the leader; the highest takes over once it has caught up
    Prefer {
        /// The member
        #[arg(value_name = "ID")]
        id: NonZeroU64,
        /// From 0, for no preference, to 255
        #[arg(value_name = "PRIORITY")]
        priority: u8,
    },
}

/// A node and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeAt {
    pub(crate) id: NonZeroU64,
    pub(crate) address: String,
}

/// Parses `ID=HOST:PORT`.
fn node_at(text: &str) -> Result<NodeAt, String> {
    let (id, address) = text.split_once('=').ok_or("write ID=HOST:PORT, as in 4=127.0.0.1:7104")?;
    let id = id.parse().map_err(|_not_one| format!("`{id}` is not the number of a node; numbers begin with 1"))?;
    match endpoints(address)?.0.as_slice() {
        [address] => Ok(NodeAt { id, address: address.clone() }),
        _several => Err("one address".to_owned()),
    }
}

/// Flags of `serve`. Values stay text here: flags, environment and file go through one parser (`settings`).
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServeArgs {
    /// This node's number [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) id: Option<String>,
    /// Where to listen [default: this node's address in --cluster, else 127.0.0.1:7101]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Where others reach this node, if not at --listen
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// All members, this node among them [default: this node alone]
    #[arg(long, value_name = "1=HOST:PORT,2=…")]
    pub(crate) cluster: Option<String>,
    /// Instead of --cluster: join the cluster of these nodes, once its leader is told to add this one
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) join: Option<String>,
    /// Where the log lives; created when absent
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// What "acknowledged" means: sync, or async:10ms [default: sync]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) durability: Option<String>,
    /// Where keys are kept: memory, or rocksdb in builds that have it [default: memory]
    #[arg(long, value_name = "memory|rocksdb")]
    pub(crate) backend: Option<String>,
    /// Read settings from this TOML file; flags and DLEDGER_* variables go before it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print every setting with where it comes from, and stop
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Listen beyond loopback although nothing is encrypted or authenticated
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// Flags of `restore`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The data directory of the node, empty or absent
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The node's number
    #[arg(long, value_name = "N")]
    pub(crate) id: NonZeroU64,
    /// All members of the new cluster, this node among them; as many as you like
    #[arg(long, value_name = "1=HOST:PORT,2=…")]
    pub(crate) cluster: String,
}

/// Flags of `recover`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RecoverArgs {
    /// The data directory of the node, which must be stopped
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Go on with this node alone. Acknowledged writes that only lost nodes have are gone then
    #[arg(long)]
    pub(crate) force: bool,
    /// What `recover` printed for another survivor; once for each of them. Members not named are lost for good
    #[arg(long = "survivor", value_name = "ID=TERM:INDEX", requires = "force")]
    pub(crate) survivors: Vec<Survivor>,
}

/// Flags of `demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(crate) nodes: u16,
    /// First port; the next free ones are taken when it is in use [default: 7101]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1024..))]
    pub(crate) base_port: Option<u16>,
    /// Keep the data here, in DIR/1 to DIR/N, and open it again next time [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the nodes keep their keys: memory, or rocksdb in builds that have it
    #[arg(long, value_name = "memory|rocksdb", default_value = "memory")]
    pub(crate) backend: Backend,
}

/// Flags of `scan`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScanArgs {
    /// Only keys that start with this
    #[arg(value_parser = raw(), default_value = "")]
    pub(crate) prefix: Raw,
    /// First key, inclusive
    #[arg(long, value_parser = raw(), value_name = "K")]
    pub(crate) from: Option<Raw>,
    /// End, exclusive
    #[arg(long, value_parser = raw(), value_name = "K")]
    pub(crate) to: Option<Raw>,
    /// At most this many keys
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Keys without values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Only how many keys there are
    #[arg(long)]
    pub(crate) count: bool,
}

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Puts of keys under bench/
    Put(BenchArgs),
    /// Gets of keys under bench/, which are written first
    Get(BenchArgs),
}

/// Flags of `bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) clients: u32,
    /// Start this many operations a second, whether or not earlier ones are done [default: as fast as answers come]
    #[arg(long, value_name = "R")]
    pub(crate) rate: Option<NonZeroU64>,
    /// Bytes in a value
    #[arg(long, value_name = "B", default_value_t = 256, value_parser = clap::value_parser!(u32).range(..=8 << 20))]
    pub(crate) size: u32,
    /// How long
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration)]
    pub(crate) duration: Duration,
    /// Operations under way at once on each connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) pipeline: u32,
}

/// What to do with a log.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print a row for every segment
    Ls(LogArgs),
    /// Print a row for every record
    Cat(LogArgs),
    /// Check every record; prints: first last records bytes digest
    Verify(LogArgs),
    /// Print a row for every hole of a node without peers, and with --cut give up what stands behind the first one
    Repair(RepairArgs),
}

/// Which part of which log.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// The data directory of the node
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// First index [default: the first in the log]
    #[arg(long, value_name = "I")]
    pub(crate) from: Option<u64>,
    /// Last index [default: the last in the log]
    #[arg(long, value_name = "J")]
    pub(crate) to: Option<u64>,
}

/// Which log to repair, and whether to.
#[derive(Args, Clone, Debug)]
pub(crate) struct RepairArgs {
    /// The data directory of the node
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Cut the log before the first record that cannot be read; the files as they were are kept in `damaged-…`
    #[arg(long)]
    pub(crate) cut: bool,
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
