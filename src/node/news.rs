//! Tells those who wait for it that more is applied, and sees to it that a crowd of them does not hold up the node.
//!
//! ```text
//!   event loop ──publish──► pass_on, a task ──► everybody who waits
//!               one flag         └ then a pause: 20 µs for each of them
//! ```
//! While nobody waits, publishing is a look at a counter. Each of a crowd costs the machine some ten microseconds when it is
//! woken, whether or not anything concerns it; so all of them together are woken so often that this comes to a bounded
//! share of a processor, and a thousand hear of news up to 20 ms late under load. Fewer than fifty hear at once.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Duration;

use tokio::sync::Notify;

/// How long those who are woken are left alone afterwards, for each of them.
const PAUSE_EACH: Duration = Duration::from_micros(20);
/// A pause shorter than this is none: it is what a timer can tell.
const PAUSE_LEAST: Duration = Duration::from_millis(1);
/// The longest, however many there are.
const PAUSE_MOST: Duration = Duration::from_millis(50);

/// Where it is told that more is applied.
#[derive(Debug, Default)]
pub(crate) struct News {
    fresh: Notify,
    crowd: Notify,
    waiting: AtomicUsize,
}

/// One who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl News {
    /// More is applied, and can be seen.
    pub(super) fn publish(&self) {
        // Against that in `wait`: either this sees who waits, or who waits sees what is published.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.fresh.notify_one();
        }
    }

    /// Passes on what is published, for as long as it is polled.
    pub(super) async fn pass_on(&self) {
        loop {
            self.fresh.notified().await;
            let waiting = u32::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
            self.crowd.notify_waiters();
            let pause = PAUSE_EACH.saturating_mul(waiting).min(PAUSE_MOST);
            if pause >= PAUSE_LEAST {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Resolves once more is published and `seen` says that it can be seen.
    pub(super) async fn wait(&self, seen: impl Fn() -> bool) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        loop {
            let mut news = std::pin::pin!(self.crowd.notified());
            news.as_mut().enable();
            fence(Ordering::SeqCst);
            if seen() {
                return;
            }
            news.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn news_reach_everybody_who_waits_and_a_crowd_not_too_often() {
        let (news, seen) = (Arc::new(News::default()), Arc::new(AtomicUsize::new(0)));
        let passing = tokio::spawn({
            let news = Arc::clone(&news);
            async move { news.pass_on().await }
        });
        let told = Arc::new(AtomicUsize::new(0));
        for _one in 0..1_000 {
            let (news, seen, told) = (Arc::clone(&news), Arc::clone(&seen), Arc::clone(&told));
            tokio::spawn(async move {
                for upto in 1..=3 {
                    news.wait(|| seen.load(Ordering::SeqCst) >= upto).await;
                    told.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let start = tokio::time::Instant::now();
        let mut times = Vec::new();
        for upto in 1..=3 {
            seen.store(upto, Ordering::SeqCst);
            news.publish();
            while told.load(Ordering::SeqCst) < upto * 1_000 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            times.push(start.elapsed().as_millis());
        }
        assert!(times[0] <= 1 && times[1] >= 20 && times[2] >= times[1] + 20 && times[2] <= 50, "{times:?}");
        assert_eq!(news.waiting.load(Ordering::SeqCst), 0);
        passing.abort();
    }

    #[tokio::test]
    async fn news_that_come_before_anybody_waits_are_seen_and_nothing_is_left_of_one_who_went() {
        let (news, seen) = (News::default(), AtomicBool::new(false));
        let waiting = tokio::time::timeout(Duration::from_millis(5), news.wait(|| seen.load(Ordering::SeqCst)));
        assert!(waiting.await.is_err());
        assert_eq!(news.waiting.load(Ordering::SeqCst), 0);
        seen.store(true, Ordering::SeqCst);
        news.publish();
        news.wait(|| seen.load(Ordering::SeqCst)).await;
    }
}
