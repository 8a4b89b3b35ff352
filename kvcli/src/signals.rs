//! SIGTERM, SIGINT and SIGHUP.
//!
//! A node: the first asks for a clean stop, a second one exits at once; SIGHUP is ignored by whoever listens here ([`Stop`]).
//!
//! A command that deals with signals itself *takes* them for as long as it runs ([`Signals`]): a watch, which Ctrl-C ends, and
//! a lock, which passes them on. The process does not get back what a signal does of its own accord once somebody listened for
//! it; so where nobody else would hear it, a signal that comes when no command has taken it ends the process from here. One
//! task hears each kind and hands it on, so that a signal goes to the command or ends the process, and never does both.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
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
/// Signals that wait for the command that has taken them.
const MOST_WAITING: usize = 64;

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
    known: Arc<Mutex<Known>>,
    otherwise: Otherwise,
}

#[derive(Default)]
struct Known {
    /// The commands that have taken some, each with its number and what it has taken.
    takers: Vec<(u64, Vec<SignalKind>, mpsc::Sender<SignalKind>)>,
    last_number: u64,
    /// What is listened for.
    heard: Vec<SignalKind>,
}

impl Signals {
    pub(crate) fn new(otherwise: Otherwise) -> Self {
        Self { known: Arc::default(), otherwise }
    }

    /// Takes signals until the answer is dropped.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn take(&self, kinds: &[SignalKind]) -> io::Result<Taken> {
        for kind in kinds {
            self.hear(*kind)?;
        }
        let (sender, arrived) = mpsc::channel(MOST_WAITING);
        let mut known = self.known();
        known.last_number += 1;
        let number = known.last_number;
        known.takers.push((number, kinds.to_vec(), sender));
        Ok(Taken { arrived, number, signals: self.clone() })
    }

    /// Whether a command deals with them.
    pub(crate) fn are_taken(&self) -> bool {
        !self.known().takers.is_empty()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens from now on.
    fn hear(&self, kind: SignalKind) -> io::Result<()> {
        let mut known = self.known();
        if known.heard.contains(&kind) {
            return Ok(());
        }
        let mut stream = signal(kind)?;
        known.heard.push(kind);
        let signals = self.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                signals.arrived(kind);
            }
        });
        Ok(())
    }

    fn arrived(&self, kind: SignalKind) {
        let known = self.known();
        match known.takers.iter().rfind(|(_number, kinds, _sender)| kinds.contains(&kind)) {
            // More of them are the same to a command as they are to a process.
            Some((_number, _kinds, taker)) => drop(taker.try_send(kind)),
            None if self.otherwise == Otherwise::Exit => {
                terminal::restore();
                std::process::exit(BY_SIGNAL + kind.as_raw_value());
            }
            None => {}
        }
    }
}

/// Signals that a command has taken.
pub(crate) struct Taken {
    arrived: mpsc::Receiver<SignalKind>,
    number: u64,
    signals: Signals,
}

impl Taken {
    /// The next one that comes.
    pub(crate) async fn next(&mut self) -> SignalKind {
        match self.arrived.recv().await {
            Some(kind) => kind,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.signals.known().takers.retain(|(number, _kinds, _sender)| *number != self.number);
    }
}
