//! `backup FILE`: a snapshot of everything acknowledged so far, in one file, while the cluster serves on.
//!
//! The file gets its name when it is whole and synced; until then its name ends in `.tmp`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::exit::{Failure, Kind, Outcome};
use crate::output::Answer;
use crate::run::Session;
use crate::store::Backup;

use super::progress::{Cleared, bar};

/// A backup that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackedUp {
    /// The last index in it.
    pub(crate) index: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
}

/// Writes the file and prints what is in it.
pub(crate) async fn run(session: &Session, file: &Path) -> Result<Outcome, Failure> {
    refuse_existing(file)?;
    let unfinished = Unfinished::create(file)?;
    let mut backup = session.store.backup().await?;
    let bar = Cleared(bar(Some(backup.bytes()), "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
    write(&mut backup, &unfinished, |bytes| bar.0.inc(bytes)).await?;
    unfinished.publish(file)?;
    drop(bar);
    session.printer.print(Answer::BackedUp(&BackedUp { index: backup.index(), bytes: backup.bytes() }))?;
    Ok(Outcome::Done)
}

async fn write(backup: &mut Backup, to: &Unfinished, mut progress: impl FnMut(u64)) -> Result<(), Failure> {
    while let Some(piece) = backup.next().await? {
        (&to.file).write_all(&piece).map_err(|error| unwritable(&to.path, &error))?;
        progress(piece.len() as u64);
    }
    Ok(())
}

fn refuse_existing(file: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::input(file.display(), &error)),
        Ok(_) => Err(Failure::usage(format!("{} is there already; name another file", file.display()))),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
    let kind = if full { Kind::Refused } else { Kind::Usage };
    Failure::new(kind, format!("cannot write {}: {error}; no backup was made", path.display()))
}

/// A file without its final name, removed when it does not get it.
struct Unfinished {
    file: File,
    path: PathBuf,
    published: bool,
}

impl Unfinished {
    fn create(file: &Path) -> Result<Self, Failure> {
        let mut name = file.file_name().map(ToOwned::to_owned).unwrap_or_default();
        name.push(".tmp");
        let path = file.with_file_name(name);
        let created = File::options().write(true).create_new(true).open(&path);
        let file = created.map_err(|error| {
            if error.kind() != ErrorKind::AlreadyExists {
                return unwritable(&path, &error);
            }
            let why = "another backup writes it, or one was killed; remove it then";
            Failure::usage(format!("{} is there already: {why}", path.display()))
        })?;
        Ok(Self { file, path, published: false })
    }

    /// Gives it its name, durably.
    fn publish(mut self, name: &Path) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| unwritable(&self.path, &error))?;
        refuse_existing(name)?;
        fs::rename(&self.path, name).map_err(|error| unwritable(name, &error))?;
        self.published = true;
        let directory = name.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|opened| opened.sync_all()).map_err(|error| unwritable(name, &error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "an unfinished backup stays");
        }
    }
}
