//! Runs commands: one from the command line, or many from a shell or a script, each through [`execute`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use crate::args::{Cli, Command, Globals, endpoints};
use crate::commands;
use crate::exit::{Failure, Kind, Outcome};
use crate::input::Input;
use crate::output::Printer;
use crate::signals::{Otherwise, Signals};
use crate::store::{Consistency, Remote, Store};
use crate::{demo, logging, report, script, serve, shell, signals};

/// Where nodes are looked for unless told.
const DEFAULT_ENDPOINTS: &str = "127.0.0.1:7101";
/// The variable that tells.
const ENDPOINTS_VARIABLE: &str = "KVCLI_ENDPOINTS";
/// How long one operation may take unless told.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// What holds for every command until a flag says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Nodes to ask.
    pub(crate) endpoints: Vec<String>,
    /// Longest wait for one operation.
    pub(crate) timeout: Duration,
    /// How fresh reads must be.
    pub(crate) consistency: Consistency,
    /// Whether a script goes on after a failure.
    pub(crate) keep_going: bool,
}

/// Who gives the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Arguments,
    /// Lines of stdin.
    Script,
    /// A person at a prompt.
    Shell,
}

/// Everything a command needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Session {
    /// What holds unless a flag says otherwise.
    pub(crate) options: Options,
    /// The store that commands talk to.
    pub(crate) store: Store,
    /// The way to stdout.
    pub(crate) printer: Printer,
    /// Stdin.
    pub(crate) input: Input,
    /// Who gives the commands.
    pub(crate) source: Source,
    /// Who deals with signals.
    pub(crate) signals: Signals,
}

impl Session {
    /// A session as the environment and the flags want it.
    fn begin(globals: &Globals) -> Result<Self, Failure> {
        let text = std::env::var(ENDPOINTS_VARIABLE).unwrap_or_default();
        let text = if text.is_empty() { DEFAULT_ENDPOINTS } else { &text };
        let default =
            endpoints(text).map_err(|reason| Failure::config(format!("environment {ENDPOINTS_VARIABLE}: {reason}")))?;
        let options = Options {
            endpoints: globals.endpoints.clone().unwrap_or(default).0,
            timeout: globals.timeout.unwrap_or(DEFAULT_TIMEOUT),
            consistency: globals.consistency.unwrap_or_default(),
            keep_going: globals.keep_going,
        };
        let store = Store::Remote(Remote::new(&options.endpoints, options.timeout)?);
        let printer = Printer::stdout(globals.output.unwrap_or_default());
        let signals = Signals::new(Otherwise::Exit);
        Ok(Self { options, store, printer, input: Input::stdin(), source: Source::Arguments, signals })
    }

    /// The session of one line: flags on the line go before those of the session.
    pub(crate) fn with(&self, globals: &Globals) -> Result<Self, Failure> {
        let mut session = self.clone();
        if let Some(level) = globals.consistency {
            session.options.consistency = level;
        }
        if let Some(format) = globals.output {
            session.printer = session.printer.with_format(format);
        }
        if globals.endpoints.is_some() || globals.timeout.is_some() {
            let endpoints = globals.endpoints.clone().map_or(session.options.endpoints, |given| given.0);
            session = self.at(endpoints, globals.timeout.unwrap_or(session.options.timeout))?;
        }
        Ok(session)
    }

    /// The same session with another cluster.
    pub(crate) fn at(&self, endpoints: Vec<String>, timeout: Duration) -> Result<Self, Failure> {
        let store = Store::Remote(Remote::new(&endpoints, timeout)?);
        Ok(Self { options: Options { endpoints, timeout, ..self.options.clone() }, store, ..self.clone() })
    }
}

/// Runs what the command line asks for; the answer is the exit code.
pub(crate) fn start(cli: Cli) -> u8 {
    let format = cli.globals.output.unwrap_or_default();
    let ended = logging::start(&cli.globals, cli.command.as_ref()).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::new(Kind::Unavailable, format!("cannot start threads: {error}")))?;
        let ended = runtime.block_on(main_task(cli));
        // A thread may still wait for a line of stdin that will never come.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(outcome) => outcome.code(),
        Err(failure) => {
            report::failure(&failure, format, None);
            failure.code()
        }
    }
}

