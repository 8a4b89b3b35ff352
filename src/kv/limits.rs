//! What a command may be by the limits of a node. Looked at before anything is proposed, whichever way it came: what
//! is refused here was certainly not done, and nothing that is in the log can stop apply.

use std::time::Duration;

use super::command::Command;
use super::txn::{Condition, Txn, TxnOp, TxnPart};

/// The longest time that a caller may name: a clock that it is added to must not overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// The shortest and the longest time to live of a lease or a session: shorter, neither could be kept across a failover.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=LONGEST;
/// Most leases that one entry keeps alive: it is applied in one go.
pub(crate) const MAX_KEEP_ALIVES: usize = 1024;

/// The limits of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of a key.
    pub(crate) max_key_bytes: usize,
    /// Bytes of a value.
    pub(crate) max_value_bytes: usize,
}

impl Limits {
    /// Refuses a command that is over a limit or is none that may be proposed.
    ///
    /// # Errors
    /// What is wrong; of a transaction, with the place.
    pub(crate) fn check(&self, command: &Command<'_>) -> Result<(), String> {
        match command {
            Command::Put { key, value, .. } => self.key(key).and_then(|()| self.value(value)),
            Command::Delete { key } => self.key(key),
            Command::DeleteRange { from, to } => {
                self.length("start of a range", from)?;
                self.length("end of a range", to.unwrap_or_default())
            }
            Command::Txn(txn) => self.txn(txn),
            Command::GrantLease { ttl_ms } => ttl("lease", *ttl_ms),
            Command::OpenSession { ttl_ms } => ttl("session", *ttl_ms),
            Command::KeepAlive { leases } if leases.is_empty() || leases.len() > MAX_KEEP_ALIVES => {
                Err(format!("{} leases to keep alive; one entry takes 1 to {MAX_KEEP_ALIVES}", leases.len()))
            }
            Command::KeepAlive { .. } | Command::RevokeLease { .. } | Command::CloseSession { .. } => Ok(()),
            Command::Numbered { command, .. } => self.numbered(command),
        }
    }

