use super::*;

/// A page holds one item.
fn small() -> Scan {
    Scan { max_bytes: 1, ..Scan::default() }
}

async fn filled() -> (Net, [FakeStore; 3], Client) {
    let (net, stores) = Net::three_of_one_log();
    ["a", "b", "c"].iter().for_each(|key| stores[0].put_directly(key, "v"));
    let client = net.client(&[1]);
    (net, stores, client)
}

#[tokio::test(start_paused = true)]
async fn range_is_one_view_whatever_is_written_meanwhile() {
    let (_net, [leader, ..], client) = filled().await;
    let mut range = client.range(small(), Consistency::Linearizable);
    let mut pages = vec![range.next_page().await.unwrap().unwrap()];
    leader.put_directly("b", "later");
    leader.put_directly("bb", "later");
    while let Some(page) = range.next_page().await.unwrap() {
        pages.push(page);
    }
    let items: Vec<_> =
        pages.iter().flat_map(|page| &page.items).map(|item| (&item.key[..], &item.value[..])).collect();
    assert_eq!(items, [(&b"a"[..], &b"v"[..]), (b"b", b"v"), (b"c", b"v")]);
    assert!(pages.iter().all(|page| page.revision == Index(3)));
    assert_eq!(leader.state().read_rounds, 1);
    assert_eq!(range.next_page().await.unwrap(), None, "and it stays at its end");
}

#[tokio::test(start_paused = true)]
async fn range_whose_connection_is_lost_says_that_it_must_begin_again() {
    let (net, _stores, client) = filled().await;
    let mut range = client.range(small(), Consistency::Linearizable);
    range.next_page().await.unwrap().unwrap();
    net.cut(1).await;
    let error = range.next_page().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable(text) if text.contains("from its start")), "{error:?}");
    assert!(client.range(small(), Consistency::Linearizable).next_page().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn range_that_is_left_for_long_is_given_up() {
    let (_net, _stores, client) = filled().await;
    let mut range = client.range(small(), Consistency::Stale);
    range.next_page().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    range.next_page().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let error = range.next_page().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable(text) if text.contains("from its start")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn range_that_is_dropped_or_read_to_its_end_makes_room_for_others() {
    let (_net, _stores, client) = filled().await;
    for _round in 0..3 {
        let mut ranges = Vec::new();
        for _range in 0..crate::server::limits::MAX_VIEWS {
            let mut range = client.range(small(), Consistency::Linearizable);
            range.next_page().await.unwrap().unwrap();
            ranges.push(range);
        }
        let error = client.range(small(), Consistency::Linearizable).next_page().await.unwrap_err();
        assert!(matches!(&error, ClientError::Refused(text) if text.contains("views")), "{error:?}");
        let whole = client.range(Scan::default(), Consistency::Linearizable).next_page().await.unwrap().unwrap();
        assert_eq!(whole.items.len(), 3, "one page needs no view");
        while ranges[0].next_page().await.unwrap().is_some() {}
        client.range(small(), Consistency::Linearizable).next_page().await.unwrap().unwrap();
        drop(ranges);
        settle().await;
    }
}
