//! Typed values on embedded clusters of three: reading, changing, listing and watching values of one type.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod recipes_support;

use std::collections::BTreeMap;

use bytes::Bytes;
use dledger::kv::typed::{MAX_UPDATE_TRIES, TypedChanges, TypedError, TypedEvent};
use dledger::kv::{Kv, KvError, Typed};
use dledger::types::{Index, LeaseId};
use serde::{Deserialize, Serialize};

use recipes_support::{AGES, Cluster, within};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Service {
    address: String,
    #[serde(default)]
    weight: u32,
}

fn service(weight: u32) -> Service {
    Service { address: "10.0.0.7:25".to_owned(), weight }
}

fn services<K: Kv>(store: &K) -> Typed<K, Service> {
    Typed::new(store, "service/")
}

#[tokio::test]
async fn typed_value_written_on_one_replica_is_read_on_another_as_json() {
    let cluster = Cluster::open().await;
    let [one, two, three] = [0, 1, 2].map(|at| services(&cluster.stores[at]));
    let revision = one.put("mail", &service(3)).await.unwrap();
    let entry = two.get("mail").await.unwrap().unwrap();
    assert_eq!((entry.key, entry.value, entry.revision), (Bytes::from("mail"), service(3), revision));
    let raw = cluster.stores[2].get("service/mail").await.unwrap().unwrap();
    assert_eq!(raw.value, r#"{"address":"10.0.0.7:25","weight":3}"#);
    cluster.stores[2].put("service/old", r#"{"address":"x"}"#).await.unwrap();
    assert_eq!(one.get("old").await.unwrap().unwrap().value.weight, 0, "written before the field was known");
    assert_eq!(three.put_if_revision("mail", &service(4), Index(1)).await.unwrap(), None);
    assert!(three.put_if_revision("mail", &service(4), revision).await.unwrap().is_some());
    assert!(three.put_if_revision("web", &service(1), Index::ZERO).await.unwrap().is_some());
    assert_eq!((one.delete("mail").await.unwrap().count, one.delete("mail").await.unwrap().count), (1, 0));
    assert_eq!(two.get("mail").await.unwrap(), None);
}

#[tokio::test]
async fn typed_updates_on_all_replicas_at_once_lose_none() {
    let cluster = Cluster::open().await;
    let updates: Vec<_> = (0..6)
        .map(|updater| {
            let services = services(&cluster.stores[updater % 3]);
            tokio::spawn(async move {
                for _round in 0..10 {
                    let add = |old: Option<Service>| service(old.unwrap_or_default().weight + 1);
                    services.update("mail", add).await.unwrap();
                }
            })
        })
        .collect();
    for update in updates {
        within(update).await.unwrap();
    }
    assert_eq!(services(&cluster.stores[0]).get("mail").await.unwrap().unwrap().value.weight, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_update_that_others_always_outrun_gives_up_and_says_so() {
    let cluster = Cluster::open().await;
    let (mine, other) = (services(&cluster.stores[0]), cluster.stores[0].blocking());
    let mut calls = 0;
    let outrun = |_old: Option<Service>| {
        calls += 1;
        other.put("service/mail", format!(r#"{{"address":"{calls}"}}"#)).unwrap();
        service(0)
    };
    let error = mine.update("mail", outrun).await.unwrap_err();
    assert_eq!(error, TypedError::Contended { key: "service/mail".into(), tries: MAX_UPDATE_TRIES });
    assert_eq!(calls, MAX_UPDATE_TRIES);
    assert_eq!(mine.get("mail").await.unwrap().unwrap().value.address, calls.to_string());
}

#[tokio::test]
async fn typed_errors_name_the_key_and_what_is_wrong() {
    let cluster = Cluster::open().await;
    let (store, services) = (&cluster.stores[0], services(&cluster.stores[1]));
    let revision = store.put("service/bad", "{").await.unwrap();
    let error = services.get("bad").await.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("key `service/bad` at revision {revision} does not hold")),
        "{error}"
    );
    assert_eq!(services.list().await.unwrap_err(), error);
    assert_eq!(services.update("bad", |_old| service(0)).await.unwrap_err(), error);
    let odd = Typed::<_, BTreeMap<Vec<u8>, u8>>::new(store, "odd/");
    let error = odd.put("k", &BTreeMap::from([(vec![1], 1)])).await.unwrap_err();
    assert!(error.to_string().starts_with("the value for key `odd/k` cannot be written as JSON"), "{error}");
    let error = services.put_leased("k", &service(0), LeaseId(1)).await.unwrap_err();
    assert!(matches!(error.as_kv(), Some(KvError::Rejected(_))), "{error}");
    assert!(error.to_string().starts_with("key `service/k`: lease 1"), "{error}");
}

#[tokio::test]
async fn typed_listing_and_the_watch_behind_it_miss_nothing() {
    let cluster = Cluster::open().await;
    let [one, two] = [0, 1].map(|at| services(&cluster.stores[at]));
    // More than a page.
    let long = Service { address: "x".repeat(1 << 20), weight: 1 };
    for key in ["a", "b", "c", "d", "e", "f"] {
        one.put(key, &long).await.unwrap();
    }
    cluster.stores[0].put("servicf", "foreign").await.unwrap();
    let listing = two.list().await.unwrap();
    let keys: Vec<&[u8]> = listing.entries.iter().map(|entry| entry.key.as_ref()).collect();
    assert_eq!(keys, [b"a", b"b", b"c", b"d", b"e", b"f"]);
    assert!(listing.entries.iter().all(|entry| entry.value == long));

    let put = one.put("b", &service(2)).await.unwrap();
    let lease = cluster.stores[0].grant_lease(AGES).await.unwrap();
    let leased = one.put_leased("g", &service(3), lease).await.unwrap();
    let bad = cluster.stores[0].put("service/h", "{").await.unwrap();
    let revoked = cluster.stores[0].revoke_lease(lease).await.unwrap().revision;
    let mut watch = two.watch_after(listing.revision);
    let event = |key: &'static str, value| TypedEvent { key: key.into(), value };
    let changes = |revision, event| Ok(TypedChanges { revision, events: vec![event] });
    assert_eq!(within(watch.next()).await, changes(put, event("b", Some(service(2)))));
    assert_eq!(within(watch.next()).await, changes(leased, event("g", Some(service(3)))));
    let error = within(watch.next()).await.unwrap_err();
    assert!(matches!(&error, TypedError::Malformed { key, revision, .. } if key == "service/h" && *revision == bad));
    assert_eq!(within(watch.next()).await, changes(revoked, event("g", None)));
}
