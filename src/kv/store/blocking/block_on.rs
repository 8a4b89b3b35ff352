//! Waiting for a future on a thread that has no runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::time::Instant;

/// Polls a future on this thread, which parks in between. The futures of a store bring their own timers.
///
/// Within a task of tokio, its budget does not count: used up, it would answer "later" for ever, since the task that
/// would get a new one is the very one that waits here.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut blocked = pin!(tokio::task::coop::unconstrained(future));
    let waker = unpark();
    loop {
        if let Poll::Ready(value) = blocked.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

/// As [`block_on`], but no longer than this: then the future is dropped.
pub(super) fn block_on_within<T>(future: impl Future<Output = T>, patience: Duration) -> Option<T> {
    let began = Instant::now();
    let mut blocked = pin!(tokio::task::coop::unconstrained(future));
    let waker = unpark();
    loop {
        if let Poll::Ready(value) = blocked.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        match patience.checked_sub(began.elapsed()) {
            None | Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

/// Wakes this thread.
fn unpark() -> std::task::Waker {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Arc::new(Unpark(thread::current())).into()
}
