use crate::error::WriteError;
use crate::server::fake::{Mode, QUEUE_BODY_BYTES};
use crate::server::kinds::MemberStatus;

use super::*;

#[tokio::test(start_paused = true)]
async fn client_finds_the_leader_from_a_follower_and_keeps_one_connection() {
    let (net, [leader, second, third]) = Net::three();
    let client = net.client(&[3]);
    let calls: Vec<_> = (0..50)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.put(key(&format!("k{number}")), key("v")).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(leader.state().proposed.len(), 50);
    assert!(second.state().proposed.is_empty() && third.state().proposed.is_empty());
    assert_eq!(net.dials_to(1), 1);
}

#[tokio::test(start_paused = true)]
async fn client_waits_for_a_leader_within_its_timeout() {
    let (net, [first, second, _third]) = Net::three();
    first.follow(1, None);
    second.follow(1, None);
    let client = net.client(&[1, 2]);
    let put = tokio::spawn(async move { client.put(key("a"), key("v")).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!put.is_finished());
    second.lead(2);
    put.await.unwrap().unwrap();
    assert_eq!(second.state().proposed, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn client_with_a_timeout_longer_than_any_clock_tells_is_served() {
    let (net, [leader, ..]) = Net::three();
    let timeout = Duration::MAX;
    let options = ClientOptions { endpoints: vec![address(1)], timeout, cluster: None };
    let client = Client::with_dialer(options, Box::new(net.clone())).unwrap().unnumbered();
    client.put(key("a"), key("v")).await.unwrap();
    assert_eq!(leader.state().proposed, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn client_without_a_leader_is_unavailable_at_its_timeout() {
    let (net, stores) = Net::three();
    stores.iter().for_each(|store| store.follow(1, None));
    let started = Instant::now();
    let error = net.client(&[1, 2, 3]).put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable(text) if text.contains("node:2")), "{error:?}");
    assert!(started.elapsed() > Duration::from_secs(4) && started.elapsed() <= Duration::from_secs(5));
    assert!(stores.iter().all(|store| store.state().proposed.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn client_with_an_endless_timeout_reads_and_writes() {
    let (net, _stores) = Net::three_of_one_log();
    let options = ClientOptions { endpoints: vec![address(1)], timeout: Duration::MAX, cluster: None };
    let client = Client::with_dialer(options, Box::new(net.clone())).unwrap();
    let revision = client.put(key("a"), key("v")).await.unwrap();
    let item = client.get(key("a"), Consistency::Linearizable).await.unwrap().unwrap();
    assert_eq!(item.mod_revision, revision);
}

#[tokio::test(start_paused = true)]
async fn client_write_on_a_broken_connection_is_unknown_at_once_and_not_repeated() {
    let (net, [leader, ..]) = Net::three();
    leader.state().writes = Mode::Hold;
    let client = net.client(&[1]);
    let put = tokio::spawn({
        let client = client.clone();
        async move { client.put(key("a"), key("v")).await }
    });
    settle().await;
    assert_eq!(leader.state().proposed, ["a"]);
    let broken = Instant::now();
    net.cut(1).await;
    let error = put.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
    assert_eq!(broken.elapsed(), Duration::ZERO);
    leader.state().writes = Mode::Serve;
    client.put(key("b"), key("v")).await.unwrap();
    assert_eq!(leader.state().proposed, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn client_write_without_an_answer_is_unknown_at_its_timeout() {
    let (net, [leader, ..]) = Net::three();
    leader.state().writes = Mode::Hold;
    let error = net.client(&[1]).put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
    let wait = leader.state().waits[0];
    assert!(wait < Duration::from_secs(5) && wait > Duration::from_secs(4), "the node must be able to answer first");
}

#[tokio::test(start_paused = true)]
async fn client_write_that_was_not_proposed_moves_to_the_new_leader() {
    let (net, [first, second, _third]) = Net::three();
    let client = net.client(&[1, 2]);
    client.put(key("a"), key("v")).await.unwrap();
    first.follow(2, None);
    first.state().writes = Mode::Fail(WriteError::Unavailable("no leader".to_owned()));
    let put = tokio::spawn(async move { client.put(key("b"), key("v")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    second.lead(2);
    put.await.unwrap().unwrap();
    assert_eq!(second.state().proposed, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn client_repeats_a_write_that_no_connection_took() {
    let (net, [leader, ..]) = Net::three();
    net.reach(1, Reach::Refused);
    let client = net.client(&[1]);
    let put = tokio::spawn(async move { client.put(key("a"), key("v")).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    net.reach(1, Reach::Open);
    put.await.unwrap().unwrap();
    assert_eq!(leader.state().proposed, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn client_write_to_a_stopped_node_is_unknown() {
    let (net, [leader, ..]) = Net::three();
    leader.state().writes = Mode::Fail(WriteError::Stopped("asked to".to_owned()));
    let error = net.client(&[1]).put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown(_)), "{error:?}");
    assert_eq!(leader.state().proposed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn client_repeats_an_overloaded_write_until_its_timeout() {
    let (net, [leader, ..]) = Net::three();
    leader.state().writes = Mode::Fail(WriteError::Overloaded("queue is full".to_owned()));
    let client = net.client(&[1]);
    let error = client.put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(text) if text.contains("queue is full")), "{error:?}");
    let put = tokio::spawn(async move { client.put(key("a"), key("v")).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    leader.state().writes = Mode::Serve;
    put.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn client_refusals_end_at_once() {
    let (net, [leader, ..]) = Net::three();
    let client = net.client(&[1]);
    leader.state().writes = Mode::Fail(WriteError::TooLarge("the key is too long".to_owned()));
    let error = client.put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error:?}");
    leader.state().writes = Mode::Fail(WriteError::DiskFull(NodeId(1)));
    let error = client.delete(key("a")).await.unwrap_err();
    assert!(matches!(&error, ClientError::DiskFull(text) if text.contains("node 1")), "{error:?}");
    assert_eq!(leader.state().proposed.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn client_request_beyond_the_nodes_frame_limit_is_refused_and_not_sent() {
    let (net, [leader, ..]) = Net::three();
    let client = net.client(&[1]);
    let error = client.put(key("a"), Bytes::from(vec![0; QUEUE_BODY_BYTES])).await.unwrap_err();
    let limit = QUEUE_BODY_BYTES.to_string();
    assert!(matches!(&error, ClientError::Refused(text) if text.contains(&limit)), "{error:?}");
    client.put(key("b"), key("v")).await.unwrap();
    assert_eq!(leader.state().proposed, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn client_of_a_full_node_waits_for_a_place() {
    let (net, [leader, ..]) = Net::three();
    let places: Vec<_> = (0..16).map(|_place| net.hosts()[&address(1)].registry.admit(0).unwrap()).collect();
    let client = net.client(&[1]);
    let error = client.put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable(text) if text.contains("open already")), "{error:?}");
    drop(places);
    client.put(key("b"), key("v")).await.unwrap();
    assert_eq!(leader.state().proposed, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn client_with_another_cluster_in_mind_is_told_at_once() {
    let (net, [leader, ..]) = Net::three();
    let client = net.client_of(&[1, 2], Some(ClusterId(9)));
    let started = Instant::now();
    let error = client.put(key("a"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongCluster(_)), "{error:?}");
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(leader.state().proposed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn client_never_mixes_two_clusters() {
    let (net, [leader, second, _third]) = Net::three();
    let client = net.client(&[1, 2]);
    client.put(key("a"), key("v")).await.unwrap();
    net.hosts().get_mut(&address(2)).unwrap().cluster = 2;
    second.lead(5);
    leader.follow(1, None);
    net.cut(1).await;
    let error = client.put(key("b"), key("v")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    assert!(second.state().proposed.is_empty());
}

// After a recovery from one survivor the majority of before may come back, with a leader of a higher term.
#[tokio::test(start_paused = true)]
async fn client_that_has_met_a_recovered_cluster_goes_back_to_no_node_of_before() {
    let (net, [first, second, third]) = Net::three();
    let client = net.client(&[1, 2, 3]);
    client.put(key("a"), key("v")).await.unwrap();
    net.hosts().get_mut(&address(3)).unwrap().epoch = Epoch::FIRST.after(7);
    third.lead(1);
    third.state().status.members = vec![MemberStatus::voter(NodeId(3), address(3))];
    first.follow(9, None);
    net.cut(1).await;
    client.put(key("b"), key("v")).await.unwrap();
    second.lead(9);
    net.cut(3).await;
    client.put(key("c"), key("v")).await.unwrap();
    assert_eq!((third.state().proposed.len(), second.state().proposed.len()), (2, 0));
    net.reach(3, Reach::Refused);
    net.cut(3).await;
    let error = client.put(key("d"), key("v")).await.unwrap_err().to_string();
    assert!(error.contains("recovered (epoch 2) without this node, which is of epoch 1"), "{error}");
    let status = client.status().await.unwrap();
    assert_eq!(
        status.nodes.iter().filter(|(_id, _address, said)| said.is_ok()).count(),
        2,
        "they still say how they are"
    );
    assert!(second.state().proposed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn client_believes_no_leader_of_an_earlier_term() {
    let (net, [first, second, _third]) = Net::three();
    second.lead(2);
    let client = net.client(&[2]);
    client.put(key("a"), key("v")).await.unwrap();
    second.follow(2, None);
    net.cut(2).await;
    client.put(key("b"), key("v")).await.unwrap_err();
    assert!(first.state().proposed.is_empty(), "node 1 still claims to lead in term 1");
}

#[tokio::test(start_paused = true)]
async fn client_that_cannot_reach_the_leader_writes_through_a_follower_after_a_while() {
    let (net, [_leader, second, _third]) = Net::three();
    net.reach(1, Reach::Refused);
    let started = Instant::now();
    let client = net.client(&[2]);
    client.put(key("a"), key("v")).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(900), "not in the moments of a failover");
    assert_eq!(second.state().proposed.len(), 1);
    let started = Instant::now();
    client.put(key("b"), key("v")).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn client_options_that_cannot_work_are_refused() {
    let options = |endpoint: &[&str]| ClientOptions {
        endpoints: endpoint.iter().map(ToString::to_string).collect(),
        timeout: Duration::from_secs(1),
        cluster: None,
    };
    for wrong in [&[][..], &["host"], &[":1"], &["host:"], &["host:port"], &["host:70000"]] {
        let error = Client::new(options(wrong)).unwrap_err();
        assert!(matches!(error, ClientError::Usage(_)), "{wrong:?}: {error:?}");
    }
    Client::new(options(&["[::1]:7101", "host:1"])).unwrap();
}
