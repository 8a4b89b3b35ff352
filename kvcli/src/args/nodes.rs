//! Arguments of what is about nodes and not about keys: `serve`, `demo`, `members`, `recover`, `log` and their like.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use dledger::config::Backend;
use dledger::node::recover::Survivor;

use super::endpoints;

/// What the exit codes of `members` and `transfer` mean to a script.
pub(super) const MEMBERS_HELP: &str = "\
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
