//! Three services, each with a replica of the store inside: open with a config, put, get. Nothing else runs.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
use dledger::{Config, KvStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = "1=127.0.0.1:7201,2=127.0.0.1:7202,3=127.0.0.1:7203";
    let directory = tempfile::tempdir()?;
    let open = async |id: u64| KvStore::open(Config::member(id, cluster, directory.path().join(id.to_string()))?).await;
    let (one, two, three) = tokio::try_join!(open(1), open(2), open(3))?;

    let revision = one.put("service/mail", "10.0.0.7:25").await?;
    let found = two.get("service/mail").await?.ok_or("not found")?;
    assert_eq!((found.value.as_ref(), found.mod_revision), (b"10.0.0.7:25".as_ref(), revision));
    println!("service/mail is {:?} at revision {revision}", found.value);

    three.delete("service/mail").await?;
    assert_eq!(one.get("service/mail").await?, None);
    for replica in [one, two, three] {
        replica.shutdown().await;
    }
    Ok(())
}
