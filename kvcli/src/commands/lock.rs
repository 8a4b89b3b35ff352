//! `lock NAME [--ttl 10s] -- CMD`: runs a program while holding a lock, and passes on its status.
//!
//! ```text
//!   wait for the lock ──► run ──► the program ends ──► release ──► its status
//!     │ signal             │ signal: passed on
//!     │                    └ lock lost: SIGTERM, in the end SIGKILL ──► 3
//!     └──► give the place in the queue up ──► 128 + signal
//! ```
//! The program has this program's terminal, group and output; its input too, except in a script, which is read from there.
//! What the lock is and how it is kept is the library's (`dledger::kv::recipes`).

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dledger::kv::recipes::{Lock, LockGuard, Lost};
use dledger::kv::{Kv, KvError};
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::args::LockArgs;
use crate::exit::{Failure, Kind, Outcome};
use crate::report;
use crate::run::{Session, Source, no_signals};
use crate::signals::{BY_SIGNAL, PASSED_ON, Taken};
use crate::store::{Tracked, kv_failure};

/// The variable that tells the program its fencing token.
const TOKEN_VARIABLE: &str = "KVCLI_FENCING_TOKEN";
/// How long a program that lost its lock has to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Pause before a cluster that cannot be reached is asked for the lock again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Runs the program.
pub(crate) async fn run(session: &Session, args: LockArgs) -> Result<Outcome, Failure> {
    let mut signals = session.signals.take(&PASSED_ON).map_err(|error| no_signals(&error))?;
    // Waiting is patient, for elections; a cluster that does not answer at all is a wrong address.
    session.store.nodes().await?;
    let kv = Tracked::new(session.store.kv()?);
    let label = format!("kvcli, process {}", std::process::id());
    let lock = Lock::new(&kv, &args.name.0).with_ttl(args.ttl).with_label(label);
    let guard = tokio::select! {
        guard = acquire(&lock) => guard?,
        kind = signals.next() => {
            report::remark("cancelled while waiting for the lock; the program was not run");
            give_up(session, &kv, &mut signals).await;
            return Ok(Outcome::Status(code(BY_SIGNAL + kind.as_raw_value())));
        }
    };
    let ended = match spawn(session, &args.command, &guard) {
        Ok(mut child) => supervise(&mut child, &guard, &mut signals).await,
        Err(failure) => Err(failure),
    };
    release(guard, &mut signals).await;
    ended.map(|status| Outcome::Status(status_code(status)))
}

/// Waits for the lock, however long the cluster cannot be reached; that is said once.
async fn acquire<K: Kv>(lock: &Lock<K>) -> Result<LockGuard, Failure> {
    let mut said = false;
    loop {
        match lock.acquire().await {
            Err(KvError::Unavailable(reason)) => {
                if !std::mem::replace(&mut said, true) {
                    report::remark(&format!("waiting for the lock: {reason}"));
                }
                sleep(AGAIN_AFTER).await;
            }
            other => return other.map_err(kv_failure),
        }
    }
}

/// Waits until nothing is left of having waited, but no longer than for one operation, or another signal.
async fn give_up<K: Kv>(session: &Session, kv: &Tracked<K>, signals: &mut Taken) {
    tokio::select! {
        left = timeout(session.options.timeout, kv.idle()) => {
            if left.is_err() {
                report::remark("the cluster could not be told; the place in the queue ends by itself, with its time to live");
            }
        }
        _ = signals.next() => {}
    }
}

fn spawn(session: &Session, command: &[OsString], guard: &LockGuard) -> Result<Child, Failure> {
    let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("no program is given"))?;
    session.printer.flush()?;
    let input = if session.source == Source::Script { Stdio::null() } else { Stdio::inherit() };
    let mut command = Command::new(program);
    command.args(arguments).env(TOKEN_VARIABLE, guard.token().to_string()).stdin(input).kill_on_drop(true);
    command.spawn().map_err(|error| Failure::usage(format!("cannot run `{}`: {error}", program.display())))
}

/// Waits for the program's end, passes signals on, and ends it when the lock is lost.
async fn supervise(child: &mut Child, guard: &LockGuard, signals: &mut Taken) -> Result<ExitStatus, Failure> {
    let lost = guard.lost();
    tokio::pin!(lost);
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| {
                    Failure::new(Kind::Unknown, format!("cannot wait for the program: {error}"))
                })?;
                return if guard.is_held() { Ok(status) } else { Err(overlapped("the lock was lost as the program ended")) };
            }
            kind = signals.next() => pass_on(child, kind),
            reason = &mut lost => {
                report::remark(&format!("the lock is lost: {reason}; the program is terminated"));
                terminate(child, signals).await;
                return Err(overlapped("the lock was lost while the program ran, which was terminated"));
            }
        }
    }
}

fn overlapped(what: &str) -> Failure {
    Failure::new(Kind::Unknown, format!("{what}; what it did may overlap with what another holder does"))
}

/// Asks the program to end, and kills it if it does not.
async fn terminate(child: &mut Child, signals: &mut Taken) {
    send(child, Signal::TERM);
    let until = Instant::now() + GRACE;
    loop {
        tokio::select! {
            _ended = child.wait() => return,
            kind = signals.next() => pass_on(child, kind),
            () = sleep_until(until) => {
                // One that cannot be killed is nobody's to wait for.
                let _ended = child.kill().await;
                return;
            }
        }
    }
}

/// Passes a signal on, unless it comes from the terminal: then the program has it already.
fn pass_on(child: &Child, kind: SignalKind) {
    let typed = [SignalKind::interrupt(), SignalKind::quit()].contains(&kind) && in_foreground();
    if let Some(signal) = Signal::from_named_raw(kind.as_raw_value()).filter(|_| !typed) {
        send(child, signal);
    }
}

/// Whether what is typed at the terminal reaches this program and all that it runs.
fn in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

fn send(child: &Child, signal: Signal) {
    let process = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(process) = process {
        // It has not been waited for, so the number is its own; it may have ended.
        let _ended = kill_process(process, signal);
    }
}

/// Releases the lock. Where the cluster cannot be told, it ends by itself; a signal ends the wait for that.
async fn release(guard: LockGuard, signals: &mut Taken) {
    if !guard.is_held() {
        return;
    }
    let released = tokio::select! {
        released = guard.release() => released,
        _ = signals.next() => Err(Lost::Unconfirmed),
    };
    if released.is_err() {
        report::remark("the cluster could not be told that the lock is free; it ends by itself, with its time to live");
    }
}

/// The program's status as a shell reports it.
fn status_code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map_or(1, |signal| BY_SIGNAL + signal);
    code(status.code().unwrap_or_else(signal))
}

fn code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}
