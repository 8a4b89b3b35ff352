//! A cluster over the network.

use std::time::Duration;

use bytes::Bytes;

use crate::exit::{Failure, Kind};

use super::{Consistency, Deleted, Importer, KeyValue, Nodes, Scan, ScanPage};

#[derive(Clone)]
pub(crate) struct Remote {
    endpoints: Vec<String>,
    timeout: Duration,
}

impl Remote {
    pub(crate) fn new(endpoints: &[String], timeout: Duration) -> Result<Self, Failure> {
        Ok(Self { endpoints: endpoints.to_vec(), timeout })
    }
    pub(crate) fn another(&self) -> Result<Self, Failure> {
        Self::new(&self.endpoints, self.timeout)
    }
    fn absent<T>(&self) -> Result<T, Failure> {
        Err(Failure::new(Kind::Unavailable, "unavailable: the client is not part of this build"))
    }
    pub(crate) async fn put(&self, _key: Bytes, _value: Bytes) -> Result<u64, Failure> {
        self.absent()
    }
    pub(crate) async fn put_batch(&self, _pairs: Vec<(Bytes, Bytes)>) -> Result<u64, Failure> {
        self.absent()
    }
    pub(crate) async fn delete(&self, _key: Bytes) -> Result<Deleted, Failure> {
        self.absent()
    }
    pub(crate) async fn delete_prefix(&self, _prefix: Bytes) -> Result<Deleted, Failure> {
        self.absent()
    }
    pub(crate) async fn get(&self, _key: Bytes, _consistency: Consistency) -> Result<Option<KeyValue>, Failure> {
        self.absent()
    }
    pub(crate) async fn scan(&self, _scan: Scan, _consistency: Consistency) -> Result<ScanPage, Failure> {
        self.absent()
    }
    pub(crate) fn importer(&self, _progress: impl FnMut(u64) + Send + 'static) -> Importer {
        Importer::Absent
    }
    pub(crate) async fn nodes(&self) -> Result<Nodes, Failure> {
        self.absent()
    }
}
