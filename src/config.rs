//! Every knob of a node: its unit, its default, why that default, and what is refused.
//!
//! The field names are those of the TOML file and of the `DLEDGER_*` environment variables of `kvcli serve`. A
//! knob that nobody needs to turn is a named constant beside the code it rules, not a field here.

mod members;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::types::NodeId;

pub use members::{Addresses, Members};

/// Configuration of one node. Build it with [`Config::single`], [`Config::member`] or [`Config::joining`], change fields, open.
///
/// ```
/// use std::time::Duration;
///
/// use dledger::{Backend, Config, Durability};
///
/// # fn configs() -> Result<(), dledger::OpenError> {
/// let cluster = "1=10.0.0.1:7101,2=10.0.0.2:7101,3=10.0.0.3:7101";
/// let mut config = Config::member(1, cluster, "/var/lib/service/1")?;
/// config.insecure = true; // listens beyond loopback, in a network that is trusted
/// config.durability = Durability::Async { flush_every: Duration::from_millis(10) };
/// config.backend = Backend::Memory;
/// config.validate()?;
///
/// let alone = Config::single("/var/lib/service/alone"); // a cluster of one
/// let fourth = Config::joining(4, "10.0.0.1:7101,10.0.0.2:7101", "/var/lib/service/4")?; // waits to be added
/// # Ok(())
/// # }
/// # configs().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node's number, 1 or more. The data directory remembers it; another number is refused.
    pub id: NodeId,
    /// `HOST:PORT` to listen on for peers and clients. Port 0 takes a free one (single nodes and tests).
    pub listen: String,
    /// `HOST:PORT` that others reach this node under, where it differs from `listen`. In a cluster of several it is
    /// this node's address in `cluster`, and another one is refused.
    #[serde(default)]
    pub advertise: Option<String>,
    /// The members that form the cluster, this node among them. Read once, at formation: from then on the
    /// directory wins and a differing set is refused.
    pub cluster: Members,
    /// Addresses of some members of a cluster that exists, for a node that joins it: with an empty directory it waits until
    /// the leader is told to add it, and asks these whether it is. Takes the place of `cluster`. Once the node has joined
    /// its directory wins, and the addresses are not asked again.
    #[serde(default)]
    pub join: Addresses,
    /// Where the log lives. Created when absent.
    pub data_dir: PathBuf,
    /// What "acknowledged" means.
    #[serde(default)]
    pub durability: Durability,
    /// Where the key-value store keeps its keys. Log and snapshots are the same for both: a node may be opened again with
    /// the other one, and nodes of one cluster may differ. A bare ledger has no keys and does not look at it.
    #[serde(default)]
    pub backend: Backend,
    /// How often a leader shows itself. 50 ms: small against a timeout, large against a loopback round trip.
    #[serde(default = "default_heartbeat", with = "duration")]
    pub heartbeat: Duration,
    /// Shortest silence after which a follower asks for votes; each wait is drawn at random between this and twice
    /// this. 150 ms: three heartbeats, the least that a lost heartbeat may not cross. At most an hour.
    #[serde(default = "default_election_timeout", with = "duration")]
    pub election_timeout: Duration,
    /// For how long a node that answers a heartbeat of the leader votes for nobody and does not stand for election, whatever
    /// happens, so that the leader may read without asking the others ([`Consistency::Lease`](crate::Consistency::Lease));
    /// 0: no such promise, and lease reads are as linearizable reads. Read once, when the cluster is formed, where all
    /// members must name the same; from then on it stands in the log, cannot be changed, and is not looked at here any
    /// more. 0, because it has a price: a leader that dies is not replaced sooner than this, and a node that starts waits
    /// as long before it votes. At least three heartbeats, so that one may be lost, and at most a minute. It relies on
    /// clocks: no member's monotonic clock may run more than a quarter faster than the leader's, or a lease read may be
    /// stale. It is safe where each is within a ninth of true time. Much more than `election_timeout` gains nothing: a leader
    /// that hears nobody for so long gives up its office.
    #[serde(default, with = "duration")]
    pub read_lease: Duration,
    /// Largest record, header included, in bytes. 16 MiB; checked before anything is allocated.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: u32,
    /// Largest size of a log segment in bytes. 64 MiB: few files, and a whole one is dropped at a time.
    #[serde(default = "default_segment_bytes")]
    pub segment_bytes: u64,
    /// Longest key in bytes. 4 KiB.
    #[serde(default = "default_max_key_bytes")]
    pub max_key_bytes: u32,
    /// Longest value in bytes. 8 MiB.
    #[serde(default = "default_max_value_bytes")]
    pub max_value_bytes: u32,
    /// Bytes of entries that may wait for their commit before callers wait and are then refused. 8 MiB.
    #[serde(default = "default_max_pending_bytes")]
    pub max_pending_bytes: u64,
    /// Client connections served at once. 1,024.
    #[serde(default = "default_max_clients")]
    pub max_clients: u32,
    /// In which time the scrub reads the whole log once, to find damage before it is needed and to mend it from peers.
    /// A week: one node of three rarely loses the same record within it. Zero: never. At most a year.
    #[serde(default = "default_scrub_every", with = "duration")]
    pub scrub_every: Duration,
    /// Entries after which the state machine is written down again; 0: entries do not count. A million: a second of replay.
    /// A snapshot is taken whenever the log passes a multiple of this or of `snapshot_bytes`, so that all nodes take the
    /// same ones and can go on with each other's. For a state larger than `snapshot_bytes` both are doubled until it is
    /// not: no more is written as snapshots than as log.
    #[serde(default = "default_snapshot_entries")]
    pub snapshot_entries: u64,
    /// Bytes of log after which the state machine is written down again; 0: bytes do not count. 256 MiB: four segments.
    #[serde(default = "default_snapshot_bytes")]
    pub snapshot_bytes: u64,
    /// Snapshots kept, 1 or more; of a state that is on disk itself always one. 2: when the newest turns out to be damaged, the one before it and the log behind that
    /// are still there. The log before the oldest of them is purged once there are so many.
    #[serde(default = "default_snapshots_kept")]
    pub snapshots_kept: u32,
    /// Bytes of log kept at its end whatever the snapshots cover, so that a node that was away for a short time is sent
    /// records and no snapshot. 64 MiB: one segment. Only whole segments are purged.
    #[serde(default = "default_log_tail_bytes")]
    pub log_tail_bytes: u64,
    /// Bytes a second of snapshots that this node sends to others, all together; 0: as fast as it goes. 64 MiB: leaves
    /// room beside the log on a gigabit network.
    #[serde(default = "default_snapshot_send_rate")]
    pub snapshot_send_rate: u64,
    /// Bytes a second of its own snapshots that this node writes; 0: as fast as it goes. 64 MiB: all nodes take theirs at the
    /// same place of the log, and writes must not wait for all their disks at once.
    #[serde(default = "default_snapshot_write_rate")]
    pub snapshot_write_rate: u64,
    /// Listen beyond loopback although nothing is encrypted or authenticated yet.
    #[serde(default)]
    pub insecure: bool,
}

