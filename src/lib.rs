#![doc = include_str!("../README.md")]

pub mod client;
pub mod codec;
pub mod commitlog;
pub mod config;
#[doc(hidden)]
pub mod doctest;
pub mod env;
pub mod error;
mod failure;
mod fields;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod kv;
pub mod ledger;
pub mod node;
mod numbering;
pub mod raft;
pub mod server;
#[doc(hidden)]
pub mod simulation;
pub mod snapshot;
pub mod state_machine;
pub mod transport;
pub mod types;

pub use client::{Client, ClientError, ClientOptions};
pub use config::{Backend, Config, Durability};
pub use error::{OpenError, ReadError, WriteError};
pub use kv::recipes::{Election, LiveLease, Lock};
pub use kv::{
    BlockingKvStore, Compare, Condition, Consistency, Deleted, KeyRange, KeyValue, Kv, KvError, KvStore, Scan,
    ScanPage, Txn, TxnOp, Typed, Watch, WatchOptions,
};
