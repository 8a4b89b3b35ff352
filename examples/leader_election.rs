//! Leader election for a service: one replica schedules jobs, all know which, and the next one takes over.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use std::time::Duration;

use dledger::KvStore;
use dledger::kv::recipes::{Election, Lost};

/// How long the service is without a scheduler when one is lost.
const TTL: Duration = Duration::from_secs(1);

/// What each replica of the service runs: waits until it leads, and works until it does not any more.
async fn schedule(store: KvStore, address: &'static str) -> support::Outcome<Lost> {
    let leadership = Election::new(&store, "scheduler").with_ttl(TTL).campaign(address).await?;
    println!("{address} schedules with token {}", leadership.token());
    // The work stands here, in a loop that asks `is_held` and sends the token along; another arm of a `select!` waits for:
    Ok(leadership.lost().await)
}

#[tokio::main]
async fn main() -> support::Outcome<()> {
    let replicas = support::Replicas::open().await?;
    let [one, two, three] = &replicas.stores;
    let mut leaders = Election::new(three, "scheduler").observe();
    assert_eq!(leaders.next().await?, None);

    let first = schedule(one.clone(), "10.0.0.1:80");
    let second = async {
        let leader = leaders.next().await?.ok_or("nobody leads")?;
        println!("all see {} lead", leader.value.escape_ascii());
        // The leader's replica is lost, and the others go on without it.
        let candidate = schedule(two.clone(), "10.0.0.2:80");
        let watch = async {
            one.shutdown().await;
            let next = loop {
                match leaders.next().await? {
                    Some(next) if next.token > leader.token => break next,
                    _ => {}
                }
            };
            println!("all see {} lead", next.value.escape_ascii());
            two.shutdown().await;
            support::Outcome::Ok(())
        };
        tokio::try_join!(candidate, watch)
    };
    let (lost, (lost_too, ())) = tokio::try_join!(first, second)?;
    println!("the first stopped: {lost}; the second: {lost_too}");
    replicas.close().await;
    Ok(())
}
