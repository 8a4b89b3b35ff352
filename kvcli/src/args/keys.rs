//! Arguments of what is about keys: `put`, `scan`, `watch`, leases, locks, `bench`.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Raw, positive_duration, raw};

/// Key, value and flags of `put`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PutArgs {
    /// The key
    #[arg(value_parser = raw())]
    pub(crate) key: Raw,
    /// The value; `-` reads it from stdin
    #[arg(value_parser = raw(), allow_negative_numbers = true)]
    pub(crate) value: Raw,
    /// Only if there is no such key; exit 1 when there is
    #[arg(long, conflicts_with = "if_revision")]
    pub(crate) if_absent: bool,
    /// Only if the key was last written at this revision, 0 standing for an absent key; exit 1 when it was not
    #[arg(long, value_name = "R")]
    pub(crate) if_revision: Option<u64>,
    /// The key lives as long as this lease; exit 1 when that has ended
    #[arg(long, value_name = "ID")]
    pub(crate) lease: Option<NonZeroU64>,
}

/// What `watch` watches, from where on, and for how long.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("watched").required(true).args(["key", "prefix"]))]
pub(crate) struct WatchArgs {
    /// The key
    #[arg(value_parser = raw())]
    pub(crate) key: Option<Raw>,
    /// All keys that start with this
    #[arg(long, value_parser = raw(), value_name = "P")]
    pub(crate) prefix: Option<Raw>,
    /// Begin with the changes of this revision; exit 1 when those are gone [default: those from now on]
    #[arg(long, value_name = "R")]
    pub(crate) from_revision: Option<u64>,
    /// End after so many changes [default: at Ctrl-C]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
}

/// What is done with a lease.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Make a lease; prints its id
    Grant {
        /// How long it lives without being kept alive: seconds, or a duration with its unit
        #[arg(value_name = "TTL", value_parser = time_to_live)]
        ttl: Duration,
    },
    /// Let a lease live its whole time from now on; prints its id, and exits 1 when it has ended
    Keepalive {
        /// The lease
        #[arg(value_name = "ID")]
        id: NonZeroU64,
    },
    /// End a lease and delete its keys; prints how many, and exits 1 when it has ended already
    Revoke {
        /// The lease
        #[arg(value_name = "ID")]
        id: NonZeroU64,
    },
    /// Print a row for every lease that lives: its id, time to live and number of keys
    List,
}

/// The lock, and what runs while it is held.
#[derive(Args, Clone, Debug)]
pub(crate) struct LockArgs {
    /// The lock
    #[arg(value_parser = raw())]
    pub(crate) name: Raw,
    /// How long the lock outlives this program if it dies
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration)]
    pub(crate) ttl: Duration,
    /// The program to run, with its arguments
    #[arg(value_name = "CMD", last = true, required = true, num_args = 1..)]
    pub(crate) command: Vec<OsString>,
}

/// The shape of a transaction.
pub(super) const TXN_HELP: &str = r#"One JSON object:
  {"compare": [{"key": K, "target": "value|version|create|mod|exists", "op": "=|!=|<|>", "to": V}],
   "then":    [{"put": {"key": K, "value": V}}, {"delete": {"key": K}}, {"get": {"key": K}}, {"add": {"key": K, "by": N}}],
   "else":    []}
All that is compared must hold for `then` to be done, else `else` is; what is absent counts as empty. Keys and values are
text or {"base64": "…"}; `to` is a value, a number, or for `exists` true or false; a put may have a "lease": ID.
Answer: {"succeeded": B, "revision": R, "results": [{}, {"deleted": N}, the pair or null, {"value": N}]}"#;

/// What the program under a lock is told, and how it all ends.
pub(super) const LOCK_HELP: &str = "\
The program finds KVCLI_FENCING_TOKEN in its environment: a number that grows with every holder. Give it to whatever the lock \
guards, and have that refuse a lower one than it has seen. Waiting for the lock is not bounded by --timeout; signals are passed \
on to the program. Exit codes: those of the program, 128 + the signal that killed it; 2 when it cannot be run; 3 when the lock \
was lost, the program being terminated then.";

/// Parses a number of seconds, or a duration with a unit.
fn time_to_live(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) => Err("must be above zero".to_owned()),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_no_number) => positive_duration(text),
    }
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