impl Config {
    /// A cluster of one: node 1, listening on a free loopback port.
    #[must_use]
    pub fn single(data_dir: impl Into<PathBuf>) -> Self {
        Self::of(NodeId(1), "127.0.0.1:0".to_owned(), Members::default(), data_dir.into())
    }

    /// Member `id` of a cluster given as `1=HOST:PORT,2=HOST:PORT,…`; listens on its own address there.
    ///
    /// # Errors
    /// When `cluster` does not parse or does not name `id`.
    pub fn member(id: u64, cluster: &str, data_dir: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let cluster: Members = cluster.parse().map_err(OpenError::Config)?;
        let listen = cluster
            .0
            .get(&NodeId(id))
            .cloned()
            .ok_or_else(|| OpenError::Config(format!("cluster `{cluster}` does not name node {id}")))?;
        Ok(Self::of(NodeId(id), listen, cluster, data_dir.into()))
    }

    /// Node `id`, with an empty directory, which joins a cluster that exists: `members` are addresses of some of its members,
    /// as `HOST:PORT,HOST:PORT`. Listens on a free loopback port.
    ///
    /// # Errors
    /// When `members` does not parse.
    pub fn joining(id: u64, members: &str, data_dir: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let join = members.parse().map_err(OpenError::Config)?;
        let config = Self::of(NodeId(id), "127.0.0.1:0".to_owned(), Members::default(), data_dir.into());
        Ok(Self { join, ..config })
    }

