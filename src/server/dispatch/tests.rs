use bytes::Bytes;
use tokio::task::{JoinHandle, yield_now};

use crate::error::WriteError;
use crate::kv::command::Command;
use crate::kv::{Txn, TxnOp};
use crate::server::fake::{FakeStore, Mode, QUEUE_BODY_BYTES, QueueSink, QueueSource, queue};
use crate::server::kinds::{Consistency, KeyRange, Scan, WatchAsk, WatchPage};
use crate::server::limits::{ANONYMOUS, Admission, MAX_POLL_BYTES, MAX_POLLS, Registry};
use crate::server::protocol::LeaderHint;
use crate::types::{Index, NodeId};

use super::*;

/// A client's end of a connection that is being served.
struct Client {
    sink: QueueSink,
    source: QueueSource,
    sent: u64,
    served: JoinHandle<()>,
    _admission: Admission,
}

fn connect(store: &FakeStore, registry: &Arc<Registry>, client: u128) -> Client {
    let (sink, server_source) = queue();
    let (server_sink, source) = queue();
    let admission = registry.admit(client).unwrap();
    let served = tokio::spawn(run(store.clone(), admission.fence(), server_source, server_sink));
    Client { sink, source, sent: 0, served, _admission: admission }
}

fn alone(store: &FakeStore) -> Client {
    connect(store, &Registry::new(8), ANONYMOUS)
}

impl Client {
    fn send(&mut self, body: &RequestBody) {
        self.sent += 1;
        self.sink.0.send(Ok(body.encode(self.sent, 5000).unwrap())).unwrap();
    }

    fn put(&mut self, key: &str) {
        self.send(&put(key, "v"));
    }

    fn get(&mut self, key: &str, consistency: Consistency) {
        self.send(&RequestBody::Get { consistency, key: Bytes::copy_from_slice(key.as_bytes()) });
    }

    async fn hear(&mut self) -> Message {
        Message::decode(&self.source.next().await.unwrap().expect("an answer")).unwrap()
    }

    async fn answer(&mut self) -> (u64, Answer) {
        match self.hear().await {
            Message::Response(response) => (response.id, response.answer),
            Message::Goodbye(goodbye) => panic!("{goodbye:?}"),
        }
    }

    async fn goodbye(&mut self) -> Goodbye {
        match self.hear().await {
            Message::Goodbye(goodbye) => goodbye,
            Message::Response(response) => panic!("{response:?}"),
        }
    }
}

fn put(key: &str, value: &str) -> RequestBody {
    RequestBody::Command(Command::put(key.as_bytes(), value.as_bytes()).encode())
}

/// Lets every task go as far as it can.
async fn settle() {
    for _turn in 0..50 {
        yield_now().await;
    }
}

#[tokio::test]
async fn dispatch_pipelined_writes_are_proposed_in_order_and_answered_as_they_finish() {
    let store = FakeStore::leader();
    store.state().writes = Mode::Hold;
    let mut client = alone(&store);
    let keys: Vec<String> = (0..MAX_TURN + 50).map(|number| format!("k{number}")).collect();
    keys.iter().for_each(|key| client.put(key));
    settle().await;
    assert_eq!(store.state().proposed, keys);
    store.release();
    let mut answered = Vec::new();
    for _key in &keys {
        let (id, answer) = client.answer().await;
        assert!(matches!(answer, Answer::Done(..)), "{answer:?}");
        answered.push(id);
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=keys.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn dispatch_reads_that_arrived_together_share_one_read_index() {
    let store = FakeStore::leader();
    let mut client = alone(&store);
    (0..20).for_each(|_number| client.get("absent", Consistency::Linearizable));
    for _number in 0..20 {
        assert_eq!(client.answer().await.1, Answer::Value(None));
    }
    assert_eq!(store.state().read_rounds, 1);
}

#[tokio::test]
async fn dispatch_read_that_came_during_a_round_asks_for_its_own() {
    let store = FakeStore::leader();
    store.state().reads = Mode::Hold;
    let mut client = alone(&store);
    client.get("a", Consistency::Linearizable);
    settle().await;
    client.get("a", Consistency::Linearizable);
    settle().await;
    assert_eq!(store.state().read_rounds, 2);
    store.release();
    client.answer().await;
    client.answer().await;
}

#[tokio::test]
async fn dispatch_stale_reads_and_status_ask_for_no_read_index() {
    let store = FakeStore::leader();
    store.state().reads = Mode::Fail(WriteError::Unavailable("no leader".to_owned()));
    let mut client = alone(&store);
    client.put("a");
    assert_eq!(client.answer().await, (1, Answer::Done(Index(1), Bytes::new())));
    client.get("a", Consistency::Stale);
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Value(Some(_))), "{answer:?}");
    client.send(&RequestBody::Scan { consistency: Consistency::Stale, scan: Scan::default() });
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Page(_)), "{answer:?}");
    client.send(&RequestBody::Status);
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Status(_)), "{answer:?}");
    assert_eq!(store.state().read_rounds, 0);
}

