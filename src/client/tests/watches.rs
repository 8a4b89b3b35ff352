use crate::kv::{Changes, Event, EventKind, WatchError, WatchOptions};
use crate::server::kinds::WatchPage;

use super::*;

/// One change at this revision, and where to go on.
fn page(revision: u64) -> WatchPage {
    let event = Event { key: key("k"), kind: EventKind::Delete, previous: None };
    let changes = Changes { revision: Index(revision), events: vec![event] };
    WatchPage { changes: vec![changes], next: Index(revision + 1) }
}

#[tokio::test(start_paused = true)]
async fn watch_begins_behind_all_that_was_acknowledged_and_is_told_what_comes() {
    let (net, [leader, ..]) = Net::three_of_one_log();
    let client = net.client(&[1]);
    client.put(key("a"), key("v")).await.unwrap();
    let mut watch = client.watch(WatchOptions::key("k"));
    assert_eq!(watch.begin().await.unwrap(), Index(2));
    let told = tokio::spawn(async move { watch.next().await });
    settle().await;
    assert!(!told.is_finished());
    leader.tell(Ok(page(5)));
    assert_eq!(told.await.unwrap().unwrap().revision, Index(5));
    assert_eq!(leader.state().watched, [Index(2)]);
}

#[tokio::test(start_paused = true)]
async fn watch_on_a_lost_node_goes_on_at_another_from_the_same_revision() {
    let (net, [first, second, _third]) = Net::three_of_one_log();
    let client = net.client(&[1, 2]);
    let mut watch = client.watch(WatchOptions::key("k").from_revision(Index(3)));
    first.tell(Ok(page(4)));
    assert_eq!(watch.next().await.unwrap().revision, Index(4));
    let told = tokio::spawn(async move { watch.next().await.map(|changes| (changes.revision, watch)) });
    settle().await;
    net.cut(1).await;
    second.tell(Ok(page(8)));
    let (revision, _watch) = told.await.unwrap().unwrap();
    assert_eq!(revision, Index(8));
    assert_eq!((&first.state().watched[..], &second.state().watched[..]), (&[Index(3), Index(5)][..], &[Index(5)][..]));
}

#[tokio::test(start_paused = true)]
async fn watch_at_a_node_that_is_cut_off_moves_to_one_that_is_not() {
    let (net, [first, second, _third]) = Net::three_of_one_log();
    let client = net.client(&[1, 2]);
    let mut watch = client.watch(WatchOptions::key("k").from_revision(Index(3)));
    first.follow(1, None);
    second.tell(Ok(page(8)));
    assert_eq!(watch.next().await.unwrap().revision, Index(8));
    assert_eq!(first.state().watched, [Index(3)]);
}

#[tokio::test(start_paused = true)]
async fn watch_that_hears_nothing_asks_again_where_it_was_and_keeps_its_connection() {
    let (net, [leader, ..]) = Net::three_of_one_log();
    let client = net.client(&[1]);
    let mut watch = client.watch(WatchOptions::key("k").from_revision(Index(3)));
    leader.tell(Ok(WatchPage { changes: Vec::new(), next: Index(30) }));
    let quiet = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
    assert!(quiet.is_err());
    let watched = leader.state().watched.clone();
    assert!(watched[..2] == [Index(3), Index(30)] && watched.len() > 3, "{watched:?}");
    assert!(watched[1..].iter().all(|from| *from == Index(30)));
    assert_eq!(net.dials_to(1), 1);
}

#[tokio::test(start_paused = true)]
async fn watch_whose_history_is_gone_is_told_so() {
    let (net, [leader, ..]) = Net::three_of_one_log();
    let client = net.client(&[1]);
    let mut watch = client.watch(WatchOptions::key("k").from_revision(Index(3)));
    leader.tell(Err(WatchError::Compacted { oldest: Index(70) }));
    assert_eq!(watch.next().await.unwrap_err(), WatchError::Compacted { oldest: Index(70) });
}

// Other entries may have the revisions that were told.
#[tokio::test(start_paused = true)]
async fn watch_of_a_history_that_was_given_up_ends() {
    let (net, [first, _second, third]) = Net::three_of_one_log();
    third.put_directly("a", "v");
    let client = net.client(&[1, 3]);
    let mut watch = client.watch(WatchOptions::key("k").from_revision(Index(3)));
    first.tell(Ok(page(4)));
    watch.next().await.unwrap();
    net.hosts().get_mut(&address(3)).unwrap().epoch = Epoch::FIRST.after(7);
    third.state().status.members = vec![MemberStatus::voter(NodeId(3), address(3))];
    third.lead(9);
    net.reach(1, Reach::Refused);
    net.cut(1).await;
    assert_eq!(watch.next().await.unwrap_err(), WatchError::Compacted { oldest: Index(2) });
}

#[tokio::test(start_paused = true)]
async fn watch_that_no_node_serves_is_unavailable_and_goes_on_when_asked_again() {
    let (net, [leader, ..]) = Net::three_of_one_log();
    let client = net.client(&[1]);
    let mut watch = client.watch(WatchOptions::key("k").from_revision(Index(3)));
    net.reach(1, Reach::Refused);
    assert!(matches!(watch.next().await.unwrap_err(), WatchError::Unavailable(_)));
    net.reach(1, Reach::Open);
    leader.tell(Ok(page(4)));
    assert_eq!(watch.next().await.unwrap().revision, Index(4));
}

#[tokio::test(start_paused = true)]
async fn watch_that_began_at_a_node_before_it_was_formed_goes_on_once_it_is() {
    let (net, [first, ..]) = Net::three_of_one_log();
    let client = net.client(&[1]);
    net.hosts().get_mut(&address(1)).unwrap().epoch = Epoch::NONE;
    let mut watch = client.watch(WatchOptions::key("k").from_revision(Index(1)));
    first.tell(Ok(page(4)));
    assert_eq!(watch.next().await.unwrap().revision, Index(4));
    net.hosts().get_mut(&address(1)).unwrap().epoch = Epoch::FIRST;
    net.cut(1).await;
    first.tell(Ok(page(8)));
    assert_eq!(watch.next().await.unwrap().revision, Index(8));
}
