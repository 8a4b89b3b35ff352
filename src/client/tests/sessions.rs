use crate::error::{Rejection, WriteError};
use crate::kv::command::Command;
use crate::kv::sessions::{MAX_SESSIONS, MAX_UNANSWERED};
use crate::kv::{OpResult, Txn};
use crate::server::fake::Mode;
use crate::types::LeaseId;

use super::*;

/// Longer than a session lives without a write.
const LONG: Duration = Duration::from_secs(601);

/// A client whose session is open, on nodes of one log.
async fn begun() -> (Net, [FakeStore; 3], Client) {
    let (net, stores) = Net::three_of_one_log();
    let client = net.numbered_client(&[1, 2], None);
    client.put(key("begun"), key("v")).await.unwrap();
    (net, stores, client)
}

/// How many were opened and closed.
fn sessions(store: &FakeStore) -> (usize, usize) {
    let state = store.state();
    (state.opened, state.closed)
}

fn add(client: &Client) -> JoinHandle<Result<OpResult, ClientError>> {
    let client = client.clone();
    tokio::spawn(async move { client.transact(Txn::add("n", 1)).await.map(|done| done.results[0].clone()) })
}

#[tokio::test(start_paused = true)]
async fn session_write_whose_answer_is_lost_is_done_once_and_has_the_first_answer() {
    let (_net, [leader, ..], client) = begun().await;
    leader.state().writes = Mode::Lose;
    let put = tokio::spawn({
        let client = client.clone();
        async move { client.put(key("a"), key("v")).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(leader.state().proposed.len() > 2, "it is sent again");
    leader.state().writes = Mode::Serve;
    assert_eq!(put.await.unwrap().unwrap(), Index(3), "the entry that did it, and not the last one");
    let item = client.get(key("a"), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!((item.version, item.mod_revision), (1, Index(3)));
}

#[tokio::test(start_paused = true)]
async fn session_write_on_a_lost_leader_is_done_once_by_the_next() {
    let (net, [first, second, _third], client) = begun().await;
    first.state().writes = Mode::Lose;
    let sum = add(&client);
    settle().await;
    assert_eq!(first.content()[&key("n")], key("1"));
    net.reach(1, Reach::Refused);
    net.cut(1).await;
    second.lead(2);
    assert_eq!(sum.await.unwrap().unwrap(), OpResult::Sum(1));
    assert_eq!(second.state().proposed, ["n"]);
    assert_eq!(add(&client).await.unwrap().unwrap(), OpResult::Sum(2));
}

#[tokio::test(start_paused = true)]
async fn session_write_to_a_leader_that_hangs_moves_on_within_its_timeout() {
    let (_net, [first, second, _third], client) = begun().await;
    first.state().writes = Mode::Hold;
    let sum = add(&client);
    settle().await;
    second.lead(2);
    first.follow(2, None);
    assert_eq!(sum.await.unwrap().unwrap(), OpResult::Sum(1));
    first.release();
    settle().await;
    assert_eq!(second.content()[&key("n")], key("1"), "the copy that hung was one of a number that is done");
}

#[tokio::test(start_paused = true)]
async fn session_write_is_unknown_when_its_time_is_up_and_its_copies_die_with_the_next_write() {
    let (_net, [leader, ..], client) = begun().await;
    leader.state().writes = Mode::Hold;
    let started = Instant::now();
    let error = client.put(key("stray"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
    assert!(started.elapsed() >= Duration::from_millis(4900));
    leader.state().writes = Mode::Serve;
    client.put(key("b"), key("v")).await.unwrap();
    leader.release();
    settle().await;
    assert!(leader.content().contains_key(&key("b")) && !leader.content().contains_key(&key("stray")));
}

#[tokio::test(start_paused = true)]
async fn session_write_whose_future_is_dropped_is_never_done_later_nor_its_number_used_again() {
    let (_net, [leader, ..], client) = begun().await;
    leader.state().writes = Mode::Hold;
    let dropped = tokio::time::timeout(Duration::from_millis(50), client.put(key("stray"), key("v"))).await;
    assert!(dropped.is_err() && leader.state().proposed.contains(&"stray".to_owned()));
    leader.state().writes = Mode::Serve;
    client.put(key("b"), key("v")).await.unwrap();
    leader.release();
    settle().await;
    assert_eq!(leader.content().keys().collect::<Vec<_>>(), ["b", "begun"]);
}

#[tokio::test(start_paused = true)]
async fn session_that_expired_is_replaced_when_nothing_of_the_write_was_taken() {
    let (_net, [leader, ..], client) = begun().await;
    leader.pass(LONG);
    client.put(key("a"), key("v")).await.unwrap();
    assert_eq!((leader.state().opened, leader.content().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn session_that_ended_under_a_write_in_doubt_leaves_it_unknown_and_done_once() {
    let (_net, [leader, ..], client) = begun().await;
    leader.state().writes = Mode::Lose;
    let sum = add(&client);
    settle().await;
    leader.pass(LONG);
    leader.state().writes = Mode::Serve;
    let error = sum.await.unwrap().unwrap_err();
    assert!(matches!(&error, ClientError::Unknown(text) if text.contains("session has ended")), "{error:?}");
    assert_eq!(leader.content()[&key("n")], key("1"));
    assert_eq!(add(&client).await.unwrap().unwrap(), OpResult::Sum(2), "under another session");
}

#[tokio::test(start_paused = true)]
async fn session_that_others_expelled_is_replaced() {
    let (_net, [leader, ..], client) = begun().await;
    for _other in 0..MAX_SESSIONS {
        leader.apply(&Command::OpenSession { ttl_ms: 10_000_000 });
    }
    client.put(key("a"), key("v")).await.unwrap();
    assert_eq!((leader.state().opened, leader.content().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn session_of_another_history_numbers_nothing() {
    let (net, [first, _second, third], client) = begun().await;
    first.state().writes = Mode::Lose;
    let sum = add(&client);
    settle().await;
    net.hosts().get_mut(&address(2)).unwrap().reach = Reach::Refused;
    net.hosts().get_mut(&address(3)).unwrap().epoch = Epoch::FIRST.after(7);
    third.state().status.members = vec![MemberStatus::voter(NodeId(3), address(3))];
    third.lead(9);
    first.follow(2, Some((3, &address(3))));
    first.state().writes = Mode::Fail(WriteError::Unavailable("no leader".to_owned()));
    let error = sum.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
    assert_eq!(third.state().proposed.len(), 0, "its number may be somebody else's there");
    assert_eq!(add(&client).await.unwrap().unwrap(), OpResult::Sum(2));
    assert_eq!(third.state().opened, 1);
}

#[tokio::test(start_paused = true)]
async fn session_serves_many_callers_and_keeps_its_window() {
    let (_net, [leader, ..], client) = begun().await;
    leader.state().writes = Mode::Hold;
    let first = add(&client);
    settle().await;
    leader.state().writes = Mode::Serve;
    let others: Vec<_> = (0..2 * MAX_UNANSWERED)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.put(key(&format!("k{number}")), key("v")).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    settle().await;
    let done = others.iter().filter(|other| other.is_finished()).count();
    assert_eq!(done, MAX_UNANSWERED - 1, "the first is still waited for");
    leader.release();
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(first.await.unwrap().unwrap(), OpResult::Sum(1));
    assert_eq!(leader.state().opened, 1);
}

#[tokio::test(start_paused = true)]
async fn session_is_opened_by_the_first_write_and_ended_with_the_last_handle() {
    let (net, [leader, ..]) = Net::three_of_one_log();
    let client = net.numbered_client(&[1], None);
    client.get(key("a"), Consistency::Linearizable).await.unwrap();
    client.unnumbered().put(key("a"), key("v")).await.unwrap();
    assert_eq!(leader.state().opened, 0);
    client.put(key("a"), key("v")).await.unwrap();
    client.close().await;
    assert_eq!(sessions(&leader), (1, 1));
    client.clone().put(key("a"), key("v")).await.unwrap();
    drop(client);
    settle().await;
    assert_eq!(sessions(&leader), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn session_whose_opening_is_lost_is_opened_again_and_the_write_is_never_unknown() {
    let (net, [leader, ..]) = Net::three_of_one_log();
    let client = net.numbered_client(&[1], None);
    leader.state().writes = Mode::Lose;
    let error = client.put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    assert!(leader.content().is_empty() && leader.state().opened > 1);
    leader.state().writes = Mode::Serve;
    client.put(key("a"), key("v")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn session_refusal_of_a_copy_does_not_hide_that_another_was_lost() {
    let (_net, [leader, ..], client) = begun().await;
    leader.state().writes = Mode::Lose;
    let sum = add(&client);
    settle().await;
    leader.state().writes = Mode::Fail(WriteError::DiskFull(NodeId(1)));
    let error = sum.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "it was done: {error:?}");
    let error = add(&client).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::DiskFull(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn session_leases_and_rejections_come_back_as_they_are() {
    let (_net, [leader, ..], client) = begun().await;
    let lease = client.grant_lease(Duration::from_secs(10)).await.unwrap();
    let others = [client.grant_lease(LONG).await.unwrap(), client.grant_lease(LONG).await.unwrap()];
    client.put_leased(key("a"), key("v"), lease).await.unwrap();
    assert_eq!(client.keep_alive(lease).await.unwrap(), Duration::from_secs(10));
    let ids: Vec<LeaseId> = client.leases().await.unwrap().iter().map(|status| status.lease).collect();
    assert_eq!(ids, [lease, others[0], others[1]], "in pages of two");
    assert_eq!(client.revoke_lease(lease).await.unwrap().count, 1);
    let gone = ClientError::Rejected(Rejection::NoLease(lease));
    assert_eq!(client.keep_alive(lease).await.unwrap_err(), gone);
    assert_eq!(client.put_leased(key("a"), key("v"), lease).await.unwrap_err(), gone);
    client.put(key("word"), key("x")).await.unwrap();
    let error = client.transact(Txn::add("word", 1)).await.unwrap_err();
    assert_eq!(error, ClientError::Rejected(Rejection::NotANumber(key("word"))));
    assert!(!leader.content().contains_key(&key("a")));
}

#[tokio::test(start_paused = true)]
async fn session_needs_no_number_to_keep_a_lease_alive_again() {
    let (_net, [leader, ..], client) = begun().await;
    let lease = client.grant_lease(LONG).await.unwrap();
    leader.state().writes = Mode::Lose;
    let kept = tokio::spawn({
        let client = client.clone();
        async move { client.keep_alive(lease).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    leader.state().writes = Mode::Serve;
    assert_eq!(kept.await.unwrap().unwrap(), LONG);
    leader.state().writes = Mode::Lose;
    assert!(matches!(client.keep_alive(lease).await.unwrap_err(), ClientError::Unknown(_)));
}