    fn of(id: NodeId, listen: String, cluster: Members, data_dir: PathBuf) -> Self {
        Self {
            id,
            listen,
            advertise: None,
            cluster,
            join: Addresses::default(),
            data_dir,
            durability: Durability::Sync,
            backend: Backend::Memory,
            heartbeat: default_heartbeat(),
            election_timeout: default_election_timeout(),
            read_lease: Duration::ZERO,
            max_record_bytes: default_max_record_bytes(),
            segment_bytes: default_segment_bytes(),
            max_key_bytes: default_max_key_bytes(),
            max_value_bytes: default_max_value_bytes(),
            max_pending_bytes: default_max_pending_bytes(),
            max_clients: default_max_clients(),
            scrub_every: default_scrub_every(),
            snapshot_entries: default_snapshot_entries(),
            snapshot_bytes: default_snapshot_bytes(),
            snapshots_kept: default_snapshots_kept(),
            log_tail_bytes: default_log_tail_bytes(),
            snapshot_send_rate: default_snapshot_send_rate(),
            snapshot_write_rate: default_snapshot_write_rate(),
            insecure: false,
        }
    }

    /// Checks every knob and their relations.
    ///
    /// # Errors
    /// `OpenError::Config` with the knob, its value and what it must be.
    pub fn validate(&self) -> Result<(), OpenError> {
        let refuse = |reason: String| Err(OpenError::Config(reason));
        if self.id.is_zero() {
            return refuse("id must be 1 or more".to_owned());
        }
        if !self.cluster.0.is_empty() && !self.join.0.is_empty() {
            return refuse(format!(
                "cluster `{}` and join `{}` exclude each other: a node forms a cluster with others that begin with it, or \
                 joins one that exists",
                self.cluster, self.join
            ));
        }
        if !self.cluster.0.is_empty() && !self.cluster.0.contains_key(&self.id) {
            return refuse(format!("cluster `{}` does not name node {}", self.cluster, self.id));
        }
        if let (Some(advertised), Some(member)) = (&self.advertise, self.cluster.0.get(&self.id))
            && advertised != member
        {
            return refuse(format!(
                "advertise `{advertised}` and the address `{member}` that the cluster gives node {} differ; members reach \
                 each other under the cluster's addresses",
                self.id
            ));
        }
        if self.heartbeat < Duration::from_millis(1) {
            return refuse("heartbeat must be at least 1ms".to_owned());
        }
        if self.election_timeout > MAX_ELECTION_TIMEOUT {
            return refuse(format!(
                "election_timeout {} must be at most {}",
                humantime::format_duration(self.election_timeout),
                humantime::format_duration(MAX_ELECTION_TIMEOUT)
            ));
        }
        if self.election_timeout < self.heartbeat.saturating_mul(3) {
            return refuse(format!(
                "election_timeout {} must be at least three heartbeats of {}",
                humantime::format_duration(self.election_timeout),
                humantime::format_duration(self.heartbeat)
            ));
        }
        self.validate_read_lease()?;
        if self.scrub_every > MAX_SCRUB_EVERY {
            return refuse(format!(
                "scrub_every {} must be at most {}",
                humantime::format_duration(self.scrub_every),
                humantime::format_duration(MAX_SCRUB_EVERY)
            ));
        }
        if self.snapshots_kept == 0 {
            return refuse("snapshots_kept must be 1 or more".to_owned());
        }
        for (knob, rate, least) in [
            ("snapshot_send_rate", self.snapshot_send_rate, MIN_SNAPSHOT_SEND_RATE),
            ("snapshot_write_rate", self.snapshot_write_rate, MIN_SNAPSHOT_WRITE_RATE),
        ] {
            if rate != 0 && rate < least {
                return refuse(format!("{knob} {rate} must be 0, for no limit, or at least {least} bytes a second"));
            }
        }
        let payload_limit = self.max_record_bytes.saturating_sub(RECORD_OVERHEAD_BYTES);
        if self.max_key_bytes.saturating_add(self.max_value_bytes) > payload_limit {
            return refuse(format!(
                "max_key_bytes {} and max_value_bytes {} do not fit into max_record_bytes {}",
                self.max_key_bytes, self.max_value_bytes, self.max_record_bytes
            ));
        }
        if self.max_record_bytes > MAX_RECORD_BYTES_LIMIT {
            return refuse(format!("max_record_bytes must be at most {MAX_RECORD_BYTES_LIMIT}"));
        }
        if self.segment_bytes < MIN_SEGMENT_BYTES {
            return refuse(format!("segment_bytes must be at least {MIN_SEGMENT_BYTES}"));
        }
        Ok(())
    }

