//! Members and addresses as a configuration names them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// Members and their addresses, printed and parsed as `1=HOST:PORT,2=HOST:PORT`. Empty means a cluster of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(pub BTreeMap<NodeId, String>);

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (id, address)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{id}={address}")?;
        }
        Ok(())
    }
}

impl FromStr for Members {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut members = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let wrong = || format!("`{part}` in the cluster is not ID=HOST:PORT");
            let (id, address) = part.trim().split_once('=').ok_or_else(wrong)?;
            let id: u64 = id.trim().parse().map_err(|_not_a_number| wrong())?;
            let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
            if id == 0 || host.is_empty() || port.parse::<u16>().is_err() {
                return Err(wrong());
            }
            if members.insert(NodeId(id), address.to_owned()).is_some() {
                return Err(format!("node {id} stands twice in the cluster"));
            }
        }
        Ok(Self(members))
    }
}

impl Serialize for Members {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Addresses of nodes, printed and parsed as `HOST:PORT,HOST:PORT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let address = |part: &str| match part.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(part.to_owned()),
            Some(_) | None => Err(format!("`{part}` is not HOST:PORT")),
        };
        parts.map(address).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Addresses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
