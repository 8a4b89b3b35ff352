//! The bare log: three replicas, appends through any of them, reads in order, a handler for role changes.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
use bytes::Bytes;
use dledger::ledger::{Ledger, is_appended};
use dledger::{Config, types::Index};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = "1=127.0.0.1:7211,2=127.0.0.1:7212,3=127.0.0.1:7213";
    let directory = tempfile::tempdir()?;
    let open = async |id: u64| Ledger::open(Config::member(id, cluster, directory.path().join(id.to_string()))?).await;
    let (one, two, three) = tokio::try_join!(open(1), open(2), open(3))?;
    one.on_role_change(|change| println!("node 1 is {} in term {}", change.role, change.term));

    let first = two.append("created").await?;
    let batch = three.append_batch(vec![Bytes::from("paid"), Bytes::from("shipped")]).await?;
    println!("`created` stands at {}, the next two at {:?}", first.position, batch.entries);
    batch.committed().await?;

    one.append("delivered").await?; // resolves once this replica has it, and so everything before
    assert_eq!(one.get(first.id.index).await?.payload, "created");
    let entries = one.read(Index(1), 1 << 20).await?;
    let messages: Vec<&Bytes> = entries.iter().filter(|entry| is_appended(entry)).map(|entry| &entry.payload).collect();
    assert_eq!(messages, ["created", "paid", "shipped", "delivered"]);
    for replica in [one, two, three] {
        replica.shutdown().await;
    }
    Ok(())
}
