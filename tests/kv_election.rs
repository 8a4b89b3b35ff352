//! Elections for a service on embedded clusters of three: who leads, what others see of it, and how the next one takes over.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod recipes_support;

use std::time::Duration;

use bytes::Bytes;
use dledger::kv::recipes::{Election, Holder, Leaders, Leadership, Lost};
use dledger::kv::{Kv, KvError};
use dledger::types::Index;

use recipes_support::{AGES, Cluster, SHORT, Tampered, count, until_another_leads, until_count, within};

fn election<K: Kv>(store: &K, ttl: Duration) -> Election<K> {
    Election::new(store, "office").with_ttl(ttl)
}

async fn campaign<K: Kv>(election: &Election<K>, value: &'static str) -> Leadership<K> {
    within(election.campaign(value)).await.unwrap()
}

/// The next that is told, as token and value.
async fn told<K: Kv>(leaders: &mut Leaders<K>) -> Option<(Index, Bytes)> {
    within(leaders.next()).await.unwrap().map(|Holder { token, value, .. }| (token, value))
}

#[tokio::test]
async fn election_observed_from_every_replica_tells_each_leader_and_value_that_stays() {
    let cluster = Cluster::open().await;
    let [one, two, three] = [0, 1, 2].map(|at| election(&cluster.stores[at], AGES));
    let mut observers = [one.observe(), two.observe(), three.observe()];
    for leaders in &mut observers {
        assert_eq!(told(leaders).await, None);
    }
    let first = campaign(&one, "a").await;
    for leaders in &mut observers {
        assert_eq!(told(leaders).await, Some((first.token(), "a".into())));
    }
    first.proclaim("a2").await.unwrap();
    for leaders in &mut observers {
        assert_eq!(told(leaders).await, Some((first.token(), "a2".into())));
    }
    let next = tokio::spawn(async move { campaign(&two, "b").await });
    until_count(&cluster.stores[0], "office/", 2).await;
    assert_eq!(three.leader().await.unwrap().unwrap().token, first.token(), "a candidate changes nothing");
    let token = first.token();
    first.resign().await.unwrap();
    let next = within(next).await.unwrap();
    assert!(next.token() > token && next.is_held());
    for leaders in &mut observers {
        assert_eq!(told(leaders).await, Some((next.token(), "b".into())));
    }
    drop(next);
    for leaders in &mut observers {
        assert_eq!(told(leaders).await, None);
    }
}

#[tokio::test]
async fn election_leader_that_stalls_can_proclaim_nothing_once_another_leads() {
    let cluster = Cluster::open().await;
    let (stalling, gate) = Tampered::new(&cluster.stores[0]);
    let old = campaign(&election(&stalling, SHORT), "old").await;
    gate.send(false).unwrap();
    let new = campaign(&election(&cluster.stores[1], AGES), "new").await;
    assert!(!old.is_held() && new.token() > old.token());
    assert_eq!(within(old.lost()).await, Lost::Unconfirmed);
    gate.send(true).unwrap();
    assert!(matches!(old.proclaim("late").await, Err(KvError::Rejected(_))));
    let leader = election(&cluster.stores[2], SHORT).leader().await.unwrap().unwrap();
    assert_eq!((leader.value, leader.token), (Bytes::from("new"), new.token()));
    assert_eq!(count(&cluster.stores[2], "office/").await, 1);
    assert_eq!(old.resign().await, Err(Lost::Unconfirmed));
}

#[tokio::test]
async fn election_goes_on_when_the_node_of_its_leader_is_lost() {
    let cluster = Cluster::open().await;
    let (leader, [one, two]) = cluster.by_role().await;
    // The one who leads the service happens to lead the cluster as well.
    let old = campaign(&election(&leader, SHORT), "old").await;
    let mut leaders = election(&one, SHORT).observe();
    assert_eq!(told(&mut leaders).await, Some((old.token(), "old".into())));
    let next = tokio::spawn({
        let election = election(&two, AGES);
        async move { campaign(&election, "new").await }
    });
    until_count(&one, "office/", 2).await;
    let id = leader.node().config().id;
    leader.shutdown().await;
    until_another_leads(&one, id).await;
    assert_eq!(within(old.lost()).await, Lost::Stopped);
    assert!(!old.is_held());
    let next = within(next).await.unwrap();
    assert!(next.token() > old.token());
    assert_eq!(told(&mut leaders).await, Some((next.token(), "new".into())));
}

#[tokio::test]
async fn election_candidate_that_waits_too_long_or_goes_away_is_not_elected_later() {
    let cluster = Cluster::open().await;
    let first = campaign(&election(&cluster.stores[0], AGES), "a").await;
    let other = election(&cluster.stores[1], AGES);
    assert!(within(other.campaign_within("b", Duration::from_millis(200))).await.unwrap().is_none());
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.campaign("c").await }
    });
    until_count(&cluster.stores[0], "office/", 2).await;
    waiting.abort();
    until_count(&cluster.stores[0], "office/", 1).await;
    first.resign().await.unwrap();
    assert_eq!(other.leader().await.unwrap(), None);
}
