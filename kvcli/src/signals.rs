//! SIGTERM, SIGINT and SIGHUP.
//!
//! The first asks for a clean stop, a second one exits at once; SIGHUP is ignored by whoever listens here.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::shell::terminal;

/// What stops a node, and commands from stdin beside nodes.
pub(crate) const STOP: [SignalKind; 2] = [SignalKind::terminate(), SignalKind::interrupt()];
/// What stops a shell: Ctrl-C belongs to the running command there.
pub(crate) const TERMINATE: [SignalKind; 1] = [SignalKind::terminate()];

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
