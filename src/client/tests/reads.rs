use crate::error::WriteError;
use crate::kv::Deleted;
use crate::server::fake::Mode;

use super::*;

#[tokio::test(start_paused = true)]
async fn client_read_on_a_broken_connection_is_repeated() {
    let (net, [leader, ..]) = Net::three();
    leader.state().reads = Mode::Hold;
    let client = net.client(&[1]);
    let get = tokio::spawn(async move { client.get(key("a"), Consistency::Linearizable).await });
    settle().await;
    assert_eq!(leader.state().read_rounds, 1);
    leader.state().reads = Mode::Serve;
    net.cut(1).await;
    assert_eq!(get.await.unwrap().unwrap(), None);
    assert_eq!(leader.state().read_rounds, 2);
}

#[tokio::test(start_paused = true)]
async fn client_read_gives_a_hanging_leader_up_for_the_new_one() {
    let (net, [first, second, _third]) = Net::three();
    let client = net.client(&[1, 2]);
    client.put(key("a"), key("v")).await.unwrap();
    first.state().reads = Mode::Hold;
    net.reach(1, Reach::Silent);
    second.lead(2);
    assert_eq!(client.get(key("a"), Consistency::Linearizable).await.unwrap(), None);
    assert_eq!(second.state().read_rounds, 1);
}

#[tokio::test(start_paused = true)]
async fn client_read_without_a_leader_is_unavailable_and_never_unknown() {
    let (net, [leader, ..]) = Net::three();
    leader.state().reads = Mode::Fail(WriteError::Unavailable("no quorum".to_owned()));
    let client = net.client(&[1]);
    let error = client.get(key("a"), Consistency::Linearizable).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    leader.state().reads = Mode::Hold;
    let error = client.scan(Scan::default(), Consistency::Linearizable).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn client_stale_read_needs_no_leader_and_goes_to_the_first_endpoint_in_reach() {
    let (net, [first, second, third]) = Net::three();
    third.put_directly("a", "third");
    [&first, &second, &third].into_iter().for_each(|store| store.follow(1, None));
    net.reach(2, Reach::Refused);
    let client = net.client(&[2, 3, 1]);
    let item = client.get(key("a"), Consistency::Stale).await.unwrap().unwrap();
    assert_eq!(item.value, key("third"));
    let page = client.scan(Scan::default(), Consistency::Stale).await.unwrap();
    assert_eq!(page.items, [item]);
    assert_eq!((net.dials_to(3), net.dials_to(1)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn client_stale_read_on_a_lost_connection_connects_again() {
    let (net, [first, ..]) = Net::three();
    first.put_directly("a", "v");
    let client = net.client(&[1]);
    client.get(key("a"), Consistency::Stale).await.unwrap().unwrap();
    net.cut(1).await;
    client.get(key("a"), Consistency::Stale).await.unwrap().unwrap();
    assert_eq!(net.dials_to(1), 2);
}

#[tokio::test(start_paused = true)]
async fn client_values_and_counts_arrive_as_they_are() {
    let (net, _stores) = Net::three();
    let client = net.client(&[1]);
    assert_eq!(client.put(key("a"), key("1")).await.unwrap(), Index(1));
    let batch = vec![(key("b"), Bytes::new()), (key("a"), key("2"))];
    assert_eq!(client.put_batch(batch).await.unwrap(), Index(3));
    let item = client.get(key("a"), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!((item.value, item.create_revision, item.mod_revision, item.version), (key("2"), Index(1), Index(3), 2));
    let scan = Scan { max_bytes: 1, ..Scan::default() };
    let page = client.scan(scan, Consistency::Linearizable).await.unwrap();
    assert_eq!((page.items.len(), page.next), (1, Some(key("b"))));
    assert_eq!(client.delete(key("a")).await.unwrap(), Deleted { count: 1, revision: Index(4) });
    assert_eq!(client.delete_prefix(Bytes::new()).await.unwrap(), Deleted { count: 1, revision: Index(5) });
}

#[tokio::test(start_paused = true)]
async fn client_status_lists_every_member_and_who_does_not_answer() {
    let (net, _stores) = Net::three();
    net.reach(2, Reach::Refused);
    net.reach(3, Reach::Silent);
    let started = Instant::now();
    let status = net.client(&[1]).status().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(status.cluster_id, Some(ClusterId(1)));
    let rows: Vec<_> =
        status.nodes.iter().map(|(id, address, answer)| (id.get(), &**address, answer.is_ok())).collect();
    assert_eq!(rows, [(1, "node:1", true), (2, "node:2", false), (3, "node:3", false)]);
    assert_eq!(status.nodes[1].2.as_ref().unwrap_err(), "connection refused");
}

#[tokio::test(start_paused = true)]
async fn client_status_that_nobody_answers_is_unavailable() {
    let (net, _stores) = Net::three();
    [1, 2, 3].into_iter().for_each(|id| net.reach(id, Reach::Refused));
    let error = net.client(&[1, 2]).status().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable(text) if text.contains("node:2")), "{error:?}");
}
