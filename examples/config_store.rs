//! A configuration store: values of a type of yours, which every replica reads, changes and hears changes of.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use dledger::kv::Typed;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mail {
    server: String,
    retries: u32,
}

#[tokio::main]
async fn main() -> support::Outcome<()> {
    let replicas = support::Replicas::open().await?;
    let [one, two, three] = &replicas.stores;

    let config = Typed::<_, Mail>::new(one, "config/");
    let default = Mail { server: "10.0.0.7:25".to_owned(), retries: 3 };
    config.put("mail", &default).await?;

    // A replica that starts reads what there is, and then follows what becomes of it: nothing falls in between.
    let follower = Typed::<_, Mail>::new(two, "config/");
    let listing = follower.list().await?;
    println!("at the start: {:?}", listing.entries);
    let mut changes = follower.watch_after(listing.revision);

    // Two change a field each at the same time, and neither undoes what the other did.
    let admin = Typed::<_, Mail>::new(three, "config/");
    let (server, retries) = tokio::join!(
        config.update("mail", |old| Mail { server: "10.0.0.8:25".to_owned(), ..old.unwrap_or(default.clone()) }),
        admin.update("mail", |old| Mail { retries: 5, ..old.unwrap_or(default.clone()) }),
    );
    for entry in [server?, retries?] {
        println!("written at revision {}: {:?}", entry.revision, entry.value);
    }
    for _change in 0..2 {
        let change = changes.next().await?;
        println!("heard of revision {}: {:?}", change.revision, change.events);
    }
    let now = follower.get("mail").await?.ok_or("it is gone")?;
    assert_eq!(now.value, Mail { server: "10.0.0.8:25".to_owned(), retries: 5 });

    // Whoever has an old version in hand does not overwrite a new one.
    assert_eq!(admin.put_if_revision("mail", &default, listing.revision).await?, None);
    println!("an old version was not put back");
    replicas.close().await;
    Ok(())
}