#[tokio::test]
async fn dispatch_linearizable_read_without_a_leader_is_unavailable() {
    let store = FakeStore::leader();
    store.state().reads = Mode::Fail(WriteError::Unavailable("no leader".to_owned()));
    let mut client = alone(&store);
    client.get("a", Consistency::Linearizable);
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Failed(Failure::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn dispatch_malformed_packet_is_answered_after_what_came_before_and_closes() {
    let store = FakeStore::leader();
    let mut client = alone(&store);
    client.put("a");
    let mut packet = put("b", "v").encode(2, 5000).unwrap();
    packet.body = packet.body.slice(..packet.body.len() - 1);
    client.sink.0.send(Ok(packet)).unwrap();
    client.sent += 1;
    client.put("c");
    assert_eq!(client.answer().await, (1, Answer::Done(Index(1), Bytes::new())));
    let goodbye = client.goodbye().await;
    assert_eq!(goodbye.taken, 1);
    assert!(matches!(goodbye.reason, Failure::Malformed(_)), "{goodbye:?}");
    assert!(client.source.next().await.unwrap().is_none());
    assert_eq!(store.state().proposed, ["a"]);
}

#[tokio::test]
async fn dispatch_packet_of_a_later_release_is_refused_and_the_connection_goes_on() {
    let mut client = alone(&FakeStore::leader());
    let mut packet = RequestBody::Status.encode(1, 5000).unwrap();
    packet.tag = 60;
    client.sink.0.send(Ok(packet)).unwrap();
    client.sent += 1;
    let (id, answer) = client.answer().await;
    assert!(id == 1 && matches!(answer, Answer::Failed(Failure::Unsupported(_))), "{answer:?}");
    client.put("a");
    assert_eq!(client.answer().await, (2, Answer::Done(Index(1), Bytes::new())));
}

#[tokio::test]
async fn dispatch_request_out_of_place_closes() {
    let store = FakeStore::leader();
    let mut client = alone(&store);
    client.sent = 4;
    client.get("a", Consistency::Stale);
    let goodbye = client.goodbye().await;
    assert!(goodbye.taken == 0 && matches!(goodbye.reason, Failure::Malformed(_)), "{goodbye:?}");
}

#[tokio::test]
async fn dispatch_oversized_packet_closes_and_names_what_was_taken() {
    let mut client = alone(&FakeStore::leader());
    client.put("a");
    client.sink.0.send(Err(WireError::TooLarge("99 bytes; at most 9".to_owned()))).unwrap();
    client.answer().await;
    let goodbye = client.goodbye().await;
    assert_eq!(goodbye, Goodbye { taken: 1, reason: Failure::TooLarge("99 bytes; at most 9".to_owned()) });
}

#[tokio::test]
async fn dispatch_takes_no_more_bytes_than_the_limit_until_answers_leave() {
    let store = FakeStore::leader();
    store.state().writes = Mode::Hold;
    let mut client = alone(&store);
    let half = "x".repeat(MAX_IN_FLIGHT_BYTES / 2);
    ["a", "b", "c", "d", "e"].iter().for_each(|key| client.send(&put(key, &half)));
    settle().await;
    assert_eq!(store.state().proposed, ["a", "b"]);
    store.release();
    settle().await;
    assert_eq!(store.state().proposed, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn dispatch_answer_larger_than_a_frame_is_a_failure_of_its_own() {
    let store = FakeStore::leader();
    store.put_directly("large", &"x".repeat(QUEUE_BODY_BYTES));
    store.put_directly("small", "v");
    let mut client = alone(&store);
    client.get("large", Consistency::Stale);
    client.get("small", Consistency::Stale);
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Failed(Failure::TooLarge(_))), "{answer:?}");
    assert!(matches!(client.answer().await.1, Answer::Value(Some(_))));
}

#[tokio::test]
async fn dispatch_fenced_connection_hands_over_nothing_more() {
    let (store, registry) = (FakeStore::leader(), Registry::new(8));
    store.state().writes = Mode::Hold;
    let mut former = connect(&store, &registry, 7);
    former.put("a");
    settle().await;
    former.put("late");
    let mut newer = connect(&store, &registry, 7);
    newer.put("b");
    settle().await;
    assert_eq!(store.state().proposed, ["a", "b"]);
    let goodbye = former.goodbye().await;
    assert!(goodbye.taken == 1 && matches!(goodbye.reason, Failure::Unavailable(_)), "{goodbye:?}");
    former.served.await.unwrap();
}

#[tokio::test]
async fn dispatch_batch_meant_for_a_term_is_refused_in_another() {
    let store = FakeStore::leader();
    store.lead(4);
    let mut client = alone(&store);
    let batch = |term| RequestBody::PutBatch { term, pairs: vec![(Bytes::from("a"), Bytes::from("1"))] };
    client.send(&batch(Some(Term(3))));
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Failed(Failure::Unavailable(_))), "{answer:?}");
    assert!(store.state().proposed.is_empty());
    client.send(&batch(Some(Term(4))));
    assert_eq!(client.answer().await, (2, Answer::Written(Index(1))));
    store.follow(5, Some((2, "there:1")));
    client.send(&batch(Some(Term(4))));
    assert!(matches!(client.answer().await.1, Answer::Failed(Failure::Unavailable(_))));
    client.send(&batch(None));
    assert_eq!(client.answer().await, (4, Answer::Written(Index(2))));
}

