//! How a node joins a cluster that exists: it asks members whether they have admitted it, until one of them says so.
//!
//! ```text
//!   empty directory ──► asks, again and again ──► admitted: cluster, members ──► data_dir::join ──► a learner, empty log
//!                          ▲      │ not yet, not reached
//!                          └──────┘
//! ```
//! An operator has the leader add the node meanwhile; the leader asks the node itself which life that is (`handle/members.rs`),
//! and only a committed membership that names this life admits it. Until then the node is nobody: it has promised nothing,
//! and nobody counts on it. From the moment its identity names the cluster it is a member, and the log comes by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;

use crate::transport::dial::ask_to_join;
use crate::transport::{Admission, JoinHello};

/// The first pause between two rounds; it doubles up to the longest. An operator waits for the end of it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Asks at the addresses, round by round, and tells what each round has come to, the admission last. False from `tell`:
/// nobody is interested any more.
pub(crate) async fn ask(
    addresses: Vec<String>,
    hello: JoinHello,
    mut tell: impl FnMut(Result<Admission, String>) -> bool,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        // One reason often comes from all.
        let mut reasons = BTreeSet::new();
        for address in &addresses {
            match ask_to_join(address, hello.clone()).await {
                Ok(admission) => {
                    tell(Ok(admission));
                    return;
                }
                Err(error) => drop(reasons.insert(error.to_string())),
            }
        }
        let reasons: Vec<String> = reasons.into_iter().collect();
        if !tell(Err(reasons.join("; "))) {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