    fn numbered(&self, command: &[u8]) -> Result<(), String> {
        match Command::decode(command) {
            Ok(Command::OpenSession { .. } | Command::CloseSession { .. } | Command::Numbered { .. }) => {
                Err("a number is for a write, and not for a session".to_owned())
            }
            Ok(command) => self.check(&command),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn key(&self, key: &[u8]) -> Result<(), String> {
        if key.is_empty() {
            return Err("a key needs at least one byte".to_owned());
        }
        self.length("key", key)
    }

    pub(crate) fn value(&self, value: &[u8]) -> Result<(), String> {
        let limit = self.max_value_bytes;
        if value.len() > limit {
            return Err(format!("a value of {} bytes is over the limit of {limit}", value.len()));
        }
        Ok(())
    }

    /// A key, or a bound of keys, which may be empty.
    pub(crate) fn length(&self, what: &str, key: &[u8]) -> Result<(), String> {
        let limit = self.max_key_bytes;
        if key.len() > limit {
            return Err(format!("a {what} of {} bytes is over the limit of {limit}", key.len()));
        }
        Ok(())
    }

    fn txn(&self, txn: &Txn) -> Result<(), String> {
        txn.check().map_err(|error| error.to_string())?;
        for (place, part) in txn.parts() {
            let (key, value) = match part {
                TxnPart::Compare(compare) => match &compare.condition {
                    Condition::Value(_, value) => (&compare.key, Some(value)),
                    Condition::Exists(_)
                    | Condition::Version(..)
                    | Condition::CreateRevision(..)
                    | Condition::ModRevision(..) => (&compare.key, None),
                },
                TxnPart::Op(TxnOp::Put { key, value, .. }) => (key, Some(value)),
                TxnPart::Op(op) => (op.key(), None),
            };
            let checked = self.key(key).and_then(|()| value.map_or(Ok(()), |value| self.value(value)));
            checked.map_err(|reason| format!("{place}: {reason}"))?;
        }
        Ok(())
    }
}

fn ttl(what: &str, ttl_ms: u64) -> Result<(), String> {
    if TTL.contains(&Duration::from_millis(ttl_ms)) {
        return Ok(());
    }
    let (least, most) = (TTL.start().as_millis(), TTL.end().as_secs());
    Err(format!("a {what} of {ttl_ms} ms; it must live {least} ms to {most} s"))
}

/// Whether a command may use the room that a full disk keeps in reserve: it takes little, and may free some.
pub(crate) fn may_use_reserve(command: &Command<'_>) -> bool {
    match command {
        Command::Put { .. } | Command::Txn(_) => false,
        Command::Delete { .. }
        | Command::DeleteRange { .. }
        | Command::GrantLease { .. }
        | Command::KeepAlive { .. }
        | Command::RevokeLease { .. }
        | Command::OpenSession { .. }
        | Command::CloseSession { .. } => true,
        Command::Numbered { command, .. } => Command::decode(command).is_ok_and(|command| may_use_reserve(&command)),
    }
}

#[cfg(test)]
mod tests {
    use crate::types::{LeaseId, SessionId};

    use super::*;

    const LIMITS: Limits = Limits { max_key_bytes: 4, max_value_bytes: 8 };

    fn numbered(command: &Command<'_>) -> Result<(), String> {
        let command = &command.encode();
        LIMITS.check(&Command::Numbered { session: SessionId(1), number: 1, first_unanswered: 1, command })
    }

    #[test]
    fn limits_refuse_what_is_over_them_also_behind_a_number() {
        let long = [b'k'; 9];
        let wrong = [
            Command::put(b"", b"v"),
            Command::put(&long, b"v"),
            Command::put(b"k", &long),
            Command::Delete { key: &long },
            Command::DeleteRange { from: &long, to: None },
            Command::DeleteRange { from: b"", to: Some(&long) },
            Command::GrantLease { ttl_ms: 499 },
            Command::KeepAlive { leases: Vec::new() },
            Command::KeepAlive { leases: vec![LeaseId(1); MAX_KEEP_ALIVES + 1] },
            Command::OpenSession { ttl_ms: u64::MAX },
        ];
        for command in &wrong {
            assert!(LIMITS.check(command).is_err(), "{command:?}");
            assert!(numbered(command).is_err(), "{command:?}");
        }
        let good = [
            Command::put(b"k", b"v"),
            Command::DeleteRange { from: b"", to: None },
            Command::GrantLease { ttl_ms: 500 },
            Command::RevokeLease { lease: LeaseId(1) },
        ];
        for command in &good {
            assert_eq!((LIMITS.check(command), numbered(command)), (Ok(()), Ok(())), "{command:?}");
        }
    }

    #[test]
    fn limits_of_a_transaction_name_the_place() {
        let mut txn = Txn::put_if_absent("k", "v");
        txn.otherwise = vec![TxnOp::get("k"), TxnOp::put("k", "a long value")];
        let reason = LIMITS.check(&Command::Txn(txn.clone())).unwrap_err();
        assert_eq!(reason, "else[1]: a value of 12 bytes is over the limit of 8");
        assert_eq!(numbered(&Command::Txn(txn)), Err(reason));
    }

    #[test]
    fn limits_let_no_session_and_no_garbage_stand_behind_a_number() {
        assert!(numbered(&Command::OpenSession { ttl_ms: 1_000 }).is_err());
        assert!(numbered(&Command::CloseSession { session: SessionId(3) }).is_err());
        let garbage = Command::Numbered { session: SessionId(1), number: 1, first_unanswered: 1, command: b"\xff\x01" };
        assert!(LIMITS.check(&garbage).is_err(), "it would stop apply on every node");
    }
}