#[tokio::test]
async fn dispatch_answers_of_a_follower_name_the_leader() {
    let store = FakeStore::leader();
    store.follow(3, Some((2, "there:1")));
    let mut client = alone(&store);
    client.put("a");
    let Message::Response(response) = client.hear().await else { panic!("a response") };
    assert_eq!(response.leader, Some(LeaderHint { id: NodeId(2), address: "there:1".to_owned() }));
}

#[tokio::test]
async fn dispatch_deadline_reaches_the_store_and_is_bounded() {
    let store = FakeStore::leader();
    let mut client = alone(&store);
    client.put("a");
    client.answer().await;
    client.sink.0.send(Ok(put("b", "v").encode(2, u32::MAX).unwrap())).unwrap();
    client.answer().await;
    assert_eq!(store.state().waits, [Duration::from_secs(5), MAX_WAIT]);
}

#[tokio::test]
async fn dispatch_command_that_is_none_is_refused_and_the_connection_goes_on() {
    let store = FakeStore::leader();
    let mut client = alone(&store);
    client.send(&RequestBody::Command(Bytes::from_static(b"\xff\x01")));
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Failed(Failure::Unsupported(_))), "{answer:?}");
    client.send(&RequestBody::Command(Bytes::new()));
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Failed(Failure::Malformed(_))), "{answer:?}");
    client.put("a");
    assert_eq!(client.answer().await, (3, Answer::Done(Index(1), Bytes::new())));
    assert_eq!(store.state().proposed, ["a"]);
}

#[tokio::test]
async fn dispatch_command_whose_answer_is_larger_than_a_frame_is_done_and_says_so() {
    let store = FakeStore::leader();
    store.put_directly("large", &"x".repeat(QUEUE_BODY_BYTES));
    let mut client = alone(&store);
    let txn = Txn { then: vec![TxnOp::get("large"), TxnOp::put("b", "v")], ..Txn::default() };
    client.send(&RequestBody::Command(Command::Txn(txn).encode()));
    let (_id, answer) = client.answer().await;
    assert!(matches!(&answer, Answer::Done(Index(2), _)), "{answer:?}");
    assert!(store.content().contains_key(&Bytes::from("b")));
}

fn watch(bytes: usize) -> RequestBody {
    let range = KeyRange { from: vec![b'k'; bytes].into(), to: None };
    RequestBody::Watch(WatchAsk { range, from: Index(1), previous: false })
}

#[tokio::test]
async fn dispatch_watches_wait_beside_the_other_requests_and_are_bounded() {
    let store = FakeStore::leader();
    let mut client = alone(&store);
    (0..MAX_POLLS).for_each(|_watch| client.send(&watch(1)));
    let (polls, other) = (MAX_POLLS as u64, |answer: &Answer| matches!(answer, Answer::Failed(Failure::Overloaded(_))));
    client.send(&watch(1));
    let (id, answer) = client.answer().await;
    assert!(id == polls + 1 && other(&answer), "{answer:?}");
    client.put("a");
    assert_eq!(client.answer().await, (polls + 2, Answer::Done(Index(1), Bytes::new())));
    let page = WatchPage { changes: Vec::new(), next: Index(7) };
    store.tell(Ok(page.clone()));
    assert_eq!(client.answer().await.1, Answer::Watched(page));
    client.send(&watch(MAX_POLL_BYTES + 1));
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Failed(Failure::TooLarge(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn dispatch_watch_that_hears_nothing_is_answered_at_its_deadline() {
    let store = FakeStore::leader();
    let mut client = alone(&store);
    client.send(&watch(1));
    assert_eq!(client.answer().await.1, Answer::Watched(WatchPage { changes: Vec::new(), next: Index(1) }));
    store.follow(2, None);
    client.send(&watch(1));
    let (_id, answer) = client.answer().await;
    assert!(matches!(answer, Answer::Failed(Failure::Unavailable(_))), "a node that is cut off: {answer:?}");
}