    fn validate_read_lease(&self) -> Result<(), OpenError> {
        let fits = self.heartbeat.saturating_mul(3)..=MAX_READ_LEASE;
        if self.read_lease.is_zero() || fits.contains(&self.read_lease) {
            return Ok(());
        }
        Err(OpenError::Config(format!(
            "read_lease {} must be 0, for no lease reads, or at least three heartbeats of {} and at most {}",
            humantime::format_duration(self.read_lease),
            humantime::format_duration(self.heartbeat),
            humantime::format_duration(MAX_READ_LEASE)
        )))
    }
}

/// Longest `election_timeout`: far beyond any use, and far below where multiples of it overflow.
pub const MAX_ELECTION_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest `read_lease`: a cluster whose leader died, or that was started anew, elects nobody for so long.
pub const MAX_READ_LEASE: Duration = Duration::from_secs(60);
/// Longest `scrub_every`.
pub const MAX_SCRUB_EVERY: Duration = Duration::from_secs(366 * 24 * 3600);
/// Smallest `segment_bytes`: below it headers and footers outweigh records.
pub const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// Smallest `snapshot_send_rate` but 0: a chunk must come before its receiver asks somebody else.
pub const MIN_SNAPSHOT_SEND_RATE: u64 = 256 << 10;
/// Smallest `snapshot_write_rate` but 0: a node that stops waits for the pause behind a chunk.
pub const MIN_SNAPSHOT_WRITE_RATE: u64 = 1 << 20;
/// Largest `max_record_bytes`: a record must fit a frame and the decoder's bound.
pub const MAX_RECORD_BYTES_LIMIT: u32 = 48 << 20;
/// Room for record header and command framing beside key and value.
const RECORD_OVERHEAD_BYTES: u32 = 1 << 10;

fn default_heartbeat() -> Duration {
    Duration::from_millis(50)
}
fn default_election_timeout() -> Duration {
    Duration::from_millis(150)
}
fn default_max_record_bytes() -> u32 {
    16 << 20
}
fn default_segment_bytes() -> u64 {
    64 << 20
}
fn default_max_key_bytes() -> u32 {
    4 << 10
}
fn default_max_value_bytes() -> u32 {
    8 << 20
}
fn default_max_pending_bytes() -> u64 {
    8 << 20
}
fn default_max_clients() -> u32 {
    1024
}
fn default_snapshot_entries() -> u64 {
    1_000_000
}
fn default_snapshot_bytes() -> u64 {
    256 << 20
}
fn default_snapshots_kept() -> u32 {
    2
}
fn default_log_tail_bytes() -> u64 {
    64 << 20
}
fn default_snapshot_send_rate() -> u64 {
    64 << 20
}
fn default_snapshot_write_rate() -> u64 {
    64 << 20
}
fn default_scrub_every() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}

/// What "acknowledged" means. Printed and parsed as `sync` or `async:10ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A quorum has the record on disk, synced. A power loss on all nodes at once loses nothing acknowledged.
    #[default]
    Sync,
    /// A quorum has the record in memory; each syncs at least every `flush_every`. A crash of one process loses
    /// nothing; a power loss on a quorum at once loses up to that much of what was acknowledged. Term and vote are
    /// synced all the same.
    Async {
        /// Longest time between a write and its sync.
        flush_every: Duration,
    },
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Async { flush_every } => write!(f, "async:{}", humantime::format_duration(*flush_every)),
        }
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "sync" => Ok(Self::Sync),
            Some(("async", wait)) => {
                let flush_every = humantime::parse_duration(wait)
                    .map_err(|error| format!("`{wait}` is not a duration with a unit: {error}"))?;
                if flush_every.is_zero() {
                    return Err("async needs a flush interval above zero; use `sync`".to_owned());
                }
                Ok(Self::Async { flush_every })
            }
            _ => Err(format!("`{text}` is not a durability; use `sync` or `async:10ms`")),
        }
    }
}

/// Where the key-value store keeps its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// In memory: fast, and no larger than that. A start reads the newest snapshot, and the log behind it.
    #[default]
    Memory,
    /// On disk, in RocksDB below the data directory. Only in builds with the cargo feature `rocksdb`.
    RocksDb,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::RocksDb => "rocksdb",
        })
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "rocksdb" => Ok(Self::RocksDb),
            _ => Err(format!("`{text}` is not a backend; use `memory` or `rocksdb`")),
        }
    }
}

