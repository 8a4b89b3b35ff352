//! A person at a pseudo-terminal: types keys, and waits until the screen has shown something.
//!
//! Nothing here sleeps. Whatever should be seen is waited for, with a bound, and fails the test with all that was seen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{Running, SOON, free_ports, kvcli, wait};

/// A person at a terminal.
pub(crate) struct Person {
    pub(crate) running: Running,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Person {
    /// Starts a demo of one node with its own history.
    pub(crate) fn at_demo(state: &Path, arguments: &[&str]) -> Self {
        let mut command = kvcli();
        let base = free_ports(1).to_string();
        command.args(["demo", "--nodes", "1", "--base-port", &base]).args(arguments).env("XDG_STATE_HOME", state);
        let mut person = Self::at(&mut command);
        person.sees("leader 1> ");
        person
    }

    /// Starts a program at a terminal without colours, so that what is seen is easy to name.
    pub(crate) fn at(command: &mut Command) -> Self {
        Self::in_colour(command.env("NO_COLOR", "1"))
    }

    /// Starts a program at a terminal of its own: what is typed reaches it, and Ctrl-C interrupts it.
    pub(crate) fn in_colour(command: &mut Command) -> Self {
        let (terminal, its_end) = pty_process::blocking::open().unwrap();
        terminal.resize(pty_process::Size::new(50, 200)).unwrap();
        let mut program = pty_process::blocking::Command::new(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            program = match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        let running = Running { child: program.env("TERM", "xterm").spawn(its_end).unwrap() };
        let keyboard = File::from(OwnedFd::from(terminal));
        let mut display = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = display.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { running, keyboard, screen, seen: String::new() }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.seen.clear();
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// What was seen since the last keys.
    pub(crate) fn seen(&self) -> &str {
        &self.seen
    }

    /// Waits until the screen has shown `text` since the last keys.
    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + SOON;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} is not seen in {:?}", self.seen),
            }
        }
    }

    /// Types a line and waits for its answer and the next prompt.
    #[track_caller]
    pub(crate) fn runs(&mut self, line: &str, answer: &str) {
        self.types(&format!("{line}\r"));
        self.is_told(answer);
    }

    /// Waits for an answer, and for the prompt behind it: what is typed before that is for the command. The editor shows its
    /// prompt again at every key, so that a prompt in front of the answer says nothing.
    #[track_caller]
    pub(crate) fn is_told(&mut self, answer: &str) {
        self.sees(answer);
        self.seen = self.seen.split_off(self.seen.find(answer).unwrap() + answer.len());
        self.sees("> ");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running.child), signal).unwrap();
    }

    pub(crate) fn leaves(&mut self, keys: &str) -> Option<i32> {
        self.types(keys);
        wait(&mut self.running.child).code()
    }
}
