//! The interactive shell.
//!
//! ```text
//!   prompt ──► readline (a thread that may block) ──► line ──► script::execute_line
//!     ▲             │ Tab: complete.rs   hints: complete.rs         │
//!     └─────────────┴───────────────── Ctrl-C drops the command ◄───┘
//! ```
//! A line means exactly what it means in a script. Ctrl-C at the prompt clears the line, during a command it drops
//! the command; Ctrl-D and `quit` leave. The history is kept in `$XDG_STATE_HOME/kvcli/history`.

pub(crate) mod assist;
pub(crate) mod complete;
pub(crate) mod terminal;
pub(crate) mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::assist::Assist;
use crate::exit::{Failure, Kind, Outcome};
use crate::report;
use crate::run::{Session, Source, no_signals};
use crate::script::execute_line;
use crate::signals::{Otherwise, Signals};

/// Lines that the history keeps.
const HISTORY_LINES: usize = 10_000;
/// How long a prompt may wait to learn who leads.
const LEADER_WITHIN: Duration = Duration::from_millis(300);

type LineEditor = Editor<Assist, FileHistory>;

/// Reads and runs lines until the person leaves; the answer is the exit code, which is 0: each error was seen.
pub(crate) async fn run(session: &Session) -> Result<u8, Failure> {
    let signals = Signals::new(Otherwise::Heard);
    let session = Session { source: Source::Shell, signals, ..session.clone() };
    terminal::save();
    let _restore = terminal::Guard;
    let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| no_signals(&error))?;
    let history = history_path();
    let mut editor = editor(&session, history.as_deref()).map_err(|error| broken(&error))?;
    let mut leader = None;
    loop {
        let text = prompt(&session, &mut leader).await;
        let (returned, line) = read_line(editor, text).await?;
        editor = returned;
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(0),
            Err(error) => return Err(broken(&error)),
        };
        if line.trim().is_empty() {
            continue;
        }
        remember(&mut editor, &line, history.as_deref());
        // One pressed while the prompt was up belongs to no command.
        while tokio::time::timeout(Duration::ZERO, interrupts.recv()).await.is_ok() {}
        let ended = until_interrupted(&session, &line, &mut interrupts).await;
        match ended.and_then(|outcome| session.printer.flush().map(|()| outcome)) {
            Ok(Outcome::Quit) => return Ok(0),
            Ok(Outcome::Done | Outcome::No | Outcome::Ended(_) | Outcome::Status(_)) => {}
            Err(failure) if failure.kind == Kind::Closed => return Ok(0),
            Err(failure) => report::failure(&failure, session.printer.format(), None),
        }
    }
}

/// Runs a line. Ctrl-C drops it, unless it is a command that ends at Ctrl-C by itself.
async fn until_interrupted(session: &Session, line: &str, interrupts: &mut Signal) -> Result<Outcome, Failure> {
    let mut running = pin!(execute_line(session, line.as_bytes()));
    loop {
        tokio::select! {
            ended = &mut running => return ended,
            _ = interrupts.recv() => if !session.signals.are_taken() {
                let reason = "cancelled; a write that was under way may or may not be done";
                return Err(Failure::new(Kind::Unknown, reason));
            },
        }
    }
}

/// Waits for a line on a thread that may block.
async fn read_line(mut editor: LineEditor, prompt: Prompt) -> Result<(LineEditor, rustyline::Result<String>), Failure> {
    let read = tokio::task::spawn_blocking(move || {
        let line = editor.readline(&(prompt.plain.as_str(), prompt.styled.as_str()));
        (editor, line)
    });
    read.await.map_err(|error| Failure::new(Kind::Bug, format!("the line editor died: {error}")))
}

fn broken(error: &ReadlineError) -> Failure {
    Failure::usage(format!("cannot read from the terminal: {error}"))
}

struct Prompt {
    plain: String,
    styled: String,
}

/// Names the leader; the one known before when nobody answers in time.
async fn prompt(session: &Session, leader: &mut Option<u64>) -> Prompt {
    // Whoever does not answer in time leaves the leader as it was known.
    if let Ok(answer) = tokio::time::timeout(LEADER_WITHIN, session.store.nodes()).await {
        *leader = answer.ok().and_then(|nodes| nodes.leader());
    }
    match leader {
        Some(id) => Prompt { plain: format!("leader {id}> "), styled: format!("\x1b[32mleader {id}\x1b[0m> ") },
        None => Prompt { plain: "no leader> ".to_owned(), styled: "\x1b[31mno leader\x1b[0m> ".to_owned() },
    }
}

fn editor(session: &Session, history: Option<&Path>) -> rustyline::Result<LineEditor> {
    let color = if report::color_allowed() { ColorMode::Enabled } else { ColorMode::Disabled };
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)?
        .history_ignore_dups(true)?
        .completion_type(CompletionType::List)
        .color_mode(color)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Assist::new(session, Handle::current())));
    editor.set_auto_add_history(false);
    if let Some(path) = history {
        // There is none the first time.
        let _first_time = editor.load_history(path);
    }
    Ok(editor)
}

/// Adds a line to the history and to its file, at once: a killed shell forgets nothing.
fn remember(editor: &mut LineEditor, line: &str, path: Option<&Path>) {
    let added = editor.add_history_entry(line).unwrap_or(false);
    let Some(path) = path.filter(|_| added) else { return };
    // A history that cannot be written is no reason to stop a command.
    let _not_kept = path.parent().map(fs::create_dir_all);
    let _not_kept = editor.append_history(path);
}

fn history_path() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    let state =
        std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home)?;
    Some(state.join("kvcli").join("history"))
}
