//! A lock with a fencing token: why the lock alone is not enough, and what the token adds.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use std::time::Duration;

use dledger::kv::recipes::Lock;
use dledger::kv::{Txn, TxnOp};
use dledger::types::Index;

/// What the lock protects, such as a file server. It refuses a lower token than it has seen.
#[derive(Default)]
struct Storage {
    highest: Index,
    content: String,
}

impl Storage {
    fn write(&mut self, token: Index, content: &str) -> Result<(), String> {
        if token < self.highest {
            return Err(format!("token {token} is fenced off by {}", self.highest));
        }
        self.highest = token;
        self.content = content.to_owned();
        Ok(())
    }
}

#[tokio::main]
async fn main() -> support::Outcome<()> {
    let replicas = support::Replicas::open().await?;
    let [one, two, three] = &replicas.stores;
    let mut storage = Storage::default();

    // The first holder's replica is lost while it works: nothing keeps its lock alive any more.
    let first = Lock::new(one, "report").with_ttl(Duration::from_secs(1)).acquire().await?;
    storage.write(first.token(), "begun by the first")?;
    one.shutdown().await;

    let second = Lock::new(two, "report").with_label("the second").acquire().await?; // once the lease has ended
    assert!(!first.is_held() && second.token() > first.token());
    storage.write(second.token(), "done by the second")?;
    println!("the lock went from token {} to {}", first.token(), second.token());

    // The first did not look, and writes on. Without the token it would undo what the second did.
    let refused = storage.write(first.token(), "done by the first");
    println!("the storage says: {}", refused.err().ok_or("an old holder wrote")?);
    assert_eq!(storage.content, "done by the second");

    // Where the store itself holds what is protected, a transaction compares the token.
    for (who, guard) in [("first", &first), ("second", &second)] {
        let write = TxnOp::put("report", format!("done by the {who}"));
        let txn = Txn { compare: vec![guard.condition()], then: vec![write], ..Txn::default() };
        println!("the {who} writes to the store: {}", three.transact(txn).await?.succeeded);
    }
    second.release().await?;
    replicas.close().await;
    Ok(())
}