impl Serialize for Backend {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Durability {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Durability {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Durations in files and variables: `50ms`, `1s 500ms`.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_parse_and_print_the_same_text() {
        let text = "1=127.0.0.1:7101,2=[::1]:7102";
        assert_eq!(text.parse::<Members>().unwrap().to_string(), text);
    }

    #[test]
    fn members_of_wrong_shape_are_refused_by_name() {
        for wrong in ["1", "0=a:1", "1=a", "1=a:x", "1=:5", "1=a:1,1=b:2", "x=a:1"] {
            wrong.parse::<Members>().unwrap_err();
        }
    }

    #[test]
    fn join_parses_and_prints_the_same_text_and_excludes_a_cluster() {
        let text = "127.0.0.1:7101,[::1]:7102";
        let mut config = Config::joining(4, text, "x").unwrap();
        assert_eq!(config.join.to_string(), text);
        config.validate().unwrap();
        config.cluster = "4=127.0.0.1:7104".parse().unwrap();
        assert!(config.validate().unwrap_err().to_string().contains("exclude each other"));
        for wrong in ["1=a:1x", "a", ":1", "a:1,b"] {
            Config::joining(4, wrong, "x").unwrap_err();
        }
    }

    #[test]
    fn durability_parses_and_prints_the_same_text() {
        for text in ["sync", "async:10ms"] {
            assert_eq!(text.parse::<Durability>().unwrap().to_string(), text);
        }
        "async:10".parse::<Durability>().unwrap_err();
        "async:0ms".parse::<Durability>().unwrap_err();
    }

    #[test]
    fn backend_parses_and_prints_the_same_text() {
        for text in ["memory", "rocksdb"] {
            assert_eq!(text.parse::<Backend>().unwrap().to_string(), text);
        }
        assert!("rocks".parse::<Backend>().unwrap_err().contains("`memory` or `rocksdb`"));
    }

    #[test]
    fn validate_refuses_an_advertised_address_that_no_member_would_use() {
        let mut config = Config::member(1, "1=a:1,2=b:2", "x").unwrap();
        config.advertise = Some("a:1".to_owned());
        config.validate().unwrap();
        config.advertise = Some("elsewhere:1".to_owned());
        assert!(config.validate().unwrap_err().to_string().contains("advertise `elsewhere:1`"));
    }

    // A heartbeat of more than a third of what a Duration holds made validate panic, and an election timeout of more
    // than half of it the core, hours after it was accepted. Unseen, since tests tried what is too short only.
    #[test]
    fn validate_of_durations_too_long_to_multiply_refuses_them() {
        let mut config = Config::single("x");
        config.election_timeout = Duration::MAX;
        assert!(config.validate().unwrap_err().to_string().contains("at most 1h"));
        config.election_timeout = MAX_ELECTION_TIMEOUT;
        config.validate().unwrap();
        config.heartbeat = Duration::MAX;
        assert!(config.validate().unwrap_err().to_string().contains("three heartbeats"));
    }

    #[test]
    fn validate_of_a_read_lease_refuses_one_that_is_never_held_or_never_ends() {
        let mut config = Config::single("x");
        for (millis, fits) in [(0, true), (149, false), (150, true), (60_000, true), (60_001, false)] {
            config.read_lease = Duration::from_millis(millis);
            assert_eq!(config.validate().is_ok(), fits, "{millis}");
        }
        assert!(config.validate().unwrap_err().to_string().contains("read_lease 1m 1ms must be 0"));
    }

    #[test]
    fn validate_of_snapshot_knobs_refuses_what_would_never_end() {
        let mut config = Config::single("x");
        (config.snapshot_send_rate, config.snapshot_write_rate) = (0, 0);
        config.validate().unwrap();
        config.snapshot_send_rate = 1000;
        assert!(config.validate().unwrap_err().to_string().contains("snapshot_send_rate 1000"));
        config.snapshot_send_rate = MIN_SNAPSHOT_SEND_RATE;
        config.snapshot_write_rate = 1;
        assert!(config.validate().unwrap_err().to_string().contains("snapshot_write_rate 1"));
        config.snapshot_write_rate = 0;
        config.snapshots_kept = 0;
        assert!(config.validate().unwrap_err().to_string().contains("snapshots_kept"));
    }

    #[test]
    fn validate_names_the_knob_that_cannot_work() {
        let mut config = Config::single("x");
        config.validate().unwrap();
        config.election_timeout = Duration::from_millis(149);
        assert!(config.validate().unwrap_err().to_string().contains("three heartbeats"));
    }
}
