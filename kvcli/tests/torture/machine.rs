//! What these tests ask of the machine: a small file system, a tracer, namespaces.
//!
//! Where the machine does not give it, a test says why and passes; with `DLEDGER_REQUIRE_SYSTEM_TESTS=1` it fails instead.
//! Whatever is mounted or made here is removed when its guard is dropped, so also when a test fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use tempfile::TempDir;

/// What was asked for, or `None`: then the test is to be left, and the reason has been said.
#[track_caller]
pub(crate) fn or_skip<T>(asked: Result<T, String>) -> Option<T> {
    match asked {
        Ok(given) => Some(given),
        Err(reason) => {
            let required = std::env::var("DLEDGER_REQUIRE_SYSTEM_TESTS").is_ok_and(|value| value == "1");
            assert!(!required, "this machine cannot run the test: {reason}");
            println!("skipped: {reason}");
            None
        }
    }
}

/// Runs a tool of the machine.
///
/// # Errors
/// It is absent or fails: its command line and what it said.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> Result<String, String> {
    let line = || format!("`{name} {}`", arguments.join(" "));
    let output = Command::new(name).args(arguments).output().map_err(|error| format!("{}: {error}", line()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{}: {}", line(), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Cases that are tried at the same time: most of each is waiting, for elections and for disks.
const WORKERS: usize = 4;

/// Tries all cases on several threads.
pub(crate) fn in_parallel<T>(cases: impl Iterator<Item = T> + Send, check: impl Fn(T) + Sync) {
    let left = Mutex::new(cases);
    thread::scope(|scope| {
        for _worker in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(case) = next else { return };
                    check(case);
                }
            });
        }
    });
}

/// A file system of a fixed size. Unmounted when dropped.
pub(crate) struct Tmpfs {
    directory: TempDir,
}

impl Tmpfs {
    pub(crate) fn mount(bytes: u64) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        tool("mount", &["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "dledger-torture", path])?;
        Ok(Self { directory })
    }

    /// From now on it has so many bytes.
    pub(crate) fn resize(&self, bytes: u64) {
        let path = self.directory.path().to_str().unwrap();
        tool("mount", &["-o", &format!("remount,size={bytes}"), path]).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A directory in it, not made yet.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is about to be killed may still have a file open.
        if let Err(reason) = tool("umount", &["-l", self.directory.path().to_str().unwrap()]) {
            println!("left mounted: {reason}");
        }
    }
}
