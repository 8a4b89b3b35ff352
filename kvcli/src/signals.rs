//! SIGTERM, SIGINT and SIGHUP.
//!
//! A node: the first asks for a clean stop, a second one exits at once; SIGHUP is ignored by whoever listens here ([`Stop`]).
//!
//! A command that deals with signals itself *takes* them for as long as it runs ([`Signals`]): a watch, which Ctrl-C ends, and
//! a lock, which passes them on. The process does not get back what a signal does of its own accord once somebody listened for
//! it; so where nobody else would hear it, a signal that comes when no command has taken it ends the process from here.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::shell::terminal;

/// What stops a node, and commands from stdin beside nodes.
pub(crate) const STOP: [SignalKind; 2] = [SignalKind::terminate(), SignalKind::interrupt()];
/// What stops a shell: Ctrl-C belongs to the running command there.
pub(crate) const TERMINATE: [SignalKind; 1] = [SignalKind::terminate()];

/// What a lock passes on to its program.
pub(crate) const PASSED_ON: [SignalKind; 6] = [
    SignalKind::interrupt(),
    SignalKind::terminate(),
    SignalKind::quit(),
    SignalKind::hangup(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// What ends a watch.
pub(crate) const INTERRUPT: [SignalKind; 1] = [SignalKind::interrupt()];

/// What a shell reports of a process that was ended by signal 0.
pub(crate) const BY_SIGNAL: i32 = 128;
/// What a shell reports of a process ended by SIGINT; the exit code of an unclean stop.
const FORCED: i32 = 130;

/// A request to stop.
pub(crate) struct Stop {
    requested: watch::Receiver<bool>,
}

impl Stop {
    /// Listens for `kinds` until the process ends, and ignores SIGHUP.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn on(kinds: &[SignalKind]) -> io::Result<Self> {
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        for kind in kinds {
            let mut stream = signal(*kind)?;
            let arrived = arrived.clone();
            tokio::spawn(async move { while stream.recv().await.is_some() && arrived.send(()).is_ok() {} });
        }
        let mut hangups = signal(SignalKind::hangup())?;
        tokio::spawn(async move { while hangups.recv().await.is_some() {} });
        let (request, requested) = watch::channel(false);
        tokio::spawn(async move {
            let mut count = 0;
            while arrivals.recv().await.is_some() {
                count += 1;
                let _nobody_waits_any_more = request.send(true);
                if count > 1 {
                    terminal::restore();
                    std::process::exit(FORCED);
                }
            }
        });
        Ok(Self { requested })
    }

    /// Returns once a stop was asked for.
    pub(crate) async fn requested(&mut self) {
        if self.requested.wait_for(|&requested| requested).await.is_err() {
            // The listener is gone, so nothing can ask any more.
            std::future::pending::<()>().await;
        }
    }
}

/// What becomes of a signal that no command has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// It ends the process, as if nobody had ever listened.
    Exit,
    /// Somebody else hears it.
    Heard,
}

/// Who deals with signals at the moment.
#[derive(Clone)]
pub(crate) struct Signals {
    taken: Arc<AtomicUsize>,
    otherwise: Otherwise,
    /// Those that end the process when nobody has taken them.
    watched: Arc<Mutex<Vec<SignalKind>>>,
}

impl Signals {
    pub(crate) fn new(otherwise: Otherwise) -> Self {
        Self { taken: Arc::default(), otherwise, watched: Arc::default() }
    }

    /// Takes signals until the answer is dropped.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn take(&self, kinds: &[SignalKind]) -> io::Result<Taken> {
        let mut streams = Vec::new();
        for kind in kinds {
            streams.push((*kind, signal(*kind)?));
            self.exit_otherwise(*kind)?;
        }
        self.taken.fetch_add(1, Ordering::SeqCst);
        Ok(Taken { streams, taken: Arc::clone(&self.taken) })
    }

    /// Whether a command deals with them.
    pub(crate) fn are_taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst) > 0
    }

    fn exit_otherwise(&self, kind: SignalKind) -> io::Result<()> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if self.otherwise == Otherwise::Heard || watched.contains(&kind) {
            return Ok(());
        }
        let mut stream = signal(kind)?;
        let signals = self.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if !signals.are_taken() {
                    terminal::restore();
                    std::process::exit(BY_SIGNAL + kind.as_raw_value());
                }
            }
        });
        watched.push(kind);
        Ok(())
    }
}

/// Signals that a command has taken.
pub(crate) struct Taken {
    streams: Vec<(SignalKind, Signal)>,
    taken: Arc<AtomicUsize>,
}

impl Taken {
    /// The next one that comes.
    pub(crate) async fn next(&mut self) -> SignalKind {
        std::future::poll_fn(|context| {
            let arrived = self
                .streams
                .iter_mut()
                .find_map(|(kind, stream)| stream.poll_recv(context).is_ready().then_some(*kind));
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }
}