async fn main_task(cli: Cli) -> Result<Outcome, Failure> {
    let session = Session::begin(&cli.globals)?;
    match cli.command {
        Some(command) => {
            let outcome = execute_interruptibly(&session, command).await;
            let flushed = session.printer.flush();
            session.store.close().await;
            outcome.and_then(|outcome| flushed.map(|()| outcome))
        }
        None => interact(&session).await.map(Outcome::Ended),
    }
}

/// Runs the command of the command line. An import says how far it came when a signal ends it, a
/// backup removes what it wrote; `serve` and `demo`
/// listen for signals themselves; all others just end.
async fn execute_interruptibly(session: &Session, command: Command) -> Result<Outcome, Failure> {
    if !matches!(command, Command::Import { .. } | Command::Backup { .. }) {
        return execute(session, command).await;
    }
    let mut stop = signals::Stop::on(&signals::STOP).map_err(|error| no_signals(&error))?;
    tokio::select! {
        ended = execute(session, command) => ended,
        () = stop.requested() => Err(Failure::new(Kind::Unknown, "stopped by a signal")),
    }
}

/// The shell where a person types, else commands from stdin; the answer is the exit code.
pub(crate) async fn interact(session: &Session) -> Result<u8, Failure> {
    if !session.input.is_terminal() {
        let code = script::run(session).await;
        session.store.close().await;
        return Ok(code);
    }
    let mut stop = signals::Stop::on(&signals::TERMINATE).map_err(|error| no_signals(&error))?;
    let code = tokio::select! {
        code = shell::run(session) => code,
        () = stop.requested() => Ok(0),
    };
    session.store.close().await;
    code
}

/// The failure to listen for signals.
pub(crate) fn no_signals(error: &io::Error) -> Failure {
    Failure::new(Kind::Unavailable, format!("cannot listen for signals: {error}"))
}

/// Runs one command. Boxed because `demo` runs commands itself.
pub(crate) fn execute(
    session: &Session,
    command: Command,
) -> Pin<Box<dyn Future<Output = Result<Outcome, Failure>> + '_>> {
    Box::pin(async move {
        match command {
            Command::Serve(args) => serve::run(session, args).await,
            Command::Demo(args) => demo::run(session, args).await,
            Command::Put(args) => commands::put::run(session, args).await,
            Command::Get { key } => commands::get::run(session, key).await,
            Command::Del { key, prefix } => commands::del::run(session, key, prefix).await,
            Command::Scan(args) => commands::scan::run(session, args).await,
            Command::Cas { key, expected, new } => commands::cas::run(session, key, expected, new).await,
            Command::Incr { key, by } => commands::cas::increment(session, key, by).await,
            Command::Txn { file } => commands::txn::run(session, &file).await,
            Command::Watch(args) => commands::watch::run(session, args).await,
            Command::Lease { action } => commands::lease::run(session, action).await,
            Command::Lock(args) => commands::lock::run(session, args).await,
            Command::Import { file, format } => commands::import::run(session, &file, format).await,
            Command::Export { prefix, format } => commands::export::run(session, prefix, format).await,
            Command::Status => commands::status::run(session).await,
            Command::Members { change } => commands::members::run(session, change).await,
            Command::Transfer { id } => commands::members::transfer(session, id).await,
            Command::Snapshot => commands::snapshot::run(session).await,
            Command::Backup { file } => commands::backup::run(session, &file).await,
            Command::Recover(args) => commands::recover::run(session, args).await,
            Command::Restore(args) => commands::restore::run(session, args).await,
            Command::Bench { operation } => commands::bench::run(session, operation).await,
            Command::Log { action } => commands::log::run(session, action).await,
            Command::Quit => Ok(Outcome::Quit),
        }
    })
}
