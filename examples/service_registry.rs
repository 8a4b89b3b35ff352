//! A service registry: instances register under a lease that lives as long as they do, and who needs them watches.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use std::time::Duration;

use dledger::kv::recipes::LiveLease;
use dledger::kv::{EventKind, Kv, WatchOptions};
use dledger::{Consistency, KvStore, Scan};

/// How long an instance stays in the registry after its last sign of life.
const TTL: Duration = Duration::from_secs(1);

/// Registers an instance for as long as the lease lives.
async fn register(store: &KvStore, name: &str, address: &str) -> support::Outcome<LiveLease> {
    let lease = LiveLease::grant(store, TTL).await?;
    store.put_leased(format!("service/{name}"), address.to_owned(), lease.id()).await?;
    Ok(lease)
}

#[tokio::main]
async fn main() -> support::Outcome<()> {
    let replicas = support::Replicas::open().await?;
    let [one, two, three] = &replicas.stores;
    let mut watch = Kv::watch(three, WatchOptions::prefix("service/"));
    watch.begin().await?;

    let first = register(one, "mail/1", "10.0.0.7:25").await?;
    let second = register(two, "mail/2", "10.0.0.8:25").await?;
    let mail = three.scan(Scan::prefix("service/mail/"), Consistency::Linearizable).await?;
    println!("{} instances serve mail", mail.count);

    // One leaves in order; the other loses its process, and is taken out when its lease ends.
    first.revoke().await?;
    two.shutdown().await;
    println!("the second is lost: {}", second.lost().await);

    for _event in 0..4 {
        let changes = watch.next().await?;
        for event in changes.events {
            let name = event.key.escape_ascii();
            match event.kind {
                EventKind::Put { value, .. } => println!("{name} is up at {}", value.escape_ascii()),
                EventKind::Delete => println!("{name} is down"),
            }
        }
    }
    replicas.close().await;
    Ok(())
}
