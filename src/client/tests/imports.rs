use crate::error::WriteError;
use crate::server::fake::Mode;

use super::*;

fn options() -> ImportOptions {
    ImportOptions { batch_lines: 10, window: 4, ..ImportOptions::default() }
}

/// Lines in which keys come back: the last one must win.
fn lines() -> Vec<(Bytes, Bytes)> {
    (0..200).map(|line| (key(&format!("k{}", line * 7 % 60)), key(&format!("v{line}")))).collect()
}

fn last_of_each(lines: &[(Bytes, Bytes)]) -> BTreeMap<Bytes, Bytes> {
    lines.iter().cloned().collect()
}

fn content(store: &FakeStore) -> BTreeMap<Bytes, Bytes> {
    store.content()
}

async fn feed(mut importer: Importer, lines: Vec<(Bytes, Bytes)>) -> Result<u64, ImportError> {
    for (key, value) in lines {
        importer.push(key, value).await?;
    }
    importer.finish().await
}

#[tokio::test(start_paused = true)]
async fn import_writes_all_lines_in_order_with_a_window_under_way() {
    let (net, [leader, ..]) = Net::three();
    leader.state().writes = Mode::Hold;
    let told = Arc::new(Mutex::new(Vec::new()));
    let progress = Arc::clone(&told);
    let importer = net.client(&[2]).import(options(), move |count| progress.lock().unwrap().push(count));
    let import = tokio::spawn(feed(importer, lines()));
    settle().await;
    assert_eq!(leader.state().proposed.len(), 40, "four batches of ten are under way");
    leader.state().writes = Mode::Serve;
    leader.release();
    assert_eq!(import.await.unwrap().unwrap(), 200);
    assert_eq!(content(&leader), last_of_each(&lines()));
    let expected: Vec<String> = lines().iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
    assert_eq!(leader.state().proposed, expected);
    assert_eq!(*told.lock().unwrap(), (1..=20).map(|batch| batch * 10).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn import_after_a_lost_connection_resumes_at_the_first_unacknowledged_line() {
    let (net, [leader, ..]) = Net::three();
    let mut importer = net.client(&[1]).import(options(), |_count| {});
    let lines = lines();
    for (key, value) in &lines[..100] {
        importer.push(key.clone(), value.clone()).await.unwrap();
    }
    leader.state().writes = Mode::Hold;
    let rest = tokio::spawn(feed(importer, lines[100..].to_vec()));
    settle().await;
    let done = usize::try_from(leader.revision()).unwrap();
    let before = leader.state().proposed.len();
    assert!(done >= 50 && done < before, "{done} of {before}");
    net.cut(1).await;
    leader.state().writes = Mode::Serve;
    assert_eq!(rest.await.unwrap().unwrap(), 200);
    assert_eq!(content(&leader), last_of_each(&lines));
    let names = |lines: &[(Bytes, Bytes)]| -> Vec<String> {
        lines.iter().map(|(key, _value)| String::from_utf8_lossy(key).into_owned()).collect()
    };
    assert_eq!(leader.state().proposed[before..], names(&lines[done..]), "no acknowledged line, and in order");
}

#[tokio::test(start_paused = true)]
async fn import_old_copies_never_land_behind_resumed_lines() {
    let (net, [leader, ..]) = Net::three();
    leader.state().writes = Mode::Hold;
    let importer = net.client(&[1]).import(options(), |_count| {});
    let import = tokio::spawn(feed(importer, lines()));
    settle().await;
    let taken = leader.state().proposed.len();
    assert_eq!(taken, 40);
    // The leader hangs for longer than the import waits; the next connection fences the one before it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    leader.state().writes = Mode::Serve;
    assert_eq!(import.await.unwrap().unwrap(), 200);
    leader.release();
    settle().await;
    assert_eq!(content(&leader), last_of_each(&lines()));
}

#[tokio::test(start_paused = true)]
async fn import_moves_to_the_leader_of_a_higher_term() {
    let (net, [first, second, _third]) = Net::three();
    first.state().writes = Mode::Hold;
    let importer = net.client(&[1, 2]).import(options(), |_count| {});
    let import = tokio::spawn(feed(importer, lines()));
    settle().await;
    first.follow(2, Some((2, "node:2")));
    second.lead(2);
    net.cut(1).await;
    assert_eq!(import.await.unwrap().unwrap(), 200);
    assert_eq!(content(&second), last_of_each(&lines()));
}

#[tokio::test(start_paused = true)]
async fn import_is_not_forwarded_by_a_node_that_lost_the_lead() {
    let (net, [first, second, _third]) = Net::three();
    let mut importer = net.client(&[1, 2]).import(options(), |_count| {});
    for (key, value) in &lines()[..60] {
        importer.push(key.clone(), value.clone()).await.unwrap();
    }
    let taken = first.state().proposed.len();
    first.follow(2, Some((2, "node:2")));
    second.lead(2);
    assert_eq!(feed(importer, lines()[60..].to_vec()).await.unwrap(), 200);
    assert_eq!(first.state().proposed.len(), taken, "a batch of term 1 reached a follower and went no further");
}

#[tokio::test(start_paused = true)]
async fn import_that_is_refused_ends_and_says_how_far_it_is_certain() {
    let (net, [leader, ..]) = Net::three();
    let mut importer = net.client(&[1]).import(options(), |_count| {});
    for (key, value) in &lines()[..90] {
        importer.push(key.clone(), value.clone()).await.unwrap();
    }
    leader.state().writes = Mode::Fail(WriteError::TooLarge("the key is too long".to_owned()));
    let known = importer.acknowledged();
    let error = feed(importer, lines()[90..].to_vec()).await.unwrap_err();
    assert!(matches!(error.cause, ClientError::Refused(_)), "{error:?}");
    assert!(error.acknowledged >= known && error.acknowledged <= 90, "{error:?}");
    let certain = &lines()[..usize::try_from(error.acknowledged).unwrap()];
    assert!(last_of_each(certain).keys().all(|key| content(&leader).contains_key(key)));
}

#[tokio::test(start_paused = true)]
async fn import_gives_up_when_nothing_is_acknowledged_for_long() {
    let (net, stores) = Net::three();
    stores.iter().for_each(|store| store.follow(1, None));
    let patience = Duration::from_secs(20);
    let importer = net.client(&[1]).import(ImportOptions { patience, ..options() }, |_count| {});
    let started = Instant::now();
    let error = feed(importer, lines()).await.unwrap_err();
    assert!(error.acknowledged == 0 && matches!(error.cause, ClientError::Unavailable(_)), "{error:?}");
    assert!(started.elapsed() >= patience - Duration::from_secs(1) && started.elapsed() <= patience, "{started:?}");
}

#[tokio::test(start_paused = true)]
async fn import_goes_on_after_overload() {
    let (net, [leader, ..]) = Net::three();
    leader.state().writes = Mode::Fail(WriteError::Overloaded("queue is full".to_owned()));
    let importer = net.client(&[1]).import(options(), |_count| {});
    let import = tokio::spawn(feed(importer, lines()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    leader.state().writes = Mode::Serve;
    assert_eq!(import.await.unwrap().unwrap(), 200);
    assert_eq!(content(&leader), last_of_each(&lines()));
}
